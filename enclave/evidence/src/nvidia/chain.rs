//! A device's certificate chain: from the key that signs reports, over the device's own fused
//! identity, to NVIDIA's root. Attacker-controlled until [`Chain::verify`] has walked it to the
//! pinned root.
//!
//! ```text
//! 0 leaf         GH100 A01 GSP FMC LF            signs reports; names device and firmware
//! 1 device       GH100 A01 GSP BROM              fused into the chip
//! 2 provisioner  NVIDIA GH100 Provisioner ICA 1  NVIDIA's factory
//! 3 identity     NVIDIA GH100 Identity           (switches hang below GH100's)
//! 4 root         NVIDIA Device Identity CA       must be the pinned bytes
//! ```

use chrysalis_wire::UnixTime;
use x509_cert::der::{Reader as _, SliceReader};

use super::certificate::{Certificate, Point};
use super::error::DeviceError;
use super::kind::DeviceKind;
use super::root::DeviceRoot;
use super::{CHAIN_LENGTH, MAX_DEVICE_CHAIN_BYTES};

/// A chain of known form.
#[derive(Debug)]
pub(super) struct Chain<'a> {
    certificates: [Certificate<'a>; CHAIN_LENGTH],
}

/// Who signed a report, once the chain is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) kind: DeviceKind,
    pub(super) device_id: String,
    pub(super) serials: Vec<String>,
    pub(super) key: Point,
    pub(super) firmware_id: [u8; 48],
}

impl<'a> Chain<'a> {
    /// Reads five DER certificates in a row, leaf first, nothing behind them.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, DeviceError> {
        if bytes.len() > MAX_DEVICE_CHAIN_BYTES {
            return Err(DeviceError::ChainTooLarge { got: bytes.len() });
        }
        let reason = "is not a DER certificate";
        let mut certificates = Vec::new();
        let form = |index| move |reason| DeviceError::Certificate { index, reason };
        let mut reader = SliceReader::new(bytes).map_err(|_| form(0)(reason))?;
        while !reader.is_finished() {
            let index = certificates.len();
            if index >= CHAIN_LENGTH {
                return Err(DeviceError::ChainLength { got: index.saturating_add(1) });
            }
            let der = reader.tlv_bytes().map_err(|_| form(index)(reason))?;
            certificates.push(Certificate::parse(der).map_err(form(index))?);
        }
        let certificates = certificates
            .try_into()
            .map_err(|short: Vec<_>| DeviceError::ChainLength { got: short.len() })?;
        Ok(Self { certificates })
    }

    /// Walks the chain from the root down.
    pub(super) fn verify(&self, root: &DeviceRoot, now: UnixTime) -> Result<Identity, DeviceError> {
        let [leaf, device, provisioner, ..] = &self.certificates;
        walk(&self.certificates, root.der(), now)?;
        let (kind, device_id) = kind(leaf, device, provisioner)?;
        let Some(firmware) = &leaf.firmware else {
            let rule = "the leaf names no firmware";
            return Err(DeviceError::Chain { index: 0, rule });
        };
        if firmware.device_key.is_some_and(|key| key != device.key) {
            let rule = "the leaf names another device's key";
            return Err(DeviceError::Chain { index: 0, rule });
        }
        Ok(Identity {
            kind,
            device_id,
            serials: self.certificates.iter().map(Certificate::serial).collect(),
            key: leaf.key,
            firmware_id: firmware.id,
        })
    }
}

/// Verifies a chain of any length, leaf first, to a root's exact bytes.
fn walk(chain: &[Certificate<'_>], root: &[u8], now: UnixTime) -> Result<(), DeviceError> {
    // The root's own signature proves nothing; its bytes are what is trusted.
    if chain.last().is_none_or(|last| last.der != root) {
        return Err(DeviceError::Root);
    }
    for (index, certificate) in chain.iter().enumerate() {
        let (from, until) = certificate.validity();
        if now.0 < from || now.0 > until {
            return Err(DeviceError::NotValidNow { index, from, until, now: now.0 });
        }
        role(index, certificate).map_err(|rule| DeviceError::Chain { index, rule })?;
    }
    let pairs = chain.iter().zip(chain.iter().skip(1)).enumerate();
    for (index, (subject, issuer)) in pairs.rev() {
        if !subject.names_as_issuer(issuer) {
            let rule = "its issuer is not the next certificate";
            return Err(DeviceError::Chain { index, rule });
        }
        if !subject.is_signed_by(issuer) {
            return Err(DeviceError::CertificateSignature { index });
        }
    }
    Ok(())
}

/// Who signed something that is not a report, such as a manifest of golden values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// The leaf's key, an uncompressed P-384 point.
    pub key: [u8; 97],
    /// The leaf's common name.
    pub name: String,
}

/// Verifies the chain of a signer by the rules for device chains, but for what only devices have.
/// Certificates are DER, leaf first, the root last.
///
/// # Errors
/// [`DeviceError`] with the code of the rule that is broken.
pub fn verify_signer(chain: &[Vec<u8>], root: &[u8], now: UnixTime) -> Result<Signer, DeviceError> {
    if chain.len() > CHAIN_LENGTH {
        return Err(DeviceError::ChainLength { got: chain.len() });
    }
    let form = |index| move |reason| DeviceError::Certificate { index, reason };
    let parsed: Vec<Certificate<'_>> = chain
        .iter()
        .enumerate()
        .map(|(index, der)| Certificate::parse(der).map_err(form(index)))
        .collect::<Result<_, _>>()?;
    walk(&parsed, root, now)?;
    let leaf = parsed.first().filter(|_| parsed.len() > 1);
    let leaf = leaf.ok_or(DeviceError::ChainLength { got: parsed.len() })?;
    Ok(Signer { key: leaf.key, name: leaf.common_name.clone() })
}

/// What a certificate at this place may do (RFC 5280 §4.2.1.3, §4.2.1.9).
fn role(index: usize, certificate: &Certificate<'_>) -> Result<(), &'static str> {
    let ca = certificate.constraints.as_ref().is_some_and(|c| c.ca);
    if index == 0 {
        return match (ca, certificate.usage.digital_signature(), certificate.usage.key_cert_sign())
        {
            (true, _, _) => Err("the leaf is a certificate authority"),
            (false, true, false) => Ok(()),
            _ => Err("the leaf's key is for something else than digital signatures"),
        };
    }
    if !ca {
        return Err("is not a certificate authority");
    }
    if !certificate.usage.key_cert_sign() {
        return Err("its key may not sign certificates");
    }
    // Certificate authorities between this one and the leaf.
    let below = index.saturating_sub(1);
    let longest = certificate.constraints.as_ref().and_then(|c| c.path_len_constraint);
    if longest.is_some_and(|longest| usize::from(longest) < below) {
        return Err("more certificate authorities follow than it allows");
    }
    Ok(())
}

/// The chip, as leaf, device and factory name it. The factory's word is NVIDIA's; the other two are
/// the device's own and must agree with it.
fn kind(
    leaf: &Certificate<'_>,
    device: &Certificate<'_>,
    provisioner: &Certificate<'_>,
) -> Result<(DeviceKind, String), DeviceError> {
    let refuse = |what| DeviceError::Kind { what };
    let name = leaf.device_name.as_deref().unwrap_or_default();
    let mut parts = name.split(':');
    let (Some("NVIDIA"), Some(chip), Some(id), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(refuse("the leaf does not name a device as NVIDIA:chip:id"));
    };
    let kind = DeviceKind::of_chip(chip).ok_or_else(|| refuse("the leaf names an unknown chip"))?;
    let of_chip = |c: &Certificate<'_>| {
        c.common_name.strip_prefix(chip).is_some_and(|rest| rest.starts_with(' '))
    };
    let factory = format!("NVIDIA {chip} Provisioner ICA ");
    if !of_chip(leaf) || !of_chip(device) || !provisioner.common_name.starts_with(&factory) {
        return Err(refuse("the certificates name different chips"));
    }
    if id.is_empty() || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(refuse("the leaf's device id is not hexadecimal"));
    }
    Ok((kind, id.to_owned()))
}
