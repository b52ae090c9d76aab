//! Rules about devices, on recorded evidence and pins whose golden values are that evidence's own:
//! a good set passes all of them, and each refusal is reached by breaking one thing.

use std::collections::BTreeMap;

use super::{NOW, Recorded, set, verify};
use crate::nvidia::{
    Device, DeviceEvidence, DeviceKind, DevicePins, DeviceRoot, Golden, Mode, Record, appraise,
};
use crate::{Outcome, RuleId};

type Records = BTreeMap<u8, Vec<Record>>;

/// A golden set of the records in `range`: those of the driver and of the VBIOS do not overlap.
fn golden(device: &Device, version: &str, of_driver: bool) -> Golden {
    let records = (1u8..).zip(device.records()).filter(|(i, _)| (*i >= 20) == of_driver);
    Golden {
        kind: device.kind(),
        version: version.to_owned(),
        board: None,
        records: records.map(|(index, record)| (index, vec![*record])).collect(),
    }
}

/// Pins that accept exactly what these devices are.
fn pins(devices: &[Device]) -> DevicePins {
    let first = &devices[0];
    let driver = first.opaque().driver.clone().unwrap();
    DevicePins {
        root: DeviceRoot::Nvidia,
        gpus: devices.len(),
        switches: 0,
        modes: vec![first.opaque().mode],
        switches_without_firmware: false,
        denied_serials: Vec::new(),
        drivers: vec![golden(first, &driver, true)],
        vbioses: vec![golden(first, &first.opaque().vbios, false)],
    }
}

/// A set, the nonce it was asked with and the pins that fit it.
struct Case {
    set: Vec<DeviceEvidence>,
    nonce: [u8; 32],
    pins: DevicePins,
}

impl Case {
    fn of(set: Vec<DeviceEvidence>) -> Self {
        let devices: Vec<Device> = set.iter().map(|e| verify(e).unwrap()).collect();
        Self { set, nonce: *devices[0].nonce(), pins: pins(&devices) }
    }

    fn one() -> Option<Self> {
        Some(Self::of(vec![Recorded::Nvtrust.load()?]))
    }

    fn four() -> Option<Self> {
        Some(Self::of(set("multi_gpu_hopper.json")?.into_iter().map(|(e, _)| e).collect()))
    }

    /// Code and rule of the refusal; every rule before it passed, every rule behind it is skipped.
    fn refusal(&self) -> (&'static str, RuleId) {
        let verdict = appraise(&self.set, &self.nonce, &self.pins, NOW);
        let refusal = verdict.result.as_ref().expect_err("accepted");
        assert_eq!(verdict.rules.len(), RuleId::DEVICE.len());
        let fail = verdict.rules.iter().position(|r| r.outcome == Outcome::Fail).unwrap();
        for (i, rule) in verdict.rules.iter().enumerate() {
            let wanted = match i.cmp(&fail) {
                core::cmp::Ordering::Less => Outcome::Pass,
                core::cmp::Ordering::Equal => Outcome::Fail,
                core::cmp::Ordering::Greater => Outcome::Skip,
            };
            assert_eq!((rule.id, rule.outcome), (RuleId::DEVICE[i], wanted));
        }
        let text = verdict.to_string();
        assert!(text.chars().all(|c| c == '\n' || c == '—' || c == ' ' || c.is_ascii_graphic()));
        (refusal.code, refusal.rule)
    }
}

#[test]
fn accepts_one_gpu_and_a_set_of_four_with_fitting_pins() {
    for case in [Case::one(), Case::four()] {
        let Some(case) = case else { return };
        let verdict = appraise(&case.set, &case.nonce, &case.pins, NOW);
        assert_eq!(verdict.result.as_ref().unwrap().len(), case.set.len(), "{verdict}");
        assert!(verdict.rules.iter().all(|r| r.outcome == Outcome::Pass));
        assert!(!verdict.insecure_sim);
    }
}

#[test]
fn transcript_shows_what_every_rule_judged() {
    let Some(case) = Case::one() else { return };
    let verdict = appraise(&case.set, &case.nonce, &case.pins, NOW);
    let detail = |rule| &verdict.rules.iter().find(|r| r.id == rule).unwrap().detail;
    assert_eq!(*detail(RuleId::GpuNonce), hex::encode(case.nonce));
    assert!(detail(RuleId::GpuChain).starts_with("NVIDIA Device Identity CA (SHA-256 102bf659"));
    assert_eq!(detail(RuleId::GpuSignature), "GH100 48B02D92494BADF4");
    assert!(detail(RuleId::GpuFirmware).starts_with("f5c384aebb579217"));
    assert_eq!(detail(RuleId::GpuKinds), "1 GPUs, 0 switches");
    assert!(detail(RuleId::GpuDenied).starts_with("53c22ba15e5d6808"));
    assert_eq!(detail(RuleId::GpuMode), "unstated");
    assert_eq!(detail(RuleId::GpuDriver), "550.90.07");
    assert_eq!(detail(RuleId::GpuVbios), "96.00.9F.00.01");
    assert!(detail(RuleId::GpuRecords).starts_with("26 of 64 records not zero"));
}

#[test]
fn refuses_sets_of_another_size_or_make_up() {
    let Some(mut case) = Case::four() else { return };
    let last = case.set.pop().unwrap();
    assert_eq!(case.refusal(), ("E-GPU-COUNT", RuleId::GpuForm));
    case.set.push(last);
    case.set.push(case.set[0].clone());
    assert_eq!(case.refusal(), ("E-GPU-COUNT", RuleId::GpuForm));
    case.set.pop();
    (case.pins.gpus, case.pins.switches) = (3, 1);
    assert_eq!(case.refusal(), ("E-GPU-COUNT", RuleId::GpuKinds));
    case.set.clear();
    assert_eq!(case.refusal(), ("E-GPU-COUNT", RuleId::GpuForm));
}

#[test]
fn refuses_one_device_shown_as_several() {
    let Some(mut case) = Case::four() else { return };
    case.set[3] = case.set[1].clone();
    assert_eq!(case.refusal(), ("E-GPU-DUPLICATE", RuleId::GpuDistinct));
}

#[test]
fn refuses_reports_made_for_another_nonce() {
    let Some(mut case) = Case::four() else { return };
    case.nonce[31] ^= 1;
    assert_eq!(case.refusal(), ("E-GPU-NONCE", RuleId::GpuNonce));
    // One old report in a fresh set is enough.
    let Some(mut case) = Case::four() else { return };
    case.set[2] = Recorded::Nvtrust.load().unwrap();
    assert_eq!(case.refusal(), ("E-GPU-NONCE", RuleId::GpuNonce));
}

#[test]
fn refuses_malformed_evidence_at_the_first_rule() {
    let Some(mut case) = Case::one() else { return };
    case.set[0].report.pop();
    assert_eq!(case.refusal(), ("E-GPU-REPORT", RuleId::GpuForm));
    let Some(mut case) = Case::one() else { return };
    case.set[0].chain.pop();
    assert_eq!(case.refusal(), ("E-GPU-CHAIN-FORM", RuleId::GpuForm));
}

#[test]
fn refuses_a_changed_chain_and_a_changed_report_by_their_rules() {
    let Some(mut case) = Case::one() else { return };
    case.pins.root = DeviceRoot::InsecureSim(vec![0x30, 0]);
    assert_eq!(case.refusal(), ("E-GPU-ROOT", RuleId::GpuChain));
    let Some(mut case) = Case::one() else { return };
    // A byte of the leaf's key, well inside it.
    case.set[0].chain[380] ^= 1;
    assert_eq!(case.refusal(), ("E-GPU-CHAIN-SIGNATURE", RuleId::GpuChain));
    let Some(mut case) = Case::one() else { return };
    let last = case.set[0].report.len() - 1;
    case.set[0].report[last] ^= 1;
    assert_eq!(case.refusal(), ("E-GPU-SIGNATURE", RuleId::GpuSignature));
}

#[test]
fn refuses_a_driver_whose_reports_state_no_firmware() {
    let Some(old) = Recorded::Old.load() else { return };
    let mut case = Case::of(vec![old]);
    assert_eq!(case.refusal(), ("E-GPU-FWID-MISSING", RuleId::GpuFirmware));
    // What is granted to switches is not granted to GPUs.
    case.pins.switches_without_firmware = true;
    assert_eq!(case.refusal(), ("E-GPU-FWID-MISSING", RuleId::GpuFirmware));
}

#[test]
fn refuses_a_denied_serial_at_any_place_of_a_chain() {
    let Some(mut case) = Case::one() else { return };
    let serials = verify(&case.set[0]).unwrap().serials().to_vec();
    for serial in serials {
        case.pins.denied_serials = vec!["00".to_owned(), serial];
        assert_eq!(case.refusal(), ("E-GPU-DENIED", RuleId::GpuDenied));
    }
    case.pins.denied_serials = vec!["53c22ba15e5d68088282da074ed9fb37aa585772".to_owned()];
    assert!(appraise(&case.set, &case.nonce, &case.pins, NOW).result.is_ok());
}

#[test]
fn refuses_every_empty_list() {
    let Some(case) = Case::one() else { return };
    let refusal = |change: fn(&mut DevicePins)| {
        let mut pins = case.pins.clone();
        change(&mut pins);
        let verdict = appraise(&case.set, &case.nonce, &pins, NOW).result.unwrap_err();
        assert!(verdict.expected.contains("the list is empty, which denies"), "{verdict}");
        verdict.code
    };
    assert_eq!(refusal(|pins| pins.modes.clear()), "E-GPU-MODE");
    assert_eq!(refusal(|pins| pins.drivers.clear()), "E-GPU-DRIVER");
    assert_eq!(refusal(|pins| pins.vbioses.clear()), "E-GPU-VBIOS");
    let no_value = |pins: &mut DevicePins| drop(pins.vbioses[0].records.insert(2, Vec::new()));
    assert_eq!(refusal(no_value), "E-GPU-RECORD");
}

#[test]
fn refuses_modes_versions_chips_and_boards_that_are_not_pinned() {
    let Some(case) = Case::four() else { return };
    let refusal = |change: fn(&mut DevicePins)| {
        let mut pins = case.pins.clone();
        change(&mut pins);
        let case = Case { set: case.set.clone(), nonce: case.nonce, pins };
        case.refusal()
    };
    let mode = |pins: &mut DevicePins| pins.modes = vec![Mode::Single, Mode::Multi, Mode::Unstated];
    assert_eq!(refusal(mode), ("E-GPU-MODE", RuleId::GpuMode));
    let driver = |pins: &mut DevicePins| pins.drivers[0].version = "590.13".to_owned();
    assert_eq!(refusal(driver), ("E-GPU-DRIVER", RuleId::GpuDriver));
    let chip = |pins: &mut DevicePins| pins.drivers[0].kind = DeviceKind::Gb100;
    assert_eq!(refusal(chip), ("E-GPU-DRIVER", RuleId::GpuDriver));
    let vbios = |pins: &mut DevicePins| pins.vbioses[0].version = "96.00.A5.00.02".to_owned();
    assert_eq!(refusal(vbios), ("E-GPU-VBIOS", RuleId::GpuVbios));
    let board = |pins: &mut DevicePins| pins.vbioses[0].board = Some("1010_0200_882".to_owned());
    assert_eq!(refusal(board), ("E-GPU-VBIOS", RuleId::GpuVbios));
    let mut fits = case.pins.clone();
    fits.vbioses[0].board = Some("G520_0200_885".to_owned());
    assert!(appraise(&case.set, &case.nonce, &fits, NOW).result.is_ok());
}

#[test]
fn refuses_every_record_that_differs_and_every_one_that_is_not_listed() {
    let Some(case) = Case::one() else { return };
    let records = verify(&case.set[0]).unwrap().records().to_vec();
    for (index, record) in (1u8..).zip(&records) {
        let refusal = |change: &dyn Fn(&mut Records)| {
            let mut pins = case.pins.clone();
            change(&mut pins.drivers[0].records);
            change(&mut pins.vbioses[0].records);
            appraise(&case.set, &case.nonce, &pins, NOW).result.err().map(|r| (r.code, r.rule))
        };
        let other = |sets: &mut Records| {
            sets.entry(index).and_modify(|values| values[0][47] ^= 1);
        };
        assert_eq!(refusal(&other), Some(("E-GPU-RECORD", RuleId::GpuRecords)), "{index}");
        // One of several alternatives is enough.
        let more = |sets: &mut Records| {
            sets.entry(index).and_modify(|values| values.insert(0, [9; 48]));
        };
        assert_eq!(refusal(&more), None, "{index}");
        // Zero needs no golden value; everything else does.
        let unlisted = |sets: &mut Records| drop(sets.remove(&index));
        let wanted = (*record != [0; 48]).then_some(("E-GPU-UNLISTED", RuleId::GpuRecords));
        assert_eq!(refusal(&unlisted), wanted, "{index}");
    }
}

#[test]
fn refuses_a_mix_of_two_golden_sets_for_one_part() {
    let Some(mut case) = Case::one() else { return };
    let mut second = case.pins.drivers[0].clone();
    case.pins.drivers[0].records.insert(22, vec![[1; 48]]);
    second.records.insert(23, vec![[2; 48]]);
    case.pins.drivers.push(second);
    assert_eq!(case.refusal(), ("E-GPU-RECORD", RuleId::GpuRecords));
    // A third one that holds as a whole makes up for both.
    let good = Case::one().unwrap().pins.drivers.remove(0);
    case.pins.drivers.push(good);
    assert!(appraise(&case.set, &case.nonce, &case.pins, NOW).result.is_ok());
}

#[test]
fn refuses_a_golden_value_for_a_record_that_is_not_there() {
    let Some(mut case) = Case::one() else { return };
    case.pins.drivers[0].records.insert(65, vec![[0; 48]]);
    assert_eq!(case.refusal(), ("E-GPU-RECORD", RuleId::GpuRecords));
}
