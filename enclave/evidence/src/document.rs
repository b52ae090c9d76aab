//! The attestation document with its text decoded. Every byte comes from the peer; only form and
//! size are settled here.

use chrysalis_wire::attest::ATTESTATION_SCHEMA;
use chrysalis_wire::limits::{
    MAX_KEYSET_BYTES, MAX_MANIFEST_BYTES, MAX_QUOTE_BYTES, MAX_RUNTIME_EVENTS,
};
use chrysalis_wire::{AttestationDocument, DeviceDocument, RuntimeEvent};

use crate::batch::InclusionPath;
use crate::hexadecimal;
use crate::nvidia::{DeviceEvidence, MAX_DEVICE_CHAIN_BYTES, MAX_DEVICE_REPORT_BYTES, MAX_DEVICES};

/// An attestation document of known form.
#[derive(Debug)]
pub(crate) struct Document<'a> {
    pub(crate) quote: Vec<u8>,
    pub(crate) keyset: Vec<u8>,
    pub(crate) manifest: Vec<u8>,
    pub(crate) events: &'a [RuntimeEvent],
    pub(crate) devices: Vec<DeviceEvidence>,
    pub(crate) path: InclusionPath,
}

impl<'a> Document<'a> {
    /// Decodes the document, or says which field is wrong: (what is expected, what was found).
    pub(crate) fn parse(doc: &'a AttestationDocument) -> Result<Self, (String, String)> {
        if doc.schema != ATTESTATION_SCHEMA {
            return Err((
                format!("schema {ATTESTATION_SCHEMA}"),
                format!("schema {:?}", crate::text::printable(&doc.schema)),
            ));
        }
        if doc.events.len() > MAX_RUNTIME_EVENTS {
            return Err((
                format!("at most {MAX_RUNTIME_EVENTS} events"),
                format!("{} events", doc.events.len()),
            ));
        }
        Ok(Self {
            quote: field("quote", &doc.quote, MAX_QUOTE_BYTES)?,
            keyset: field("keyset", &doc.keyset, MAX_KEYSET_BYTES)?,
            manifest: field("manifest", &doc.manifest, MAX_MANIFEST_BYTES)?,
            events: &doc.events,
            devices: devices(&doc.devices)?,
            path: InclusionPath::read(doc.batch.as_ref())
                .map_err(|e| (BATCH_FORM.to_owned(), e.to_string()))?,
        })
    }
}

fn devices(list: &[DeviceDocument]) -> Result<Vec<DeviceEvidence>, (String, String)> {
    if list.len() > MAX_DEVICES {
        return Err((format!("at most {MAX_DEVICES} devices"), format!("{} devices", list.len())));
    }
    let read = |device: &DeviceDocument| {
        Ok(DeviceEvidence {
            report: field("device report", &device.report, MAX_DEVICE_REPORT_BYTES)?,
            chain: field("device chain", &device.chain, MAX_DEVICE_CHAIN_BYTES)?,
        })
    };
    list.iter().map(read).collect()
}

fn field(what: &str, text: &str, limit: usize) -> Result<Vec<u8>, (String, String)> {
    let too_long = text.len() / 2 > limit;
    let bytes = if too_long { None } else { hexadecimal::parse_vec(text) };
    bytes.ok_or_else(|| {
        (
            format!("{what}: lower-case hex of at most {limit} bytes"),
            format!("{what}: {} characters that are not", text.len()),
        )
    })
}

const BATCH_FORM: &str = "the place of one leaf in a tree of several, with exactly its path";
