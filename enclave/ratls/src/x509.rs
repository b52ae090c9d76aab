//! Reads the X.509 around a key and its evidence (RFC 5280), strictly and no more of it than is
//! needed. Input is attacker-controlled.
//!
//! Names and serial number are labels nobody here believes; they are covered by the self-signature
//! and not interpreted. The self-signature is verified although it proves no identity: it makes
//! every bit of the certificate, the validity above all, the word of the key's holder.

use chrysalis_evidence::{Role, parse_utc};
use chrysalis_wire::UnixTime;

use crate::der::{self, Reader};
use crate::error::RatlsError;
use crate::evidence::at_most;
use crate::key::PublicKey;
use crate::oid::{self, dotted};

/// Largest certificate read, in bytes; TLS itself carries at most 64 KiB of a handshake message in
/// the implementations at hand, and real ones have 10 KB.
pub const MAX_CERTIFICATE_BYTES: usize = 64 * 1024;
/// Most extensions of one certificate; real ones have up to seven.
pub const MAX_EXTENSIONS: usize = 16;
/// Largest value of an extension, in bytes: that of a quote.
pub const MAX_EXTENSION_BYTES: usize = 32 * 1024;
/// Longest OID read, in bytes of its encoding.
pub const MAX_OID_BYTES: usize = 32;
/// Longest serial number, in bytes (RFC 5280 §4.1.2.2).
pub const MAX_SERIAL_BYTES: usize = 20;

/// One extension, its value still opaque.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extension<'a> {
    pub(crate) oid: &'a [u8],
    pub(crate) critical: bool,
    pub(crate) value: &'a [u8],
}

/// A self-signed certificate with a good signature.
#[derive(Clone, Debug)]
pub(crate) struct X509<'a> {
    pub(crate) key: PublicKey,
    pub(crate) not_before: UnixTime,
    pub(crate) not_after: UnixTime,
    pub(crate) extensions: Vec<Extension<'a>>,
    usage: Usage,
}

/// What the certificate may be used for; nothing is excluded where the extension is absent.
#[derive(Clone, Copy, Debug)]
struct Usage {
    server: bool,
    client: bool,
}

impl<'a> X509<'a> {
    pub(crate) fn parse(input: &'a [u8]) -> Result<Self, RatlsError> {
        at_most("certificate", MAX_CERTIFICATE_BYTES, input)?;
        let mut outer = Reader::new(input);
        let mut certificate = outer.nested(der::SEQUENCE, "certificate")?;
        outer.finish("certificate")?;
        let (signed, to_be_signed) =
            certificate.element(der::SEQUENCE, "to-be-signed certificate")?;
        let algorithm = certificate.value(der::SEQUENCE, "signature algorithm")?;
        let signature = certificate.value(der::BIT_STRING, "signature")?;
        let signature = der::whole_bits(signature, "signature")?;
        certificate.finish("certificate")?;

        let mut fields = Reader::new(to_be_signed);
        version(&mut fields)?;
        serial(&mut fields)?;
        if fields.value(der::SEQUENCE, "signature algorithm")? != algorithm {
            let reason = "differs inside and outside of what is signed";
            return Err(RatlsError::Der { what: "signature algorithm", reason });
        }
        let issuer = fields.value(der::SEQUENCE, "issuer")?;
        let (not_before, not_after) = validity(fields.nested(der::SEQUENCE, "validity")?)?;
        if fields.value(der::SEQUENCE, "subject")? != issuer {
            return Err(RatlsError::NotSelfIssued);
        }
        let key = PublicKey::from_spki(fields.element(der::SEQUENCE, "public key")?.0)?;
        let mut wrapper = fields.nested(der::CONTEXT_3, "extensions")?;
        fields.finish("to-be-signed certificate")?;
        let list = wrapper.nested(der::SEQUENCE, "extensions")?;
        wrapper.finish("extensions")?;
        let extensions = extensions(list)?;
        let usage = usage(&extensions)?;
        key.verify(algorithm, signed, signature)?;
        Ok(Self { key, not_before, not_after, extensions, usage })
    }

    /// Refuses a certificate outside its window; both ends belong to it (RFC 5280 §4.1.2.5).
    pub(crate) fn check_time(&self, now: UnixTime) -> Result<(), RatlsError> {
        let (from, until) = (self.not_before, self.not_after);
        if now < from {
            return Err(RatlsError::NotYetValid { from, now });
        }
        if now > until {
            return Err(RatlsError::Expired { until, now });
        }
        Ok(())
    }

    /// Refuses a certificate that excludes the end of the connection its holder is at.
    pub(crate) const fn check_purpose(&self, holder: Role) -> Result<(), RatlsError> {
        match holder {
            Role::Server if !self.usage.server => {
                Err(RatlsError::Purpose { purpose: "server authentication" })
            }
            Role::Client if !self.usage.client => {
                Err(RatlsError::Purpose { purpose: "client authentication" })
            }
            _ => Ok(()),
        }
    }
}

fn version(fields: &mut Reader<'_>) -> Result<(), RatlsError> {
    // Absent means version 1, which has no extensions.
    if fields.peek() != Some(der::CONTEXT_0) {
        return Err(RatlsError::Version);
    }
    let mut wrapper = fields.nested(der::CONTEXT_0, "version")?;
    let version = wrapper.value(der::INTEGER, "version")?;
    wrapper.finish("version")?;
    if version == [2] { Ok(()) } else { Err(RatlsError::Version) }
}

fn serial(fields: &mut Reader<'_>) -> Result<(), RatlsError> {
    let serial = fields.value(der::INTEGER, "serial number")?;
    at_most("serial number", MAX_SERIAL_BYTES, serial)?;
    if !der::is_natural(serial) {
        let reason = "is negative or not in its shortest form";
        return Err(RatlsError::Der { what: "serial number", reason });
    }
    Ok(())
}

fn validity(mut fields: Reader<'_>) -> Result<(UnixTime, UnixTime), RatlsError> {
    let from = time(&mut fields)?;
    let until = time(&mut fields)?;
    fields.finish("validity")?;
    if until < from { Err(RatlsError::Validity { from, until }) } else { Ok((from, until)) }
}

/// UTCTime or GeneralizedTime in the one spelling of RFC 5280 §4.1.2.5, seconds and `Z`. That dates
/// before 2050 are UTCTime is not insisted on: Intel's SDK writes GeneralizedTime.
fn time(fields: &mut Reader<'_>) -> Result<UnixTime, RatlsError> {
    const WHAT: &str = "validity";
    let malformed = RatlsError::Der { what: WHAT, reason: "is not a time from 1970 to 9999" };
    let (tag, year_digits) = match fields.peek() {
        Some(der::UTC_TIME) => (der::UTC_TIME, 2),
        _ => (der::GENERALIZED_TIME, 4),
    };
    let text = fields.value(tag, WHAT)?;
    let text = core::str::from_utf8(text).map_err(|_| malformed.clone())?;
    let split = text.split_at_checked(year_digits);
    let parsed = split.and_then(|(year, rest)| {
        let century = match (year_digits, year.as_bytes().first()?) {
            (4, _) => "",
            (_, b'0'..=b'4') => "20",
            _ => "19",
        };
        let part = |from: usize| rest.get(from..from.checked_add(2)?);
        let (month, day) = (part(0)?, part(2)?);
        let (hour, minute, second) = (part(4)?, part(6)?, part(8)?);
        if rest.get(10..) != Some("Z") {
            return None;
        }
        parse_utc(&format!("{century}{year}-{month}-{day}T{hour}:{minute}:{second}Z"))
    });
    parsed.ok_or(malformed)
}

fn extensions(mut list: Reader<'_>) -> Result<Vec<Extension<'_>>, RatlsError> {
    let mut all: Vec<Extension<'_>> = Vec::new();
    while !list.is_empty() {
        if all.len() >= MAX_EXTENSIONS {
            let (limit, got) = (MAX_EXTENSIONS, all.len().saturating_add(1));
            return Err(RatlsError::TooLarge { what: "extensions", limit, got });
        }
        let mut fields = list.nested(der::SEQUENCE, "extension")?;
        let oid = fields.value(der::OID, "extension OID")?;
        at_most("extension OID", MAX_OID_BYTES, oid)?;
        let critical = fields.peek() == Some(der::BOOLEAN);
        // DER leaves the default, false, out.
        if critical && fields.value(der::BOOLEAN, "criticality")? != [0xFF] {
            return Err(RatlsError::Der { what: "criticality", reason: "is not TRUE or absent" });
        }
        let value = fields.value(der::OCTET_STRING, "extension value")?;
        fields.finish("extension")?;
        at_most("extension value", MAX_EXTENSION_BYTES, value)?;
        if all.iter().any(|other| other.oid == oid) {
            return Err(RatlsError::DuplicateExtension { oid: dotted(oid) });
        }
        if critical && !oid::MAY_BE_CRITICAL.contains(&oid) {
            return Err(RatlsError::UnknownCritical { oid: dotted(oid) });
        }
        all.push(Extension { oid, critical, value });
    }
    Ok(all)
}

/// Obeys basic constraints, key usage and extended key usage.
fn usage(extensions: &[Extension<'_>]) -> Result<Usage, RatlsError> {
    let mut usage = Usage { server: true, client: true };
    for extension in extensions {
        match extension.oid {
            oid::BASIC_CONSTRAINTS => end_entity(extension.value)?,
            oid::KEY_USAGE => signs(extension.value)?,
            oid::EXTENDED_KEY_USAGE => usage = purposes(extension.value)?,
            _ => {}
        }
    }
    Ok(usage)
}

fn end_entity(value: &[u8]) -> Result<(), RatlsError> {
    const WHAT: &str = "basic constraints";
    let mut outer = Reader::new(value);
    let fields = outer.nested(der::SEQUENCE, WHAT)?;
    outer.finish(WHAT)?;
    // A path length without `cA` has no meaning, and `cA` FALSE is left out in DER.
    if fields.peek() == Some(der::BOOLEAN) {
        return Err(RatlsError::Authority);
    }
    fields.finish(WHAT)
}

fn signs(value: &[u8]) -> Result<(), RatlsError> {
    const WHAT: &str = "key usage";
    let mut outer = Reader::new(value);
    let bits = outer.value(der::BIT_STRING, WHAT)?;
    outer.finish(WHAT)?;
    match bits {
        [0..=7, first, ..] if first & DIGITAL_SIGNATURE != 0 => Ok(()),
        _ => Err(RatlsError::Purpose { purpose: "digital signatures" }),
    }
}

fn purposes(value: &[u8]) -> Result<Usage, RatlsError> {
    const WHAT: &str = "extended key usage";
    let mut outer = Reader::new(value);
    let mut list = outer.nested(der::SEQUENCE, WHAT)?;
    outer.finish(WHAT)?;
    let mut usage = Usage { server: false, client: false };
    while !list.is_empty() {
        let purpose = list.value(der::OID, WHAT)?;
        usage.server |= [oid::SERVER_AUTH, oid::ANY_PURPOSE].contains(&purpose);
        usage.client |= [oid::CLIENT_AUTH, oid::ANY_PURPOSE].contains(&purpose);
    }
    Ok(usage)
}

/// Bit 0 of KeyUsage, RFC 5280 §4.2.1.3.
const DIGITAL_SIGNATURE: u8 = 0x80;
