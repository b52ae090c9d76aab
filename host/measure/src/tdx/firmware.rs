//! RTMR0: what the firmware measures about its configuration, event by event. Each event is
//! computed from the shape and the firmware; nothing is skipped and nothing is a wildcard.

use super::digest::Sha384Digest;
use super::efi::{
    BOOT_MANAGER_MENU, GLOBAL, IMAGE_SECURITY, UI_APP, firmware_application, variable_data,
};
use super::error::TdxError;
use super::event::{Component, Event, Known};
use super::hob::td_hob;
use super::profile::FirmwareProfile;
use super::shape::{FwCfg, Shape};
use super::status::Status::{ConfirmedByHardware, CrossChecked, Inferred};
use super::tdvf::{SectionKind, Tdvf};
use super::varstore::StoredKeys;

/// Events of RTMR0, in order.
///
/// # Errors
/// [`TdxError`] where the firmware cannot run in the shape, carries boot variables of its own, or
/// the shape contradicts itself.
pub fn firmware_events(
    tdvf: &Tdvf<'_>,
    profile: FirmwareProfile,
    shape: &Shape,
) -> Result<Vec<Event>, TdxError> {
    if let Some(facts) = shape.tables.acpi_facts()
        && facts.processors != shape.vcpus
    {
        return Err(TdxError::Vcpus { declared: shape.vcpus, listed: facts.processors });
    }
    let cfv = tdvf.contents(tdvf.only(SectionKind::Cfv)?);
    let keys = StoredKeys::parse(cfv)?;
    let hob = td_hob(tdvf, shape.memory)?;
    let detail = format!("{} MiB", shape.memory.mib());
    let mut out = vec![Event::new(Component::TdHob, Sha384Digest::of(&hob), TD_HOB, detail)];
    out.push(variable_store(cfv, &keys));
    if profile.measures_fw_cfg() {
        fw_cfg_events(&shape.fw_cfg, &mut out);
    }
    key_events(profile, &keys, &mut out);
    out.push(Event::new(Component::Separator, Sha384Digest::of(&[0; 4]), ENCODING, "00000000"));
    let (acpi, smbios) = shape.tables.digests()?;
    let detail = format!("QEMU {}, {} vCPUs", shape.qemu, shape.vcpus);
    let components = [Component::AcpiLoader, Component::AcpiRsdp, Component::AcpiTables];
    for (component, digest) in components.into_iter().zip(acpi) {
        out.push(Event::new(component, digest, ACPI, detail.clone()));
    }
    if profile.measures_fw_cfg() {
        let machine = shape.tables.smbios().and_then(|s| s.machine()).unwrap_or_default();
        out.push(Event::new(Component::Smbios, smbios, SMBIOS, machine));
    }
    boot_options(profile, &mut out);
    Ok(out)
}

fn variable_store(cfv: &[u8], keys: &StoredKeys) -> Event {
    let digest = Sha384Digest::of(cfv);
    let blank = digest.0 == BLANK_STORE;
    let known = if blank { BLANK } else { STORE };
    let detail = match (keys.is_blank(), blank) {
        (true, true) => "blank, 0x84000 bytes",
        (true, false) => "no secure boot keys, not the usual blank store",
        (false, _) => "enrolled: it holds secure boot keys",
    };
    Event::new(Component::VariableStore, digest, known, detail)
}

fn fw_cfg_events(items: &FwCfg, out: &mut Vec<Event>) {
    let menu = boot_menu_digest(items.boot_menu);
    let on = if items.boot_menu { "on" } else { "off" };
    out.push(Event::new(Component::FwCfgBootMenu, menu, FW_CFG, on));
    let files = [
        (Component::FwCfgExtraPciRoots, &items.extra_pci_roots),
        (Component::FwCfgBootMenuWait, &items.boot_menu_wait),
        (Component::FwCfgReservedMemoryEnd, &items.reserved_memory_end),
        (Component::FwCfgPciMmio64Mb, &items.pci_mmio64_mb),
        (Component::FwCfgBootOrder, &items.bootorder),
    ];
    for (component, data) in files {
        let Some(data) = data else { continue };
        let known = if component == Component::FwCfgBootOrder { FW_CFG } else { FW_CFG_OTHER };
        let shown =
            String::from_utf8_lossy(data).trim_end_matches('\0').escape_default().to_string();
        out.push(Event::new(component, Sha384Digest::of(data), known, shown));
    }
}

/// Digest of the selector's two bytes.
pub(crate) fn boot_menu_digest(on: bool) -> Sha384Digest {
    Sha384Digest::of(&[u8::from(on), 0])
}

fn key_events(profile: FirmwareProfile, keys: &StoredKeys, out: &mut Vec<Event>) {
    let on = keys.secure_boot();
    let (state, known): (&[u8], Known) = match (profile.has_secure_boot(), on) {
        (false, _) => (&[], ENCODING),
        (true, false) => (&[0], SECURE_BOOT),
        (true, true) => (&[1], SECURE_BOOT),
    };
    let variable = |component, vendor: &[u8; 16], name, data: &[u8], known: Known| {
        let digest = Sha384Digest::of(&variable_data(vendor, name, data));
        Event::new(component, digest, known, format!("{} bytes", data.len()))
    };
    let key = |component, vendor: &[u8; 16], name, data: &[u8]| {
        let known = if data.is_empty() { ENCODING } else { ENROLLED };
        variable(component, vendor, name, data, known)
    };
    out.push(variable(Component::SecureBoot, &GLOBAL, "SecureBoot", state, known));
    out.push(key(Component::PlatformKey, &GLOBAL, "PK", &keys.platform_key));
    out.push(key(Component::KeyExchangeKey, &GLOBAL, "KEK", &keys.key_exchange_key));
    out.push(key(Component::SignatureDb, &IMAGE_SECURITY, "db", &keys.signature_db));
    out.push(key(Component::ForbiddenDb, &IMAGE_SECURITY, "dbx", &keys.forbidden_db));
}

/// The boot options the firmware makes for its own applications. EV_EFI_VARIABLE_BOOT is a digest
/// of the variable's data alone.
fn boot_options(profile: FirmwareProfile, out: &mut Vec<Event>) {
    let ui = ("UiApp", &UI_APP);
    let menu = ("BootManagerMenuApp", &BOOT_MANAGER_MENU);
    let (options, order, option): (&[_], Known, Known) = match profile {
        FirmwareProfile::Pre202505 => (&[ui], ENCODING, ENCODING),
        FirmwareProfile::Stable202505 | FirmwareProfile::Stable202508 => {
            (&[ui, menu], BOTH_OPTIONS, BOTH_OPTIONS)
        }
        FirmwareProfile::Stable202605 => (&[menu], BOOT_ORDER, BOOT_OPTION),
    };
    let numbers: Vec<u8> = (0u16..).take(options.len()).flat_map(u16::to_le_bytes).collect();
    let shown = hex::encode(&numbers);
    out.push(Event::new(Component::BootOrder, Sha384Digest::of(&numbers), order, shown));
    let components = [Component::Boot0000, Component::Boot0001];
    for (component, (name, file)) in components.into_iter().zip(options) {
        let digest = Sha384Digest::of(&firmware_application(name, file));
        out.push(Event::new(component, digest, option, *name));
    }
}

/// SHA-384 of the blank `OVMF_VARS_4M.fd`, as two logs from real TDs have it.
const BLANK_STORE: [u8; 48] = [
    0x34, 0x4b, 0xc5, 0x1c, 0x98, 0x0b, 0xa6, 0x21, 0xaa, 0xa0, 0x0d, 0xa3, 0xed, 0x74, 0x36, 0xf7,
    0xd6, 0xe5, 0x49, 0x19, 0x7d, 0xfe, 0x69, 0x95, 0x15, 0xdf, 0xa2, 0xc6, 0x58, 0x3d, 0x95, 0xe6,
    0x41, 0x2a, 0xf2, 0x1c, 0x09, 0x7d, 0x47, 0x31, 0x55, 0x87, 0x5f, 0xfd, 0x56, 0x1d, 0x67, 0x90,
];

const TD_HOB: Known = (
    ConfirmedByHardware,
    "the same computation gives the first event of two logs from real TDs (1024 and 2048 MiB)",
);
const BLANK: Known = (ConfirmedByHardware, "this very digest is in two logs from real TDs");
const STORE: Known =
    (CrossChecked, "hash of the raw volume, as hardware logs have it for the blank store");
const ENCODING: Known =
    (ConfirmedByHardware, "the same digest at the same place in two logs from real TDs");
const FW_CFG: Known =
    (ConfirmedByHardware, "another project publishes this digest from runs on hardware");
const FW_CFG_OTHER: Known = (Inferred, "read from edk2 source; no log with this file was seen");
const SECURE_BOOT: Known =
    (Inferred, "the variable's byte was seen under emulation, not in a TD yet");
const ENROLLED: Known =
    (Inferred, "the encoding is that of hardware logs; these keys were not seen in one yet");
const ACPI: Known = (
    CrossChecked,
    "three raw blobs as in hardware logs; their bytes were those the firmware read under emulation",
);
const SMBIOS: Known =
    (Inferred, "filter and place before BootOrder are read from edk2 source; not seen in a TD yet");
const BOTH_OPTIONS: Known =
    (Inferred, "these releases register UiApp and BootManagerMenuApp; not seen in a TD yet");
const BOOT_ORDER: Known = (CrossChecked, "read from the running firmware under emulation");
const BOOT_OPTION: Known =
    (Inferred, "read from the running firmware under emulation; not seen in a TD yet");
