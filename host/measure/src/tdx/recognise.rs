//! Names the component of a logged event from its register, type and description. Recognising is
//! not believing: the digest decides. What is not recognised is refused by whoever checks.

use super::efi::{GLOBAL, IMAGE_SECURITY, utf16};
use super::event::{Component, Rtmr};

/// Recognises the events of one log, in order.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Recogniser {
    /// The three ACPI events have one description; they are told apart by their order.
    acpi_seen: usize,
    kernel_seen: bool,
}

impl Recogniser {
    pub(crate) fn recognise(
        &mut self,
        register: Rtmr,
        kind: u32,
        data: &[u8],
    ) -> Option<Component> {
        match (register, kind) {
            (Rtmr::Rtmr0, EV_EFI_HANDOFF_TABLES | EV_EFI_HANDOFF_TABLES2) => handoff(data),
            (Rtmr::Rtmr0, EV_EFI_PLATFORM_FIRMWARE_BLOB2) => Some(Component::VariableStore),
            (Rtmr::Rtmr0, EV_PLATFORM_CONFIG_FLAGS) => self.platform_config(data),
            (Rtmr::Rtmr0, EV_EFI_VARIABLE_DRIVER_CONFIG) => key(data),
            (Rtmr::Rtmr0, EV_EFI_VARIABLE_BOOT) => boot_variable(data),
            (Rtmr::Rtmr0 | Rtmr::Rtmr1, EV_SEPARATOR) if data == [0; 4] => {
                Some(Component::Separator)
            }
            (Rtmr::Rtmr1, EV_EFI_BOOT_SERVICES_APPLICATION) => self.kernel(data),
            (Rtmr::Rtmr1, EV_EFI_ACTION) => milestone(data),
            (Rtmr::Rtmr2, EV_EVENT_TAG) => tagged(data),
            _ => None,
        }
    }

    fn platform_config(&mut self, data: &[u8]) -> Option<Component> {
        if data == b"ACPI DATA" {
            let components = [Component::AcpiLoader, Component::AcpiRsdp, Component::AcpiTables];
            let component = components.get(self.acpi_seen).copied();
            self.acpi_seen = self.acpi_seen.saturating_add(1);
            return component;
        }
        let name = data.strip_prefix(b"QEMU FW CFG\0")?;
        let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
        match name.get(..end)? {
            b"BootMenu" => Some(Component::FwCfgBootMenu),
            b"etc/extra-pci-roots" => Some(Component::FwCfgExtraPciRoots),
            b"etc/boot-menu-wait" => Some(Component::FwCfgBootMenuWait),
            b"etc/reserved-memory-end" => Some(Component::FwCfgReservedMemoryEnd),
            b"opt/ovmf/X-PciMmio64Mb" => Some(Component::FwCfgPciMmio64Mb),
            b"bootorder" => Some(Component::FwCfgBootOrder),
            _ => None,
        }
    }

    /// The one application a direct boot starts: the device path QEMU's kernel loader makes.
    fn kernel(&mut self, data: &[u8]) -> Option<Component> {
        let path = data.get(IMAGE_LOAD_EVENT_PATH_AT..)?;
        let ours = path.starts_with(&KERNEL_PATH) && !self.kernel_seen;
        self.kernel_seen = true;
        ours.then_some(Component::Kernel)
    }
}

fn handoff(data: &[u8]) -> Option<Component> {
    if data.starts_with(b"\x09TdxTable\0") {
        return Some(Component::TdHob);
    }
    let guid_at = |guid: &[u8; 16]| data.windows(16).any(|w| w == guid);
    (guid_at(&SMBIOS3) || guid_at(&SMBIOS)).then_some(Component::Smbios)
}

fn key(data: &[u8]) -> Option<Component> {
    Some(match named_variable(data)? {
        (GLOBAL, "SecureBoot") => Component::SecureBoot,
        (GLOBAL, "PK") => Component::PlatformKey,
        (GLOBAL, "KEK") => Component::KeyExchangeKey,
        (IMAGE_SECURITY, "db") => Component::SignatureDb,
        (IMAGE_SECURITY, "dbx") => Component::ForbiddenDb,
        _ => return None,
    })
}

fn boot_variable(data: &[u8]) -> Option<Component> {
    Some(match named_variable(data)? {
        (GLOBAL, "BootOrder") => Component::BootOrder,
        (GLOBAL, "Boot0000") => Component::Boot0000,
        (GLOBAL, "Boot0001") => Component::Boot0001,
        _ => return None,
    })
}

/// Vendor and name of a UEFI_VARIABLE_DATA, if it is one of those above.
fn named_variable(data: &[u8]) -> Option<([u8; 16], &'static str)> {
    const NAMES: [&str; 8] =
        ["SecureBoot", "PK", "KEK", "db", "dbx", "BootOrder", "Boot0000", "Boot0001"];
    let vendor: [u8; 16] = data.get(..16)?.try_into().ok()?;
    let chars = u64::from_le_bytes(data.get(16..24)?.try_into().ok()?);
    let bytes = usize::try_from(chars).ok()?.checked_mul(2)?;
    let name = data.get(32..)?.get(..bytes)?;
    NAMES.into_iter().find(|n| utf16(n) == name).map(|n| (vendor, n))
}

fn milestone(data: &[u8]) -> Option<Component> {
    Some(match data {
        b"Calling EFI Application from Boot Option" => Component::CallingApplication,
        b"Exit Boot Services Invocation" => Component::ExitInvocation,
        b"Exit Boot Services Returned with Success" => Component::ExitReturned,
        _ => return None,
    })
}

/// Linux's tagged events: id, length, name.
fn tagged(data: &[u8]) -> Option<Component> {
    let id = u32::from_le_bytes(data.get(..4)?.try_into().ok()?);
    Some(match id {
        0x8f3b_22ed => Component::CommandLine,
        0x8f3b_22ec => Component::Initrd,
        _ => return None,
    })
}

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

/// Address, size, link address and length of the path come first.
const IMAGE_LOAD_EVENT_PATH_AT: usize = 32;

/// Vendor media node 1428f772-b64a-441e-b8c3-9ebdd7f893c7, file node `kernel`, end.
const KERNEL_PATH: [u8; 42] = [
    0x04, 0x03, 0x14, 0x00, 0x72, 0xf7, 0x28, 0x14, 0x4a, 0xb6, 0x1e, 0x44, 0xb8, 0xc3, 0x9e, 0xbd,
    0xd7, 0xf8, 0x93, 0xc7, 0x04, 0x04, 0x12, 0x00, b'k', 0, b'e', 0, b'r', 0, b'n', 0, b'e', 0,
    b'l', 0, 0, 0, 0x7f, 0xff, 0x04, 0x00,
];

/// SMBIOS3_TABLE_GUID: f2fd1544-9794-4a2c-992e-e5bbcf20e394.
const SMBIOS3: [u8; 16] = [
    0x44, 0x15, 0xfd, 0xf2, 0x94, 0x97, 0x2c, 0x4a, 0x99, 0x2e, 0xe5, 0xbb, 0xcf, 0x20, 0xe3, 0x94,
];

/// SMBIOS_TABLE_GUID: eb9d2d31-2d88-11d3-9a16-0090273fc14d.
const SMBIOS: [u8; 16] = [
    0x31, 0x2d, 0x9d, 0xeb, 0x88, 0x2d, 0xd3, 0x11, 0x9a, 0x16, 0x00, 0x90, 0x27, 0x3f, 0xc1, 0x4d,
];
