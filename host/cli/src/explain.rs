//! What an appraisal hashed, byte by byte, so that somebody else can hash it again with other tools.
//! The document is the worker's word; the session is ours. Every result here is computed from the
//! parts that are shown and compared with what the library that judges computes.

use std::fmt;

use chrysalis_evidence::{
    Binding, InclusionPath, Role, Session, cocoon_tdx_image_hash, event_digest, keyset_digest,
    nvidia, replay_rtmr,
};
use chrysalis_measure::tdx::{Sha384Digest, TdQuote};
use chrysalis_wire::{AttestationDocument, BatchDocument, Digest};
use serde::Serialize;
use sha2::{Digest as _, Sha256, Sha384, Sha512};

use crate::report::Text;

/// One hash: its name, what went in, in order, and what came out.
#[derive(Debug, Serialize)]
pub(crate) struct Hashed {
    name: String,
    algorithm: &'static str,
    parts: Vec<Part>,
    result: String,
    /// Whether the library that judges gives the same; `None` where it shows no such value.
    agrees: Option<bool>,
}

#[derive(Debug, Serialize)]
struct Part {
    name: &'static str,
    hex: String,
}

/// Every hash of an appraisal, or `None` where a part of the document is not hex or no TDX quote;
/// the transcript says which rule refused it.
pub(crate) fn explain(document: &AttestationDocument, session: &Session) -> Option<Vec<Hashed>> {
    let quote = TdQuote::parse(&hex::decode(&document.quote).ok()?).ok()?;
    let keyset = hex::decode(&document.keyset).ok()?;
    let mut out = binding(document, session, &keyset)?;
    out.extend(runtime_register(document)?);
    out.push(image_hash(&quote));
    Some(out)
}

fn binding(
    document: &AttestationDocument,
    session: &Session,
    keyset: &[u8],
) -> Option<Vec<Hashed>> {
    let devices = document.devices.iter().map(|device| {
        let (report, chain) = (hex::decode(&device.report).ok()?, hex::decode(&device.chain).ok()?);
        Some(nvidia::DeviceEvidence { report, chain })
    });
    let bound = Binding {
        role: Role::Server,
        tls_spki: session.tls_spki,
        nonce: session.nonce,
        exporter: session.exporter,
        keyset_digest: keyset_digest(keyset),
        device_digest: nvidia::device_digest(&devices.collect::<Option<Vec<_>>>()?),
    };
    let keys = Hashed::new("keyset digest", "SHA-256", [("keyset", keyset)], Sha256::digest);
    let leaf = Hashed::new(
        "leaf",
        "SHA-256",
        [
            ("leaf tag", &[0u8] as &[u8]),
            ("domain \"chrysalis/attest/v1\"", b"chrysalis/attest/v1"),
            ("role (1 server)", &[bound.role as u8]),
            ("SHA-256 of the TLS key", &bound.tls_spki.0),
            ("nonce", &bound.nonce),
            ("TLS exporter", &bound.exporter),
            ("keyset digest", &bound.keyset_digest.0),
            ("device digest", &bound.device_digest.0),
        ],
        Sha256::digest,
    );
    let keys_same = keys.result == bound.keyset_digest.to_string();
    let mut out = vec![keys.agreeing(keys_same), leaf];
    out.extend(nodes(document.batch.as_ref(), &out.last()?.result)?);
    let root = hex::decode(&out.last()?.result).ok()?;
    let data = Hashed::new(
        "report_data",
        "SHA-512",
        [
            ("domain \"chrysalis/report-data/v1\"", b"chrysalis/report-data/v1" as &[u8]),
            ("root (of one challenge its leaf)", &root),
        ],
        Sha512::digest,
    );
    let path = InclusionPath::read(document.batch.as_ref()).ok()?;
    let same = data.result == hex::encode(path.report_data(&bound.leaf()).0);
    out.push(data.agreeing(same));
    Some(out)
}

/// The way from the leaf to the root of a quote that answers several challenges (RFC 9162 §2.1.3.2).
fn nodes(batch: Option<&BatchDocument>, leaf: &str) -> Option<Vec<Hashed>> {
    let Some(BatchDocument { index, size, path }) = batch else { return Some(Vec::new()) };
    let (mut place, mut last) = (*index, size.saturating_sub(1));
    let mut hash = hex::decode(leaf).ok()?;
    let mut out = Vec::new();
    for Digest(beside) in path {
        // The last of its level without a neighbour is its own subtree one level higher.
        while place == last && place & 1 == 0 && last > 0 {
            (place, last) = (place >> 1, last >> 1);
        }
        let (left, right): (&[u8], &[u8]) =
            if place & 1 == 1 { (beside, &hash) } else { (&hash, beside) };
        let parts = [("node tag", &[1u8] as &[u8]), ("left", left), ("right", right)];
        let node = Hashed::new("node above", "SHA-256", parts, Sha256::digest);
        hash = hex::decode(&node.result).ok()?;
        out.push(node);
        (place, last) = (place >> 1, last >> 1);
    }
    Some(out)
}

fn runtime_register(document: &AttestationDocument) -> Option<Vec<Hashed>> {
    let mut out = Vec::new();
    let mut register = [0u8; 48];
    for event in &document.events {
        let digest = Hashed::new(
            &format!("event {}", event.name),
            "SHA-384",
            [
                ("domain \"chrysalis/event/v1\"", b"chrysalis/event/v1" as &[u8]),
                ("zero", &[0]),
                ("name", event.name.as_bytes()),
                ("zero", &[0]),
                ("payload", &hex::decode(&event.payload).ok()?),
            ],
            Sha384::digest,
        );
        let same = event_digest(event).ok().map(hex::encode) == Some(digest.result.clone());
        let extension = hex::decode(&digest.result).ok()?;
        out.push(digest.agreeing(same));
        let name = format!("RTMR3 after {}", event.name);
        let parts = [("RTMR3 before", register.as_slice()), ("event digest", &extension)];
        let extended = Hashed::new(&name, "SHA-384", parts, Sha384::digest);
        register = hex::decode(&extended.result).ok()?.try_into().ok()?;
        out.push(extended);
    }
    let same = replay_rtmr(&document.events).ok() == Some(register);
    let last = out.pop()?.agreeing(same);
    out.push(last);
    Some(out)
}

fn image_hash(quote: &TdQuote) -> Hashed {
    let [r0, r1, r2, r3] = &quote.rtmr;
    let zeros = [0u8; 64];
    let hashed = Hashed::new(
        "Cocoon image hash",
        "SHA-256",
        [
            ("MRTD", &quote.mrtd.0 as &[u8]),
            ("MRCONFIGID", &quote.identity.mr_config_id),
            ("MROWNER", &quote.identity.mr_owner),
            ("MROWNERCONFIG", &quote.identity.mr_owner_config),
            ("RTMR0", &r0.0),
            ("RTMR1", &r1.0),
            ("RTMR2", &r2.0),
            ("RTMR3", &r3.0),
            ("report_data left out", &zeros),
        ],
        Sha256::digest,
    );
    let registers = chrysalis_evidence::Measurement {
        mrtd: quote.mrtd.0,
        rtmr: quote.rtmr.map(|Sha384Digest(value)| value),
    };
    let same = cocoon_tdx_image_hash(&registers, &quote.identity).to_string();
    let agrees = same == hashed.result;
    hashed.agreeing(agrees)
}

impl Hashed {
    fn new<const N: usize, H: AsRef<[u8]>>(
        name: &str,
        algorithm: &'static str,
        parts: [(&'static str, &[u8]); N],
        hash: impl FnOnce(Vec<u8>) -> H,
    ) -> Self {
        let preimage: Vec<u8> = parts.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect();
        let shown = |(name, bytes): &(&'static str, &[u8])| Part { name, hex: hex::encode(bytes) };
        Self {
            name: name.to_owned(),
            algorithm,
            parts: parts.iter().map(shown).collect(),
            result: hex::encode(hash(preimage)),
            agrees: None,
        }
    }

    fn agreeing(mut self, agrees: bool) -> Self {
        self.agrees = Some(agrees);
        self
    }
}

/// All of it, for people.
pub(crate) fn show(all: &[Hashed], out: &mut Text) -> fmt::Result {
    for hashed in all {
        out.line("")?;
        out.line(format!("{} = {} of", hashed.name, hashed.algorithm))?;
        for part in &hashed.parts {
            out.line(format!("  {:<34}{}", part.name, part.hex))?;
        }
        out.line(format!("  = {}", hashed.result))?;
        if hashed.agrees == Some(false) {
            out.verdict(false, "this is not what was judged: report it as a bug")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use chrysalis_evidence::boot_events;

    use super::*;

    /// A quote of zeros but for its form; this explains claims and verifies nothing.
    fn document() -> AttestationDocument {
        AttestationDocument {
            schema: String::new(),
            platform: String::new(),
            quote: String::new(),
            keyset: "0a0b".to_owned(),
            manifest: String::new(),
            events: boot_events(&Digest([1; 32]), &Digest([2; 32])).to_vec(),
            devices: Vec::new(),
            batch: None,
        }
    }

    #[test]
    fn every_hash_is_that_of_the_parts_shown_and_of_the_library_that_judges() {
        let document = document();
        let session = Session { nonce: [3; 32], tls_spki: Digest([4; 32]), exporter: [5; 32] };
        let mut all = binding(&document, &session, &[10, 11]).unwrap();
        all.extend(runtime_register(&document).unwrap());
        all.push(image_hash(&TdQuote {
            mrtd: Sha384Digest([6; 48]),
            rtmr: [Sha384Digest([7; 48]); 4],
            identity: chrysalis_evidence::TdIdentity::ZERO,
            attributes: [0; 8],
        }));
        assert_eq!(all.len(), 3 + 4 + 1);
        assert!(all.iter().all(|hashed| hashed.agrees != Some(false)), "{all:?}");
        let judged = all.iter().filter(|hashed| hashed.agrees == Some(true)).count();
        assert_eq!(judged, 6, "{all:?}");
        for hashed in &all {
            let hex: String = hashed.parts.iter().map(|part| part.hex.as_str()).collect();
            let bytes = hex::decode(hex).unwrap();
            let again = match hashed.algorithm {
                "SHA-256" => hex::encode(Sha256::digest(bytes)),
                "SHA-384" => hex::encode(Sha384::digest(bytes)),
                _ => hex::encode(Sha512::digest(bytes)),
            };
            assert_eq!(again, hashed.result);
        }
    }

    #[test]
    fn every_place_in_a_batch_leads_to_what_the_library_expects() {
        let session = Session { nonce: [3; 32], tls_spki: Digest([4; 32]), exporter: [5; 32] };
        for size in 2..=9u32 {
            for index in 0..size {
                // Only the right number of hashes is a path; which they are is the peer's to say.
                let length = (0..9).find_map(|length| {
                    let path = vec![Digest([9; 32]); length];
                    let batch = BatchDocument { index, size, path };
                    InclusionPath::read(Some(&batch)).ok().map(|_| batch)
                });
                let document = AttestationDocument { batch: length, ..document() };
                let all = binding(&document, &session, &[10, 11]).unwrap();
                assert_eq!(all.last().unwrap().agrees, Some(true), "{index} of {size}");
            }
        }
    }

    #[test]
    fn explains_nothing_of_a_document_without_a_quote() {
        let session = Session { nonce: [3; 32], tls_spki: Digest([4; 32]), exporter: [5; 32] };
        assert!(explain(&document(), &session).is_none());
    }
}
