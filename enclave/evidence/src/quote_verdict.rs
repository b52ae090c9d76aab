//! What the appraisal of a quote without a document ends in. The quote may be genuine and still
//! old, relayed or another machine's: an [`AcceptedQuote`] is not a worker that may be used, and
//! nothing here turns it into one.

use core::fmt;

use chrysalis_wire::{Digest, UnixTime};
use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

use crate::measurement::Measured;
use crate::transcript::RuleResult;
use crate::verdict::{Refusal, SIM_BANNER};

/// Schema name of a quote's verdict in JSON.
pub const QUOTE_VERDICT_SCHEMA: &str = "chrysalis/quote-verdict/v1";

/// A quote of a pinned image on a pinned platform, bound to the value its verifier computed. Only
/// [`crate::Appraiser::appraise_quote`] makes one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AcceptedQuote {
    pub(crate) pin_names: Vec<String>,
    pub(crate) insecure_sim: bool,
    pub(crate) measurement: Measured,
    pub(crate) evidence_digest: Digest,
    pub(crate) collateral_expires: UnixTime,
}

impl AcceptedQuote {
    /// Names of the pins with this image. More than one: manifest and model would tell them apart,
    /// and a quote alone shows neither.
    #[must_use]
    pub fn pin_names(&self) -> &[String] {
        &self.pin_names
    }

    /// Whether the platform is simulated: nothing sent to it is protected.
    #[must_use]
    pub const fn insecure_sim(&self) -> bool {
        self.insecure_sim
    }

    /// The verified registers or enclave identity. RTMR3 is signed but not explained: no event log
    /// came with it.
    #[must_use]
    pub const fn measurement(&self) -> &Measured {
        &self.measurement
    }

    /// SHA-256 of the quote, cut at its end, signature included.
    #[must_use]
    pub const fn evidence_digest(&self) -> Digest {
        self.evidence_digest
    }

    /// When the collateral used here stops being valid.
    #[must_use]
    pub const fn collateral_expires(&self) -> UnixTime {
        self.collateral_expires
    }
}

/// The outcome of [`crate::Appraiser::appraise_quote`], with every rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuoteVerdict {
    /// All rules in order. Those about a document are skipped even when the quote is accepted.
    pub rules: Vec<RuleResult>,
    /// The quote's facts, or why it is refused.
    pub result: Result<AcceptedQuote, Refusal>,
    /// Whether the pins are of the INSECURE-SIM tier, whatever the result.
    pub insecure_sim: bool,
}

impl QuoteVerdict {
    /// Whether the quote is accepted. It proves no live session.
    #[must_use]
    pub const fn accepted(&self) -> bool {
        self.result.is_ok()
    }
}

impl fmt::Display for QuoteVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.insecure_sim {
            writeln!(f, "{SIM_BANNER}")?;
        }
        for rule in &self.rules {
            writeln!(f, "{rule}")?;
        }
        match &self.result {
            Ok(quote) => write!(
                f,
                "ACCEPTED{}  a quote of {}; it proves no live session",
                if self.insecure_sim { " (INSECURE-SIM)" } else { "" },
                quote.pin_names.join(" or "),
            ),
            Err(refusal) => write!(f, "REFUSED  {refusal}"),
        }
    }
}

impl Serialize for QuoteVerdict {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut object = s.serialize_struct("QuoteVerdict", 6)?;
        object.serialize_field("schema", QUOTE_VERDICT_SCHEMA)?;
        object.serialize_field("accepted", &self.accepted())?;
        object.serialize_field("insecure_sim", &self.insecure_sim)?;
        object.serialize_field("rules", &self.rules)?;
        object.serialize_field("quote", &self.result.as_ref().ok())?;
        object.serialize_field("refusal", &self.result.as_ref().err())?;
        object.end()
    }
}
