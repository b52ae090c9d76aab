//! The INSECURE-SIM FAKE certificate hierarchy, shaped like Intel's provisioning PKI.
//!
//! ```text
//! SGX Root CA ─┬─ SGX TCB Signing          signs TCB info and QE identity
//!              └─ SGX PCK Platform CA ── SGX PCK Certificate   signs the QE report
//! ```
//!
//! The four certificates are checked in, because ECDSA signatures are random and pins files name
//! the root by its bytes. The ignored test `regenerate_the_fake_pki` made them; running it again
//! changes the root and breaks every INSECURE-SIM pins file.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrysalis_wire::UnixTime;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, IsCa, Issuer, KeyIdMethod, KeyUsagePurpose, RevokedCertParams, SerialNumber,
    date_time_ymd,
};

use crate::collateral::Revoked;
use crate::keys::{FakeKey, Signer};

/// The FAKE root certificate, DER. The same bytes in every build: a pins file of tier
/// INSECURE-SIM names them.
#[must_use]
pub fn sim_root_der() -> Vec<u8> {
    ROOT.to_vec()
}

/// Chain of the TCB signer, PEM, leaf first.
pub(crate) fn tcb_signing_chain() -> String {
    pem(TCB_SIGNING) + &pem(ROOT)
}

/// Chain of the platform CA, PEM, leaf first: who issues the PCK CRL.
pub(crate) fn platform_ca_chain() -> String {
    pem(PLATFORM_CA) + &pem(ROOT)
}

/// Chain of the PCK certificate, PEM, leaf first, as quotes carry it.
pub(crate) fn pck_chain() -> String {
    pem(PCK) + &platform_ca_chain()
}

/// A revocation list of one of the two CAs, DER, with those of `revoked` that the CA issued.
pub(crate) fn crl(ca: Ca, revoked: &[Revoked], issued: UnixTime, expires: UnixTime) -> Vec<u8> {
    crl_signed_by(ca, ca.signer(), revoked, issued, expires)
}

impl Revoked {
    const fn issuer(self) -> Ca {
        match self {
            Self::Pck => Ca::Platform,
            Self::PlatformCa | Self::TcbSigning => Ca::Root,
        }
    }

    /// Serial number of the certificate that is checked in.
    const fn serial(self) -> &'static [u8] {
        match self {
            Self::Pck => PCK_SERIAL,
            Self::PlatformCa => PLATFORM_CA_SERIAL,
            Self::TcbSigning => TCB_SIGNING_SERIAL,
        }
    }
}

#[allow(clippy::expect_used)]
fn crl_signed_by(
    ca: Ca,
    signer: Signer,
    revoked: &[Revoked],
    issued: UnixTime,
    expires: UnixTime,
) -> Vec<u8> {
    let key = FakeKey::of(signer);
    let at = |time: UnixTime| {
        date_time_ymd(1970, 1, 1)
            .saturating_add(Duration::from_secs(time.0).try_into().unwrap_or_default())
    };
    let entry = |certificate: &Revoked| RevokedCertParams {
        serial_number: SerialNumber::from_slice(certificate.serial()),
        revocation_time: at(issued),
        reason_code: None,
        invalidity_date: None,
    };
    let list = CertificateRevocationListParams {
        this_update: at(issued),
        next_update: at(expires),
        crl_number: SerialNumber::from_slice(&[1]),
        issuing_distribution_point: None,
        revoked_certs: revoked.iter().filter(|r| r.issuer() == ca).map(entry).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    // Invariant: `expires` is after `issued` (see `collateral`) and the CAs may sign CRLs.
    list.signed_by(&Issuer::new(ca.params(), key))
        .expect("FAKE CRL parameters are constant")
        .der()
        .to_vec()
}

/// The two certificate authorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ca {
    Root,
    Platform,
}

impl Ca {
    const fn signer(self) -> Signer {
        match self {
            Self::Root => Signer::Root,
            Self::Platform => Signer::PlatformCa,
        }
    }

    fn params(self) -> CertificateParams {
        let (name, path_len) = match self {
            Self::Root => ("INSECURE-SIM FAKE SGX Root CA", 1),
            // `Platform` in the name is how verifiers tell the two Intel PCK CAs apart.
            Self::Platform => ("INSECURE-SIM FAKE SGX PCK Platform CA", 0),
        };
        let mut params = params(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_len));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
    }
}

fn params(common_name: &str) -> CertificateParams {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name.push(DnType::OrganizationName, "INSECURE-SIM FAKE, not Intel");
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    params.not_before = date_time_ymd(2024, 1, 1);
    params.not_after = date_time_ymd(2044, 1, 1);
    params.use_authority_key_identifier_extension = true;
    params.key_identifier_method = KeyIdMethod::Sha256;
    params
}

fn pem(der: &[u8]) -> String {
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in STANDARD.encode(der).as_bytes().chunks(PEM_LINE) {
        text.extend(line.iter().copied().map(char::from));
        text.push('\n');
    }
    text + "-----END CERTIFICATE-----\n"
}

/// A root with the FAKE root's name but another key, and its revocation list.
#[cfg(test)]
pub(crate) fn lookalike_root(now: UnixTime) -> (Vec<u8>, Vec<u8>) {
    let root = Ca::Root.params().self_signed(&FakeKey::of(Signer::Stranger)).unwrap();
    let crl = crl_signed_by(Ca::Root, Signer::Stranger, &[], now, UnixTime(now.0 + 86_400));
    (root.der().to_vec(), crl)
}

const PEM_LINE: usize = 64;
const ROOT: &[u8] = include_bytes!("../fake-pki/root.der");
const TCB_SIGNING: &[u8] = include_bytes!("../fake-pki/tcb-signing.der");
const PLATFORM_CA: &[u8] = include_bytes!("../fake-pki/platform-ca.der");
const PCK: &[u8] = include_bytes!("../fake-pki/pck.der");
const PCK_SERIAL: &[u8] = &[
    0x70, 0x71, 0x88, 0x6C, 0xA3, 0x85, 0x08, 0x2E, 0x4C, 0xB7, 0xE5, 0xA4, 0x16, 0xF9, 0xD0, 0xE6,
    0xD8, 0x01, 0xF1, 0x8E,
];
const PLATFORM_CA_SERIAL: &[u8] = &[
    0x69, 0x13, 0xEF, 0xEA, 0xA1, 0x80, 0xB8, 0x4C, 0xB3, 0x25, 0xC6, 0xFB, 0x6F, 0xFE, 0x3C, 0xC1,
    0xB8, 0xFB, 0x0C, 0xEB,
];
const TCB_SIGNING_SERIAL: &[u8] = &[
    0x5E, 0x0F, 0xF9, 0xB6, 0x8B, 0x2D, 0xD3, 0x03, 0x04, 0x2D, 0x2C, 0x2B, 0xF3, 0xE3, 0xA8, 0x7F,
    0x14, 0x29, 0xBA, 0x10,
];

#[cfg(test)]
mod tests {
    use rcgen::CustomExtension;

    use super::*;
    use crate::facts::{CPU_SVN, FMSPC, PCE_ID, PCE_SVN, PLATFORM_INSTANCE_ID, PPID};

    #[test]
    #[ignore = "changes the FAKE root and with it every INSECURE-SIM pins file: scripts/fake-roots"]
    fn regenerate_the_fake_pki() {
        let write = |name: &str, der: &[u8]| {
            let path = format!("{}/fake-pki/{name}.der", env!("CARGO_MANIFEST_DIR"));
            std::fs::write(path, der).unwrap();
        };
        let leaf = |name| {
            let mut params = params(name);
            params.is_ca = IsCa::ExplicitNoCa;
            params.key_usages =
                vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::ContentCommitment];
            params
        };
        let root_key = FakeKey::of(Signer::Root);
        write("root", Ca::Root.params().self_signed(&root_key).unwrap().der());
        let root = Issuer::new(Ca::Root.params(), root_key);
        let tcb_signing = leaf("INSECURE-SIM FAKE SGX TCB Signing")
            .signed_by(&FakeKey::of(Signer::TcbSigning), &root)
            .unwrap();
        write("tcb-signing", tcb_signing.der());
        let ca_key = FakeKey::of(Signer::PlatformCa);
        write("platform-ca", Ca::Platform.params().signed_by(&ca_key, &root).unwrap().der());
        let ca = Issuer::new(Ca::Platform.params(), ca_key);
        let mut pck = leaf("INSECURE-SIM FAKE SGX PCK Certificate");
        pck.custom_extensions =
            vec![CustomExtension::from_oid_content(&[1, 2, 840, 113741, 1, 13, 1], extension())];
        write("pck", pck.signed_by(&FakeKey::of(Signer::Pck), &ca).unwrap().der());
    }

    /// Content of the SGX extension, 1.2.840.113741.1.13.1 (Intel SGX PCK Certificate
    /// specification, section 1.3.5). A multi-package server: dynamic, cached keys, SMT.
    fn extension() -> Vec<u8> {
        let mut tcb: Vec<u8> =
            (1u8..).zip(CPU_SVN).flat_map(|(i, svn)| pair(&[2, i], &der(0x02, &[svn]))).collect();
        tcb.extend(pair(&[2, 17], &der(0x02, &[PCE_SVN])));
        tcb.extend(pair(&[2, 18], &der(0x04, &CPU_SVN)));
        let yes = der(0x01, &[0xFF]);
        let configuration =
            [pair(&[7, 1], &yes), pair(&[7, 2], &yes), pair(&[7, 3], &yes)].concat();
        let all = [
            pair(&[1], &der(0x04, &PPID)),
            pair(&[2], &der(0x30, &tcb)),
            pair(&[3], &der(0x04, &PCE_ID)),
            pair(&[4], &der(0x04, &FMSPC)),
            pair(&[5], &der(0x0A, &[1])),
            pair(&[6], &der(0x04, &PLATFORM_INSTANCE_ID)),
            pair(&[7], &der(0x30, &configuration)),
        ];
        der(0x30, &all.concat())
    }

    /// SEQUENCE { OID 1.2.840.113741.1.13.1.suffix, value }.
    fn pair(suffix: &[u8], value: &[u8]) -> Vec<u8> {
        let oid = [&[0x2A, 0x86, 0x48, 0x86, 0xF8, 0x4D, 0x01, 0x0D, 0x01], suffix].concat();
        der(0x30, &[der(0x06, &oid), value.to_vec()].concat())
    }

    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![tag];
        match u8::try_from(content.len()).unwrap_or(u8::MAX) {
            short @ 0..=0x7F => out.push(short),
            long @ 0x80..=0xFE => out.extend([0x81, long]),
            _ => {
                out.push(0x82);
                out.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
            }
        }
        out.extend_from_slice(content);
        out
    }

    fn contains(haystack: &[u8], needle: &[u8]) -> bool {
        haystack.windows(needle.len()).any(|window| window == needle)
    }

    #[test]
    fn the_certificates_hold_the_derived_keys_and_the_extension() {
        for (der, signer) in [
            (ROOT, Signer::Root),
            (TCB_SIGNING, Signer::TcbSigning),
            (PLATFORM_CA, Signer::PlatformCa),
            (PCK, Signer::Pck),
        ] {
            assert!(contains(der, &FakeKey::of(signer).raw_public()), "{signer:?}");
        }
        assert!(contains(PCK, &extension()));
    }

    #[test]
    fn the_certificates_have_the_serial_numbers_that_are_revoked() {
        for (der, serial) in [
            (PCK, PCK_SERIAL),
            (PLATFORM_CA, PLATFORM_CA_SERIAL),
            (TCB_SIGNING, TCB_SIGNING_SERIAL),
        ] {
            // SEQUENCE, SEQUENCE, version; then the INTEGER.
            assert_eq!(&der[13..15], [2, 20]);
            assert_eq!(&der[15..35], serial);
        }
    }

    #[test]
    fn every_certificate_says_fake_in_subject_and_issuer() {
        for der in [ROOT, TCB_SIGNING, PLATFORM_CA, PCK] {
            let names = der
                .windows(b"INSECURE-SIM FAKE SGX".len())
                .filter(|window| *window == b"INSECURE-SIM FAKE SGX")
                .count();
            assert_eq!(names, 2);
        }
    }

    #[test]
    fn the_root_is_the_one_pins_files_name() {
        use sha2::{Digest as _, Sha256};
        assert_eq!(hex::encode(Sha256::digest(sim_root_der())), ROOT_SHA256);
    }

    /// Changing this value breaks every INSECURE-SIM pins file.
    const ROOT_SHA256: &str = "54c915aab25f6acb5ed62aa6816cc9eebccca314011c074756e3352b2b1de790";
}
