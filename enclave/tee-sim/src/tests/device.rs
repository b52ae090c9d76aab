//! Simulated devices before our own verifier: accepted as they are under pins that name the FAKE
//! root, refused under any others, and each fault refused by the rule that exists for it.

use chrysalis_evidence::nvidia::{
    DeviceEvidence, DeviceKind, DevicePins, DeviceRoot, DeviceVerdict, appraise, device_digest,
};
use chrysalis_evidence::{AllowSim, Pins, RuleId};
use chrysalis_wire::{Digest, UnixTime};

use super::appraisal::{appraise_devices, pins_text, session};
use crate::device::{DeviceFault, SimDevice, device_pins, sim_device_root_der};

/// 2026-03-01.
const NOW: UnixTime = UnixTime(1_772_323_200);
const NONCE: [u8; 32] = [0x5a; 32];

fn pins(kind: DeviceKind, gpus: usize, switches: usize) -> DevicePins {
    let text = format!("{}{}", pins_text(), device_pins(kind, gpus, switches));
    Pins::parse(&text, AllowSim::Yes).unwrap().device().unwrap().clone()
}

fn of(devices: &[SimDevice]) -> Vec<DeviceEvidence> {
    devices.iter().map(|device| device.evidence(&NONCE)).collect()
}

fn refused(verdict: &DeviceVerdict) -> (&'static str, RuleId) {
    let refusal = verdict.result.as_ref().expect_err("accepted");
    (refusal.code, refusal.rule)
}

#[test]
fn accepts_honest_gpus_of_each_kind_and_a_machine_of_twelve_devices() {
    for kind in [DeviceKind::Gh100, DeviceKind::Gb100] {
        let mut machine: Vec<_> = (0..8).map(|n| SimDevice::new(kind, n)).collect();
        let one = appraise(&of(&machine[..1]), &NONCE, &pins(kind, 1, 0), NOW);
        assert_eq!(one.result.as_ref().unwrap()[0].kind(), kind, "{one}");
        assert!(one.insecure_sim);
        machine.extend((0..4).map(|n| SimDevice::new(DeviceKind::Ls10, n)));
        let all = appraise(&of(&machine), &NONCE, &pins(kind, 8, 4), NOW);
        assert_eq!(all.result.as_ref().unwrap().len(), 12, "{all}");
    }
}

#[test]
fn refuses_each_fault_by_its_rule() {
    use DeviceFault as F;
    let chain = |code| (code, RuleId::GpuChain);
    for (fault, wanted) in [
        (F::StaleNonce, ("E-GPU-NONCE", RuleId::GpuNonce)),
        (F::LeafIsAuthority, chain("E-GPU-CHAIN")),
        (F::LeafCannotSign, chain("E-GPU-CHAIN")),
        (F::DeviceIsNoAuthority, chain("E-GPU-CHAIN")),
        (F::DeviceCannotCertify, chain("E-GPU-CHAIN")),
        (F::PathTooLong, chain("E-GPU-CHAIN")),
        (F::UncertifiedFirmware, chain("E-GPU-CHAIN")),
        (F::OtherDeviceKey, chain("E-GPU-CHAIN")),
        (F::UnknownCritical, ("E-GPU-CHAIN-FORM", RuleId::GpuForm)),
        (F::OtherFactory, chain("E-GPU-KIND")),
        (F::UnknownChip, chain("E-GPU-KIND")),
        (F::UnsignedLeaf, chain("E-GPU-CHAIN-SIGNATURE")),
        (F::Expired, chain("E-GPU-CHAIN-TIME")),
        (F::ForeignKey, ("E-GPU-SIGNATURE", RuleId::GpuSignature)),
        (F::OtherFirmware, ("E-GPU-FWID", RuleId::GpuFirmware)),
        (F::NoFirmware, ("E-GPU-FWID-MISSING", RuleId::GpuFirmware)),
        (F::OtherMode, ("E-GPU-MODE", RuleId::GpuMode)),
        (F::OtherDriver, ("E-GPU-DRIVER", RuleId::GpuDriver)),
        (F::OtherVbios, ("E-GPU-VBIOS", RuleId::GpuVbios)),
        (F::OtherRecord, ("E-GPU-RECORD", RuleId::GpuRecords)),
        (F::ExtraRecord, ("E-GPU-UNLISTED", RuleId::GpuRecords)),
    ] {
        // An honest device before it does not help.
        let kind = DeviceKind::Gh100;
        let set = of(&[SimDevice::new(kind, 0), SimDevice::new(kind, 1).with_fault(fault)]);
        let verdict = appraise(&set, &NONCE, &pins(kind, 2, 0), NOW);
        assert_eq!(refused(&verdict), wanted, "{fault:?}: {verdict}");
    }
}

#[test]
fn refuses_switches_without_firmware_unless_the_pins_say_so() {
    let set = of(&[SimDevice::new(DeviceKind::Ls10, 0)]);
    let mut pins = pins(DeviceKind::Gh100, 0, 1);
    assert!(appraise(&set, &NONCE, &pins, NOW).result.is_ok());
    pins.switches_without_firmware = false;
    let verdict = appraise(&set, &NONCE, &pins, NOW);
    assert_eq!(refused(&verdict), ("E-GPU-FWID-MISSING", RuleId::GpuFirmware));
}

#[test]
fn refuses_a_switch_counted_as_a_gpu() {
    let set = of(&[SimDevice::new(DeviceKind::Ls10, 0)]);
    let verdict = appraise(&set, &NONCE, &pins(DeviceKind::Gh100, 1, 0), NOW);
    assert_eq!(refused(&verdict), ("E-GPU-COUNT", RuleId::GpuKinds));
}

#[test]
fn refuses_a_simulated_device_under_any_pins_that_do_not_name_its_root() {
    let set = of(&[SimDevice::new(DeviceKind::Gh100, 0)]);
    let mut pins = pins(DeviceKind::Gh100, 1, 0);
    for root in [DeviceRoot::Nvidia, DeviceRoot::InsecureSim(crate::sim_root_der())] {
        pins.root = root;
        let verdict = appraise(&set, &NONCE, &pins, NOW);
        assert_eq!(refused(&verdict), ("E-GPU-ROOT", RuleId::GpuChain));
    }
    // And no production pins can name it.
    let section = device_pins(DeviceKind::Gh100, 1, 0);
    let example = include_str!("../../../../manifests/pins.example.toml");
    let error = Pins::parse(&format!("{example}{section}"), AllowSim::Yes).unwrap_err();
    assert_eq!(error.code(), "E-PINS-DEVICE");
    assert!(section.contains(&hex::encode(sim_device_root_der())));
}

#[test]
fn accepts_a_worker_whose_quote_commits_to_its_devices() {
    let kind = DeviceKind::Gh100;
    let pins = format!("{}{}", pins_text(), device_pins(kind, 2, 0));
    let nonce = session().gpu_nonce();
    let set = [0, 1].map(|n| SimDevice::new(kind, n).evidence(&nonce));
    let worker = appraise_devices(&pins, &set, device_digest(&set)).unwrap();
    assert_eq!(worker.devices().len(), 2);
    assert!(worker.insecure_sim());
    // The order in which they are shown is of no concern.
    let swapped = [set[1].clone(), set[0].clone()];
    assert!(appraise_devices(&pins, &swapped, device_digest(&set)).is_ok());

    let code = |pins: &str, set: &[DeviceEvidence], digest| {
        appraise_devices(pins, set, digest).unwrap_err().code
    };
    let nothing = Digest([0; 32]);
    // Devices swapped, left out or added after quoting.
    let other = [set[0].clone(), SimDevice::new(kind, 2).evidence(&nonce)];
    assert_eq!(code(&pins, &other, device_digest(&set)), "E-REPORT-DATA");
    assert_eq!(code(&pins, &[], device_digest(&set)), "E-REPORT-DATA");
    assert_eq!(code(&pins, &set, nothing), "E-REPORT-DATA");
    // None shown and none committed to, or some where the pins ask for none.
    assert_eq!(code(&pins, &[], nothing), "E-GPU-COUNT");
    assert_eq!(code(&pins_text(), &set, device_digest(&set)), "E-GPU-UNASKED");
    // Devices that were asked by somebody else, with the verifier's bare nonce.
    let borrowed = [0, 1].map(|n| SimDevice::new(kind, n).evidence(&session().nonce));
    assert_eq!(code(&pins, &borrowed, device_digest(&borrowed)), "E-GPU-NONCE");
}
