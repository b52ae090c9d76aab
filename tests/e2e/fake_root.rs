//! The simulator's roots and keys are no part of the release worker. `tests/layering` shows that it
//! cannot link them; this looks at the bytes of the program itself, and at those of the simulated
//! worker, where the same search must find them.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrysalis_tests::{bin, root};
use sha2::{Digest as _, Sha256, Sha384};

/// What a program must not contain, by name, and whether the simulated worker has it as it is: it
/// writes PEM and derives secrets only when it runs, and shows no devices, so its linker leaves their
/// root out.
fn needles() -> Vec<(String, Vec<u8>, bool)> {
    let mut needles = vec![
        ("seed of the keys".to_owned(), SEED.to_vec(), true),
        ("seed of the device keys".to_owned(), DEVICE_SEED.to_vec(), false),
        ("secret key".to_owned(), secret().to_vec(), false),
        ("secret key of devices".to_owned(), device_secret().to_vec(), false),
    ];
    for name in ["root", "device-root", "tcb-signing", "platform-ca", "pck"] {
        let path = root().join("enclave/tee-sim/fake-pki").join(name).with_extension("der");
        let der = std::fs::read(&path).unwrap();
        needles.push((format!("PEM of {name}"), STANDARD.encode(&der).into_bytes(), false));
        let stored = name != "device-root";
        needles.push((format!("public key of {name}"), spki(&der), stored));
        needles.push((format!("certificate {name}"), der, stored));
    }
    needles
}

/// SubjectPublicKeyInfo: from the algorithm id of EC keys to the end of the point.
fn spki(der: &[u8]) -> Vec<u8> {
    let id_ec_public_key = [0x06, 0x07, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01];
    let at = der.windows(9).position(|window| window == id_ec_public_key).unwrap();
    // Two bytes in front: the SEQUENCE of the algorithm. P-256 or P-384, by the outer length.
    let length = usize::from(der[at - 3]) + 2;
    der[at - 4..at - 4 + length].to_vec()
}

fn secret() -> [u8; 32] {
    Sha256::new().chain_update(SEED).chain_update([0]).chain_update("root").finalize().into()
}

fn device_secret() -> [u8; 48] {
    Sha384::new().chain_update(DEVICE_SEED).chain_update([0]).chain_update("root").finalize().into()
}

fn contains(program: &[u8], needle: &[u8]) -> bool {
    assert!(needle.len() >= 32, "too short to mean anything");
    program.windows(needle.len()).any(|window| window == needle)
}

fn program(path: &Path) -> Vec<u8> {
    let bytes = std::fs::read(path).unwrap();
    assert!(bytes.len() > 1 << 20, "{} is no program", path.display());
    bytes
}

#[test]
fn the_release_worker_holds_no_byte_of_the_fake_roots_and_the_simulated_one_does() {
    let (release, simulated) =
        (program(&bin("chrysalis-worker")), program(&bin("chrysalis-worker-sim")));
    for (name, needle, stored) in needles() {
        assert!(!contains(&release, &needle), "chrysalis-worker contains the FAKE {name}");
        // Where it must be found, or the search finds nothing anywhere.
        assert!(!stored || contains(&simulated, &needle), "{name} is not in chrysalis-worker-sim");
    }
}

/// As in `enclave/tee-sim`, whose code this must not ask.
const SEED: &[u8] = b"INSECURE-SIM FAKE KEY, PUBLIC SEED v1";
const DEVICE_SEED: &[u8] = b"INSECURE-SIM FAKE DEVICE KEY, PUBLIC SEED v1";
