//! `chrysalis image`: builds, verifies and compares confidential VM images. Everything an image
//! depends on is named on the command line or pinned in a lock file; `chrysalis-image` decides
//! what is accepted.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use chrysalis_image::binary::MAX_PROGRAM_BYTES;
use chrysalis_image::compose::{Image, Inputs};
use chrysalis_image::lock::MAX_LOCK_BYTES;
use chrysalis_image::recipe::MAX_RECIPE_BYTES;
use chrysalis_image::root::{self, RootRecipe};
use chrysalis_image::store::Snapshot;
use chrysalis_image::update::propose;
use chrysalis_image::verity;
use chrysalis_image::{
    Difference, Existing, ImageError, ImageInfo, ImageManifest, Lock, Package, PackageList,
    Programs, Recipe, Store, compare, compose, directory, verify,
};
use chrysalis_wire::{Digest, ImagePlatform};
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use crate::context::Context;
use crate::exit::{Class, Failure};
use crate::files;
use crate::progress::bytes;
use crate::report::Text;

/// What to do with an image.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Write an image from pinned packages and two static programs.
    Build(Box<Build>),
    /// Fetch every pinned package and check every pinned file; propose newer pins.
    Lock(LockArguments),
    /// Recompute everything an image claims and name the first part that is wrong.
    Verify {
        /// The image directory.
        dir: PathBuf,
        /// The id it must have. Without it a whole image may still be another one.
        #[arg(long, value_name = "HEX")]
        id: Option<String>,
    },
    /// Say what an image claims to be, without checking it.
    Inspect {
        /// The image directory.
        dir: PathBuf,
    },
    /// Write the dm-verity hash tree of a read-only file system, or check it against a root hash.
    Verity {
        /// The file system, in whole blocks of 4096 bytes.
        data: PathBuf,
        /// The hash tree.
        #[arg(long, value_name = "FILE")]
        tree: PathBuf,
        /// Check data and tree against this root hash and write nothing.
        #[arg(long, value_name = "HEX")]
        root: Option<String>,
    },
    /// Say where two images differ, down to the file in the initrd and the offset.
    Compare {
        /// One image directory.
        a: PathBuf,
        /// Another image directory.
        b: PathBuf,
    },
}

/// `image build`.
#[derive(Debug, Args)]
pub(crate) struct Build {
    #[command(flatten)]
    source: Source,
    /// PID 1, a static program.
    #[arg(long, value_name = "FILE")]
    init: PathBuf,
    /// The worker, a static program.
    #[arg(long, value_name = "FILE")]
    worker: PathBuf,
    /// What the image runs on.
    #[arg(long, value_enum)]
    platform: Platform,
    /// The image directory to write.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// A debug image: another measurement, and it says so everywhere.
    #[arg(long)]
    debug: bool,
    /// Replace the image if it is there.
    #[arg(long)]
    replace: bool,
}

/// `image lock`.
#[derive(Debug, Args)]
pub(crate) struct LockArguments {
    #[command(flatten)]
    source: Source,
    /// Copy the packages into this directory: all that is needed to build without a network.
    #[arg(long, value_name = "DIR", conflicts_with = "update")]
    copy_to: Option<PathBuf>,
    /// Propose the newest packages of the machine's mirror, and show what would change.
    #[arg(long, conflicts_with = "offline")]
    update: bool,
    /// Write the proposal to the lock file.
    #[arg(long, requires = "update")]
    write: bool,
}

/// What an image is made of, and where packages are looked for.
#[derive(Debug, Args)]
pub(crate) struct Source {
    /// What the image is.
    #[arg(long, value_name = "FILE", default_value = "images/cpu.toml")]
    recipe: PathBuf,
    /// The pinned packages; by default the file beside the recipe, with `.lock` in its name.
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
    /// A directory of packages; by default those of CHRYSALIS_INPUTS, else `../shared/inputs`
    /// beside the tree of the recipe.
    #[arg(long, value_name = "DIR")]
    inputs: Vec<PathBuf>,
    /// An archive of packages to ask last: the URL above its `pool/`. By default that of
    /// CHRYSALIS_SNAPSHOT, if it is set.
    #[arg(long, value_name = "URL")]
    snapshot: Option<Snapshot>,
    /// Ask neither the machine's mirror nor anything else on the network.
    #[arg(long, conflicts_with = "snapshot")]
    offline: bool,
}

/// The platforms by name.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Platform {
    /// An Intel TDX trust domain.
    Tdx,
    /// Any virtual machine, with simulated evidence: it protects nothing.
    InsecureSim,
}

impl From<Platform> for ImagePlatform {
    fn from(platform: Platform) -> Self {
        match platform {
            Platform::Tdx => Self::Tdx,
            Platform::InsecureSim => Self::InsecureSim,
        }
    }
}

pub(crate) fn run(command: &ImageCommand, context: &Context) -> Result<ExitCode, Failure> {
    match command {
        ImageCommand::Build(arguments) => build(arguments, context)?,
        ImageCommand::Lock(arguments) if arguments.update => update(arguments, context)?,
        ImageCommand::Lock(arguments) => lock(arguments, context)?,
        ImageCommand::Verity { data, tree, root } => verity(data, tree, root.as_deref(), context)?,
        ImageCommand::Verify { dir, id } => verify_image(dir, id.as_deref(), context)?,
        ImageCommand::Inspect { dir } => inspect(dir, context)?,
        ImageCommand::Compare { a, b } => return compare_images(a, b, context),
    }
    Ok(ExitCode::SUCCESS)
}

fn build(arguments: &Build, context: &Context) -> Result<(), Failure> {
    let source = &arguments.source;
    let recipe = Recipe::parse(&files::read(&source.recipe, MAX_RECIPE_BYTES)?)?;
    let lock = Lock::parse(&files::read(&source.lock_path(), MAX_LOCK_BYTES)?)?;
    let programs = Programs {
        init: files::read(&arguments.init, MAX_PROGRAM_BYTES)?,
        worker: files::read(&arguments.worker, MAX_PROGRAM_BYTES)?,
    };
    let mut inputs = collect(source, &lock, context)?;
    for local in recipe.root.iter().flat_map(RootRecipe::local_files) {
        inputs.add(root::find_local(&source.store()?.directories, local)?);
    }
    context.report.note("composing the image");
    let platform = arguments.platform.into();
    let image = compose(&recipe, &lock, &inputs, &programs, platform, arguments.debug)?;
    // What is written is what `image verify` accepts, or nothing is written.
    let verified = verify(&image, None)?;
    let existing = if arguments.replace { Existing::Replace } else { Existing::Refuse };
    directory::write(&image, &arguments.out, existing)?;
    let shown = Shown::new(&arguments.out, verified.id(), verified.image());
    context.report.result("chrysalis/image-built/v1", &shown, |out| {
        shown.text(out)?;
        out.line("Next: `chrysalis image verify` checks it anywhere; build it twice and compare.")
    })
}

fn lock(arguments: &LockArguments, context: &Context) -> Result<(), Failure> {
    let list = PackageList::parse(&files::read(&arguments.source.lock_path(), MAX_LOCK_BYTES)?)?;
    if !list.is_of_a_tool() {
        collect(&arguments.source, &list.clone().try_into()?, context)?;
    } else if arguments.copy_to.is_none() {
        fetch(&arguments.source, &list, context, |_, _| Ok(()))?;
    }
    if let Some(directory) = &arguments.copy_to {
        std::fs::create_dir_all(directory).map_err(|e| Failure::file("create", directory, &e))?;
        fetch(&arguments.source, &list, context, |package, bytes| {
            let [name, _] = package.file_names();
            files::write(&directory.join(name), bytes, files::Existing::Replace)
        })?;
    }
    let packages = list.packages().len();
    let files: usize = list.packages().iter().map(|package| package.files.len()).sum();
    let shown = serde_json::json!({ "packages": packages, "files": files });
    context.report.result("chrysalis/image-lock/v1", &shown, |out| {
        for package in list.packages() {
            let role = package
                .files
                .first()
                .map_or_else(|| "tool".to_owned(), |file| file.role.to_string());
            out.check("PASS", &role, &package.label(), &package.sha256.to_string())?;
        }
        out.verdict(
            true,
            &match files {
                0 => format!("{packages} packages are the pinned ones"),
                _ => format!("{files} files of {packages} packages are the pinned ones"),
            },
        )
    })
}

/// Fetches every package of a list and hands each to `take`.
fn fetch(
    source: &Source,
    list: &PackageList,
    context: &Context,
    mut take: impl FnMut(&Package, &[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let store = source.store()?;
    for package in list.packages() {
        let mut note = |step: chrysalis_image::Step| {
            context.report.note(&format!("{}: from {}", step.package, step.source));
        };
        take(package, &store.fetch(package, &mut note)?)?;
    }
    Ok(())
}

fn update(arguments: &LockArguments, context: &Context) -> Result<(), Failure> {
    let path = arguments.source.lock_path();
    let lock = Lock::parse(&files::read(&path, MAX_LOCK_BYTES)?)?;
    context.report.note("asking the mirror for the indices of each suite");
    let mut note = |step: chrysalis_image::Step| {
        context.report.note(&format!("{}: from {}", step.package, step.source));
    };
    let proposal = propose(&lock, &arguments.source.store()?, &mut note)?;
    if arguments.write && !proposal.changes.is_empty() {
        let text = proposal.lock.to_toml()?;
        files::write(&path, text.as_bytes(), files::Existing::Replace)?;
    }
    let changes = proposal.changes.iter();
    let list: Vec<_> = changes
        .map(|c| serde_json::json!({ "what": c.what, "from": c.from, "to": c.to }))
        .collect();
    let shown = serde_json::json!({ "changes": list, "written": arguments.write });
    context.report.result("chrysalis/image-update/v1", &shown, |out| {
        for change in &proposal.changes {
            out.line(&change.what)?;
            out.line(format_args!("  - {}", change.from))?;
            out.line(format_args!("  + {}", change.to))?;
        }
        out.line(match (proposal.changes.is_empty(), arguments.write) {
            (true, _) => "The mirror has nothing newer than the pins.",
            (false, true) => "Written. Each changed file is another measurement.",
            (false, false) => "Nothing is written; --write pins this.",
        })
    })
}

fn verity(data: &Path, tree: &Path, root: Option<&str>, context: &Context) -> Result<(), Failure> {
    let bytes = files::read(data, MAX_ROOT_FS_BYTES)?;
    let root =
        root.map(str::parse::<Digest>).transpose().map_err(|e| Failure::hex("--root", &e))?;
    let built = match root {
        Some(root) => {
            let stored = files::read(tree, MAX_ROOT_FS_BYTES)?;
            verity::check(&bytes, &stored, root).map_err(ImageError::from)?
        }
        None => {
            let built = verity::build(&bytes).map_err(ImageError::from)?;
            files::write(tree, &built.bytes, files::Existing::Refuse)?;
            built
        }
    };
    let shown = serde_json::json!({ "root": built.root, "data_blocks": built.data_blocks });
    context.report.result("chrysalis/image-verity/v1", &shown, |out| {
        out.field("root hash", built.root)?;
        out.field("data blocks", built.data_blocks)
    })
}

/// Fetches every package of the lock and takes the pinned files out of it.
fn collect(source: &Source, lock: &Lock, context: &Context) -> Result<Inputs, Failure> {
    let store = source.store()?;
    let mut note = |step: chrysalis_image::Step| {
        context.report.note(&format!("{}: from {}", step.package, step.source));
    };
    Ok(Inputs::collect(lock, |package| store.fetch(package, &mut note))?)
}

fn verify_image(dir: &Path, id: Option<&str>, context: &Context) -> Result<(), Failure> {
    let id = id.map(str::parse::<Digest>).transpose().map_err(|e| Failure::hex("--id", &e))?;
    let image = directory::read(dir)?;
    let verified = verify(&image, id)?;
    let shown = Shown::new(dir, verified.id(), verified.image());
    context.report.result("chrysalis/image-verified/v1", &shown, |out| {
        shown.text(out)?;
        let title = "it is the image you gave the id of";
        match id {
            Some(id) => out.check("PASS", "id", title, &id.to_string())?,
            None => {
                let detail = format!("{}; give --id to be sure which image it is", verified.id());
                out.check("SKIP", "id", title, &detail)?;
            }
        }
        out.verdict(true, &format!("INTACT  {}", verified.id()))
    })
}

fn inspect(dir: &Path, context: &Context) -> Result<(), Failure> {
    let image = directory::read(dir)?;
    let manifest = ImageManifest::parse(&image.manifest)?;
    let shown = Shown::new(dir, manifest.id(), manifest.image());
    context.report.result("chrysalis/image/v1", &shown, |out| {
        out.line("These are claims; `chrysalis image verify` checks them.")?;
        shown.text(out)?;
        out.field("command line", String::from_utf8_lossy(&image.cmdline))?;
        for member in &shown.image.members {
            let (mode, kind, path) = (&member.mode, &member.kind, &member.path);
            let size = bytes(member.size);
            out.line(format_args!("  {mode} {kind:<9} {size:>12}  {path}"))?;
        }
        Ok(())
    })
}

fn compare_images(a: &Path, b: &Path, context: &Context) -> Result<ExitCode, Failure> {
    let read = |dir: &Path| -> Result<Image, Failure> { Ok(directory::read(dir)?) };
    let differences = compare(&read(a)?, &read(b)?);
    let shown = Compared::new(&differences);
    context.report.result("chrysalis/image-compared/v1", &shown, |out| {
        for difference in &differences {
            out.line(difference)?;
        }
        let verdict = if shown.identical { "IDENTICAL" } else { "DIFFERENT" };
        out.verdict(shown.identical, verdict)
    })?;
    Ok(if shown.identical { ExitCode::SUCCESS } else { Class::Refused.into() })
}

impl Source {
    /// `images/cpu.lock.toml` for `images/cpu.toml`.
    fn lock_path(&self) -> PathBuf {
        self.lock.clone().unwrap_or_else(|| self.recipe.with_extension("lock.toml"))
    }

    fn store(&self) -> Result<Store, Failure> {
        let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty());
        let beside =
            || self.recipe.parent().unwrap_or_else(|| Path::new("")).join("../../shared/inputs");
        let directories = if self.inputs.is_empty() {
            var("CHRYSALIS_INPUTS")
                .map_or_else(|| vec![beside()], |list| std::env::split_paths(&list).collect())
        } else {
            self.inputs.clone()
        };
        let cache = var("CHRYSALIS_CACHE")
            .map(PathBuf::from)
            .or_else(|| var("XDG_CACHE_HOME").map(|dir| PathBuf::from(dir).join("chrysalis")))
            .or_else(|| var("HOME").map(|dir| PathBuf::from(dir).join(".cache/chrysalis")))
            .ok_or_else(|| {
                let message = "there is no home directory to keep a cache in";
                Failure::new(Class::Usage, "E-NO-CACHE", message).next("set CHRYSALIS_CACHE")
            })?;
        let mirror = !self.offline;
        let named = || var("CHRYSALIS_SNAPSHOT").filter(|_| mirror);
        let snapshot = match (&self.snapshot, named()) {
            (Some(given), _) => Some(given.clone()),
            (None, Some(text)) => Some(text.to_string_lossy().parse().map_err(|reason| {
                Failure::new(Class::Usage, "E-SNAPSHOT", format!("CHRYSALIS_SNAPSHOT: {reason}"))
            })?),
            (None, None) => None,
        };
        Ok(Store { cache, directories, mirror, snapshot })
    }
}

#[derive(Serialize)]
struct Shown<'a> {
    directory: String,
    id: Digest,
    bytes: u64,
    image: &'a ImageInfo,
}

impl<'a> Shown<'a> {
    fn new(dir: &Path, id: Digest, image: &'a ImageInfo) -> Self {
        let bytes = image.parts.named().iter().map(|(_, part)| part.size).sum();
        Self { directory: dir.display().to_string(), id, bytes, image }
    }

    fn text(&self, out: &mut Text) -> std::fmt::Result {
        let image = self.image;
        if image.platform == ImagePlatform::InsecureSim {
            out.warning("INSECURE-SIM  simulated evidence; its host can read everything in it")?;
        }
        if image.debug {
            out.warning("DEBUG  a debug image; no production policy accepts it")?;
        }
        out.field("image", &self.directory)?;
        out.field("id", self.id)?;
        out.field("flavour", format_args!("{} for {}", image.flavour, image.platform))?;
        out.field("kernel", &image.kernel_release)?;
        let (profile, qemu) = (image.firmware_profile, image.qemu_min);
        out.field("firmware profile", format_args!("{profile}, QEMU {qemu} or newer"))?;
        for (name, part) in image.parts.named() {
            out.field(name, format_args!("{}  {}", part.sha256, bytes(part.size)))?;
        }
        out.field("size", bytes(self.bytes))
    }
}

#[derive(Serialize)]
struct Compared {
    identical: bool,
    differences: Vec<Differs>,
}

#[derive(Serialize)]
struct Differs {
    part: &'static str,
    member: Option<String>,
    offset: Option<usize>,
    a: String,
    b: String,
}

impl Compared {
    fn new(differences: &[Difference]) -> Self {
        let list = differences.iter().cloned().map(|d| Differs {
            part: d.part,
            member: d.member,
            offset: d.offset,
            a: d.a,
            b: d.b,
        });
        Self { identical: differences.is_empty(), differences: list.collect() }
    }
}

/// Largest file system or hash tree read, in bytes.
const MAX_ROOT_FS_BYTES: usize = 1 << 30;
