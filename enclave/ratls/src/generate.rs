//! Makes certificates: a fresh key, a quote for it from the platform, and X.509 around both. The
//! platform's answer is hostile bytes until it carries the report data it was asked for; the key
//! never leaves this process.

use core::fmt;
use std::sync::Arc;

use chrysalis_wire::UnixTime;
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PublicKeyData as _,
    date_time_ymd,
};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

use crate::certificate::{RatlsCertificate, bound};
use crate::error::RatlsError;
use crate::evidence::{Claims, TaggedEvidence, at_most};
use crate::format::Format;
use crate::key::PublicKey;
use crate::x509::MAX_EXTENSION_BYTES;

/// The platform, as far as a certificate needs it. A caller never chooses report data: it is made
/// here, under a format's rule, for a key that was made here.
pub trait QuoteProvider {
    /// Why there is no quote.
    type Error: fmt::Display;

    /// Gets a quote that carries `report_data`.
    ///
    /// # Errors
    /// Whatever keeps the platform from making one.
    fn quote(&self, report_data: &[u8; 64]) -> Result<Vec<u8>, Self::Error>;
}

/// A closure is a platform.
impl<E: fmt::Display, F: Fn(&[u8; 64]) -> Result<Vec<u8>, E>> QuoteProvider for F {
    type Error = E;

    fn quote(&self, report_data: &[u8; 64]) -> Result<Vec<u8>, E> {
        self(report_data)
    }
}

/// What a certificate shall be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// How the evidence stands in it; also decides the key: Ed25519 for Cocoon, else P-256.
    pub format: Format,
    /// First second of its window.
    pub not_before: UnixTime,
    /// Last second of its window. Cocoon takes a day; shorter is better, and a certificate is
    /// replaced well before it ends ([`crate::Identities`]).
    pub not_after: UnixTime,
}

/// A key with its certificate, ready for rustls.
#[derive(Clone, Debug)]
pub struct Identity {
    certified: Arc<CertifiedKey>,
    certificate: CertificateDer<'static>,
    key: PublicKey,
    not_after: UnixTime,
}

impl Identity {
    /// Makes a key, asks the platform for a quote for it, and signs the certificate.
    ///
    /// # Errors
    /// [`RatlsError::Provider`], [`RatlsError::Validity`], [`RatlsError::Generate`], and
    /// [`RatlsError::NotBound`] or [`RatlsError::Quote`] for a quote of something else.
    pub fn generate(order: &Order, platform: &impl QuoteProvider) -> Result<Self, RatlsError> {
        let Order { format, not_before, not_after } = *order;
        let algorithm = match format {
            Format::Cocoon => &PKCS_ED25519,
            Format::Interoperable | Format::Gramine => &PKCS_ECDSA_P256_SHA256,
        };
        let pair = KeyPair::generate_for(algorithm).map_err(|_| RatlsError::Generate("a key"))?;
        let key = PublicKey::from_spki(&pair.subject_public_key_info())?;
        let extensions = evidence(format, &key, platform)?;
        let der = sign(&pair, order, extensions)?;
        // One parser decides everything, about our own certificates too.
        RatlsCertificate::parse(&der)?.check_use(chrysalis_evidence::Role::Server, not_before)?;

        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pair.serialize_der()));
        let signer =
            any_supported_type(&private).map_err(|_| RatlsError::Generate("a signing key"))?;
        // `CertifiedKey::new` and not `from_der`: webpki refuses Cocoon's critical extensions.
        let certified = Arc::new(CertifiedKey::new(vec![der.clone()], signer));
        Ok(Self { certified, certificate: der, key, not_after })
    }

    /// The certificate, DER.
    #[must_use]
    pub const fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Its key.
    #[must_use]
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Last second of its window.
    #[must_use]
    pub const fn not_after(&self) -> UnixTime {
        self.not_after
    }

    pub(crate) const fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }
}

/// The format's extensions, around a quote that claims what it was asked for.
fn evidence(
    format: Format,
    key: &PublicKey,
    platform: &impl QuoteProvider,
) -> Result<Vec<CustomExtension>, RatlsError> {
    let claims = match format {
        Format::Interoperable => Claims::of_key(key),
        Format::Gramine => Vec::new(),
        Format::Cocoon => key.raw().to_vec(),
    };
    let report_data = format.report_data(key, &claims);
    let quote = platform
        .quote(&report_data.0)
        .map_err(|error| RatlsError::Provider { reason: error.to_string() })?;
    bound(format, &report_data, &quote)?;
    let extension = |oid, critical, value: Vec<u8>| -> Result<CustomExtension, RatlsError> {
        at_most("extension value", MAX_EXTENSION_BYTES, &value)?;
        let mut extension = CustomExtension::from_oid_content(oid, value);
        extension.set_criticality(critical);
        Ok(extension)
    };
    Ok(match format {
        Format::Interoperable => {
            let value = TaggedEvidence { quote: &quote, claims: &claims }.encode();
            vec![extension(TAGGED_EVIDENCE, false, value)?]
        }
        Format::Gramine => vec![extension(GRAMINE_QUOTE, false, quote)?],
        Format::Cocoon => {
            vec![extension(COCOON_QUOTE, true, quote)?, extension(COCOON_CLAIMS, true, claims)?]
        }
    })
}

/// Self-signs. The subject says nothing: it would be believed by somebody one day.
fn sign(
    pair: &KeyPair,
    order: &Order,
    extensions: Vec<CustomExtension>,
) -> Result<CertificateDer<'static>, RatlsError> {
    let Order { not_before: from, not_after: until, .. } = *order;
    if until < from || until.0 > LAST_SECOND {
        return Err(RatlsError::Validity { from, until });
    }
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let mut params =
        CertificateParams::new(names).map_err(|_| RatlsError::Generate("a certificate"))?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "RATLS");
    let at = |time: UnixTime| {
        let since = core::time::Duration::from_secs(time.0).try_into().unwrap_or_default();
        date_time_ymd(1970, 1, 1).saturating_add(since)
    };
    (params.not_before, params.not_after) = (at(from), at(until));
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.custom_extensions = extensions;
    let signed = params.self_signed(pair).map_err(|_| RatlsError::Generate("a certificate"))?;
    Ok(signed.der().clone())
}

/// 9999-12-31 23:59:59, the last second X.509 can write.
const LAST_SECOND: u64 = 253_402_300_799;
/// [`crate::OID_TAGGED_EVIDENCE`] and the others as arcs.
const TAGGED_EVIDENCE: &[u64] = &[2, 23, 133, 5, 4, 9];
const GRAMINE_QUOTE: &[u64] = &[0, 6, 9, 42, 840, 113_741, 1337, 6];
const COCOON_QUOTE: &[u64] = &[1, 3, 6, 1, 4, 1, 12_345, 1];
const COCOON_CLAIMS: &[u64] = &[1, 3, 6, 1, 4, 1, 12_345, 2];
