//! Signatures of collateral without a quote: what is fetched is refused at once if it is not
//! Intel's, so that whoever answers cannot replace a good bundle by one that no quote verifies
//! under. The appraiser verifies all of it again, together with the quote.
//!
//! Intel's PKI is one root, which signs the TCB signer, two platform authorities and its own
//! revocation list; ECDSA P-256 with SHA-256 throughout.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, UnparsedPublicKey, VerificationAlgorithm,
};
use x509_cert::Certificate;
use x509_cert::crl::CertificateList;
use x509_cert::der::asn1::{AnyRef, ObjectIdentifier};
use x509_cert::der::oid::AssociatedOid as _;
use x509_cert::der::{Decode as _, Reader as _, SliceReader};
use x509_cert::ext::pkix::CrlDistributionPoints;
use x509_cert::ext::pkix::name::{DistributionPointName, GeneralName};

use crate::answer::{Chain, SignedText};
use crate::error::Problem;

/// The root, read once.
pub(crate) struct Root<'a> {
    der: &'a [u8],
    certificate: Certificate,
}

impl<'a> Root<'a> {
    /// Reads the pinned root.
    pub(crate) fn new(der: &'a [u8]) -> Result<Self, Problem> {
        Ok(Self { der, certificate: certificate(der)? })
    }

    /// Whether the chain is a signer that this root issued, valid now and not revoked by `crl`,
    /// which [`Self::own_crl`] read.
    pub(crate) fn signer(
        &self,
        chain: &Chain,
        crl: &CertificateList,
        now: u64,
    ) -> Result<Certificate, Problem> {
        if chain.root != self.der {
            return Err(Problem::NotAuthentic("the issuer chain ends in another root"));
        }
        let signer = certificate(&chain.signer)?;
        let tbs = signer.tbs_certificate();
        if tbs.issuer() != self.certificate.tbs_certificate().subject() {
            return Err(Problem::NotAuthentic("the signer names another issuer"));
        }
        if !is_signed(&chain.signer, &self.certificate) {
            return Err(Problem::NotAuthentic(
                "the signer's certificate is not signed by the root",
            ));
        }
        let validity = tbs.validity();
        let (from, until) = (seconds(validity.not_before), seconds(validity.not_after));
        within(from, until, now)?;
        let revoked = crl.tbs_cert_list.revoked_certificates.as_deref().unwrap_or_default();
        if revoked.iter().any(|entry| entry.serial_number == *tbs.serial_number()) {
            return Err(Problem::NotAuthentic("the signer's certificate is revoked"));
        }
        Ok(signer)
    }

    /// The root's own revocation list.
    pub(crate) fn own_crl(&self, der: &[u8], now: u64) -> Result<CertificateList, Problem> {
        crl_of(der, &self.certificate, now)
    }
}

/// Whether `signer` signed the text.
pub(crate) fn text_is_signed(text: &SignedText, signer: &Certificate) -> Result<(), Problem> {
    if verify(&ECDSA_P256_SHA256_FIXED, signer, text.text.as_bytes(), &text.signature) {
        return Ok(());
    }
    Err(Problem::NotAuthentic("the text is not signed by the signer of its chain"))
}

/// A revocation list of `issuer`, valid now.
pub(crate) fn crl_of(
    der: &[u8],
    issuer: &Certificate,
    now: u64,
) -> Result<CertificateList, Problem> {
    let list = CertificateList::from_der(der).map_err(|_| Problem::NotACrl)?;
    if list.tbs_cert_list.issuer != *issuer.tbs_certificate().subject() {
        return Err(Problem::NotAuthentic("the revocation list is another issuer's"));
    }
    if !is_signed(der, issuer) {
        return Err(Problem::NotAuthentic("the revocation list is not signed by its issuer"));
    }
    let until = list.tbs_cert_list.next_update.ok_or(Problem::NotACrl)?;
    within(seconds(list.tbs_cert_list.this_update), seconds(until), now)?;
    Ok(list)
}

/// First second at which the list is no longer valid.
pub(crate) fn crl_expires(list: &CertificateList) -> u64 {
    list.tbs_cert_list.next_update.map_or(0, seconds)
}

/// Where a certificate says its issuer's revocation list is.
pub(crate) fn distribution_point(der: &[u8]) -> Option<String> {
    let certificate = Certificate::from_der(der).ok()?;
    let extensions = certificate.tbs_certificate().extensions()?;
    let found = extensions.iter().find(|e| e.extn_id == CrlDistributionPoints::OID)?;
    let points = CrlDistributionPoints::from_der(found.extn_value.as_bytes()).ok()?;
    points.0.iter().find_map(|point| match point.distribution_point.as_ref()? {
        DistributionPointName::FullName(names) => names.iter().find_map(|name| match name {
            GeneralName::UniformResourceIdentifier(uri) => Some(uri.to_string()),
            _ => None,
        }),
        DistributionPointName::NameRelativeToCRLIssuer(_) => None,
    })
}

/// Refuses a window that does not hold `now`.
pub(crate) fn within(from: u64, until: u64, now: u64) -> Result<(), Problem> {
    if (from..=until).contains(&now) { Ok(()) } else { Err(Problem::NotNow { from, until, now }) }
}

fn certificate(der: &[u8]) -> Result<Certificate, Problem> {
    Certificate::from_der(der)
        .map_err(|_| Problem::NotAuthentic("a certificate of the chain cannot be read"))
}

/// Whether certificate or revocation list `der` carries `issuer`'s signature: both are a sequence
/// of what is signed, the algorithm and a bit string.
fn is_signed(der: &[u8], issuer: &Certificate) -> bool {
    let parts = || -> Option<(&[u8], &[u8])> {
        let mut outer = SliceReader::new(AnyRef::from_der(der).ok()?.value()).ok()?;
        let signed = outer.tlv_bytes().ok()?;
        let algorithm = SliceReader::new(AnyRef::from_der(outer.tlv_bytes().ok()?).ok()?.value())
            .ok()?
            .decode::<ObjectIdentifier>()
            .ok()?;
        // A bit string begins with the number of unused bits.
        let signature = AnyRef::from_der(outer.tlv_bytes().ok()?).ok()?.value();
        let signature = signature.strip_prefix(&[0])?;
        (algorithm == ECDSA_WITH_SHA256).then_some((signed, signature))
    };
    parts().is_some_and(|(signed, signature)| {
        verify(&ECDSA_P256_SHA256_ASN1, issuer, signed, signature)
    })
}

fn verify(
    algorithm: &'static dyn VerificationAlgorithm,
    issuer: &Certificate,
    message: &[u8],
    signature: &[u8],
) -> bool {
    let key = issuer.tbs_certificate().subject_public_key_info();
    key.subject_public_key.as_bytes().is_some_and(|point| {
        UnparsedPublicKey::new(algorithm, point).verify(message, signature).is_ok()
    })
}

fn seconds(time: x509_cert::time::Time) -> u64 {
    time.to_unix_duration().as_secs()
}

const ECDSA_WITH_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
