//! Each cause with a test that makes exactly that change, and what a reader of the reports must be
//! able to rely on.

use std::collections::BTreeSet;

use super::super::boot::load_options_digest;
use super::super::efi::GLOBAL;
use super::super::tests::fixture::{Case, WINDOW, acpi, firmware, kernel, shape, smbios, tables};
use super::super::tests::logs::{LogBuilder, log_of};
use super::super::tests::{json, vector};
use super::super::{
    EventLog, FirmwareProfile, MemorySize, PageOrder, Sha384Digest, ShapeTables, SmbiosTable,
    TdQuote, TdxError,
};
use super::*;
use crate::error::MeasureError;

/// A change of the fixture.
type Edit = Box<dyn Fn(&mut Case)>;

/// The first difference between the fixture and a changed copy of it.
fn change(edit: impl FnOnce(&mut Case)) -> Difference {
    let (a, b) = both(edit);
    let diff = compare(&Side::prediction("a", &a), &Side::prediction("b", &b)).unwrap();
    assert!(!diff.equal);
    diff.differences[0].clone()
}

fn both(
    edit: impl FnOnce(&mut Case),
) -> (super::super::TdxPrediction, super::super::TdxPrediction) {
    let mut changed = Case::new();
    edit(&mut changed);
    (Case::new().predict().unwrap(), changed.predict().unwrap())
}

/// The change is named, with certainty, at the register and component where it shows first.
fn named(
    cause: Cause,
    register: &str,
    component: Option<&str>,
    edit: impl FnOnce(&mut Case),
) -> String {
    let difference = change(edit);
    assert_eq!(difference.cause, cause, "{difference:?}");
    assert_eq!(difference.register, register);
    assert_eq!(difference.event.as_ref().map(|e| e.component.as_str()), component);
    assert!(difference.certain);
    difference.detail
}

fn set_tables(case: &mut Case, blob: &[u8], bios: &[u8]) {
    case.shape.tables =
        ShapeTables::Blobs { acpi: acpi(blob).unwrap(), smbios: SmbiosTable::parse(bios).unwrap() };
}

#[test]
fn names_another_number_of_vcpus() {
    let detail = named(Cause::VcpuCount, "RTMR0", Some("ACPI tables"), |c| {
        set_tables(c, &tables(8, WINDOW, 0), &smbios(1, "pc-q35-11.1"));
        c.shape.vcpus = 8;
    });
    assert_eq!(detail, "2 vCPUs became 8");
}

#[test]
fn names_another_memory_size() {
    let detail = named(Cause::MemorySize, "RTMR0", Some("TD HOB (memory map)"), |c| {
        c.shape.memory = MemorySize::from_bytes(16 << 30).unwrap();
    });
    assert_eq!(detail, "2048 MiB became 16384 MiB");
}

#[test]
fn names_another_qemu_version() {
    let detail = named(Cause::QemuVersion, "RTMR0", Some("ACPI tables"), |c| {
        set_tables(c, &tables(2, WINDOW, 3), &smbios(1, "pc-q35-11.1"));
        c.shape.qemu = "10.1.0".to_owned();
    });
    assert_eq!(detail, "QEMU 11.1.3 became 10.1.0");
}

#[test]
fn names_other_devices() {
    named(Cause::PciDevices, "RTMR0", Some("ACPI tables"), |c| {
        set_tables(c, &tables(2, WINDOW, 7), &smbios(1, "pc-q35-11.1"));
    });
}

#[test]
fn names_another_64_bit_window() {
    let detail = named(Cause::MmioWindow, "RTMR0", Some("ACPI tables"), |c| {
        let window = [0x3800_0000_0000, 0x3fff_ffff_ffff];
        set_tables(c, &tables(2, window, 0), &smbios(1, "pc-q35-11.1"));
    });
    assert!(detail.ends_with("0x380000000000-0x3fffffffffff"), "{detail}");
}

#[test]
fn names_a_larger_window_asked_for_by_fw_cfg() {
    named(Cause::MmioWindow, "RTMR0", Some("fw_cfg bootorder"), |c| {
        c.shape.fw_cfg.set("opt/ovmf/X-PciMmio64Mb", b"262144".to_vec()).unwrap();
    });
}

#[test]
fn names_another_firmware_build() {
    named(Cause::FirmwareBuild, "MRTD", None, |c| c.firmware = firmware(0x12, &[]));
}

#[test]
fn names_a_legacy_host() {
    named(Cause::PageOrder, "MRTD", None, |c| c.page_order = PageOrder::LegacyHost);
}

#[test]
fn names_an_enrolled_variable_store() {
    let detail = named(Cause::VariableStore, "RTMR0", Some("variable store (CFV)"), |c| {
        c.firmware = firmware(0x11, &[(GLOBAL, "PK", b"a key")]);
    });
    assert!(detail.contains("became enrolled"), "{detail}");
}

#[test]
fn names_secure_boot_keys_where_the_store_is_the_same() {
    // Digests of the same store with another key event: what a log of a patched firmware shows.
    let (a, mut b) = both(|_| {});
    let at = b.rtmr[0].events.iter().position(|e| e.component.name() == "db").unwrap();
    b.rtmr[0].events[at].digest.0[0] ^= 1;
    let log = EventLog::parse(&log_of(&b)).unwrap();
    let diff = compare(&Side::prediction("a", &a), &Side::log("b", &log)).unwrap();
    assert_eq!(diff.differences[0].cause, Cause::SecureBootKeys);
}

#[test]
fn names_another_firmware_profile() {
    let detail = named(Cause::FirmwareProfile, "RTMR0", Some("variable BootOrder"), |c| {
        c.profile = FirmwareProfile::Stable202508;
    });
    assert_eq!(detail, "profile 202605 became 202508");
    let difference = change(|c| c.profile = FirmwareProfile::Pre202505);
    assert_eq!(difference.cause, Cause::FirmwareProfile);
}

#[test]
fn names_another_processor_id() {
    let detail = named(Cause::ProcessorId, "RTMR0", Some("SMBIOS table"), |c| {
        set_tables(c, &tables(2, WINDOW, 0), &smbios(0x806f8, "pc-q35-11.1"));
    });
    assert_eq!(detail, "0x1 became 0x806f8");
}

#[test]
fn names_another_machine_type() {
    let detail = named(Cause::MachineType, "RTMR0", Some("SMBIOS table"), |c| {
        set_tables(c, &tables(2, WINDOW, 0), &smbios(1, "pc-q35-10.1"));
    });
    assert_eq!(detail, "pc-q35-11.1 became pc-q35-10.1");
}

#[test]
fn names_another_smbios_table() {
    named(Cause::Smbios, "RTMR0", Some("SMBIOS table"), |c| {
        let mut bytes = smbios(1, "pc-q35-11.1");
        let at = bytes.windows(4).position(|w| w == b"QEMU").unwrap();
        bytes[at] = b'X';
        set_tables(c, &tables(2, WINDOW, 0), &bytes);
    });
}

#[test]
fn names_a_boot_menu_and_a_boot_order() {
    let detail = named(Cause::BootMenu, "RTMR0", Some("fw_cfg BootMenu"), |c| {
        c.shape.fw_cfg.boot_menu = true;
    });
    assert_eq!(detail, "off became on");
    named(Cause::BootOrder, "RTMR0", Some("fw_cfg bootorder"), |c| {
        c.shape.fw_cfg.set("bootorder", b"/pci@i0cf8/scsi@3/disk@0,0\0".to_vec()).unwrap();
    });
    named(Cause::BootOrder, "RTMR0", Some("fw_cfg bootorder"), |c| c.shape.fw_cfg.bootorder = None);
}

#[test]
fn names_a_fw_cfg_file_that_was_added() {
    named(Cause::FwCfgFile, "RTMR0", Some("fw_cfg bootorder"), |c| {
        c.shape.fw_cfg.set("etc/extra-pci-roots", vec![1; 8]).unwrap();
    });
}

#[test]
fn names_another_kernel_initrd_and_command_line() {
    named(Cause::Kernel, "RTMR1", Some("kernel (Authenticode)"), |c| c.kernel = kernel(0x23));
    named(Cause::Initrd, "RTMR2", Some("initrd"), |c| c.initrd = b"another initrd".to_vec());
    let detail = named(Cause::CommandLine, "RTMR2", Some("kernel command line"), |c| {
        c.cmdline.extend_from_slice(b" debug");
    });
    assert!(detail.ends_with("\"console=ttyS0 quiet debug\""), "{detail}");
}

#[test]
fn names_another_manifest_and_another_model() {
    named(Cause::Manifest, "RTMR3", Some("worker manifest"), |c| {
        c.manifest = c.manifest.replace("prompt = 1", "prompt = 2");
    });
    let detail = named(Cause::Model, "RTMR3", Some("worker manifest"), |c| {
        c.manifest = c.manifest.replace(&"22".repeat(32), &"33".repeat(32));
    });
    assert!(detail.ends_with(&"33".repeat(32)), "{detail}");
}

// ---- logs -------------------------------------------------------------------------------------

#[test]
fn a_log_alone_tells_the_memory_size_of_its_machine() {
    let (a, b) = both(|c| c.shape.memory = MemorySize::from_bytes(96 << 30).unwrap());
    let log = EventLog::parse(&log_of(&b)).unwrap();
    let diff = compare(&Side::prediction("a", &a), &Side::log("b", &log)).unwrap();
    let first = &diff.differences[0];
    assert_eq!((first.cause, first.certain), (Cause::MemorySize, true));
    assert_eq!(first.detail, "2048 MiB became 98304 MiB");
    assert_eq!(diff.not_compared, ["MRTD", "RTMR3"]);
}

#[test]
fn acpi_tables_outside_the_shape_are_refused_and_never_taken_for_one_cause() {
    let (a, b) = both(|c| {
        set_tables(c, &tables(8, WINDOW, 0), &smbios(1, "pc-q35-11.1"));
        c.shape.vcpus = 8;
    });
    let log = EventLog::parse(&log_of(&b)).unwrap();
    let diff = compare(&Side::prediction("a", &a), &Side::log("b", &log)).unwrap();
    let first = &diff.differences[0];
    assert_eq!((first.cause, first.certain), (Cause::AcpiOutsideShape, false));
    assert!(first.also.contains(&Cause::VcpuCount) && first.also.contains(&Cause::QemuVersion));
    assert!(!diff.equal);
}

#[test]
fn an_event_nobody_writes_is_named_so_at_its_place() {
    let (a, _) = both(|_| {});
    let mut builder = LogBuilder::new();
    builder.event(1, 0x8000_0004, Sha384Digest::ZERO, b"<script>alert(1)</script>");
    let log = EventLog::parse(&builder.finish()).unwrap();
    let diff = compare(&Side::prediction("a", &a), &Side::log("b", &log)).unwrap();
    let first = &diff.differences[0];
    assert_eq!(first.cause, Cause::UnknownEvent);
    assert_eq!(first.event.as_ref().unwrap().index, 0);
    assert!(!html_of_diff(&diff).contains("<script"));
}

#[test]
fn a_log_that_ends_early_misses_an_event() {
    let (a, mut b) = both(|_| {});
    b.rtmr[1].events.truncate(3);
    let log = EventLog::parse(&log_of(&b)).unwrap();
    let diff = compare(&Side::prediction("a", &a), &Side::log("b", &log)).unwrap();
    let first = &diff.differences[0];
    assert_eq!((first.cause, first.register.as_str()), (Cause::MissingEvent, "RTMR1"));
    assert_eq!(first.event.as_ref().unwrap().index, 3);
}

#[test]
fn a_trailing_newline_of_the_command_line_is_recognised() {
    let (a, mut b) = both(|_| {});
    let options = a.facts.profile.load_options(&format!("{}\n", a.facts.cmdline));
    b.rtmr[2].events[0].digest = super::super::boot::load_options_digest(&options);
    let log = EventLog::parse(&log_of(&b)).unwrap();
    let diff = compare(&Side::prediction("a", &a), &Side::log("b", &log)).unwrap();
    let first = &diff.differences[0];
    assert_eq!(first.cause, Cause::CommandLine);
    assert_eq!(first.detail, "a trailing newline was added");
}

// ---- quotes -----------------------------------------------------------------------------------

fn quote_of(prediction: &super::super::TdxPrediction) -> TdQuote {
    TdQuote {
        mrtd: prediction.mrtd.value,
        rtmr: prediction.rtmr.each_ref().map(|r| r.value),
        identity: crate::TdIdentity::ZERO,
        attributes: [0, 0, 0, 0x10, 0, 0, 0, 0],
    }
}

#[test]
fn a_quote_of_the_predicted_registers_is_equal() {
    let (a, b) = both(|_| {});
    let diff = compare(&Side::prediction("a", &a), &Side::quote("q", &quote_of(&b))).unwrap();
    assert!(diff.equal && diff.differences.is_empty() && diff.not_compared.is_empty());
    assert_eq!(diff.equal_registers.len(), 5);
}

#[test]
fn a_quote_alone_is_explained_where_one_change_explains_it() {
    let cases: [(Cause, &str, Edit); 5] = [
        (
            Cause::MemorySize,
            "2048 MiB became 32768 MiB",
            Box::new(|c| {
                c.shape.memory = MemorySize::from_bytes(32 << 30).unwrap();
            }),
        ),
        (Cause::BootMenu, "off became on", Box::new(|c| c.shape.fw_cfg.boot_menu = true)),
        (
            Cause::BootOrder,
            "fw_cfg bootorder is missing",
            Box::new(|c| {
                c.shape.fw_cfg.bootorder = None;
            }),
        ),
        (
            Cause::PageOrder,
            "the values are those of one firmware file in the two orders",
            Box::new(|c| c.page_order = PageOrder::LegacyHost),
        ),
        (
            Cause::Unnamed,
            "",
            Box::new(|c| {
                c.shape.memory = MemorySize::from_bytes(32 << 30).unwrap();
                c.shape.fw_cfg.boot_menu = true;
            }),
        ),
    ];
    for (cause, detail, edit) in cases {
        let (a, b) = both(edit);
        let diff = compare(&Side::prediction("a", &a), &Side::quote("q", &quote_of(&b))).unwrap();
        let first = &diff.differences[0];
        assert_eq!((first.cause, first.detail.as_str()), (cause, detail));
        assert_eq!(first.certain, cause != Cause::Unnamed);
    }
}

#[test]
fn the_other_form_of_the_command_line_is_recognised_from_a_quote() {
    let (a, b) = both(|c| c.profile = FirmwareProfile::Pre202505);
    let mut quote = quote_of(&a);
    quote.rtmr[2] = b.rtmr[2].value;
    let diff = compare(&Side::prediction("a", &a), &Side::quote("q", &quote)).unwrap();
    assert_eq!(diff.differences[0].cause, Cause::FirmwareProfile);
}

#[test]
fn host_chosen_identity_and_debug_are_differences() {
    let (a, _) = both(|_| {});
    let mut quote = quote_of(&a);
    quote.identity.mr_config_id[0] = 1;
    quote.attributes[0] = 1;
    let diff = compare(&Side::prediction("a", &a), &Side::quote("q", &quote)).unwrap();
    let causes: Vec<_> = diff.differences.iter().map(|d| d.cause).collect();
    assert_eq!(causes, [Cause::TdIdentity, Cause::TdAttributes]);
    assert!(diff.differences[1].detail.contains("debug"));
}

#[test]
fn refuses_a_quote_with_the_log_of_another_boot() {
    let (a, b) = both(|c| c.shape.fw_cfg.boot_menu = true);
    let log = EventLog::parse(&log_of(&b)).unwrap();
    let refused = Side::quote_with_log("q", &quote_of(&a), &log);
    assert!(matches!(refused, Err(TdxError::Replay { .. })));
    assert!(Side::quote_with_log("q", &quote_of(&b), &log).is_ok());
}

#[test]
fn refuses_to_compare_what_has_nothing_in_common() {
    let mut side = Side::quote("q", &quote_of(&Case::new().predict().unwrap()));
    side.mrtd = None;
    side.rtmr = [None; 4];
    assert!(matches!(compare(&side, &side), Err(TdxError::NothingInCommon { .. })));
}

#[test]
fn a_real_quote_is_read_as_its_fields_say() {
    let (Some(fields), Some(bytes)) = (json("quote.fields.json"), vector("quote.dat")) else {
        return;
    };
    let quote = TdQuote::parse(&bytes).unwrap();
    let text = |name: &str| fields[name].as_str().unwrap().to_owned();
    assert_eq!(quote.mrtd.to_string(), text("mr_td"));
    for (index, value) in quote.rtmr.iter().enumerate() {
        assert_eq!(value.to_string(), text(&format!("rtmr{index}")));
    }
    assert_eq!(hex::encode(quote.attributes), text("td_attributes"));
    assert!(compare(&Side::quote("a", &quote), &Side::quote("b", &quote)).unwrap().equal);
}

#[test]
fn refuses_what_is_no_tdx_quote() {
    assert!(matches!(TdQuote::parse(b"no quote"), Err(TdxError::Quote(_))));
    let Some(sgx) = vector("attest/dcap/sgx_quote") else { return };
    assert_eq!(TdQuote::parse(&sgx), Err(TdxError::NotTdx));
}

#[test]
fn quotes_of_both_body_versions_are_read() {
    for (file, at) in [("attest/dcap/tdx_quote", 48), ("attest/dcap/tdx_quote_td15ex", 54)] {
        let Some(bytes) = vector(file) else { return };
        let quote = TdQuote::parse(&bytes).unwrap();
        assert_eq!(quote.mrtd.0, bytes[at + 136..at + 184]);
        assert_ne!(quote.rtmr[0], Sha384Digest::ZERO);
    }
}

// ---- reports ----------------------------------------------------------------------------------

#[test]
fn every_cause_has_its_own_code_and_says_what_to_do() {
    let codes: BTreeSet<_> = Cause::ALL.iter().map(|c| c.code()).collect();
    assert_eq!(codes.len(), Cause::ALL.len());
    assert!(Cause::ALL.len() >= 12);
    for cause in Cause::ALL {
        assert!(cause.code().starts_with("C-"));
        assert!(!cause.title().is_empty() && !cause.why().is_empty() && !cause.fix().is_empty());
    }
}

#[test]
fn a_page_is_one_file_without_script_or_address_and_escapes_what_it_is_given() {
    let (a, b) = both(|c| c.shape.qemu = "<img src=x onerror=1>\u{202e}\x1b&'\"".to_owned());
    let mut b = b;
    b.rtmr[0].events[10].digest.0[0] ^= 1;
    b.rtmr[0].value = Sha384Digest::replay(b.rtmr[0].events.iter().map(|e| &e.digest));
    let (a, b) = (Side::prediction("</title><script>", &a), Side::prediction("b", &b));
    let pages = [html_of_diff(&compare(&a, &b).unwrap()), html_of_explanation(&explain(&b))];
    for page in pages {
        for bad in ["<script", "<img", "http://", "https://", "src=\"", "href=", "\u{202e}", "\x1b"]
        {
            assert!(!page.contains(bad), "{bad:?} in the page");
        }
        assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
        assert!(page.contains("default-src 'none'"));
        assert!(page.contains("&lt;img src=x onerror=1&gt;"));
    }
}

#[test]
fn an_explanation_names_every_event_and_counts_the_strangers() {
    let prediction = Case::new().predict().unwrap();
    let explained = explain(&Side::prediction("p", &prediction));
    assert_eq!(explained.registers.len(), 5);
    assert_eq!(explained.unknown_events, 0);
    let events: usize = explained.registers.iter().map(|r| r.events.len()).sum();
    assert_eq!(events, prediction.rtmr.iter().map(|r| r.events.len()).sum::<usize>());
    assert!(explained.registers.iter().flat_map(|r| &r.events).all(|e| e.status.is_some()));
    let mut builder = LogBuilder::new();
    builder.event(3, 0xd, Sha384Digest::ZERO, b"grub_cmd: linux");
    let log = EventLog::parse(&builder.finish()).unwrap();
    assert_eq!(explain(&Side::log("l", &log)).unknown_events, 1);
}

#[test]
fn equal_sides_have_no_difference() {
    let prediction = Case::new().predict().unwrap();
    let side = Side::prediction("a", &prediction);
    let diff = compare(&side, &side).unwrap();
    assert!(diff.equal && diff.differences.is_empty());
    assert_eq!(shape(), Case::new().shape);
}

#[test]
fn a_release_has_values_and_the_other_side_explains_them() {
    let case = Case::new();
    let prediction = case.predict().unwrap();
    let side = Side::prediction("image", &prediction);
    let [rtmr0, rtmr1, rtmr2, rtmr3] = prediction.rtmr.each_ref().map(|r| Some(r.value));
    let mrtd = Some(prediction.mrtd.value);
    let mut values = ReferenceValues { mrtd, rtmr: [None, rtmr1, rtmr2, rtmr3] };
    let diff = compare(&Side::release("release", &values), &side).unwrap();
    assert!(diff.equal);
    assert_eq!(diff.not_compared, ["RTMR0"]);
    // A release that was made with another command line, by one byte.
    let options = case.profile.load_options("console=ttyS0 quiet\n");
    let digests = [load_options_digest(&options), prediction.rtmr[2].events[1].digest];
    values.rtmr = [rtmr0, rtmr1, Some(Sha384Digest::replay(&digests)), rtmr3];
    let diff = compare(&Side::release("release", &values), &side).unwrap();
    let [difference] = &diff.differences[..] else { panic!("{diff:?}") };
    assert_eq!((difference.cause, difference.certain), (Cause::CommandLine, true));
    assert!(difference.detail.contains("trailing newline"), "{}", difference.detail);
    assert!(html_of_diff(&diff).contains("reference values of a release"));
}

#[test]
fn a_worker_manifest_alone_is_compared_by_rtmr3() {
    let prediction = Case::new().predict().unwrap();
    let manifest = Case::new().manifest;
    let alone = |text: &str| Side::worker_manifest("w.toml", text.as_bytes()).unwrap();
    let image = Side::prediction("image", &prediction);
    let diff = compare(&image, &alone(&manifest)).unwrap();
    assert_eq!((diff.equal, diff.equal_registers.as_slice()), (true, &["RTMR3".to_owned()][..]));
    let dearer = alone(&manifest.replace("completion = 8", "completion = 9"));
    let diff = compare(&alone(&manifest), &dearer).unwrap();
    assert_eq!(diff.differences[0].cause, Cause::Manifest);
    let explained = explain(&dearer);
    assert_eq!(explained.registers.len(), 1);
    assert_eq!(explained.registers[0].events.len(), 2);
    assert!(html_of_explanation(&explained).contains("worker manifest (RTMR3 alone)"));
    let refused = Side::worker_manifest("w.toml", b"version = 1");
    assert!(matches!(refused, Err(MeasureError::Manifest(_))));
    let log = EventLog::parse(&log_of(&prediction)).unwrap();
    assert_eq!(
        compare(&Side::log("log", &log), &dearer),
        Err(TdxError::NothingInCommon {
            expected: "RTMR0, RTMR1, RTMR2".to_owned(),
            found: "RTMR3".to_owned()
        })
    );
}
