//! `chrysalis vectors run`: judges one conformance case, JSON in and JSON out, with the exit codes of
//! every command. The case is untrusted bytes; pins in it are the case's own and accept nothing for
//! anybody. `tests/vectors/README.md` is the interface, for other implementations to provide too.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use chrysalis_evidence::nvidia::{self, DeviceEvidence};
use chrysalis_evidence::{
    AllowSim, Appraiser, Binding, Collateral, Pins, Refusal, ReportData, Role, RuleId, Session,
    keyset_digest, replay_rtmr,
};
use chrysalis_wire::{AttestationDocument, DeviceDocument, Digest, RuntimeEvent, UnixTime};
use clap::{Args, Subcommand};
use gramine_ratls::{CertificateVerifier, Format, RatlsError};
use hex::{FromHex, FromHexError};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

use crate::context::Context;
use crate::exit::{Class, Failure};
use crate::files;

/// `vectors`.
#[derive(Debug, Subcommand)]
pub(crate) enum VectorsCommand {
    /// Judge one conformance case: JSON in, JSON out (tests/vectors/README.md).
    Run(Run),
}

/// `vectors run`.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The case, with its base filled in; `-` is standard input.
    #[arg(value_name = "FILE")]
    case: PathBuf,
}

pub(crate) fn run(command: &VectorsCommand, context: &Context) -> Result<ExitCode, Failure> {
    let VectorsCommand::Run(Run { case }) = command;
    let bytes = if case.as_os_str() == "-" { stdin()? } else { files::read(case, MAX_CASE_BYTES)? };
    let (stage, case) = read(&bytes)?;
    let answer = Answer::of(stage, case.judge());
    context.report.result(ANSWER_SCHEMA, &answer, |out| {
        let word = if answer.accepted { "ACCEPTED" } else { "REFUSED" };
        let code = answer.code.as_deref().unwrap_or_default();
        let rule = answer.rule.map(|rule| format!(" by {rule}")).unwrap_or_default();
        out.verdict(answer.accepted, format!("{word}  {code}{rule}").trim_end())?;
        answer.message.as_ref().map_or(Ok(()), |message| out.line(message))
    })?;
    Ok(ExitCode::from(answer.exit))
}

fn stdin() -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let limit = (MAX_CASE_BYTES as u64).saturating_add(1);
    std::io::stdin().lock().take(limit).read_to_end(&mut bytes).map_err(|e| malformed(&e))?;
    if bytes.len() > MAX_CASE_BYTES {
        return Err(malformed(&format!("it is over the limit of {MAX_CASE_BYTES} bytes")));
    }
    Ok(bytes)
}

fn read(bytes: &[u8]) -> Result<(String, Case), Failure> {
    let mut value: Value = serde_json::from_slice(bytes).map_err(|e| malformed(&e))?;
    let schema = value.as_object_mut().and_then(|object| object.shift_remove("schema"));
    if schema != Some(CASE_SCHEMA.into()) {
        return Err(malformed(&format!("its schema is not {CASE_SCHEMA:?}")));
    }
    let stage = value.get("stage").and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok((stage, serde_json::from_value(value).map_err(|e| malformed(&e))?))
}

fn malformed(reason: &impl ToString) -> Failure {
    let message = format!("this is no conformance case: {}", reason.to_string());
    Failure::new(Class::Malformed, "E-CASE", message)
        .next("see tests/vectors/README.md for the form of a case")
}

/// What `run` prints.
#[derive(Debug, Serialize)]
struct Answer {
    stage: String,
    accepted: bool,
    /// Code of the refusal.
    code: Option<String>,
    /// Rule of the policy that refused, where one did.
    rule: Option<RuleId>,
    /// The exit code, for those who cannot see it.
    exit: u8,
    message: Option<String>,
    /// Every rule, where the stage has a verdict. Its form is this implementation's own.
    verdict: Value,
}

impl Answer {
    fn of(stage: String, judged: Result<Value, Box<No>>) -> Self {
        match judged {
            Ok(verdict) => Self {
                stage,
                accepted: true,
                code: None,
                rule: None,
                exit: 0,
                message: None,
                verdict,
            },
            Err(no) => Self {
                stage,
                accepted: false,
                rule: no.rule,
                exit: no.failure.class as u8,
                message: Some(no.failure.message),
                code: Some(no.failure.code),
                verdict: no.verdict,
            },
        }
    }
}

/// A refusal, with the rule and the verdict where there are any.
struct No {
    failure: Failure,
    rule: Option<RuleId>,
    verdict: Value,
}

impl<E: Into<Failure>> From<E> for Box<No> {
    fn from(error: E) -> Self {
        Self::new(No { failure: error.into(), rule: None, verdict: Value::Null })
    }
}

fn refused(refusal: &Refusal, verdict: Value) -> Box<No> {
    Box::new(No { failure: refusal.clone().into(), rule: Some(refusal.rule), verdict })
}

fn by(rule: RuleId, code: &str, message: impl ToString) -> Box<No> {
    let failure = Failure::new(Class::Refused, code, message.to_string());
    Box::new(No { failure, rule: Some(rule), verdict: Value::Null })
}

impl From<RatlsError> for Failure {
    fn from(error: RatlsError) -> Self {
        match error {
            RatlsError::Refused(refusal) => (*refusal).into(),
            other => Self::new(Class::Refused, other.code(), other.to_string()),
        }
    }
}

/// One case, by what is judged.
#[derive(Deserialize)]
#[serde(tag = "stage", rename_all = "kebab-case")]
enum Case {
    Quote(QuoteCase),
    Collateral(QuoteCase),
    Document(DocumentCase),
    Pins(PinsCase),
    EventLog(EventLogCase),
    Gpu(GpuCase),
    Ratls(RatlsCase),
    Attest(AttestCase),
}

impl Case {
    fn judge(&self) -> Result<Value, Box<No>> {
        match self {
            Self::Quote(case) | Self::Collateral(case) => case.judge(),
            Self::Document(case) => case.judge(),
            Self::Pins(case) => case.judge(),
            Self::EventLog(case) => case.judge(),
            Self::Gpu(case) => case.judge(),
            Self::Ratls(case) => case.judge(),
            Self::Attest(case) => case.judge(),
        }
    }
}

/// A quote alone.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct QuoteCase {
    pins: String,
    collateral: String,
    now: UnixTime,
    #[serde(deserialize_with = "from_hex")]
    report_data: [u8; 64],
    #[serde(deserialize_with = "from_hex")]
    quote: Vec<u8>,
}

impl QuoteCase {
    fn judge(&self) -> Result<Value, Box<No>> {
        let appraiser = Appraiser::new(pins(&self.pins)?);
        let collateral = Collateral::parse(self.collateral.as_bytes())?;
        let expected = ReportData(self.report_data);
        let verdict = appraiser.appraise_quote(&self.quote, &expected, &collateral, self.now);
        let shown = json!(verdict);
        verdict.result.map_or_else(|no| Err(refused(&no, shown.clone())), |_| Ok(shown.clone()))
    }
}

/// A whole attestation document.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DocumentCase {
    pins: String,
    collateral: String,
    now: UnixTime,
    /// Which end proves itself; the server where the case says nothing.
    #[serde(default = "server")]
    prover: End,
    session: Session,
    document: AttestationDocument,
}

impl DocumentCase {
    fn judge(&self) -> Result<Value, Box<No>> {
        let appraiser = Appraiser::new(pins(&self.pins)?);
        let collateral = Collateral::parse(self.collateral.as_bytes())?;
        let (document, session, prover) = (&self.document, &self.session, self.prover.into());
        let verdict = appraiser.appraise_end(prover, document, session, &collateral, self.now);
        let shown = json!(verdict);
        verdict.result.map_or_else(|no| Err(refused(&no, shown.clone())), |_| Ok(shown.clone()))
    }
}

/// A pins file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PinsCase {
    pins: String,
    /// Whether the reader has asked for simulation.
    allow_sim: bool,
}

impl PinsCase {
    fn judge(&self) -> Result<Value, Box<No>> {
        let allow = if self.allow_sim { AllowSim::Yes } else { AllowSim::No };
        let pins = Pins::parse(&self.pins, allow)?;
        Ok(json!({ "tier": pins.tier(), "digest": pins.digest() }))
    }
}

/// A runtime event log against its register.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventLogCase {
    #[serde(deserialize_with = "from_hex")]
    rtmr3: [u8; 48],
    events: Vec<RuntimeEvent>,
}

impl EventLogCase {
    fn judge(&self) -> Result<Value, Box<No>> {
        let rule = RuleId::EventLog;
        let replayed = replay_rtmr(&self.events).map_err(|e| by(rule, e.code(), e))?;
        if replayed == self.rtmr3 {
            return Ok(Value::Null);
        }
        Err(by(rule, "E-RTMR3", format!("the log gives {}", hex::encode(replayed))))
    }
}

/// Devices alone.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GpuCase {
    pins: String,
    now: UnixTime,
    #[serde(deserialize_with = "from_hex")]
    nonce: [u8; 32],
    devices: Vec<DeviceDocument>,
}

impl GpuCase {
    fn judge(&self) -> Result<Value, Box<No>> {
        let pins = pins(&self.pins)?;
        let pins = pins.device().ok_or_else(|| malformed(&"the pins name no device"))?;
        let read = |device: &DeviceDocument| {
            let report = hex::decode(&device.report).map_err(|e| malformed(&e))?;
            let chain = hex::decode(&device.chain).map_err(|e| malformed(&e))?;
            Ok::<_, Failure>(DeviceEvidence { report, chain })
        };
        let set: Vec<DeviceEvidence> = self.devices.iter().map(read).collect::<Result<_, _>>()?;
        let verdict = nvidia::appraise(&set, &self.nonce, pins, self.now);
        let shown = json!({ "rules": verdict.rules, "insecure_sim": verdict.insecure_sim });
        verdict.result.map_or_else(|no| Err(refused(&no, shown.clone())), |_| Ok(shown.clone()))
    }
}

/// A certificate with a quote.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RatlsCase {
    pins: String,
    collateral: String,
    now: UnixTime,
    holder: End,
    #[serde(deserialize_with = "from_hex")]
    certificate: Vec<u8>,
}

impl RatlsCase {
    fn judge(&self) -> Result<Value, Box<No>> {
        let appraiser = Appraiser::new(pins(&self.pins)?);
        let collateral = Arc::new(Collateral::parse(self.collateral.as_bytes())?);
        let verifier = CertificateVerifier::new(appraiser, collateral, Format::ALL);
        let appraised = verifier.verify(&self.certificate, self.holder.into(), self.now)?;
        let shown = json!(appraised.verdict());
        match appraised.accept() {
            Ok(_) => Ok(shown),
            Err(RatlsError::Refused(refusal)) => Err(refused(&refusal, shown)),
            Err(other) => Err(other.into()),
        }
    }
}

/// What a quote is bound to, by `attest/1`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AttestCase {
    role: End,
    session: Session,
    #[serde(deserialize_with = "from_hex")]
    keyset: Vec<u8>,
    device_digest: Digest,
    #[serde(deserialize_with = "from_hex")]
    report_data: [u8; 64],
}

impl AttestCase {
    fn judge(&self) -> Result<Value, Box<No>> {
        let expected = Binding {
            role: self.role.into(),
            tls_spki: self.session.tls_spki,
            nonce: self.session.nonce,
            exporter: self.session.exporter,
            keyset_digest: keyset_digest(&self.keyset),
            device_digest: self.device_digest,
        }
        .report_data();
        if expected.matches(&self.report_data) {
            return Ok(Value::Null);
        }
        let message = format!("expected {}", hex::encode(expected.0));
        Err(by(RuleId::ReportData, "E-REPORT-DATA", message))
    }
}

/// Which end of the connection proves itself.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum End {
    Server,
    Client,
}

const fn server() -> End {
    End::Server
}

impl From<End> for Role {
    fn from(end: End) -> Self {
        match end {
            End::Server => Self::Server,
            End::Client => Self::Client,
        }
    }
}

fn from_hex<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromHex<Error = FromHexError>,
{
    T::from_hex(String::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// A case brings its own pins; they are those of the simulator in nearly all.
fn pins(text: &str) -> Result<Pins, Failure> {
    Ok(Pins::parse(text, AllowSim::Yes)?)
}

const CASE_SCHEMA: &str = "chrysalis/case/v1";
const ANSWER_SCHEMA: &str = "chrysalis/case-answer/v1";
/// Largest case read, in bytes: several times the largest collateral, escaped.
const MAX_CASE_BYTES: usize = 8 << 20;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn refuses_what_is_no_case() {
        for text in [
            "",
            "[]",
            r#"{"stage":"pins","pins":"","allow_sim":true}"#,
            r#"{"schema":"chrysalis/case/v2","stage":"pins","pins":"","allow_sim":true}"#,
            r#"{"schema":"chrysalis/case/v1","stage":"other"}"#,
            r#"{"schema":"chrysalis/case/v1","stage":"pins","pins":""}"#,
            r#"{"schema":"chrysalis/case/v1","stage":"pins","pins":"","allow_sim":true,"x":1}"#,
        ] {
            let failure = read(text.as_bytes()).err().unwrap();
            assert_eq!((failure.code.as_str(), failure.class), ("E-CASE", Class::Malformed));
        }
    }

    #[test]
    fn an_answer_has_the_exit_code_of_the_refusal() {
        let text = r#"{"schema":"chrysalis/case/v1","stage":"pins","pins":"","allow_sim":true}"#;
        let (stage, case) = read(text.as_bytes()).unwrap();
        let answer = Answer::of(stage, case.judge());
        assert_eq!((answer.accepted, answer.exit), (false, 30));
        assert_eq!(answer.code.as_deref(), Some("E-PINS-FORM"));
    }
}
