//! Verifies certificates: form, window, evidence. What it gives is a [`Peer`], which is a key with
//! a genuine quote of a pinned image, and deliberately not a peer to talk to: see [`Tier`].

use core::fmt;
use std::sync::Arc;

use chrysalis_evidence::{AcceptedQuote, Appraiser, Collateral, QuoteVerdict, Role, Session};
use chrysalis_wire::UnixTime;

use crate::certificate::RatlsCertificate;
use crate::error::RatlsError;
use crate::format::Format;
use crate::key::PublicKey;
use crate::tier::{CertificateOnly, Tier};

/// Where a verifier finds Intel-signed facts about the platform a quote names. Never the peer.
pub trait CollateralSource: fmt::Debug + Send + Sync {
    /// Collateral for this quote, whose bytes are unverified claims.
    fn collateral(&self, quote: &[u8]) -> Option<Arc<Collateral>>;
}

/// The same collateral for every quote: a fleet of one platform family.
impl CollateralSource for Arc<Collateral> {
    fn collateral(&self, _quote: &[u8]) -> Option<Self> {
        Some(Self::clone(self))
    }
}

/// Decides about certificates. It holds no state of a connection; one value serves them all.
#[derive(Clone, Debug)]
pub struct CertificateVerifier {
    appraiser: Appraiser,
    collateral: Arc<dyn CollateralSource>,
    formats: Vec<Format>,
    tier: Tier,
}

impl CertificateVerifier {
    /// A verifier of [`Tier::LiveSession`]. An empty list of formats accepts nothing.
    #[must_use]
    pub fn new(
        appraiser: Appraiser,
        collateral: impl CollateralSource + 'static,
        formats: impl Into<Vec<Format>>,
    ) -> Self {
        let (collateral, formats) = (Arc::new(collateral), formats.into());
        Self { appraiser, collateral, formats, tier: Tier::LiveSession }
    }

    /// The same verifier in [`Tier::CertificateOnly`], if its pins grant that.
    ///
    /// # Errors
    /// [`RatlsError::CertificateOnly`] for production pins, whatever else they say.
    pub fn certificate_only(self) -> Result<Self, RatlsError> {
        let tier = Tier::CertificateOnly(CertificateOnly::granted_by(self.appraiser.pins())?);
        Ok(Self { tier, ..self })
    }

    /// What an accepted certificate is worth.
    #[must_use]
    pub const fn tier(&self) -> Tier {
        self.tier
    }

    /// Reads and appraises a certificate presented by the end `holder` of a connection.
    ///
    /// # Errors
    /// [`RatlsError`] for everything but the appraisal, whose verdict is inside the result.
    pub fn verify(&self, der: &[u8], holder: Role, now: UnixTime) -> Result<Appraised, RatlsError> {
        let certificate = RatlsCertificate::parse(der)?;
        let format = certificate.format();
        if !self.formats.contains(&format) {
            return Err(RatlsError::FormatNotAccepted { format });
        }
        certificate.check_use(holder, now)?;
        let quote = certificate.quote();
        let collateral = self.collateral.collateral(quote).ok_or(RatlsError::NoCollateral)?;
        let expected = certificate.report_data();
        let verdict = self.appraiser.appraise_quote(quote, expected, &collateral, now);
        let (key, not_after) = (certificate.key().clone(), certificate.validity().1);
        Ok(Appraised { verdict, key, format, not_after, tier: self.tier })
    }
}

/// A certificate with the verdict over its evidence, accepting or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appraised {
    verdict: QuoteVerdict,
    key: PublicKey,
    format: Format,
    not_after: UnixTime,
    tier: Tier,
}

impl Appraised {
    /// Every rule in order, and the verdict.
    #[must_use]
    pub const fn verdict(&self) -> &QuoteVerdict {
        &self.verdict
    }

    /// The certificate's key, whatever the verdict.
    #[must_use]
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }

    /// How the evidence stood in the certificate.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// The peer, if the verdict accepts its evidence.
    ///
    /// # Errors
    /// [`RatlsError::Refused`] with the rule that refused.
    pub fn accept(self) -> Result<Peer, RatlsError> {
        let quote =
            self.verdict.result.map_err(|refusal| RatlsError::Refused(Box::new(refusal)))?;
        let expires = self.not_after.min(quote.collateral_expires());
        Ok(Peer { key: self.key, quote, expires, tier: self.tier })
    }
}

/// A key with accepted evidence, of unknown age and from whoever forwards it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    key: PublicKey,
    quote: AcceptedQuote,
    expires: UnixTime,
    tier: Tier,
}

impl Peer {
    /// The key.
    #[must_use]
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The facts of its quote.
    #[must_use]
    pub const fn quote(&self) -> &AcceptedQuote {
        &self.quote
    }

    /// The earlier end of certificate and collateral; nothing may be remembered for longer.
    #[must_use]
    pub const fn expires(&self) -> UnixTime {
        self.expires
    }

    /// The way on: what `attest/1` is judged against. `nonce` is fresh and this side's own,
    /// `exporter` is of the connection this certificate was presented in, under
    /// [`chrysalis_evidence::EXPORTER_LABEL`]. Give the session and the peer's answer to
    /// [`Appraiser::appraise`]; its verdict is about a live peer.
    #[must_use]
    pub fn session(&self, nonce: [u8; 32], exporter: [u8; 32]) -> Session {
        Session { nonce, tls_spki: self.key.spki_sha256(), exporter }
    }

    /// The way out, without a live proof: the certificate is all there is.
    ///
    /// # Errors
    /// [`RatlsError::CertificateOnly`] unless the verifier was of [`Tier::CertificateOnly`].
    pub fn without_live_session(self) -> Result<CertificateOnlyPeer, RatlsError> {
        match self.tier {
            Tier::LiveSession => Err(RatlsError::CertificateOnly),
            Tier::CertificateOnly(grant) => {
                let Self { key, quote, expires, .. } = self;
                Ok(CertificateOnlyPeer { key, quote, expires, grant })
            }
        }
    }
}

/// A peer trusted by its certificate alone. See [`Tier::CertificateOnly`] for what that is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateOnlyPeer {
    /// The key.
    pub key: PublicKey,
    /// The facts of its quote.
    pub quote: AcceptedQuote,
    /// The earlier end of certificate and collateral.
    pub expires: UnixTime,
    /// What made this possible.
    pub grant: CertificateOnly,
}
