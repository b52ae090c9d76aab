//! Rules about the worker: which image, bound to which session, with which manifest, model and
//! keys. The register values are verified; document, keyset, manifest and event log are the peer's
//! words until a rule here ties them to a register or to `report_data`.

use std::collections::BTreeSet;

use chrysalis_wire::attest::{EVENT_MANIFEST, EVENT_MODEL_ROOT};
use chrysalis_wire::{
    AttestationDocument, Digest, KeyId, KeyRole, Keyset, RuntimeEvent, SealKeyEntry, SuiteId,
    UnixTime, WorkerManifest,
};
use sha2::{Digest as _, Sha256};

use super::{Decision, Passed, Refused};
use crate::binding::{Binding, ReportData, Role, Session, keyset_digest};
use crate::document::Document;
use crate::events::replay_rtmr;
use crate::measurement::Measurement;
use crate::nvidia::{DeviceEvidence, DevicePins, device_digest};
use crate::pins::{Contents, Pins, WorkerPin};
use crate::text::printable;

pub(crate) fn document(doc: &AttestationDocument) -> Decision<Document<'_>> {
    match Document::parse(doc) {
        Ok(document) => {
            let detail = format!(
                "says platform {:?}; keyset {} bytes, manifest {} bytes, {} events",
                printable(&doc.platform),
                document.keyset.len(),
                document.manifest.len(),
                document.events.len()
            );
            Ok(Passed::new(document, detail))
        }
        Err((expected, found)) => Refused::new(
            "E-DOCUMENT",
            expected,
            found,
            "the peer does not speak this version of the protocol; update one of the two",
        ),
    }
}

/// Pins whose image registers all match, never a mix of several pins; of those, the ones that are
/// active and not denied.
pub(crate) fn image<'a>(
    pins: &'a Pins,
    found: &Measurement,
    image_hash: Option<Digest>,
    now: UnixTime,
) -> Decision<Vec<Contents<'a>>> {
    let [rtmr0, rtmr1, rtmr2, _] = &found.rtmr;
    let registers = [&found.mrtd, rtmr0, rtmr1, rtmr2];
    let matching: Vec<&WorkerPin> =
        pins.workers().iter().filter(|pin| pin.registers() == registers).collect();
    let possible: Vec<Contents<'_>> = matching.iter().map(|pin| pin.contents()).collect();
    if let Some(first) = possible.first() {
        let active = usable(pins, *first, &possible, now)?;
        let hash = image_hash.map(|hash| format!("; Cocoon image hash {hash}")).unwrap_or_default();
        let detail = format!("pinned as {}{hash}", shown_names(&active));
        return Ok(Passed::new(active, detail));
    }
    let equal =
        |pin: &&WorkerPin| pin.registers().iter().zip(registers).filter(|(a, b)| **a == *b).count();
    let Some(nearest) = pins.workers().iter().max_by_key(equal) else {
        return Refused::new(
            "E-NO-WORKERS",
            "a pinned worker; the list is empty, which denies",
            format!("mrtd {}", hex::encode(found.mrtd)),
            "measure the worker from its files and add a [[worker]] entry to the pins",
        );
    };
    let named = REGISTERS.iter().zip(nearest.registers().into_iter().zip(registers));
    let differing: Vec<_> = named.filter(|(_, (pinned, got))| pinned != got).collect();
    let all: Vec<&str> = differing.iter().map(|((_, name), _)| *name).collect();
    let Some(((code, name), (pinned, got))) = differing.first() else {
        // Not reachable: a pin without a difference was in `matching`.
        return Refused::new("E-MRTD", "registers of one pin", "none that match", "see the pins");
    };
    Refused::new(
        code,
        format!("{name} {} (nearest pin {:?})", hex::encode(pinned), nearest.name),
        format!("{name} {}; registers that differ: {}", hex::encode(got), all.join(", ")),
        "if this worker is meant to be accepted, measure it from its files and pin the result",
    )
}

/// What remains of the pins of an image: those that are active and not denied. `first` is one of them.
pub(super) fn usable<'a>(
    pins: &Pins,
    first: Contents<'a>,
    matching: &[Contents<'a>],
    now: UnixTime,
) -> Result<Vec<Contents<'a>>, Refused> {
    let allowed: Vec<Contents<'_>> =
        matching.iter().copied().filter(|pin| pin.denied(pins.denied()).is_none()).collect();
    if allowed.is_empty() {
        let reason = first.denied(pins.denied()).unwrap_or_default();
        return Err(Refused {
            code: "E-IMAGE-DENIED",
            expected: "a worker that the pins do not deny".to_owned(),
            found: format!("pin {:?} is denied: {}", printable(first.name), printable(reason)),
            next_step: "use another worker; the reason is the publisher's of the pins",
        });
    }
    let active: Vec<Contents<'_>> =
        allowed.iter().copied().filter(|pin| pin.activates_at.is_none_or(|at| at <= now)).collect();
    if active.is_empty() {
        let at = allowed.iter().filter_map(|pin| pin.activates_at).min().unwrap_or(now);
        return Err(Refused {
            code: "E-PIN-INACTIVE",
            expected: format!("a pin that is active at {}", now.0),
            found: format!("pin {:?} is active from {}", printable(first.name), at.0),
            next_step: "wait until the pin is active, and check this machine's clock",
        });
    }
    Ok(active)
}

/// The names of pins, for a transcript.
pub(super) fn shown_names(pins: &[Contents<'_>]) -> String {
    let names: Vec<&str> = pins.iter().map(|pin| pin.name).collect();
    printable(&names.join(", "))
}

/// Recomputes the expected value from the verifier's own session; there is no way to leave it out.
pub(crate) fn report_data(
    found: &[u8; 64],
    prover: Role,
    session: &Session,
    document: &Document<'_>,
    device_digest: Digest,
) -> Decision<Digest> {
    let keyset_digest = keyset_digest(&document.keyset);
    let binding = Binding {
        role: prover,
        tls_spki: session.tls_spki,
        nonce: session.nonce,
        exporter: session.exporter,
        keyset_digest,
        device_digest,
    };
    let expected = document.path.report_data(&binding.leaf());
    if expected.matches(found) {
        let (nonce, path) = (hex::encode(session.nonce), &document.path);
        let detail = format!("nonce {nonce}, keyset {keyset_digest}, {path}");
        return Ok(Passed::new(keyset_digest, detail));
    }
    Refused::new(
        "E-REPORT-DATA",
        hex::encode(expected.0),
        hex::encode(found),
        "the evidence was made for another connection, nonce or keyset: it is old, relayed or \
         changed on the way; do not use this connection",
    )
}

/// The quote is bound to a value that the caller computed from what the quote vouches for.
pub(crate) fn quote_report_data(found: &[u8; 64], expected: &ReportData) -> Decision<()> {
    if expected.matches(found) {
        return Ok(Passed::new((), hex::encode(expected.0)));
    }
    Refused::new(
        "E-REPORT-DATA",
        hex::encode(expected.0),
        hex::encode(found),
        "the quote was made for something else; do not use what it came with",
    )
}

/// The log must be exactly the boot events: one more extension would be code nobody pinned.
pub(crate) fn event_log(events: &[RuntimeEvent], rtmr3: &[u8; 48]) -> Decision<(String, String)> {
    let next = "the log does not belong to this quote; do not use this worker";
    let replayed = match replay_rtmr(events) {
        Ok(register) => register,
        Err(e) => return Refused::new(e.code(), "a well formed event log", e.to_string(), next),
    };
    if replayed != *rtmr3 {
        return Refused::new(
            "E-RTMR3",
            format!("RTMR3 {} (replay of {} events)", hex::encode(replayed), events.len()),
            format!("RTMR3 {}", hex::encode(rtmr3)),
            next,
        );
    }
    let payloads = boot_payloads(events, next)?;
    Ok(Passed::new(payloads, format!("2 events give {}", hex::encode(rtmr3))))
}

/// The payloads of the two boot events, which must be all there is.
pub(crate) fn boot_payloads(
    events: &[RuntimeEvent],
    next_step: &'static str,
) -> Result<(String, String), Refused> {
    match events {
        [manifest, model] if manifest.name == EVENT_MANIFEST && model.name == EVENT_MODEL_ROOT => {
            Ok((manifest.payload.clone(), model.payload.clone()))
        }
        other => {
            let names: Vec<&str> = other.iter().map(|e| e.name.as_str()).collect();
            Err(Refused {
                code: "E-EVENT-ORDER",
                expected: format!("exactly the events {EVENT_MANIFEST}, {EVENT_MODEL_ROOT}"),
                found: format!("{} events: {}", other.len(), printable(&names.join(", "))),
                next_step,
            })
        }
    }
}

/// A manifest that is measured, readable, and pinned together with the image.
pub(crate) fn manifest<'a>(
    bytes: &[u8],
    measured: &str,
    candidates: &[Contents<'a>],
) -> Decision<(WorkerManifest, Digest, Vec<Contents<'a>>)> {
    let digest = Digest(Sha256::digest(bytes).into());
    if digest.to_string() != measured {
        return Refused::new(
            "E-MANIFEST-EVENT",
            format!("SHA-256 {} as measured", printable(measured)),
            format!("SHA-256 {digest}"),
            "the manifest was replaced after measurement; do not use this worker",
        );
    }
    let manifest = match WorkerManifest::parse(bytes) {
        Ok(manifest) => manifest,
        Err(e) => {
            return Refused::new(
                "E-MANIFEST-FORM",
                "a manifest this build reads",
                printable(&e.to_string()),
                "update this verifier or the worker; both must know the manifest version",
            );
        }
    };
    let matching: Vec<Contents<'_>> =
        candidates.iter().copied().filter(|pin| pin.manifest_sha256 == digest).collect();
    let Some(first) = matching.first() else {
        return Refused::new(
            "E-MANIFEST-PIN",
            match candidates {
                [one] => format!("SHA-256 {} (pin {:?})", one.manifest_sha256, one.name),
                many => format!("the manifest of one of {} pins of this image", many.len()),
            },
            format!("SHA-256 {digest}, model {:?}", printable(&manifest.model.name)),
            "read the manifest; if its limits and prices are acceptable, pin its digest",
        );
    };
    let detail = format!(
        "{digest}, pinned as {:?}, model {:?}",
        first.name,
        printable(&manifest.model.name)
    );
    Ok(Passed::new((manifest, digest, matching), detail))
}

pub(crate) fn model_root<'a>(
    manifest: &WorkerManifest,
    measured: &str,
    candidates: &[Contents<'a>],
) -> Decision<Contents<'a>> {
    let root = manifest.model.root;
    if root.to_string() != measured {
        return Refused::new(
            "E-MODEL-ROOT-EVENT",
            format!("model root {root} as in the manifest"),
            format!("model root {} measured", printable(measured)),
            "the worker measured another model than its manifest names; do not use it",
        );
    }
    match candidates.iter().copied().find(|pin| pin.model_root == root) {
        Some(pin) => Ok(Passed::new(pin, format!("{root}, pinned as {:?}", pin.name))),
        None => Refused::new(
            "E-MODEL-ROOT-PIN",
            candidates.first().map_or_else(String::new, |pin| {
                format!("model root {} (pin {:?})", pin.model_root, pin.name)
            }),
            format!("model root {root}"),
            "the pins contradict themselves: the pinned manifest names another model",
        ),
    }
}

pub(crate) fn keyset(keyset_bytes: &[u8], now: UnixTime) -> Decision<Keyset> {
    let keyset = match Keyset::decode(keyset_bytes) {
        Ok(keyset) => keyset,
        Err(e) => return keyset_form(printable(&e.to_string())),
    };
    if keyset.encode() != keyset_bytes {
        return keyset_form("bytes that are not the canonical encoding".to_owned());
    }
    let mut ids = BTreeSet::new();
    for (index, entry) in keyset.seal_keys.iter().enumerate() {
        if let Err(found) = check_entry(entry) {
            return keyset_form(format!("key {index}: {found}"));
        }
        if !ids.insert(entry.id) {
            return keyset_form(format!("key {index}: id {} appears twice", entry.id));
        }
    }
    let Some(key) = keyset.seal_key(KeyRole::Worker, now) else {
        return Refused::new(
            "E-KEYSET-EXPIRED",
            format!("a worker key valid at {}", now.0),
            format!("{} keys, none of them valid", keyset.seal_keys.len()),
            "ask for fresh evidence; if it stays so, check the clocks of both machines",
        );
    };
    let detail = format!(
        "{} keys; {:?} key {} valid until {}",
        keyset.seal_keys.len(),
        key.suite,
        key.id,
        key.not_after.0
    );
    Ok(Passed::new(keyset, detail))
}

fn check_entry(entry: &SealKeyEntry) -> Result<(), String> {
    let length = match entry.suite {
        SuiteId::XWing => X_WING_PUBLIC_BYTES,
        SuiteId::X25519 => X25519_PUBLIC_BYTES,
    };
    if entry.public.len() != length {
        return Err(format!("{} bytes, {length} expected", entry.public.len()));
    }
    if entry.id != key_id(entry.suite, &entry.public) {
        return Err(format!("id {} is not the hash of the key", entry.id));
    }
    if entry.not_before > entry.not_after {
        return Err("its validity ends before it begins".to_owned());
    }
    Ok(())
}

/// First 16 bytes of `SHA-256(suite u16 big-endian || public key)`.
fn key_id(suite: SuiteId, public: &[u8]) -> KeyId {
    let mut hash = Sha256::new();
    hash.update((suite as u16).to_be_bytes());
    hash.update(public);
    let digest: [u8; 32] = hash.finalize().into();
    let mut id = [0u8; KeyId::LEN];
    id.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    KeyId(id)
}

fn keyset_form(found: String) -> Decision<Keyset> {
    Refused::new(
        "E-KEYSET-FORM",
        "a canonical keyset whose key ids are hashes of the keys",
        found,
        "the worker is faulty or of another version; do not use it",
    )
}

pub(crate) fn network(pins: &Pins, manifest: &WorkerManifest, keyset: &Keyset) -> Decision<()> {
    let wanted = pins.network();
    for (what, got) in [("manifest", manifest.network), ("keyset", keyset.network)] {
        if got != wanted {
            return Refused::new(
                "E-NETWORK",
                wanted.to_string(),
                format!("{got} in the {what}"),
                "use pins of the network this worker serves",
            );
        }
    }
    Ok(Passed::new((), wanted.to_string()))
}

pub(crate) fn tls_key(keyset: &Keyset, session: &Session) -> Decision<()> {
    if keyset.tls_spki == session.tls_spki {
        return Ok(Passed::new((), format!("SPKI SHA-256 {}", session.tls_spki)));
    }
    Refused::new(
        "E-TLS-KEY",
        format!("SPKI SHA-256 {} (this connection)", session.tls_spki),
        format!("SPKI SHA-256 {} in the keyset", keyset.tls_spki),
        "somebody terminates TLS between you and the worker; do not use this connection",
    )
}

/// Whether devices are shown exactly where they are asked for. The quote commits to them under
/// rule 15; what they are is for the rules behind this one.
pub(crate) fn devices(pins: Option<&DevicePins>, shown: &[DeviceEvidence]) -> Decision<()> {
    match (pins, shown.len()) {
        (None, 0) => {
            Ok(Passed::info((), "not checked: the quote states that there is no device".to_owned()))
        }
        (None, number) => Refused::new(
            "E-GPU-UNASKED",
            "no device: the pins have no [device] section",
            format!("{number} devices"),
            "pin the worker's devices, or use a worker without any",
        ),
        (Some(_), number) => {
            Ok(Passed::new((), format!("{number} devices, digest {}", device_digest(shown))))
        }
    }
}

/// The pinned registers, with the code of a refusal because of each.
const REGISTERS: [(&str, &str); 4] =
    [("E-MRTD", "mrtd"), ("E-RTMR0", "rtmr0"), ("E-RTMR1", "rtmr1"), ("E-RTMR2", "rtmr2")];
const X_WING_PUBLIC_BYTES: usize = 1216;
const X25519_PUBLIC_BYTES: usize = 32;
