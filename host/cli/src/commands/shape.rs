//! `chrysalis shape`: the menu of VM shapes, and captures of what a QEMU gives the firmware.

use std::path::PathBuf;
use std::process::ExitCode;

use chrysalis_loader::vm::{Qemu, capture::capture};
use chrysalis_shape::{Blob, Capture, Menu, Shape, Status};
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::context::Context;
use crate::exit::{Class, Failure};
use crate::files::{self, Existing};
use crate::report::Text;

/// What to do with shapes.
#[derive(Debug, Subcommand)]
pub(crate) enum ShapeCommand {
    /// Show the menu.
    List,
    /// Show one shape and the digests a verifier knows for it.
    Show(Show),
    /// Ask an installed QEMU, without a guest, what it gives the firmware of a shape.
    Capture(CaptureArgs),
}

/// `shape show`.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Name in the menu.
    name: String,
    /// Write the blobs of every capture, whole, into this directory.
    #[arg(long, value_name = "DIR")]
    blobs: Option<PathBuf>,
}

/// `shape capture`.
#[derive(Debug, Args)]
pub(crate) struct CaptureArgs {
    /// Name in the menu.
    #[arg(long)]
    shape: String,
    /// QEMU: a program, or a directory where its packages were unpacked. Without it, the one on
    /// the PATH.
    #[arg(long, value_name = "PATH")]
    qemu: Option<PathBuf>,
    /// Write the capture file.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(crate) fn run(command: &ShapeCommand, context: &Context) -> Result<ExitCode, Failure> {
    match command {
        ShapeCommand::List => list(&Menu::published()?, context)?,
        ShapeCommand::Show(arguments) => show(arguments, &Menu::published()?, context)?,
        ShapeCommand::Capture(arguments) => captured(arguments, context)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn list(menu: &Menu, context: &Context) -> Result<(), Failure> {
    let shapes: Vec<Listed<'_>> = menu.shapes().map(|s| Listed::new(s, menu)).collect();
    let body = serde_json::json!({ "shapes": shapes });
    context.report.result("chrysalis/shapes/v1", &body, |out| {
        for shape in &shapes {
            out.field(shape.name, format_args!("{} ({})", shape.summary, shape.status))?;
        }
        Ok(())
    })
}

fn show(arguments: &Show, menu: &Menu, context: &Context) -> Result<(), Failure> {
    let shape = menu.shape(&arguments.name)?;
    let captures = menu.captures(&shape.name);
    if let Some(dir) = &arguments.blobs {
        for capture in captures {
            for blob in capture.blobs.all() {
                let file = blob.kind().fw_cfg_name().replace('/', "_");
                let path = dir.join(format!("qemu-{}-{file}.bin", capture.qemu));
                files::write(&path, blob.bytes(), Existing::Replace)?;
            }
        }
    }
    let body = Shown {
        shape,
        fingerprint: shape.fingerprint(),
        captures: captures.iter().map(CaptureBody::new).collect(),
    };
    context.report.result("chrysalis/shape/v1", &body, |out| {
        out.field("shape", &shape.name)?;
        out.field("summary", &shape.summary)?;
        out.field("status", shape.status.text())?;
        let machine = &shape.machine;
        out.field("machine", &machine.model)?;
        out.field("vCPUs", machine.vcpus)?;
        out.field("memory", format_args!("{} MiB", machine.memory_mib))?;
        out.field("firmware profile", &shape.firmware.profile)?;
        for device in &shape.devices {
            out.field(&format!("slot {}", device.slot), device.kind.name())?;
        }
        out.field("fingerprint", shape.fingerprint())?;
        for capture in captures {
            digests(out, capture)?;
        }
        Ok(())
    })
}

fn captured(arguments: &CaptureArgs, context: &Context) -> Result<(), Failure> {
    let shapes = Menu::without_captures()?;
    let shape = shapes.shape(&arguments.shape)?;
    let path = std::env::var_os("PATH");
    let qemu = Qemu::find(arguments.qemu.as_deref(), path.as_deref())?;
    let fresh = capture(&qemu, shape)?;
    if let Some(out) = &arguments.out {
        files::write(out, fresh.to_toml().as_bytes(), Existing::Replace)?;
    }
    // Written before it is compared: this is also how a changed shape gets its new capture.
    let menu = Menu::published()?;
    let published = menu.captures(&shape.name).iter().find(|c| c.qemu == fresh.qemu);
    let differs = published.and_then(|p| first_difference(p, &fresh));
    if let Some((expected, found)) = differs {
        let message = format!(
            "QEMU {} on this host builds another {} than the published one of shape {}",
            fresh.qemu,
            expected.kind(),
            shape.name
        );
        return Err(Failure::new(Class::Refused, "E-CAPTURE-DIFFERS", message)
            .compared(expected.sha384(), found.sha384())
            .next(
                "use the QEMU package the menu was captured with, or publish a capture of yours",
            ));
    }
    let body = CaptureResult { published: published.is_some(), capture: CaptureBody::new(&fresh) };
    context.report.result("chrysalis/capture/v1", &body, |out| {
        out.field("shape", &shape.name)?;
        digests(out, &fresh)?;
        out.line(if published.is_some() {
            "Equal to the published capture."
        } else {
            "No capture is published for this QEMU version: nobody has compared this one."
        })
    })
}

fn first_difference<'a>(a: &'a Capture, b: &'a Capture) -> Option<(&'a Blob, &'a Blob)> {
    a.blobs.all().into_iter().zip(b.blobs.all()).find(|(a, b)| a != b)
}

fn digests(out: &mut Text, capture: &Capture) -> std::fmt::Result {
    out.field("QEMU", capture.qemu)?;
    for blob in capture.blobs.all() {
        out.line(format_args!("  {:<26}{}", blob.kind().fw_cfg_name(), blob.sha384()))?;
    }
    Ok(())
}

#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    summary: &'a str,
    status: &'static str,
    captured: bool,
    qemu: Vec<String>,
}

impl<'a> Listed<'a> {
    fn new(shape: &'a Shape, menu: &Menu) -> Self {
        Self {
            name: &shape.name,
            summary: &shape.summary,
            status: shape.status.text(),
            captured: shape.status == Status::Captured,
            qemu: menu.captures(&shape.name).iter().map(|c| c.qemu.to_string()).collect(),
        }
    }
}

#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    shape: &'a Shape,
    fingerprint: String,
    captures: Vec<CaptureBody>,
}

#[derive(Serialize)]
struct CaptureResult {
    /// Whether it was compared with a published capture, and is equal.
    published: bool,
    #[serde(flatten)]
    capture: CaptureBody,
}

#[derive(Serialize)]
struct CaptureBody {
    qemu: String,
    /// SHA-384 by fw_cfg name.
    sha384: Vec<(&'static str, String)>,
}

impl CaptureBody {
    fn new(capture: &Capture) -> Self {
        let digest = |blob: &Blob| (blob.kind().fw_cfg_name(), blob.sha384());
        let sha384 = capture.blobs.all().into_iter().map(digest).collect();
        Self { qemu: capture.qemu.to_string(), sha384 }
    }
}
