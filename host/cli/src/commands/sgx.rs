//! `chrysalis sgx`: signs enclaves, shows signatures and record streams, and says whether this
//! machine could run one.

use std::path::PathBuf;
use std::process::ExitCode;

use chrysalis_loader::gramine::{Machine, Mode, Part};
use chrysalis_measure::sgx::{
    MAX_KEY_BYTES, MAX_STREAM_BYTES, SIGSTRUCT_BYTES, SigningDate, SigningKey, StreamSummary,
    UnverifiedSigstruct,
};
use chrysalis_wire::Digest;
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::commands::gramine::Enclave;
use crate::context::Context;
use crate::exit::{Class, Failure};
use crate::files::{self, Existing};

/// What to do about SGX.
#[derive(Debug, Subcommand)]
pub(crate) enum SgxCommand {
    /// Sign the enclave of a Gramine manifest.
    Sign(Sign),
    /// Verify and show a signature (.sig), or measure a record stream (.sgxs).
    Inspect(Inspect),
    /// Say whether this machine can run an enclave, and what is missing.
    Check(Check),
}

/// `sgx sign`.
#[derive(Debug, Args)]
pub(crate) struct Sign {
    #[command(flatten)]
    enclave: Enclave,
    /// The signer's key: RSA, 3072 bits, exponent 3, unencrypted PEM, readable by its owner alone.
    /// `openssl genrsa -3 -out key.pem 3072` makes one; keep it on a machine that is not online.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The date to sign with, YYYY-MM-DD. Given, not read from a clock: the same inputs give the
    /// same bytes.
    #[arg(long, value_name = "DATE")]
    date: String,
    /// The signature to write; Gramine wants the manifest's name with .sig.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Replace the file if it is there.
    #[arg(long)]
    force: bool,
}

/// `sgx inspect`.
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// A .sig or .sgxs file.
    file: PathBuf,
}

/// `sgx check`.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Ask for gramine-direct: the same program without an enclave, which protects nothing.
    #[arg(long)]
    direct: bool,
}

pub(crate) fn run(command: &SgxCommand, context: &Context) -> Result<ExitCode, Failure> {
    match command {
        SgxCommand::Sign(arguments) => sign(arguments, context)?,
        SgxCommand::Inspect(arguments) => inspect(arguments, context)?,
        SgxCommand::Check(arguments) => check(arguments, context)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn sign(arguments: &Sign, context: &Context) -> Result<(), Failure> {
    let date: SigningDate =
        arguments.date.parse().map_err(|e: chrysalis_measure::sgx::SigstructError| {
            Failure::new(Class::Usage, "E-DATE", e.to_string()).next("give --date YYYY-MM-DD")
        })?;
    let (manifest, measured, _) = arguments.enclave.measure()?;
    let body = manifest.body(measured.mrenclave, date)?;
    let key = SigningKey::from_pem(&files::read_secret(&arguments.key, MAX_KEY_BYTES)?)?;
    let signed = key.sign(&body)?;
    let existing = if arguments.force { Existing::Replace } else { Existing::Refuse };
    files::write(&arguments.out, signed.as_bytes(), existing)?;
    let shown = Signed {
        path: arguments.out.display().to_string(),
        mrenclave: body.mrenclave,
        mrsigner: signed.mrsigner(),
        isv_prod_id: body.isv_prod_id,
        isv_svn: body.isv_svn,
        date: date.to_string(),
    };
    context.report.result("chrysalis/sgx-signed/v1", &shown, |out| {
        out.field("signature", &shown.path)?;
        out.field("mrenclave", shown.mrenclave)?;
        out.field("mrsigner", shown.mrsigner)?;
        out.field("product", format!("{}, security version {}", shown.isv_prod_id, shown.isv_svn))
    })
}

fn inspect(arguments: &Inspect, context: &Context) -> Result<(), Failure> {
    let bytes = files::read(&arguments.file, MAX_STREAM_BYTES)?;
    if bytes.len() != SIGSTRUCT_BYTES {
        return stream(&bytes, context);
    }
    let signed = UnverifiedSigstruct::parse(&bytes)?.verify()?;
    let body = signed.body();
    let attributes = body.attributes;
    let shown = Inspected {
        mrenclave: body.mrenclave,
        mrsigner: signed.mrsigner(),
        isv_prod_id: body.isv_prod_id,
        isv_svn: body.isv_svn,
        date: body.date.to_string(),
        debug: attributes.debug(),
        flags: format!("{:016x}", attributes.flags),
        flags_mask: format!("{:016x}", attributes.flags_mask),
        xfrm: format!("{:016x}", attributes.xfrm),
        xfrm_mask: format!("{:016x}", attributes.xfrm_mask),
        misc_select: format!("{:08x}", attributes.misc_select),
        misc_mask: format!("{:08x}", attributes.misc_mask),
    };
    context.report.result("chrysalis/sigstruct/v1", &shown, |out| {
        if shown.debug {
            out.warning("DEBUG  the host can read the memory of this enclave")?;
        }
        out.verdict(true, "The signature verifies under the key it carries; compare mrsigner.")?;
        out.field("mrenclave", shown.mrenclave)?;
        out.field("mrsigner", shown.mrsigner)?;
        out.field("product", format!("{}, security version {}", shown.isv_prod_id, shown.isv_svn))?;
        out.field("date", &shown.date)?;
        out.field("flags", format!("{} mask {}", shown.flags, shown.flags_mask))?;
        out.field("xfrm", format!("{} mask {}", shown.xfrm, shown.xfrm_mask))?;
        out.field("miscselect", format!("{} mask {}", shown.misc_select, shown.misc_mask))
    })
}

fn stream(bytes: &[u8], context: &Context) -> Result<(), Failure> {
    let summary = StreamSummary::parse(bytes)?;
    let shown = Stream {
        mrenclave: summary.mrenclave,
        enclave_size: summary.size,
        ssa_frame_pages: summary.ssa_frame_pages,
        pages: summary.pages,
        threads: summary.threads,
        measured_bytes: summary.measured_bytes,
    };
    context.report.result("chrysalis/sgx-stream/v1", &shown, |out| {
        out.field("mrenclave", shown.mrenclave)?;
        out.field("enclave", format!("{} KiB", shown.enclave_size >> 10))?;
        out.field("pages", format!("{}, {} threads", shown.pages, shown.threads))?;
        out.field("measured", format!("{} bytes", shown.measured_bytes))
    })
}

/// Looks only. What it does not find, it says; a machine where nothing is missing may still fail,
/// because whether an enclave starts is known when one does.
fn check(arguments: &Check, context: &Context) -> Result<(), Failure> {
    let mode = if arguments.direct { Mode::Direct } else { Mode::Enclave };
    let path = std::env::var_os("PATH");
    let machine = Machine::here(path.as_deref());
    let of = |part: &Part| {
        let problem = machine.look(part).err();
        Needed { name: part.name, there: problem.is_none(), problem, fix: part.fix }
    };
    let found: Vec<Needed> = mode.parts().iter().map(of).collect();
    let missing = found.iter().filter(|needed| !needed.there).count();
    let report = Checked { direct: arguments.direct, needed: found };
    context.report.result("chrysalis/sgx-check/v1", &report, |out| {
        for needed in &report.needed {
            let outcome = if needed.there { "PASS" } else { "FAIL" };
            let title = needed.problem.as_deref().unwrap_or("is here");
            out.check(outcome, needed.name, title, needed.fix)?;
        }
        Ok(())
    })?;
    if missing == 0 {
        return Ok(());
    }
    let what = if arguments.direct { "gramine-direct" } else { "an enclave" };
    let message = format!(
        "this machine cannot run {what}: {missing} of {} parts are missing",
        report.needed.len()
    );
    Err(Failure::new(Class::Unsupported, "E-NO-GRAMINE", message).next(
        "measuring and signing need none of it; to run, use a machine with SGX2 and Gramine 1.9",
    ))
}

#[derive(Serialize)]
struct Checked {
    direct: bool,
    needed: Vec<Needed>,
}

#[derive(Serialize)]
struct Needed {
    name: &'static str,
    there: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    fix: &'static str,
}

#[derive(Serialize)]
struct Signed {
    path: String,
    mrenclave: Digest,
    mrsigner: Digest,
    isv_prod_id: u16,
    isv_svn: u16,
    date: String,
}

#[derive(Serialize)]
struct Inspected {
    mrenclave: Digest,
    mrsigner: Digest,
    isv_prod_id: u16,
    isv_svn: u16,
    date: String,
    debug: bool,
    flags: String,
    flags_mask: String,
    xfrm: String,
    xfrm_mask: String,
    misc_select: String,
    misc_mask: String,
}

#[derive(Serialize)]
struct Stream {
    mrenclave: Digest,
    enclave_size: u64,
    ssa_frame_pages: u32,
    pages: usize,
    threads: usize,
    measured_bytes: usize,
}
