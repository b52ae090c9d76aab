//! Event logs made by hand: what the parser accepts, and everything it must refuse.

use super::super::{
    EventLog, MAX_EVENT_BYTES, MAX_LOG_BYTES, MAX_LOG_EVENTS, Rtmr, Sha384Digest, TdxError,
    TdxPrediction,
};
use super::fixture::Case;

/// Writes a CCEL.
pub(crate) struct LogBuilder {
    bytes: Vec<u8>,
}

impl LogBuilder {
    pub(crate) fn new() -> Self {
        let mut bytes = Vec::new();
        for word in [1u32, 3] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend_from_slice(&[0; 20]);
        bytes.extend_from_slice(&33u32.to_le_bytes());
        bytes.extend_from_slice(b"Spec ID Event03\0");
        bytes.extend_from_slice(&[0, 0, 0, 0, 0, 2, 0, 2]);
        bytes.extend_from_slice(&[1, 0, 0, 0, 0x0c, 0, 48, 0, 0]);
        Self { bytes }
    }

    pub(crate) fn event(&mut self, register: u32, kind: u32, digest: Sha384Digest, data: &[u8]) {
        for word in [register, kind, 1] {
            self.bytes.extend_from_slice(&word.to_le_bytes());
        }
        self.bytes.extend_from_slice(&[0x0c, 0]);
        self.bytes.extend_from_slice(&digest.0);
        self.bytes.extend_from_slice(&(data.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(data);
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(&[0xff; 64]);
        self.bytes
    }
}

/// The log a TD with exactly the predicted events would write.
pub(crate) fn log_of(prediction: &TdxPrediction) -> Vec<u8> {
    let mut builder = LogBuilder::new();
    for (register, number) in [(Rtmr::Rtmr0, 1), (Rtmr::Rtmr1, 2), (Rtmr::Rtmr2, 3)] {
        for event in prediction.events(register) {
            let (kind, data) = described(event.component.name());
            builder.event(number, kind, event.digest, &data);
        }
    }
    builder.finish()
}

/// Type and description of a component's event.
pub(crate) fn described(component: &str) -> (u32, Vec<u8>) {
    let variable = |vendor: &str, name: &str| {
        let mut out = hex::decode(vendor).unwrap();
        out.extend_from_slice(&(name.len() as u64).to_le_bytes());
        out.extend_from_slice(&0u64.to_le_bytes());
        out.extend_from_slice(&super::super::efi::utf16(name));
        out
    };
    let global = |name| variable("61dfe48bca93d211aa0d00e098032b8c", name);
    let security = |name| variable("cbb219d73a3d9645a3bcdad00e67656f", name);
    let fw_cfg = |name: &str| format!("QEMU FW CFG\0{name}").into_bytes();
    let kind = kind_of;
    match component {
        "td-hob" => (kind("EV_EFI_HANDOFF_TABLES2"), b"\x09TdxTable\0".to_vec()),
        "variable-store" => (kind("EV_EFI_PLATFORM_FIRMWARE_BLOB2"), vec![]),
        "fw-cfg-boot-menu" => (0xa, fw_cfg("BootMenu")),
        "fw-cfg-bootorder" => (0xa, fw_cfg("bootorder")),
        "fw-cfg-pci-mmio64-mb" => (0xa, fw_cfg("opt/ovmf/X-PciMmio64Mb")),
        "fw-cfg-extra-pci-roots" => (0xa, fw_cfg("etc/extra-pci-roots")),
        "acpi-loader" | "acpi-rsdp" | "acpi-tables" => (0xa, b"ACPI DATA".to_vec()),
        "secure-boot" => (kind("EV_EFI_VARIABLE_DRIVER_CONFIG"), global("SecureBoot")),
        "pk" => (kind("EV_EFI_VARIABLE_DRIVER_CONFIG"), global("PK")),
        "kek" => (kind("EV_EFI_VARIABLE_DRIVER_CONFIG"), global("KEK")),
        "db" => (kind("EV_EFI_VARIABLE_DRIVER_CONFIG"), security("db")),
        "dbx" => (kind("EV_EFI_VARIABLE_DRIVER_CONFIG"), security("dbx")),
        "separator" => (4, vec![0; 4]),
        "smbios" => {
            (0x8000_0009, hex::decode("01000000000000004415fdf294972c4a992ee5bbcf20e394").unwrap())
        }
        "boot-order" => (kind("EV_EFI_VARIABLE_BOOT"), global("BootOrder")),
        "boot0000" => (kind("EV_EFI_VARIABLE_BOOT"), global("Boot0000")),
        "boot0001" => (kind("EV_EFI_VARIABLE_BOOT"), global("Boot0001")),
        "kernel" => {
            let mut data = vec![0; 32];
            data.extend_from_slice(
                &hex::decode(
                    "0403140072f728144ab61e44b8c39ebdd7f893c7\
                     040412006b00650072006e0065006c0000007fff0400",
                )
                .unwrap(),
            );
            (kind("EV_EFI_BOOT_SERVICES_APPLICATION"), data)
        }
        "calling-efi-application" => {
            (kind("EV_EFI_ACTION"), b"Calling EFI Application from Boot Option".to_vec())
        }
        "exit-boot-services-invocation" => {
            (kind("EV_EFI_ACTION"), b"Exit Boot Services Invocation".to_vec())
        }
        "exit-boot-services-returned" => {
            (kind("EV_EFI_ACTION"), b"Exit Boot Services Returned with Success".to_vec())
        }
        "command-line" => (6, 0x8f3b_22edu32.to_le_bytes().to_vec()),
        "initrd" => (6, 0x8f3b_22ecu32.to_le_bytes().to_vec()),
        other => panic!("no event for {other}"),
    }
}

pub(crate) fn kind_of(name: &str) -> u32 {
    match name {
        "EV_SEPARATOR" => 0x4,
        "EV_EVENT_TAG" => 0x6,
        "EV_PLATFORM_CONFIG_FLAGS" => 0xa,
        "EV_EFI_VARIABLE_DRIVER_CONFIG" => 0x8000_0001,
        "EV_EFI_VARIABLE_BOOT" => 0x8000_0002,
        "EV_EFI_BOOT_SERVICES_APPLICATION" => 0x8000_0003,
        "EV_EFI_ACTION" => 0x8000_0007,
        "EV_EFI_PLATFORM_FIRMWARE_BLOB2" => 0x8000_000a,
        "EV_EFI_HANDOFF_TABLES2" => 0x8000_000b,
        other => panic!("no event type {other}"),
    }
}

const D: Sha384Digest = Sha384Digest([7; 48]);

fn one_event() -> Vec<u8> {
    let mut builder = LogBuilder::new();
    builder.event(1, 4, D, &[0; 4]);
    builder.finish()
}

#[test]
fn a_log_of_the_predicted_events_is_accepted_and_replays_to_the_prediction() {
    let prediction = Case::new().predict().unwrap();
    let log = EventLog::parse(&log_of(&prediction)).unwrap();
    prediction.check_log(&log).unwrap();
    log.check_replay(&prediction.rtmr.each_ref().map(|r| r.value)).unwrap();
}

#[test]
fn refuses_an_event_nobody_predicted_even_where_everything_else_holds() {
    let prediction = Case::new().predict().unwrap();
    for (register, kind, data) in [
        (1, 0xa, b"QEMU FW CFG\0opt/evil".to_vec()),
        (1, 0xa, b"ACPI DATA".to_vec()),
        (2, 0x8000_0004, b"a driver".to_vec()),
        (3, 6, b"????".to_vec()),
        (4, 6, b"runtime".to_vec()),
    ] {
        let mut bytes = log_of(&prediction);
        bytes.truncate(bytes.len() - 64);
        let mut builder = LogBuilder { bytes };
        builder.event(register, kind, D, &data);
        let log = EventLog::parse(&builder.finish()).unwrap();
        let refused = prediction.check_log(&log);
        assert!(matches!(refused, Err(TdxError::UnknownEvent { .. })), "{refused:?}");
    }
}

#[test]
fn refuses_a_known_event_that_comes_once_too_often() {
    let prediction = Case::new().predict().unwrap();
    let mut bytes = log_of(&prediction);
    bytes.truncate(bytes.len() - 64);
    let mut builder = LogBuilder { bytes };
    builder.event(3, 6, D, &0x8f3b_22ecu32.to_le_bytes());
    let log = EventLog::parse(&builder.finish()).unwrap();
    assert!(matches!(
        prediction.check_log(&log),
        Err(TdxError::UnknownEvent { register: Rtmr::Rtmr2, index: 2, .. })
    ));
}

#[test]
fn refuses_a_log_that_lacks_the_last_event() {
    let mut prediction = Case::new().predict().unwrap();
    let full = prediction.clone();
    prediction.rtmr[2].events.pop();
    let log = EventLog::parse(&log_of(&prediction)).unwrap();
    let expected = TdxError::EventCount { register: Rtmr::Rtmr2, expected: 2, got: 1 };
    assert_eq!(full.check_log(&log), Err(expected));
}

#[test]
fn refuses_each_event_whose_digest_was_changed() {
    let prediction = Case::new().predict().unwrap();
    for (r, register) in [Rtmr::Rtmr0, Rtmr::Rtmr1, Rtmr::Rtmr2].into_iter().enumerate() {
        for index in 0..prediction.rtmr[r].events.len() {
            let mut changed = prediction.clone();
            changed.rtmr[r].events[index].digest.0[47] ^= 1;
            let log = EventLog::parse(&log_of(&changed)).unwrap();
            let refused = prediction.check_log(&log).unwrap_err();
            assert!(
                matches!(&refused, TdxError::EventDigest { register: at, index: i, .. }
                    if *at == register && *i == index),
                "{refused:?}"
            );
        }
    }
}

#[test]
fn refuses_two_events_that_were_exchanged() {
    let prediction = Case::new().predict().unwrap();
    let mut changed = prediction.clone();
    changed.rtmr[0].events.swap(5, 6);
    let log = EventLog::parse(&log_of(&changed)).unwrap();
    assert!(matches!(prediction.check_log(&log), Err(TdxError::EventDigest { index: 5, .. })));
}

#[test]
fn refuses_a_log_that_does_not_lead_to_the_quote() {
    let prediction = Case::new().predict().unwrap();
    let log = EventLog::parse(&log_of(&prediction)).unwrap();
    for index in 0..3 {
        let mut registers = prediction.rtmr.each_ref().map(|r| r.value);
        registers[index].0[0] ^= 1;
        assert!(matches!(log.check_replay(&registers), Err(TdxError::Replay { .. })));
    }
}

#[test]
fn refuses_a_log_with_runtime_events_of_the_firmware() {
    let mut builder = LogBuilder::new();
    builder.event(4, 6, D, b"x");
    let log = EventLog::parse(&builder.finish()).unwrap();
    let refused = log.check_replay(&[Sha384Digest::ZERO; 4]);
    assert!(matches!(refused, Err(TdxError::UnknownEvent { register: Rtmr::Rtmr3, .. })));
}

#[test]
fn refuses_an_empty_log_and_one_a_byte_over_the_limit() {
    assert_eq!(EventLog::parse(b""), Err(TdxError::Empty { what: "event log" }));
    let mut bytes = one_event();
    bytes.resize(MAX_LOG_BYTES, 0xff);
    assert!(EventLog::parse(&bytes).is_ok());
    bytes.push(0xff);
    assert!(matches!(EventLog::parse(&bytes), Err(TdxError::TooLarge { .. })));
}

#[test]
fn refuses_a_log_one_event_over_the_limit() {
    let log = |count| {
        let mut builder = LogBuilder::new();
        (0..count).for_each(|_| builder.event(1, 4, D, b""));
        EventLog::parse(&builder.finish())
    };
    assert_eq!(log(MAX_LOG_EVENTS).unwrap().events().len(), MAX_LOG_EVENTS);
    assert!(matches!(log(MAX_LOG_EVENTS + 1), Err(TdxError::TooLarge { .. })));
}

#[test]
fn refuses_an_event_one_byte_over_the_limit() {
    let log = |size| {
        let mut builder = LogBuilder::new();
        builder.event(1, 4, D, &vec![0; size]);
        EventLog::parse(&builder.finish())
    };
    assert!(log(MAX_EVENT_BYTES).is_ok());
    assert!(matches!(log(MAX_EVENT_BYTES + 1), Err(TdxError::TooLarge { what: "event data", .. })));
}

#[test]
fn refuses_registers_that_do_not_exist() {
    for register in [0, 5, u32::MAX] {
        let mut builder = LogBuilder::new();
        builder.event(register, 4, D, b"");
        let expected = TdxError::LogRegister { index: 0, got: register };
        assert_eq!(EventLog::parse(&builder.finish()), Err(expected));
    }
}

#[test]
fn refuses_an_event_with_another_digest_or_with_two() {
    for (offset, value) in [(8, 2), (8, 0), (12, 0x0b), (12, 0x04)] {
        let mut bytes = one_event();
        bytes[65 + offset] = value;
        assert!(matches!(EventLog::parse(&bytes), Err(TdxError::LogDigest { .. })));
    }
}

#[test]
fn refuses_bytes_hidden_behind_the_end_of_the_log() {
    let mut bytes = one_event();
    *bytes.last_mut().unwrap() = 0;
    assert!(matches!(EventLog::parse(&bytes), Err(TdxError::Malformed { .. })));
}

#[test]
fn refuses_an_event_that_extends_nothing() {
    let mut builder = LogBuilder::new();
    builder.event(1, 3, D, b"StartupLocality");
    assert!(matches!(EventLog::parse(&builder.finish()), Err(TdxError::Malformed { .. })));
}

#[test]
fn refuses_headers_of_other_formats() {
    // Type, signature, number of algorithms, algorithm, digest size, vendor length.
    for offset in [4, 32, 32 + 24, 32 + 28, 32 + 30, 32 + 32] {
        let mut bytes = one_event();
        bytes[offset] ^= 0x40;
        assert!(EventLog::parse(&bytes).is_err(), "offset {offset}");
    }
}

#[test]
fn a_second_kernel_and_a_stranger_before_it_are_not_the_kernel() {
    let (kind, path) = described("kernel");
    let mut builder = LogBuilder::new();
    builder.event(2, kind, D, &path);
    builder.event(2, kind, D, &path);
    let log = EventLog::parse(&builder.finish()).unwrap();
    assert!(log.events()[0].component.is_some() && log.events()[1].component.is_none());
    let mut builder = LogBuilder::new();
    builder.event(2, kind, D, b"some other device path, longer than the header of the event");
    builder.event(2, kind, D, &path);
    let log = EventLog::parse(&builder.finish()).unwrap();
    assert!(log.events().iter().all(|e| e.component.is_none()));
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn reads_a_log_whether_or_not_it_is_packed() {
    let log = log_of(&Case::new().predict().unwrap());
    let plain = EventLog::read(&log).unwrap();
    assert_eq!(EventLog::read(&gzip(&log)).unwrap(), plain);
}

#[test]
fn refuses_a_packed_log_that_is_cut_damaged_or_followed_by_something() {
    let packed = gzip(&log_of(&Case::new().predict().unwrap()));
    let refused = |bytes: &[u8], word: &str| match EventLog::read(bytes) {
        Err(TdxError::Malformed { what: "gzip file", reason, .. }) => {
            assert!(reason.contains(word), "{reason}");
        }
        other => panic!("{other:?}"),
    };
    refused(&packed[..packed.len() - 1], "cut");
    refused(&packed[..10], "cut");
    refused(&[packed.as_slice(), b"x"].concat(), "follow");
    refused(&[packed.as_slice(), packed.as_slice()].concat(), "follow");
    let mut damaged = packed.clone();
    let crc = packed.len() - 8;
    damaged[crc] ^= 1;
    refused(&damaged, "damaged");
}

#[test]
fn refuses_a_packed_log_one_byte_over_the_limit_without_unpacking_on() {
    let mut log = log_of(&Case::new().predict().unwrap());
    log.resize(MAX_LOG_BYTES, 0xff);
    assert!(EventLog::read(&gzip(&log)).is_ok());
    // A thousandth of it packed, sixteen times the limit unpacked.
    for size in [MAX_LOG_BYTES + 1, MAX_LOG_BYTES * 16] {
        log.resize(size, 0xff);
        let got = MAX_LOG_BYTES + 1;
        let what = "unpacked event log";
        let refused = EventLog::read(&gzip(&log));
        assert_eq!(refused, Err(TdxError::TooLarge { what, limit: MAX_LOG_BYTES, got }));
    }
    let packed = vec![0x1f; MAX_LOG_BYTES + 1];
    let refused = EventLog::read(&[&[0x1f, 0x8b, 8][..], &packed].concat());
    assert!(matches!(refused, Err(TdxError::TooLarge { what: "gzip file", .. })));
}
