//! Dated exceptions from `UpToDate`: a platform family whose known weaknesses the verifier accepts
//! until a day it names. Part of the pins, so the verifier's own.

use chrysalis_wire::UnixTime;
use dcap_qvl::TcbStatus;
use serde::Deserialize;

use super::{MAX_PINNED_VALUES, PinsError, at_most};
use crate::hexadecimal::HexArray;
use crate::text::printable;
use crate::time::parse_utc;

/// One accepted weakness of one platform family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcbException {
    /// Platform family.
    pub fmspc: [u8; 6],
    /// Statuses accepted at any level, next to `UpToDate`. Never `Revoked`.
    pub(crate) statuses: Vec<TcbStatus>,
    /// The only advisories accepted with them.
    pub advisories: Vec<String>,
    /// First second at which the exception is over.
    pub until: UnixTime,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExceptionEntry {
    fmspc: HexArray<6>,
    statuses: Vec<String>,
    advisories: Vec<String>,
    until: String,
    /// Read by people; a file without it does not say why it accepts a weakness.
    reason: String,
}

impl ExceptionEntry {
    pub(crate) fn check(self) -> Result<TcbException, PinsError> {
        let refuse = |reason: &'static str, got: &str| {
            Err(PinsError::Exception { reason, got: printable(got) })
        };
        at_most("platform.exception.statuses", MAX_PINNED_VALUES, self.statuses.len())?;
        at_most("platform.exception.advisories", MAX_PINNED_VALUES, self.advisories.len())?;
        if self.reason.trim().is_empty() {
            return refuse("reason is empty", &self.reason);
        }
        let mut statuses = Vec::with_capacity(self.statuses.len());
        for name in &self.statuses {
            match ACCEPTABLE.iter().find(|status| status.to_string() == *name) {
                Some(status) => statuses.push(*status),
                None => return refuse("status is not one that can be accepted", name),
            }
        }
        let Some(until) = parse_utc(&self.until) else {
            return refuse("until is not YYYY-MM-DDTHH:MM:SSZ", &self.until);
        };
        let plain = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-';
        if let Some(bad) = self.advisories.iter().find(|a| a.is_empty() || !a.bytes().all(plain)) {
            return refuse("advisory is not written as INTEL-SA-00000", bad);
        }
        Ok(TcbException { fmspc: self.fmspc.0, statuses, advisories: self.advisories, until })
    }
}

/// What a verifier may choose to live with. A revoked level is none of them.
const ACCEPTABLE: [TcbStatus; 5] = [
    TcbStatus::ConfigurationNeeded,
    TcbStatus::SWHardeningNeeded,
    TcbStatus::ConfigurationAndSWHardeningNeeded,
    TcbStatus::OutOfDate,
    TcbStatus::OutOfDateConfigurationNeeded,
];
