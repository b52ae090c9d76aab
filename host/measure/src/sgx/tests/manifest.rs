//! Manifests that cannot be measured, and what a good one says.

use chrysalis_wire::Digest;

use super::super::{GramineError, GramineManifest, MAX_GRAMINE_MANIFEST_BYTES, SgxError};
use super::MANIFEST;

fn refusal(text: &str) -> GramineError {
    match GramineManifest::parse(text.as_bytes()) {
        Err(SgxError::Manifest(error)) => error,
        other => panic!("{other:?}"),
    }
}

fn without(line: &str) -> String {
    assert!(MANIFEST.contains(line));
    MANIFEST.lines().filter(|l| !l.starts_with(line)).map(|l| format!("{l}\n")).collect()
}

fn with(sgx: &str) -> String {
    MANIFEST.replace("[sgx]\n", &format!("[sgx]\n{sgx}\n"))
}

#[test]
fn says_what_the_signature_must_carry() {
    let manifest = GramineManifest::parse(MANIFEST.as_bytes()).unwrap();
    assert_eq!((manifest.isv_prod_id, manifest.isv_svn), (7, 3));
    assert!(manifest.dcap && !manifest.attributes.debug());
    assert_eq!(manifest.trusted_files, 1);
    assert!(manifest.insecure.is_empty() && manifest.allowed_files.is_empty());
    // As Gramine's signer writes them when the manifest says nothing of CPU features.
    let attributes = manifest.attributes;
    assert_eq!((attributes.flags, attributes.flags_mask), (4, u64::MAX));
    assert_eq!((attributes.xfrm, attributes.xfrm_mask), (3, 0xffff_ffff_fff9_ff1b));
    assert_eq!((attributes.misc_select, attributes.misc_mask), (0, u32::MAX));
}

#[test]
fn cpu_features_and_exinfo_become_attributes() {
    let text = with(
        "use_exinfo = true\ncpu_features = { avx = \"required\", avx512 = \"disabled\", \
         amx = \"unspecified\", mpx = \"disabled\", pkru = \"required\" }",
    );
    let attributes = GramineManifest::parse(text.as_bytes()).unwrap().attributes;
    assert_eq!((attributes.xfrm, attributes.xfrm_mask), (0x207, 0xffff_ffff_fff9_ffff));
    assert_eq!(attributes.misc_select, 1);
}

#[test]
fn a_debug_enclave_is_said_to_be_one() {
    let text = MANIFEST.replace("debug = false", "debug = true");
    let manifest = GramineManifest::parse(text.as_bytes()).unwrap();
    assert!(manifest.attributes.debug());
    assert_eq!(manifest.attributes.flags, 6);
}

#[test]
fn nobody_vouches_for_a_debug_enclave() {
    let date = "2026-11-25".parse().unwrap();
    let good = GramineManifest::parse(MANIFEST.as_bytes()).unwrap();
    let body = good.body(Digest([1; 32]), date).unwrap();
    assert_eq!((body.mrenclave, body.isv_svn), (Digest([1; 32]), 3));
    let text = MANIFEST.replace("debug = false", "debug = true");
    let refused = GramineManifest::parse(text.as_bytes()).unwrap().body(Digest([1; 32]), date);
    assert_eq!(refused, Err(GramineError::Debug.into()));
}

#[test]
fn names_what_trusts_the_host() {
    let text = format!(
        "loader.insecure__use_host_env = true\nsys.insecure__allow_eventfd = false\n{}",
        with(
            "file_check_policy = \"allow_all_but_log\"\nallowed_files = [\"file:/x\"]\ninsecure__rpc_thread_num = 2"
        )
    );
    let manifest = GramineManifest::parse(text.as_bytes()).unwrap();
    let expected =
        ["loader.insecure__use_host_env", "sgx.insecure__rpc_thread_num", "sgx.file_check_policy"];
    assert_eq!(manifest.insecure, expected);
    assert_eq!(manifest.allowed_files, ["file:/x"]);
}

#[test]
fn refuses_what_is_not_text_or_not_toml() {
    let refused = GramineManifest::parse(&[0xff]).unwrap_err();
    assert_eq!(refused, SgxError::Manifest(GramineError::NotText));
    for bad in ["[sgx", "sgx = 3", "a = 1\na = 2", "\0"] {
        assert!(GramineManifest::parse(bad.as_bytes()).is_err(), "{bad:?}");
    }
    assert_eq!(refusal("a = 1"), GramineError::Missing("[sgx]"));
}

#[test]
fn refuses_a_field_of_another_type() {
    for (from, to) in [
        ("max_threads = 4", "max_threads = -1"),
        ("max_threads = 4", "max_threads = \"4\""),
        ("edmm_enable = false", "edmm_enable = 0"),
        ("isvprodid = 7", "isvprodid = 65536"),
        ("isvsvn = 3", "isvsvn = -1"),
        ("enclave_size = \"16M\"", "enclave_size = 16777216"),
    ] {
        let refused = refusal(&MANIFEST.replace(from, to));
        assert!(matches!(refused, GramineError::Toml(_)), "{to}: {refused}");
    }
}

#[test]
fn refuses_a_template_that_leaves_the_layout_open() {
    for field in ["enclave_size", "max_threads", "edmm_enable"] {
        let refused = refusal(&without(field));
        assert_eq!(refused.to_string().split(' ').next().unwrap(), format!("sgx.{field}"));
    }
}

#[test]
fn refuses_a_loader_entry_point_without_hash() {
    let expected = GramineError::Missing("loader.entrypoint.sha256");
    assert_eq!(refusal(&without("loader.entrypoint.sha256")), expected);
    assert_eq!(refusal(&MANIFEST.replace("\"1111", "\"111")), expected);
}

#[test]
fn refuses_a_trusted_file_without_hash() {
    let expected = GramineError::NoHash { uri: "file:/worker".to_owned() };
    assert_eq!(refusal(&without("sha256 = \"2")), expected);
    assert_eq!(refusal(&MANIFEST.replace("\"2222", "\"g222")), expected);
    let strings =
        format!("sgx.trusted_files = [\"file:/worker\"]\n{}", without("[[sgx").replace("uri", "x"));
    assert!(GramineManifest::parse(strings.as_bytes()).is_err());
}

#[test]
fn refuses_sizes_gramine_does_not_write() {
    for bad in [
        "",
        "M",
        "16m",
        "0x10",
        "-1",
        "+1M",
        "16 M",
        "1.5G",
        "99999999999999999999",
        "18446744073709551615K",
    ] {
        let refused = refusal(&MANIFEST.replace("\"16M\"", &format!("\"{bad}\"")));
        assert!(matches!(refused, GramineError::Value { .. }), "{bad}: {refused}");
    }
}

#[test]
fn refuses_cpu_features_left_to_the_host_that_harden_the_enclave() {
    for bad in ["mpx = \"unspecified\"", "pkru = \"maybe\"", "avx = 1", "avx1024 = \"required\""] {
        let refused = refusal(&with(&format!("cpu_features = {{ {bad} }}")));
        assert!(matches!(refused, GramineError::Value { .. }), "{bad}: {refused}");
    }
}

#[test]
fn refuses_a_manifest_one_byte_over_the_limit() {
    let pad = |len: usize| MANIFEST.to_owned() + &"#".repeat(len - MANIFEST.len());
    assert!(GramineManifest::parse(pad(MAX_GRAMINE_MANIFEST_BYTES).as_bytes()).is_ok());
    let refused = GramineManifest::parse(pad(MAX_GRAMINE_MANIFEST_BYTES + 1).as_bytes());
    assert_eq!(refused.unwrap_err().code(), "E-SGX-SIZE");
}
