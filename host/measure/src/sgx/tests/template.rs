//! The template of the tree, what is written from it, and templates that must be refused.

use chrysalis_wire::Digest;
use toml::{Table, Value};

use super::super::sigstruct::sha256;
use super::super::{
    EnclaveError, GramineError, GramineManifest, GramineTemplate, MAX_TEMPLATE_BYTES,
    MAX_TEMPLATE_FILES, MAX_TEMPLATE_TEXT, SgxError,
};

const TEMPLATE: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../manifests/gramine.toml"));

/// A file whose bytes are its path.
fn hash(path: &str) -> Result<Digest, SgxError> {
    Ok(Digest(sha256(path.as_bytes())))
}

fn written() -> String {
    GramineTemplate::parse(TEMPLATE).unwrap().write(hash).unwrap()
}

#[track_caller]
fn refuses(from: &str, to: &str, field: &str) {
    assert!(TEMPLATE.contains(from), "{from}");
    match GramineTemplate::parse(&TEMPLATE.replacen(from, to, 1)) {
        Err(SgxError::Manifest(GramineError::Value { field: got, .. })) => assert_eq!(got, field),
        other => panic!("{from} -> {to}: {other:?}"),
    }
}

#[test]
fn the_template_of_the_tree_writes_a_manifest_that_trusts_its_host_with_waking_it_up() {
    let text = written();
    let manifest = GramineManifest::parse(text.as_bytes()).unwrap();
    assert!(!manifest.attributes.debug() && manifest.dcap && manifest.shape.edmm());
    assert_eq!(manifest.insecure, ["sys.insecure__allow_eventfd"]);
    assert_eq!(manifest.allowed_files.len(), 2);
    assert_eq!(manifest.trusted_files, 7);
    assert_eq!((manifest.attributes.xfrm, manifest.attributes.flags), (7, 4));
}

#[test]
fn the_program_gets_its_fixed_arguments_and_nothing_from_the_host() {
    let all: Table = toml::from_str(&written()).unwrap();
    let loader = all["loader"].as_table().unwrap();
    let keys: Vec<_> = loader.keys().map(String::as_str).collect();
    assert_eq!(keys, ["argv", "entrypoint", "log_level"]);
    assert_eq!(loader["argv"].as_array().unwrap().len(), 12);
    assert_eq!(all["fs"]["root"]["type"], Value::from("tmpfs"));
    assert_eq!(all["sgx"]["file_check_policy"], Value::from("strict"));
    assert_eq!(all["sys"]["disallow_subprocesses"], Value::from(true));
}

#[test]
fn the_same_template_and_files_give_the_same_bytes() {
    assert_eq!(written(), written());
    // The exact bytes are the promise: a change here changes every MRENCLAVE.
    assert_eq!(Digest(sha256(written().as_bytes())).to_string(), WRITTEN_SHA256);
}

#[test]
fn the_order_of_files_in_the_template_does_not_matter() {
    let (head, tail) = TEMPLATE.split_once("[[file]]").unwrap();
    let (files, rest) = tail.split_once("# Files the host may change").unwrap();
    let mut files: Vec<_> = files.split("[[file]]").collect();
    files.reverse();
    let reversed = format!("{head}[[file]]{}{rest}", files.join("[[file]]"));
    let reversed = reversed.replacen(" at will. Each needs", "# at will. Each needs", 1);
    let reversed = GramineTemplate::parse(&reversed).unwrap().write(hash).unwrap();
    assert_eq!(reversed, written());
}

#[test]
fn one_changed_file_changes_the_manifest_and_a_comment_does_not() {
    let template = GramineTemplate::parse(TEMPLATE).unwrap();
    let changed = template.write(|path| {
        let worker = path.ends_with("chrysalis-worker");
        if worker { Ok(Digest([0; 32])) } else { hash(path) }
    });
    assert_ne!(changed.unwrap(), written());
    let commented = format!("# more\n{TEMPLATE}");
    assert_eq!(GramineTemplate::parse(&commented).unwrap().write(hash).unwrap(), written());
}

#[test]
fn a_file_that_cannot_be_hashed_ends_the_writing() {
    #[derive(Debug, PartialEq)]
    struct Gone;
    impl From<SgxError> for Gone {
        fn from(_: SgxError) -> Self {
            Self
        }
    }
    let template = GramineTemplate::parse(TEMPLATE).unwrap();
    assert_eq!(template.write(|_| Err(Gone)), Err(Gone));
}

#[test]
fn refuses_another_version_or_release() {
    refuses("version = 1", "version = 2", "version");
    refuses("gramine = \"1.9\"", "gramine = \"1.8\"", "gramine");
}

#[test]
fn refuses_an_unknown_or_missing_field_anywhere() {
    for (from, to) in [
        ("version = 1", "version = 1\ndebug = true"),
        ("isv_svn = 1", "isv_svn = 1\ndebug = true"),
        ("pkru = \"disabled\"", "pkru = \"disabled\"\ncet = \"disabled\""),
        ("brk = \"64M\"", "brk = \"64M\"\nuse_host_env = true"),
        ("[program]", "[program]\nenvironment = {}"),
        ("inside = \"/chrysalis/worker\"", "inside = \"/chrysalis/worker\"\nsha256 = \"\""),
        ("edmm_enable = true", ""),
        ("avx = \"required\"", ""),
        ("reason = \"signed", "because = \"signed"),
    ] {
        assert!(TEMPLATE.contains(from), "{from}");
        let refused = GramineTemplate::parse(&TEMPLATE.replacen(from, to, 1));
        assert!(matches!(refused, Err(SgxError::Manifest(GramineError::Toml(_)))), "{to}");
    }
}

#[test]
fn refuses_sizes_threads_and_features_that_gramine_or_the_cpu_would() {
    refuses("size = \"16G\"", "size = \"16 GiB\"", "enclave.size");
    refuses("stack = \"8M\"", "stack = \"\"", "process.stack");
    refuses("brk = \"64M\"", "brk = \"-1\"", "process.brk");
    refuses("mpx = \"disabled\"", "mpx = \"unspecified\"", "cpu_features.mpx");
    let odd = GramineTemplate::parse(&TEMPLATE.replacen("\"16G\"", "\"15G\"", 1)).unwrap_err();
    assert!(matches!(odd, SgxError::Enclave(EnclaveError::Size { .. })), "{odd}");
    let none = TEMPLATE.replacen("max_threads = 64", "max_threads = 0", 1);
    let none = GramineTemplate::parse(&none).unwrap_err();
    assert!(matches!(none, SgxError::Enclave(EnclaveError::Threads { .. })), "{none}");
}

#[test]
fn refuses_paths_that_could_mean_something_else() {
    let worker = "\"/usr/lib/chrysalis/chrysalis-worker\"";
    for bad in [
        "chrysalis",
        "/usr/../etc/passwd",
        "/usr//lib",
        "/usr/./lib",
        "/",
        "/usr/lib/",
        "/é",
        "/a\\n",
        "",
    ] {
        refuses(worker, &format!("\"{bad}\""), "file.host");
    }
    refuses(worker, "'/a\"b'", "file.host");
    let long = "/".to_owned() + &"a".repeat(MAX_TEMPLATE_TEXT);
    refuses(worker, &format!("{long:?}"), "file.host");
    let fits = TEMPLATE.replacen(worker, &format!("{:?}", &long[..MAX_TEMPLATE_TEXT]), 1);
    assert!(GramineTemplate::parse(&fits).is_ok());
    refuses("libos = \"/", "libos = \"", "program.libos");
}

#[test]
fn refuses_a_path_named_twice() {
    refuses("\"/etc/chrysalis/worker.toml\"", "\"/usr/lib/chrysalis/chrysalis-worker\"", "file");
    refuses("inside = \"/lib/libm.so.6\"", "inside = \"/lib/libc.so.6\"", "file");
    // Nor measured here and unmeasured there.
    refuses("\"/var/lib/chrysalis/model.chrysalis\"", "\"/etc/chrysalis/worker.toml\"", "file");
}

#[test]
fn refuses_an_unmeasured_file_without_a_reason() {
    let reason = "\"signed by Intel, changes every month, and is verified before use\"";
    refuses(reason, "\" \"", "unmeasured.reason");
}

#[test]
fn refuses_a_program_that_is_not_measured_and_arguments_that_name_nothing() {
    let entry = "entrypoint = \"/lib/ld-linux-x86-64.so.2\"";
    refuses(entry, "entrypoint = \"/chrysalis/model.chrysalis\"", "program.entrypoint");
    refuses("\"--library-path\", \"/lib\"", "\"--library-path\", \"/li\"", "program.arguments");
    refuses("\"/chrysalis/worker\",", "\"/chrysalis/worker\\n\",", "program.arguments");
    refuses("\"127.0.0.1:8444\"", "\"\"", "program.arguments");
}

#[test]
fn refuses_one_argument_and_one_file_over_the_limit() {
    let arguments = |extra: usize| {
        let more = "\"x\", ".repeat(extra);
        TEMPLATE.replacen("    \"/lib/ld", &format!("{more}\"/lib/ld"), 1)
    };
    assert!(GramineTemplate::parse(&arguments(52)).is_ok());
    assert!(GramineTemplate::parse(&arguments(53)).is_err());
    let files = |extra: usize| {
        let mut text = TEMPLATE.to_owned();
        for n in 0..extra {
            text += &format!("\n[[file]]\nhost = \"/f{n}\"\ninside = \"/i{n}\"\n");
        }
        text
    };
    assert!(GramineTemplate::parse(&files(MAX_TEMPLATE_FILES - 8)).is_ok());
    assert!(GramineTemplate::parse(&files(MAX_TEMPLATE_FILES - 7)).is_err());
    let padded = |len: usize| TEMPLATE.to_owned() + &"#".repeat(len - TEMPLATE.len());
    assert!(GramineTemplate::parse(&padded(MAX_TEMPLATE_BYTES)).is_ok());
    assert!(GramineTemplate::parse(&padded(MAX_TEMPLATE_BYTES + 1)).is_err());
}

const WRITTEN_SHA256: &str = "244d8a7a0f7f2f2a89fc8d3aa9eb2952c8187ed059baf6871a9675655c880315";
