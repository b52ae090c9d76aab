//! `chrysalis receipt show`: what a receipt, or a proof of one part of one, claims, field by field and
//! in words. It verifies nothing and says so.

use std::path::Path;

use chrysalis_client::limits::MAX_STORED_RECEIPT_BYTES;
use chrysalis_client::{ProvenChild, StoredReceipt, Utc};
use chrysalis_receipt::{Att, Io, Model, OpenedChild, PublicReceipt, Usage};
use chrysalis_wire::{NetworkId, RequestId, UnixTime};
use serde::Serialize;

use crate::context::Context;
use crate::exit::Failure;
use crate::files;

pub(super) fn run(path: &Path, context: &Context) -> Result<(), Failure> {
    let bytes = files::read(path, MAX_STORED_RECEIPT_BYTES)?;
    let in_file = |e| Failure::from(e).in_file(path);
    if ProvenChild::is_one(&bytes) {
        proof(&ProvenChild::parse(&bytes).map_err(in_file)?, context)
    } else {
        receipt(&StoredReceipt::parse(&bytes).map_err(in_file)?, context)
    }
}

fn receipt(stored: &StoredReceipt, context: &Context) -> Result<(), Failure> {
    let signed = stored.receipt();
    let receipt = signed.receipt();
    let json = signed.to_json()?;
    let mut fields = head(&PublicReceipt::from(signed));
    fields.push(Field::new(
        "worker pinned as",
        stored.pin_name(),
        "your pin that accepted it then",
    ));
    model(&receipt.model, &mut fields);
    att(&receipt.att, &mut fields);
    usage(&receipt.usage, &mut fields);
    io(&receipt.io, &mut fields);
    fields.push(Field::new("hash", signed.hash(), "of all of it: what the meter key has signed"));
    let shown = Shown {
        request_id: stored.request_id(),
        pin_name: stored.pin_name(),
        insecure_sim: stored.insecure_sim(),
        appraised_at: stored.appraised_at(),
        saved_at: stored.saved_at(),
        receipt: serde_json::from_str(&json).unwrap_or_default(),
        fields: &fields,
    };
    context.report.result("chrysalis/receipt-shown/v1", &shown, |out| {
        out.line("What the receipt claims; `chrysalis receipt verify` checks it.")?;
        write(out, shown.insecure_sim, &fields)
    })
}

fn proof(proven: &ProvenChild, context: &Context) -> Result<(), Failure> {
    let (public, opened) = (proven.proof().public(), proven.proof().opened());
    let json = proven.proof().to_json()?;
    let mut fields = head(public);
    match opened {
        OpenedChild::Io(part) => io(part, &mut fields),
        OpenedChild::Usage(part) => usage(part, &mut fields),
        OpenedChild::Model(part) => model(part, &mut fields),
        OpenedChild::Att(part) => att(part, &mut fields),
    }
    let insecure_sim = public.network() == NetworkId::INSECURE_SIM;
    let shown = ShownProof {
        request_id: public.request_id(),
        child: opened.child().to_string(),
        insecure_sim,
        proof: serde_json::from_str(&json).unwrap_or_default(),
        fields: &fields,
    };
    context.report.result("chrysalis/proof-shown/v1", &shown, |out| {
        out.line(format_args!(
            "What the proof claims of the part `{}`; `chrysalis receipt verify` checks it.",
            shown.child
        ))?;
        write(out, insecure_sim, &fields)
    })
}

fn write(out: &mut crate::report::Text, insecure_sim: bool, fields: &[Field]) -> std::fmt::Result {
    if insecure_sim {
        out.warning("INSECURE-SIM  of a simulated worker; it is worth nothing")?;
    }
    fields.iter().try_for_each(|field| {
        out.field(field.name, &field.value)?;
        out.field("", format_args!("  {}", field.meaning))
    })
}

fn head(public: &PublicReceipt) -> Vec<Field> {
    let amount = format!("{} nanogram", public.amount());
    vec![
        Field::new("request", public.request_id(), "the id you gave the request"),
        Field::new("network", public.network(), "where it can be settled, and nowhere else"),
        Field::new("amount", amount, "the whole price: tokens times prices, rounded down"),
        Field::new("issued", Utc(public.issued_at()), "when it was signed, by the worker's clock"),
        Field::new(
            "meter key",
            hex::encode(public.meter_key()),
            "who signed; the evidence names it",
        ),
    ]
}

fn model(model: &Model, fields: &mut Vec<Field>) {
    fields.push(Field::new(
        "model root",
        model.manifest_sha256,
        "hash of all weights, tokenizer and template: which model answered",
    ));
    let meaning = "measured identity of the code that ran it; the platform vouches for that";
    fields.push(Field::new("image", model.engine_image_sha256, meaning));
    let meaning = "hash of temperature, top_p and all other parameters of the request";
    fields.push(Field::new("sampling", model.sampling_hash, meaning));
}

fn att(att: &Att, fields: &mut Vec<Field>) {
    let meaning = "what the platform measured of the worker; in an honest receipt the image";
    fields.push(Field::new("measurement", att.measurement_sha256, meaning));
    let meaning = "hash of the quote that was appraised before you asked";
    fields.push(Field::new("evidence", att.evidence_sha256, meaning));
}

fn usage(usage: &Usage, fields: &mut Vec<Field>) {
    let tokens = format!(
        "{} prompt ({} cached), {} completion ({} reasoning)",
        usage.prompt, usage.cached, usage.completion, usage.reasoning
    );
    fields.push(Field::new("tokens", tokens, "what is billed; cached and reasoning are parts"));
    let p = &usage.prices;
    let prices = format!(
        "{} prompt, {} cached, {} completion, {} reasoning",
        p.prompt, p.cached, p.completion, p.reasoning
    );
    fields.push(Field::new("prices", prices, "nanogram for a million tokens, from its manifest"));
    let meaning = "why it ended: of itself, at the limit, left by you, or by an error";
    fields.push(Field::new("finish", usage.finish, meaning));
    let took = format!("{} ms", usage.ended.0.saturating_sub(usage.started.0));
    fields.push(Field::new("took", took, "from taking the request to the last token"));
}

fn io(io: &Io, fields: &mut Vec<Field>) {
    let meaning = "commitment to every byte you sent; opens with your salt and those bytes alone";
    fields.push(Field::new("request commitment", io.request_commit, meaning));
    let meaning = "the same of every byte of the answer";
    fields.push(Field::new("answer commitment", io.response_commit, meaning));
}

/// One field with what it means.
#[derive(Serialize)]
struct Field {
    name: &'static str,
    value: String,
    meaning: &'static str,
}

impl Field {
    fn new(name: &'static str, value: impl ToString, meaning: &'static str) -> Self {
        Self { name, value: value.to_string(), meaning }
    }
}

#[derive(Serialize)]
struct Shown<'a> {
    request_id: RequestId,
    pin_name: &'a str,
    insecure_sim: bool,
    appraised_at: UnixTime,
    saved_at: UnixTime,
    receipt: serde_json::Value,
    fields: &'a [Field],
}

#[derive(Serialize)]
struct ShownProof<'a> {
    request_id: RequestId,
    child: String,
    insecure_sim: bool,
    proof: serde_json::Value,
    fields: &'a [Field],
}
