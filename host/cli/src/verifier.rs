//! The arguments and files that every verifying command needs: whom to ask, whom to accept, and
//! the signed facts to judge by. All of it is the user's own policy.

use std::path::PathBuf;
use std::sync::Arc;

use chrysalis_client::{Clock, Worker};
use chrysalis_evidence::{
    AllowSim, Appraiser, Collateral, MAX_COLLATERAL_BYTES, MAX_PINS_BYTES, Pins,
};
use clap::Args;

use crate::context::Context;
use crate::exit::{Class, Failure};
use crate::files;

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
}

impl Policy {
    /// Reads both files.
    pub(crate) fn load(&self) -> Result<(Appraiser, Collateral), Failure> {
        let allow = if self.insecure_sim { AllowSim::Yes } else { AllowSim::No };
        let pins = Pins::parse(&files::read_text(&self.pins, MAX_PINS_BYTES)?, allow)
            .map_err(|e| Failure::from(e).in_file(&self.pins))?;
        let collateral = Collateral::parse(&files::read(&self.collateral, MAX_COLLATERAL_BYTES)?)
            .map_err(|e| Failure::from(e).in_file(&self.collateral))?;
        Ok((Appraiser::new(pins), collateral))
    }

    /// The worker at `address`, to be judged by this policy.
    pub(crate) fn worker(&self, address: &str, context: &Context) -> Result<Worker, Failure> {
        let (appraiser, collateral) = self.load()?;
        let address = host_and_port(address)?;
        let clock = Clock::new(context.clock);
        Ok(Worker::new(address, Arc::new(appraiser), Arc::new(collateral), clock))
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
