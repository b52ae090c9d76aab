//! Rules about a worker's devices. Each judges the whole set and names the first device that breaks
//! it. Up to the signature rule everything is the peer's word; behind it, the device's.

use chrysalis_wire::UnixTime;

use super::{Decision, Passed, Refused};
use crate::nvidia::{
    ClaimedDevice, Device, DeviceError, DeviceEvidence, DevicePins, Golden, IdentifiedDevice,
    Record,
};
use crate::text::printable;

pub(crate) fn form<'a>(
    set: &'a [DeviceEvidence],
    pins: &DevicePins,
) -> Decision<Vec<ClaimedDevice<'a>>> {
    let wanted = pins.gpus.saturating_add(pins.switches);
    if set.len() != wanted {
        return Refused::new(
            "E-GPU-COUNT",
            format!("{wanted} devices ({} GPUs, {} switches)", pins.gpus, pins.switches),
            format!("{} devices", set.len()),
            COUNT,
        );
    }
    let claimed = each(set, ClaimedDevice::parse, "a report and a chain of known form", FORM)?;
    let sizes = list(set, |e| format!("{}+{} bytes", e.report.len(), e.chain.len()));
    Ok(Passed::new(claimed, sizes))
}

pub(crate) fn nonce(claimed: &[ClaimedDevice<'_>], nonce: &[u8; 32]) -> Decision<()> {
    for (index, device) in claimed.iter().enumerate() {
        let found = device.report().nonce;
        if found != *nonce {
            return Refused::new(
                "E-GPU-NONCE",
                format!("nonce {}", hex::encode(nonce)),
                format!("device {index}: nonce {}", hex::encode(found)),
                "the report is old, or was made for somebody else; ask for fresh evidence",
            );
        }
    }
    Ok(Passed::new((), hex::encode(nonce)))
}

pub(crate) fn chain<'a>(
    claimed: Vec<ClaimedDevice<'a>>,
    pins: &DevicePins,
    now: UnixTime,
) -> Decision<Vec<IdentifiedDevice<'a>>> {
    let expected = format!("five certificates up to {}, valid now", pins.root);
    let verify = |device: ClaimedDevice<'a>| device.verify_chain(&pins.root, now);
    let identified = each(claimed, verify, &expected, CHAIN)?;
    Ok(Passed::new(identified, pins.root.to_string()))
}

pub(crate) fn signature(identified: Vec<IdentifiedDevice<'_>>) -> Decision<Vec<Device>> {
    let expected = "ECDSA P-384 signatures by the leaves";
    let devices = each(identified, IdentifiedDevice::verify_report, expected, FORM)?;
    let names = list(&devices, |d| format!("{} {}", d.kind(), d.id()));
    Ok(Passed::new(devices, names))
}

pub(crate) fn firmware(devices: &[Device], pins: &DevicePins) -> Decision<()> {
    for (index, device) in devices.iter().enumerate() {
        let certified = device.certified_firmware();
        let expected = format!("device {index}: FWID {}", hex::encode(certified));
        match device.opaque().fwid {
            Some(stated) if stated == *certified => {}
            Some(stated) => {
                return Refused::new("E-GPU-FWID", expected, hex::encode(stated), CHAIN);
            }
            None if device.kind().is_switch() && pins.switches_without_firmware => {}
            None => {
                return Refused::new(
                    "E-GPU-FWID-MISSING",
                    expected,
                    "no FWID in the report",
                    "use a driver whose reports state it (550 or later)",
                );
            }
        }
    }
    let stated = list(devices, |device| match device.opaque().fwid {
        Some(id) => hex::encode(id),
        None => "not stated by the switch, accepted by the pins".to_owned(),
    });
    Ok(Passed::new((), stated))
}

pub(crate) fn kinds(devices: &[Device], pins: &DevicePins) -> Decision<()> {
    let switches = devices.iter().filter(|d| d.kind().is_switch()).count();
    let gpus = devices.len().saturating_sub(switches);
    let found = format!("{gpus} GPUs, {switches} switches");
    if (gpus, switches) != (pins.gpus, pins.switches) {
        let expected = format!("{} GPUs, {} switches", pins.gpus, pins.switches);
        return Refused::new("E-GPU-COUNT", expected, found, COUNT);
    }
    Ok(Passed::new((), found))
}

pub(crate) fn distinct(devices: &[Device]) -> Decision<()> {
    for (index, device) in devices.iter().enumerate() {
        let earlier = devices.iter().take(index);
        let same = |other: &Device| alike(marks(other), marks(device));
        if let Some(other) = earlier.into_iter().position(same) {
            return Refused::new(
                "E-GPU-DUPLICATE",
                "devices with different keys, ids and serial numbers",
                format!("devices {other} and {index} are both {}", printable(device.id())),
                "one device is shown as several; do not use this worker",
            );
        }
    }
    Ok(Passed::new((), list(devices, |d| d.id().to_owned())))
}

/// What tells devices apart: key, id, serial number.
type Marks<'a> = (&'a [u8; 97], &'a str, Option<&'a String>);

fn marks(device: &Device) -> Marks<'_> {
    (device.key(), device.id(), device.serials().first())
}

/// Any of the three would do if certificates are issued as they should be.
fn alike(one: Marks<'_>, other: Marks<'_>) -> bool {
    one.0 == other.0 || one.1 == other.1 || one.2 == other.2
}

pub(crate) fn denied(devices: &[Device], pins: &DevicePins) -> Decision<()> {
    for (index, device) in devices.iter().enumerate() {
        let denied = |serial: &&String| pins.denied_serials.contains(*serial);
        if let Some(serial) = device.serials().iter().find(denied) {
            return Refused::new(
                "E-GPU-DENIED",
                format!("none of the {} denied serial numbers", pins.denied_serials.len()),
                format!("device {index}: certificate {serial}"),
                "the pins deny this certificate; do not use this worker",
            );
        }
    }
    let leaves = list(devices, |d| d.serials().first().cloned().unwrap_or_default());
    Ok(Passed::new((), format!("{leaves}; {} denied", pins.denied_serials.len())))
}

pub(crate) fn mode(devices: &[Device], pins: &DevicePins) -> Decision<()> {
    let gpus = || devices.iter().enumerate().filter(|(_, d)| !d.kind().is_switch());
    let refused = gpus().find(|(_, gpu)| !pins.modes.contains(&gpu.opaque().mode));
    if let Some((index, gpu)) = refused {
        return Refused::new(
            "E-GPU-MODE",
            allowed(pins.modes.iter().map(ToString::to_string)),
            format!("device {index}: {}", gpu.opaque().mode),
            "start the GPUs in a pinned mode, or pin this one",
        );
    }
    let modes: Vec<String> = gpus().map(|(_, gpu)| gpu.opaque().mode.to_string()).collect();
    Ok(Passed::new((), modes.join("; ")))
}

pub(crate) fn driver(devices: &[Device], pins: &DevicePins) -> Decision<()> {
    for (index, device) in devices.iter().enumerate() {
        if drivers(device, pins).is_some_and(|candidates| candidates.is_empty()) {
            let stated = device.opaque().driver.as_deref().unwrap_or("no driver version");
            return Refused::new(
                "E-GPU-DRIVER",
                versions(&pins.drivers),
                format!("device {index}: {} {}", device.kind(), printable(stated)),
                GOLDEN,
            );
        }
    }
    let stated = list(devices, |d| match &d.opaque().driver {
        Some(version) => version.clone(),
        None => "none, a switch".to_owned(),
    });
    Ok(Passed::new((), stated))
}

pub(crate) fn vbios(devices: &[Device], pins: &DevicePins) -> Decision<()> {
    for (index, device) in devices.iter().enumerate() {
        if vbioses(device, pins).is_empty() {
            let opaque = device.opaque();
            let board = opaque.board.as_deref().unwrap_or("not stated");
            return Refused::new(
                "E-GPU-VBIOS",
                versions(&pins.vbioses),
                format!("device {index}: {} {} board {board}", device.kind(), opaque.vbios),
                GOLDEN,
            );
        }
    }
    Ok(Passed::new((), list(devices, |d| d.opaque().vbios.clone())))
}

/// A device passes with one driver set and one VBIOS set that hold as a whole and together know
/// every record that is not zero; values of two sets for one part never mix.
pub(crate) fn records(devices: &[Device], pins: &DevicePins) -> Decision<()> {
    for (index, device) in devices.iter().enumerate() {
        // A part without a set of its own, the driver of a switch, adds nothing to compare with.
        let drivers: Vec<Option<&Golden>> = match drivers(device, pins) {
            Some(candidates) => candidates.into_iter().map(Some).collect(),
            None => vec![None],
        };
        let vbioses = vbioses(device, pins);
        let pairs = drivers.iter().flat_map(|d| vbioses.iter().map(move |v| (*d, *v)));
        let mut first = None;
        let fits = pairs.into_iter().any(|(driver, vbios)| {
            let sets: Vec<&Golden> = driver.into_iter().chain([vbios]).collect();
            match compare(device.records(), &sets) {
                Ok(()) => true,
                Err(fault) => {
                    first.get_or_insert(fault);
                    false
                }
            }
        });
        if !fits {
            let fault = first.unwrap_or_else(Fault::without_sets);
            let found = format!("device {index}: {}", fault.found);
            return Refused::new(fault.code, fault.expected, found, GOLDEN);
        }
    }
    let measured = |d: &Device| d.records().iter().filter(|r| **r != ZERO).count();
    let counts = list(devices, |d| {
        let all = d.records().len();
        format!("{} of {all} records not zero, all with golden values", measured(d))
    });
    Ok(Passed::new((), counts))
}

/// Why records and golden sets do not fit.
struct Fault {
    code: &'static str,
    expected: String,
    found: String,
}

impl Fault {
    fn without_sets() -> Self {
        let (code, found) = ("E-GPU-RECORD", "none that is for this device".to_owned());
        Self { code, expected: "a driver and a VBIOS set of golden values".to_owned(), found }
    }
}

fn compare(records: &[Record], sets: &[&Golden]) -> Result<(), Fault> {
    for (index, values) in sets.iter().flat_map(|set| &set.records) {
        let at = usize::from(*index).checked_sub(1);
        let found = at.and_then(|at| records.get(at));
        if found.is_none_or(|found| !values.contains(found)) {
            return Err(Fault {
                code: "E-GPU-RECORD",
                expected: format!("record {index}: {}", allowed(values.iter().map(hex::encode))),
                found: found.map_or_else(|| "no such record".to_owned(), hex::encode),
            });
        }
    }
    for (index, record) in (1u8..).zip(records) {
        if *record != ZERO && !sets.iter().any(|set| set.records.contains_key(&index)) {
            return Err(Fault {
                code: "E-GPU-UNLISTED",
                expected: format!("record {index}: zero, or a golden value"),
                found: format!("record {index}: {}", hex::encode(record)),
            });
        }
    }
    Ok(())
}

/// Driver sets for a device; `None` for a switch that states no driver, which has none to pin.
fn drivers<'a>(device: &Device, pins: &'a DevicePins) -> Option<Vec<&'a Golden>> {
    let opaque = device.opaque();
    match &opaque.driver {
        None if device.kind().is_switch() => None,
        None => Some(Vec::new()),
        Some(version) => Some(candidates(&pins.drivers, device, version)),
    }
}

fn vbioses<'a>(device: &Device, pins: &'a DevicePins) -> Vec<&'a Golden> {
    candidates(&pins.vbioses, device, &device.opaque().vbios)
}

fn candidates<'a>(sets: &'a [Golden], device: &Device, version: &str) -> Vec<&'a Golden> {
    let board = device.opaque().board.as_deref();
    sets.iter().filter(|set| set.is_for(device.kind(), version, board)).collect()
}

/// Applies a step to every device, or names the first it refuses.
fn each<T, U>(
    set: impl IntoIterator<Item = T>,
    step: impl Fn(T) -> Result<U, DeviceError>,
    expected: &str,
    next_step: &'static str,
) -> Result<Vec<U>, Refused> {
    let refuse = |index: usize, error: DeviceError| Refused {
        code: error.code(),
        expected: expected.to_owned(),
        found: printable(&format!("device {index}: {error}")),
        next_step,
    };
    let steps = set.into_iter().enumerate();
    steps.map(|(index, device)| step(device).map_err(|error| refuse(index, error))).collect()
}

fn list<T>(set: &[T], show: impl Fn(&T) -> String) -> String {
    set.iter().map(show).collect::<Vec<_>>().join("; ")
}

fn versions(sets: &[Golden]) -> String {
    allowed(sets.iter().map(|set| {
        let board = set.board.as_deref().map(|b| format!(" board {b}")).unwrap_or_default();
        format!("{} {}{board}", set.kind, set.version)
    }))
}

fn allowed(values: impl Iterator<Item = String>) -> String {
    let values: Vec<String> = values.take(MAX_SHOWN_VALUES).collect();
    if values.is_empty() {
        "a pinned value; the list is empty, which denies".to_owned()
    } else {
        format!("one of {}", values.join(", "))
    }
}

const ZERO: Record = [0; 48];
/// Most pinned values a refusal lists.
const MAX_SHOWN_VALUES: usize = 8;
const COUNT: &str = "show every device of the worker, or pin the number it has";
const FORM: &str = "ask for fresh evidence; a device that keeps failing must not be used";
const CHAIN: &str = "this is no device of the pinned root; do not use this worker";
const GOLDEN: &str = "if this version is meant to be accepted, import NVIDIA's manifest for it";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_mark_in_common_makes_one_device_of_two() {
        let serials = ["a", "b"].map(str::to_owned);
        let one = (&[1; 97], "id 1", Some(&serials[0]));
        assert!(!alike(one, (&[2; 97], "id 2", Some(&serials[1]))));
        assert!(alike(one, (&[1; 97], "id 2", Some(&serials[1]))));
        assert!(alike(one, (&[2; 97], "id 1", Some(&serials[1]))));
        assert!(alike(one, (&[2; 97], "id 2", Some(&serials[0]))));
    }
}
