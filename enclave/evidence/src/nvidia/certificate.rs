//! One certificate of a device chain, with the few fields that rules judge. Attacker-controlled:
//! DER is read by `x509-cert`, the reader under Intel's chains too, and what this build has no rule
//! for is refused (RFC 5280; ECDSA P-384 with SHA-384 is the only algorithm).

use aws_lc_rs::signature::{ECDSA_P384_SHA384_ASN1, UnparsedPublicKey};
use x509_cert::Certificate as Parsed;
use x509_cert::der::asn1::{AnyRef, ObjectIdentifier};
use x509_cert::der::oid::AssociatedOid as _;
use x509_cert::der::{Decode, Reader as _, SliceReader};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, KeyUsage, SubjectAltName, SubjectKeyIdentifier,
};
use x509_cert::spki::SubjectPublicKeyInfoOwned;

use crate::hexadecimal;

/// An uncompressed P-384 point: the tag 4 and two coordinates.
pub(super) type Point = [u8; 97];

/// A certificate whose form and algorithms are known. Nothing in it is verified.
#[derive(Debug)]
pub(super) struct Certificate<'a> {
    /// All of it.
    pub(super) der: &'a [u8],
    signed: &'a [u8],
    parsed: Parsed,
    /// The subject's key.
    pub(super) key: Point,
    /// The subject's common name.
    pub(super) common_name: String,
    /// `basicConstraints`; `None` where there is none.
    pub(super) constraints: Option<BasicConstraints>,
    /// `keyUsage`, which every certificate has.
    pub(super) usage: KeyUsage,
    subject_key_id: Vec<u8>,
    authority_key_id: Vec<u8>,
    /// UTF-8 text of NVIDIA's name for a device, `NVIDIA:GH100:48B0…`; leaves have one.
    pub(super) device_name: Option<String>,
    /// Firmware digest and, on Hopper, the key that made the leaf.
    pub(super) firmware: Option<Firmware>,
}

/// The TCG DICE extension of a leaf.
#[derive(Debug)]
pub(super) struct Firmware {
    /// SHA-384 of the firmware the key belongs to.
    pub(super) id: [u8; 48],
    /// The device's key, where the extension repeats it.
    pub(super) device_key: Option<Point>,
}

impl<'a> Certificate<'a> {
    /// Reads the certificate that fills `der`, or says what is wrong with it.
    pub(super) fn parse(der: &'a [u8]) -> Result<Self, &'static str> {
        let parsed = Parsed::from_der(der).map_err(|_| "is not a DER certificate")?;
        let signed = to_be_signed(der).map_err(|_| "is not a DER certificate")?;
        let tbs = parsed.tbs_certificate();
        let algorithms = [tbs.signature(), parsed.signature_algorithm()];
        if algorithms.iter().any(|a| a.oid != ECDSA_WITH_SHA384 || a.parameters.is_some()) {
            return Err("is not signed by ECDSA with SHA-384");
        }
        if tbs.issuer_unique_id().is_some() || tbs.subject_unique_id().is_some() {
            return Err("has a unique identifier, which no device certificate has");
        }
        let key = point(tbs.subject_public_key_info()).ok_or("has no P-384 key")?;
        let common_name = tbs.subject().common_name().ok().flatten();
        let common_name = common_name.ok_or("has no common name")?.value().into_owned();
        let extensions = Extensions::read(tbs.extensions().map_or(&[], Vec::as_slice))?;
        Ok(Self {
            der,
            signed,
            key,
            common_name,
            constraints: extensions.constraints,
            usage: extensions.usage.ok_or("has no key usage")?,
            subject_key_id: extensions.subject_key_id.ok_or("has no subject key id")?,
            authority_key_id: extensions.authority_key_id.ok_or("has no authority key id")?,
            device_name: extensions.device_name,
            firmware: extensions.firmware,
            parsed,
        })
    }

    /// First and last second of the certificate's validity.
    pub(super) fn validity(&self) -> (u64, u64) {
        let validity = self.parsed.tbs_certificate().validity();
        let at = |time: x509_cert::time::Time| time.to_unix_duration().as_secs();
        (at(validity.not_before), at(validity.not_after))
    }

    /// Serial number, lower-case hex without zeros before it.
    pub(super) fn serial(&self) -> String {
        hexadecimal::serial(self.parsed.tbs_certificate().serial_number().as_bytes())
    }

    /// Whether `issuer` is who this certificate names, by name and by key id.
    pub(super) fn names_as_issuer(&self, issuer: &Self) -> bool {
        let (own, other) = (self.parsed.tbs_certificate(), issuer.parsed.tbs_certificate());
        own.issuer() == other.subject() && self.authority_key_id == issuer.subject_key_id
    }

    /// Whether `issuer`'s key signed this certificate.
    pub(super) fn is_signed_by(&self, issuer: &Self) -> bool {
        self.parsed.signature().as_bytes().is_some_and(|signature| {
            UnparsedPublicKey::new(&ECDSA_P384_SHA384_ASN1, issuer.key)
                .verify(self.signed, signature)
                .is_ok()
        })
    }
}

/// The extensions with a meaning here; another critical one, or one twice, is refused.
#[derive(Default)]
struct Extensions {
    constraints: Option<BasicConstraints>,
    usage: Option<KeyUsage>,
    subject_key_id: Option<Vec<u8>>,
    authority_key_id: Option<Vec<u8>>,
    device_name: Option<String>,
    firmware: Option<Firmware>,
}

impl Extensions {
    fn read(list: &[Extension]) -> Result<Self, &'static str> {
        let mut out = Self::default();
        for (index, extension) in list.iter().enumerate() {
            if list.iter().take(index).any(|before| before.extn_id == extension.extn_id) {
                return Err("has an extension twice");
            }
            out.add(extension)?;
        }
        Ok(out)
    }

    fn add(&mut self, extension: &Extension) -> Result<(), &'static str> {
        let value = extension.extn_value.as_bytes();
        match extension.extn_id {
            BasicConstraints::OID => self.constraints = Some(decode(value)?),
            KeyUsage::OID => self.usage = Some(decode(value)?),
            SubjectKeyIdentifier::OID => {
                let id: SubjectKeyIdentifier = decode(value)?;
                self.subject_key_id = Some(id.0.as_bytes().to_vec());
            }
            AuthorityKeyIdentifier::OID => {
                let id: AuthorityKeyIdentifier = decode(value)?;
                self.authority_key_id = id.key_identifier.map(|id| id.as_bytes().to_vec());
            }
            SubjectAltName::OID => self.device_name = Some(device_name(&decode(value)?)?),
            // Two spellings of one meaning: both at once would need a rule for which counts.
            COMPOSITE_DEVICE_ID | TCB_INFO if self.firmware.is_some() => {
                return Err("has two firmware digests");
            }
            COMPOSITE_DEVICE_ID => self.firmware = Some(firmware(composite_device_id(value))?),
            TCB_INFO => self.firmware = Some(firmware(tcb_info(value))?),
            _ if extension.critical => return Err("has an unknown critical extension"),
            _ => {}
        }
        Ok(())
    }
}

fn decode<'a, T: Decode<'a>>(value: &'a [u8]) -> Result<T, &'static str> {
    T::from_der(value).map_err(|_| "has a malformed extension")
}

fn firmware(parsed: Option<Firmware>) -> Result<Firmware, &'static str> {
    parsed.ok_or("has a malformed firmware digest")
}

/// The one other-name of a leaf: DMTF's id for a device, a UTF-8 string (DSP0274, "otherName").
fn device_name(names: &SubjectAltName) -> Result<String, &'static str> {
    let [GeneralName::OtherName(name)] = names.0.as_slice() else {
        return Err("has another alternative name than a device's");
    };
    if name.type_id != DMTF_DEVICE_INFO {
        return Err("has an alternative name of unknown type");
    }
    name.value.decode_as().map_err(|_| "has a malformed device name")
}

/// Hopper and its switches: `SEQUENCE { 1, SubjectPublicKeyInfo, fwid }`.
fn composite_device_id(value: &[u8]) -> Option<Firmware> {
    let mut reader = SliceReader::new(AnyRef::from_der(value).ok()?.value()).ok()?;
    let version = u8::decode(&mut reader).ok()?;
    let key = SubjectPublicKeyInfoOwned::decode(&mut reader).ok()?;
    let id = fwid(&mut reader)?;
    let known = version == 1 && value.first() == Some(&SEQUENCE) && reader.is_finished();
    known.then_some(Firmware { id, device_key: Some(point(&key)?) })
}

/// Blackwell: TCG `DiceTcbInfo`. Its `fwids`, `[6]`, lists the firmware's first and then digests
/// of layers the report says nothing about.
fn tcb_info(value: &[u8]) -> Option<Firmware> {
    let mut reader = SliceReader::new(AnyRef::from_der(value).ok()?.value()).ok()?;
    let mut list = None;
    let mut last = None;
    while !reader.is_finished() {
        let tlv = reader.tlv_bytes().ok()?;
        let number = tlv.first()? & TAG_NUMBER;
        // Ascending, so that no field can stand twice.
        if last.is_some_and(|last| last >= number) {
            return None;
        }
        last = Some(number);
        if tlv.first() == Some(&FWIDS) {
            list = Some(AnyRef::from_der(tlv).ok()?.value());
        }
    }
    let id = fwid(&mut SliceReader::new(list?).ok()?)?;
    (value.first() == Some(&SEQUENCE)).then_some(Firmware { id, device_key: None })
}

/// `SEQUENCE { sha384, OCTET STRING }`.
fn fwid(reader: &mut SliceReader<'_>) -> Option<[u8; 48]> {
    let tlv = reader.tlv_bytes().ok()?;
    let (header, id) = tlv.split_at_checked(FWID_HEADER.len())?;
    if header == FWID_HEADER { id.try_into().ok() } else { None }
}

fn point(key: &SubjectPublicKeyInfoOwned) -> Option<Point> {
    let curve: ObjectIdentifier = key.algorithm.parameters.as_ref()?.decode_as().ok()?;
    if key.algorithm.oid != EC_PUBLIC_KEY || curve != P384 {
        return None;
    }
    let point: Point = key.subject_public_key.as_bytes()?.try_into().ok()?;
    (point.first() == Some(&4)).then_some(point)
}

/// The bytes a signature covers: the first element of the outer sequence.
fn to_be_signed(der: &[u8]) -> Result<&[u8], x509_cert::der::Error> {
    SliceReader::new(AnyRef::from_der(der)?.value())?.tlv_bytes()
}

const ECDSA_WITH_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const DMTF_DEVICE_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.412.274.1");
/// `2.23.133.5.4.1`, which NVIDIA gave the older structure before TCG gave it `DiceTcbInfo`.
const COMPOSITE_DEVICE_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.5.4.1");
/// `DiceTcbInfo` under the id NVIDIA uses for it.
const TCB_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.5.4.1.1");
const SEQUENCE: u8 = 0x30;
const TAG_NUMBER: u8 = 0x1f;
/// `[6]`, constructed.
const FWIDS: u8 = 0xa6;
/// Sequence of 61 bytes, OID 2.16.840.1.101.3.4.2.2 (SHA-384), octet string of 48 bytes.
const FWID_HEADER: [u8; 15] =
    [0x30, 0x3d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x04, 0x30];

#[cfg(test)]
mod tests {
    use super::super::chain_from_pem;
    use super::*;
    use crate::tests::vector;

    #[test]
    fn a_serial_number_is_read_as_tools_print_it_whatever_its_first_bit_is() {
        let Some(pem) = vector("attest/nvidia/h100-nvtrust.chain.txt") else { return };
        let chain = chain_from_pem(&pem).unwrap();
        let length = 4 + usize::from(u16::from_be_bytes([chain[2], chain[3]]));
        let mut leaf = chain[..length].to_vec();
        assert_eq!(
            Certificate::parse(&leaf).unwrap().serial(),
            "53c22ba15e5d68088282da074ed9fb37aa585771"
        );
        // SEQUENCE, SEQUENCE, version, INTEGER of 20 bytes: now one of 19 and a sign.
        leaf[15] = 0;
        assert_eq!(
            Certificate::parse(&leaf).unwrap().serial(),
            "c22ba15e5d68088282da074ed9fb37aa585771"
        );
    }
}
