//! Rules about an enclave: is it configured as pinned, is it a pinned one, which manifest and model
//! does it commit to. Everything but `debug` and `events` judges a verified report; those two read
//! the peer's words, and what they hand on is bound by a signature later.
//!
//! Field names are those of the Intel SDM, vol. 3D (SECS, REPORT).

use chrysalis_wire::{Digest, RuntimeEvent, UnixTime};

use super::worker::{boot_payloads, shown_names, usable};
use super::{Decision, Passed, Refused};
use crate::deny::{self, Denied};
use crate::enclave::{EnclaveReport, enclave_events_digest};
use crate::nvidia::{DeviceEvidence, DevicePins};
use crate::pins::{Contents, EnclavePin, Masked, PinnedIdentity, Pins, SgxPins};
use crate::quote::CutQuote;
use crate::text::printable;

/// Judges the claimed bit before any signature is checked, so that a debug enclave is named as one;
/// the DCAP verification refuses it again on verified bytes, and the pins cannot accept it.
pub(crate) fn debug(quote: &CutQuote) -> Decision<()> {
    let flags = quote.attributes();
    if flags & FLAG_DEBUG == 0 {
        return Ok(Passed::new((), format!("first byte of ATTRIBUTES is {flags:02x}")));
    }
    Refused::new(
        "E-SGX-DEBUG",
        "DEBUG (bit 1 of ATTRIBUTES) clear",
        format!("ATTRIBUTES begin with {flags:02x}: the host can read and change this enclave"),
        "never send anything to this worker; its operator must start it without sgx.debug",
    )
}

/// Hands on the section of the pins that the rules after it judge by. Without one the quote was
/// refused by its form; that is not relied on here.
pub(crate) fn attributes<'a>(
    report: &EnclaveReport,
    pins: Option<&'a SgxPins>,
) -> Decision<&'a SgxPins> {
    let (code, name, found) = ("E-SGX-ATTRIBUTES", "ATTRIBUTES.FLAGS", &report.flags);
    let list = pins.map(|pins| pins.attributes.as_slice()).unwrap_or_default();
    let passed = masked(code, name, "attributes", found, list)?;
    match pins {
        Some(pins) => Ok(Passed::new(pins, passed.detail)),
        None => Refused::new(code, "an [sgx] section in the pins", "none", "see the pins"),
    }
}

pub(crate) fn xfrm(report: &EnclaveReport, pins: &SgxPins) -> Decision<()> {
    masked("E-SGX-XFRM", "XFRM", "xfrm", &report.xfrm, &pins.xfrm)
}

pub(crate) fn misc_select(report: &EnclaveReport, pins: &SgxPins) -> Decision<()> {
    let (found, list) = (&report.misc_select, &pins.misc_select);
    masked("E-SGX-MISCSELECT", "MISCSELECT", "misc_select", found, list)
}

/// CONFIGID and CONFIGSVN are the host's choice, the two ids the signer's; without KSS all are zero.
pub(crate) fn config(report: &EnclaveReport, pins: &SgxPins) -> Decision<()> {
    if !report.reserved_zero {
        return Refused::new(
            "E-SGX-RESERVED",
            "zero in every byte of the report without a meaning",
            "others",
            "update this verifier: the report is of a CPU it does not know",
        );
    }
    let ids = [("ISVEXTPRODID", report.isv_ext_prod_id), ("ISVFAMILYID", report.isv_family_id)];
    for (name, value) in ids {
        if value != [0; 16] {
            return Refused::new(
                "E-SGX-EXTENDED-ID",
                format!("{name} zero"),
                hex::encode(value),
                "sign the enclave without extended ids; nothing here gives them a meaning",
            );
        }
    }
    let (id, svn) = (hex::encode(report.config_id), report.config_svn);
    if pins.config.iter().any(|pin| (pin.id, pin.svn) == (report.config_id, report.config_svn)) {
        let shown = if report.config_id == [0; 64] { "zero" } else { &id };
        return Ok(Passed::new(
            (),
            format!("CONFIGID {shown}, CONFIGSVN {svn}, one of {}", pins.config.len()),
        ));
    }
    Refused::new(
        "E-SGX-CONFIG",
        match pins.config.as_slice() {
            [] => "a pinned CONFIGID; the list is empty, which denies".to_owned(),
            [one] => format!("CONFIGID {}, CONFIGSVN {}", hex::encode(one.id), one.svn),
            many => {
                format!("one of the {} pairs of CONFIGID and CONFIGSVN in the pins", many.len())
            }
        },
        format!("CONFIGID {id}, CONFIGSVN {svn}"),
        "start the enclave without a configuration, or list it in sgx.config of the pins",
    )
}

/// Pins that name this enclave, of which those are left that are active and not denied. One that names
/// it in part, never.
pub(crate) fn enclave<'a>(
    report: &EnclaveReport,
    pins: &'a SgxPins,
    all: &Pins,
    now: UnixTime,
) -> Decision<Vec<Contents<'a>>> {
    let matching: Vec<&EnclavePin> =
        pins.workers.iter().filter(|pin| names(&pin.identity, report)).collect();
    let EnclaveReport { mrenclave, mrsigner, isv_prod_id, isv_svn, .. } = report;
    // A pin of a signer accepts builds that it does not name; one of them can be denied all the same.
    if let Some(reason) = deny::reason(all.denied(), &Denied::Mrenclave(*mrenclave)) {
        return Refused::new(
            "E-IMAGE-DENIED",
            "an enclave that the pins do not deny",
            format!("MRENCLAVE {mrenclave} is denied: {}", printable(reason)),
            "use another worker; the reason is the publisher's of the pins",
        );
    }
    let possible: Vec<Contents<'_>> = matching.iter().map(|pin| pin.contents()).collect();
    if let Some(first) = possible.first() {
        let active = usable(all, *first, &possible, now)?;
        let detail = format!(
            "MRENCLAVE {mrenclave}, MRSIGNER {mrsigner}, product {isv_prod_id}, security version \
             {isv_svn}; pinned as {}",
            shown_names(&active)
        );
        return Ok(Passed::new(active, detail));
    }
    let next = "if this enclave is meant to be accepted, measure it from its files and pin it";
    let Some((pin, distance)) =
        pins.workers.iter().map(|pin| (pin, distance(&pin.identity, report))).min_by_key(|p| p.1)
    else {
        return Refused::new(
            "E-SGX-NO-WORKERS",
            "a pinned enclave; the list is empty, which denies",
            format!("MRENCLAVE {mrenclave}"),
            "measure the enclave from its files and add an [[sgx.worker]] entry to the pins",
        );
    };
    let nearest = format!("(nearest pin {:?})", pin.name);
    match (pin.identity, distance) {
        (PinnedIdentity::Enclave { mrenclave: pinned }, _) => Refused::new(
            "E-MRENCLAVE",
            format!("MRENCLAVE {pinned} {nearest}"),
            format!("MRENCLAVE {mrenclave}"),
            next,
        ),
        (PinnedIdentity::Signer { mrsigner: pinned, .. }, Distance::OtherMeasurement) => {
            Refused::new(
                "E-MRSIGNER",
                format!("MRSIGNER {pinned} {nearest}"),
                format!("MRSIGNER {mrsigner}"),
                next,
            )
        }
        (PinnedIdentity::Signer { isv_prod_id: pinned, .. }, Distance::OtherProduct) => {
            Refused::new(
                "E-ISV-PROD-ID",
                format!("ISVPRODID {pinned} {nearest}"),
                format!("ISVPRODID {isv_prod_id}"),
                "the signer's key signs another product; do not use this worker",
            )
        }
        (PinnedIdentity::Signer { min_isv_svn, .. }, Distance::OldVersion) => Refused::new(
            "E-ISV-SVN",
            format!("ISVSVN {min_isv_svn} or more {nearest}"),
            format!("ISVSVN {isv_svn}"),
            "the operator must update: the signer has closed a hole since this build",
        ),
    }
}

/// The events an enclave commits to are exactly the boot events; gives the digest its quote must
/// carry, and their payloads. Nothing is believed until the quote is found to carry it.
pub(crate) fn events(events: &[RuntimeEvent]) -> Decision<(Digest, (String, String))> {
    let next = "the worker is faulty or of another version; do not use it";
    let digest = match enclave_events_digest(events) {
        Ok(digest) => digest,
        Err(e) => return Refused::new(e.code(), "a well formed event log", e.to_string(), next),
    };
    let payloads = boot_payloads(events, next)?;
    Ok(Passed::new((digest, payloads), format!("2 events give {digest}")))
}

/// An enclave has no device, and its quote commits to none.
pub(crate) fn no_device(pins: Option<&DevicePins>, shown: &[DeviceEvidence]) -> Decision<()> {
    match (pins, shown.len()) {
        (None, 0) => Ok(Passed::info((), "not checked: an enclave has no device".to_owned())),
        (None, number) => Refused::new(
            "E-GPU-UNASKED",
            "no device: no quote of an enclave commits to any",
            format!("{number} devices"),
            "the worker is faulty or of another version; do not use it",
        ),
        (Some(_), _) => Refused::new(
            "E-SGX-DEVICE",
            "the devices of the [device] section",
            "an enclave, which can have none",
            "keep workers with devices and workers in enclaves in two pins files",
        ),
    }
}

fn names(identity: &PinnedIdentity, report: &EnclaveReport) -> bool {
    match identity {
        PinnedIdentity::Enclave { mrenclave } => *mrenclave == report.mrenclave,
        PinnedIdentity::Signer { mrsigner, isv_prod_id, min_isv_svn } => {
            *mrsigner == report.mrsigner
                && *isv_prod_id == report.isv_prod_id
                && *min_isv_svn <= report.isv_svn
        }
    }
}

/// What keeps a pin from naming an enclave; nearest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Distance {
    OldVersion,
    OtherProduct,
    OtherMeasurement,
}

/// Of a pin that does not name the enclave.
fn distance(identity: &PinnedIdentity, report: &EnclaveReport) -> Distance {
    match identity {
        PinnedIdentity::Signer { mrsigner, isv_prod_id, .. } if *mrsigner == report.mrsigner => {
            if *isv_prod_id == report.isv_prod_id {
                Distance::OldVersion
            } else {
                Distance::OtherProduct
            }
        }
        _ => Distance::OtherMeasurement,
    }
}

/// Membership under a mask; an empty list denies.
fn masked<const N: usize>(
    code: &'static str,
    name: &str,
    field: &str,
    found: &[u8; N],
    list: &[Masked<N>],
) -> Decision<()> {
    if let Some(entry) = list.iter().find(|entry| entry.accepts(found)) {
        let mask = hex::encode(entry.mask());
        let detail =
            format!("{name} {} under mask {mask}, one of {}", hex::encode(found), list.len());
        return Ok(Passed::new((), detail));
    }
    let expected = match list {
        [] => format!("{name} from the pins; the list is empty, which denies"),
        [one] => {
            format!("{name} {} under mask {}", hex::encode(one.value()), hex::encode(one.mask()))
        }
        many => format!("{name} from the {} values in sgx.{field} of the pins", many.len()),
    };
    Refused::new(
        code,
        expected,
        hex::encode(found),
        "if this enclave is meant to be accepted so, add the value to [sgx] of the pins",
    )
}

const FLAG_DEBUG: u8 = 0x02;
