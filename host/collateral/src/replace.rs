//! Whether a fetched bundle may take the place of the one there is. Both are authentic; the question
//! is whether the service, or somebody between, is handing out an older one.

use chrysalis_evidence::Collateral;
use thiserror::Error;

use crate::bundle::Bundle;

/// Why the bundle there is was kept.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Outdated {
    /// A smaller TCB evaluation number: it knows fewer vulnerabilities.
    #[error("the fetched bundle has TCB evaluation number {got}, the one there is has {have}")]
    EvaluationNumber {
        /// Number of the bundle there is.
        have: u32,
        /// Number of the fetched one.
        got: u32,
    },
    /// Issued earlier.
    #[error("the fetched bundle was issued at {got}, the one there is at {have}")]
    Issued {
        /// Issue date of the bundle there is, in seconds since 1970.
        have: u64,
        /// Issue date of the fetched one.
        got: u64,
    },
}

impl Outdated {
    /// Stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::EvaluationNumber { .. } => "E-FETCH-OLDER-TCB",
            Self::Issued { .. } => "E-FETCH-OLDER",
        }
    }
}

/// Whether `fetched` may replace `present`. A bundle of another platform family is always replaced:
/// it would have refused this one, and so is one whose dates cannot be read.
///
/// # Errors
/// [`Outdated`] if the one there is knows more.
pub fn replace(present: &Collateral, fetched: &Bundle) -> Result<(), Outdated> {
    let Ok(have) = present.summary() else { return Ok(()) };
    let got = &fetched.facts;
    if have.fmspc != got.fmspc || have.tee != got.tee {
        return Ok(());
    }
    if got.evaluation_number() < have.evaluation_number {
        let (have, got) = (have.evaluation_number, got.evaluation_number());
        return Err(Outdated::EvaluationNumber { have, got });
    }
    if got.issued < have.issued {
        return Err(Outdated::Issued { have: have.issued.0, got: got.issued.0 });
    }
    Ok(())
}
