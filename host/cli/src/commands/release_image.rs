//! What `chrysalis release` computes from: an image directory, worker manifests and the files of an
//! enclave. It reads them and hands them to `chrysalis_release`, which believes none.

use std::fs::File;
use std::path::{Path, PathBuf};

use chrysalis_evidence::AllowSim;
use chrysalis_image::directory;
use chrysalis_measure::tdx::BiosIdentity;
use chrysalis_release::{
    Evidence, Ingredients, Label, Recomputed, ReleaseError, SelectedShape, Sgx, ValueStatus,
    Values, Workload,
};
use chrysalis_shape::{Menu, QemuVersion};
use chrysalis_vault::Bundle;
use chrysalis_wire::limits::MAX_MANIFEST_BYTES;
use chrysalis_wire::{ImagePlatform, NetworkId, WorkerManifest};
use clap::Args;

use crate::commands::gramine::{self, Enclave};
use crate::commands::measure_image::Bios;
use crate::context::Context;
use crate::exit::{Class, Failure};
use crate::files;

/// The image, and what no file of it says.
#[derive(Debug, Args)]
pub(crate) struct FromImage {
    /// Compute the values from this image directory (tdvf.fd, vmlinuz, initrd.cpio, cmdline and
    /// manifest.json, which it must match).
    #[arg(long, value_name = "DIR", requires = "release")]
    image: Option<PathBuf>,
    /// Name of the release, such as 0.1.0.
    #[arg(long, value_name = "VERSION", requires = "image")]
    release: Option<String>,
    /// A published shape to run in, under every QEMU version it was captured from; may be repeated.
    #[arg(long, value_name = "NAME", requires = "image")]
    shape: Vec<String>,
    /// Every captured shape of the menu; see `chrysalis shape list`.
    #[arg(long, requires = "image", conflicts_with = "shape")]
    all_shapes: bool,
    /// Only this QEMU version of the shapes.
    #[arg(long, value_name = "VERSION", requires = "shape")]
    qemu: Option<String>,
    /// Commit the image was built from: 40 hexadecimal digits, as `git rev-parse HEAD` prints.
    #[arg(long, value_name = "COMMIT", requires = "image")]
    source: Option<String>,
    /// Rust toolchain that built its programs, such as 1.95.0.
    #[arg(long, value_name = "VERSION", requires = "image")]
    toolchain: Option<String>,
}

/// What belongs to a release beside its image.
#[derive(Debug, Args)]
pub(crate) struct Beside {
    #[command(flatten)]
    pub(crate) workloads: Workloads,
    #[command(flatten)]
    bios: Bios,
    /// Final manifest (.manifest.sgx) of the enclave of the release.
    #[arg(long, value_name = "FILE", requires_all = ["libpal", "sigstruct"])]
    gramine_manifest: Option<PathBuf>,
    /// sgx/libpal.so of the Gramine release that runs the enclave.
    #[arg(long, value_name = "FILE", requires = "gramine_manifest")]
    libpal: Option<PathBuf>,
    /// The enclave's signature (.sig), which says who signed it.
    #[arg(long, value_name = "FILE", requires = "gramine_manifest")]
    sigstruct: Option<PathBuf>,
    /// Accept an image or a release for simulation; its values prove nothing.
    #[arg(long)]
    insecure_sim: bool,
}

/// Worker manifests.
#[derive(Debug, Args)]
pub(crate) struct Workloads {
    /// Worker manifest to vouch for; may be repeated. It is called after its model unless NAME= is
    /// put before it. An image serves any manifest, so a release needs none.
    #[arg(long, value_name = "[NAME=]FILE")]
    workload: Vec<String>,
    /// Model bundle of one of the manifests: it must have the content root the manifest names, and
    /// every chunk of it is checked unless it is sealed.
    #[arg(long, value_name = "FILE", requires = "workload")]
    bundle: Vec<PathBuf>,
}

impl FromImage {
    /// Computes the values, if an image was given.
    pub(crate) fn values(
        &self,
        beside: &Beside,
        context: &Context,
    ) -> Result<Option<Values>, Failure> {
        let (Some(dir), Some(release)) = (&self.image, &self.release) else { return Ok(None) };
        let menu = Menu::published()?;
        let (shapes, left_out) = self.shapes(&menu)?;
        if !left_out.is_empty() {
            let names = left_out.join(", ");
            context.report.note(&format!("left out, because no QEMU was captured: {names}"));
        }
        let label = Label {
            release: release.clone(),
            source: self.source.as_deref().map(str::parse).transpose()?,
            toolchain: self.toolchain.clone(),
        };
        let (image, bios) = (directory::read(dir)?, beside.bios()?);
        let ingredients = Ingredients {
            image: &image,
            bios: bios.as_ref(),
            shapes: &shapes,
            workloads: &beside.workloads.read()?,
            sgx: beside.enclave()?,
        };
        Ok(Some(Values::of_image(&label, &ingredients, beside.sim())?))
    }

    fn shapes(&self, menu: &Menu) -> Result<(Vec<SelectedShape>, Vec<String>), Failure> {
        if self.all_shapes {
            return Ok(SelectedShape::all(menu));
        }
        if self.shape.is_empty() {
            let message = "no shape is given, so there is no RTMR0";
            return Err(Failure::new(Class::Usage, "E-USAGE", message)
                .next("add --shape NAME or --all-shapes; `chrysalis shape list` shows the menu"));
        }
        let qemu: Option<QemuVersion> = self.qemu.as_deref().map(str::parse).transpose()?;
        let mut shapes = Vec::new();
        for name in &self.shape {
            shapes.extend(SelectedShape::named(menu, name, qemu)?);
        }
        Ok((shapes, Vec::new()))
    }
}

impl Beside {
    /// Computes the values of a release again from an image directory.
    pub(crate) fn recompute(&self, values: &Values, image: &Path) -> Result<Recomputed, Failure> {
        let (image, bios) = (directory::read(image)?, self.bios()?);
        let evidence = Evidence {
            image: &image,
            bios: bios.as_ref(),
            workloads: &self.workloads.read()?,
            sgx: self.enclave()?,
        };
        Ok(values.recompute(&Menu::published()?, &evidence, self.sim())?)
    }

    /// Refuses what only an image makes sense with, where none was given.
    pub(crate) fn without_image(&self) -> Result<(), Failure> {
        let none = self.workloads.workload.is_empty() && self.gramine_manifest.is_none();
        if none && !self.bios.is_given() {
            return Ok(());
        }
        let message = "manifests, enclaves and firmware names are used together with an image";
        Err(Failure::new(Class::Usage, "E-USAGE", message).next("add --image DIR"))
    }

    /// A release for simulation is accepted only where that was asked for.
    pub(crate) fn allows(&self, values: &Values) -> Result<(), Failure> {
        if values.platform == ImagePlatform::InsecureSim && !self.insecure_sim {
            return Err(ReleaseError::Simulated.into());
        }
        Ok(())
    }

    const fn sim(&self) -> AllowSim {
        if self.insecure_sim { AllowSim::Yes } else { AllowSim::No }
    }

    fn bios(&self) -> Result<Option<BiosIdentity>, Failure> {
        if self.bios.is_given() { self.bios.identity(None).map(Some) } else { Ok(None) }
    }

    /// The enclave as it measures and as its signature says.
    fn enclave(&self) -> Result<Option<Sgx>, Failure> {
        let (Some(manifest), Some(libpal), Some(sigstruct)) =
            (&self.gramine_manifest, &self.libpal, &self.sigstruct)
        else {
            return Ok(None);
        };
        let enclave = Enclave::of(manifest.clone(), libpal.clone());
        let (manifest, measured, _) = enclave.measure()?;
        if manifest.attributes.debug() {
            let message = "the host can read the memory of this enclave: its manifest says debug";
            return Err(Failure::new(Class::Refused, "E-RELEASE-DEBUG", message)
                .next("set sgx.debug = false and sign it again"));
        }
        let signed = gramine::judge(sigstruct, &manifest, &measured)?;
        Ok(Some(Sgx {
            mrenclave: measured.mrenclave,
            mrsigner: signed.mrsigner(),
            isv_prod_id: manifest.isv_prod_id,
            isv_svn: manifest.isv_svn,
            // With Gramine's own signer; no SGX hardware has confirmed it.
            status: ValueStatus::CrossChecked,
        }))
    }
}

impl Workloads {
    /// The workloads given.
    pub(crate) fn read(&self) -> Result<Vec<Workload>, Failure> {
        self.each(|_| Ok(()))
    }

    /// The workloads given, all for `network`.
    pub(crate) fn read_for(&self, network: NetworkId) -> Result<Vec<Workload>, Failure> {
        self.each(|manifest| {
            if manifest.network == network {
                return Ok(());
            }
            let message = "the worker manifest is for another network than the pins";
            Err(Failure::new(Class::Refused, "E-RELEASE-NETWORK", message)
                .compared(network, manifest.network)
                .next("give the manifest of the worker you mean, or its network with --network"))
        })
    }

    fn each(
        &self,
        check: impl Fn(&WorkerManifest) -> Result<(), Failure>,
    ) -> Result<Vec<Workload>, Failure> {
        let mut workloads = Vec::new();
        for given in &self.workload {
            let (name, path) = match given.split_once('=') {
                Some((name, path)) => (Some(name), Path::new(path)),
                None => (None, Path::new(given)),
            };
            let bytes = files::read(path, MAX_MANIFEST_BYTES)?;
            let manifest = WorkerManifest::parse(&bytes).map_err(Failure::from);
            check(&manifest.map_err(|e| e.in_file(path))?)?;
            let workload = Workload::of(&bytes, name).map_err(Failure::from);
            workloads.push(workload.map_err(|e| e.in_file(path))?);
        }
        for path in &self.bundle {
            check_bundle(path, &workloads)?;
        }
        Ok(workloads)
    }
}

/// A bundle that no manifest names would be vouched for by mistake.
fn check_bundle(path: &Path, workloads: &[Workload]) -> Result<(), Failure> {
    let file = File::open(path).map_err(|e| Failure::file("open", path, &e))?;
    let bundle = Bundle::open(file).map_err(|e| Failure::from(e).in_file(path))?;
    let root = bundle.root();
    if !workloads.iter().any(|w| w.model_root == root) {
        let named: Vec<_> = workloads.iter().map(|w| w.model_root.to_string()).collect();
        let message = "no manifest given names this model";
        return Err(Failure::new(Class::Refused, "E-MODEL-ROOT", message)
            .in_file(path)
            .compared(named.join(" or "), root)
            .next("give the bundle the manifest was written for, or write the manifest again"));
    }
    if bundle.is_sealed() {
        return Ok(());
    }
    let whole = bundle.verify(Some(&root), None, &|_, _| ());
    whole.and_then(|r| r.into_result()).map_err(|e| Failure::from(e).in_file(path))
}
