//! Every recorded report comes out as its index says, and every step refuses what is not its own.

use chrysalis_wire::UnixTime;

use super::{NOW, Recorded, set, verify};
use crate::nvidia::{
    Device, DeviceError, DeviceEvidence, DeviceKind, DeviceRoot, MAX_DEVICE_CHAIN_BYTES,
    MAX_DEVICE_REPORT_BYTES, MAX_OPAQUE_FIELDS, MAX_OPAQUE_TEXT_BYTES, MAX_RECORDS, Mode, Report,
    chain_from_pem, device_digest,
};

#[test]
fn verifies_recorded_h100s_of_four_driver_versions() {
    let expected = [
        ("535.86.09", "96.00.5E.00.01", "1010_0200_882", Mode::Unstated, 26),
        ("550.90.07", "96.00.9F.00.01", "1010_0200_882", Mode::Unstated, 26),
        ("580.159.03", "96.00.74.00.20", "1010_0205_862", Mode::Single, 27),
        ("570.124.03", "96.00.5E.00.04", "1010_0205_862", Mode::Unstated, 27),
    ];
    for (recorded, (driver, vbios, board, mode, non_zero)) in Recorded::GOOD.iter().zip(expected) {
        let Some(evidence) = recorded.load() else { return };
        let device = verify(&evidence).unwrap();
        let opaque = device.opaque();
        assert_eq!(device.kind(), DeviceKind::Gh100);
        assert_eq!(opaque.driver.as_deref(), Some(driver));
        assert_eq!(opaque.vbios, vbios);
        assert_eq!(opaque.board.as_deref(), Some(board));
        assert_eq!(opaque.mode, mode);
        // All but the oldest driver state the firmware, and it is the certified one.
        let stated = (*recorded != Recorded::Old).then_some(device.certified_firmware());
        assert_eq!(opaque.fwid.as_ref(), stated);
        assert_eq!(device.records().len(), MAX_RECORDS);
        assert_eq!(device.records().iter().filter(|r| **r != [0; 48]).count(), non_zero);
        assert_eq!(device.nonce().as_slice(), &evidence.report[4..36]);
        assert_eq!(device.serials().len(), 5);
    }
}

#[test]
fn refuses_the_recorded_report_with_a_wrong_signature() {
    let Some(mut evidence) = Recorded::BadSignature.load() else { return };
    assert_eq!(verify(&evidence), Err(DeviceError::ReportSignature));
    // Under no chain that there is.
    for recorded in Recorded::GOOD {
        evidence.chain = recorded.load().unwrap().chain;
        assert_eq!(verify(&evidence), Err(DeviceError::ReportSignature));
    }
}

#[test]
fn verifies_four_distinct_gpus_of_one_set_under_one_nonce() {
    let Some(set) = set("multi_gpu_hopper.json") else { return };
    let devices: Vec<Device> = set.iter().map(|(e, _)| verify(e).unwrap()).collect();
    assert_eq!(devices.len(), 4);
    for (device, (_, nonce)) in devices.iter().zip(&set) {
        assert_eq!(device.nonce(), nonce);
        assert_eq!(device.opaque().driver.as_deref(), Some("590.12"));
        assert_eq!(device.opaque().mode, Mode::ProtectedPcie);
        assert_eq!(device.opaque().fwid.as_ref(), Some(device.certified_firmware()));
        assert_eq!(device.records(), devices[0].records());
    }
    let mut ids: Vec<&str> = devices.iter().map(Device::id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 4);
}

#[test]
fn reads_the_report_as_nvidias_own_parser_did() {
    let Some(evidence) = Recorded::Unit.load() else { return };
    let text = crate::tests::vector("attest/nvidia/spdm_parsed_output.json").unwrap();
    let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let report = Report::parse(&evidence.report).unwrap();
    let blocks = &json["MeasurementRecord"]["MeasurementBlocks"];
    for (index, record) in (1..).zip(&report.records) {
        let value = &blocks[index.to_string()]["DMTFSpecMeasurementValue"];
        assert_eq!(*value, format!("0x{}", hex::encode(record)), "record {index}");
    }
    let text = crate::tests::vector("attest/nvidia/spdm_req_parsed_output.json").unwrap();
    let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(json["Nonce"], format!("0x{}", hex::encode(report.nonce)));
}

#[test]
fn refuses_a_report_under_the_chain_of_another_device() {
    let Some(evidence) = Recorded::Nvtrust.load() else { return };
    for other in [Recorded::Old, Recorded::Unit, Recorded::Expired] {
        let chain = other.load().unwrap().chain;
        let mixed = DeviceEvidence { chain, ..evidence.clone() };
        assert_eq!(verify(&mixed), Err(DeviceError::ReportSignature));
    }
}

#[test]
fn refuses_a_leaf_under_the_certificates_of_another_device() {
    let (Some(a), Some(b)) = (Recorded::Nvtrust.load(), Recorded::Old.load()) else { return };
    let (a, b) = (split(&a.chain), split(&b.chain));
    let mixed = [&a[0], &b[1], &b[2], &b[3], &b[4]].map(Vec::as_slice).concat();
    let evidence = DeviceEvidence { chain: mixed, ..Recorded::Nvtrust.load().unwrap() };
    let rule = "its issuer is not the next certificate";
    assert_eq!(verify(&evidence), Err(DeviceError::Chain { index: 0, rule }));
}

#[test]
fn refuses_a_genuine_device_under_another_root() {
    let Some(evidence) = Recorded::Nvtrust.load() else { return };
    let intel = DeviceRoot::InsecureSim(crate::TrustRoot::Intel.der().to_vec());
    assert_eq!(Device::verify(&evidence, &intel, NOW), Err(DeviceError::Root));
}

#[test]
fn refuses_a_chain_before_its_certificates_are_valid() {
    let Some(evidence) = Recorded::Nvtrust.load() else { return };
    let at = |now| Device::verify(&evidence, &DeviceRoot::Nvidia, UnixTime(now));
    // The provisioner is the youngest: 2022-03-01.
    let youngest = 1_646_092_800;
    assert!(at(youngest).is_ok());
    let Err(error) = at(youngest - 1) else { panic!("accepted a second early") };
    assert!(matches!(error, DeviceError::NotValidNow { index: 2, .. }), "{error}");
    // 9999-12-31T23:59:59Z is how certificates spell "no end"; one second later is over.
    assert!(at(253_402_300_799).is_ok());
    assert_eq!(at(253_402_300_800).unwrap_err().code(), "E-GPU-CHAIN-TIME");
}

#[test]
fn refuses_chains_of_any_other_length_or_order() {
    let Some(evidence) = Recorded::Nvtrust.load() else { return };
    let whole = split(&evidence.chain);
    let with = |parts: &[&Vec<u8>]| {
        let chain = parts.iter().flat_map(|p| p.iter().copied()).collect();
        verify(&DeviceEvidence { chain, ..evidence.clone() }).unwrap_err()
    };
    let [a, b, c, d, e] = &whole[..] else { panic!("five certificates") };
    assert_eq!(with(&[]), DeviceError::ChainLength { got: 0 });
    assert_eq!(with(&[a, b, c, d]), DeviceError::ChainLength { got: 4 });
    assert_eq!(with(&[a, b, c, d, e, e]), DeviceError::ChainLength { got: 6 });
    assert_eq!(with(&[a, b, c, e, d]), DeviceError::Root);
    assert_eq!(with(&[a, c, b, d, e]).code(), "E-GPU-CHAIN");
    assert_eq!(with(&[b, a, c, d, e]).code(), "E-GPU-CHAIN");
    assert_eq!(with(&[a, b, c, d, d]), DeviceError::Root);
}

#[test]
fn refuses_reports_and_chains_one_byte_over_their_limits() {
    let Some(evidence) = Recorded::Nvtrust.load() else { return };
    let mut long = evidence.clone();
    long.report.resize(MAX_DEVICE_REPORT_BYTES, 0);
    assert!(matches!(verify(&long), Err(DeviceError::Trailing { .. })));
    long.report.push(0);
    let got = MAX_DEVICE_REPORT_BYTES + 1;
    assert_eq!(verify(&long), Err(DeviceError::ReportTooLarge { got }));
    let mut long = evidence;
    long.chain.resize(MAX_DEVICE_CHAIN_BYTES, 0);
    assert!(matches!(verify(&long), Err(DeviceError::ChainLength { .. })));
    long.chain.push(0);
    let got = MAX_DEVICE_CHAIN_BYTES + 1;
    assert_eq!(verify(&long), Err(DeviceError::ChainTooLarge { got }));
}

#[test]
fn refuses_one_record_and_one_opaque_field_over_the_limit() {
    let Some(evidence) = Recorded::Nvtrust.load() else { return };
    let (head, rest) = evidence.report.split_at(37);
    let mut report = [head, rest].concat();
    report[37 + 4] = 65;
    let (what, limit, got) = ("measurement blocks", MAX_RECORDS, 65);
    assert_eq!(Report::parse(&report), Err(DeviceError::TooMany { what, limit, got }));
    let with = |fields: Vec<u8>| Report::parse(&with_opaque(&evidence.report, &fields)).err();
    let field = |kind: u16, value: &[u8]| {
        let length = u16::try_from(value.len()).unwrap();
        [&kind.to_le_bytes()[..], &length.to_le_bytes(), value].concat()
    };
    let vbios = field(6, b"96.00.9F.00.01");
    let many = |n: u16| (100..100 + n).flat_map(|kind| field(kind, &[])).collect::<Vec<u8>>();
    let limit = MAX_OPAQUE_FIELDS;
    assert_eq!(with([vbios.clone(), many(63)].concat()), None);
    let (what, got) = ("opaque fields", MAX_OPAQUE_FIELDS + 1);
    let over = with([vbios.clone(), many(64)].concat());
    assert_eq!(over, Some(DeviceError::TooMany { what, limit, got }));
    assert_eq!(with([vbios.clone(), vbios.clone()].concat()).unwrap().code(), "E-GPU-REPORT");
    let twice = [vbios.clone(), field(99, &[]), field(99, &[])].concat();
    assert_eq!(with(twice), Some(DeviceError::RepeatedField { kind: 99 }));
    let missing = DeviceError::MissingField { kind: 6, what: "VBIOS" };
    assert_eq!(with(many(3)), Some(missing));
    let driver = |n| [vbios.clone(), field(3, &vec![b'1'; n])].concat();
    assert_eq!(with(driver(MAX_OPAQUE_TEXT_BYTES)), None);
    assert!(matches!(with(driver(MAX_OPAQUE_TEXT_BYTES + 1)), Some(DeviceError::Field { .. })));
}

#[test]
fn refuses_opaque_texts_and_flags_of_another_form() {
    let Some(evidence) = Recorded::Nvtrust.load() else { return };
    let refused = |kind: u16, value: &[u8]| {
        let length = u16::try_from(value.len()).unwrap();
        let mut fields = [&kind.to_le_bytes()[..], &length.to_le_bytes(), value].concat();
        if kind != 6 {
            fields.extend(b"\x06\x00\x0e\x0096.00.9F.00.01");
        }
        Report::parse(&with_opaque(&evidence.report, &fields)).is_err()
    };
    assert!(!refused(3, b"550.90.07\0"));
    for text in [&b""[..], b"\0", b"550\x1b[2J", b"550\0.90", b"5\n", b"\xff"] {
        assert!(refused(3, text), "driver {text:?}");
        assert!(refused(6, text), "vbios {text:?}");
    }
    // Eight bytes are a number only with nothing in its last three.
    assert!(!refused(6, &[0, 0x9f, 0, 0x96, 1, 0, 0, 0]));
    assert!(refused(6, &[0, 0x9f, 0, 0x96, 1, 0, 0, 1]));
    assert!(!refused(36, &[2, 0]));
    assert!(refused(36, &[3, 0]) && refused(36, &[0]) && refused(36, &[0, 1]));
    assert!(!refused(20, &[1; 48]));
    assert!(refused(20, &[1; 47]) && refused(20, &[1; 49]));
}

#[test]
fn digest_of_a_set_ignores_its_order_and_nothing_else() {
    let Some(set) = set("multi_gpu_hopper.json") else { return };
    let mut set: Vec<DeviceEvidence> = set.into_iter().map(|(e, _)| e).collect();
    let whole = device_digest(&set);
    set.swap(0, 3);
    assert_eq!(device_digest(&set), whole);
    assert_ne!(device_digest(&set[..3]), whole);
    set.push(set[0].clone());
    assert_ne!(device_digest(&set), whole);
    set.pop();
    set[1].report[100] ^= 1;
    assert_ne!(device_digest(&set), whole);
    set[1].report[100] ^= 1;
    // A byte that moves from one part to the other changes the digest: lengths are hashed.
    let moved = set[2].chain.remove(0);
    set[2].report.push(moved);
    assert_ne!(device_digest(&set), whole);
    assert_eq!(device_digest(&[]).0, [0; 32]);
}

#[test]
fn refuses_pem_chains_that_are_not_five_certificates() {
    let Some(pem) = crate::tests::vector("attest/nvidia/h100-nvtrust.chain.txt") else { return };
    let text = String::from_utf8(pem).unwrap();
    let refused = |text: &str| chain_from_pem(text.as_bytes()).unwrap_err();
    let end = text.rfind("-----BEGIN").unwrap();
    assert_eq!(refused(&text[..end]), DeviceError::ChainLength { got: 4 });
    assert_eq!(refused(&text.replacen('M', "*", 1)).code(), "E-GPU-CHAIN-FORM");
    assert_eq!(refused(&text[1..]).code(), "E-GPU-CHAIN-FORM");
    assert_eq!(refused(&text[..text.len() - 3]).code(), "E-GPU-CHAIN-FORM");
    assert_eq!(chain_from_pem(&[0xff]).unwrap_err().code(), "E-GPU-CHAIN-FORM");
    assert_eq!(refused(""), DeviceError::ChainLength { got: 0 });
    assert!(chain_from_pem(format!("{text}\n\0\0").as_bytes()).is_ok());
}

/// The certificates of a chain, by the two-byte lengths all of them have.
pub(super) fn split(mut chain: &[u8]) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    while let [0x30, 0x82, high, low, ..] = *chain {
        let (one, rest) = chain.split_at(4 + usize::from(u16::from_be_bytes([high, low])));
        out.push(one.to_vec());
        chain = rest;
    }
    out
}

/// The report with other opaque data; its signature no longer fits.
fn with_opaque(report: &[u8], fields: &[u8]) -> Vec<u8> {
    let at = 37 + 8 + 64 * 55 + 32;
    let length = u16::try_from(fields.len()).unwrap();
    [&report[..at], &length.to_le_bytes(), fields, &[0; 96]].concat()
}
