//! The JSON form of receipts and proofs. Input is attacker-controlled: its size is bounded,
//! unknown and repeated fields are refused, and every value has one spelling (lower-case hex,
//! decimal strings without leading zeros for numbers JavaScript would round).

use chrysalis_wire::manifest::PricesSection;
use chrysalis_wire::{Digest, NetworkId, RequestId, UnixMillis, UnixTime};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::commit::Blinds;
use crate::error::ReceiptError;
use crate::fields::{Att, Finish, Head, Io, Model, RequestReceipt, Usage, tag};
use crate::key::MeterPublicKey;
use crate::proof::{ChildProof, OpenedChild, PublicReceipt};
use crate::signed::SignedReceipt;
use crate::spelling;

pub(crate) fn write_receipt(signed: &SignedReceipt) -> Result<String, ReceiptError> {
    let (r, blinds) = (&signed.receipt, &signed.blinds);
    write(&ReceiptJson {
        schema: RECEIPT_SCHEMA.to_owned(),
        head: HeadJson::new(&r.head(), &signed.key),
        io: IoJson::new(&r.io, blinds.io),
        usage: UsageJson::new(&r.usage, blinds.usage),
        model: ModelJson::new(&r.model, blinds.model),
        att: AttJson::new(&r.att, blinds.att),
        hash: signed.hash,
        signature: signed.signature,
    })
}

pub(crate) fn read_receipt(json: &[u8]) -> Result<SignedReceipt, ReceiptError> {
    let j: ReceiptJson = read(json, RECEIPT_SCHEMA)?;
    let (head, key) = j.head.parse()?;
    let blinds =
        Blinds { io: j.io.blind, usage: j.usage.blind, model: j.model.blind, att: j.att.blind };
    let receipt = RequestReceipt {
        network: head.network,
        registry: head.registry,
        request_id: head.request_id,
        issued_at: head.issued_at,
        amount: head.amount,
        io: j.io.fields(),
        usage: j.usage.fields(),
        model: j.model.fields(),
        att: j.att.fields(),
    };
    let root = receipt.cell(&key, &blinds)?;
    Ok(SignedReceipt { receipt, blinds, key, root, hash: j.hash, signature: j.signature })
}

pub(crate) fn write_public(public: &PublicReceipt) -> Result<String, ReceiptError> {
    write(&PublicJson {
        schema: PUBLIC_SCHEMA.to_owned(),
        head: HeadJson::new(&public.head, &public.key),
        children: public.children,
        signature: public.signature,
    })
}

pub(crate) fn read_public(json: &[u8]) -> Result<PublicReceipt, ReceiptError> {
    let j: PublicJson = read(json, PUBLIC_SCHEMA)?;
    let (head, key) = j.head.parse()?;
    Ok(PublicReceipt { head, key, children: j.children, signature: j.signature })
}

pub(crate) fn write_proof(proof: &ChildProof) -> Result<String, ReceiptError> {
    let (public, blind) = (&proof.public, proof.blind);
    write(&ProofJson {
        schema: PROOF_SCHEMA.to_owned(),
        head: HeadJson::new(&public.head, &public.key),
        children: public.children,
        opened: match &proof.opened {
            OpenedChild::Io(io) => OpenedJson::Io(IoJson::new(io, blind)),
            OpenedChild::Usage(usage) => OpenedJson::Usage(UsageJson::new(usage, blind)),
            OpenedChild::Model(model) => OpenedJson::Model(ModelJson::new(model, blind)),
            OpenedChild::Att(att) => OpenedJson::Att(AttJson::new(att, blind)),
        },
        signature: public.signature,
    })
}

pub(crate) fn read_proof(json: &[u8]) -> Result<ChildProof, ReceiptError> {
    let j: ProofJson = read(json, PROOF_SCHEMA)?;
    let (head, key) = j.head.parse()?;
    let (opened, blind) = match j.opened {
        OpenedJson::Io(io) => (OpenedChild::Io(io.fields()), io.blind),
        OpenedJson::Usage(usage) => (OpenedChild::Usage(usage.fields()), usage.blind),
        OpenedJson::Model(model) => (OpenedChild::Model(model.fields()), model.blind),
        OpenedJson::Att(att) => (OpenedChild::Att(att.fields()), att.blind),
    };
    let public = PublicReceipt { head, key, children: j.children, signature: j.signature };
    Ok(ChildProof { public, opened, blind })
}

pub(crate) fn write(document: &impl Serialize) -> Result<String, ReceiptError> {
    serde_json::to_string_pretty(document).map_err(malformed)
}

pub(crate) fn read<'a, T: Deserialize<'a>>(
    json: &'a [u8],
    expected: &'static str,
) -> Result<T, ReceiptError> {
    /// The schema is read first and alone, so that a newer document is refused by its version and
    /// not by the first field this build does not know.
    #[derive(Deserialize)]
    struct SchemaOnly {
        schema: String,
    }
    if json.len() > MAX_RECEIPT_JSON_BYTES {
        return Err(ReceiptError::TooLarge { got: json.len() });
    }
    let found: SchemaOnly = serde_json::from_slice(json).map_err(malformed)?;
    if found.schema != expected {
        return Err(ReceiptError::Schema { expected });
    }
    let document = serde_json::from_slice(json).map_err(malformed)?;
    // The reader above takes a list of values for an object with fields; a second spelling.
    let value: Value = serde_json::from_slice(json).map_err(malformed)?;
    if has_list(&value) {
        return Err(ReceiptError::Malformed("a list of values where an object belongs".to_owned()));
    }
    Ok(document)
}

/// Whether a list stands anywhere but in `children` or `path`, whose elements are strings. The depth
/// is bounded by the parser and by the document that was read before.
fn has_list(value: &Value) -> bool {
    match value {
        Value::Array(_) => true,
        Value::Object(fields) => {
            fields.iter().any(|(k, v)| !["children", "path"].contains(&k.as_str()) && has_list(v))
        }
        _ => false,
    }
}

/// The parser's message names fields a stranger chose: it is shortened and reduced to printable
/// ASCII, so that it is safe on a terminal.
#[expect(clippy::needless_pass_by_value, reason = "used as a map_err function")]
fn malformed(error: serde_json::Error) -> ReceiptError {
    let text = error.to_string();
    let clean = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '?' };
    ReceiptError::Malformed(text.chars().map(clean).take(MAX_MESSAGE_CHARS).collect())
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReceiptJson {
    schema: String,
    head: HeadJson,
    io: IoJson,
    usage: UsageJson,
    model: ModelJson,
    att: AttJson,
    hash: Digest,
    #[serde(with = "spelling::hex_bytes")]
    signature: [u8; 64],
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PublicJson {
    schema: String,
    head: HeadJson,
    children: [Digest; 4],
    #[serde(with = "spelling::hex_bytes")]
    signature: [u8; 64],
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProofJson {
    schema: String,
    head: HeadJson,
    children: [Digest; 4],
    opened: OpenedJson,
    #[serde(with = "spelling::hex_bytes")]
    signature: [u8; 64],
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OpenedJson {
    Io(IoJson),
    Usage(UsageJson),
    Model(ModelJson),
    Att(AttJson),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeadJson {
    tag: String,
    network: NetworkId,
    registry: Digest,
    #[serde(with = "spelling::hex_bytes")]
    meter_key: [u8; 32],
    request_id: RequestId,
    issued_at: UnixTime,
    #[serde(with = "spelling::decimal")]
    amount: u128,
}

impl HeadJson {
    fn new(head: &Head, key: &MeterPublicKey) -> Self {
        Self {
            tag: tag(head.network).to_owned(),
            network: head.network,
            registry: head.registry,
            meter_key: key.to_bytes(),
            request_id: head.request_id,
            issued_at: head.issued_at,
            amount: head.amount,
        }
    }

    fn parse(self) -> Result<(Head, MeterPublicKey), ReceiptError> {
        let expected = tag(self.network);
        if self.tag != expected {
            return Err(ReceiptError::Tag { network: self.network, expected });
        }
        let key = MeterPublicKey::parse(&self.meter_key)?;
        let head = Head {
            network: self.network,
            registry: self.registry,
            request_id: self.request_id,
            issued_at: self.issued_at,
            amount: self.amount,
        };
        Ok((head, key))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IoJson {
    #[serde(with = "spelling::hex_bytes")]
    blind: [u8; 16],
    request_commit: Digest,
    response_commit: Digest,
}

impl IoJson {
    const fn new(io: &Io, blind: [u8; 16]) -> Self {
        Self { blind, request_commit: io.request_commit, response_commit: io.response_commit }
    }

    const fn fields(&self) -> Io {
        Io { request_commit: self.request_commit, response_commit: self.response_commit }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct UsageJson {
    #[serde(with = "spelling::hex_bytes")]
    blind: [u8; 16],
    prompt: u32,
    cached: u32,
    completion: u32,
    reasoning: u32,
    finish: Finish,
    prices: PricesJson,
    started_ms: UnixMillis,
    ended_ms: UnixMillis,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PricesJson {
    #[serde(with = "spelling::decimal")]
    prompt: u64,
    #[serde(with = "spelling::decimal")]
    cached: u64,
    #[serde(with = "spelling::decimal")]
    completion: u64,
    #[serde(with = "spelling::decimal")]
    reasoning: u64,
}

impl UsageJson {
    const fn new(usage: &Usage, blind: [u8; 16]) -> Self {
        let PricesSection { prompt, cached, completion, reasoning } = usage.prices;
        Self {
            blind,
            prompt: usage.prompt,
            cached: usage.cached,
            completion: usage.completion,
            reasoning: usage.reasoning,
            finish: usage.finish,
            prices: PricesJson { prompt, cached, completion, reasoning },
            started_ms: usage.started,
            ended_ms: usage.ended,
        }
    }

    const fn fields(&self) -> Usage {
        let PricesJson { prompt, cached, completion, reasoning } = self.prices;
        Usage {
            prompt: self.prompt,
            cached: self.cached,
            completion: self.completion,
            reasoning: self.reasoning,
            finish: self.finish,
            prices: PricesSection { prompt, cached, completion, reasoning },
            started: self.started_ms,
            ended: self.ended_ms,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelJson {
    #[serde(with = "spelling::hex_bytes")]
    blind: [u8; 16],
    manifest_sha256: Digest,
    engine_image_sha256: Digest,
    sampling_hash: Digest,
}

impl ModelJson {
    const fn new(model: &Model, blind: [u8; 16]) -> Self {
        let Model { manifest_sha256, engine_image_sha256, sampling_hash } = *model;
        Self { blind, manifest_sha256, engine_image_sha256, sampling_hash }
    }

    const fn fields(&self) -> Model {
        let Self { manifest_sha256, engine_image_sha256, sampling_hash, .. } = *self;
        Model { manifest_sha256, engine_image_sha256, sampling_hash }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AttJson {
    #[serde(with = "spelling::hex_bytes")]
    blind: [u8; 16],
    evidence_sha256: Digest,
    measurement_sha256: Digest,
}

impl AttJson {
    const fn new(att: &Att, blind: [u8; 16]) -> Self {
        let Att { evidence_sha256, measurement_sha256 } = *att;
        Self { blind, evidence_sha256, measurement_sha256 }
    }

    const fn fields(&self) -> Att {
        let Self { evidence_sha256, measurement_sha256, .. } = *self;
        Att { evidence_sha256, measurement_sha256 }
    }
}

/// Schema name of a receipt.
pub const RECEIPT_SCHEMA: &str = "chrysalis/receipt/v1";
/// Schema name of a receipt with every child closed.
pub const PUBLIC_SCHEMA: &str = "chrysalis/receipt-public/v1";
/// Schema name of a proof of one child.
pub const PROOF_SCHEMA: &str = "chrysalis/receipt-proof/v1";
/// Largest receipt or proof read, in bytes: eight times a real one.
pub const MAX_RECEIPT_JSON_BYTES: usize = 16 * 1024;
/// Longest parser message kept.
const MAX_MESSAGE_CHARS: usize = 200;
