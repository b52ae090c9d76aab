//! The form of an Intel DCAP quote: where it ends, what it claims to be, which certificates it
//! carries. Input is attacker-controlled; no length field is believed before the bytes behind it
//! are seen, and nothing read here is trusted before the signatures are verified.
//!
//! Layouts: Intel SGX ECDSA quote library reference (v3), Intel TDX DCAP quoting library (v4, v5).

use core::fmt;

use chrysalis_wire::limits::MAX_QUOTE_BYTES;
use chrysalis_wire::{Decoder, Digest, WireError};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::chain;

/// Why bytes were refused as a quote.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum QuoteError {
    /// Larger than [`MAX_QUOTE_BYTES`].
    #[error("quote is {got} bytes; the limit is {MAX_QUOTE_BYTES}")]
    TooLarge {
        /// Size found.
        got: usize,
    },
    /// The input ends inside a field.
    #[error("quote ends inside {what}: {expected} bytes expected, {got} left")]
    Truncated {
        /// The field being read.
        what: &'static str,
        /// Bytes the field needs.
        expected: usize,
        /// Bytes left.
        got: usize,
    },
    /// A version or a pairing of version and platform that this build does not read.
    #[error(
        "quote version {version} for TEE type {tee_type:#x} is not supported (3, 4, 5 for SGX and 4, 5 for TDX are)"
    )]
    Version {
        /// Version found.
        version: u16,
        /// TEE type found.
        tee_type: u32,
    },
    /// A v5 body type without a meaning here, or one whose stated size is wrong.
    #[error("quote body type {body_type} of {size} bytes is not supported")]
    Body {
        /// Body type found.
        body_type: u16,
        /// Size found.
        size: u32,
    },
    /// Not an ECDSA P-256 attestation key.
    #[error("attestation key type is {got}; 2 (ECDSA P-256) is expected")]
    KeyType {
        /// Key type found.
        got: u16,
    },
    /// Certification data of a kind that does not carry the platform's certificate chain.
    #[error("certification data type is {got}; {expected} is expected")]
    CertificationType {
        /// Type expected at this place.
        expected: u16,
        /// Type found.
        got: u16,
    },
    /// Bytes follow the end of a nested field.
    #[error("{got} bytes follow the end of the {what}")]
    Trailing {
        /// The field that should have ended.
        what: &'static str,
        /// Bytes left over.
        got: usize,
    },
    /// The PCK certificate chain is not canonical PEM of two or three certificates.
    #[error("PCK certificate chain: {reason}")]
    Chain {
        /// What is wrong.
        reason: &'static str,
    },
}

impl QuoteError {
    /// Stable code of the refusal.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "E-QUOTE-SIZE",
            Self::Truncated { .. } => "E-QUOTE-TRUNCATED",
            Self::Version { .. } => "E-QUOTE-VERSION",
            Self::Body { .. } => "E-QUOTE-BODY",
            Self::KeyType { .. } => "E-QUOTE-KEY-TYPE",
            Self::CertificationType { .. } => "E-QUOTE-CERT-TYPE",
            Self::Trailing { .. } => "E-QUOTE-TRAILING",
            Self::Chain { .. } => "E-QUOTE-CHAIN",
        }
    }
}

impl From<WireError> for QuoteError {
    fn from(error: WireError) -> Self {
        match error {
            WireError::Truncated { what, expected, got } => Self::Truncated { what, expected, got },
            WireError::TrailingBytes { what, got } => Self::Trailing { what, got },
            // The decoder calls below can fail in no other way.
            _ => Self::Truncated { what: "quote", expected: 0, got: 0 },
        }
    }
}

/// Kind of platform a quote claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TeeKind {
    /// An SGX enclave.
    Sgx,
    /// A TDX trust domain.
    Tdx,
}

/// Kind of report a quote claims to carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// SGX enclave report, 384 bytes.
    SgxEnclave,
    /// TD report of TDX 1.0, 584 bytes.
    Td10,
    /// TD report of TDX 1.5, 648 bytes.
    Td15,
    /// Extended TD report of TDX 1.5, 885 bytes.
    Td15Ex,
}

impl BodyKind {
    /// Size of the report in bytes.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::SgxEnclave => 384,
            Self::Td10 => 584,
            Self::Td15 => 648,
            Self::Td15Ex => 885,
        }
    }
}

impl fmt::Display for BodyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SgxEnclave => "SGX enclave report",
            Self::Td10 => "TD report 1.0",
            Self::Td15 => "TD report 1.5",
            Self::Td15Ex => "TD report 1.5 extended",
        })
    }
}

/// A quote of known form, cut at its real end. Its contents are unverified claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CutQuote {
    bytes: Vec<u8>,
    version: u16,
    body: BodyKind,
    /// First byte of `td_attributes`, or of ATTRIBUTES of an enclave.
    attributes: u8,
    chain: Vec<Vec<u8>>,
    ignored: usize,
}

impl CutQuote {
    /// Reads the form of a quote and cuts what follows its end; platforms pad their answers.
    ///
    /// # Errors
    /// [`QuoteError`] for every form this build does not know.
    pub fn parse(raw: &[u8]) -> Result<Self, QuoteError> {
        if raw.len() > MAX_QUOTE_BYTES {
            return Err(QuoteError::TooLarge { got: raw.len() });
        }
        let mut d = Decoder::new(raw);
        let version = u16_le(&mut d, "version")?;
        let key_type = u16_le(&mut d, "attestation key type")?;
        let tee_type = u32_le(&mut d, "TEE type")?;
        // SVNs, QE vendor id and user data: signed, and judged by the DCAP verification.
        d.take("quote header", HEADER_BYTES_AFTER_TEE_TYPE)?;
        let body = match (version, tee_type) {
            (3 | 4, TEE_SGX) => BodyKind::SgxEnclave,
            (4, TEE_TDX) => BodyKind::Td10,
            (5, TEE_SGX | TEE_TDX) => v5_body(&mut d, tee_type)?,
            _ => return Err(QuoteError::Version { version, tee_type }),
        };
        if key_type != KEY_TYPE_ECDSA_P256 {
            return Err(QuoteError::KeyType { got: key_type });
        }
        let report = d.take("report", body.size())?;
        let attributes_at = match body {
            BodyKind::SgxEnclave => SGX_ATTRIBUTES_AT,
            _ => TD_ATTRIBUTES_AT,
        };
        let attributes = report.get(attributes_at).copied().unwrap_or(u8::MAX);
        let length = usize::try_from(u32_le(&mut d, "signature length")?).unwrap_or(usize::MAX);
        let signature = d.take("signature data", length)?;
        let pem = match version {
            3 => certification(Decoder::new(signature), SGX_SIGNATURE_BYTES)?,
            _ => wrapped_certification(signature)?,
        };
        let chain = chain::split(pem).map_err(|reason| QuoteError::Chain { reason })?;
        let ignored = d.remaining().len();
        let bytes = raw.get(..raw.len().saturating_sub(ignored)).unwrap_or(raw).to_vec();
        Ok(Self { bytes, version, body, attributes, chain, ignored })
    }

    /// The quote, header to the end of its signature data.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256 of [`Self::bytes`], signature included: the evidence digest. A digest of the signed
    /// part alone would be the same for a good and a bad signature.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest(Sha256::digest(&self.bytes).into())
    }

    /// Quote version: 3, 4 or 5.
    #[must_use]
    pub const fn version(&self) -> u16 {
        self.version
    }

    /// Kind of report claimed.
    #[must_use]
    pub const fn body(&self) -> BodyKind {
        self.body
    }

    /// Kind of platform claimed.
    #[must_use]
    pub const fn tee(&self) -> TeeKind {
        match self.body {
            BodyKind::SgxEnclave => TeeKind::Sgx,
            _ => TeeKind::Tdx,
        }
    }

    /// Bytes after the end of the quote that were cut off.
    #[must_use]
    pub const fn ignored(&self) -> usize {
        self.ignored
    }

    /// First byte of `td_attributes`, where any bit set means that the TD is under debug; of an
    /// enclave, first byte of ATTRIBUTES. Unverified.
    pub(crate) const fn attributes(&self) -> u8 {
        self.attributes
    }

    /// The root certificate the quote carries, if it carries one.
    pub(crate) fn carried_root(&self) -> Option<&[u8]> {
        self.chain.get(ROOT_AT).map(Vec::as_slice)
    }
}

/// The bytes of a quote without what follows its end; what a platform backend does before it hands
/// a quote on.
///
/// # Errors
/// As [`CutQuote::parse`].
pub fn cut_quote(raw: &[u8]) -> Result<&[u8], QuoteError> {
    let ignored = CutQuote::parse(raw)?.ignored;
    Ok(raw.get(..raw.len().saturating_sub(ignored)).unwrap_or(raw))
}

/// The body a version 5 quote states; one that does not belong to the platform is refused.
fn v5_body(d: &mut Decoder<'_>, tee_type: u32) -> Result<BodyKind, QuoteError> {
    let body_type = u16_le(d, "body type")?;
    let size = u32_le(d, "body size")?;
    let body = match (tee_type, body_type) {
        (TEE_SGX, 1) => BodyKind::SgxEnclave,
        (TEE_TDX, 2) => BodyKind::Td10,
        (TEE_TDX, 3) => BodyKind::Td15,
        (TEE_TDX, 4) => BodyKind::Td15Ex,
        _ => return Err(QuoteError::Body { body_type, size }),
    };
    if usize::try_from(size) == Ok(body.size()) {
        Ok(body)
    } else {
        Err(QuoteError::Body { body_type, size })
    }
}

/// v4 and v5: signature and key, then certification data of type 6 that wraps the QE report.
fn wrapped_certification(signature: &[u8]) -> Result<&[u8], QuoteError> {
    let mut d = Decoder::new(signature);
    d.take("quote signature and key", QUOTE_SIGNATURE_BYTES)?;
    let wrapped = typed_data(&mut d, CERT_TYPE_QE_REPORT)?;
    d.finish("signature data")?;
    certification(Decoder::new(wrapped), QE_REPORT_BYTES)
}

/// Skips `fixed` bytes and the QE authentication data; returns the certificate chain, which must
/// be the last thing there.
fn certification(mut d: Decoder<'_>, fixed: usize) -> Result<&[u8], QuoteError> {
    d.take("QE report and signature", fixed)?;
    let auth = usize::from(u16_le(&mut d, "QE authentication data length")?);
    d.take("QE authentication data", auth)?;
    let pem = typed_data(&mut d, CERT_TYPE_PCK_CHAIN)?;
    d.finish("certification data")?;
    Ok(pem)
}

fn typed_data<'a>(d: &mut Decoder<'a>, expected: u16) -> Result<&'a [u8], QuoteError> {
    let got = u16_le(d, "certification data type")?;
    if got != expected {
        return Err(QuoteError::CertificationType { expected, got });
    }
    let length = u32_le(d, "certification data length")?;
    Ok(d.take("certification data", usize::try_from(length).unwrap_or(usize::MAX))?)
}

fn u16_le(d: &mut Decoder<'_>, what: &'static str) -> Result<u16, QuoteError> {
    Ok(u16::from_le_bytes(d.array(what)?))
}

fn u32_le(d: &mut Decoder<'_>, what: &'static str) -> Result<u32, QuoteError> {
    Ok(u32::from_le_bytes(d.array(what)?))
}

const TEE_SGX: u32 = 0;
const TEE_TDX: u32 = 0x81;
const KEY_TYPE_ECDSA_P256: u16 = 2;
/// The header is 48 bytes; 8 are read before this.
const HEADER_BYTES_AFTER_TEE_TYPE: usize = 40;
/// Offset of `td_attributes` in every TD report.
const TD_ATTRIBUTES_AT: usize = 120;
/// Offset of ATTRIBUTES in an enclave report.
const SGX_ATTRIBUTES_AT: usize = 48;
/// ECDSA signature and attestation key.
const QUOTE_SIGNATURE_BYTES: usize = 64 + 64;
/// QE report and its signature.
const QE_REPORT_BYTES: usize = 384 + 64;
/// v3 puts both in a row.
const SGX_SIGNATURE_BYTES: usize = QUOTE_SIGNATURE_BYTES + QE_REPORT_BYTES;
const CERT_TYPE_PCK_CHAIN: u16 = 5;
const CERT_TYPE_QE_REPORT: u16 = 6;
/// Leaf, platform CA, root.
const ROOT_AT: usize = 2;
