//! Every value of `tdx/hardware-vectors.json`, the real CCEL with its quote, the full prediction,
//! and Cocoon's image hashes.

use chrysalis_evidence::Measurement;
use chrysalis_wire::Digest;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::super::boot::load_options_digest;
use super::super::firmware::boot_menu_digest;
use super::super::pe::authenticode_parts;
use super::super::predict::register;
use super::super::{
    AcpiBlobs, BiosIdentity, CommandLine, Component, DIRECT_BOOT_ORDER, Event, EventLog,
    FirmwareProfile, FwCfg, MemorySize, PageOrder, Rtmr, Sha384Digest, Shape, ShapeTables,
    SmbiosTable, Status, TdxError, authenticode_sha384, firmware_events, kernel_events,
    linux_events, mrtd, td_hob,
};
use super::logs::{LogBuilder, kind_of};
use super::{digest, gunzip, inputs, json, parse, vector};
use crate::{TdIdentity, cocoon_sev_image_hash, cocoon_sgx_image_hash, cocoon_tdx_image_hash};

#[test]
fn mrtd_of_the_published_synthetic_firmware_is_the_published_constant() {
    let (Some(json), Some(file)) = (hardware(), vector("tdx/synthetic-tdvf-12k.fd")) else {
        return;
    };
    let case = &json["mrtd_computed_here"][2];
    assert_eq!(mrtd(&parse(&file), PageOrder::SinglePass), digest(&case["single_pass"]));
}

#[test]
fn mrtd_of_debians_firmware_is_that_of_an_independent_tool_in_both_orders() {
    let (Some(json), Some(inputs)) = (hardware(), inputs()) else { return };
    let files = [&inputs.inteltdx_ms, &inputs.ovmf_2025];
    for (case, file) in json["mrtd_computed_here"].as_array().unwrap().iter().zip(files) {
        assert_eq!(sha256(file), case["sha256"].as_str().unwrap());
        assert_eq!(mrtd(&parse(file), PageOrder::SinglePass), digest(&case["single_pass"]));
        assert_eq!(mrtd(&parse(file), PageOrder::LegacyHost), digest(&case["two_pass"]));
    }
    // The variable store is not in MRTD.
    let blank = inputs.blank();
    assert_eq!(
        mrtd(&parse(&blank), PageOrder::SinglePass),
        mrtd(&parse(&inputs.inteltdx_ms), PageOrder::SinglePass)
    );
}

#[test]
fn mrtd_of_a_real_quote_is_one_of_the_published_pairs() {
    // The firmware of these pairs is not obtainable; what can be checked is that the quote of
    // Cocoon's repository carries the value, and that the table in the code has the pairs.
    let (Some(json), Some(quote)) = (hardware(), vector("quote.dat")) else { return };
    let pairs = json["mrtd_published_pairs"].as_array().unwrap();
    assert_eq!(hex::encode(&quote[48 + 136..48 + 184]), pairs[0]["mrtd"].as_str().unwrap());
    for (pair, known) in pairs.iter().zip(super::super::predict::HARDWARE_MRTD) {
        assert_eq!(
            (pair["firmware_sha256"].as_str(), pair["mrtd"].as_str()),
            (Some(known.0), Some(known.1))
        );
    }
}

#[test]
fn td_hobs_of_two_real_machines_are_reproduced() {
    let (Some(json), Some(inputs)) = (hardware(), inputs()) else { return };
    let tdvf = parse(&inputs.ovmf_2025);
    let cases = json["td_hob"]["hardware"].as_array().unwrap();
    assert_eq!(cases.len(), 2);
    for case in cases {
        let bytes = hob(&tdvf, case["memory_mib"].as_u64().unwrap());
        assert_eq!(Sha384Digest::of(&bytes), digest(&case["digest"]));
    }
}

#[test]
fn td_hobs_of_both_layouts_are_reproduced_for_every_memory_size() {
    let (Some(json), Some(inputs)) = (hardware(), inputs()) else { return };
    let blank = inputs.blank();
    for (key, file) in
        [("computed_2025.02_layout", &inputs.ovmf_2025), ("computed_2026.08_layout", &blank)]
    {
        let tdvf = parse(file);
        let cases = json["td_hob"][key].as_object().unwrap();
        assert!(cases.len() >= 6);
        for (mib, expected) in cases {
            let bytes = hob(&tdvf, mib.parse().unwrap());
            assert_eq!(Sha384Digest::of(&bytes), digest(expected), "{key} {mib} MiB");
        }
    }
    let bytes = hex::encode(hob(&parse(&blank), 2048));
    assert_eq!(bytes, json["td_hob"]["td_hob_bytes_2026.08_2048MiB_hex"].as_str().unwrap());
}

#[test]
fn two_real_event_logs_parse_and_replay_to_their_registers() {
    let Some(json) = hardware() else { return };
    for (log, key) in
        json["event_logs"].as_array().unwrap().iter().zip(["expected_in_quote", "replay"])
    {
        let parsed = EventLog::parse(&rebuilt(log)).unwrap();
        for register in Rtmr::ALL {
            let expected = digest(&log[key][format!("rtmr{}", register.index())]);
            assert_eq!(parsed.replay(register), expected, "{register}");
        }
        // Both are direct boots of firmware we know: no event is a stranger.
        assert!(parsed.events().iter().all(|e| e.component.is_some()));
    }
}

#[test]
fn the_real_log_of_a_direct_boot_has_the_events_predicted_for_its_profile() {
    let (Some(json), Some(inputs)) = (hardware(), inputs()) else { return };
    let log = &json["event_logs"][0];
    let logged = EventLog::parse(&rebuilt(log)).unwrap();
    let of =
        |component| logged.events().iter().find(|e| e.component == Some(component)).unwrap().digest;
    // What the log was made from and is not here: QEMU's tables, the kernel, the initrd.
    let shape = Shape {
        memory: MemorySize::from_bytes(2048 << 20).unwrap(),
        vcpus: 2,
        qemu: "unknown".to_owned(),
        tables: ShapeTables::Digests {
            acpi: [Component::AcpiLoader, Component::AcpiRsdp, Component::AcpiTables].map(of),
            smbios: Sha384Digest::ZERO,
        },
        fw_cfg: FwCfg::direct_boot(),
    };
    let firmware = inputs.ovmf_2025.clone();
    let rtmr0 = firmware_events(&parse(&firmware), FirmwareProfile::Pre202505, &shape).unwrap();
    let rtmr1 = kernel_events(of(Component::Kernel));
    for (register, events) in [(Rtmr::Rtmr0, rtmr0), (Rtmr::Rtmr1, rtmr1)] {
        let logged: Vec<_> =
            logged.of(register).map(|e| (e.component.unwrap(), e.digest)).collect();
        let predicted: Vec<_> = events.iter().map(|e| (e.component, e.digest)).collect();
        assert_eq!(predicted, logged, "{register}");
    }
}

#[test]
fn rtmr2_of_a_published_hardware_run_is_reproduced() {
    let Some(json) = hardware() else { return };
    let case = &json["rtmr2_aleph_hardware"];
    let line = CommandLine::parse(case["cmdline"].as_str().unwrap().as_bytes()).unwrap();
    let events = linux_events(FirmwareProfile::Stable202508, &line, digest(&case["initrd_sha384"]));
    assert_eq!(events[0].detail, case["load_options_string"].as_str().unwrap());
    assert_eq!(events[0].digest, digest(&case["load_options_digest"]));
    assert_eq!(register(events).value, digest(&case["rtmr2"]));
}

#[test]
fn authenticode_of_a_debian_kernel_is_the_digest_debian_signed() {
    let (Some(json), Some(inputs)) = (hardware(), inputs()) else { return };
    let case = &json["authenticode"][2];
    assert_eq!(authenticode_sha384(&inputs.kernel).unwrap(), digest(&case["sha384"]));
    // The same byte ranges under SHA-256 are what the signature in the file names.
    let mut hash = Sha256::new();
    authenticode_parts(&inputs.kernel).unwrap().into_iter().for_each(|part| hash.update(part));
    let signed = hash.finalize();
    assert_eq!(hex::encode(signed), case["sha256"].as_str().unwrap());
    assert!(inputs.kernel.windows(32).any(|w| w == signed.as_slice()));
}

#[test]
fn authenticode_of_the_published_synthetic_pe_is_the_published_constant() {
    let (Some(json), Some(file)) = (hardware(), vector("tdx/synthetic-pe.bin")) else { return };
    assert_eq!(authenticode_sha384(&file).unwrap(), digest(&json["authenticode"][0]["sha384"]));
}

#[test]
fn the_kernel_that_is_not_here_gives_the_predicted_rtmr1_by_its_digest() {
    let (Some(json), Some(full)) = (hardware(), full()) else { return };
    let kernel = digest(&json["authenticode"][1]["sha384"]);
    assert_eq!(register(kernel_events(kernel)).value, digest(&full["expected"]["rtmr1"]));
}

#[test]
fn constant_event_digests_are_those_of_the_vectors() {
    let (Some(json), Some(inputs)) = (hardware(), inputs()) else { return };
    let constants = json["constant_event_digests"].as_object().unwrap();
    let firmware = inputs.blank();
    let events = |profile| firmware_events(&parse(&firmware), profile, &vector_shape()).unwrap();
    let old = events(FirmwareProfile::Pre202505);
    let new = events(FirmwareProfile::Stable202605);
    let of = |list: &[Event], c| list.iter().find(|e| e.component == c).unwrap().digest;
    let milestone = |c| of(&kernel_events(Sha384Digest::ZERO), c);
    let expected = [
        ("separator 00000000", of(&new, Component::Separator)),
        ("Calling EFI Application from Boot Option", milestone(Component::CallingApplication)),
        ("Exit Boot Services Invocation", milestone(Component::ExitInvocation)),
        ("Exit Boot Services Returned with Success", milestone(Component::ExitReturned)),
        ("CFV blank 0x84000 (OVMF_VARS_4M.fd)", of(&new, Component::VariableStore)),
        ("BootOrder 0000 / FWCFG BootMenu 0000", boot_menu_digest(false)),
        ("FWCFG bootorder /rom@genroms/linuxboot_dma.bin\\0", Sha384Digest::of(DIRECT_BOOT_ORDER)),
        ("Boot0000 UiApp (pre-202505)", of(&old, Component::Boot0000)),
        ("Boot0000 BootManagerMenuApp (2026.08)", of(&new, Component::Boot0000)),
    ];
    assert_eq!(constants.len(), expected.len());
    for (name, got) in expected {
        assert_eq!(got, digest(&constants[name]), "{name}");
    }
}

#[test]
fn the_full_prediction_matches_event_by_event() {
    let (Some(full), Some(inputs)) = (full(), inputs()) else { return };
    let firmware = inputs.blank();
    assert_eq!(sha256(&firmware), full["inputs"]["firmware_sha256"].as_str().unwrap());
    let expected = &full["expected"];
    let tdvf = parse(&firmware);
    assert_eq!(mrtd(&tdvf, PageOrder::SinglePass), digest(&expected["mrtd"]));
    let line = full["inputs"]["cmdline"].as_str().unwrap().as_bytes();
    let line = CommandLine::parse(line).unwrap();
    let profile = FirmwareProfile::Stable202605;
    let registers = [
        firmware_events(&tdvf, profile, &vector_shape()).unwrap(),
        kernel_events(digest(&expected["rtmr1_events"][0]["digest"])),
        linux_events(profile, &line, digest(&expected["rtmr2_events"][1]["digest"])),
    ];
    for (index, events) in registers.into_iter().enumerate() {
        let listed = expected[format!("rtmr{index}_events")].as_array().unwrap();
        assert_eq!(listed.len(), events.len());
        for (listed, event) in listed.iter().zip(&events) {
            assert_eq!(event.digest, digest(&listed["digest"]), "{}", listed["event"]);
        }
        let register = register(events);
        assert_eq!(register.value, digest(&expected[format!("rtmr{index}")]));
        // RTMR0 has inferred parts and says so; RTMR1 and RTMR2 have none.
        let weakest = [Status::Inferred, Status::ConfirmedByHardware, Status::ConfirmedByHardware];
        assert_eq!(register.status, weakest[index]);
    }
}

#[test]
fn the_smbios_table_follows_from_qemus_and_the_firmwares_name() {
    let Some(from_qemu) = vector(&acpi("smbios-tables-qemu.bin")) else { return };
    let bios = BiosIdentity {
        vendor: "Debian distribution of EDK II".to_owned(),
        version: "2026.08+ds-2".to_owned(),
        date: "09/26/2026".to_owned(),
    };
    let table = SmbiosTable::parse(&from_qemu).unwrap().with_bios(&bios).unwrap();
    assert_eq!(table.bytes(), vector(&acpi("dmi-table-final.bin")).unwrap());
    assert_eq!(table.filtered().unwrap(), vector(&acpi("dmi-table-filtered.bin")).unwrap());
    assert_eq!(table.machine().as_deref(), Some("pc-q35-11.1"));
    assert_eq!(table.processor_id(), Some(0x1fcb_fbfd_0000_0663));
}

#[test]
fn the_acpi_tables_of_the_vector_say_what_the_shape_says() {
    let shape = vector_shape();
    let Some(facts) = shape.tables.acpi_facts() else { return };
    assert_eq!(facts.processors, 2);
    assert_eq!(facts.mmio64, Some([0x1_0000_0000, 0x8_ffff_ffff]));
}

#[test]
fn a_real_ccel_replays_to_its_real_quote() {
    let (Some(log), Some(quote)) = (
        gunzip("attest/tdx/ccel-ccel_data.dat.gz"),
        vector("attest/tdx/ccel-cos-113-tdx-quote.dat"),
    ) else {
        return;
    };
    let log = EventLog::parse(&log).unwrap();
    assert_eq!(log.events().len(), 43);
    let registers = [0, 1, 2, 3].map(|i| {
        let at = 48 + 328 + 48 * i;
        Sha384Digest(quote[at..at + 48].try_into().unwrap())
    });
    log.check_replay(&registers).unwrap();
    // Another boot path (disk, GRUB): its events are not ours, and none passes for one.
    assert!(log.events().iter().any(|e| e.component.is_none()));
    assert!(log.of(Rtmr::Rtmr2).all(|e| e.component.is_none()));
}

#[test]
fn the_enrolled_store_of_the_stock_firmware_is_read_and_its_keys_are_measured() {
    let Some(inputs) = inputs() else { return };
    let shape = vector_shape();
    let profile = FirmwareProfile::Stable202605;
    let events = firmware_events(&parse(&inputs.inteltdx_ms), profile, &shape).unwrap();
    let detail = |c| events.iter().find(|e| e.component == c).unwrap().detail.clone();
    assert_eq!(detail(Component::PlatformKey), "1005 bytes");
    assert_eq!(detail(Component::ForbiddenDb), "21292 bytes");
    assert_eq!(detail(Component::SecureBoot), "1 bytes");
    assert!(detail(Component::VariableStore).starts_with("enrolled"));
}

#[test]
fn refuses_debians_other_store_because_it_carries_a_boot_option() {
    let Some(inputs) = inputs() else { return };
    let firmware = inputs.with_store(&inputs.vars_ms);
    let refused =
        firmware_events(&parse(&firmware), FirmwareProfile::Stable202605, &vector_shape());
    let name = "Boot0000".to_owned();
    assert_eq!(refused, Err(TdxError::StoredBootVariable { name }));
}

#[test]
fn cocoon_image_hashes_are_those_of_its_formula() {
    let Some(json) = json("image_hash.json") else { return };
    let td = |mrtd: u8| {
        let registers = Measurement {
            mrtd: [mrtd; 48],
            rtmr: [[0x61; 48], [0x62; 48], [0x63; 48], [0x64; 48]],
        };
        let identity = TdIdentity {
            mr_config_id: [0x34; 48],
            mr_owner: [0xaa; 48],
            mr_owner_config: [0xbb; 48],
        };
        cocoon_tdx_image_hash(&registers, &identity)
    };
    let zero = Measurement { mrtd: [0; 48], rtmr: [[0; 48]; 4] };
    let got: [Digest; 6] = [
        td(0x12),
        td(0x99),
        cocoon_tdx_image_hash(&zero, &TdIdentity::ZERO),
        cocoon_sev_image_hash(&[0; 48]),
        cocoon_sev_image_hash(&[0x5a; 48]),
        cocoon_sgx_image_hash(&[0x5a; 32]),
    ];
    for (case, got) in json["cases"].as_array().unwrap().iter().zip(got) {
        assert_eq!(case["hex"].as_str().unwrap(), got.to_string());
    }
}

#[test]
fn cocoons_image_hash_of_its_own_sample_quote_is_reproduced() {
    let (Some(fields), Some(quote)) = (json("quote.fields.json"), vector("quote.dat")) else {
        return;
    };
    let at =
        |offset: usize| -> [u8; 48] { quote[48 + offset..48 + offset + 48].try_into().unwrap() };
    let registers = Measurement { mrtd: at(136), rtmr: [at(328), at(376), at(424), at(472)] };
    let identity =
        TdIdentity { mr_config_id: at(184), mr_owner: at(232), mr_owner_config: at(280) };
    let hash = cocoon_tdx_image_hash(&registers, &identity);
    assert_eq!(hash.to_string(), fields["image_hash_hex"].as_str().unwrap());
}

#[test]
fn the_old_form_of_the_load_options_has_the_initrd_behind() {
    // SHA-384 over UTF-16LE("a initrd=initrd") and a terminator, by Python's hashlib.
    let line = CommandLine::parse(b"a").unwrap();
    let events = linux_events(FirmwareProfile::Stable202505, &line, Sha384Digest::ZERO);
    assert_eq!(events[0].detail, "a initrd=initrd");
    assert_eq!(events[0].digest, load_options_digest("a initrd=initrd"));
    assert_eq!(events[0].digest.to_string(), OLD_FORM);
}

fn hardware() -> Option<Value> {
    json("tdx/hardware-vectors.json")
}

fn full() -> Option<Value> {
    json("tdx/predicted-debian-2026.08-nosb.json")
}

fn acpi(file: &str) -> String {
    format!("tdx/acpi-q35-2g-2c/{file}")
}

/// The shape of the full prediction; the fixture's where the vectors are absent.
fn vector_shape() -> Shape {
    let Some(loader) = vector(&acpi("table-loader.bin")) else { return super::fixture::shape() };
    let rsdp = vector(&acpi("rsdp.bin")).unwrap();
    let tables = gunzip(&acpi("tables.bin.gz")).unwrap();
    let smbios = vector(&acpi("dmi-table-final.bin")).unwrap();
    Shape {
        memory: MemorySize::from_bytes(2 << 30).unwrap(),
        vcpus: 2,
        qemu: "11.1.3".to_owned(),
        tables: ShapeTables::Blobs {
            acpi: AcpiBlobs::new(loader, rsdp, tables).unwrap(),
            smbios: SmbiosTable::parse(&smbios).unwrap(),
        },
        fw_cfg: FwCfg::direct_boot(),
    }
}

fn hob(tdvf: &super::super::Tdvf<'_>, mib: u64) -> Vec<u8> {
    td_hob(tdvf, MemorySize::from_bytes(mib << 20).unwrap()).unwrap()
}

/// A log's bytes from its events in the vector file.
fn rebuilt(log: &Value) -> Vec<u8> {
    let mut builder = LogBuilder::new();
    for event in log["events"].as_array().unwrap() {
        let register = u32::try_from(event["mr_index"].as_u64().unwrap()).unwrap();
        let kind = kind_of(event["type"].as_str().unwrap());
        let data = hex::decode(event["event_hex"].as_str().unwrap()).unwrap();
        builder.event(register, kind, digest(&event["digest"]), &data);
    }
    builder.finish()
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

const OLD_FORM: &str = "bea57421f75c9b63960b67ef3b6c5541c8d5bd13bd9105d94355a6115077ef510b47196c533fc36805b73cf1423f4531";
