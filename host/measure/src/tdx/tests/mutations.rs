//! Every parser against every truncation and many random changes of a valid input: it may refuse,
//! it may not panic; and what it accepts is measured differently from the original, wherever the
//! changed byte is one that is measured.

use proptest::prelude::*;

use super::super::{
    EventLog, PageOrder, SmbiosTable, StoredKeys, Tdvf, TdxPrediction, authenticode_sha384, mrtd,
};
use super::fixture::{CFV_BYTES, Case, WINDOW, acpi, firmware, kernel, smbios, store, tables};
use super::logs::log_of;

#[test]
fn every_truncation_is_refused() {
    let prediction = Case::new().predict().unwrap();
    let (fw, pe, bios) = (firmware(3, &[]), kernel(3), smbios(1, "pc"));
    for end in 0..fw.len() {
        assert!(Tdvf::parse(&fw[..end]).is_err(), "firmware cut at {end}");
    }
    for end in 0..pe.len() {
        assert!(authenticode_sha384(&pe[..end]).is_err(), "kernel cut at {end}");
    }
    for end in 0..bios.len() {
        assert!(SmbiosTable::parse(&bios[..end]).is_err(), "SMBIOS cut at {end}");
    }
    let json = serde_json::to_vec(&prediction).unwrap();
    for end in 0..json.len() {
        assert!(TdxPrediction::parse(&json[..end]).is_err(), "prediction cut at {end}");
    }
}

#[test]
fn a_truncated_log_is_refused_or_lacks_an_event() {
    let prediction = Case::new().predict().unwrap();
    let log = log_of(&prediction);
    let events = EventLog::parse(&log).unwrap().events().len();
    for end in 0..log.len() - 64 {
        let Ok(parsed) = EventLog::parse(&log[..end]) else { continue };
        // A log may end between two events: then the check against the prediction refuses it.
        assert!(parsed.events().len() < events, "log cut at {end}");
        assert!(prediction.check_log(&parsed).is_err(), "log cut at {end}");
    }
}

#[test]
fn truncated_tables_and_stores_do_not_panic() {
    let (blob, cfv) = (tables(2, WINDOW, 0), store(&[([1; 16], "Name", b"data")]));
    for end in 0..blob.len() {
        let padded = [&blob[..end], &vec![0; 4096 - end % 4096]].concat();
        let _ = acpi(&padded);
    }
    for end in 0..cfv.len() {
        let _ = StoredKeys::parse(&cfv[..end]);
    }
}

#[test]
fn every_flipped_byte_of_firmware_code_moves_mrtd_or_is_refused() {
    let file = firmware(3, &[]);
    let original = mrtd(&Tdvf::parse(&file).unwrap(), PageOrder::SinglePass);
    for at in CFV_BYTES..file.len() {
        let mut flipped = file.clone();
        flipped[at] ^= 0x10;
        if let Ok(tdvf) = Tdvf::parse(&flipped) {
            assert_ne!(mrtd(&tdvf, PageOrder::SinglePass), original, "byte {at:#x}");
        }
    }
}

#[test]
fn every_flipped_byte_of_an_image_moves_a_register_or_is_refused() {
    let case = Case::new();
    let original = case.predict().unwrap().registers();
    let undetected = |changed: &Case| changed.predict().is_ok_and(|p| p.registers() == original);
    let mut flips = 0;
    for at in (0..case.firmware.len()).step_by(7) {
        let mut changed = case.clone();
        changed.firmware[at] ^= 1;
        assert!(!undetected(&changed), "firmware byte {at:#x}");
        flips += 1;
    }
    for at in 0..case.initrd.len() {
        let mut changed = case.clone();
        changed.initrd[at] ^= 1;
        assert!(!undetected(&changed), "initrd byte {at}");
        flips += 1;
    }
    for at in 0..case.cmdline.len() {
        let mut changed = case.clone();
        changed.cmdline[at] ^= 1;
        assert!(!undetected(&changed), "command line byte {at}");
        flips += 1;
    }
    let manifest = case.manifest.clone().into_bytes();
    for at in 0..manifest.len() {
        let mut bytes = manifest.clone();
        bytes[at] ^= 1;
        let Ok(manifest) = String::from_utf8(bytes) else { continue };
        assert!(!undetected(&Case { manifest, ..case.clone() }), "manifest byte {at}");
        flips += 1;
    }
    assert!(flips > 1000, "only {flips} flips were tried");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn random_changes_never_panic(
        seed in any::<u64>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
    ) {
        let _ = seed;
        let prediction = Case::new().predict().unwrap();
        let mut all = [
            firmware(3, &[]),
            kernel(3),
            smbios(1, "pc"),
            log_of(&prediction),
            tables(2, WINDOW, 0),
            store(&[([1; 16], "Name", b"data")]),
            serde_json::to_vec(&prediction).unwrap(),
        ];
        for bytes in &mut all {
            for (index, value) in &changes {
                let at = index.index(bytes.len());
                bytes[at] = *value;
            }
        }
        let [fw, pe, bios, log, blob, cfv, json] = &all;
        if let Ok(tdvf) = Tdvf::parse(fw) {
            let _ = mrtd(&tdvf, PageOrder::LegacyHost);
        }
        let _ = authenticode_sha384(pe);
        if let Ok(table) = SmbiosTable::parse(bios) {
            let _ = table.filtered();
            let _ = table.machine();
        }
        if let Ok(log) = EventLog::parse(log) {
            let _ = prediction.check_log(&log);
        }
        let _ = acpi(blob);
        let _ = StoredKeys::parse(cfv);
        let _ = TdxPrediction::parse(json);
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        let _ = Tdvf::parse(&bytes);
        let _ = authenticode_sha384(&bytes);
        let _ = SmbiosTable::parse(&bytes);
        let _ = EventLog::parse(&bytes);
        let _ = StoredKeys::parse(&bytes);
        let _ = acpi(&bytes);
    }
}
