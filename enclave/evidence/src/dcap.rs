//! The only way from claimed to verified: Intel's DCAP verification of quote and collateral under
//! the pinned root. Quote and collateral are attacker-controlled; what leaves here is signed.

use chrysalis_wire::{Digest, UnixTime};
use dcap_qvl::quote::{Report as DcapReport, TDReport10};
use dcap_qvl::verify::QuoteVerifier;
use dcap_qvl::{QuoteClaims, QuotePolicy};
use thiserror::Error;

use crate::backend::AwsLcConfig;
use crate::collateral::{Collateral, CollateralError};
use crate::enclave::EnclaveReport;
use crate::measurement::{Measurement, TdIdentity, cocoon_tdx_image_hash};
use crate::pins::PlatformPins;
use crate::quote::{CutQuote, TeeKind};
use crate::roots::TrustRoot;
use crate::text::printable;

/// Why DCAP verification refused a quote.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum DcapError {
    /// The quote carries another root certificate than the pinned one.
    #[error("the quote's certificate chain ends in another root")]
    Root,
    /// The collateral's own dates or fields cannot be read.
    #[error(transparent)]
    Collateral(#[from] CollateralError),
    /// The collateral is from the future of the given clock.
    #[error("collateral is issued at {issued}, the clock says {now}")]
    NotYetValid { issued: u64, now: u64 },
    /// The collateral's window is over.
    #[error("collateral expired at {expired}, the clock says {now}")]
    Expired { expired: u64, now: u64 },
    /// The collateral is about another platform family.
    #[error("collateral is for FMSPC {collateral}, the quote's platform is {quote}")]
    Fmspc { collateral: String, quote: String },
    /// The collateral is about another provisioning certification enclave.
    #[error("collateral is for PCE {collateral}, the quote's platform has PCE {quote}")]
    Pce { collateral: String, quote: String },
    /// Any other refusal, in the words of the verification library.
    #[error("{0}")]
    Refused(String),
    /// Verified, but not the report of the platform that its form claims.
    #[error("the verified report is not of the platform the quote claims")]
    OtherReport,
}

/// A quote whose every signature was verified under the pinned root. Made by [`verify`] only.
#[derive(Clone, Debug)]
pub(crate) struct VerifiedQuote {
    claims: QuoteClaims,
    report: Report,
    collateral_issued: UnixTime,
}

/// The signed report of a quote.
#[derive(Clone, Debug)]
pub(crate) enum Report {
    /// Of a trust domain; body types 1.5 and 1.5 extended begin with it.
    Td(Box<TDReport10>),
    /// Of an enclave.
    Enclave(Box<EnclaveReport>),
}

impl VerifiedQuote {
    pub(crate) const fn claims(&self) -> &QuoteClaims {
        &self.claims
    }

    pub(crate) const fn report(&self) -> &Report {
        &self.report
    }

    /// The older of the issue dates of TCB info and QE identity, both covered by signatures.
    pub(crate) const fn collateral_issued(&self) -> UnixTime {
        self.collateral_issued
    }

    /// First second at which some part of the collateral is no longer valid.
    pub(crate) const fn collateral_expires(&self) -> UnixTime {
        UnixTime(self.claims.earliest_expiration_date)
    }

    /// First second at which quote and collateral would be judged anew: a part of the collateral
    /// ends, or it is older than the pins accept.
    pub(crate) fn valid_until(&self, pins: &PlatformPins) -> UnixTime {
        let age = u64::from(pins.max_collateral_age_days).saturating_mul(SECONDS_PER_DAY);
        let too_old = UnixTime(self.collateral_issued.0.saturating_add(age));
        self.collateral_expires().min(too_old)
    }

    /// Cocoon's name for the image, [`cocoon_tdx_image_hash`] of the signed report. Enclaves have
    /// none.
    pub(crate) fn image_hash(&self) -> Option<Digest> {
        let Report::Td(td) = &self.report else { return None };
        let identity = TdIdentity {
            mr_config_id: td.mr_config_id,
            mr_owner: td.mr_owner,
            mr_owner_config: td.mr_owner_config,
        };
        let rtmr = [td.rt_mr0, td.rt_mr1, td.rt_mr2, td.rt_mr3];
        Some(cocoon_tdx_image_hash(&Measurement { mrtd: td.mr_td, rtmr }, &identity))
    }

    /// Puts changed claims in the place of verified ones, so that tests reach the rules behind
    /// cryptography with real quotes.
    #[cfg(test)]
    pub(crate) fn forge(mut self, change: impl FnOnce(&mut QuoteClaims, &mut TDReport10)) -> Self {
        let Report::Td(td) = &mut self.report else { panic!("no trust domain") };
        change(&mut self.claims, td);
        self
    }

    /// The same for the report of an enclave.
    #[cfg(test)]
    pub(crate) fn forge_enclave(
        mut self,
        change: impl FnOnce(&mut QuoteClaims, &mut EnclaveReport),
    ) -> Self {
        let Report::Enclave(report) = &mut self.report else { panic!("no enclave") };
        change(&mut self.claims, report);
        self
    }
}

/// Verifies a quote.
pub(crate) fn verify(
    quote: &CutQuote,
    collateral: &Collateral,
    root: &TrustRoot,
    now: UnixTime,
) -> Result<VerifiedQuote, DcapError> {
    let claims = verify_claims(quote, collateral, root, now)?;
    let report = match (quote.tee(), &claims.report) {
        (TeeKind::Sgx, DcapReport::SgxEnclave(report)) => Report::Enclave(Box::new(report.into())),
        (TeeKind::Tdx, report) => {
            Report::Td(Box::new(*report.as_td10().ok_or(DcapError::OtherReport)?))
        }
        _ => return Err(DcapError::OtherReport),
    };
    let collateral_issued = collateral.stated()?.oldest_issue;
    Ok(VerifiedQuote { claims, report, collateral_issued })
}

/// Verifies any quote and gives the library's claims, which are facts and no judgement.
pub(crate) fn verify_claims(
    quote: &CutQuote,
    collateral: &Collateral,
    root: &TrustRoot,
    now: UnixTime,
) -> Result<QuoteClaims, DcapError> {
    // The library would refuse all of these too; asking first gives the refusal a name.
    if quote.carried_root().is_some_and(|der| der != root.der()) {
        return Err(DcapError::Root);
    }
    let stated = collateral.stated()?;
    if now < stated.newest_issue {
        return Err(DcapError::NotYetValid { issued: stated.newest_issue.0, now: now.0 });
    }
    if now > stated.expires {
        return Err(DcapError::Expired { expired: stated.expires.0, now: now.0 });
    }
    // `claims_only` leaves judgement to our own rules; the library's defaults that refuse debug
    // and service TDs stay on.
    let claims = QuoteVerifier::<AwsLcConfig>::new_with_config(root.der().to_vec())
        .verify_with_policy(
            quote.bytes(),
            collateral.dcap(),
            now.0,
            &QuotePolicy::claims_only(now.0),
        )
        .map_err(|error| match quote_fmspc(quote) {
            Some(fmspc) if fmspc != stated.fmspc => {
                DcapError::Fmspc { collateral: printable(&stated.fmspc), quote: fmspc }
            }
            _ => DcapError::Refused(printable(&format!("{error:#}"))),
        })?;
    // Intel's own verifier compares both ids of TCB info, the library only the FMSPC.
    let pce_id = hex::encode(&claims.platform.pck.pce_id);
    if pce_id != stated.pce_id {
        return Err(DcapError::Pce { collateral: printable(&stated.pce_id), quote: pce_id });
    }
    Ok(claims)
}

/// Platform family the quote's own leaf certificate names, lower-case hex. Unverified.
fn quote_fmspc(quote: &CutQuote) -> Option<String> {
    let parsed = dcap_qvl::quote::Quote::parse(quote.bytes()).ok()?;
    let fmspc = dcap_qvl::intel::quote_fmspc_with::<AwsLcConfig>(&parsed).ok()?;
    Some(hex::encode(fmspc))
}

const SECONDS_PER_DAY: u64 = 86_400;
