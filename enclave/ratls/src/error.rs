//! One variant per way to be refused. Text of a peer never enters an error: only numbers, OIDs and
//! digests do.

use chrysalis_evidence::Refusal;
use chrysalis_wire::{Digest, UnixTime};
use thiserror::Error;

use crate::cbor::CborError;
use crate::format::Format;
use crate::key::KeyKind;

/// Why a certificate was refused, or could not be made.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RatlsError {
    /// Something is over its limit.
    #[error("{what} is {got} (bytes or entries); the limit is {limit}")]
    TooLarge {
        /// What was counted.
        what: &'static str,
        /// The named limit.
        limit: usize,
        /// What was found.
        got: usize,
    },
    /// The input ends inside a field, or a field is not DER.
    #[error("{what}: {reason}")]
    Der {
        /// The field being read.
        what: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Bytes follow the end of a value.
    #[error("{got} bytes follow the end of the {what}")]
    Trailing {
        /// The value that should have ended.
        what: &'static str,
        /// Bytes left over.
        got: usize,
    },
    /// Not an X.509 version 3 certificate.
    #[error("certificate is not X.509 version 3")]
    Version,
    /// Issuer and subject differ: RA-TLS certificates are self-signed.
    #[error("issuer and subject differ; an RA-TLS certificate is self-signed")]
    NotSelfIssued,
    /// A public key of another kind than P-256, P-384 and Ed25519, of the wrong size, or an Ed25519
    /// point of small order, for which anybody can sign.
    #[error("public key is not a P-256, P-384 or Ed25519 key that can be relied on")]
    KeyKind,
    /// The format does not allow this kind of key.
    #[error("{format} certificates do not carry {kind} keys")]
    KeyOfFormat {
        /// Format of the evidence.
        format: Format,
        /// Kind of the key found.
        kind: KeyKind,
    },
    /// The certificate names a signature algorithm that does not fit its own key.
    #[error("signature algorithm does not belong to the certificate's {kind} key")]
    SignatureAlgorithm {
        /// Kind of the key found.
        kind: KeyKind,
    },
    /// The self-signature does not verify: the certificate was changed after it was made.
    #[error("the certificate is not signed with its own key")]
    Signature,
    /// The window begins later than the verifier's clock.
    #[error("certificate is valid from {from}, the clock says {now}", from = .from.0, now = .now.0)]
    NotYetValid {
        /// First second of the window.
        from: UnixTime,
        /// The verifier's clock.
        now: UnixTime,
    },
    /// The window is over.
    #[error("certificate expired at {until}, the clock says {now}", until = .until.0, now = .now.0)]
    Expired {
        /// Last second of the window.
        until: UnixTime,
        /// The verifier's clock.
        now: UnixTime,
    },
    /// The window ends before it begins.
    #[error("validity ends at {until}, before it begins at {from}", until = .until.0, from = .from.0)]
    Validity {
        /// First second.
        from: UnixTime,
        /// Last second.
        until: UnixTime,
    },
    /// The same extension twice.
    #[error("extension {oid} appears twice")]
    DuplicateExtension {
        /// Its OID, dotted.
        oid: String,
    },
    /// A critical extension without a meaning here (RFC 5280 §4.2: such a certificate is refused).
    #[error("critical extension {oid} is unknown")]
    UnknownCritical {
        /// Its OID, dotted.
        oid: String,
    },
    /// An evidence extension with the other criticality than its format prescribes.
    #[error("extension {oid} must {}be critical", if *.expected { "" } else { "not " })]
    Criticality {
        /// Its OID, dotted.
        oid: String,
        /// What the format prescribes.
        expected: bool,
    },
    /// The certificate calls itself a certificate authority.
    #[error("certificate is that of a certificate authority")]
    Authority,
    /// Key usage or extended key usage exclude what the certificate is used for.
    #[error("certificate may not be used for {purpose}")]
    Purpose {
        /// The use that is excluded.
        purpose: &'static str,
    },
    /// No evidence extension of a known format.
    #[error("certificate carries no evidence of a known format")]
    NoEvidence,
    /// Evidence of two formats that do not occur together.
    #[error("certificate carries evidence as {first} and as {second}")]
    SeveralQuotes {
        /// First format found.
        first: &'static str,
        /// Second format found.
        second: &'static str,
    },
    /// The same evidence in two formats that contradict each other.
    #[error("the two copies of the evidence disagree in {what}")]
    CopiesDisagree {
        /// What differs.
        what: &'static str,
    },
    /// The tagged evidence is not the CBOR it should be.
    #[error("tagged evidence: {0}")]
    Cbor(#[from] CborError),
    /// CBOR tag of other evidence than a quote.
    #[error(
        "evidence has CBOR tag {got}; {} (ECDSA quote) is expected",
        crate::evidence::TAG_QUOTE
    )]
    EvidenceTag {
        /// Tag found.
        got: u64,
    },
    /// The claims do not hash the certificate's key: without it, evidence is bound to nothing.
    #[error("claims carry no pubkey-hash")]
    NoPubkeyHash,
    /// A hash algorithm id other than 1 (SHA-256), 7 (SHA-384) and 8 (SHA-512), or a hash of the
    /// wrong length.
    #[error("pubkey-hash: algorithm {algorithm} with {bytes} bytes is not accepted")]
    PubkeyHashForm {
        /// Named information hash algorithm id.
        algorithm: u64,
        /// Length of the hash.
        bytes: usize,
    },
    /// The claims are about another key than the certificate's.
    #[error("claims name another key than the certificate's (SHA-256 of its SPKI is {spki})")]
    KeyMismatch {
        /// SHA-256 of the certificate's SubjectPublicKeyInfo.
        spki: Digest,
    },
    /// The quote is of no known form.
    #[error("quote: {reason}")]
    Quote {
        /// What is wrong.
        reason: &'static str,
    },
    /// The quote claims other report data than the format prescribes for this key.
    #[error(
        "quote is not bound to this certificate as {format}: expected {expected}, found {found}"
    )]
    NotBound {
        /// Format whose rule was applied.
        format: Format,
        /// Report data computed from the certificate, hex.
        expected: String,
        /// Report data of the quote, hex.
        found: String,
    },
    /// Certificates beside the one that carries the key.
    #[error("{got} certificates beyond the first; an RA-TLS certificate stands alone")]
    Intermediates {
        /// How many.
        got: usize,
    },
    /// No certificate at all.
    #[error("the peer presented no certificate")]
    NoCertificate,
    /// A known format that this verifier was not told to accept.
    #[error("{format} certificates are not accepted here")]
    FormatNotAccepted {
        /// Format found.
        format: Format,
    },
    /// There is no collateral for the platform the quote names.
    #[error("no collateral for this quote")]
    NoCollateral,
    /// The evidence was refused by the policy.
    #[error(transparent)]
    Refused(Box<Refusal>),
    /// Certificate-only trust asked of pins that do not grant it.
    #[error("production pins never trust a certificate alone; run attest/1 on the connection")]
    CertificateOnly,
    /// The platform made no quote.
    #[error("no quote: {reason}")]
    Provider {
        /// In the platform's words.
        reason: String,
    },
    /// A key or a certificate could not be made.
    #[error("cannot make {0}")]
    Generate(&'static str),
}

impl RatlsError {
    /// Stable code of the refusal.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "E-RATLS-SIZE",
            Self::Der { .. } => "E-RATLS-DER",
            Self::Trailing { .. } => "E-RATLS-TRAILING",
            Self::Version => "E-RATLS-VERSION",
            Self::NotSelfIssued => "E-RATLS-ISSUER",
            Self::KeyKind => "E-RATLS-KEY-KIND",
            Self::KeyOfFormat { .. } => "E-RATLS-KEY-OF-FORMAT",
            Self::SignatureAlgorithm { .. } => "E-RATLS-SIGNATURE-ALGORITHM",
            Self::Signature => "E-RATLS-SIGNATURE",
            Self::NotYetValid { .. } => "E-RATLS-EARLY",
            Self::Expired { .. } => "E-RATLS-EXPIRED",
            Self::Validity { .. } => "E-RATLS-VALIDITY",
            Self::DuplicateExtension { .. } => "E-RATLS-DUPLICATE",
            Self::UnknownCritical { .. } => "E-RATLS-CRITICAL",
            Self::Criticality { .. } => "E-RATLS-CRITICALITY",
            Self::Authority => "E-RATLS-AUTHORITY",
            Self::Purpose { .. } => "E-RATLS-PURPOSE",
            Self::NoEvidence => "E-RATLS-NO-EVIDENCE",
            Self::SeveralQuotes { .. } => "E-RATLS-SEVERAL",
            Self::CopiesDisagree { .. } => "E-RATLS-COPIES",
            Self::Cbor(_) => "E-RATLS-CBOR",
            Self::EvidenceTag { .. } => "E-RATLS-TAG",
            Self::NoPubkeyHash => "E-RATLS-NO-PUBKEY-HASH",
            Self::PubkeyHashForm { .. } => "E-RATLS-PUBKEY-HASH",
            Self::KeyMismatch { .. } => "E-RATLS-KEY-MISMATCH",
            Self::Quote { .. } => "E-RATLS-QUOTE",
            Self::NotBound { .. } => "E-RATLS-BINDING",
            Self::Intermediates { .. } => "E-RATLS-INTERMEDIATES",
            Self::NoCertificate => "E-RATLS-NO-CERTIFICATE",
            Self::FormatNotAccepted { .. } => "E-RATLS-FORMAT",
            Self::NoCollateral => "E-RATLS-COLLATERAL",
            Self::Refused(refusal) => refusal.code,
            Self::CertificateOnly => "E-RATLS-CERTIFICATE-ONLY",
            Self::Provider { .. } => "E-RATLS-PROVIDER",
            Self::Generate(_) => "E-RATLS-GENERATE",
        }
    }
}
