//! The INSECURE-SIM FAKE certificate hierarchy of devices, shaped like NVIDIA's: root, identity,
//! provisioner, device, leaf. Only the root is checked in, as pins name its bytes; the others are
//! signed anew each time.

use chrysalis_evidence::nvidia::DeviceKind;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, IsCa, Issuer,
    KeyIdMethod, KeyUsagePurpose, SanType, date_time_ymd,
};
use sha2::{Digest as _, Sha384};

use super::keys::DeviceKey;
use super::{DeviceFault, SimDevice};

/// The FAKE root of simulated devices, DER. The same bytes in every build: a pins file of tier
/// INSECURE-SIM names them.
#[must_use]
pub fn sim_device_root_der() -> Vec<u8> {
    ROOT.to_vec()
}

impl SimDevice {
    /// The device's five certificates, leaf first.
    pub(super) fn chain(&self) -> Vec<u8> {
        let chip = chip(self.kind);
        let factory = if self.lies(DeviceFault::OtherFactory) { "GB202" } else { chip };
        let root = Issuer::new(root_params(), DeviceKey::of("root"));
        // Switches hang below Hopper's identity, as NVIDIA's do.
        let identity = authority(&format!("NVIDIA {chip} Identity"));
        let mut provisioner = authority(&format!("NVIDIA {factory} Provisioner ICA 1"));
        if self.lies(DeviceFault::PathTooLong) {
            provisioner.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        }
        let mut device = authority(&format!("{chip} A01 GSP BROM"));
        if self.lies(DeviceFault::DeviceIsNoAuthority) {
            device.is_ca = IsCa::ExplicitNoCa;
        }
        if self.lies(DeviceFault::DeviceCannotCertify) {
            device.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        }
        let keys = ["identity", "provisioner"].map(DeviceKey::of);
        let [identity_key, provisioner_key] = keys;
        let signed = [
            certificate(&identity, &identity_key, &root),
            certificate(&provisioner, &provisioner_key, &Issuer::new(identity, identity_key)),
            certificate(&device, &self.device_key(), &Issuer::new(provisioner, provisioner_key)),
            self.leaf(device),
        ];
        let mut chain: Vec<u8> = signed.iter().rev().flatten().copied().collect();
        chain.extend_from_slice(ROOT);
        chain
    }

    fn leaf(&self, device: CertificateParams) -> Vec<u8> {
        let name = if self.lies(DeviceFault::UnknownChip) { "GH999" } else { chip(self.kind) };
        let mut leaf = params(&format!("{} A01 GSP FMC LF", chip(self.kind)));
        leaf.is_ca = IsCa::ExplicitNoCa;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let text = format!("NVIDIA:{name}:{}", self.id());
        leaf.subject_alt_names =
            vec![SanType::OtherName((DMTF_DEVICE_INFO.to_vec(), text.as_str().into()))];
        if !self.lies(DeviceFault::UncertifiedFirmware) {
            leaf.custom_extensions.push(self.firmware_extension());
        }
        match self.fault {
            Some(DeviceFault::LeafIsAuthority) => {
                leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            }
            Some(DeviceFault::LeafCannotSign) => {
                leaf.key_usages = vec![KeyUsagePurpose::KeyAgreement];
            }
            Some(DeviceFault::UnknownCritical) => {
                let mut unknown =
                    CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999], vec![5, 0]);
                unknown.set_criticality(true);
                leaf.custom_extensions.push(unknown);
            }
            Some(DeviceFault::Expired) => leaf.not_after = date_time_ymd(2025, 1, 1),
            _ => {}
        }
        let label = if self.lies(DeviceFault::UnsignedLeaf) { "stranger" } else { "device" };
        let mut issuer = device;
        if self.lies(DeviceFault::UnsignedLeaf) {
            // The stranger claims the device's key id, so that only the signature tells.
            let id = key_id(self.device_key().point());
            issuer.key_identifier_method = KeyIdMethod::PreSpecified(id);
        }
        let key = DeviceKey::of(&format!("{label} {} {}", self.kind, self.number));
        certificate(&leaf, &self.leaf_key(), &Issuer::new(issuer, key))
    }

    /// The key of the chip, which signs the leaf.
    pub(super) fn device_key(&self) -> DeviceKey {
        DeviceKey::of(&format!("device {} {}", self.kind, self.number))
    }

    /// The key that signs reports.
    pub(super) fn leaf_key(&self) -> DeviceKey {
        DeviceKey::of(&format!("leaf {} {}", self.kind, self.number))
    }

    /// The device's id; no genuine one begins like this.
    pub(super) fn id(&self) -> String {
        let kind = u8::from(self.kind.is_switch());
        format!("FA4E51D0{kind:02X}{:02X}", self.number)
    }

    /// SHA-384 of the firmware the leaf belongs to.
    pub(super) fn firmware(&self) -> [u8; 48] {
        Sha384::new()
            .chain_update("chrysalis/sim/device/firmware/v1")
            .chain_update(self.kind.to_string())
            .finalize()
            .into()
    }

    fn firmware_extension(&self) -> CustomExtension {
        let fwid = [SHA384_OID.to_vec(), der(0x04, &self.firmware())].concat();
        let fwid = der(0x30, &fwid);
        if self.kind == DeviceKind::Gb100 {
            let other = der(0x30, &[SHA384_OID.to_vec(), der(0x04, &[0; 48])].concat());
            let fields =
                [der(0x80, b"NVIDIA"), der(0x83, &[1]), der(0xa6, &[fwid, other].concat())];
            return CustomExtension::from_oid_content(TCB_INFO, der(0x30, &fields.concat()));
        }
        let key = if self.lies(DeviceFault::OtherDeviceKey) {
            self.leaf_key()
        } else {
            self.device_key()
        };
        let key = [&SPKI_HEADER[..], key.point()].concat();
        let content = der(0x30, &[der(0x02, &[1]), key, fwid].concat());
        CustomExtension::from_oid_content(COMPOSITE_DEVICE_ID, content)
    }
}

fn root_params() -> CertificateParams {
    authority("INSECURE-SIM FAKE NVIDIA Device Identity CA")
}

fn authority(common_name: &str) -> CertificateParams {
    let mut params = params(common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn params(common_name: &str) -> CertificateParams {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name.push(DnType::OrganizationName, "INSECURE-SIM FAKE, not NVIDIA");
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    params.not_before = date_time_ymd(2024, 1, 1);
    params.not_after = date_time_ymd(2044, 1, 1);
    params.use_authority_key_identifier_extension = true;
    params.key_identifier_method = KeyIdMethod::Sha256;
    params
}

#[allow(clippy::expect_used)]
fn certificate(
    params: &CertificateParams,
    key: &DeviceKey,
    issuer: &Issuer<'_, DeviceKey>,
) -> Vec<u8> {
    // Invariant: parameters are constants that a test has signed.
    params.signed_by(key, issuer).expect("FAKE certificate parameters are constant").der().to_vec()
}

/// As [`KeyIdMethod::Sha256`]: the first 20 bytes of the hash of the key's SPKI.
fn key_id(point: &[u8; 97]) -> Vec<u8> {
    let spki = [&SPKI_HEADER[..], point].concat();
    sha2::Sha256::digest(spki).iter().copied().take(20).collect()
}

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match u8::try_from(content.len()).unwrap_or(u8::MAX) {
        short @ 0..=0x7F => out.push(short),
        // Nothing here is as long as 255 bytes.
        long => out.extend([0x81, long]),
    }
    out.extend_from_slice(content);
    out
}

/// The chip as certificates spell it.
const fn chip(kind: DeviceKind) -> &'static str {
    match kind {
        DeviceKind::Gb100 => "GB100",
        DeviceKind::Ls10 => "LS_10",
        _ => "GH100",
    }
}

const ROOT: &[u8] = include_bytes!("../../fake-pki/device-root.der");
const DMTF_DEVICE_INFO: &[u64] = &[1, 3, 6, 1, 4, 1, 412, 274, 1];
const COMPOSITE_DEVICE_ID: &[u64] = &[2, 23, 133, 5, 4, 1];
const TCB_INFO: &[u64] = &[2, 23, 133, 5, 4, 1, 1];
/// OID 2.16.840.1.101.3.4.2.2.
const SHA384_OID: [u8; 11] = [6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2];
/// What stands before a P-384 point in a SubjectPublicKeyInfo.
const SPKI_HEADER: [u8; 23] = [
    0x30, 0x76, 0x30, 0x10, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 5, 0x2b, 0x81, 4, 0, 0x22,
    3, 0x62, 0,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[ignore = "changes the FAKE device root and with it every INSECURE-SIM pins file with devices: scripts/fake-roots"]
    fn regenerate_the_fake_device_root() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fake-pki/device-root.der");
        let root = root_params().self_signed(&DeviceKey::of("root")).unwrap();
        std::fs::write(path, root.der()).unwrap();
    }

    #[test]
    fn the_checked_in_root_holds_the_derived_key_and_says_fake() {
        let contains = |needle: &[u8]| ROOT.windows(needle.len()).any(|w| w == needle);
        assert!(contains(DeviceKey::of("root").point()));
        assert!(contains(b"INSECURE-SIM FAKE NVIDIA Device Identity CA"));
    }

    #[test]
    fn the_device_root_is_the_one_pins_files_name() {
        assert_eq!(hex::encode(sha2::Sha256::digest(ROOT)), ROOT_SHA256);
    }

    const ROOT_SHA256: &str = "7f22e10bdb4161b18cb05c57ebe3565ae939f004f576e42fc4b2e58cd6f736a4";
}
