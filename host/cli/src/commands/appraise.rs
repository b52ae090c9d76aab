//! `chrysalis appraise`: asks a worker for evidence over a fresh nonce and shows every rule. The
//! worker is untrusted until the last line.

use std::path::PathBuf;
use std::process::ExitCode;

use chrysalis_evidence::{Measurement, Verdict};
use chrysalis_measure::tdx::{EventLog, MAX_LOG_BYTES, Rtmr, Sha384Digest};
use clap::Args;
use serde::Serialize;

use crate::context::Context;
use crate::exit::{Class, Failure};
use crate::explain::{self, Hashed};
use crate::files;
use crate::report::Text;
use crate::transcript;
use crate::verifier::{EVIDENCE, Policy};
use crate::waiting::Waiting;

/// `appraise`.
#[derive(Debug, Args)]
pub(crate) struct Appraise {
    /// The worker, `HOST:PORT`.
    #[arg(value_name = "ADDR")]
    address: String,
    /// Show every byte that was hashed: report_data, the steps of RTMR3, the image hash.
    #[arg(long)]
    explain: bool,
    /// Event log of the worker's firmware (CCEL, plain or gzip). It has to lead to RTMR0, RTMR1 and
    /// RTMR2 of the accepted quote.
    #[arg(long, value_name = "FILE")]
    event_log: Option<PathBuf>,
    #[command(flatten)]
    policy: Policy,
}

/// A verdict with what was asked for beside it.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    verdict: &'a Verdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    hashed: Option<&'a [Hashed]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_log: Option<&'a Replayed>,
}

/// A firmware log against the quote.
#[derive(Serialize)]
struct Replayed {
    events: usize,
    registers: Vec<Register>,
}

#[derive(Serialize)]
struct Register {
    register: String,
    events: usize,
    /// Whether the quote has the value that the events give.
    equal: bool,
}

pub(crate) fn run(arguments: &Appraise, context: &Context) -> Result<ExitCode, Failure> {
    let worker = arguments.policy.worker(&arguments.address, context)?;
    let read = |path: &PathBuf| {
        let log = EventLog::read(&files::read(path, MAX_LOG_BYTES)?);
        log.map_err(|e| Failure::from(e).in_file(path))
    };
    let log = arguments.event_log.as_ref().map(read).transpose()?;
    let waiting = Waiting::for_(context.report, EVIDENCE);
    let attestation = context.block_on(async { Ok(worker.attest().await?) })?;
    drop(waiting);
    let verdict = attestation.verdict();
    let hashed = if arguments.explain {
        explain::explain(attestation.document(), attestation.session())
    } else {
        None
    };
    if arguments.explain && hashed.is_none() {
        context.report.note("nothing is explained: the document holds no quote of a trust domain");
    }
    // Signed registers only: a log that leads to a refused quote's claims leads to nothing.
    let accepted = verdict.result.as_ref().ok();
    let measured = accepted.and_then(|worker| worker.measurement().td().copied());
    if log.is_some() && accepted.is_some() && measured.is_none() {
        return Err(no_registers());
    }
    let replayed = log.as_ref().zip(measured.as_ref()).map(|(log, found)| replay(log, found));
    let shown = Shown { verdict, hashed: hashed.as_deref(), event_log: replayed.as_ref() };
    if context.report.is_json() {
        // A verdict carries its own schema.
        context.report.json(&shown)?;
    } else {
        context.report.text(|out| shown.text(out))?;
    }
    // The verdict and one check that is not the verdict's: whose connection this is.
    attestation.accept()?;
    if let (Some(log), Some(found)) = (&log, &measured) {
        log.check_replay(&digests(found))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn no_registers() -> Failure {
    let message = "--event-log is about a trust domain's registers, and this worker is an enclave";
    Failure::new(Class::Usage, "E-EVENT-LOG-ENCLAVE", message).next("leave --event-log out")
}

fn digests(found: &Measurement) -> [Sha384Digest; 4] {
    found.rtmr.map(Sha384Digest)
}

fn replay(log: &EventLog, found: &Measurement) -> Replayed {
    let registers = Rtmr::ALL.into_iter().zip(digests(found)).take(FIRMWARE_REGISTERS);
    let of = |(register, value): (Rtmr, Sha384Digest)| Register {
        register: register.to_string(),
        events: log.of(register).count(),
        equal: log.replay(register) == value,
    };
    Replayed { events: log.events().len(), registers: registers.map(of).collect() }
}

impl Shown<'_> {
    fn text(&self, out: &mut Text) -> std::fmt::Result {
        transcript::verdict(out, self.verdict)?;
        if let Ok(worker) = &self.verdict.result {
            transcript::worker(out, worker)?;
        }
        if let Some(log) = self.event_log {
            for Register { register, events, equal } in &log.registers {
                let outcome = if *equal { "PASS" } else { "FAIL" };
                let (title, detail) = ("firmware log leads to it", format!("{events} events"));
                out.check(outcome, register, title, &detail)?;
            }
        }
        self.hashed.map_or(Ok(()), |hashed| explain::show(hashed, out))
    }
}

/// RTMR3 is the worker's own; its log is in the evidence.
const FIRMWARE_REGISTERS: usize = 3;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
    use chrysalis_measure::tdx::TdQuote;

    use super::*;

    fn vector(name: &str) -> Option<Vec<u8>> {
        let root = std::env::var_os("CHRYSALIS_VECTORS").map_or_else(
            || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors")),
            PathBuf::from,
        );
        if !root.is_dir() {
            eprintln!("skipped: no vectors folder; set CHRYSALIS_VECTORS");
            return None;
        }
        let path = root.join("attest/tdx").join(name);
        Some(std::fs::read(&path).unwrap_or_else(|e| panic!("vector {name} is missing: {e}")))
    }

    #[test]
    fn a_recorded_log_leads_to_its_quote_and_names_the_first_register_that_differs() {
        let Some(log) = vector("ccel-ccel_data.dat.gz") else { return };
        let log = EventLog::read(&log).unwrap();
        let quote = TdQuote::parse(&vector("ccel-cos-113-tdx-quote.dat").unwrap()).unwrap();
        let mut found =
            Measurement { mrtd: quote.mrtd.0, rtmr: quote.rtmr.map(|Sha384Digest(r)| r) };
        let replayed = replay(&log, &found);
        assert_eq!(replayed.registers.len(), FIRMWARE_REGISTERS);
        assert!(replayed.registers.iter().all(|r| r.equal && r.events > 0));
        log.check_replay(&digests(&found)).unwrap();

        found.rtmr[1][0] ^= 1;
        found.rtmr[2][0] ^= 1;
        let equal: Vec<bool> = replay(&log, &found).registers.iter().map(|r| r.equal).collect();
        assert_eq!(equal, [true, false, false]);
        let refused = Failure::from(log.check_replay(&digests(&found)).unwrap_err());
        assert_eq!(refused.code, "E-CCEL-REPLAY");
        assert!(refused.message.contains("RTMR1"), "{}", refused.message);
    }
}
