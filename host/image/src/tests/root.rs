//! Images with a root: what goes into one, what binds it to the measured initrd, and what is
//! refused. And that images without one stay what they were.

use chrysalis_wire::ImagePlatform;
use chrysalis_wire::image::{MAX_ROOT_BYTES, RootSection};

use super::support::{self, Numbers, RECIPE, RELEASE, inputs_of, lock_of, no_digest, programs};
use crate::bytes::sha256;
use crate::erofs::{Node, Tree};
use crate::manifest::{Part, RootInfo};
use crate::root::{LocalFile, find_local};
use crate::verify::Fault;
use crate::{
    Existing, Image, ImageError, ImageManifest, Outcome, Package, Recipe, Role, compare, compose,
    directory, verify, verity,
};

const LIBRARY: &[u8] = b"a library that would be too large for an initrd";
const LOCAL: &[u8] = b"#!a program of our own";

fn recipe_text() -> String {
    let root = format!(
        "[root]\n[[root.file]]\npath = \"lib/libx.so.1\"\npinned = \"usr/lib/libx.so.1.2\"\n\
         [[root.file]]\npath = \"bin/tool\"\nexecutable = true\nlocal = \"tool\"\nsha256 = \"{}\"\n\
         [[root.link]]\npath = \"lib/libx.so\"\ntarget = \"libx.so.1\"\n\n\
         [[module]]\nname = \"erofs\"\n",
        sha256(LOCAL)
    );
    format!("{RECIPE}{root}")
}

fn packages() -> Vec<(Package, Vec<u8>)> {
    let erofs = format!("usr/lib/modules/{RELEASE}/kernel/fs/erofs/erofs.ko.xz");
    let mut packages = support::packages();
    packages.push(support::package("linux-erofs", &[(Role::Module, &erofs, b"erofs module")]));
    packages.push(support::package(
        "libx1",
        &[
            (Role::Root, "usr/lib/libx.so.1.2", LIBRARY),
            (Role::Root, "usr/lib/liby.so", b"pinned and not used"),
        ],
    ));
    packages
}

fn composed(recipe: &str) -> Result<Image, ImageError> {
    let packages = packages();
    let lock = lock_of(&packages);
    let mut inputs = inputs_of(&packages, &lock);
    inputs.add(LOCAL.to_vec());
    let recipe = Recipe::parse(recipe.as_bytes())?;
    compose(&recipe, &lock, &inputs, &programs(), ImagePlatform::InsecureSim, false)
}

fn good() -> Image {
    composed(&recipe_text()).unwrap()
}

fn fault(image: &Image) -> Fault {
    match verify(image, None) {
        Err(ImageError::Refused(fault)) => fault,
        other => panic!("accepted, or refused otherwise: {other:?}"),
    }
}

/// `image` with a manifest that describes its root truly, by somebody who knows how.
fn forged(mut image: Image) -> Image {
    let mut info = ImageManifest::parse(&image.manifest).unwrap().image().clone();
    info.parts.root = image.root.as_deref().map(|bytes| Part::of("rootfs.erofs", bytes));
    info.parts.verity = image.verity.as_deref().map(|bytes| Part::of("rootfs.verity", bytes));
    match image.root.as_deref().map(Tree::parse) {
        Some(Ok(tree)) => {
            let hash = verity::build(image.root.as_deref().unwrap()).unwrap().root;
            info.root = Some(RootInfo::of(hash, &tree));
        }
        // It cannot be described; what was said of the last one stays.
        Some(Err(_)) => {}
        None => {
            info.root = None;
            info.inputs.retain(|input| input.role != Role::Root);
        }
    }
    image.manifest = ImageManifest::new(info).unwrap().to_bytes().unwrap();
    image
}

#[test]
fn a_root_holds_what_the_recipe_says_and_its_hash_is_in_the_measured_initrd() {
    let image = good();
    let verified = verify(&image, None).unwrap();
    let tree = verified.root().unwrap();
    let paths: Vec<(&str, &str, u16)> =
        tree.entries().map(|(path, e)| (path, e.node.kind(), e.mode)).collect();
    assert_eq!(
        paths,
        [
            ("bin", "directory", 0o755),
            ("bin/tool", "file", 0o555),
            ("lib", "directory", 0o755),
            ("lib/libx.so", "link", 0o777),
            ("lib/libx.so.1", "file", 0o444),
        ]
    );
    assert_eq!(tree.get("lib/libx.so.1").unwrap().node, Node::File(LIBRARY.to_vec()));
    let data = image.root.as_deref().unwrap();
    let built = verity::build(data).unwrap();
    assert_eq!(image.verity.as_deref().unwrap(), built.bytes);
    let section = RootSection { hash: built.root, bytes: data.len() as u64 };
    assert_eq!(verified.config().root.as_ref(), Some(&section));
    let info = verified.image();
    assert_eq!(info.root.as_ref().unwrap().hash, built.root);
    let inputs: Vec<&str> =
        info.inputs.iter().filter(|i| i.role == Role::Root).map(|i| i.path.as_str()).collect();
    assert_eq!(inputs, ["usr/lib/libx.so.1.2"], "what is pinned and not used is not listed");
}

/// Ids and initrds of two images of this test's stand-ins, taken before there were roots: whoever
/// pinned an image without one still has it.
#[test]
fn images_without_a_root_have_the_bytes_they_had_before_there_were_roots() {
    let before = [
        (
            (ImagePlatform::Tdx, false),
            "8cf2db55c7443d2a02dc1e325182effe6693017eaf2093a46b69a082fdb49aa6",
            "523e817e5683944ffc1c6595d01a730090dece55bae3b9e2b1915af008b63cca",
        ),
        (
            (ImagePlatform::InsecureSim, true),
            "ff4b66d304ab9915b206528711c79012db7107149250ce3a37f0543324d60048",
            "bb6a1d05950f1e99c41df0bf78fa0b26d09b45ff3d6182e53d0e85e2133250aa",
        ),
    ];
    for ((platform, debug), id, initrd) in before {
        let image = support::image(platform, debug);
        assert_eq!(verify(&image, None).unwrap().id().to_string(), id);
        assert_eq!(sha256(&image.initrd).to_string(), initrd);
        assert_eq!(image.files().len(), 5);
    }
}

#[test]
fn a_thousand_random_flips_of_root_and_tree_are_refused_by_name() {
    let good = good();
    let mut numbers = Numbers(5);
    for round in 0..1000 {
        let mut bad = good.clone();
        let (part, bytes) = match round % 2 {
            0 => ("root", bad.root.as_mut().unwrap()),
            _ => ("verity", bad.verity.as_mut().unwrap()),
        };
        let at = numbers.below(bytes.len());
        bytes[at] ^= 1 << numbers.below(8);
        match fault(&bad) {
            Fault::Hash { part: named, .. } => assert_eq!(named, part, "byte {at}"),
            other => panic!("byte {at} of {part}: {other}"),
        }
        let bad = forged(bad);
        assert!(["root", "verity", "manifest"].contains(&fault(&bad).part()), "byte {at}: forged");
    }
}

#[test]
fn a_well_forged_manifest_cannot_hide_another_root_from_the_measured_hash() {
    let other = composed(&recipe_text().replace("lib/libx.so.1\"\npinned", "lib/z\"\npinned"));
    let other = other.unwrap();
    let swapped = Image { root: other.root.clone(), verity: other.verity, ..good() };
    assert!(matches!(fault(&forged(swapped)), Fault::Content { part: "root", .. }));
    let longer = [good().root.unwrap(), vec![0; 4096]].concat();
    let verity = verity::build(&longer).unwrap().bytes;
    let longer = Image { root: Some(longer), verity: Some(verity), ..good() };
    assert!(matches!(fault(&forged(longer)), Fault::Content { part: "root", .. }));
    // A claim about the root that is not true, and one about its hash.
    for change in [
        (|info| info.members[1].mode = "0755".to_owned()) as fn(&mut RootInfo),
        |info| info.hash = no_digest(),
        |info| drop(info.members.pop()),
    ] {
        let mut image = good();
        let mut info = ImageManifest::parse(&image.manifest).unwrap().image().clone();
        change(info.root.as_mut().unwrap());
        image.manifest = ImageManifest::new(info).unwrap().to_bytes().unwrap();
        assert_eq!(fault(&image).part(), "manifest");
    }
}

#[test]
fn a_root_is_there_in_whole_or_not_at_all() {
    let missing = |part, file| Fault::Missing { part, file };
    assert_eq!(fault(&Image { root: None, ..good() }), missing("root", "rootfs.erofs"));
    assert_eq!(fault(&Image { verity: None, ..good() }), missing("verity", "rootfs.verity"));
    let none = Image { root: None, verity: None, ..good() };
    assert!(matches!(fault(&forged(none)), Fault::Content { part: "root", .. }));
    // A root beside an image that has none.
    let plain = support::image(ImagePlatform::InsecureSim, false);
    let added = Image { root: good().root, verity: good().verity, ..plain };
    assert!(matches!(fault(&added), Fault::Content { part: "root", .. }));
    assert!(matches!(fault(&forged(added)), Fault::Content { part: "root", .. }));
}

#[test]
fn an_image_with_a_root_survives_its_directory_and_replaces_one_without() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("image");
    let plain = support::image(ImagePlatform::InsecureSim, false);
    directory::write(&plain, &out, Existing::Refuse).unwrap();
    directory::write(&good(), &out, Existing::Replace).unwrap();
    assert_eq!(directory::read(&out).unwrap(), good());
    directory::write(&plain, &out, Existing::Replace).unwrap();
    assert_eq!(directory::read(&out).unwrap(), plain, "the root of the last image is left");
}

#[test]
fn compare_names_the_file_of_the_root() {
    let text = recipe_text();
    let other =
        composed(&text.replace("target = \"libx.so.1\"", "target = \"libx.so.2\"")).unwrap();
    let differences = compare(&good(), &other);
    let parts: Vec<&str> = differences.iter().map(|d| d.part).collect();
    assert_eq!(parts, ["initrd", "root", "verity", "manifest"]);
    assert_eq!(differences[0].member.as_deref(), Some("chrysalis/image.toml"));
    assert_eq!(differences[1].member.as_deref(), Some("lib/libx.so"));
    assert_eq!(differences[1].offset, Some(8));
    let plain = support::image(ImagePlatform::InsecureSim, false);
    let against_none = compare(&good(), &plain);
    assert!(against_none.iter().any(|d| d.part == "root" && d.b == "the end"));
}

#[test]
fn refuses_roots_that_name_no_file_no_place_or_no_module() {
    let parse = |from: &str, to: &str| {
        let text = recipe_text().replace(from, to);
        assert_ne!(text, recipe_text());
        composed(&text).map(drop).unwrap_err()
    };
    let hash = format!("sha256 = \"{}\"", sha256(LOCAL));
    for (from, to) in [
        ("local = \"tool\"\n", ""),
        (hash.as_str(), ""),
        ("local = \"tool\"", "local = \"../tool\""),
        ("local = \"tool\"", "pinned = \"x\"\nlocal = \"tool\""),
    ] {
        let refused = parse(from, to);
        assert!(matches!(refused, ImageError::Field { field: "root.file", .. }), "{refused}");
    }
    let climbs = parse("path = \"bin/tool\"", "path = \"../tool\"");
    assert!(matches!(climbs, ImageError::Root(_)), "{climbs}");
    let twice = parse("path = \"bin/tool\"", "path = \"lib/libx.so\"");
    assert!(matches!(twice, ImageError::Root(_)), "{twice}");
    let unknown = parse("executable = true", "executable = true\nset_uid = true");
    assert!(matches!(unknown, ImageError::Malformed { .. }), "{unknown}");
    // Pinned, but as something else; and not pinned at all.
    for path in [format!("usr/lib/modules/{RELEASE}/vmlinuz"), "usr/lib/libz.so".to_owned()] {
        let refused = parse("usr/lib/libx.so.1.2", &path);
        assert_eq!(refused, ImageError::NoRootFile { path });
    }
    let module = parse("[[module]]\nname = \"erofs\"\n", "");
    assert!(matches!(module, ImageError::Config(_)), "{module}");
    let unfetched = parse(&hash, &format!("sha256 = \"{}\"", no_digest()));
    assert!(matches!(unfetched, ImageError::NoInput { .. }), "{unfetched}");
}

#[test]
fn a_local_file_is_found_by_name_and_accepted_by_hash() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let places = [one.path().to_path_buf(), two.path().to_path_buf()];
    let wanted = LocalFile { name: "tool", sha256: sha256(LOCAL) };
    std::fs::write(one.path().join("tool"), b"another").unwrap();
    let Err(ImageError::NoInput { tried, .. }) = find_local(&places, wanted) else { panic!() };
    let outcomes: Vec<Outcome> = tried.into_iter().map(|t| t.outcome).collect();
    assert_eq!(outcomes, [Outcome::Hash { got: sha256(b"another") }, Outcome::NotThere]);
    std::fs::write(two.path().join("tool"), LOCAL).unwrap();
    assert_eq!(find_local(&places, wanted).unwrap(), LOCAL);
}

#[test]
fn the_limit_of_a_root_is_the_guests() {
    assert_eq!(crate::erofs::MAX_FS_BYTES, MAX_ROOT_BYTES);
    const { assert!(verity::MAX_DATA_BYTES >= MAX_ROOT_BYTES) };
}
