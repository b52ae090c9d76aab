//! `chrysalis measure image`: the registers a VM image will have in a shape. It reads files and
//! computes; the work is `chrysalis_measure::tdx`.

use std::fs::File;
use std::path::{Path, PathBuf};

use chrysalis_image::compose::{
    self as image, CMDLINE_FILE, FIRMWARE_FILE, INITRD_FILE, KERNEL_FILE, MANIFEST_FILE,
};
use chrysalis_image::{directory, verify};
use chrysalis_measure::tdx::{
    AcpiBlobs, BiosIdentity, Content, FirmwareProfile, FwCfg, Image as Parts,
    MAX_COMMAND_LINE_BYTES, MAX_FIRMWARE_BYTES, MAX_INITRD_BYTES, MAX_KERNEL_BYTES,
    MAX_LOADER_BYTES, MAX_SMBIOS_BYTES, MAX_TABLES_BYTES, MeasuredImage, MemorySize, PageOrder,
    Shape, ShapeTables, SmbiosTable, TdxPrediction, tdx_pins,
};
use chrysalis_measure::{MeasureError, TdIdentity, cocoon_tdx_image_hash};
use chrysalis_shape::{Capture, MAX_CAPTURE_BYTES, MAX_SHAPE_BYTES, Menu, QemuVersion, ShapeError};
use chrysalis_vault::Bundle;
use chrysalis_wire::limits::MAX_MANIFEST_BYTES;
use chrysalis_wire::{ImagePlatform, WorkerManifest};
use clap::Args;

use crate::context::Context;
use crate::exit::{Class, Failure};
use crate::files::{self, Existing};
use crate::report::Text;

/// `measure image`.
#[derive(Debug, Args)]
pub(crate) struct Image {
    /// Image directory: tdvf.fd, vmlinuz, initrd.cpio, cmdline.
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) with: With,
    /// Write a pins file that accepts exactly this worker.
    #[arg(long, value_name = "FILE", requires = "platform")]
    pins_out: Option<PathBuf>,
    /// The [platform] table for the pins: what no image decides. See manifests/pins.example.toml.
    #[arg(long, value_name = "FILE", requires = "pins_out")]
    platform: Option<PathBuf>,
    /// Name of the pin.
    #[arg(long, default_value = "vm image")]
    name: String,
}

/// What a prediction needs besides the image directory.
#[derive(Debug, Args)]
pub(crate) struct With {
    /// The worker's measured manifest.
    #[arg(long, value_name = "FILE")]
    pub(crate) manifest: Option<PathBuf>,
    /// The model bundle the worker will be given; its content root must be the one the manifest
    /// names.
    #[arg(long, value_name = "FILE")]
    pub(crate) bundle: Option<PathBuf>,
    /// Shape of the VM: a published name, or a shape file together with --capture.
    #[arg(long, value_name = "NAME|FILE", conflicts_with_all = ["acpi", "memory", "vcpus"])]
    pub(crate) shape: Option<String>,
    /// QEMU version of the host; without it the only one the shape has tables for.
    #[arg(long, value_name = "VERSION")]
    pub(crate) qemu: Option<String>,
    /// Captured tables of a shape file.
    #[arg(long, value_name = "FILE", requires = "shape")]
    capture: Option<PathBuf>,
    /// Guest memory in MiB, for a shape of your own.
    #[arg(long, value_name = "MIB", requires = "acpi")]
    memory: Option<u64>,
    /// vCPUs, for a shape of your own.
    #[arg(long, value_name = "N", requires = "acpi")]
    vcpus: Option<u32>,
    /// Directory with table-loader.bin, rsdp.bin, tables.bin and smbios.bin as QEMU gives them to
    /// the firmware, for a shape of your own.
    #[arg(long, value_name = "DIR", requires = "memory", requires = "vcpus")]
    acpi: Option<PathBuf>,
    /// Firmware profile: pre202505, 202505, 202508 or 202605; without it the shape's.
    #[arg(long, value_name = "PROFILE")]
    profile: Option<String>,
    #[command(flatten)]
    bios: Bios,
    /// The TDVF file, in place of the directory's.
    #[arg(long, value_name = "FILE")]
    firmware: Option<PathBuf>,
    /// The kernel, in place of the directory's.
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// The initrd, in place of the directory's.
    #[arg(long, value_name = "FILE")]
    initrd: Option<PathBuf>,
    /// A file with the exact bytes of the command line, in place of the directory's.
    #[arg(long, value_name = "FILE")]
    cmdline: Option<PathBuf>,
    /// Predict for hosts of the QEMU 8 era, which measure pages in another order.
    #[arg(long)]
    legacy_host: bool,
}

/// The names a firmware puts into SMBIOS, which is measured.
#[derive(Debug, Args)]
pub(crate) struct Bios {
    /// Vendor, version and date the firmware puts into SMBIOS; known for Debian's firmware.
    #[arg(long, num_args = 3, value_names = ["VENDOR", "VERSION", "DATE"])]
    bios: Option<Vec<String>>,
}

impl Bios {
    /// Whether names were given.
    pub(crate) const fn is_given(&self) -> bool {
        self.bios.is_some()
    }

    /// The names given, else the `known` ones.
    pub(crate) fn identity(&self, known: Option<BiosIdentity>) -> Result<BiosIdentity, Failure> {
        if let Some([vendor, version, date]) = self.bios.as_deref() {
            return Ok([vendor, version, date].map(Clone::clone).into());
        }
        known.ok_or_else(|| {
            let message = "the names this firmware puts into SMBIOS are not known";
            Failure::new(Class::Usage, "E-BIOS", message)
                .next("give --bios VENDOR VERSION DATE, as dmidecode -t 0 shows them in a guest")
        })
    }
}

pub(crate) fn run(arguments: &Image, context: &Context) -> Result<(), Failure> {
    let Predicted { prediction, simulated } =
        arguments.with.predict(arguments.dir.as_deref(), arguments.with.workload())?;
    if simulated {
        context.report.note(
            "INSECURE-SIM image: its worker reports simulated registers, never these; see \
             `chrysalis measure worker`",
        );
    }
    if let (Some(out), Some(platform)) = (&arguments.pins_out, &arguments.platform) {
        let platform = files::read_text(platform, chrysalis_evidence::MAX_PINS_BYTES)?;
        let pins = tdx_pins(&prediction, &arguments.name, &platform)?;
        files::write(out, pins.as_bytes(), Existing::Replace)?;
    }
    if context.report.is_json() {
        return context.report.json(&prediction);
    }
    context.report.text(|out| {
        show(&prediction, out)?;
        if let Some(path) = &arguments.pins_out {
            out.field("pins", path.display())?;
        }
        Ok(())
    })
}

fn show(prediction: &TdxPrediction, out: &mut Text) -> std::fmt::Result {
    let (mrtd, facts) = (&prediction.mrtd, &prediction.facts);
    out.field("mrtd", mrtd.value)?;
    out.line(format!("  {}: {}", mrtd.status, mrtd.evidence))?;
    for (index, register) in prediction.rtmr.iter().enumerate() {
        out.field(&format!("rtmr{index}"), register.value)?;
        for event in &register.events {
            let name = event.component.title();
            out.line(format!("  {name:<28}{:<24}{}", event.status.to_string(), event.detail))?;
        }
    }
    let registers = prediction.registers();
    out.field("manifest sha256", facts.manifest_sha256)?;
    out.field("model root", facts.model_root)?;
    out.field("measurement", registers.digest())?;
    out.field("cocoon image_hash", cocoon_tdx_image_hash(&registers, &TdIdentity::ZERO))?;
    out.field("firmware profile", facts.profile)?;
    out.field(
        "shape",
        format!("{} vCPUs, {} MiB, QEMU {}", facts.vcpus, facts.memory_bytes >> 20, facts.qemu),
    )
}

/// What the worker in an image is given: decides RTMR3.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Workload<'a> {
    pub(crate) manifest: Option<&'a Path>,
    pub(crate) bundle: Option<&'a Path>,
}

impl<'a> Workload<'a> {
    /// Another manifest or bundle in place of this one's. A bundle belongs to its manifest: another
    /// manifest leaves it behind.
    pub(crate) fn or(self, manifest: Option<&'a Path>, bundle: Option<&'a Path>) -> Self {
        let kept = if manifest.is_some() { None } else { self.bundle };
        Self { manifest: manifest.or(self.manifest), bundle: bundle.or(kept) }
    }

    /// The manifest; the bundle, if there is one, must be the model it names.
    pub(crate) fn read(&self) -> Result<Vec<u8>, Failure> {
        let path = self.manifest.ok_or_else(|| missing("--manifest FILE"))?;
        let manifest = files::read(path, MAX_MANIFEST_BYTES)?;
        if let Some(bundle) = self.bundle {
            let root = WorkerManifest::parse(&manifest).map_err(MeasureError::from)?.model.root;
            let file = File::open(bundle).map_err(|e| Failure::file("open", bundle, &e))?;
            let belongs = Bundle::open(file).and_then(|b| b.expect_root(&root));
            belongs.map_err(|e| Failure::from(e).in_file(bundle))?;
        }
        Ok(manifest)
    }
}

/// A prediction, and whether the image is for simulation only.
pub(crate) struct Predicted {
    pub(crate) prediction: TdxPrediction,
    pub(crate) simulated: bool,
}

/// The shape to predict for.
enum Target<'a> {
    /// A directory with tables of the user's own.
    Own(&'a Path),
    /// A shape file and its tables.
    Published(Box<(chrysalis_shape::Shape, Capture)>),
}

impl With {
    /// Predicts the registers of an image; an image directory with a manifest must be what the
    /// manifest says.
    pub(crate) fn predict(
        &self,
        dir: Option<&Path>,
        workload: Workload<'_>,
    ) -> Result<Predicted, Failure> {
        let whole = dir.filter(|d| self.takes_whole() && d.join(MANIFEST_FILE).is_file());
        let (image, info) = match whole {
            Some(dir) => {
                let image = directory::read(dir)?;
                let info = verify(&image, None)?.image().clone();
                (image, Some(info))
            }
            None => (self.parts(dir)?, None),
        };
        let manifest = workload.read()?;
        let target = self.target()?;
        let claimed = info.as_ref().map(|i| i.firmware_profile);
        let given = self.profile.as_deref().map(str::parse).transpose()?.or(claimed);
        let profile = match (given, &target) {
            (Some(profile), _) => profile,
            (None, Target::Published(of)) => of.0.firmware.profile.parse()?,
            (None, Target::Own(_)) => return Err(missing("--profile PROFILE")),
        };
        let page_order =
            if self.legacy_host { PageOrder::LegacyHost } else { PageOrder::SinglePass };
        let measured = MeasuredImage::of(&Parts {
            firmware: &image.firmware,
            profile,
            page_order,
            kernel: Content::Bytes(&image.kernel),
            initrd: Content::Bytes(&image.initrd),
            cmdline: &image.cmdline,
        })?;
        let bios = self.bios.identity(measured.bios());
        let shape = match &target {
            Target::Published(of) => Shape::from_menu(&of.0, &of.1, &bios?)?,
            Target::Own(dir) => {
                // Firmware that does not measure SMBIOS needs no names for it.
                let unnamed = || ["-"; 3].map(str::to_owned).into();
                let measured = profile != FirmwareProfile::Pre202505;
                self.own_shape(dir, &if measured { bios? } else { unnamed() })?
            }
        };
        let simulated = info.is_some_and(|i| i.platform == ImagePlatform::InsecureSim);
        Ok(Predicted { prediction: measured.complete(&shape, &manifest)?, simulated })
    }

    /// What the arguments say about the worker.
    pub(crate) fn workload(&self) -> Workload<'_> {
        Workload { manifest: self.manifest.as_deref(), bundle: self.bundle.as_deref() }
    }

    const fn takes_whole(&self) -> bool {
        let none = self.firmware.is_none() && self.kernel.is_none();
        none && self.initrd.is_none() && self.cmdline.is_none()
    }

    fn parts(&self, dir: Option<&Path>) -> Result<image::Image, Failure> {
        let part = |given: &Option<PathBuf>, name: &str, limit| {
            let path = given.clone().or_else(|| dir.map(|d| d.join(name)));
            let path = path.ok_or_else(|| missing(&format!("the image directory, or a {name}")))?;
            files::read(&path, limit)
        };
        Ok(image::Image {
            firmware: part(&self.firmware, FIRMWARE_FILE, MAX_FIRMWARE_BYTES)?,
            kernel: part(&self.kernel, KERNEL_FILE, MAX_KERNEL_BYTES)?,
            initrd: part(&self.initrd, INITRD_FILE, MAX_INITRD_BYTES)?,
            cmdline: part(&self.cmdline, CMDLINE_FILE, MAX_COMMAND_LINE_BYTES)?,
            root: None,
            verity: None,
            manifest: Vec::new(),
        })
    }

    /// The shape that is asked for, before any firmware completes it.
    fn target(&self) -> Result<Target<'_>, Failure> {
        if let Some(dir) = &self.acpi {
            return Ok(Target::Own(dir));
        }
        let name = self.shape.as_deref().ok_or_else(|| missing("--shape NAME"))?;
        let of = match &self.capture {
            Some(capture) => {
                let shape = files::read(Path::new(name), MAX_SHAPE_BYTES)?;
                let shape = chrysalis_shape::Shape::parse(&shape)?;
                let capture = files::read(capture, MAX_CAPTURE_BYTES)?;
                let capture = Capture::parse(&capture, &shape)?;
                (shape, capture)
            }
            None => self.published(name)?,
        };
        Ok(Target::Published(Box::new(of)))
    }

    fn published(&self, name: &str) -> Result<(chrysalis_shape::Shape, Capture), ShapeError> {
        let menu = Menu::published()?;
        let shape = menu.shape(name)?.clone();
        let captures = menu.captures(name);
        let qemu = match (&self.qemu, captures) {
            (Some(text), _) => text.parse()?,
            (None, [only]) => only.qemu,
            // Refused below, with the versions there are.
            (None, _) => QemuVersion { major: 0, minor: 0, micro: 0 },
        };
        let capture = menu.capture(name, qemu)?.clone();
        Ok((shape, capture))
    }

    fn own_shape(&self, dir: &Path, bios: &BiosIdentity) -> Result<Shape, Failure> {
        let read = |name: &str, limit| files::read(&dir.join(name), limit);
        let acpi = AcpiBlobs::new(
            read("table-loader.bin", MAX_LOADER_BYTES)?,
            read("rsdp.bin", MAX_FILE_OF_RSDP)?,
            read("tables.bin", MAX_TABLES_BYTES)?,
        )?;
        let smbios = SmbiosTable::parse(&read("smbios.bin", MAX_SMBIOS_BYTES)?)?;
        let memory = self.memory.unwrap_or_default().saturating_mul(1 << 20);
        Ok(Shape {
            memory: MemorySize::from_bytes(memory)?,
            vcpus: self.vcpus.unwrap_or_default(),
            qemu: self.qemu.clone().unwrap_or_else(|| "unknown".to_owned()),
            tables: ShapeTables::Blobs { acpi, smbios: smbios.with_bios(bios)? },
            fw_cfg: FwCfg::direct_boot(),
        })
    }
}

fn missing(what: &str) -> Failure {
    Failure::new(Class::Usage, "E-USAGE", format!("{what} is missing"))
        .next("run `chrysalis measure image --help`")
}

/// A root pointer has 20 or 36 bytes.
const MAX_FILE_OF_RSDP: usize = 36;
