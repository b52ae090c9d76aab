//! Names the cause of a difference from the event it begins at and from what the prediction says it
//! was computed from. Where only a register's value is known, single changes are tried: a value
//! that one of them explains is explained, any other is left open.

use super::super::boot::load_options_digest;
use super::super::digest::Sha384Digest;
use super::super::event::{Component, Rtmr};
use super::super::firmware::boot_menu_digest;
use super::super::hob::MemorySize;
use super::super::predict::Facts;
use super::super::profile::FirmwareProfile;
use super::cause::Cause;
use super::side::{Side, SideEvent};

/// A cause and how it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) cause: Cause,
    pub(crate) certain: bool,
    pub(crate) detail: String,
    pub(crate) also: Vec<Cause>,
}

impl Named {
    pub(crate) const fn certain(cause: Cause, detail: String) -> Self {
        Self { cause, certain: true, detail, also: Vec::new() }
    }

    /// The usual cause, and the others that are possible.
    fn usual(cause: Cause, also: &[Cause]) -> Self {
        Self { cause, certain: false, detail: String::new(), also: also.to_vec() }
    }
}

/// MRTD differs.
pub(crate) fn mrtd(expected: &Side, found: &Side) -> Named {
    let swapped = |a: &Side, b: &Side| a.other_mrtd.is_some() && a.other_mrtd == b.mrtd;
    if swapped(expected, found) || swapped(found, expected) {
        let detail = "the values are those of one firmware file in the two orders".to_owned();
        return Named::certain(Cause::PageOrder, detail);
    }
    let detail = both(expected, found).map_or_else(String::new, |(a, b)| {
        format!("firmware SHA-256 {} became {}", a.firmware_sha256, b.firmware_sha256)
    });
    Named::certain(Cause::FirmwareBuild, detail)
}

/// The first event that differs; a side without it has fewer events.
pub(crate) fn event(
    expected: &Side,
    found: &Side,
    left: Option<&SideEvent>,
    right: Option<&SideEvent>,
) -> Named {
    let (a, b) = (left.and_then(|e| e.component), right.and_then(|e| e.component));
    if let Some(stranger) = [left, right].into_iter().flatten().find(|e| e.component.is_none()) {
        return Named::certain(Cause::UnknownEvent, stranger.detail.clone());
    }
    let profiles = both(expected, found).filter(|(a, b)| a.profile != b.profile);
    match (a, b) {
        (Some(a), Some(b)) if a == b => same_component(a, expected, found, left, right),
        _ if profiles.is_some() => other_profile(profiles),
        (Some(a), Some(b)) => other_component(a, b),
        (None, Some(extra)) => {
            let cause = fw_cfg_cause(extra).unwrap_or(Cause::UnknownEvent);
            Named::certain(cause, format!("{} is there as well", extra.title()))
        }
        (Some(missing), None) => {
            Named::certain(Cause::MissingEvent, format!("{} is missing", missing.title()))
        }
        (None, None) => Named::usual(Cause::Unnamed, &[]),
    }
}

/// Two different components at one place: one side has an event more.
fn other_component(a: Component, b: Component) -> Named {
    // The fw_cfg items are the only events a host can add and remove at will.
    let (cause, what) = match (fw_cfg_cause(a), fw_cfg_cause(b)) {
        (_, Some(cause)) => (cause, format!("{} was added", b.title())),
        (Some(cause), None) => (cause, format!("{} is missing", a.title())),
        (None, None) => {
            (Cause::MissingEvent, format!("{} stands where {} should", b.title(), a.title()))
        }
    };
    Named::certain(cause, what)
}

const fn fw_cfg_cause(component: Component) -> Option<Cause> {
    Some(match component {
        Component::FwCfgBootMenu => Cause::BootMenu,
        Component::FwCfgBootOrder => Cause::BootOrder,
        Component::FwCfgPciMmio64Mb => Cause::MmioWindow,
        Component::FwCfgExtraPciRoots
        | Component::FwCfgBootMenuWait
        | Component::FwCfgReservedMemoryEnd => Cause::FwCfgFile,
        _ => return None,
    })
}

fn same_component(
    component: Component,
    expected: &Side,
    found: &Side,
    left: Option<&SideEvent>,
    right: Option<&SideEvent>,
) -> Named {
    if let Some(cause) = fw_cfg_cause(component) {
        return Named::certain(cause, changed(left, right));
    }
    let profiles = both(expected, found).filter(|(a, b)| a.profile != b.profile);
    match component {
        Component::TdHob => memory(expected, found, left, right),
        Component::VariableStore => Named::certain(Cause::VariableStore, changed(left, right)),
        Component::SecureBoot if profiles.is_some() => other_profile(profiles),
        Component::SecureBoot
        | Component::PlatformKey
        | Component::KeyExchangeKey
        | Component::SignatureDb
        | Component::ForbiddenDb => Named::certain(Cause::SecureBootKeys, changed(left, right)),
        Component::AcpiLoader | Component::AcpiRsdp | Component::AcpiTables => {
            acpi(expected, found)
        }
        Component::Smbios => smbios(expected, found),
        Component::BootOrder | Component::Boot0000 | Component::Boot0001 => {
            if profiles.is_some() {
                other_profile(profiles)
            } else {
                Named::usual(Cause::FirmwareProfile, &[Cause::VariableStore])
            }
        }
        Component::Kernel => Named::certain(Cause::Kernel, String::new()),
        Component::CommandLine => command_line(expected, found, left, right),
        Component::Initrd => Named::certain(Cause::Initrd, String::new()),
        Component::Manifest => match both(expected, found) {
            // A manifest names its model: the model is the change, the digest follows.
            Some((a, b)) if a.model_root != b.model_root => Named {
                also: vec![Cause::Manifest],
                ..Named::certain(
                    Cause::Model,
                    format!("model root {} became {}", a.model_root, b.model_root),
                )
            },
            _ => Named::certain(Cause::Manifest, changed(left, right)),
        },
        Component::ModelRoot => Named::certain(Cause::Model, changed(left, right)),
        // Constants: another boot path, since no input of ours changes them.
        _ => Named::certain(Cause::UnknownEvent, component.title().to_owned()),
    }
}

fn memory(
    expected: &Side,
    found: &Side,
    left: Option<&SideEvent>,
    right: Option<&SideEvent>,
) -> Named {
    let size = |side: &Side, other: &Side, event: Option<&SideEvent>| {
        let known = side.facts.as_ref().map(|f| f.memory_bytes >> 20);
        let solved = || {
            let layout = &other.facts.as_ref()?.hob;
            Some(layout.memory_of(&event?.digest)?.mib())
        };
        known.or_else(solved)
    };
    let sizes = (size(expected, found, left), size(found, expected, right));
    match sizes {
        (Some(a), Some(b)) if a != b => {
            Named::certain(Cause::MemorySize, format!("{a} MiB became {b} MiB"))
        }
        // The same memory, mapped for other firmware.
        (Some(_), Some(_)) => {
            Named::certain(Cause::FirmwareBuild, "its memory layout differs".into())
        }
        _ => Named::usual(Cause::MemorySize, &[Cause::FirmwareBuild]),
    }
}

fn acpi(expected: &Side, found: &Side) -> Named {
    let possible = [Cause::QemuVersion, Cause::VcpuCount, Cause::PciDevices, Cause::MmioWindow];
    let Some((a, b)) = both(expected, found) else {
        return Named::usual(Cause::AcpiOutsideShape, &possible);
    };
    let mut causes = Vec::new();
    if a.vcpus != b.vcpus {
        causes.push((Cause::VcpuCount, format!("{} vCPUs became {}", a.vcpus, b.vcpus)));
    }
    if a.qemu != b.qemu {
        causes.push((Cause::QemuVersion, format!("QEMU {} became {}", a.qemu, b.qemu)));
    }
    if let (Some(x), Some(y)) = (&a.acpi, &b.acpi)
        && x.mmio64 != y.mmio64
    {
        causes
            .push((Cause::MmioWindow, format!("{} became {}", window(x.mmio64), window(y.mmio64))));
    }
    if a.memory_bytes != b.memory_bytes {
        causes.push((Cause::MemorySize, String::new()));
    }
    let only_windows = matches!((&a.acpi, &b.acpi), (Some(x), Some(y))
        if x.without_windows == y.without_windows);
    if causes.is_empty() && !only_windows {
        return Named::certain(Cause::PciDevices, "same QEMU, memory and vCPUs".to_owned());
    }
    let mut causes = causes.into_iter();
    let Some((cause, detail)) = causes.next() else {
        return Named::usual(Cause::AcpiOutsideShape, &possible);
    };
    Named { also: causes.map(|(c, _)| c).collect(), ..Named::certain(cause, detail) }
}

fn window(window: Option<[u64; 2]>) -> String {
    window.map_or_else(|| "no window".to_owned(), |[first, last]| format!("{first:#x}-{last:#x}"))
}

fn smbios(expected: &Side, found: &Side) -> Named {
    let possible = [Cause::MachineType, Cause::Smbios, Cause::VcpuCount];
    let Some((a, b)) = both(expected, found) else {
        return Named::usual(Cause::ProcessorId, &possible);
    };
    if a.processor_id != b.processor_id && a.smbios_without_processor == b.smbios_without_processor
    {
        let id = |f: &Facts| f.processor_id.map_or_else(String::new, |id| format!("{id:#x}"));
        return Named::certain(Cause::ProcessorId, format!("{} became {}", id(a), id(b)));
    }
    if a.machine != b.machine {
        let called = |f: &Facts| f.machine.clone().unwrap_or_default();
        let detail = format!("{} became {}", called(a), called(b));
        return Named::certain(Cause::MachineType, detail);
    }
    let mut named = Named::certain(Cause::Smbios, String::new());
    for (differs, cause) in [
        (a.vcpus != b.vcpus, Cause::VcpuCount),
        (a.memory_bytes != b.memory_bytes, Cause::MemorySize),
        (a.firmware_sha256 != b.firmware_sha256, Cause::FirmwareBuild),
    ] {
        if differs {
            named.also.push(cause);
        }
    }
    named
}

fn command_line(
    expected: &Side,
    found: &Side,
    left: Option<&SideEvent>,
    right: Option<&SideEvent>,
) -> Named {
    if let Some((a, b)) = both(expected, found) {
        if a.cmdline == b.cmdline {
            return other_profile(Some((a, b)));
        }
        return Named::certain(
            Cause::CommandLine,
            format!("{:?} became {:?}", a.cmdline, b.cmdline),
        );
    }
    let sides = [(&expected.facts, right), (&found.facts, left)];
    for (facts, other) in sides {
        let (Some(facts), Some(other)) = (facts, other) else { continue };
        if let Some(named) = command_line_forms(facts).find(|(d, _)| *d == other.digest) {
            return named.1;
        }
    }
    Named::certain(Cause::CommandLine, String::new())
}

/// What one mistake makes of a command line.
fn command_line_forms(facts: &Facts) -> impl Iterator<Item = (Sha384Digest, Named)> {
    FirmwareProfile::ALL.into_iter().flat_map(|profile| {
        let plain = profile.load_options(&facts.cmdline);
        let newline = profile.load_options(&format!("{}\n", facts.cmdline));
        let form = format!("the form of profile {profile}");
        [
            (load_options_digest(&plain), Named::certain(Cause::FirmwareProfile, form)),
            (
                load_options_digest(&newline),
                Named::certain(Cause::CommandLine, "a trailing newline was added".to_owned()),
            ),
        ]
    })
}

/// Only values: tries single changes of the side whose events are known.
pub(crate) fn without_events(register: Rtmr, expected: &Side, found: &Side) -> Named {
    for (known, other) in [(expected, found), (found, expected)] {
        let (Some(events), Some(facts)) = (known.events(register), known.facts.as_ref()) else {
            continue;
        };
        let Some(value) = other.register(register) else { continue };
        let digests: Vec<_> = events.iter().map(|e| (e.component, e.digest)).collect();
        if let Some(named) = single_change(register, facts, &digests, value) {
            return named;
        }
    }
    match register {
        Rtmr::Rtmr0 => Named::usual(
            Cause::Unnamed,
            &[
                Cause::QemuVersion,
                Cause::VcpuCount,
                Cause::MemorySize,
                Cause::PciDevices,
                Cause::VariableStore,
                Cause::ProcessorId,
            ],
        ),
        Rtmr::Rtmr1 => Named::usual(Cause::Kernel, &[]),
        Rtmr::Rtmr2 => Named::usual(Cause::CommandLine, &[Cause::Initrd]),
        Rtmr::Rtmr3 => Named::usual(Cause::Manifest, &[Cause::Model]),
    }
}

type Digests = [(Option<Component>, Sha384Digest)];

fn single_change(
    register: Rtmr,
    facts: &Facts,
    events: &Digests,
    value: Sha384Digest,
) -> Option<Named> {
    let with = |component: Component, digest: Option<Sha384Digest>| {
        let replaced = events
            .iter()
            .filter_map(|(c, d)| if *c == Some(component) { digest } else { Some(*d) });
        let replaced: Vec<_> = replaced.collect();
        Sha384Digest::replay(&replaced) == value
    };
    match register {
        Rtmr::Rtmr0 => {
            if with(Component::FwCfgBootMenu, Some(boot_menu_digest(true))) {
                return Some(Named::certain(Cause::BootMenu, "off became on".to_owned()));
            }
            if with(Component::FwCfgBootOrder, None) {
                let detail = "fw_cfg bootorder is missing".to_owned();
                return Some(Named::certain(Cause::BootOrder, detail));
            }
            MemorySize::usual().find_map(|memory| {
                let digest = Sha384Digest::of(&facts.hob.hob(memory).ok()?);
                with(Component::TdHob, Some(digest)).then(|| {
                    let was = facts.memory_bytes >> 20;
                    let detail = format!("{was} MiB became {} MiB", memory.mib());
                    Named::certain(Cause::MemorySize, detail)
                })
            })
        }
        Rtmr::Rtmr2 => command_line_forms(facts)
            .find(|(digest, _)| with(Component::CommandLine, Some(*digest)))
            .map(|(_, named)| named),
        Rtmr::Rtmr1 | Rtmr::Rtmr3 => None,
    }
}

fn other_profile(profiles: Option<(&Facts, &Facts)>) -> Named {
    let detail = profiles
        .map_or_else(String::new, |(a, b)| format!("profile {} became {}", a.profile, b.profile));
    Named::certain(Cause::FirmwareProfile, detail)
}

fn both<'a>(expected: &'a Side, found: &'a Side) -> Option<(&'a Facts, &'a Facts)> {
    expected.facts.as_ref().zip(found.facts.as_ref())
}

fn changed(left: Option<&SideEvent>, right: Option<&SideEvent>) -> String {
    match (left, right) {
        (Some(a), Some(b)) if a.detail != b.detail => format!("{} became {}", a.detail, b.detail),
        _ => String::new(),
    }
}
