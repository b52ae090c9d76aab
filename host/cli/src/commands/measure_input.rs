//! What `measure diff` and `measure explain` read: each input by what it is, not by what it is
//! called. All of it may come from anybody.

use std::path::{Path, PathBuf};

use chrysalis_measure::tdx::diff::{ReferenceValues, Side, SideKind};
use chrysalis_measure::tdx::{
    EventLog, MAX_LOG_BYTES, MAX_PREDICTION_BYTES, Sha384Digest, TdQuote, TdxPrediction,
    looks_like_quote,
};
use chrysalis_release::{VALUES_FILE, Values};
use chrysalis_wire::{ImagePlatform, RegisterValue};
use clap::Args;

use crate::commands::measure_image::{With, Workload};
use crate::commands::release;
use crate::exit::{Class, Failure};
use crate::files;

/// How inputs are read.
#[derive(Debug, Args)]
pub(crate) struct Inputs {
    /// Event log (CCEL, plain or gzip) of the machine whose quote is given; it must lead to the
    /// quote.
    #[arg(long, value_name = "FILE")]
    ccel: Option<PathBuf>,
    /// Folder with a folder for each release; without it manifests/releases, here or in a folder
    /// above.
    #[arg(long, value_name = "DIR")]
    releases: Option<PathBuf>,
    #[command(flatten)]
    with: With,
}

impl Inputs {
    /// What the arguments say about the worker.
    pub(crate) fn workload(&self) -> Workload<'_> {
        self.with.workload()
    }

    /// Refuses a log that no input used.
    pub(crate) fn used(&self, sides: &[&Side]) -> Result<(), Failure> {
        if self.ccel.is_none() || sides.iter().any(|s| s.kind == SideKind::QuoteWithLog) {
            return Ok(());
        }
        let message = "--ccel belongs to a quote, and none was given";
        Err(Failure::new(Class::Usage, "E-USAGE", message)
            .next("give the quote of the same machine, or the log itself as an input"))
    }

    /// Whether RTMR3 of this input depends on a worker manifest that is given apart.
    pub(crate) fn takes_workload(&self, path: &Path) -> bool {
        path.is_dir() || path.ends_with(VALUES_FILE) || !path.exists()
    }

    /// Reads an input.
    pub(crate) fn side(&self, path: &Path, workload: Workload<'_>) -> Result<Side, Failure> {
        let label = path.display().to_string();
        if path.join(VALUES_FILE).is_file() {
            return self.release(&label, path, workload);
        }
        if path.is_dir() {
            let predicted = self.with.predict(Some(path), workload)?;
            let mark = if predicted.simulated { " (INSECURE-SIM image)" } else { "" };
            return Ok(Side::prediction(format!("{label}{mark}"), &predicted.prediction));
        }
        if path.is_file() && path.ends_with(VALUES_FILE) {
            return self.release(&label, path.parent().unwrap_or(path), workload);
        }
        if !path.exists() {
            return self.release(&label, &self.named_release(path)?, workload);
        }
        self.file(label, &files::read(path, MAX_INPUT_BYTES)?).map_err(|e| e.in_file(path))
    }

    fn file(&self, label: String, bytes: &[u8]) -> Result<Side, Failure> {
        if bytes.starts_with(b"{") {
            if let Some(quote) = quote_of_attestation(bytes) {
                return self.quote(label, &quote);
            }
            return Ok(Side::prediction(label, &TdxPrediction::parse(bytes)?));
        }
        if looks_like_quote(bytes) {
            return self.quote(label, bytes);
        }
        let text = core::str::from_utf8(bytes).ok().map(str::trim);
        if let Some(quote) = text.and_then(|t| hex::decode(t).ok()).filter(|q| looks_like_quote(q))
        {
            return self.quote(label, &quote);
        }
        // A log is binary and has zeros from its fifth byte on.
        if text.is_some_and(|text| !text.is_empty() && !text.contains('\0')) {
            return Side::worker_manifest(label, bytes).map_err(|e| {
                let found = format!("text that is none of them: {e}");
                Failure::from(e).compared(KINDS, found).next("give one of these; see --help")
            });
        }
        Ok(Side::log(label, &EventLog::read(bytes)?))
    }

    fn quote(&self, label: String, bytes: &[u8]) -> Result<Side, Failure> {
        let quote = TdQuote::parse(bytes)?;
        let Some(path) = &self.ccel else { return Ok(Side::quote(label, &quote)) };
        let log = EventLog::read(&files::read(path, MAX_LOG_BYTES)?)?;
        Ok(Side::quote_with_log(label, &quote, &log)?)
    }

    /// The folder of a release by its name.
    fn named_release(&self, name: &Path) -> Result<PathBuf, Failure> {
        let here = std::env::current_dir().unwrap_or_default();
        let above = || here.ancestors().map(|d| d.join(RELEASES)).find(|d| d.is_dir());
        let all = self.releases.clone().or_else(above);
        let plain = name.file_name().is_some_and(|file| file == name.as_os_str());
        if let Some(dir) = all.as_ref().map(|all| all.join(name)).filter(|d| plain && d.is_dir()) {
            return Ok(dir);
        }
        let shown = all.as_ref().map_or_else(|| RELEASES.to_owned(), |a| a.display().to_string());
        let mut found: Vec<_> = all
            .and_then(|all| std::fs::read_dir(all).ok())
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        found.sort();
        let found = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
        let message = format!("{} is no file, no directory and no release", name.display());
        Err(Failure::new(Class::Usage, "E-USAGE", message)
            .compared(KINDS, format!("releases in {shown}: {found}"))
            .next("check the path, or say where releases are with --releases DIR"))
    }

    /// The values of a release whose files agree. What depends on a shape or a workload is left
    /// out unless one is chosen or there is only one; the label says so.
    fn release(&self, label: &str, dir: &Path, workload: Workload<'_>) -> Result<Side, Failure> {
        let values = release::read(dir)?.values;
        let Some(tdx) = &values.tdx else {
            let message = format!("release {} has no registers of a trust domain", values.release);
            return Err(Failure::new(Class::Unsupported, "E-RELEASE-PINS", message)
                .compared("a [tdx] section in values.toml", "none")
                .next("compare enclaves with `chrysalis measure gramine`"));
        };
        let mut open = Vec::new();
        let rtmr0 = self.of_shape(&values, &mut open)?;
        let rtmr3 = of_workload(&values, workload, &mut open)?;
        let digest = |value: RegisterValue| Sha384Digest(value.0);
        let (rtmr1, rtmr2) = (Some(digest(tdx.rtmr1)), Some(digest(tdx.rtmr2)));
        let reference = ReferenceValues {
            mrtd: Some(digest(tdx.mrtd)),
            rtmr: [rtmr0.map(digest), rtmr1, rtmr2, rtmr3.map(digest)],
        };
        let mut label = format!("{label}: release {}", values.release);
        if values.platform == ImagePlatform::InsecureSim {
            label.push_str(" (INSECURE-SIM image)");
        }
        if values.debug {
            label.push_str(" (DEBUG image)");
        }
        for reason in open {
            label.push_str(&format!("; {reason}"));
        }
        Ok(Side::release(label, &reference))
    }

    fn of_shape(
        &self,
        values: &Values,
        open: &mut Vec<String>,
    ) -> Result<Option<RegisterValue>, Failure> {
        let (name, qemu) = (self.with.shape.as_deref(), self.with.qemu.as_deref());
        let fits = |s: &&chrysalis_release::Shape| {
            name.is_none_or(|n| n == s.name) && qemu.is_none_or(|q| q == s.qemu)
        };
        let all = list(values.shapes.iter().map(|s| format!("{} (QEMU {})", s.name, s.qemu)));
        let mut fitting = values.shapes.iter().filter(fits);
        match (fitting.next(), fitting.next()) {
            (Some(one), None) => Ok(Some(one.rtmr0)),
            (None, _) if name.is_some() || qemu.is_some() => {
                let wanted = [name, qemu].into_iter().flatten().collect::<Vec<_>>().join(", QEMU ");
                let message = format!("release {} has no shape {wanted}", values.release);
                Err(Failure::new(Class::Refused, "E-NOT-CAPTURED", message)
                    .compared(all, wanted)
                    .next("choose one of them with --shape and --qemu"))
            }
            _ => {
                open.push(format!("RTMR0 is open: choose with --shape one of {all}"));
                Ok(None)
            }
        }
    }
}

fn of_workload(
    values: &Values,
    workload: Workload<'_>,
    open: &mut Vec<String>,
) -> Result<Option<RegisterValue>, Failure> {
    let all = list(values.workloads.iter().map(|w| format!("{} ({})", w.name, w.manifest_sha256)));
    if workload.manifest.is_some() {
        let manifest = workload.read()?;
        if values.workloads.is_empty() {
            // A release of the image alone: which manifests run in it is not its publisher's to say.
            open.push("RTMR3 is that of the manifest given; the release names none".to_owned());
            return Ok(Some(chrysalis_release::Workload::of(&manifest, Some("given"))?.rtmr3));
        }
        let sha256 = files::digest(&manifest);
        let found = values.workloads.iter().find(|w| w.manifest_sha256 == sha256);
        return found.map(|w| Some(w.rtmr3)).ok_or_else(|| {
            let message = format!("release {} serves no such worker manifest", values.release);
            Failure::new(Class::Refused, "E-MANIFEST-PIN", message)
                .compared(all, format!("SHA-256 {sha256}"))
                .next("leave --manifest out, or give the manifest of the release")
        });
    }
    if let [only] = values.workloads.as_slice() {
        return Ok(Some(only.rtmr3));
    }
    open.push(format!("RTMR3 is open: choose with --manifest one of {all}"));
    Ok(None)
}

fn list(names: impl Iterator<Item = String>) -> String {
    let names: Vec<_> = names.collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// The quote in an attestation document or in hex; `None` for anything else, such as the quote
/// itself.
pub(crate) fn quote_in(bytes: &[u8]) -> Option<Vec<u8>> {
    if bytes.starts_with(b"{") {
        return quote_of_attestation(bytes);
    }
    hex::decode(core::str::from_utf8(bytes).ok()?.trim()).ok()
}

/// The quote in an attestation document, as a worker answers it.
fn quote_of_attestation(json: &[u8]) -> Option<Vec<u8>> {
    let document: serde_json::Value = serde_json::from_slice(json).ok()?;
    hex::decode(document.get("quote")?.as_str()?).ok()
}

const KINDS: &str = "an image directory, a release, a prediction, a quote, an attestation, an \
                     event log or a worker manifest";

/// Where releases lie in this tree.
const RELEASES: &str = "manifests/releases";

/// Largest input file, in bytes: the larger of a prediction and a log.
const MAX_INPUT_BYTES: usize =
    if MAX_PREDICTION_BYTES > MAX_LOG_BYTES { MAX_PREDICTION_BYTES } else { MAX_LOG_BYTES };
