//! `[[worker]]`: the trust domains a verifier accepts, each a tuple of values that hold together.

use std::borrow::Cow;
use std::collections::BTreeSet;

use chrysalis_wire::{Digest, UnixTime};
use serde::{Deserialize, Deserializer};

use super::{MAX_PINNED_WORKERS, PinsError, at_most, shown_name};
use crate::hexadecimal;
use crate::time::parse_utc;

/// One accepted worker. All values hold together: a worker that matches some values of one entry
/// and some of another is refused.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerPin {
    /// Name shown in verdicts.
    pub name: String,
    /// Expected MRTD.
    #[serde(with = "hexadecimal::array")]
    pub mrtd: [u8; 48],
    /// Expected RTMR0.
    #[serde(with = "hexadecimal::array")]
    pub rtmr0: [u8; 48],
    /// Expected RTMR1.
    #[serde(with = "hexadecimal::array")]
    pub rtmr1: [u8; 48],
    /// Expected RTMR2.
    #[serde(with = "hexadecimal::array")]
    pub rtmr2: [u8; 48],
    /// SHA-256 of the measured worker manifest: the policy digest.
    pub manifest_sha256: Digest,
    /// Content root of the model bundle the manifest names.
    pub model_root: Digest,
    /// When the entry begins to count; at once where the file says nothing.
    #[serde(default, deserialize_with = "utc")]
    pub activates_at: Option<UnixTime>,
}

impl WorkerPin {
    /// MRTD, RTMR0, RTMR1, RTMR2.
    pub(crate) const fn registers(&self) -> [&[u8; 48]; 4] {
        [&self.mrtd, &self.rtmr0, &self.rtmr1, &self.rtmr2]
    }
}

pub(super) fn check_workers(workers: &[WorkerPin]) -> Result<(), PinsError> {
    at_most("worker", MAX_PINNED_WORKERS, workers.len())?;
    let mut names = BTreeSet::new();
    for (index, worker) in workers.iter().enumerate() {
        let name = worker.name.as_str();
        if !shown_name(name) || !names.insert(name) {
            return Err(PinsError::Name { index });
        }
        // What no boot wrote to is zero: a value that was left out, and that no worker of ours has.
        let mut registers = REGISTERS.into_iter().zip(worker.registers());
        if let Some((field, _)) = registers.find(|(_, value)| **value == [0; 48]) {
            return Err(PinsError::ZeroMeasurement { name: worker.name.clone(), field });
        }
    }
    Ok(())
}

/// Names of [`WorkerPin::registers`].
const REGISTERS: [&str; 4] = ["mrtd", "rtmr0", "rtmr1", "rtmr2"];

/// A date in the one spelling that collateral has too.
pub(super) fn utc<'de, D: Deserializer<'de>>(d: D) -> Result<Option<UnixTime>, D::Error> {
    let text = <Cow<'de, str>>::deserialize(d)?;
    let error = || serde::de::Error::custom("expected a date as 2026-12-01T00:00:00Z");
    parse_utc(&text).map(Some).ok_or_else(error)
}
