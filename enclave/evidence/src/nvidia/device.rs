//! From claimed to verified: a device's report under the key of its own chain under the pinned
//! root. Evidence is attacker-controlled; what leaves here is signed by the device.

use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};
use chrysalis_wire::{Digest, UnixTime};
use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use super::chain::{Chain, Identity};
use super::error::DeviceError;
use super::kind::DeviceKind;
use super::opaque::Opaque;
use super::report::{Record, Report};
use super::root::DeviceRoot;

/// What a device handed out: nothing in it is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceEvidence {
    /// SPDM request and response, as the driver gives them.
    pub report: Vec<u8>,
    /// The device's five certificates, DER, one behind the other, leaf first.
    pub chain: Vec<u8>,
}

impl DeviceEvidence {
    /// `SHA-256("chrysalis/device/v1" || length u32be || report || length u32be || chain)`.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut hash = Sha256::new();
        hash.update(b"chrysalis/device/v1");
        for part in [&self.report, &self.chain] {
            // Longer than 4 GiB is refused before anybody asks for the digest of it.
            hash.update(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
            hash.update(part);
        }
        Digest(hash.finalize().into())
    }
}

/// The value `report_data` commits to: `SHA-256("chrysalis/devices/v1" || digest…)` over the
/// ascending [`DeviceEvidence::digest`]s, so the order of a set does not matter and its size does.
/// Zero for an empty set: a worker without devices.
#[must_use]
pub fn device_digest(set: &[DeviceEvidence]) -> Digest {
    if set.is_empty() {
        return Digest([0; 32]);
    }
    let mut digests: Vec<[u8; 32]> = set.iter().map(|evidence| evidence.digest().0).collect();
    digests.sort_unstable();
    let mut hash = Sha256::new();
    hash.update(b"chrysalis/devices/v1");
    hash.update(digests.as_flattened());
    Digest(hash.finalize().into())
}

/// Evidence of known form, not yet verified.
#[derive(Debug)]
pub struct ClaimedDevice<'a> {
    report: Report<'a>,
    chain: Chain<'a>,
}

impl<'a> ClaimedDevice<'a> {
    /// Reads report and chain.
    ///
    /// # Errors
    /// [`DeviceError`] with code `E-GPU-REPORT` or `E-GPU-CHAIN-FORM`.
    pub fn parse(evidence: &'a DeviceEvidence) -> Result<Self, DeviceError> {
        let report = Report::parse(&evidence.report)?;
        let chain = Chain::parse(&evidence.chain)?;
        Ok(Self { report, chain })
    }

    /// The report, unverified.
    #[must_use]
    pub const fn report(&self) -> &Report<'a> {
        &self.report
    }

    /// Verifies the chain up to `root` at `now`.
    ///
    /// # Errors
    /// [`DeviceError`] with the code of the rule that is broken.
    pub fn verify_chain(
        self,
        root: &DeviceRoot,
        now: UnixTime,
    ) -> Result<IdentifiedDevice<'a>, DeviceError> {
        let identity = self.chain.verify(root, now)?;
        Ok(IdentifiedDevice { report: self.report, identity })
    }
}

/// A device whose chain is verified and whose report is not.
#[derive(Debug)]
pub struct IdentifiedDevice<'a> {
    report: Report<'a>,
    identity: Identity,
}

impl IdentifiedDevice<'_> {
    /// Verifies the report's signature under the leaf.
    ///
    /// # Errors
    /// [`DeviceError::ReportSignature`].
    pub fn verify_report(self) -> Result<Device, DeviceError> {
        let Report { signed, signature, nonce, records, opaque } = self.report;
        UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, self.identity.key)
            .verify(signed, &signature)
            .map_err(|_| DeviceError::ReportSignature)?;
        Ok(Device { identity: self.identity, nonce, records, opaque })
    }
}

/// A device whose report is verified; whether it is a wanted one is for the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    identity: Identity,
    nonce: [u8; 32],
    records: Vec<Record>,
    opaque: Opaque,
}

impl Device {
    /// Form, chain and signature in one step.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub fn verify(
        evidence: &DeviceEvidence,
        root: &DeviceRoot,
        now: UnixTime,
    ) -> Result<Self, DeviceError> {
        ClaimedDevice::parse(evidence)?.verify_chain(root, now)?.verify_report()
    }

    /// The chip.
    #[must_use]
    pub const fn kind(&self) -> DeviceKind {
        self.identity.kind
    }

    /// The device's own id, upper-case hex: unique among NVIDIA's devices.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.identity.device_id
    }

    /// Serial numbers of its certificates, lower-case hex, leaf first.
    #[must_use]
    pub fn serials(&self) -> &[String] {
        &self.identity.serials
    }

    /// The firmware digest of the leaf.
    #[must_use]
    pub const fn certified_firmware(&self) -> &[u8; 48] {
        &self.identity.firmware_id
    }

    /// The key that signed the report, an uncompressed P-384 point.
    #[must_use]
    pub const fn key(&self) -> &[u8; 97] {
        &self.identity.key
    }

    /// The nonce the report was asked for with.
    #[must_use]
    pub const fn nonce(&self) -> &[u8; 32] {
        &self.nonce
    }

    /// The measurements; position `i` is SPDM index `i + 1`.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// What the device says about itself.
    #[must_use]
    pub const fn opaque(&self) -> &Opaque {
        &self.opaque
    }
}

impl Serialize for Device {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut object = s.serialize_struct("Device", 6)?;
        object.serialize_field("kind", &self.kind())?;
        object.serialize_field("id", self.id())?;
        object.serialize_field("serial", &self.serials().first())?;
        object.serialize_field("driver", &self.opaque.driver)?;
        object.serialize_field("vbios", &self.opaque.vbios)?;
        object.serialize_field("mode", &self.opaque.mode)?;
        object.end()
    }
}
