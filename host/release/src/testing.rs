//! A release for the tests of this crate; no file of it exists.

use chrysalis_evidence::{boot_events, replay_rtmr};
use chrysalis_wire::{Digest, ImagePlatform, RegisterValue};

use crate::values::{Part, Sgx, Shape, Tdx, VALUES_VERSION, ValueStatus, Values, Workload};

/// Five parts, two shapes, one workload, one enclave; every value another.
pub(crate) fn values() -> Values {
    let (manifest_sha256, model_root) = (Digest([0x61; 32]), Digest([0x62; 32]));
    let events = boot_events(&manifest_sha256, &model_root);
    let part = |name: &str, n: u8| Part {
        name: name.to_owned(),
        bytes: u64::from(n) * 1000,
        sha256: Digest([n; 32]),
    };
    let shape = |name: &str, n: u8| Shape {
        name: name.to_owned(),
        qemu: "11.1.3".to_owned(),
        rtmr0: RegisterValue([n; 48]),
        status: ValueStatus::Inferred,
    };
    Values {
        version: VALUES_VERSION,
        release: "0.1.0".to_owned(),
        platform: ImagePlatform::Tdx,
        debug: false,
        firmware_profile: "202605".to_owned(),
        source: Some("5c".repeat(20).parse().unwrap()),
        toolchain: Some("1.95.0".to_owned()),
        tdx: Some(Tdx {
            mrtd: RegisterValue([0x11; 48]),
            rtmr1: RegisterValue([0x12; 48]),
            rtmr2: RegisterValue([0x13; 48]),
            status: ValueStatus::CrossChecked,
        }),
        sgx: Some(Sgx {
            mrenclave: Digest([0x21; 32]),
            mrsigner: Digest([0x22; 32]),
            isv_prod_id: 1,
            isv_svn: 2,
            status: ValueStatus::CrossChecked,
        }),
        parts: vec![
            part("cmdline", 0x31),
            part("initrd.cpio", 0x32),
            part("manifest.json", 0x33),
            part("tdvf.fd", 0x34),
            part("vmlinuz", 0x35),
        ],
        shapes: vec![shape("cpu-2", 0x41), shape("cpu-8", 0x42)],
        workloads: vec![Workload {
            name: "smollm2-135m-instruct".to_owned(),
            manifest_sha256,
            model_root,
            rtmr3: RegisterValue(replay_rtmr(&events).unwrap()),
        }],
    }
}
