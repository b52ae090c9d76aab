//! The event log a TD with exactly the predicted events would show (TCG "Crypto agile log").

use chrysalis_measure::tdx::{Component, Rtmr, TdxPrediction};

/// Writes the log of RTMR0 to RTMR2.
pub(crate) fn of(prediction: &TdxPrediction) -> Vec<u8> {
    let mut out = Vec::new();
    let words = |out: &mut Vec<u8>, words: &[u32]| {
        words.iter().for_each(|w| out.extend(w.to_le_bytes()));
    };
    words(&mut out, &[1, EV_NO_ACTION]);
    out.extend([0; 20]);
    words(&mut out, &[33]);
    out.extend(b"Spec ID Event03\0\0\0\0\0\0\x02\0\x02");
    out.extend([1, 0, 0, 0, 0x0c, 0, 48, 0, 0]);
    for (register, number) in [(Rtmr::Rtmr0, 1), (Rtmr::Rtmr1, 2), (Rtmr::Rtmr2, 3)] {
        for event in prediction.events(register) {
            let (kind, data) = described(event.component);
            words(&mut out, &[number, kind, 1]);
            out.extend([0x0c, 0]);
            out.extend(event.digest.0);
            words(&mut out, &[data.len() as u32]);
            out.extend(data);
        }
    }
    out.extend([0xff; 64]);
    out
}

/// Type and description of the event of a component, as firmware and kernel write them.
fn described(component: Component) -> (u32, Vec<u8>) {
    let variable = |vendor: &str, name: &str| {
        let mut out = hex::decode(vendor).unwrap();
        out.extend((name.len() as u64).to_le_bytes());
        out.extend(0u64.to_le_bytes());
        out.extend(name.encode_utf16().flat_map(u16::to_le_bytes));
        out
    };
    let key = |vendor, name| (EV_EFI_VARIABLE_DRIVER_CONFIG, variable(vendor, name));
    let boot = |name| (EV_EFI_VARIABLE_BOOT, variable(GLOBAL, name));
    let fw_cfg = |name: &str| (EV_PLATFORM_CONFIG_FLAGS, format!("QEMU FW CFG\0{name}").into());
    let action = |text: &str| (EV_EFI_ACTION, text.into());
    match component {
        Component::TdHob => (EV_EFI_HANDOFF_TABLES2, b"\x09TdxTable\0".to_vec()),
        Component::VariableStore => (EV_EFI_PLATFORM_FIRMWARE_BLOB2, Vec::new()),
        Component::FwCfgBootMenu => fw_cfg("BootMenu"),
        Component::FwCfgBootOrder => fw_cfg("bootorder"),
        Component::SecureBoot => key(GLOBAL, "SecureBoot"),
        Component::PlatformKey => key(GLOBAL, "PK"),
        Component::KeyExchangeKey => key(GLOBAL, "KEK"),
        Component::SignatureDb => key(IMAGE_SECURITY, "db"),
        Component::ForbiddenDb => key(IMAGE_SECURITY, "dbx"),
        Component::Separator => (EV_SEPARATOR, vec![0; 4]),
        Component::AcpiLoader | Component::AcpiRsdp | Component::AcpiTables => {
            (EV_PLATFORM_CONFIG_FLAGS, b"ACPI DATA".to_vec())
        }
        Component::Smbios => {
            (EV_EFI_HANDOFF_TABLES, hex::decode(format!("0100000000000000{SMBIOS3}")).unwrap())
        }
        Component::BootOrder => boot("BootOrder"),
        Component::Boot0000 => boot("Boot0000"),
        Component::Kernel => {
            let path = hex::decode(format!("{}{KERNEL_PATH}", "00".repeat(32))).unwrap();
            (EV_EFI_BOOT_SERVICES_APPLICATION, path)
        }
        Component::CallingApplication => action("Calling EFI Application from Boot Option"),
        Component::ExitInvocation => action("Exit Boot Services Invocation"),
        Component::ExitReturned => action("Exit Boot Services Returned with Success"),
        Component::CommandLine => (EV_EVENT_TAG, 0x8f3b_22edu32.to_le_bytes().to_vec()),
        Component::Initrd => (EV_EVENT_TAG, 0x8f3b_22ecu32.to_le_bytes().to_vec()),
        other => panic!("no shape of ours has an event of {}", other.title()),
    }
}

const EV_NO_ACTION: u32 = 0x3;
const EV_SEPARATOR: u32 = 0x4;
const EV_EVENT_TAG: u32 = 0x6;
const EV_PLATFORM_CONFIG_FLAGS: u32 = 0xa;
const EV_EFI_VARIABLE_DRIVER_CONFIG: u32 = 0x8000_0001;
const EV_EFI_VARIABLE_BOOT: u32 = 0x8000_0002;
const EV_EFI_BOOT_SERVICES_APPLICATION: u32 = 0x8000_0003;
const EV_EFI_ACTION: u32 = 0x8000_0007;
const EV_EFI_HANDOFF_TABLES: u32 = 0x8000_0009;
const EV_EFI_PLATFORM_FIRMWARE_BLOB2: u32 = 0x8000_000a;
const EV_EFI_HANDOFF_TABLES2: u32 = 0x8000_000b;

/// EFI_GLOBAL_VARIABLE, EFI_IMAGE_SECURITY_DATABASE and SMBIOS3_TABLE GUIDs, as in memory.
const GLOBAL: &str = "61dfe48bca93d211aa0d00e098032b8c";
const IMAGE_SECURITY: &str = "cbb219d73a3d9645a3bcdad00e67656f";
const SMBIOS3: &str = "4415fdf294972c4a992ee5bbcf20e394";

/// Device path of the kernel that QEMU hands over: vendor media node, file node `kernel`, end.
const KERNEL_PATH: &str =
    "0403140072f728144ab61e44b8c39ebdd7f893c7040412006b00650072006e0065006c0000007fff0400";
