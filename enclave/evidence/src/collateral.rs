//! The collateral bundle: Intel-signed facts about a platform family, as one JSON file. An
//! untrusted fetcher writes it; it authenticates itself, and who picks the bundle picks nothing but
//! its age, which the pins bound. It must never come from the peer being appraised.
//!
//! ```json
//! {"schema":"chrysalis/collateral/v1","collateral":{"tcb_info":"…","pck_crl":"<hex>",…}}
//! ```
//!
//! The inner object is what `dcap-qvl` calls a V3 collateral: PEM and JSON texts as strings, DER
//! and signatures as hex.

use chrysalis_wire::{Digest, UnixTime};
use dcap_qvl::QuoteCollateralV3;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::time::parse_utc;

/// Schema name of a collateral bundle.
pub const COLLATERAL_SCHEMA: &str = "chrysalis/collateral/v1";

pub use chrysalis_wire::limits::MAX_COLLATERAL_BYTES;

/// Why a collateral bundle was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CollateralError {
    /// Larger than [`MAX_COLLATERAL_BYTES`].
    #[error("collateral bundle is {got} bytes; the limit is {MAX_COLLATERAL_BYTES}")]
    TooLarge {
        /// Size found.
        got: usize,
    },
    /// Not JSON, a missing field, or a field that is not hex where hex is due.
    #[error("collateral bundle is malformed: {0}")]
    Malformed(String),
    /// Another schema or version.
    #[error("collateral schema is {got:?}; this build reads {COLLATERAL_SCHEMA:?}")]
    Schema {
        /// Schema found.
        got: String,
    },
}

impl CollateralError {
    /// Stable code of the refusal.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "E-COLLATERAL-SIZE",
            Self::Malformed(_) => "E-COLLATERAL-FORM",
            Self::Schema { .. } => "E-COLLATERAL-SCHEMA",
        }
    }
}

/// A collateral bundle of known form. Its signatures are verified during appraisal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collateral {
    inner: QuoteCollateralV3,
}

impl Collateral {
    /// Wraps collateral of one platform family.
    ///
    /// A PCK certificate chain in it is dropped: it would win over the chain inside the quote, and
    /// a bundle made for one machine would then refuse every other one.
    #[must_use]
    pub fn new(mut inner: QuoteCollateralV3) -> Self {
        inner.pck_certificate_chain = None;
        Self { inner }
    }

    /// Reads a bundle from untrusted bytes.
    ///
    /// # Errors
    /// [`CollateralError`] if it is too large, malformed or of another schema.
    pub fn parse(bytes: &[u8]) -> Result<Self, CollateralError> {
        let bundle: Bundle = read(bytes)?;
        if bundle.schema != COLLATERAL_SCHEMA {
            return Err(CollateralError::Schema { got: crate::text::printable(&bundle.schema) });
        }
        Ok(Self::new(bundle.collateral))
    }

    /// Reads the bare object, without our schema around it, that DCAP tools write.
    ///
    /// # Errors
    /// [`CollateralError`] if it is too large or malformed.
    pub fn from_dcap_json(bytes: &[u8]) -> Result<Self, CollateralError> {
        read(bytes).map(Self::new)
    }

    /// The bundle as JSON; [`Self::parse`] reads it back.
    #[must_use]
    pub fn to_json(&self) -> String {
        let bundle = BundleRef { schema: COLLATERAL_SCHEMA, collateral: &self.inner };
        // Strings and byte strings always serialise; an empty text would be refused on reading.
        serde_json::to_string(&bundle).unwrap_or_default()
    }

    /// SHA-256 of [`Self::to_json`], to name the bundle in caches and transcripts.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest(Sha256::digest(self.to_json().as_bytes()).into())
    }

    /// Whether this bundle may stand in for `held`, by what both state: it is about another platform
    /// family, or nothing in it is older. A lie about that does not survive the verification of its
    /// signatures, without which no bundle is of any use.
    #[must_use]
    pub fn may_replace(&self, held: &Self) -> bool {
        let (Ok(new), Ok(old)) = (self.stated(), held.stated()) else { return false };
        let same_family = (&new.id, &new.fmspc) == (&old.id, &old.fmspc);
        !same_family
            || (new.oldest_issue >= old.oldest_issue
                && new.newest_issue >= old.newest_issue
                && new.evaluation_number >= old.evaluation_number)
    }

    /// What `dcap-qvl` takes.
    pub(crate) const fn dcap(&self) -> &QuoteCollateralV3 {
        &self.inner
    }

    /// What TCB info and QE identity say about themselves; authentic only after their signatures
    /// were verified.
    pub(crate) fn stated(&self) -> Result<Stated, CollateralError> {
        let tcb: Dated = parse_part("tcb_info", TCB_INFO_VERSION, &self.inner.tcb_info)?;
        let qe: Dated = parse_part("qe_identity", QE_IDENTITY_VERSION, &self.inner.qe_identity)?;
        let time = |text: &str| {
            parse_utc(text).ok_or_else(|| {
                CollateralError::Malformed(format!(
                    "date {:?} is not YYYY-MM-DDTHH:MM:SSZ",
                    crate::text::printable(text)
                ))
            })
        };
        let (tcb_issue, qe_issue) = (time(&tcb.issue_date)?, time(&qe.issue_date)?);
        let (tcb_next, qe_next) = (time(&tcb.next_update)?, time(&qe.next_update)?);
        Ok(Stated {
            oldest_issue: tcb_issue.min(qe_issue),
            newest_issue: tcb_issue.max(qe_issue),
            expires: tcb_next.min(qe_next),
            fmspc: tcb.fmspc.unwrap_or_default().to_ascii_lowercase(),
            evaluation_number: tcb.evaluation_number.min(qe.evaluation_number),
            id: tcb.id,
            pce_id: tcb.pce_id.unwrap_or_default().to_ascii_lowercase(),
        })
    }
}

/// Dates and platform family that a bundle states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stated {
    pub(crate) oldest_issue: UnixTime,
    pub(crate) newest_issue: UnixTime,
    pub(crate) expires: UnixTime,
    pub(crate) fmspc: String,
    pub(crate) evaluation_number: u32,
    pub(crate) id: String,
    pub(crate) pce_id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bundle {
    schema: String,
    collateral: QuoteCollateralV3,
}

#[derive(Serialize)]
struct BundleRef<'a> {
    schema: &'a str,
    collateral: &'a QuoteCollateralV3,
}

/// The fields of TCB info and QE identity that are read here; `dcap-qvl` reads the others.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Dated {
    version: u32,
    issue_date: String,
    next_update: String,
    fmspc: Option<String>,
    #[serde(default, rename = "tcbEvaluationDataNumber")]
    evaluation_number: u32,
    #[serde(default)]
    id: String,
    pce_id: Option<String>,
}

fn read<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, CollateralError> {
    if bytes.len() > MAX_COLLATERAL_BYTES {
        return Err(CollateralError::TooLarge { got: bytes.len() });
    }
    serde_json::from_slice(bytes)
        .map_err(|e| CollateralError::Malformed(crate::text::printable(&e.to_string())))
}

fn parse_part(what: &str, version: u32, text: &str) -> Result<Dated, CollateralError> {
    let malformed = |e| CollateralError::Malformed(crate::text::printable(&format!("{what}: {e}")));
    let dated: Dated = serde_json::from_str(text).map_err(|e| malformed(e.to_string()))?;
    if dated.version != version {
        return Err(malformed(format!("version {}, {version} expected", dated.version)));
    }
    Ok(dated)
}

/// Versions of Intel's PCS API v4; a later one may mean something else by the same words.
const TCB_INFO_VERSION: u32 = 3;
const QE_IDENTITY_VERSION: u32 = 2;
