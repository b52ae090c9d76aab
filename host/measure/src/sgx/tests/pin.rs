//! Pins written for enclaves: they load, they accept what was measured, and nothing that is not.

use chrysalis_evidence::{AllowSim, PinnedIdentity, Pins, sim};
use chrysalis_wire::Digest;
use sha2::{Digest as _, Sha256};

use super::super::{
    GramineError, GramineManifest, SgxError, enclave_section, predict_sim_enclave, sim_enclave_pins,
};
use super::MANIFEST;
use crate::MeasureError;
use crate::predict::tests::manifest as worker_manifest;

const MRENCLAVE: Digest = Digest([0xab; 32]);

/// A Gramine manifest that measures the worker manifest.
fn gramine(change: impl FnOnce(String) -> String) -> GramineManifest {
    let sha256 = Digest(Sha256::digest(worker_manifest()).into());
    let text = format!(
        "{MANIFEST}\n[[sgx.trusted_files]]\nuri = \"file:/worker.toml\"\nsha256 = \"{sha256}\"\n"
    );
    GramineManifest::parse(change(text).as_bytes()).unwrap()
}

fn section(enclave: &GramineManifest) -> Result<String, MeasureError> {
    enclave_section(enclave, MRENCLAVE, worker_manifest().as_bytes(), "enclave \"1\"")
}

/// The documented example up to its own enclaves, without its trust domains.
fn with_platform(section: &str) -> String {
    let example = include_str!("../../../../../manifests/pins.example.toml");
    let (head, rest) = example.split_at(example.find("# One entry per accepted worker").unwrap());
    let platform = &rest[rest.find("[platform]").unwrap()..];
    let end = platform.find("# [sgx] is for").unwrap_or(platform.len());
    format!("{head}{}\n{section}", &platform[..end])
}

#[test]
fn writes_a_section_that_loads_and_names_what_was_measured() {
    let text = section(&gramine(|text| text)).unwrap();
    let pins = Pins::parse(&with_platform(&text), AllowSim::No).unwrap();
    let sgx = pins.sgx().unwrap();
    assert_eq!(sgx.workers[0].identity, PinnedIdentity::Enclave { mrenclave: MRENCLAVE });
    assert_eq!(sgx.workers[0].name, "enclave \"1\"");
    assert_eq!(sgx.workers[0].model_root, Digest([0x22; 32]));
    // A production report: INIT and MODE64BIT; AVX, AVX-512 and AMX are the machine's choice.
    assert!(sgx.attributes[0].accepts(&[5, 0, 0, 0, 0, 0, 0, 0]));
    assert!(sgx.xfrm[0].accepts(&[0xe7, 0, 6, 0, 0, 0, 0, 0]));
    assert!(!sgx.attributes[0].accepts(&[0x15, 0, 0, 0, 0, 0, 0, 0]));
    assert!(!sgx.xfrm[0].accepts(&[0xe7, 2, 0, 0, 0, 0, 0, 0]), "PKRU was not asked for");
}

#[test]
fn refuses_an_enclave_that_does_not_measure_this_worker_manifest() {
    let other = GramineManifest::parse(MANIFEST.as_bytes()).unwrap();
    let sha256 = Digest(Sha256::digest(worker_manifest()).into());
    assert_eq!(
        section(&other),
        Err(MeasureError::Sgx(SgxError::Manifest(GramineError::OtherWorkerManifest { sha256 })))
    );
}

#[test]
fn refuses_enclaves_that_nobody_could_accept() {
    let debug = gramine(|text| text.replace("debug = false", "debug = true"));
    assert_eq!(section(&debug).unwrap_err().code(), "E-SGX-DEBUG");
    let silent = gramine(|text| text.replace("\"dcap\"", "\"none\""));
    let refused = section(&silent).unwrap_err();
    assert_eq!(refused, MeasureError::Sgx(SgxError::Manifest(GramineError::NoEvidence)));
}

#[test]
fn refuses_a_name_that_could_write_into_the_file() {
    let enclave = gramine(|text| text);
    for bad in ["", "a\nmrenclave = \"00\"", &"x".repeat(129)] {
        let refused = enclave_section(&enclave, MRENCLAVE, worker_manifest().as_bytes(), bad);
        assert!(matches!(refused, Err(MeasureError::Name { .. })), "accepted {bad:?}");
    }
}

#[test]
fn pins_of_the_simulated_enclave_load_and_accept_exactly_the_prediction() {
    let prediction = predict_sim_enclave(b"worker", worker_manifest().as_bytes()).unwrap();
    let root = hex::decode(include_str!("../../../tests/fixtures/fake-root.hex").trim()).unwrap();
    let text = sim_enclave_pins(&prediction, "demo", &root).unwrap();
    let pins = Pins::parse(&text, AllowSim::Yes).unwrap();
    assert!(pins.insecure_sim() && pins.workers().is_empty());
    let worker = &pins.sgx().unwrap().workers[0];
    let mrenclave = sim::enclave(b"worker").mrenclave;
    assert_eq!(worker.identity, PinnedIdentity::Enclave { mrenclave });
    assert_eq!(worker.manifest_sha256, Digest(Sha256::digest(worker_manifest()).into()));
    assert!(pins.sgx().unwrap().xfrm[0].accepts(&sim::SGX_XFRM));
}
