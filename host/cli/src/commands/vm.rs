//! The part of `chrysalis up` that is about virtual machines: which image, which shape, which
//! QEMU. The image is verified against its own manifest before any of it is booted.

use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::process::ExitCode;

use chrysalis_image::{directory, verify};
use chrysalis_loader::vm::argv::{HostSide, arguments, shell_line};
use chrysalis_loader::vm::{
    Accelerator, Choice, GpuAddress, HostPaths, PROBE_TIME, Qemu, QgsAddress, VmImage, VmLaunch,
    VmPlatform, Wanted, choose, config_disk_path,
};
use chrysalis_loader::{Launch, LoaderError};
use chrysalis_measure::tdx::FirmwareProfile;
use chrysalis_shape::{Menu, QemuVersion, Shape};
use chrysalis_wire::{Digest, ImagePlatform};
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::context::Context;
use crate::exit::Failure;

/// The arguments of `up` that are about a VM.
#[derive(Debug, Args)]
pub(crate) struct VmArgs {
    /// Run the worker of this image directory in a VM.
    #[arg(long, value_name = "DIR", requires = "shape")]
    pub(crate) image: Option<PathBuf>,
    /// The id the image must have. Without it a whole image may still be another one.
    #[arg(long, value_name = "HEX", requires = "image")]
    image_id: Option<String>,
    /// The shape of the VM, by its name in `chrysalis shape list`.
    #[arg(long, value_name = "NAME", requires = "image")]
    shape: Option<String>,
    /// QEMU: a program, or a directory where its packages were unpacked. Without it, the one on
    /// the PATH.
    #[arg(long, value_name = "PATH", requires = "image")]
    qemu: Option<PathBuf>,
    /// What runs the vCPUs. `auto` boots a kernel with KVM to see whether it works.
    #[arg(long, value_enum, default_value = "auto", requires = "image")]
    accel: Accel,
    /// PCI address of a GPU for the VM, as 0000:17:00.0; once for each the shape has.
    #[arg(long = "gpu", value_name = "ADDR", requires = "image")]
    gpus: Vec<GpuAddress>,
    /// Where quotes are made: unix:PATH or vsock:CID:PORT.
    #[arg(long, value_name = "ADDR", requires = "image")]
    qgs: Option<QgsAddress>,
    /// Print the command that would be run, and run nothing.
    #[arg(long, requires = "image")]
    pub(crate) print_only: bool,
}

/// Accelerators by name.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Accel {
    /// KVM if a kernel boots with it, else TCG; a trust domain needs KVM.
    Auto,
    /// KVM or nothing.
    Kvm,
    /// Emulation: anywhere, slow, never a trust domain.
    Tcg,
}

impl From<Accel> for Wanted {
    fn from(accel: Accel) -> Self {
        match accel {
            Accel::Auto => Self::Auto,
            Accel::Kvm => Self::Exactly(Accelerator::Kvm),
            Accel::Tcg => Self::Exactly(Accelerator::Tcg),
        }
    }
}

impl VmArgs {
    /// The VM to launch, or `None` if the worker is to be a process.
    pub(crate) fn launch(&self, context: &Context) -> Result<Option<VmLaunch>, Failure> {
        let (Some(dir), Some(name)) = (&self.image, &self.shape) else { return Ok(None) };
        let id = self.image_id.as_deref().map(str::parse::<Digest>).transpose();
        let id = id.map_err(|e| Failure::hex("--image-id", &e))?;
        let menu = Menu::published()?;
        let shape = menu.shape(name)?.clone();
        let verified = verify(&directory::read(dir)?, id)?;
        let (info, config) = (verified.image(), verified.config());
        context.report.note(&format!("image {} is intact", verified.id()));
        let platform = match info.platform {
            ImagePlatform::Tdx => VmPlatform::Tdx,
            ImagePlatform::InsecureSim => VmPlatform::InsecureSim,
        };
        if info.debug {
            context.report.note("DEBUG image: whoever reads its console may read secrets");
        }
        if platform == VmPlatform::InsecureSim {
            context.report.note("INSECURE-SIM image: its host can read everything");
        }
        let path = std::env::var_os("PATH");
        let qemu = Qemu::find(self.qemu.as_deref(), path.as_deref())?;
        fits(&shape, info.firmware_profile, info.qemu_min, &qemu)?;
        if let Err(unknown) = menu.capture(&shape.name, qemu.version()?) {
            context.report.note(&format!("nobody can predict RTMR0 of this VM: {unknown}"));
        }
        let image = VmImage::open(dir, info.debug, config.root.is_some())?;
        let choice = self.accelerator(platform, &qemu, &image)?;
        context.report.note(&format!("accelerator {}: {}", choice.accelerator.name(), choice.why));
        Ok(Some(VmLaunch {
            qemu,
            accelerator: choice.accelerator,
            accelerator_reason: choice.why,
            platform,
            image,
            shape,
            guest: SocketAddrV4::new(config.network.address, config.listen_port),
            gpus: self.gpus.clone(),
            qgs: self.qgs.clone().unwrap_or_default(),
        }))
    }

    fn accelerator(
        &self,
        platform: VmPlatform,
        qemu: &Qemu,
        image: &VmImage,
    ) -> Result<Choice, LoaderError> {
        if self.print_only {
            // Nothing is run, so nothing is probed: an auditor has no such host.
            let accelerator = match (platform, self.accel) {
                (VmPlatform::Tdx, _) | (_, Accel::Kvm) => Accelerator::Kvm,
                _ => Accelerator::Tcg,
            };
            return Ok(Choice { accelerator, why: "not probed, only printed".to_owned() });
        }
        let wanted = self.accel.into();
        choose(wanted, platform, qemu, &image.kernel, &HostPaths::default(), PROBE_TIME)
    }
}

/// Whether an image, a shape and a QEMU go together. What does not would boot, and be refused by
/// everybody who predicted its measurement.
fn fits(
    shape: &Shape,
    profile: FirmwareProfile,
    needed: QemuVersion,
    qemu: &Qemu,
) -> Result<(), Failure> {
    let refuse = |reason: String| {
        let what = format!("launching shape {}", shape.name);
        Failure::from(LoaderError::Unsupported { what, reason })
    };
    if shape.firmware.profile != profile.name() {
        let of_shape = &shape.firmware.profile;
        return Err(refuse(format!(
            "it is of firmware profile {of_shape}, the image has firmware of profile {profile}"
        )));
    }
    let found = qemu.version()?;
    if found < needed {
        return Err(refuse(format!("the image needs QEMU {needed}, this one is {found}")));
    }
    Ok(())
}

/// Prints the command instead of running it.
pub(crate) fn print(
    launch: &Launch,
    vm: &VmLaunch,
    context: &Context,
) -> Result<ExitCode, Failure> {
    let config_disk = config_disk_path(&launch.state);
    // QEMU takes port 0 as "any"; a launch finds a free one first, because the relay must know it.
    let host = HostSide { config_disk: &config_disk, bundle: &launch.bundle, port: 0 };
    let mut all = vm.qemu.prefix.clone();
    all.extend(arguments(vm, &host)?);
    let program = vm.qemu.program.display().to_string();
    let body = Printed {
        insecure_sim: vm.platform == VmPlatform::InsecureSim,
        program: &program,
        arguments: &all,
    };
    context
        .report
        .result("chrysalis/up-command/v1", &body, |out| out.line(shell_line(&program, &all)))?;
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
struct Printed<'a> {
    insecure_sim: bool,
    program: &'a str,
    arguments: &'a [String],
}
