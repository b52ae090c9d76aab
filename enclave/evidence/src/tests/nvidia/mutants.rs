//! Mutants of real device evidence. None may verify: every byte of a report is under its signature
//! or is the signature, every byte of a chain is under one of four signatures, is one, or belongs
//! to the root, which is compared as a whole.

use super::{NOW, Recorded, verify};
use crate::nvidia::{ClaimedDevice, Device, DeviceEvidence, DeviceRoot, Report};

/// The chain of a mutated report is the same every time, so it is verified once.
fn report_accepted(evidence: &DeviceEvidence) -> bool {
    Report::parse(&evidence.report).is_ok()
        && ClaimedDevice::parse(evidence)
            .and_then(|claimed| claimed.verify_chain(&DeviceRoot::Nvidia, NOW))
            .and_then(|identified| identified.verify_report())
            .is_ok()
}

#[test]
fn refuses_a_report_with_any_byte_changed() {
    let Some(real) = Recorded::Nvtrust.load() else { return };
    assert!(report_accepted(&real));
    let mut mutant = real.clone();
    for at in 0..real.report.len() {
        mutant.report[at] ^= 1 << (at % 8);
        assert!(!report_accepted(&mutant), "accepted with bit {} of byte {at} flipped", at % 8);
        mutant.report[at] = real.report[at];
    }
}

#[test]
fn refuses_a_chain_with_any_byte_changed() {
    let Some(real) = Recorded::Nvtrust.load() else { return };
    let mut mutant = real.clone();
    for at in 0..real.chain.len() {
        mutant.chain[at] ^= 1 << (at % 8);
        assert!(verify(&mutant).is_err(), "accepted with bit {} of byte {at} flipped", at % 8);
        mutant.chain[at] = real.chain[at];
    }
}

/// All 255 other values of all 4,117 bytes of a report: 1,049,835 mutants, in some minutes.
#[test]
#[ignore = "takes some minutes: scripts/exhaustive"]
fn refuses_every_single_byte_mutant_of_a_report() {
    let Some(real) = Recorded::Nvtrust.load() else { return };
    let mut mutant = real.clone();
    let mut mutants = 0;
    for at in 0..real.report.len() {
        for flip in 1..=255 {
            mutant.report[at] = real.report[at] ^ flip;
            assert!(!signature_holds(&real, &mutant), "accepted byte {at} as {:#x}", flip);
            mutants += 1;
        }
        mutant.report[at] = real.report[at];
    }
    assert_eq!(mutants, real.report.len() * 255);
}

/// As [`report_accepted`], with the key of the verified original instead of walking its unchanged
/// chain a million times.
fn signature_holds(real: &DeviceEvidence, mutant: &DeviceEvidence) -> bool {
    use std::sync::OnceLock;
    static KEY: OnceLock<[u8; 97]> = OnceLock::new();
    let key = KEY.get_or_init(|| *verify(real).unwrap().key());
    let Ok(report) = Report::parse(&mutant.report) else { return false };
    let algorithm = &aws_lc_rs::signature::ECDSA_P384_SHA384_FIXED;
    aws_lc_rs::signature::UnparsedPublicKey::new(algorithm, key)
        .verify(report.signed, &report.signature)
        .is_ok()
}

/// All 255 other values of every byte of a chain.
#[test]
#[ignore = "takes some minutes: scripts/exhaustive"]
fn refuses_every_single_byte_mutant_of_a_chain() {
    let Some(real) = Recorded::Nvtrust.load() else { return };
    let mut mutant = real.clone();
    for at in 0..real.chain.len() {
        for flip in 1..=255 {
            mutant.chain[at] = real.chain[at] ^ flip;
            assert!(verify(&mutant).is_err(), "accepted byte {at} as {:#x}", mutant.chain[at]);
        }
        mutant.chain[at] = real.chain[at];
    }
}

#[test]
fn refuses_every_truncation_without_a_panic() {
    for recorded in Recorded::GOOD {
        let Some(real) = recorded.load() else { return };
        for len in 0..real.report.len() {
            assert!(Report::parse(&real.report[..len]).is_err(), "accepted {len} bytes");
        }
        for len in 0..real.chain.len() {
            let cut = DeviceEvidence { chain: real.chain[..len].to_vec(), ..real.clone() };
            assert!(ClaimedDevice::parse(&cut).is_err(), "accepted {len} bytes of a chain");
        }
    }
}

#[test]
fn refuses_bytes_behind_report_and_chain() {
    let Some(real) = Recorded::Nvtrust.load() else { return };
    let mut longer = real.clone();
    longer.report.push(0);
    assert_eq!(verify(&longer).unwrap_err().code(), "E-GPU-REPORT");
    let mut longer = real;
    longer.chain.push(0);
    assert_eq!(verify(&longer).unwrap_err().code(), "E-GPU-CHAIN-FORM");
}

proptest::proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(
        report in proptest::collection::vec(0u8..=255, 0..600),
        chain in proptest::collection::vec(0u8..=255, 0..600),
    ) {
        let _ = Device::verify(&DeviceEvidence { report, chain }, &DeviceRoot::Nvidia, NOW);
    }
}
