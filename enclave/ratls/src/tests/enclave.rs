//! Certificates of SGX enclaves: judged by the `[sgx]` section of the pins, in every format.

use std::sync::Arc;

use chrysalis_evidence::{AllowSim, Appraiser, Collateral, Pins, Role, RuleId, sim};
use chrysalis_tee::Platform as _;
use chrysalis_tee_sim::{SimEnclave, SimReport, enclave_collateral};
use chrysalis_wire::UnixTime;

use super::sim::{EXECUTABLE, NOW, order, pins_text};
use super::vector;
use crate::{CertificateVerifier, Format, Identity};

/// The pins of the simulated trust domain with the simulated enclave beside it.
fn pins() -> Pins {
    let text = format!(
        "{}[sgx]\nattributes = [{{ value = \"{}\", mask = \"ffffffffffffffff\" }}]\n\
         xfrm = [{{ value = \"{}\", mask = \"ffffffffffffffff\" }}]\n\
         misc_select = [{{ value = \"00000000\", mask = \"ffffffff\" }}]\n[[sgx.worker]]\n\
         name = \"enclave\"\nmrenclave = \"{}\"\nmanifest_sha256 = \"{z}\"\nmodel_root = \"{z}\"\n",
        pins_text(),
        hex::encode(sim::SGX_ATTRIBUTES),
        hex::encode(sim::SGX_XFRM),
        sim::enclave(EXECUTABLE).mrenclave,
        z = "0".repeat(64),
    );
    Pins::parse(&text, AllowSim::Yes).unwrap()
}

fn verifier() -> CertificateVerifier {
    let collateral = Collateral::parse(enclave_collateral(NOW).as_bytes()).unwrap();
    CertificateVerifier::new(Appraiser::new(pins()), Arc::new(collateral), Format::ALL)
}

fn identity(format: Format, change: impl FnOnce(&mut SimReport)) -> Identity {
    let enclave = SimEnclave::new(EXECUTABLE).with(change);
    Identity::generate(&order(format), &|data: &[u8; 64]| enclave.quote(data)).unwrap()
}

#[test]
fn a_certificate_of_a_pinned_enclave_is_accepted_in_every_format() {
    for format in Format::ALL {
        let identity = identity(format, |_| {});
        let appraised = verifier().verify(identity.certificate(), Role::Server, NOW).unwrap();
        assert!(appraised.verdict().accepted(), "{}", appraised.verdict());
        let peer = appraised.accept().unwrap();
        assert_eq!(peer.quote().pin_names(), ["enclave"]);
        assert_eq!(peer.quote().measurement().enclave(), Some(&sim::enclave(EXECUTABLE)));
    }
}

#[test]
fn a_certificate_of_another_enclave_is_refused() {
    let other = identity(Format::Interoperable, |r| r.identity.mrenclave.0[0] ^= 1);
    let appraised = verifier().verify(other.certificate(), Role::Server, NOW).unwrap();
    let refusal = appraised.verdict().result.as_ref().unwrap_err();
    assert_eq!((refusal.code, refusal.rule), ("E-MRENCLAVE", RuleId::SgxEnclave));
}

#[test]
fn recorded_certificates_of_debug_enclaves_are_refused_as_such() {
    for file in ["gramine.der", "intel-sgxsdk.der"] {
        let Some(der) = vector(&format!("attest/ratls/{file}")) else { return };
        let now = UnixTime(1_751_000_000);
        let appraised = verifier().verify(&der, Role::Server, now).unwrap();
        let refusal = appraised.verdict().result.as_ref().unwrap_err();
        assert_eq!((refusal.code, refusal.rule), ("E-SGX-DEBUG", RuleId::SgxDebug), "{file}");
    }
}
