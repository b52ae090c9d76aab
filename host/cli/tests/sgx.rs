//! SGX as an auditor and a signer use it: a manifest from a template, its MRENCLAVE, a signature.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "../../../tests/harness/small_image.rs"]
mod small_image;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use common::{World, flip};

const MEASURE: &str = "measure gramine --manifest @w.manifest.sgx --libpal @libpal.so";
const SIGN: &str = "sgx sign --manifest @w.manifest.sgx --libpal @libpal.so --key @key.pem \
     --date 2026-11-25 --out @w.sig";

/// A root with every file the template of the tree names, a loader and a FAKE signing key.
fn world() -> World {
    let world = World::new();
    let template = tree("manifests/gramine.toml");
    for line in template.lines() {
        let path = line.strip_prefix("host = ").or_else(|| line.strip_prefix("libos = "));
        let Some(path) = path else { continue };
        let file = world.path("root").join(path.trim_matches(['"', '/']));
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, path).unwrap();
    }
    world.file("t.toml", template);
    world.file("libpal.so", libpal());
    world.file("key.pem", tree("host/measure/tests/fixtures/fake-enclave-key.pem"));
    chmod(&world, 0o600);
    world
}

/// [`world`] and the manifest written from its files.
fn written() -> World {
    let world = world();
    world.run("manifest gramine --template @t.toml --root @root --out @w.manifest.sgx").success();
    world
}

fn tree(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::fs::read_to_string(root.join(path)).unwrap()
}

fn chmod(world: &World, mode: u32) {
    let permissions = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(world.path("key.pem"), permissions).unwrap();
}

/// The smallest shared object with one executable segment: its own headers.
fn libpal() -> Vec<u8> {
    let mut file = vec![0; 120];
    file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    file[16..24].copy_from_slice(&[3, 0, 62, 0, 1, 0, 0, 0]);
    file[32] = 64;
    file[54..58].copy_from_slice(&[56, 0, 1, 0]);
    file[64..72].copy_from_slice(&[1, 0, 0, 0, 5, 0, 0, 0]);
    (file[96], file[104]) = (120, 120);
    file
}

#[test]
fn writes_the_same_manifest_twice_and_measures_it() {
    let world = written();
    let first = world.text("w.manifest.sgx");
    let again = "manifest gramine --template @t.toml --root @root --out @w.manifest.sgx";
    world.run(again).exits(10).says("E-EXISTS");
    world.run(&format!("{again} --force")).success();
    assert_eq!(world.text("w.manifest.sgx"), first);
    let json = world.run(&format!("--format json {MEASURE}")).success();
    let json = json.json("chrysalis/sgx-measurement/v1");
    assert_eq!(json["debug"], false);
    assert_eq!(json["insecure"], serde_json::json!(["sys.insecure__allow_eventfd"]));
    assert_eq!(json["trusted_files"], 7);
    let mrenclave = json["mrenclave"].as_str().unwrap();
    world.run(&format!("{MEASURE} --expect {mrenclave}")).success();
    let other = "00".repeat(32);
    world.run(&format!("{MEASURE} --expect {other}")).exits(10).says("E-MRENCLAVE");
    world.run(&format!("{MEASURE} --expect zz")).exits(64).says("E-HEX");
}

#[test]
fn one_byte_of_a_measured_file_is_another_enclave() {
    let world = written();
    let measure = format!("--format json {MEASURE}");
    let before = world.run(&measure).json("chrysalis/sgx-measurement/v1");
    flip(&world.path("root/usr/lib/chrysalis/chrysalis-worker"), 0);
    world
        .run("manifest gramine --template @t.toml --root @root --out @w.manifest.sgx --force")
        .success();
    let after = world.run(&measure).json("chrysalis/sgx-measurement/v1");
    assert_ne!(before["mrenclave"], after["mrenclave"]);
    assert_eq!(before["libpal_sha256"], after["libpal_sha256"]);
}

#[test]
fn a_missing_file_is_named() {
    let world = world();
    std::fs::remove_file(world.path("root/etc/chrysalis/worker.toml")).unwrap();
    let run = world.run("manifest gramine --template @t.toml --root @root --out @w.manifest.sgx");
    assert!(run.stderr().contains("etc/chrysalis/worker.toml"), "{}", run.stderr());
    run.exits(64).says("E-FILE");
    assert!(!world.path("w.manifest.sgx").exists());
}

#[test]
fn signs_reproducibly_and_the_signature_is_for_exactly_this_enclave() {
    let world = written();
    world.run(SIGN).success();
    let first = std::fs::read(world.path("w.sig")).unwrap();
    world.run(&format!("{SIGN} --force")).success();
    assert_eq!(std::fs::read(world.path("w.sig")).unwrap(), first);
    let run = world.run(&format!("--format json {MEASURE} --sigstruct @w.sig")).success();
    let mrsigner = run.json("chrysalis/sgx-measurement/v1")["mrsigner"].clone();
    assert_eq!(mrsigner, "df1c7eedae89d07223d16f302aff2c22ed7b14d7b56ba1b8a03ad90bf09fce28");
    let shown = world.run("--format json sgx inspect @w.sig").json("chrysalis/sigstruct/v1");
    assert_eq!((&shown["mrsigner"], &shown["date"]), (&mrsigner, &"2026-11-25".into()));
    // Another loader, the same signature.
    flip(&world.path("libpal.so"), 119);
    world.run(&format!("{MEASURE} --sigstruct @w.sig")).exits(10).says("E-MRENCLAVE");
}

#[test]
fn an_altered_signature_is_refused_and_a_malformed_one_is_malformed() {
    let world = written();
    world.run(SIGN).success();
    flip(&world.path("w.sig"), 0x3c0);
    world.run("sgx inspect @w.sig").exits(10).says("E-SGX-SIGNATURE");
    flip(&world.path("w.sig"), 0);
    world.run("sgx inspect @w.sig").exits(30).says("E-SGX-SIGSTRUCT");
    world.file("x.sgxs", "not a stream");
    world.run("sgx inspect @x.sgxs").exits(30).says("E-SGX-STREAM");
}

#[test]
fn a_debug_enclave_is_measured_loudly_and_never_signed() {
    let world = written();
    let text = world.text("w.manifest.sgx").replace("debug = false", "debug = true");
    world.file("w.manifest.sgx", text);
    let run = world.run(MEASURE).success();
    assert!(run.stdout().starts_with("DEBUG"), "{}", run.stdout());
    world.run(SIGN).exits(10).says("E-SGX-DEBUG");
    assert!(!world.path("w.sig").exists());
}

#[test]
fn refuses_a_key_that_others_may_read_or_that_sgx_does_not_take() {
    let world = written();
    chmod(&world, 0o644);
    world.run(SIGN).exits(10).says("E-KEY-MODE");
    world.file("key.pem", tree("host/measure/tests/fixtures/fake-key-65537.pem"));
    chmod(&world, 0o600);
    let run = world.run(SIGN);
    assert!(run.stderr().contains("openssl genrsa -3"), "{}", run.stderr());
    run.exits(30).says("E-SGX-KEY");
    world.run(&SIGN.replace("2026-11-25", "yesterday")).exits(64).says("E-DATE");
}

#[test]
fn refuses_a_template_with_an_unknown_field() {
    let world = world();
    world.file("t.toml", format!("debug = true\n{}", world.text("t.toml")));
    world
        .run("manifest gramine --template @t.toml --root @root --out @w.manifest.sgx")
        .exits(30)
        .says("E-SGX-MANIFEST");
}

#[test]
fn a_machine_without_gramine_is_told_what_is_missing() {
    let world = World::new();
    for (line, program) in [("sgx check", "gramine-sgx"), ("sgx check --direct", "gramine-direct")]
    {
        let run = world.run(line);
        assert!(run.stdout().contains(program), "{}", run.stdout());
        run.exits(20).says("E-NO-GRAMINE");
    }
    let json = world.run("--format json sgx check").json("chrysalis/sgx-check/v1");
    assert_eq!(json["needed"][0]["there"], false);
}

#[test]
fn gramine_direct_on_the_path_is_found() {
    let world = World::new();
    let program = world.file("gramine-direct", "#!/bin/sh\n");
    let dir = Path::new(&program).parent().unwrap();
    let output = world.command().env("PATH", dir).args(["sgx", "check", "--direct"]).output();
    assert_eq!(output.unwrap().status.code(), Some(0));
}

#[test]
fn an_enclave_is_released_beside_its_image_and_only_as_it_was_signed() {
    let world = written();
    world.run(SIGN).success();
    let image = small_image::Draft::small().build();
    let existing = chrysalis_image::Existing::Refuse;
    chrysalis_image::write(&image, &world.path("image"), existing).unwrap();
    let bios = "--bios nobody 1 01/01/2026";
    let enclave =
        format!("--gramine-manifest @w.manifest.sgx --libpal @libpal.so --sigstruct @w.sig {bios}");
    let build = "release build --image @image --release 0.1.0 --shape cpu-2";
    world.run(&format!("{build} {enclave} --out @r")).success();
    let json = world.run(&format!("--format json {MEASURE} --sigstruct @w.sig")).success();
    let json = json.json("chrysalis/sgx-measurement/v1");
    let values = world.text("r/values.toml");
    for name in ["mrenclave", "mrsigner"] {
        assert!(values.contains(json[name].as_str().unwrap()), "{name}");
    }
    let verify = "release verify @r --image @image";
    let text = world.run(&format!("{verify} {enclave}")).success().stdout();
    assert!(text.contains("MRENCLAVE and MRSIGNER"), "{text}");
    let text = world.run(&format!("{verify} {bios}")).success().stdout();
    assert!(text.contains("NOT recomputed") && text.contains("enclave"), "{text}");
    // The signature is of another enclave then.
    let path = world.path("libpal.so");
    let end = std::fs::metadata(&path).unwrap().len();
    flip(&path, usize::try_from(end).unwrap() - 1);
    world.run(&format!("{verify} {enclave}")).exits(10).says("E-MRENCLAVE");
}

/// The same with a worker manifest that a worker accepts, and measured as one.
fn with_worker_manifest() -> World {
    let world = world();
    let manifest = format!(
        "version = 1\nnetwork = -3\nregistry = \"{z}\"\n[model]\nname = \"m\"\nroot = \"{z}\"\n\
         sealed = false\n[limits]\nrequest_bytes = 65536\ncontext_tokens = 2048\n\
         completion_tokens = 512\nconcurrent_requests = 4\n[prices]\nprompt = 1\ncached = 1\n\
         completion = 8\nreasoning = 8\n",
        z = "0".repeat(64)
    );
    std::fs::write(world.path("root").join("etc/chrysalis/worker.toml"), manifest).unwrap();
    world.run("manifest gramine --template @t.toml --root @root --out @w.manifest.sgx").success();
    world
}

#[test]
fn writes_the_pins_of_a_predicted_enclave() {
    let world = with_worker_manifest();
    let pin = format!(
        "{MEASURE} --worker-manifest @root/etc/chrysalis/worker.toml --pin-out @pin.toml --name e"
    );
    let json = world.run(&format!("--format json {pin}")).success();
    let json = json.json("chrysalis/sgx-measurement/v1");
    let text = world.text("pin.toml");
    assert!(text.contains(&format!("mrenclave = {}\n", json["mrenclave"])), "{text}");
    // The template requires AVX: x87, SSE and AVX, with AVX-512 and AMX left to the machine.
    assert!(
        text.contains(
            "attributes = [{ value = \"0500000000000000\", mask = \"ffffffffffffffff\" }]"
        )
    );
    assert!(
        text.contains("xfrm = [{ value = \"0700000000000000\", mask = \"1ffff9ffffffffff\" }]"),
        "{text}"
    );

    let example = tree("manifests/pins.example.toml");
    let pins = format!("{example}\n{text}");
    let pins = chrysalis_evidence::Pins::parse(&pins, chrysalis_evidence::AllowSim::No).unwrap();
    assert_eq!(pins.sgx().unwrap().workers[0].name, "e");
}

#[test]
fn refuses_to_pin_an_enclave_that_measures_another_worker_manifest() {
    let world = with_worker_manifest();
    let path = world.path("root").join("etc/chrysalis/worker.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("prompt = 1", "prompt = 2")).unwrap();
    let pin =
        format!("{MEASURE} --worker-manifest @root/etc/chrysalis/worker.toml --pin-out @pin.toml");
    world.run(&pin).exits(10).says("E-SGX-WORKER-MANIFEST");
    assert!(!world.path("pin.toml").exists());
}
