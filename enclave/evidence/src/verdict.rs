//! What an appraisal ends in: a verdict with every rule, and either a worker that may be used or a
//! refusal that says what to do. A [`VerifiedWorker`] cannot be made outside this crate.

use core::fmt;
use core::fmt::Write as _;

use chrysalis_wire::{Digest, Keyset, UnixTime, WorkerManifest};
use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};
use thiserror::Error;

use crate::measurement::Measured;
use crate::nvidia::Device;
use crate::rules::RuleId;
use crate::transcript::RuleResult;

/// Schema name of a verdict in JSON.
pub const VERDICT_SCHEMA: &str = "chrysalis/verdict/v1";

/// Why evidence was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq, Serialize)]
#[error("{code} ({rule}): expected {expected}; found {found}. {next_step}")]
pub struct Refusal {
    /// Stable code, `E-…`.
    pub code: &'static str,
    /// The rule that refused.
    pub rule: RuleId,
    /// What the rule expected.
    pub expected: String,
    /// What it found. Printable ASCII, at most a few hundred characters of the peer's.
    pub found: String,
    /// What to do now.
    pub next_step: &'static str,
}

impl Refusal {
    /// Expected and found in one sentence.
    #[must_use]
    pub fn message(&self) -> String {
        format!("expected {}; found {}", self.expected, self.found)
    }
}

/// A worker whose evidence was accepted. Only [`crate::Appraiser::appraise`] makes one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VerifiedWorker {
    pub(crate) pin_name: String,
    pub(crate) insecure_sim: bool,
    #[serde(skip)]
    pub(crate) keyset: Keyset,
    pub(crate) keyset_digest: Digest,
    pub(crate) measurement: Measured,
    pub(crate) measurement_digest: Digest,
    pub(crate) manifest: WorkerManifest,
    pub(crate) manifest_digest: Digest,
    pub(crate) model_root: Digest,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) devices: Vec<Device>,
    #[serde(rename = "cocoon_image_hash", skip_serializing_if = "Option::is_none")]
    pub(crate) image_hash: Option<Digest>,
    pub(crate) evidence_digest: Digest,
    pub(crate) collateral_expires: UnixTime,
    pub(crate) valid_until: Option<UnixTime>,
}

impl VerifiedWorker {
    /// Name of the pin that accepted the worker.
    #[must_use]
    pub fn pin_name(&self) -> &str {
        &self.pin_name
    }

    /// Whether the platform is simulated: nothing sent to this worker is protected.
    #[must_use]
    pub const fn insecure_sim(&self) -> bool {
        self.insecure_sim
    }

    /// The attested keys.
    #[must_use]
    pub const fn keyset(&self) -> &Keyset {
        &self.keyset
    }

    /// SHA-256 of the canonical keyset bytes.
    #[must_use]
    pub const fn keyset_digest(&self) -> Digest {
        self.keyset_digest
    }

    /// The verified registers or enclave identity.
    #[must_use]
    pub const fn measurement(&self) -> &Measured {
        &self.measurement
    }

    /// [`Measured::digest`]; what receipts name.
    #[must_use]
    pub const fn measurement_digest(&self) -> Digest {
        self.measurement_digest
    }

    /// The measured manifest.
    #[must_use]
    pub const fn manifest(&self) -> &WorkerManifest {
        &self.manifest
    }

    /// SHA-256 of the manifest's exact bytes: the policy digest of seal headers.
    #[must_use]
    pub const fn manifest_digest(&self) -> Digest {
        self.manifest_digest
    }

    /// Content root of the only model the worker loads.
    #[must_use]
    pub const fn model_root(&self) -> Digest {
        self.model_root
    }

    /// The verified devices, in the order shown; empty where the pins ask for none.
    #[must_use]
    pub fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// Cocoon's name for the image, [`crate::cocoon_tdx_image_hash`]: for registries that list it. It
    /// covers the runtime register and leaves debug and platform out, so nothing here decides by it.
    /// `None` for an enclave.
    #[must_use]
    pub const fn image_hash(&self) -> Option<Digest> {
        self.image_hash
    }

    /// First second at which the same evidence has to be appraised again: a part of the collateral
    /// ends or becomes too old, or the seal key ends. `None` if that cannot be said, as for workers
    /// with devices: such a verdict is not to be kept.
    #[must_use]
    pub const fn valid_until(&self) -> Option<UnixTime> {
        self.valid_until
    }

    /// SHA-256 of the quote, cut at its end, signature included.
    #[must_use]
    pub const fn evidence_digest(&self) -> Digest {
        self.evidence_digest
    }

    /// When the collateral used here stops being valid; a cached verdict must not outlive it.
    #[must_use]
    pub const fn collateral_expires(&self) -> UnixTime {
        self.collateral_expires
    }
}

/// The outcome of an appraisal, with every rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// All rules in order; those after the first refusal are skipped.
    pub rules: Vec<RuleResult>,
    /// The worker, or why it is refused.
    pub result: Result<VerifiedWorker, Refusal>,
    /// Whether the pins are of the INSECURE-SIM tier, whatever the result.
    pub insecure_sim: bool,
}

impl Verdict {
    /// Whether the evidence is accepted.
    #[must_use]
    pub const fn accepted(&self) -> bool {
        self.result.is_ok()
    }

    /// The transcript as text: one line a rule, then the result.
    #[must_use]
    pub fn to_text(&self) -> String {
        self.to_string()
    }

    /// The verdict as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Nothing in a verdict can fail to serialise; an empty text is no verdict to a reader.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.insecure_sim {
            writeln!(f, "{SIM_BANNER}")?;
        }
        for rule in &self.rules {
            writeln!(f, "{rule}")?;
        }
        let mut last = String::new();
        match &self.result {
            Ok(worker) => write!(
                last,
                "ACCEPTED{}  {} serving {}",
                if self.insecure_sim { " (INSECURE-SIM)" } else { "" },
                worker.pin_name,
                worker.manifest.network
            )?,
            Err(refusal) => write!(
                last,
                "REFUSED  {} by {}\n  expected: {}\n  found:    {}\n  next:     {}",
                refusal.code, refusal.rule, refusal.expected, refusal.found, refusal.next_step
            )?,
        }
        f.write_str(&last)
    }
}

impl Serialize for Verdict {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut object = s.serialize_struct("Verdict", 6)?;
        object.serialize_field("schema", VERDICT_SCHEMA)?;
        object.serialize_field("accepted", &self.accepted())?;
        object.serialize_field("insecure_sim", &self.insecure_sim)?;
        object.serialize_field("rules", &self.rules)?;
        object.serialize_field("worker", &self.result.as_ref().ok())?;
        object.serialize_field("refusal", &self.result.as_ref().err())?;
        object.end()
    }
}

pub(crate) const SIM_BANNER: &str =
    "INSECURE-SIM  simulated platform under a FAKE root; this verdict protects nothing";
