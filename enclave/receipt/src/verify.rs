//! Verifies receipts. The receipt is untrusted; the expectation comes from the verified evidence
//! and from what the requester itself sent and received.

use core::fmt;

use chrysalis_wire::manifest::PricesSection;
use chrysalis_wire::{Digest, NetworkId, RequestId, UnixTime};

use crate::commit::Blinds;
use crate::error::ReceiptError;
use crate::fields::{Att, Finish, Head, Io, Model, TOKENS_PER_PRICE, Usage};
use crate::key::MeterPublicKey;
use crate::proof::{ChildProof, OpenedChild};
use crate::report::{Checks, Outcome, ReceiptReport};
use crate::signed::SignedReceipt;

/// What a receipt must say. A field that is `Some` is enforced; one that is `None` shows up as a
/// skipped check.
#[derive(Clone)]
pub struct ReceiptExpectation<'a> {
    /// Network of the attested keyset.
    pub network: NetworkId,
    /// Registry of the measured manifest.
    pub registry: Digest,
    /// Meter key of the attested keyset.
    pub meter_key: [u8; 32],
    /// The id the requester gave the request.
    pub request_id: RequestId,
    /// Model root of the measured manifest.
    pub model_root: Digest,
    /// Digest of the verified measurement.
    pub measurement_digest: Digest,
    /// SHA-256 of the verified quote.
    pub evidence_digest: Digest,
    /// Prices of the measured manifest.
    pub prices: PricesSection,
    /// The requester's salt; the blinds must be derived from it.
    pub salt: Option<&'a [u8; 32]>,
    /// [`crate::request_commit`] over the bytes sent.
    pub request_commit: Option<Digest>,
    /// [`crate::ResponseCommit`] over the payload bytes received.
    pub response_commit: Option<Digest>,
    /// SHA-256 of the canonical sampling parameters of the request.
    pub sampling_hash: Option<Digest>,
    /// Prompt and completion tokens as the answer itself reported them.
    pub tokens: Option<(u32, u32)>,
    /// The finish reason the answer itself reported.
    pub finish: Option<Finish>,
    /// When the request was sent and the receipt received, by the requester's clock.
    pub window: Option<TimeWindow>,
}

/// From when to when, by the verifier's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeWindow {
    /// When the request was sent.
    pub from: UnixTime,
    /// When the receipt was received.
    pub to: UnixTime,
}

/// Verifies a receipt against what the requester knows.
pub fn verify(signed: &SignedReceipt, expect: &ReceiptExpectation<'_>) -> ReceiptReport {
    run(signed, Some(expect))
}

/// Verifies what a receipt alone can show: form, signature under the key it names, arithmetic and
/// times. Everything else is skipped; in particular the meter key is not known to be attested.
pub fn verify_offline(signed: &SignedReceipt) -> ReceiptReport {
    run(signed, None)
}

/// Verifies a proof of one child as far as that child goes. Its request id is the prover's to name, so
/// nothing is compared with [`ReceiptExpectation::request_id`], and there is no salt.
pub fn verify_proof(proof: &ChildProof, expect: Option<&ReceiptExpectation<'_>>) -> ReceiptReport {
    let mut checks = Checks::default();
    let (c, public) = (&mut checks, &proof.public);
    let child = proof.opened.child();
    c.result(
        "child",
        "The opened part is the one the receipt names",
        match proof.hash() {
            Ok(hash) if public.children.get(child as usize) == Some(&hash) => {
                Ok(format!("its {child} cell hashes to {hash}"))
            }
            Ok(_) => Err(ReceiptError::ChildHash { child }.to_string()),
            Err(error) => Err(error.to_string()),
        },
    );
    c.result(
        "signature",
        "The meter key signed exactly this receipt",
        match public.verify_signature() {
            Ok(()) => Ok(format!("Ed25519 signature by {}", public.key)),
            Err(error) => Err(error.to_string()),
        },
    );
    meter(c, &public.head, &public.key, expect);
    issued(c, public.head.issued_at, expect.and_then(|e| e.window));
    match &proof.opened {
        OpenedChild::Io(part) => io(c, part, expect),
        OpenedChild::Usage(part) => money(c, part, &public.head, expect),
        OpenedChild::Model(part) => {
            model(c, part, expect);
            measured(c, &part.engine_image_sha256, expect.map(|e| e.measurement_digest));
            sampling(c, part, expect);
        }
        OpenedChild::Att(part) => {
            measured(c, &part.measurement_sha256, expect.map(|e| e.measurement_digest));
            evidence(c, part, expect);
        }
    }
    checks.finish(public.head.network == NetworkId::INSECURE_SIM)
}

/// A prover names the time of the appraisal; the meter has signed when it made the receipt.
fn issued(c: &mut Checks, at: UnixTime, window: Option<TimeWindow>) {
    let title = "It was signed while the evidence was fresh";
    let Some(TimeWindow { from, to }) = window else {
        c.add("issued", title, Outcome::Skip, format!("the receipt says {} s", at.0));
        return;
    };
    let from = from.0.saturating_sub(CLOCK_SKEW_SECONDS);
    let to = to.0.saturating_add(CLOCK_SKEW_SECONDS);
    let result = if (from..=to).contains(&at.0) {
        Ok(format!("at {} s", at.0))
    } else {
        let next = "ask for the evidence of that day";
        Err(format!("signed at {} s, which is not between {from} and {to} s: {next}", at.0))
    };
    c.result("issued", title, result);
}

fn run(signed: &SignedReceipt, expect: Option<&ReceiptExpectation<'_>>) -> ReceiptReport {
    let mut checks = Checks::default();
    identity(&mut checks, signed, expect);
    content(&mut checks, signed, expect);
    money(&mut checks, &signed.receipt.usage, &signed.receipt.head(), expect);
    checks.finish(signed.receipt.network == NetworkId::INSECURE_SIM)
}

/// Who signed what, for which request on which network.
fn identity(c: &mut Checks, signed: &SignedReceipt, expect: Option<&ReceiptExpectation<'_>>) {
    let r = &signed.receipt;
    let rebuilt = signed.hash();
    c.result(
        "form",
        "The receipt is in its only form",
        if rebuilt == signed.hash {
            Ok(format!("the cells rebuilt from its fields hash to {rebuilt}"))
        } else {
            Err(format!(
                "its fields hash to {rebuilt}, it names {}: a field was changed; get the receipt \
                 again from the worker",
                signed.hash
            ))
        },
    );
    c.result(
        "signature",
        "The meter key signed exactly these fields",
        match signed.key.verify(rebuilt, r.network, &signed.signature) {
            Ok(()) => Ok(format!("Ed25519 signature by {}", signed.key)),
            Err(error) => Err(error.to_string()),
        },
    );
    meter(c, &r.head(), &signed.key, expect);
    let request = "The receipt is about this request";
    let next = "it belongs to another request";
    c.equal("request-id", request, expect.map(|e| e.request_id), &r.request_id, next);
    blinds(c, signed, expect.and_then(|e| e.salt));
}

/// What the root cell itself says about who metered, and where.
fn meter(
    c: &mut Checks,
    head: &Head,
    key: &MeterPublicKey,
    expect: Option<&ReceiptExpectation<'_>>,
) {
    let network = "The receipt is for the expected network";
    let next = "this receipt cannot be settled where you are";
    c.equal("network", network, expect.map(|e| e.network), &head.network, next);
    let registry = "The receipt names the registry of the measured manifest";
    let next = "the worker does not follow its own manifest";
    c.equal("registry", registry, expect.map(|e| e.registry), &head.registry, next);
    let meter = "The receipt names the attested meter key";
    let next = "a key that no evidence covers signed it; do not pay it";
    let expected = expect.map(|e| hex::encode(e.meter_key));
    c.equal("meter-key", meter, expected, &key.to_string(), next);
}

fn blinds(c: &mut Checks, signed: &SignedReceipt, salt: Option<&[u8; 32]>) {
    let title = "The blinds are derived from the client's salt";
    match salt.map(|salt| Blinds::derive(salt, signed.receipt.request_id)) {
        None => c.add("blinds", title, Outcome::Skip, "the salt is not at hand"),
        Some(derived) if derived == signed.blinds => {
            c.add("blinds", title, Outcome::Pass, "the worker chose none of them");
        }
        Some(_) => c.add(
            "blinds",
            title,
            Outcome::Fail,
            "at least one blind is not: the worker may be hiding a message in it; report it",
        ),
    }
}

/// What was asked, what answered, where.
fn content(c: &mut Checks, signed: &SignedReceipt, expect: Option<&ReceiptExpectation<'_>>) {
    let r = &signed.receipt;
    io(c, &r.io, expect);
    model(c, &r.model, expect);
    measurement(c, signed, expect.map(|e| e.measurement_digest));
    evidence(c, &r.att, expect);
    sampling(c, &r.model, expect);
}

fn io(c: &mut Checks, io: &Io, expect: Option<&ReceiptExpectation<'_>>) {
    let request = "The worker read exactly the request that was sent";
    let next = "the worker answered other bytes than you sent; discard the answer";
    let expected = expect.and_then(|e| e.request_commit);
    c.equal("request", request, expected, &io.request_commit, next);
    let response = "The answer received is exactly the answer produced";
    let next = "bytes were changed, dropped or added on the way; discard the answer";
    let expected = expect.and_then(|e| e.response_commit);
    c.equal("response", response, expected, &io.response_commit, next);
}

fn model(c: &mut Checks, model: &Model, expect: Option<&ReceiptExpectation<'_>>) {
    let title = "The pinned model answered";
    let next = "another model than the measured one answered; discard the answer";
    c.equal("model", title, expect.map(|e| e.model_root), &model.manifest_sha256, next);
}

fn evidence(c: &mut Checks, att: &Att, expect: Option<&ReceiptExpectation<'_>>) {
    let title = "The receipt names the evidence that was verified";
    let next = "the worker shows other evidence elsewhere; attest it again";
    c.equal("evidence", title, expect.map(|e| e.evidence_digest), &att.evidence_sha256, next);
}

fn sampling(c: &mut Checks, model: &Model, expect: Option<&ReceiptExpectation<'_>>) {
    let title = "Sampling parameters are those of the request";
    let next = "the answer was sampled in another way than you asked for";
    let expected = expect.and_then(|e| e.sampling_hash);
    c.equal("sampling", title, expected, &model.sampling_hash, next);
}

/// The measurement stands in two children, so that either can be opened alone; they must agree.
fn measurement(c: &mut Checks, signed: &SignedReceipt, expected: Option<Digest>) {
    let (model, att) = (&signed.receipt.model, &signed.receipt.att);
    if model.engine_image_sha256 == att.measurement_sha256 {
        measured(c, &att.measurement_sha256, expected);
    } else {
        let detail = format!(
            "the receipt names two measurements, {} and {}: no honest worker signs that",
            model.engine_image_sha256, att.measurement_sha256
        );
        c.add("measurement", MEASURED, Outcome::Fail, detail);
    }
}

fn measured(c: &mut Checks, measurement: &Digest, expected: Option<Digest>) {
    let next = "other code than the measured worker answered; discard the answer";
    c.equal("measurement", MEASURED, expected, measurement, next);
}

/// What it cost, how long it took, how it ended.
fn money(c: &mut Checks, usage: &Usage, head: &Head, expect: Option<&ReceiptExpectation<'_>>) {
    let prices = "Prices are those of the measured manifest";
    let next = "the worker charges other prices than it attested; do not pay";
    let expected = expect.map(|e| Prices(e.prices));
    c.equal("prices", prices, expected, &Prices(usage.prices), next);
    let tokens = "Tokens are those the answer reported";
    let next = "the worker bills other tokens than it told you";
    let expected = expect.and_then(|e| e.tokens).map(|(p, c)| Tokens(p, c));
    c.equal("tokens", tokens, expected, &Tokens(usage.prompt, usage.completion), next);
    c.result(
        "amount",
        "The amount is tokens times prices, rounded down",
        match usage.amount() {
            Ok(expected) if expected == head.amount => Ok(amount_in_words(usage, expected)),
            Ok(expected) => Err(format!(
                "tokens times prices are {expected} nanogram, the receipt says {}: do not pay",
                head.amount
            )),
            Err(error) => Err(error.to_string()),
        },
    );
    let window = expect.and_then(|e| e.window);
    let times = times(usage, head.issued_at, window);
    c.result("times", "The times are plausible", times);
    let finish = "The answer ended as it reported";
    let next = "an answer that was cut off is presented as complete, or the reverse";
    c.equal("finish", finish, expect.and_then(|e| e.finish), &usage.finish, next);
}

fn times(usage: &Usage, issued_at: UnixTime, window: Option<TimeWindow>) -> Result<String, String> {
    let (started, ended) = (usage.started, usage.ended);
    let took = ended.0.checked_sub(started.0).ok_or_else(|| {
        format!("it ended at {} ms, before it started at {} ms", ended.0, started.0)
    })?;
    if took > MAX_REQUEST_MILLIS {
        return Err(format!(
            "{took} ms for one request; at most {MAX_REQUEST_MILLIS} are believed"
        ));
    }
    let latest = ended.seconds().0.saturating_add(MAX_ISSUE_DELAY_SECONDS);
    if issued_at < ended.seconds() || issued_at.0 > latest {
        return Err(format!(
            "issued at {} s, but the request ended at {} ms; receipts are issued at once",
            issued_at.0, ended.0
        ));
    }
    if let Some(window) = window {
        let from = window.from.0.saturating_sub(CLOCK_SKEW_SECONDS);
        let to = window.to.0.saturating_add(CLOCK_SKEW_SECONDS);
        if started.seconds().0 < from || issued_at.0 > to {
            return Err(format!(
                "from {} to {} s by the worker's clock, {} to {} by yours; clocks may differ by \
                 {CLOCK_SKEW_SECONDS} s: check both",
                started.seconds().0,
                issued_at.0,
                window.from.0,
                window.to.0
            ));
        }
        return Ok(format!("{took} ms, within the time you waited"));
    }
    Ok(format!("{took} ms, issued at {} s", issued_at.0))
}

fn amount_in_words(usage: &Usage, nanogram: u128) -> String {
    let grams = nanogram / NANOGRAM;
    let rest = nanogram % NANOGRAM;
    format!(
        "{} prompt tokens ({} cached) and {} completion tokens ({} reasoning) cost {grams}.{rest:09} \
         GRAM",
        usage.prompt, usage.cached, usage.completion, usage.reasoning
    )
}

#[derive(PartialEq)]
struct Prices(PricesSection);

impl fmt::Display for Prices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PricesSection { prompt, cached, completion, reasoning } = self.0;
        write!(
            f,
            "prompt {prompt}, cached {cached}, completion {completion}, reasoning {reasoning} \
             nanogram per {TOKENS_PER_PRICE} tokens"
        )
    }
}

#[derive(PartialEq)]
struct Tokens(u32, u32);

impl fmt::Display for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} prompt and {} completion tokens", self.0, self.1)
    }
}

const MEASURED: &str = "The measured worker ran the engine";

/// Longest request believed: one day.
pub const MAX_REQUEST_MILLIS: u64 = 24 * 60 * 60 * 1000;
/// Longest time between the end of a request and its receipt.
pub const MAX_ISSUE_DELAY_SECONDS: u64 = 60;
/// How far the worker's and the verifier's clock may differ; the seal header allows as much.
pub const CLOCK_SKEW_SECONDS: u64 = 300;
/// Nanogram in a GRAM.
const NANOGRAM: u128 = 1_000_000_000;
