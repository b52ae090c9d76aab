//! From bytes to an RA-TLS certificate whose own words agree: its key, one quote, and report data
//! that the quote claims and the certificate's key demands. Nothing in it is verified beyond that;
//! [`crate::CertificateVerifier`] goes on from here.

use chrysalis_evidence::{ReportData, Role};
use chrysalis_wire::UnixTime;
use subtle::ConstantTimeEq as _;

use crate::error::RatlsError;
use crate::evidence::{Claims, TaggedEvidence};
use crate::format::Format;
use crate::key::PublicKey;
use crate::oid::{
    OID_COCOON_CLAIMS, OID_COCOON_QUOTE, OID_GRAMINE_QUOTE, OID_INTEL_COPY, OID_TAGGED_EVIDENCE,
    dotted,
};
use crate::report::ClaimedReport;
use crate::x509::X509;

/// A self-signed certificate with consistent evidence that is not verified yet.
#[derive(Clone, Debug)]
pub struct RatlsCertificate<'a> {
    x509: X509<'a>,
    format: Format,
    quote: &'a [u8],
    claims: &'a [u8],
    report_data: ReportData,
}

impl<'a> RatlsCertificate<'a> {
    /// Reads a DER certificate that must fill `der`, without looking at a clock.
    ///
    /// Checked here: X.509 form and limits, the self-signature, exactly one format's evidence, the
    /// claims against the key, the quote's claimed report data against the value the format
    /// prescribes for the key. Not checked: whether the quote is genuine.
    ///
    /// # Errors
    /// [`RatlsError`], one variant per way to be refused.
    pub fn parse(der: &'a [u8]) -> Result<Self, RatlsError> {
        let x509 = X509::parse(der)?;
        let (format, quote, claims) = evidence(&x509)?;
        let report_data = format.report_data(&x509.key, claims);
        bound(format, &report_data, quote)?;
        Ok(Self { x509, format, quote, claims, report_data })
    }

    /// How the evidence stands in the certificate. A certificate with Gramine's bare quote beside
    /// tagged evidence is [`Format::Interoperable`].
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// The key; the handshake proves that the peer holds it.
    #[must_use]
    pub const fn key(&self) -> &PublicKey {
        &self.x509.key
    }

    /// The quote as it stands in the certificate, padding included.
    #[must_use]
    pub const fn quote(&self) -> &'a [u8] {
        self.quote
    }

    /// The claims: exact bytes of a CBOR map ([`Format::Interoperable`]), the raw key
    /// ([`Format::Cocoon`]), or nothing.
    #[must_use]
    pub const fn claims(&self) -> &'a [u8] {
        self.claims
    }

    /// The report data a quote must carry to vouch for this key, computed here.
    #[must_use]
    pub const fn report_data(&self) -> &ReportData {
        &self.report_data
    }

    /// First and last second of the certificate's window.
    #[must_use]
    pub const fn validity(&self) -> (UnixTime, UnixTime) {
        (self.x509.not_before, self.x509.not_after)
    }

    /// Refuses a certificate outside its window, or not for the end its holder is at.
    ///
    /// # Errors
    /// [`RatlsError::NotYetValid`], [`RatlsError::Expired`], [`RatlsError::Purpose`].
    pub fn check_use(&self, holder: Role, now: UnixTime) -> Result<(), RatlsError> {
        self.x509.check_time(now)?;
        self.x509.check_purpose(holder)
    }
}

/// Finds the one quote, with its format and claims, and holds the copies against each other.
fn evidence<'a>(x509: &X509<'a>) -> Result<(Format, &'a [u8], &'a [u8]), RatlsError> {
    let tagged = extension(x509, OID_TAGGED_EVIDENCE, false)?;
    let gramine = extension(x509, OID_GRAMINE_QUOTE, false)?;
    let intel = extension(x509, OID_INTEL_COPY, false)?;
    let cocoon = extension(x509, OID_COCOON_QUOTE, true)?;
    let cocoon_claims = extension(x509, OID_COCOON_CLAIMS, true)?;

    for (other, second) in
        [(tagged, "tagged evidence"), (gramine, "Gramine's quote"), (intel, "Intel's copy")]
    {
        if other.is_some() && (cocoon.is_some() || cocoon_claims.is_some()) {
            return Err(RatlsError::SeveralQuotes { first: "Cocoon's quote", second });
        }
    }
    if gramine.is_some() && intel.is_some() {
        let (first, second) = ("Gramine's quote", "Intel's copy");
        return Err(RatlsError::SeveralQuotes { first, second });
    }

    let key = &x509.key;
    let (format, quote, claims) = match (tagged, gramine, cocoon, cocoon_claims) {
        (Some(value), ..) => {
            let TaggedEvidence { quote, claims } = TaggedEvidence::parse(value)?;
            (Format::Interoperable, quote, claims)
        }
        (None, Some(quote), ..) => (Format::Gramine, quote, &[][..]),
        (None, None, Some(quote), Some(claims)) => (Format::Cocoon, quote, claims),
        // Intel's copy alone is bound to claims that are not there; half of Cocoon's pair to nothing.
        _ => return Err(RatlsError::NoEvidence),
    };
    if !format.allows(key.kind()) {
        return Err(RatlsError::KeyOfFormat { format, kind: key.kind() });
    }
    let about_key = match format {
        Format::Interoperable => Claims::parse(claims)?.pubkey_hash.is_of(key),
        Format::Gramine => true,
        // Cocoon's own verifier ignores these bytes; a certificate that lies in them is refused.
        Format::Cocoon => claims.ct_eq(key.raw()).into(),
    };
    if !about_key {
        return Err(RatlsError::KeyMismatch { spki: key.spki_sha256() });
    }
    if let (Format::Interoperable, Some(copy)) = (format, gramine) {
        same_source(key, quote, copy)?;
    }
    if let (Format::Interoperable, Some(copy)) = (format, intel)
        && copy != quote
    {
        return Err(RatlsError::CopiesDisagree { what: "a byte of the quote" });
    }
    Ok((format, quote, claims))
}

/// Gramine writes two quotes of one enclave, each bound to the key by its own format's rule.
fn same_source(key: &PublicKey, quote: &[u8], copy: &[u8]) -> Result<(), RatlsError> {
    let format = Format::Gramine;
    bound(format, &format.report_data(key, &[]), copy)?;
    if ClaimedReport::of(quote)?.identity != ClaimedReport::of(copy)?.identity {
        return Err(RatlsError::CopiesDisagree { what: "the report" });
    }
    Ok(())
}

/// Whether a quote claims the report data it must.
pub(crate) fn bound(format: Format, expected: &ReportData, quote: &[u8]) -> Result<(), RatlsError> {
    let found = ClaimedReport::of(quote)?.report_data;
    if expected.matches(found) {
        return Ok(());
    }
    let (expected, found) = (hex::encode(expected.0), hex::encode(found));
    Err(RatlsError::NotBound { format, expected, found })
}

/// Value of an extension, which must have the criticality its format prescribes.
fn extension<'a>(
    x509: &X509<'a>,
    oid: &[u8],
    expected: bool,
) -> Result<Option<&'a [u8]>, RatlsError> {
    match x509.extensions.iter().find(|extension| extension.oid == oid) {
        Some(found) if found.critical != expected => {
            Err(RatlsError::Criticality { oid: dotted(oid), expected })
        }
        found => Ok(found.map(|extension| extension.value)),
    }
}
