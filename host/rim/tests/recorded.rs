//! NVIDIA's own manifests: verified, refused where they must be, and compared with recorded
//! reports through the pins they become. The vectors stay outside the tree: `$CHRYSALIS_VECTORS`,
//! or `shared/vectors` beside the workspace; without that folder the tests say `skipped`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::path::PathBuf;

use chrysalis_evidence::nvidia::{DeviceKind, Report};
use chrysalis_evidence::{AllowSim, Pins};
use chrysalis_rim::{Manifest, Part, RimError, RimRoot};
use chrysalis_wire::UnixTime;

/// 2025-01-15, when all three signers were valid.
const JANUARY_2025: UnixTime = UnixTime(1_736_899_200);
const VBIOS: &str = "1010_0200_882_96005E0001_PROD.swidtag";
const MISMATCH: &str = "NV_GPU_VBIOS_1010_0200_882_96005E0001_measurement_mismatch.xml";
const DRIVER: &str = "NV_GPU_DRIVER_GH100_550.144.03.xml";
const BAD_SIGNATURE: &str = "incorrect_signature_driver_rim.xml";

fn vector(name: &str) -> Option<Vec<u8>> {
    let root = std::env::var_os("CHRYSALIS_VECTORS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors")),
        PathBuf::from,
    );
    if !root.is_dir() {
        eprintln!("skipped: no vectors folder; set CHRYSALIS_VECTORS");
        return None;
    }
    let file = root.join("attest/nvidia").join(name);
    Some(std::fs::read(file).unwrap_or_else(|e| panic!("vector {name} is missing: {e}")))
}

fn verify(name: &str) -> Option<Result<Manifest, RimError>> {
    Some(Manifest::verify(&vector(name)?, &RimRoot::Nvidia, JANUARY_2025))
}

/// How many records of a recorded report have one of the manifest's values, and the first that
/// does not.
fn compare(manifest: &Manifest, report: &str) -> (usize, Option<u8>) {
    let bytes = hex::decode(String::from_utf8(vector(report).unwrap()).unwrap().trim()).unwrap();
    let report = Report::parse(&bytes).unwrap();
    let fits =
        |index: u8| manifest.records[&index].contains(&report.records[usize::from(index) - 1]);
    let good = manifest.records.keys().filter(|index| fits(**index)).count();
    (good, manifest.records.keys().copied().find(|index| !fits(*index)))
}

#[test]
fn the_production_vbios_manifest_verifies_and_fits_its_report_twelve_to_twelve() {
    let Some(manifest) = verify(VBIOS) else { return };
    let manifest = manifest.unwrap();
    assert_eq!((manifest.part, manifest.kind), (Part::Vbios, DeviceKind::Gh100));
    assert_eq!(manifest.version, "96.00.5E.00.01");
    assert_eq!(manifest.signer, "HCC RIM L4 Signer");
    assert_eq!(manifest.records.len(), 12);
    assert_eq!(compare(&manifest, "hopperAttestationReport.txt"), (12, None));
}

#[test]
fn the_mismatching_vbios_manifest_differs_at_one_index() {
    let Some(manifest) = verify(MISMATCH) else { return };
    // Manifests count from 0, reports from 1.
    assert_eq!(compare(&manifest.unwrap(), "hopperAttestationReport.txt"), (11, Some(10)));
}

#[test]
fn the_driver_manifest_verifies_and_does_not_fit_another_driver() {
    let Some(manifest) = verify(DRIVER) else { return };
    let manifest = manifest.unwrap();
    assert_eq!((manifest.part, manifest.version.as_str()), (Part::Driver, "550.144.03"));
    assert_eq!(manifest.records.len(), 21);
    assert_eq!(compare(&manifest, "h100-nvtrust.report.hex.txt").0, 16);
}

#[test]
fn refuses_the_manifest_with_a_wrong_signature() {
    let Some(result) = verify(BAD_SIGNATURE) else { return };
    assert_eq!(result, Err(RimError::Signature));
}

#[test]
fn manifests_become_pins_that_read_back_to_the_same_values() {
    let (Some(vbios), Some(driver)) = (verify(VBIOS), verify(DRIVER)) else { return };
    let (vbios, driver) = (vbios.unwrap(), driver.unwrap());
    let example = include_str!("../../../manifests/pins.example.toml");
    let text = format!(
        "{example}\n[device]\ngpus = 1\nswitches = 0\nmodes = [\"single\"]\n\n{}\n{}",
        vbios.to_pins(Some("1010_0200_882")),
        driver.to_pins(None)
    );
    let pins = Pins::parse(&text, AllowSim::No).unwrap();
    let device = pins.device().unwrap();
    assert_eq!(device.vbioses[0].records, vbios.records);
    assert_eq!(device.vbioses[0].version, vbios.version);
    assert_eq!(device.vbioses[0].board.as_deref(), Some("1010_0200_882"));
    assert_eq!(device.drivers[0].records, driver.records);
    assert_eq!(device.drivers[0].kind, DeviceKind::Gh100);
}

#[test]
fn refuses_a_manifest_outside_of_its_signers_validity() {
    let Some(bytes) = vector(VBIOS) else { return };
    let at = |now| Manifest::verify(&bytes, &RimRoot::Nvidia, UnixTime(now)).map_err(|e| e.code());
    // 2023-06-23T09:30:33Z to 2025-06-22T09:30:33Z.
    assert_eq!(at(1_687_512_632), Err("E-RIM-EXPIRED"));
    assert!(at(1_687_512_633).is_ok());
    assert!(at(1_750_584_633).is_ok());
    assert_eq!(at(1_750_584_634), Err("E-RIM-EXPIRED"));
}

#[test]
fn refuses_a_manifest_under_another_root() {
    let Some(bytes) = vector(VBIOS) else { return };
    let other = RimRoot::Other(chrysalis_evidence::TrustRoot::Intel.der().to_vec());
    let refused = Manifest::verify(&bytes, &other, JANUARY_2025).unwrap_err();
    assert_eq!(refused.code(), "E-RIM-CHAIN");
}

#[test]
fn refuses_a_manifest_with_any_character_of_its_values_changed() {
    let Some(bytes) = vector(VBIOS) else { return };
    let text = String::from_utf8(bytes).unwrap();
    let end = text.find("<ds:Signature").unwrap();
    // A step that is coprime to everything in the file visits every kind of place.
    for at in (0..end).step_by(7) {
        let mut mutant = text.clone().into_bytes();
        mutant[at] = if mutant[at] == b'1' { b'2' } else { b'1' };
        let result = Manifest::verify(&mutant, &RimRoot::Nvidia, JANUARY_2025);
        assert!(result.is_err(), "accepted with byte {at} changed");
    }
    let swapped = text.replacen("active=\"False\"", "active=\"True\"", 1);
    let refused =
        |text: &str| Manifest::verify(text.as_bytes(), &RimRoot::Nvidia, JANUARY_2025).unwrap_err();
    assert_eq!(refused(&swapped), RimError::Digest);
    // Signature wrapping: the signed document inside of another one.
    let wrapped = format!("<SoftwareIdentity xmlns=\"u\">{}</SoftwareIdentity>", text.trim_end());
    assert_eq!(refused(&wrapped).code(), "E-RIM-FORM");
    let signature = &text[end..text.rfind("</SoftwareIdentity>").unwrap()];
    let twice = text.replace(signature, &signature.repeat(2));
    assert_eq!(refused(&twice), RimError::Missing { what: "ds:Signature" });
    assert_eq!(refused(&text.replace(signature, "")), RimError::Missing { what: "ds:Signature" });
}

#[test]
fn refuses_other_algorithms_transforms_and_references() {
    let Some(bytes) = vector(VBIOS) else { return };
    let text = String::from_utf8(bytes).unwrap();
    let code = |from: &str, to: &str| {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from} is not there");
        Manifest::verify(changed.as_bytes(), &RimRoot::Nvidia, JANUARY_2025).unwrap_err().code()
    };
    assert_eq!(code("xmldsig-more#ecdsa-sha384", "xmldsig-more#ecdsa-sha256"), "E-RIM-ALGORITHM");
    assert_eq!(code("xmldsig-more#sha384", "xmldsig-more#sha224"), "E-RIM-ALGORITHM");
    assert_eq!(code("2006/12/xml-c14n11", "2001/10/xml-exc-c14n#"), "E-RIM-ALGORITHM");
    assert_eq!(code("xmldsig#enveloped-signature", "xmldsig#base64"), "E-RIM-ALGORITHM");
    assert_eq!(code("<ds:Reference URI=\"\">", "<ds:Reference URI=\"#a\">"), "E-RIM-FORM");
    assert_eq!(code("2000/09/xmldsig#\"><ds:SignedInfo", "urn:x\"><ds:SignedInfo"), "E-RIM-FORM");
    let truncations = (0..text.len() - 20).step_by(97);
    for len in truncations {
        let cut = &text.as_bytes()[..len];
        assert!(Manifest::verify(cut, &RimRoot::Nvidia, JANUARY_2025).is_err(), "{len} bytes");
    }
}
