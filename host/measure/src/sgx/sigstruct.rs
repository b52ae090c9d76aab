//! SIGSTRUCT: who vouches for an enclave, and for which (SDM volume 3D, "Enclave Signature
//! Structure"). Input is attacker-controlled. Parsing gives an [`UnverifiedSigstruct`]; only
//! [`UnverifiedSigstruct::verify`] gives the type that has an MRENCLAVE and an MRSIGNER.

use core::fmt;
use core::str::FromStr;

use chrysalis_wire::Digest;
use sha2::{Digest as _, Sha256};

use super::error::{SgxError, SigstructError};
use super::gramine::EnclaveAttributes;
use super::rsa::{MODULUS_BYTES, Modulus};

/// Bytes of a SIGSTRUCT.
pub const SIGSTRUCT_BYTES: usize = 1808;

/// A SIGSTRUCT in the right form; nothing vouches for what it says.
#[derive(Clone, PartialEq, Eq)]
pub struct UnverifiedSigstruct {
    bytes: Box<[u8; SIGSTRUCT_BYTES]>,
    modulus: Modulus,
    date: SigningDate,
}

/// A SIGSTRUCT whose signature verifies under the modulus it carries. Whether that modulus is
/// anybody's is for the reader of [`Sigstruct::mrsigner`] to say.
#[derive(Clone, PartialEq, Eq)]
pub struct Sigstruct(UnverifiedSigstruct);

/// The fields that are signed, and that a signer chooses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigstructBody {
    /// When it was signed; informative.
    pub date: SigningDate,
    /// MRENCLAVE.
    pub mrenclave: Digest,
    /// ATTRIBUTES and MISCSELECT with their masks.
    pub attributes: EnclaveAttributes,
    /// Product of the signer.
    pub isv_prod_id: u16,
    /// Security version; the host cannot start an older one under a policy that names a minimum.
    pub isv_svn: u16,
}

impl UnverifiedSigstruct {
    /// Reads the form: length, constants, reserved bytes, exponent, modulus, date.
    ///
    /// # Errors
    /// [`SgxError::Sigstruct`].
    pub fn parse(bytes: &[u8]) -> Result<Self, SgxError> {
        let bytes: &[u8; SIGSTRUCT_BYTES] =
            bytes.try_into().map_err(|_| SigstructError::Length { got: bytes.len() })?;
        for (name, at, expected) in CONSTANTS {
            if !bytes.get(*at..).is_some_and(|rest| rest.starts_with(expected)) {
                return Err(SigstructError::Constant(name).into());
            }
        }
        let vendor = u32::from_le_bytes(field(bytes, VENDOR));
        if vendor != 0 && vendor != VENDOR_INTEL {
            return Err(SigstructError::Constant("VENDOR").into());
        }
        for (at, len) in RESERVED {
            let reserved = bytes.get(at..).and_then(|rest| rest.get(..len)).unwrap_or_default();
            if reserved.iter().any(|byte| *byte != 0) {
                return Err(SigstructError::Reserved { at }.into());
            }
        }
        let modulus = Modulus::from_le_bytes(&field(bytes, MODULUS))?;
        let date = SigningDate::from_bcd(u32::from_le_bytes(field(bytes, DATE)))?;
        Ok(Self { bytes: Box::new(*bytes), modulus, date })
    }

    /// Verifies Q1, Q2 and the signature, as EINIT does.
    ///
    /// # Errors
    /// [`SigstructError::Range`], [`SigstructError::Quotient`], [`SigstructError::Signature`].
    pub fn verify(self) -> Result<Sigstruct, SgxError> {
        let at = |offset| field::<MODULUS_BYTES>(&self.bytes, offset);
        self.modulus.verify(&signed_bytes(&self.bytes), &at(SIGNATURE), &at(Q1), &at(Q2))?;
        Ok(Sigstruct(self))
    }
}

impl Sigstruct {
    /// What was signed.
    #[must_use]
    pub fn body(&self) -> SigstructBody {
        let bytes = &self.0.bytes;
        let u32_at = |offset| u32::from_le_bytes(field(bytes, offset));
        let u64_at = |offset| u64::from_le_bytes(field(bytes, offset));
        let u16_at = |offset| u16::from_le_bytes(field(bytes, offset));
        SigstructBody {
            date: self.0.date,
            mrenclave: Digest(field(bytes, ENCLAVE_HASH)),
            attributes: EnclaveAttributes {
                flags: u64_at(ATTRIBUTES),
                xfrm: u64_at(ATTRIBUTES + 8),
                flags_mask: u64_at(ATTRIBUTE_MASK),
                xfrm_mask: u64_at(ATTRIBUTE_MASK + 8),
                misc_select: u32_at(MISC_SELECT),
                misc_mask: u32_at(MISC_MASK),
            },
            isv_prod_id: u16_at(ISV_PROD_ID),
            isv_svn: u16_at(ISV_SVN),
        }
    }

    /// MRSIGNER: SHA-256 of the modulus as it stands in the structure.
    #[must_use]
    pub fn mrsigner(&self) -> Digest {
        self.0.modulus.mrsigner()
    }

    /// The structure's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; SIGSTRUCT_BYTES] {
        &self.0.bytes
    }
}

impl SigstructBody {
    /// The structure with these fields and without a signature yet.
    pub(super) fn unsigned(&self) -> [u8; SIGSTRUCT_BYTES] {
        let mut bytes = [0; SIGSTRUCT_BYTES];
        for (_, at, constant) in CONSTANTS {
            put(&mut bytes, *at, constant);
        }
        put(&mut bytes, DATE, &self.date.to_bcd().to_le_bytes());
        let attributes = &self.attributes;
        put(&mut bytes, MISC_SELECT, &attributes.misc_select.to_le_bytes());
        put(&mut bytes, MISC_MASK, &attributes.misc_mask.to_le_bytes());
        put(&mut bytes, ATTRIBUTES, &attributes.flags.to_le_bytes());
        put(&mut bytes, ATTRIBUTES + 8, &attributes.xfrm.to_le_bytes());
        put(&mut bytes, ATTRIBUTE_MASK, &attributes.flags_mask.to_le_bytes());
        put(&mut bytes, ATTRIBUTE_MASK + 8, &attributes.xfrm_mask.to_le_bytes());
        put(&mut bytes, ENCLAVE_HASH, &self.mrenclave.0);
        put(&mut bytes, ISV_PROD_ID, &self.isv_prod_id.to_le_bytes());
        put(&mut bytes, ISV_SVN, &self.isv_svn.to_le_bytes());
        bytes
    }
}

/// Fills in what a signature adds: modulus, signature, Q1, Q2.
pub(super) fn put_signature(
    bytes: &mut [u8; SIGSTRUCT_BYTES],
    modulus: &Modulus,
    signature: &[u8; MODULUS_BYTES],
) -> Result<(), SgxError> {
    let (q1, q2) = modulus.quotients(signature)?;
    put(bytes, MODULUS, &modulus.to_le_bytes());
    put(bytes, SIGNATURE, signature);
    put(bytes, Q1, &q1);
    put(bytes, Q2, &q2);
    Ok(())
}

/// The 256 signed bytes: the header, and the body behind key and signature.
pub(super) fn signed_bytes(bytes: &[u8; SIGSTRUCT_BYTES]) -> [u8; 256] {
    let mut signed = [0; 256];
    let (head, body) = (field::<128>(bytes, 0), field::<128>(bytes, MISC_SELECT));
    for (to, from) in signed.iter_mut().zip(head.iter().chain(&body)) {
        *to = *from;
    }
    signed
}

/// A day. In the structure it is binary-coded decimal, `0xYYYYMMDD`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SigningDate {
    year: u16,
    month: u8,
    day: u8,
}

impl SigningDate {
    fn new(year: u16, month: u8, day: u8) -> Option<Self> {
        let leap =
            year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let days = match month {
            2 if leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => return None,
        };
        let good = (1..=days).contains(&day) && (1..=9999).contains(&year);
        good.then_some(Self { year, month, day })
    }

    fn from_bcd(bcd: u32) -> Result<Self, SigstructError> {
        let text = format!("{bcd:08x}");
        let part = |range| text.get(range).unwrap_or_default();
        let date = format!("{}-{}-{}", part(0..4), part(4..6), part(6..8));
        date.parse()
    }

    fn to_bcd(self) -> u32 {
        // Eight decimal digits read as hexadecimal ones.
        let text = format!("{:04}{:02}{:02}", self.year, self.month, self.day);
        u32::from_str_radix(&text, 16).unwrap_or_default()
    }
}

impl FromStr for SigningDate {
    type Err = SigstructError;

    fn from_str(text: &str) -> Result<Self, SigstructError> {
        let digits = |part: &str, len: usize| {
            let plain = part.len() == len && part.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| part.parse::<u16>().ok()).flatten()
        };
        let mut parts = text.splitn(3, '-');
        let mut next = |len| parts.next().and_then(|part| digits(part, len));
        let date = (|| {
            let (year, month, day) = (next(4)?, next(2)?, next(2)?);
            Self::new(year, u8::try_from(month).ok()?, u8::try_from(day).ok()?)
        })();
        date.ok_or_else(|| SigstructError::Date { got: text.chars().take(16).collect() })
    }
}

impl fmt::Display for SigningDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

impl fmt::Debug for UnverifiedSigstruct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UnverifiedSigstruct(..)")
    }
}

impl fmt::Debug for Sigstruct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sigstruct").field(&self.body()).finish()
    }
}

/// Bytes of a field. Offsets are the constants below, all inside the structure.
fn field<const N: usize>(bytes: &[u8; SIGSTRUCT_BYTES], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

fn put(bytes: &mut [u8; SIGSTRUCT_BYTES], at: usize, value: &[u8]) {
    for (to, from) in bytes.iter_mut().skip(at).zip(value) {
        *to = *from;
    }
}

/// Name, offset and value of each constant.
const CONSTANTS: &[(&str, usize, &[u8])] = &[
    ("HEADER", 0, &[6, 0, 0, 0, 0xe1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0]),
    ("HEADER2", 0x18, &[1, 1, 0, 0, 0x60, 0, 0, 0, 0x60, 0, 0, 0, 1, 0, 0, 0]),
    ("EXPONENT", 0x200, &[3, 0, 0, 0]),
];

/// Offset and length of the bytes that must be zero. CET attributes (0x38c) are among them: no
/// enclave of ours uses them, and none that does was seen.
const RESERVED: [(usize, usize); 4] = [(0x2c, 84), (0x38c, 4), (0x3e0, 16), (0x404, 12)];

const VENDOR: usize = 0x10;
const VENDOR_INTEL: u32 = 0x8086;
const DATE: usize = 0x14;
const MODULUS: usize = 0x80;
const SIGNATURE: usize = 0x204;
const MISC_SELECT: usize = 0x384;
const MISC_MASK: usize = 0x388;
const ATTRIBUTES: usize = 0x3a0;
const ATTRIBUTE_MASK: usize = 0x3b0;
const ENCLAVE_HASH: usize = 0x3c0;
const ISV_PROD_ID: usize = 0x400;
const ISV_SVN: usize = 0x402;
const Q1: usize = 0x410;
const Q2: usize = 0x590;

/// SHA-256 is what PKCS#1 v1.5 and MRSIGNER use alike.
pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}
