//! The arguments and files that every verifying command needs: whom to ask, whom to accept, and
//! the signed facts to judge by. All of it is the user's own policy.

use std::path::PathBuf;
use std::sync::Arc;

use chrysalis_client::{Clock, Worker};
use chrysalis_evidence::{Collateral, MAX_COLLATERAL_BYTES, MAX_PINS_BYTES, Pins};
use chrysalis_policy::{ACTIVATION_DELAY_SECONDS, Judge, MAX_ACTIVATION_DELAY_SECONDS};
use clap::Args;

use crate::args::state_dir;
use crate::commands::pins::{self, sim};
use crate::context::Context;
use crate::exit::{Class, Failure};
use crate::files;
use crate::memory::{Remembered, remember};

/// What every verifying command waits for first.
pub(crate) const EVIDENCE: &str = "the worker's evidence";

/// What evidence is judged by.
#[derive(Debug, Args)]
pub(crate) struct Policy {
    /// Pins file: which workers are accepted.
    #[arg(long, value_name = "FILE")]
    pub(crate) pins: PathBuf,
    /// Collateral bundle: signed facts about the platform.
    #[arg(long, value_name = "FILE")]
    pub(crate) collateral: PathBuf,
    /// Accept pins of the INSECURE-SIM tier, which protect nothing.
    #[arg(long)]
    pub(crate) insecure_sim: bool,
    /// The pins are signed, and this is their publisher's public key, hex. They are refused if older
    /// than any seen before, and what they newly accept has to wait.
    #[arg(long, value_name = "HEX")]
    pub(crate) pins_key: Option<String>,
    /// What was seen of this publisher's pins; without it a file in the state directory of the user.
    #[arg(long, value_name = "FILE", requires = "pins_key")]
    pub(crate) pins_memory: Option<PathBuf>,
    /// Hours that additions of a publisher wait.
    #[arg(long, value_name = "HOURS", requires = "pins_key",
        default_value_t = ACTIVATION_DELAY_SECONDS / SECONDS_PER_HOUR,
        value_parser = clap::value_parser!(u64).range(1..=MAX_ACTIVATION_DELAY_SECONDS / SECONDS_PER_HOUR))]
    pub(crate) activation_delay: u64,
}

impl Policy {
    /// Reads both files, and the memory of a publisher's pins.
    pub(crate) fn load(&self, context: &Context) -> Result<(Judge, Collateral), Failure> {
        Ok((self.judge(context)?, self.collateral()?))
    }

    /// Reads the pins, and the memory of a publisher's.
    pub(crate) fn judge(&self, context: &Context) -> Result<Judge, Failure> {
        if let Some(key) = &self.pins_key {
            return self.published(key, context);
        }
        let text = files::read_text(&self.pins, MAX_PINS_BYTES)?;
        let pins = Pins::parse(&text, sim(self.insecure_sim));
        Ok(Judge::by(pins.map_err(|e| Failure::from(e).in_file(&self.pins))?))
    }

    /// Reads the collateral.
    pub(crate) fn collateral(&self) -> Result<Collateral, Failure> {
        Collateral::parse(&files::read(&self.collateral, MAX_COLLATERAL_BYTES)?)
            .map_err(|e| Failure::from(e).in_file(&self.collateral))
    }

    /// Pins of a publisher: opened, remembered before they are used, and slow to widen.
    fn published(&self, key: &str, context: &Context) -> Result<Judge, Failure> {
        let signed = pins::open(&self.pins, key, sim(self.insecure_sim))?;
        let path = match &self.pins_memory {
            Some(path) => path.clone(),
            None => state_dir(None)?.join("pins").join(format!("{}.json", signed.key())),
        };
        let (now, delay) = (context.now(), self.activation_delay.saturating_mul(SECONDS_PER_HOUR));
        let number = signed.sequence();
        let Remembered { memory, first } =
            remember(&path, &signed, &self.pins, sim(self.insecure_sim), now)?;
        if first {
            let path = path.display();
            let text = format!("no memory at {path}: pins number {number} are taken as they are");
            context.report.note(&text);
        }
        if let Some(at) = memory.settled_at(delay, now) {
            let at = at.0;
            context.report.note(&format!("what pins number {number} add is accepted from {at} on"));
        }
        Ok(Judge::of(&memory, delay, now)?)
    }

    /// The worker at `address`, to be judged by this policy.
    pub(crate) fn worker(&self, address: &str, context: &Context) -> Result<Worker, Failure> {
        let (judge, collateral) = self.load(context)?;
        let address = host_and_port(address)?;
        let clock = Clock::new(context.clock);
        Ok(Worker::new(address, Arc::new(judge), Arc::new(collateral), clock))
    }
}

/// `HOST:PORT`, also written as `https://HOST:PORT`.
fn host_and_port(address: &str) -> Result<&str, Failure> {
    let bare = address.strip_prefix("https://").unwrap_or(address);
    let bare = bare.strip_suffix('/').unwrap_or(bare);
    let sound = bare
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0))
        && !bare.contains('/');
    if sound {
        return Ok(bare);
    }
    let message = format!("{address:?} is not the address of a worker");
    Err(Failure::new(Class::Usage, "E-ADDRESS", message).next("write it as HOST:PORT"))
}

const SECONDS_PER_HOUR: u64 = 3600;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reads_an_address_with_and_without_scheme() {
        for text in ["127.0.0.1:1", "https://127.0.0.1:1", "https://127.0.0.1:1/"] {
            assert_eq!(host_and_port(text).unwrap(), "127.0.0.1:1");
        }
        assert_eq!(host_and_port("[::1]:8443").unwrap(), "[::1]:8443");
    }

    #[test]
    fn refuses_what_is_not_an_address() {
        for text in ["", "worker", ":1", "worker:0", "worker:70000", "http://w:1", "w:1/v1"] {
            assert_eq!(host_and_port(text).unwrap_err().code, "E-ADDRESS", "{text}");
        }
    }
}
