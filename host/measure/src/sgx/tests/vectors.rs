//! Every value that others computed is computed here too.

use serde_json::Value;

use super::super::{
    GramineManifest, MeasuredEnclave, PalImage, StreamSummary, UnverifiedSigstruct,
};
use super::vector;

fn expected() -> Option<Value> {
    Some(serde_json::from_slice(&vector("expected.json")?).unwrap())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[test]
fn four_gramine_layouts_measure_to_what_gramines_signer_computed() {
    let Some(expected) = expected() else { return };
    let cases = expected["gramine_v1.9"].as_array().unwrap();
    assert_eq!(cases.len(), 4);
    for case in cases {
        let manifest = vector(text(&case["manifest"])).unwrap();
        let pal = vector(text(&case["libpal"])).unwrap();
        let parsed = GramineManifest::parse(&manifest).unwrap();
        assert_eq!(parsed.shape.size(), case["enclave_size"].as_u64().unwrap());
        assert_eq!(parsed.shape.threads(), case["max_threads"].as_u64().unwrap());
        assert_eq!(parsed.shape.edmm(), case["edmm"].as_bool().unwrap());
        let pal = PalImage::parse(&pal).unwrap();
        let got = MeasuredEnclave::gramine_v1_9(&parsed.shape, &manifest, &pal).unwrap();
        assert_eq!(got.mrenclave.to_string(), text(&case["mrenclave"]), "{case}");
    }
}

#[test]
fn a_record_stream_measures_to_what_its_signature_says() {
    let Some(expected) = expected() else { return };
    let case = &expected["sgxs"];
    let stream = StreamSummary::parse(&vector(text(&case["stream"])).unwrap()).unwrap();
    assert_eq!(stream.mrenclave.to_string(), text(&case["mrenclave"]));
    let signed = UnverifiedSigstruct::parse(&vector(text(&case["sigstruct"])).unwrap()).unwrap();
    let signed = signed.verify().unwrap();
    assert_eq!(signed.body().mrenclave, stream.mrenclave);
    assert_eq!(signed.mrsigner().to_string(), text(&case["mrsigner"]));
    assert_eq!(signed.body().date.to_string(), "2016-12-14");
    assert_eq!(signed.body().isv_prod_id, 0xffff);
    assert!(!signed.body().attributes.debug());
}

#[test]
fn intels_provisioning_enclave_is_signed_by_intel() {
    let Some(expected) = expected() else { return };
    let case = &expected["intel_pce"];
    let bytes = vector(text(&case["sigstruct"])).unwrap();
    let signed = UnverifiedSigstruct::parse(&bytes).unwrap().verify().unwrap();
    assert_eq!(signed.body().mrenclave.to_string(), text(&case["enclavehash"]));
    assert_eq!((signed.body().isv_prod_id, signed.body().isv_svn), (1, 16));
    assert_eq!(signed.as_bytes().as_slice(), bytes);
}

#[test]
fn aws_lc_accepts_the_signatures_that_we_accept() {
    use aws_lc_rs::rsa::PublicKeyComponents;
    use aws_lc_rs::signature::RSA_PKCS1_2048_8192_SHA256;
    for name in ["test_enclave.sig", "intel-pce-1.25.100.1.sigstruct.bin"] {
        let Some(bytes) = vector(name) else { return };
        let reversed = |at: usize| bytes[at..at + 384].iter().rev().copied().collect::<Vec<u8>>();
        let key = PublicKeyComponents { n: reversed(0x80), e: vec![3] };
        let signed = [&bytes[..128], &bytes[900..1028]].concat();
        key.verify(&RSA_PKCS1_2048_8192_SHA256, &signed, &reversed(0x204)).unwrap();
    }
}
