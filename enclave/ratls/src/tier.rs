//! What an accepted certificate is worth. The weaker tier cannot be had by setting a flag.

use chrysalis_evidence::Pins;

use crate::error::RatlsError;

/// What an accepted certificate is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// It hands over a key, and nothing is said on the connection before `attest/1` has proved that
    /// its holder runs, now and at this end, what the pins ask for. The only tier of production.
    LiveSession,
    /// It is the whole proof, as in Gramine, Cocoon and every other certificate-only RA-TLS. Such a
    /// certificate contains no challenge of the verifier, so it is
    ///
    /// * **replayable**: whoever once extracted the key presents the old quote until the
    ///   certificate ends, after the machine was patched, revoked or taken apart;
    /// * **relayable**: nothing ties the quote to this handshake, so an attacker in the middle with
    ///   the key ends the connection wherever he likes;
    /// * **divertible**: any genuine machine with the pinned image will do, also one whose owner
    ///   is the attacker.
    ///
    /// (CVE-2026-33697; "Identity Crisis in Confidential Computing", ASIA CCS 2026.) It exists to
    /// talk to peers that speak nothing better, and for tests.
    CertificateOnly(CertificateOnly),
}

/// Leave to trust a certificate alone. Only pins of tier INSECURE-CERTIFICATE-ONLY or INSECURE-SIM
/// grant it, and what reads production pins reads neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CertificateOnly(());

impl CertificateOnly {
    pub(crate) fn granted_by(pins: &Pins) -> Result<Self, RatlsError> {
        use chrysalis_evidence::Tier as PinsTier;
        match pins.tier() {
            PinsTier::Production => Err(RatlsError::CertificateOnly),
            PinsTier::CertificateOnly | PinsTier::InsecureSim => Ok(Self(())),
        }
    }
}
