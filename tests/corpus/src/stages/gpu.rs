//! Devices alone: form, freshness, certificates, and what GPUs and switches say they run.
//!
//! ```text
//! report  11 E0 01 FF | nonce 32 | slot | 11 60 00 00 | blocks u8 | length u24 | block 55 … |
//!         nonce 32 | opaque length u16 | type u16, length u16, value … | signature 96
//! ```

use chrysalis_evidence::RuleId;
use chrysalis_evidence::nvidia::DeviceKind;
use chrysalis_tee_sim::device::{SimDevice, device_pins};
use serde_json::{Value, json};

use super::gpu_policy;
use crate::case::{Stage, bytes, shorten, text};
use crate::world::{NOW, pins, show};

pub(crate) fn stage() -> Stage {
    let mut stage = Stage::new("gpu", "policy 23");
    let one = stage.genuine("genuine", "an honest GPU", &input(KIND, &[(KIND, 0)]));
    let two =
        stage.genuine("genuine-pair", "two honest GPUs", &input(KIND, &[(KIND, 0), (KIND, 1)]));
    let blackwell = DeviceKind::Gb100;
    stage.genuine(
        "genuine-blackwell",
        "an honest GPU of another kind",
        &input(blackwell, &[(blackwell, 0)]),
    );
    let switch = stage.genuine(
        "genuine-switch",
        "an honest switch, whose report states no firmware",
        &input(KIND, &[(DeviceKind::Ls10, 0)]),
    );
    reports(&mut stage, one);
    chains(&mut stage, one);
    gpu_policy::faults(&mut stage, one);
    gpu_policy::sets(&mut stage, one, two, switch);
    gpu_policy::policies(&mut stage, one);
    stage
}

fn reports(stage: &mut Stage, one: usize) {
    let form = ("E-GPU-REPORT", RuleId::GpuForm);
    let cut = |length: usize| {
        move |case: &mut Value| bytes(case, REPORT, |report| report.truncate(length))
    };
    stage.refuses(one, form, "report-empty", "no bytes at all", cut(0));
    stage.refuses(one, form, "report-of-a-request", "the request alone", cut(37));
    stage.refuses(one, form, "report-half-a-block", "it ends inside a measurement", cut(100));
    stage.refuses(one, form, "report-last-byte-missing", "its last byte is missing", |case| {
        bytes(case, REPORT, shorten);
    });
    stage.refuses(one, form, "report-byte-more", "a byte behind its end", |case| {
        bytes(case, REPORT, |report| report.push(0));
    });
    stage.refuses(one, form, "report-too-large", "one byte over the largest size", |case| {
        bytes(case, REPORT, |report| report.resize(0x2000 + 1, 0));
    });
    let poke = |at: usize, value: u8| {
        move |case: &mut Value| bytes(case, REPORT, |report| report[at] = value)
    };
    stage.refuses(one, form, "request-of-spdm-1-2", "a request of another version", poke(0, 0x12));
    stage.refuses(one, form, "request-unsigned", "a request for no signature", poke(2, 0));
    stage.refuses(one, form, "request-of-one", "a request for one measurement", poke(3, 1));
    stage.refuses(one, form, "request-slot-1", "a request to another slot", poke(36, 1));
    stage.refuses(
        one,
        form,
        "answer-of-an-error",
        "an error in the answer's place",
        poke(38, 0x7F),
    );
    stage.refuses(one, form, "blocks-65", "one block over the limit", poke(41, 65));
    stage.refuses(one, form, "blocks-63", "a block fewer than there are", poke(41, 63));
    stage.refuses(one, form, "length-one-more", "blocks one byte longer", |case| {
        bytes(case, REPORT, |report| report[42] += 1);
    });
    stage.refuses(one, form, "length-of-16-mib", "blocks of sixteen megabytes", |case| {
        bytes(case, REPORT, |report| report[42..45].fill(0xFF));
    });
    stage.refuses(one, form, "block-index-2", "the first block is the second", poke(45, 2));
    stage.refuses(one, form, "block-of-another-body", "a block of no DMTF form", poke(46, 2));
    stage.refuses(one, form, "block-raw", "a raw measurement and no digest", poke(49, 0x81));
    stage.refuses(one, form, "block-of-sha256", "a measurement of 32 bytes", poke(50, 32));
    stage.refuses(one, form, "opaque-longer", "opaque data longer than the rest", |case| {
        bytes(case, REPORT, |report| report[OPAQUE_AT..OPAQUE_AT + 2].fill(0xFF));
    });
    stage.refuses(one, form, "opaque-empty", "no opaque data", |case| {
        opaque(case, Vec::clear);
    });
    stage.refuses(one, form, "opaque-half-a-field", "a field that ends inside its type", |case| {
        opaque(case, |fields| fields.push(1));
    });
    stage.refuses(one, form, "opaque-field-twice", "the mode twice", |case| {
        opaque(case, |fields| fields.extend([36, 0, 2, 0, 2, 0]));
    });
    stage.refuses(
        one,
        form,
        "opaque-unknown-field-twice",
        "a field without a meaning, twice",
        |case| {
            opaque(case, |fields| fields.extend([99, 0, 0, 0, 99, 0, 0, 0]));
        },
    );
    stage.refuses(one, form, "opaque-too-many", "one field over the limit", |case| {
        opaque(case, |fields| (100u8..158).for_each(|kind| fields.extend([kind, 0, 0, 0])));
    });
    stage.refuses(one, form, "opaque-mode-3", "a mode nobody has defined", |case| {
        opaque(case, |fields| {
            let last = fields.len() - 2;
            fields[last] = 3;
        });
    });
    stage.refuses(one, form, "opaque-no-vbios", "no VBIOS version", |case| {
        // The first field: type 6, eight bytes.
        opaque(case, |fields| drop(fields.drain(..12)));
    });
    stage.refuses(
        one,
        form,
        "opaque-driver-not-text",
        "a driver version with a line feed",
        |case| {
            opaque(case, |fields| {
                let at = fields.windows(3).position(|w| w == b"999").unwrap();
                fields[at] = b'\n';
            });
        },
    );
}

fn chains(stage: &mut Stage, one: usize) {
    let form = ("E-GPU-CHAIN-FORM", RuleId::GpuForm);
    stage.refuses(one, form, "chain-empty", "no certificate", |case| {
        bytes(case, CHAIN, Vec::clear);
    });
    stage.refuses(one, form, "chain-last-byte-missing", "its last byte is missing", |case| {
        bytes(case, CHAIN, shorten);
    });
    stage.refuses(one, form, "chain-byte-more", "a byte behind its end", |case| {
        bytes(case, CHAIN, |chain| chain.push(0));
    });
    stage.refuses(one, form, "chain-of-four", "a certificate is missing", |case| {
        bytes(case, CHAIN, |chain| drop(chain.drain(..certificate_length(chain))));
    });
    stage.refuses(one, form, "chain-of-six", "a certificate more", |case| {
        bytes(case, CHAIN, |chain| {
            let leaf = chain[..certificate_length(chain)].to_vec();
            chain.splice(..0, leaf);
        });
    });
    stage.refuses(one, form, "chain-too-large", "one byte over the largest size", |case| {
        bytes(case, CHAIN, |chain| chain.resize(0x1400 + 1, 0));
    });
    stage.refuses(
        one,
        ("E-GPU-ROOT", RuleId::GpuChain),
        "chain-without-its-root",
        "the root's last byte is another",
        |case| bytes(case, CHAIN, |chain| *chain.last_mut().unwrap() ^= 1),
    );
    stage.refuses(
        one,
        ("E-GPU-ROOT", RuleId::GpuChain),
        "pins-name-another-root",
        "the pins name another root than the chain's",
        |case| {
            let intel = hex::encode(chrysalis_tee_sim::sim_root_der());
            let device = hex::encode(chrysalis_tee_sim::device::sim_device_root_der());
            text(case, "/pins", |pins| pins.replace(&device, &intel));
        },
    );
    stage.refuses(
        one,
        ("E-GPU-CHAIN", RuleId::GpuChain),
        "chain-in-another-order",
        "leaf and device certificate stand in each other's place",
        |case| {
            bytes(case, CHAIN, |chain| {
                let leaf: Vec<u8> = chain.drain(..certificate_length(chain)).collect();
                let at = certificate_length(chain);
                chain.splice(at..at, leaf);
            });
        },
    );
    stage.refuses(
        one,
        ("E-GPU-CHAIN-TIME", RuleId::GpuChain),
        "before-its-certificates",
        "a clock before the certificates",
        |case| case["now"] = 1_600_000_000.into(),
    );
}

/// Length of the certificate a chain begins with; they all have two bytes of length.
pub(super) fn certificate_length(chain: &[u8]) -> usize {
    assert_eq!(chain[..2], [0x30, 0x82]);
    4 + usize::from(u16::from_be_bytes([chain[2], chain[3]]))
}

/// Changes the opaque data of the first report; its length fits again, its signature does not.
fn opaque(case: &mut Value, change: impl FnOnce(&mut Vec<u8>)) {
    bytes(case, REPORT, |report| {
        let signature = report.split_off(report.len() - 96);
        let mut fields = report.split_off(OPAQUE_AT + 2);
        change(&mut fields);
        report.truncate(OPAQUE_AT);
        report.extend(u16::try_from(fields.len()).unwrap().to_le_bytes());
        report.extend(fields);
        report.extend(signature);
    });
}

fn input(pinned: DeviceKind, devices: &[(DeviceKind, u8)]) -> Value {
    let switches = devices.iter().filter(|(kind, _)| kind.is_switch()).count();
    let set: Vec<_> =
        devices.iter().map(|(kind, n)| SimDevice::new(*kind, *n).evidence(&NONCE)).collect();
    json!({
        "pins": pins() + &device_pins(pinned, devices.len() - switches, switches),
        "now": NOW.0,
        "nonce": hex::encode(NONCE),
        "devices": show(&set),
    })
}

pub(super) const KIND: DeviceKind = DeviceKind::Gh100;
pub(super) const NONCE: [u8; 32] = [0x5a; 32];
pub(super) const REPORT: &str = "/devices/0/report";
pub(super) const CHAIN: &str = "/devices/0/chain";
/// Where the length of the opaque data stands: request, header, 64 blocks, nonce.
pub(super) const OPAQUE_AT: usize = 37 + 8 + 64 * 55 + 32;
