//! The registers in a TDX quote, for comparing. Nothing is verified here: a quote's registers are
//! claims until `chrysalis appraise` has judged it.

use chrysalis_evidence::{CutQuote, TeeKind};

use super::bytes::array;
use super::digest::Sha384Digest;
use super::error::TdxError;
use crate::cocoon::TdIdentity;

/// What a TDX quote claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TdQuote {
    /// MRTD.
    pub mrtd: Sha384Digest,
    /// RTMR0 to RTMR3.
    pub rtmr: [Sha384Digest; 4],
    /// MRCONFIGID, MROWNER, MROWNERCONFIG.
    pub identity: TdIdentity,
    /// TD attributes.
    pub attributes: [u8; 8],
}

impl TdQuote {
    /// Reads the TD report in a quote of version 4 or 5.
    ///
    /// # Errors
    /// [`TdxError::Quote`], [`TdxError::NotTdx`].
    pub fn parse(bytes: &[u8]) -> Result<Self, TdxError> {
        const WHAT: &str = "TD report";
        let quote = CutQuote::parse(bytes)?;
        if quote.tee() != TeeKind::Tdx {
            return Err(TdxError::NotTdx);
        }
        // v5 has a body type and size before the report.
        let body = if quote.version() == 4 { 48usize } else { 54 };
        let at = |offset: usize| array::<48>(WHAT, quote.bytes(), body.saturating_add(offset));
        Ok(Self {
            mrtd: Sha384Digest(at(136)?),
            rtmr: [
                Sha384Digest(at(328)?),
                Sha384Digest(at(376)?),
                Sha384Digest(at(424)?),
                Sha384Digest(at(472)?),
            ],
            identity: TdIdentity {
                mr_config_id: at(184)?,
                mr_owner: at(232)?,
                mr_owner_config: at(280)?,
            },
            attributes: array(WHAT, quote.bytes(), body.saturating_add(120))?,
        })
    }
}

/// Whether a file begins like a DCAP quote of version 3 to 5.
#[must_use]
pub fn looks_like_quote(bytes: &[u8]) -> bool {
    matches!(bytes, [3..=5, 0, 2, 0, ..])
}
