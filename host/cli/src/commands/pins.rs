//! `chrysalis policy keygen|sign|verify|diff`: the signed form of a pins file, for whoever publishes pins
//! and whoever takes them from a publisher. A signed file is untrusted until it opens under the key
//! its user gives.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use chrysalis_evidence::{Admission, AllowSim, MAX_PINS_BYTES, Pins};
use chrysalis_policy::{
    Change, Direction, MAX_SIGNED_PINS_BYTES, PinsKey, PinsSecret, PolicyError, SignedPins,
    compare_pins, denied_in_words,
};
use chrysalis_wire::Digest;
use clap::Args;
use serde::Serialize;

use crate::context::Context;
use crate::exit::{Class, Failure};
use crate::files::{self, Existing};
use crate::report::Text;

/// `policy keygen`.
#[derive(Debug, Args)]
pub(crate) struct Keygen {
    /// Where the secret key goes; readable by you alone, and never written over.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// `policy sign`.
#[derive(Debug, Args)]
pub(crate) struct Sign {
    /// The pins, with a `sequence`.
    #[arg(value_name = "PINS")]
    pins: PathBuf,
    /// Secret key of `policy keygen`.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The signed form.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Sign pins of the INSECURE-SIM tier, which protect nothing.
    #[arg(long)]
    insecure_sim: bool,
}

/// `policy verify`.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The signed form.
    #[arg(value_name = "SIGNED")]
    signed: PathBuf,
    /// Public key of the publisher, hex; from her, not from where the file came from.
    #[arg(long, value_name = "HEX")]
    key: String,
    /// Refuse pins with a lower number.
    #[arg(long, value_name = "NUMBER")]
    minimum: Option<u64>,
    /// Write the pins in it, as they were before they were signed.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Accept pins of the INSECURE-SIM tier, which protect nothing.
    #[arg(long)]
    insecure_sim: bool,
}

/// `policy diff`.
#[derive(Debug, Args)]
pub(crate) struct DiffPins {
    /// The pins there are.
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// The pins to come.
    #[arg(value_name = "NEW")]
    new: PathBuf,
    /// Read pins of the INSECURE-SIM tier, which protect nothing.
    #[arg(long)]
    insecure_sim: bool,
}

/// Whether simulated pins are accepted.
pub(crate) const fn sim(insecure_sim: bool) -> AllowSim {
    if insecure_sim { AllowSim::Yes } else { AllowSim::No }
}

/// Reads and opens a signed file.
pub(crate) fn open(path: &Path, key: &str, sim: AllowSim) -> Result<SignedPins, Failure> {
    let key = PinsKey::parse(key)?;
    SignedPins::open(&files::read(path, MAX_SIGNED_PINS_BYTES)?, &key, sim)
        .map_err(|e| Failure::from(e).in_file(path))
}

pub(crate) fn keygen(arguments: &Keygen, context: &Context) -> Result<ExitCode, Failure> {
    let secret = PinsSecret::from_seed(&context.random()?);
    files::write_secret(&arguments.out, secret.to_text().as_bytes())?;
    let public = secret.public();
    let made = Made {
        path: arguments.out.display().to_string(),
        public: public.to_text(),
        key_id: public.id(),
    };
    context.report.result("chrysalis/pins-key/v1", &made, |out| {
        out.field("wrote", &made.path)?;
        out.field("public key", &made.public)?;
        out.field("key id", made.key_id)
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn sign(arguments: &Sign, context: &Context) -> Result<ExitCode, Failure> {
    let text = files::read_text(&arguments.pins, MAX_PINS_BYTES)?;
    let secret = files::read_secret(&arguments.key, MAX_KEY_BYTES)?;
    let secret = core::str::from_utf8(secret.expose()).map_err(|_| PolicyError::Key)?;
    let secret = PinsSecret::parse(secret).map_err(|e| Failure::from(e).in_file(&arguments.key))?;
    let sim = sim(arguments.insecure_sim);
    let envelope = SignedPins::sign(&text, &secret, sim)
        .map_err(|e| Failure::from(e).in_file(&arguments.pins))?;
    let signed = SignedPins::open(envelope.as_bytes(), &secret.public(), sim)?;
    files::write(&arguments.out, envelope.as_bytes(), Existing::Replace)?;
    show(&signed, &arguments.out, context)
}

pub(crate) fn verify(arguments: &Verify, context: &Context) -> Result<ExitCode, Failure> {
    let signed = open(&arguments.signed, &arguments.key, sim(arguments.insecure_sim))?;
    if let Some(have) = arguments.minimum
        && signed.sequence() < have
    {
        let got = signed.sequence();
        return Err(Failure::from(PolicyError::Rollback { have, got }).in_file(&arguments.signed));
    }
    if let Some(path) = &arguments.out {
        files::write(path, signed.text().as_bytes(), Existing::Replace)?;
    }
    show(&signed, &arguments.signed, context)
}

pub(crate) fn diff(arguments: &DiffPins, context: &Context) -> Result<ExitCode, Failure> {
    let read = |path: &Path| {
        let pins =
            Pins::parse(&files::read_text(path, MAX_PINS_BYTES)?, sim(arguments.insecure_sim));
        pins.map_err(|e| Failure::from(e).in_file(path))
    };
    let (old, new) = (read(&arguments.old)?, read(&arguments.new)?);
    let changes = compare_pins(&old, &new);
    let compared = Compared { equal: changes.is_empty(), changes };
    context.report.result("chrysalis/pins-diff/v1", &compared, |out| {
        for change in &compared.changes {
            let mark = match change.direction {
                Direction::Wider => "wider",
                Direction::Narrower => "narrower",
                Direction::Other => "other",
            };
            out.field(mark, &change.what)?;
        }
        if compared.equal { out.line("The two accept the same.") } else { Ok(()) }
    })?;
    Ok(ExitCode::SUCCESS)
}

fn show(signed: &SignedPins, path: &Path, context: &Context) -> Result<ExitCode, Failure> {
    let pins = signed.pins();
    let shown = Shown {
        path: path.display().to_string(),
        sequence: signed.sequence(),
        key_id: signed.key(),
        pins_sha256: pins.digest(),
        tier: pins.tier().to_string(),
        network: pins.network().0,
        workers: pins.workers().iter().map(|worker| worker.name.clone()).collect(),
        admission: admission(pins),
        denied: pins.denied().len(),
    };
    context.report.result("chrysalis/pins-signed/v1", &shown, |out| shown.text(pins, out))?;
    Ok(ExitCode::SUCCESS)
}

fn admission(pins: &Pins) -> String {
    match &pins.platform().admission {
        Admission::Open => "open: any genuine platform".to_owned(),
        Admission::Vetted(list) => format!("vetted: {} platforms", list.len()),
    }
}

#[derive(Serialize)]
struct Compared {
    equal: bool,
    changes: Vec<Change>,
}

#[derive(Serialize)]
struct Made {
    path: String,
    public: String,
    key_id: Digest,
}

#[derive(Serialize)]
struct Shown {
    path: String,
    sequence: u64,
    key_id: Digest,
    pins_sha256: Digest,
    tier: String,
    network: i32,
    workers: Vec<String>,
    admission: String,
    denied: usize,
}

impl Shown {
    fn text(&self, pins: &Pins, out: &mut Text) -> std::fmt::Result {
        if pins.insecure_sim() {
            out.warning("INSECURE-SIM  these pins accept a simulated platform")?;
        }
        out.field("signed pins", &self.path)?;
        out.field("number", self.sequence)?;
        out.field("key id", self.key_id)?;
        out.field("pins sha256", self.pins_sha256)?;
        out.field("tier", &self.tier)?;
        for worker in pins.workers() {
            let from = worker.activates_at.map(|at| format!(", from {} on", at.0));
            out.field("worker", format!("{}{}", worker.name, from.unwrap_or_default()))?;
        }
        out.field("platforms", &self.admission)?;
        for denial in pins.denied() {
            out.field("denied", format!("{}: {}", denied_in_words(&denial.what), denial.reason))?;
        }
        out.verdict(true, "the signature holds")
    }
}

impl From<PolicyError> for Failure {
    fn from(error: PolicyError) -> Self {
        if let PolicyError::Pins(inner) = error {
            return inner.into();
        }
        let (class, next) = match &error {
            PolicyError::Rollback { .. } | PolicyError::Fork { .. } => {
                (Class::Refused, "ask the publisher for her newest pins, and tell her about these")
            }
            PolicyError::OtherKey { .. } | PolicyError::Signature => (
                Class::Refused,
                "do not use these pins; get the key and the pins from the publisher",
            ),
            PolicyError::Unnumbered => (Class::Refused, "add `sequence = 1`, and count it up"),
            PolicyError::MemoryOfAnotherKey { .. } => {
                (Class::Refused, "give this publisher a memory of its own with --pins-memory")
            }
            PolicyError::Memory { .. } => {
                (Class::Malformed, "restore the file; without it old pins would be accepted again")
            }
            PolicyError::Key | PolicyError::Delay { .. } => {
                (Class::Usage, "run the command again with --help")
            }
            _ => (Class::Malformed, "make it with `chrysalis policy sign`"),
        };
        Self::new(class, error.code(), error.to_string()).next(next)
    }
}

/// Largest key file read, in bytes.
const MAX_KEY_BYTES: usize = 256;
