//! Applies the `[device]` pins to a set of devices. The evidence is the peer's; pins, nonce and
//! clock are the verifier's own. Every rule judges the whole set, so a set is accepted as a whole.

use core::fmt;

use chrysalis_wire::UnixTime;

use super::device::{Device, DeviceEvidence};
use super::pins::DevicePins;
use super::root::DeviceRoot;
use crate::rules::{RuleId, device as rules};
use crate::transcript::{RuleResult, Transcript};
use crate::verdict::Refusal;

/// The outcome of an appraisal of devices alone: what a guest asks before it calls itself ready,
/// with a nonce of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceVerdict {
    /// All rules in order; those after the first refusal are skipped.
    pub rules: Vec<RuleResult>,
    /// The devices, or why the set is refused.
    pub result: Result<Vec<Device>, Refusal>,
    /// Whether the pins name the simulated root, whatever the result.
    pub insecure_sim: bool,
}

impl fmt::Display for DeviceVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rules.iter().try_for_each(|rule| writeln!(f, "{rule}"))?;
        match &self.result {
            Ok(devices) => write!(f, "ACCEPTED  {} devices", devices.len()),
            Err(refusal) => write!(f, "REFUSED  {refusal}"),
        }
    }
}

/// Appraises a set of devices that were asked with `nonce`.
#[must_use]
pub fn appraise(
    set: &[DeviceEvidence],
    nonce: &[u8; 32],
    pins: &DevicePins,
    now: UnixTime,
) -> DeviceVerdict {
    let mut log = Transcript::of(&[RuleId::DEVICE]);
    let result = judge(&mut log, set, nonce, pins, now);
    let (rules, result) = log.end(result);
    let insecure_sim = matches!(pins.root, DeviceRoot::InsecureSim(_));
    DeviceVerdict { rules, result, insecure_sim }
}

/// The rules of [`RuleId::DEVICE`], in order.
pub(crate) fn judge(
    log: &mut Transcript,
    set: &[DeviceEvidence],
    nonce: &[u8; 32],
    pins: &DevicePins,
    now: UnixTime,
) -> Result<Vec<Device>, Refusal> {
    let claimed = log.rule(RuleId::GpuForm, rules::form(set, pins))?;
    log.rule(RuleId::GpuNonce, rules::nonce(&claimed, nonce))?;
    let identified = log.rule(RuleId::GpuChain, rules::chain(claimed, pins, now))?;
    let devices = log.rule(RuleId::GpuSignature, rules::signature(identified))?;
    log.rule(RuleId::GpuFirmware, rules::firmware(&devices, pins))?;
    log.rule(RuleId::GpuKinds, rules::kinds(&devices, pins))?;
    log.rule(RuleId::GpuDistinct, rules::distinct(&devices))?;
    log.rule(RuleId::GpuDenied, rules::denied(&devices, pins))?;
    log.rule(RuleId::GpuMode, rules::mode(&devices, pins))?;
    log.rule(RuleId::GpuDriver, rules::driver(&devices, pins))?;
    log.rule(RuleId::GpuVbios, rules::vbios(&devices, pins))?;
    log.rule(RuleId::GpuRecords, rules::records(&devices, pins))?;
    Ok(devices)
}
