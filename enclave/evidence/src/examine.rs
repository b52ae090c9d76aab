//! Questions about quotes and collateral that no policy answers: which collateral a quote needs,
//! what a bundle says, what the two make of each other. Both are untrusted; an examination accepts
//! nothing, and only [`crate::Appraiser`] does.

use chrysalis_wire::UnixTime;
use dcap_qvl::config::PckCa;
use serde::Serialize;

use crate::backend::AwsLcConfig;
use crate::collateral::{Collateral, CollateralError};
use crate::dcap::verify_claims;
use crate::quote::CutQuote;
use crate::roots::TrustRoot;
use crate::text::printable;

/// Who certifies the platforms of a family; each has its own revocation list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authority {
    /// Single-package platforms.
    Processor,
    /// Multi-package platforms, which is what TDX runs on.
    Platform,
}

impl Authority {
    /// The word Intel's service knows it by.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Processor => "processor",
            Self::Platform => "platform",
        }
    }

    /// Common name of its certificate.
    #[must_use]
    pub const fn common_name(self) -> &'static str {
        match self {
            Self::Processor => "Intel SGX PCK Processor CA",
            Self::Platform => "Intel SGX PCK Platform CA",
        }
    }
}

/// What collateral is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlatformFamily {
    /// Family, model, stepping, platform type and customisation of the package.
    pub fmspc: [u8; 6],
    /// Who certifies it.
    pub authority: Authority,
}

impl PlatformFamily {
    /// The family a quote's own certificate names. Unverified: good for choosing collateral, which
    /// the quote is then verified with.
    #[must_use]
    pub fn of_quote(quote: &CutQuote) -> Option<Self> {
        let parsed = dcap_qvl::quote::Quote::parse(quote.bytes()).ok()?;
        let fmspc = dcap_qvl::intel::quote_fmspc_with::<AwsLcConfig>(&parsed).ok()?;
        let authority = match dcap_qvl::intel::quote_ca_with::<AwsLcConfig>(&parsed).ok()? {
            PckCa::Processor => Authority::Processor,
            PckCa::Platform => Authority::Platform,
        };
        Some(Self { fmspc, authority })
    }
}

/// What a bundle says about itself. Nothing of it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollateralSummary {
    /// `TDX` or `SGX`, as the TCB info says.
    pub tee: String,
    /// Platform family, lower-case hex.
    pub fmspc: String,
    /// The smaller TCB evaluation number of TCB info and QE identity; 0 where one states none.
    pub evaluation_number: u32,
    /// When the older of the two was issued.
    pub issued: UnixTime,
    /// Last second of the shorter of the two.
    pub expires: UnixTime,
}

impl Collateral {
    /// What the bundle says about itself.
    ///
    /// # Errors
    /// [`CollateralError`] if TCB info or QE identity cannot be read.
    pub fn summary(&self) -> Result<CollateralSummary, CollateralError> {
        let stated = self.stated()?;
        Ok(CollateralSummary {
            tee: printable(&stated.id),
            fmspc: printable(&stated.fmspc),
            evaluation_number: stated.evaluation_number,
            issued: stated.oldest_issue,
            expires: stated.expires,
        })
    }
}

/// What Intel's data says about the platform of a genuine quote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Examined {
    /// Merged status of platform, module and quoting enclave.
    pub status: String,
    /// Advisories that apply.
    pub advisories: Vec<String>,
    /// Platform family, hex.
    pub fmspc: String,
    /// Platform instance id, hex; single-package platforms have none.
    pub platform_instance_id: Option<String>,
    /// Platform provisioning id, hex.
    pub ppid: String,
    /// TCB evaluation number of the collateral.
    pub evaluation_number: u32,
    /// First second at which some part of quote or collateral is no longer valid.
    pub expires: UnixTime,
}

/// Verifies `quote` with `collateral` under `root` and says what they make of each other. No pins
/// are asked: a genuine quote of anybody's image is examined all the same.
///
/// # Errors
/// Why the two do not verify, in words.
pub fn examine(
    quote: &CutQuote,
    collateral: &Collateral,
    root: &TrustRoot,
    now: UnixTime,
) -> Result<Examined, String> {
    let claims = verify_claims(quote, collateral, root, now).map_err(|e| e.to_string())?;
    let pck = &claims.platform.pck;
    Ok(Examined {
        status: claims.tcb.status.to_string(),
        advisories: claims.tcb.advisory_ids.iter().map(|id| printable(id)).collect(),
        fmspc: hex::encode(pck.fmspc),
        platform_instance_id: pck.platform_instance_id.map(hex::encode),
        ppid: hex::encode(&pck.ppid),
        evaluation_number: claims.tcb.eval_data_number,
        expires: UnixTime(claims.earliest_expiration_date),
    })
}
