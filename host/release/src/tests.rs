//! A release from an image to its pins: what is built agrees, and what is changed is named. Most of
//! it on a small image made here; one on the pinned packages of this tree, where they are at hand.

use std::path::PathBuf;

use chrysalis_evidence::{AllowSim, Pins};
use chrysalis_image::compose::Inputs;
use chrysalis_image::{Image, Lock, Programs, Recipe, Store, compose};
use chrysalis_measure::tdx::{
    BiosIdentity, Content, FirmwareProfile, Image as Parts, PageOrder, Shape as Vm, predict_tdx,
};
use chrysalis_shape::Menu;
use chrysalis_wire::{Digest, ImagePlatform, NetworkId, RegisterValue};

use crate::small_image::{BIOS, Draft};
use crate::*;

fn bios() -> BiosIdentity {
    BIOS.map(str::to_owned).into()
}

fn manifest() -> String {
    format!(
        "version = 1\nnetwork = -3\nregistry = \"{}\"\n\n[model]\nname = \"tiny\"\nroot = \"{}\"\n\
         sealed = false\n\n[limits]\nrequest_bytes = 65536\ncontext_tokens = 2048\n\
         completion_tokens = 512\nconcurrent_requests = 4\n\n[prices]\nprompt = 1\ncached = 1\n\
         completion = 8\nreasoning = 8\n",
        "0".repeat(64),
        "22".repeat(32),
    )
}

fn label() -> Label {
    Label {
        release: "0.1.0".to_owned(),
        source: Some("5c".repeat(20).parse().unwrap()),
        toolchain: Some("1.95.0".to_owned()),
    }
}

fn built(image: &Image, sim: AllowSim) -> Result<Values, ReleaseError> {
    let (shapes, _) = SelectedShape::all(&Menu::published().unwrap());
    let workloads = [Workload::of(manifest().as_bytes(), None).unwrap()];
    let (bios, workloads) = (&bios(), &workloads);
    let ingredients =
        Ingredients { image, bios: Some(bios), shapes: &shapes, workloads, sgx: None };
    Values::of_image(&label(), &ingredients, sim)
}

fn judged(values: &Values, image: &Image, sim: AllowSim) -> Result<Recomputed, ReleaseError> {
    let workloads = [Workload::of(manifest().as_bytes(), None).unwrap()];
    let evidence =
        Evidence { image, bios: Some(&bios()), workloads: &workloads, sgx: values.sgx.clone() };
    values.recompute(&Menu::published().unwrap(), &evidence, sim)
}

/// What a comparison that is refused names.
#[track_caller]
fn moved(judged: Result<Recomputed, ReleaseError>) -> (String, String) {
    match judged {
        Err(ReleaseError::Differs(moved)) => (moved.value, moved.component),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_release_built_from_an_image_agrees_in_four_dialects_and_with_the_image() {
    let image = Draft::small().build();
    let release = Release::build(built(&image, AllowSim::No).unwrap()).unwrap();
    let again =
        Release::verify(&release.toml, &release.corim, &release.intoto, &release.boc).unwrap();
    assert_eq!(again, release);
    let recomputed = judged(&release.values, &image, AllowSim::No).unwrap();
    assert_eq!(recomputed.open, Vec::<String>::new());
    assert_eq!(recomputed.values.len(), 3 + release.values.shapes.len() + 2);
    let names: Vec<_> = release.values.parts.iter().map(|p| p.name.as_str()).collect();
    let mut files: Vec<_> = image.files().into_iter().map(|(_, name, _)| name).collect();
    files.sort_unstable();
    assert_eq!(names, files, "every file of the image is a part of the release");
    // Nothing of the menu that was captured is left out.
    let menu = Menu::published().unwrap();
    let captured: usize = menu.shapes().map(|s| menu.captures(&s.name).len()).sum();
    assert_eq!(release.values.shapes.len(), captured);
}

#[test]
fn every_register_is_the_one_that_measure_image_predicts() {
    let image = Draft::small().build();
    let values = built(&image, AllowSim::No).unwrap();
    let menu = Menu::published().unwrap();
    let parts = Parts {
        firmware: &image.firmware,
        profile: FirmwareProfile::Stable202605,
        page_order: PageOrder::SinglePass,
        kernel: Content::Bytes(&image.kernel),
        initrd: Content::Bytes(&image.initrd),
        cmdline: &image.cmdline,
    };
    for Shape { name, qemu, status, .. } in &values.shapes {
        let capture = menu.capture(name, qemu.parse().unwrap()).unwrap();
        let vm = Vm::from_menu(menu.shape(name).unwrap(), capture, &bios()).unwrap();
        let predicted = predict_tdx(&parts, &vm, manifest().as_bytes()).unwrap();
        let choice = Choice { shape: Some(name), qemu: Some(qemu), workload: Some("tiny") };
        let registers = values.registers(&choice).unwrap();
        let expected = predicted.registers();
        assert_eq!(registers.mrtd.0, expected.mrtd, "{name}");
        assert_eq!(registers.rtmr, expected.rtmr.map(|r| Some(RegisterValue(r))), "{name}");
        assert_eq!(*status, predicted.rtmr[0].status.into());
    }
}

/// A change of one value, and the name of the fact that says so.
type Change = (&'static str, fn(&mut Values));

const CHANGES: &[Change] = &[
    ("release/name", |v| v.release = "0.1.1".to_owned()),
    ("release/platform", |v| v.platform = ImagePlatform::InsecureSim),
    ("release/debug", |v| v.debug = true),
    ("release/source", |v| v.source = Some("5d".repeat(20).parse().unwrap())),
    ("release/toolchain", |v| v.toolchain = None),
    ("tdx/mrtd", |v| v.tdx.as_mut().unwrap().mrtd.0[0] ^= 1),
    ("tdx/rtmr1", |v| v.tdx.as_mut().unwrap().rtmr1.0[47] ^= 0x80),
    ("tdx/rtmr2", |v| v.tdx.as_mut().unwrap().rtmr2.0[20] ^= 4),
    ("shape/cpu-2/11.1.3/rtmr0", |v| v.shapes[0].rtmr0.0[0] ^= 1),
    ("shape/cpu-32/11.1.3/rtmr0", |v| v.shapes.last_mut().unwrap().rtmr0.0[47] ^= 1),
    ("workload/tiny/manifest", |v| {
        let changed = manifest().replace("completion = 8", "completion = 9");
        v.workloads[0] = Workload::of(changed.as_bytes(), None).unwrap();
    }),
    ("workload/tiny/model-root", |v| {
        let changed = manifest().replace(&"22".repeat(32), &"23".repeat(32));
        let other = Workload::of(changed.as_bytes(), None).unwrap();
        let manifest_sha256 = v.workloads[0].manifest_sha256;
        let events = chrysalis_evidence::boot_events(&manifest_sha256, &other.model_root);
        let rtmr3 = RegisterValue(chrysalis_evidence::replay_rtmr(&events).unwrap());
        v.workloads[0] = Workload { manifest_sha256, rtmr3, ..other };
    }),
    ("sgx/mrenclave", |v| v.sgx.as_mut().unwrap().mrenclave.0[0] ^= 1),
    ("sgx/mrsigner", |v| v.sgx.as_mut().unwrap().mrsigner.0[31] ^= 1),
    ("part/vmlinuz", |v| v.parts.last_mut().unwrap().sha256.0[0] ^= 1),
    // What only values.toml says; its digest is in the others.
    ("release/values", |v| v.shapes[0].status = ValueStatus::ConfirmedByHardware),
    ("release/values", |v| v.tdx.as_mut().unwrap().status = ValueStatus::ConfirmedByHardware),
    ("release/values", |v| v.firmware_profile = "202508".to_owned()),
    ("release/values", |v| v.parts[0].bytes += 1),
    ("release/values", |v| v.sgx.as_mut().unwrap().isv_svn += 1),
];

fn with_enclave() -> Values {
    let mut values = built(&Draft::small().build(), AllowSim::No).unwrap();
    values.sgx = crate::testing::values().sgx;
    values
}

#[test]
fn every_value_changed_in_any_dialect_is_refused_and_named() {
    let values = with_enclave();
    let good = Release::build(values.clone()).unwrap();
    for (fact, change) in CHANGES {
        let mut other = values.clone();
        change(&mut other);
        assert_ne!(other, values, "{fact}: the case changes nothing");
        let other = Release::build(other).unwrap();
        for file in [VALUES_FILE, CORIM_FILE, INTOTO_FILE, BOC_FILE] {
            let pick = |name: &str| if name == file { &other } else { &good };
            let refused = Release::verify(
                &pick(VALUES_FILE).toml,
                &pick(CORIM_FILE).corim,
                &pick(INTOTO_FILE).intoto,
                &pick(BOC_FILE).boc,
            );
            // A contract stores no file list, no provenance; it has the digest of the source.
            let whole = ["part/", "release/source", "release/toolchain"];
            let in_cell = !whole.iter().any(|start| fact.starts_with(start));
            let expected = if file == BOC_FILE && !in_cell { "release/values" } else { *fact };
            match refused {
                Err(ReleaseError::Disagrees { fact: named, .. }) => {
                    assert_eq!(named, expected, "{file}");
                }
                other => panic!("{fact} in {file}: {other:?}"),
            }
        }
    }
}

#[test]
fn every_value_changed_in_the_whole_release_is_found_by_computing_it_again() {
    let image = Draft::small().build();
    let values = with_enclave();
    for (fact, change) in CHANGES {
        let mut other = values.clone();
        change(&mut other);
        let workloads = [Workload::of(manifest().as_bytes(), None).unwrap()];
        let evidence = Evidence {
            image: &image,
            bios: Some(&bios()),
            workloads: &workloads,
            sgx: values.sgx.clone(),
        };
        let judged = other.recompute(&Menu::published().unwrap(), &evidence, AllowSim::Yes);
        // Names, and what a publisher says of the source, are not in any file of an image.
        if ["release/name", "release/source", "release/toolchain"].contains(fact) {
            judged.unwrap();
            continue;
        }
        let (value, component) = moved(judged);
        let expected = match *fact {
            "release/platform" => "platform",
            "release/debug" => "debug",
            "tdx/mrtd" => "MRTD",
            "tdx/rtmr1" => "RTMR1",
            "tdx/rtmr2" => "RTMR2",
            fact if fact.starts_with("shape/") => "RTMR0",
            fact if fact.starts_with("workload/") => "RTMR3 with the workload tiny",
            fact if fact.starts_with("sgx/") => "MRENCLAVE",
            "part/vmlinuz" => "file",
            _ => {
                let known = ["status", "firmware profile", "file", "MRENCLAVE"];
                assert!(known.iter().any(|k| value.starts_with(k)), "{value}");
                continue;
            }
        };
        assert_eq!(value, expected, "{fact}: {component}");
    }
}

#[test]
fn another_image_is_refused_by_its_first_register_and_the_file_behind_it() {
    let values = built(&Draft::small().build(), AllowSim::No).unwrap();
    let small = Draft::small;
    for (draft, register, file) in [
        (Draft { code: 1, ..small() }, "MRTD", "tdvf.fd"),
        (Draft { kernel: 1, ..small() }, "RTMR1", "vmlinuz"),
        (Draft { cmdline: "\"loglevel=0\"", ..small() }, "RTMR2", "cmdline"),
        (Draft { worker: b"another".to_vec(), ..small() }, "RTMR2", "initrd.cpio"),
    ] {
        let judged = judged(&values, &draft.build(), AllowSim::No);
        assert_eq!(moved(judged), (register.to_owned(), file.to_owned()));
    }
}

#[test]
fn one_changed_byte_of_an_image_is_refused_with_its_part_and_register() {
    let good = Draft::small().build();
    let values = built(&good, AllowSim::No).unwrap();
    type Case = (&'static str, &'static str, fn(&mut Image));
    let cases: &[Case] = &[
        // Behind the variable store is the code.
        ("firmware", "MRTD", |i| i.firmware[0x5000] ^= 1),
        ("firmware", "RTMR0", |i| i.firmware[0x3000] ^= 1),
        ("kernel", "RTMR1", |i| i.kernel[0x1000] ^= 1),
        ("cmdline", "RTMR2", |i| *i.cmdline.last_mut().unwrap() ^= 1),
        ("initrd: chrysalis/worker", "RTMR2", |i| {
            let at = i.initrd.windows(6).rposition(|w| w == b"worker").unwrap();
            i.initrd[at] ^= 1;
        }),
    ];
    for (part, register, change) in cases {
        let mut image = good.clone();
        change(&mut image);
        assert_ne!(image, good);
        match judged(&values, &image, AllowSim::No) {
            Err(ReleaseError::Image { moved: Some(moved), .. }) => {
                assert_eq!((moved.component.as_str(), moved.value.as_str()), (*part, *register));
                assert_ne!(moved.expected, moved.found);
            }
            other => panic!("{part}: {other:?}"),
        }
        assert!(matches!(built(&image, AllowSim::No), Err(ReleaseError::Image { .. })));
    }
    // No register has the manifest; the image is refused all the same.
    let mut image = good;
    image.manifest[100] ^= 1;
    let refused = judged(&values, &image, AllowSim::No);
    assert!(matches!(refused, Err(ReleaseError::Image { moved: None, .. })), "{refused:?}");
}

#[test]
fn an_image_for_simulation_is_refused_unless_asked_for_and_says_so() {
    let image = Draft { platform: ImagePlatform::InsecureSim, ..Draft::small() }.build();
    assert_eq!(built(&image, AllowSim::No), Err(ReleaseError::Simulated));
    let values = built(&image, AllowSim::Yes).unwrap();
    assert_eq!(judged(&values, &image, AllowSim::No), Err(ReleaseError::Simulated));
    judged(&values, &image, AllowSim::Yes).unwrap();
    assert_eq!(values.platform, ImagePlatform::InsecureSim);
    let refused = pins_for(&values, &[], NetworkId::TESTNET, "[platform]\n");
    assert!(matches!(refused, Err(ReleaseError::NothingToPin { .. })));
}

#[test]
fn a_debug_image_says_so_in_every_dialect_and_is_never_pinned() {
    let image = Draft { debug: true, ..Draft::small() }.build();
    let values = built(&image, AllowSim::No).unwrap();
    assert!(values.debug);
    let facts = |scope| values.facts(scope).unwrap().get("release/debug").map(str::to_owned);
    assert_eq!(
        [facts(Scope::Whole), facts(Scope::Registers)],
        [(); 2].map(|()| Some("true".into()))
    );
    let refused = pins_for(&values, &[], NetworkId::TESTNET, "[platform]\n");
    assert!(matches!(refused, Err(ReleaseError::NothingToPin { .. })));
    // Called something else, it is not the image that was released.
    let lie = Values { debug: false, ..values };
    assert_eq!(moved(judged(&lie, &image, AllowSim::No)).0, "debug");
}

#[test]
fn what_the_files_do_not_say_is_left_open_and_said() {
    let image = Draft::small().build();
    let values = with_enclave();
    let evidence = Evidence { image: &image, bios: Some(&bios()), workloads: &[], sgx: None };
    let judged = values.recompute(&Menu::published().unwrap(), &evidence, AllowSim::No).unwrap();
    assert_eq!(judged.open.len(), 2);
    assert!(judged.open[0].contains("tiny") && judged.open[1].contains("enclave"));
    // A firmware nobody wrote down needs its names; a release without shapes does not.
    let unnamed = Evidence { bios: None, ..evidence };
    let refused = values.recompute(&Menu::published().unwrap(), &unnamed, AllowSim::No);
    assert_eq!(refused, Err(ReleaseError::Bios));
    let bare = Values { shapes: Vec::new(), ..values };
    bare.recompute(&Menu::published().unwrap(), &unnamed, AllowSim::No).unwrap();
}

#[test]
fn a_workload_the_release_does_not_have_is_refused() {
    let image = Draft::small().build();
    let values = Values { workloads: Vec::new(), ..built(&image, AllowSim::No).unwrap() };
    let (value, component) = moved(judged(&values, &image, AllowSim::No));
    assert_eq!(
        (value.as_str(), component.as_str()),
        ("RTMR3 with the workload tiny", "model root")
    );
}

#[test]
fn a_shape_outside_the_menu_cannot_be_computed_and_is_refused() {
    let image = Draft::small().build();
    let mut values = built(&image, AllowSim::No).unwrap();
    values.shapes[0].qemu = "9.9.9".to_owned();
    let refused = judged(&values, &image, AllowSim::No);
    assert!(matches!(refused, Err(ReleaseError::Shape(_))), "{refused:?}");
    let menu = Menu::published().unwrap();
    for name in ["cpu-3", "gpu-1"] {
        assert!(matches!(SelectedShape::named(&menu, name, None), Err(ReleaseError::Shape(_))));
    }
    assert_eq!(SelectedShape::all(&menu).1, ["gpu-1", "gpu-8"]);
}

#[test]
fn pins_of_a_release_built_from_an_image_load_and_name_its_registers() {
    let values = built(&Draft::small().build(), AllowSim::No).unwrap();
    let example = include_str!("../../../manifests/pins.example.toml");
    let platform = &example[example.find("[platform]").unwrap()..];
    let pins = pins_for(&values, &[], NetworkId::TESTNET, platform).unwrap();
    let pins = Pins::parse(&pins, AllowSim::No).unwrap();
    assert_eq!(pins.workers().len(), values.shapes.len());
    for (worker, shape) in pins.workers().iter().zip(&values.shapes) {
        assert_eq!(worker.rtmr0, shape.rtmr0.0);
        assert_eq!(worker.mrtd, values.tdx.as_ref().unwrap().mrtd.0);
        assert_eq!(worker.model_root, Digest([0x22; 32]));
    }
}

/// The image of this tree with small programs, where the pinned packages are at hand. A variable
/// that names something else is a mistake, not a reason to skip.
fn pinned(platform: ImagePlatform) -> Option<Image> {
    let tree = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let given = std::env::var_os("CHRYSALIS_INPUTS").map(PathBuf::from);
    if let Some(given) = &given {
        assert!(given.is_dir(), "CHRYSALIS_INPUTS names no directory: {}", given.display());
    }
    let directory = given.unwrap_or_else(|| tree.join("../shared/inputs"));
    if !directory.is_dir() {
        eprintln!("skipped: there is no directory of pinned packages (CHRYSALIS_INPUTS)");
        return None;
    }
    let read = |name: &str| std::fs::read(tree.join("images").join(name)).unwrap();
    let recipe = Recipe::parse(&read("cpu.toml")).unwrap();
    let lock = Lock::parse(&read("cpu.lock.toml")).unwrap();
    let cache = tempfile::tempdir().unwrap();
    let store = Store {
        cache: cache.path().to_path_buf(),
        directories: vec![directory],
        mirror: false,
        snapshot: None,
    };
    let inputs = Inputs::collect(&lock, |p| store.fetch(p, &mut |_| {})).unwrap();
    let program = crate::small_image::program;
    let programs = Programs { init: program(b"init"), worker: program(b"worker") };
    Some(compose(&recipe, &lock, &inputs, &programs, platform, false).unwrap())
}

#[test]
fn the_pinned_image_gives_a_release_that_a_changed_byte_of_it_does_not_pass() {
    let Some(mut image) = pinned(ImagePlatform::Tdx) else { return };
    let menu = Menu::published().unwrap();
    let (shapes, _) = SelectedShape::all(&menu);
    // Debian's firmware is known by its MRTD: no name has to be given.
    let ingredients =
        Ingredients { image: &image, bios: None, shapes: &shapes, workloads: &[], sgx: None };
    let values = Values::of_image(&label(), &ingredients, AllowSim::No).unwrap();
    let tdx = values.tdx.as_ref().unwrap();
    assert!(tdx.mrtd.to_string().starts_with("a7a1f751abc454f9"), "{}", tdx.mrtd);
    let release = Release::build(values.clone()).unwrap();
    Release::verify(&release.toml, &release.corim, &release.intoto, &release.boc).unwrap();
    let judge = |image: &Image| {
        let evidence = Evidence { image, bios: None, workloads: &[], sgx: None };
        values.recompute(&menu, &evidence, AllowSim::No)
    };
    judge(&image).unwrap();
    let at = image.kernel.len() / 2;
    image.kernel[at] ^= 1;
    match judge(&image) {
        Err(ReleaseError::Image { moved: Some(moved), .. }) => {
            assert_eq!((moved.value.as_str(), moved.component.as_str()), ("RTMR1", "kernel"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_release_of_this_tree_agrees_and_is_called_like_its_folder() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../manifests/releases");
    let Ok(folders) = std::fs::read_dir(&folder) else {
        eprintln!("skipped: this tree has no release yet");
        return;
    };
    for folder in folders.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
        let read = |file: &str| std::fs::read(folder.join(file)).unwrap();
        let [toml, corim, intoto, boc] = [VALUES_FILE, CORIM_FILE, INTOTO_FILE, BOC_FILE].map(read);
        let release = Release::verify(&toml, &corim, &intoto, &boc);
        let values = release.unwrap_or_else(|e| panic!("{}: {e}", folder.display())).values;
        assert_eq!(folder.file_name().unwrap().to_str(), Some(values.release.as_str()));
        assert!(!values.debug && values.platform == ImagePlatform::Tdx, "{}", folder.display());
        assert!(values.source.is_some(), "{} does not say its commit", folder.display());
    }
}
