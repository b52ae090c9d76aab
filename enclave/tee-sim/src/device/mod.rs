//! INSECURE-SIM FAKE NVIDIA devices: GPUs and switches whose keys anybody can compute. Trust
//! nothing they sign. Reports and chains have the genuine form, so the whole verifier runs on them
//! under pins that name [`sim_device_root_der`], and refuses them under any others.

mod keys;
mod pki;
mod report;
mod set;

use chrysalis_evidence::nvidia::DeviceEvidence;
pub use chrysalis_evidence::nvidia::DeviceKind;

pub use pki::sim_device_root_der;
pub use report::{DRIVER, VBIOS};
pub use set::SimDevices;

/// A simulated device. Two with different numbers have different keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SimDevice {
    kind: DeviceKind,
    number: u8,
    fault: Option<DeviceFault>,
}

/// Ways in which a simulated device lies, one refusal each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeviceFault {
    /// The report answers another nonce.
    StaleNonce,
    /// A key that the chain does not end in signed the report.
    ForeignKey,
    /// The report states another firmware than the leaf.
    OtherFirmware,
    /// The report states no firmware.
    NoFirmware,
    /// The leaf repeats the key of another device; Hopper only.
    OtherDeviceKey,
    /// The leaf has no firmware extension.
    UncertifiedFirmware,
    /// The leaf may sign certificates.
    LeafIsAuthority,
    /// The leaf's key is not for signatures.
    LeafCannotSign,
    /// The device's certificate is no authority.
    DeviceIsNoAuthority,
    /// The device's key may not sign certificates.
    DeviceCannotCertify,
    /// The factory's authority allows no authority below it.
    PathTooLong,
    /// The leaf has a critical extension nobody knows.
    UnknownCritical,
    /// The factory made another chip than the leaf says.
    OtherFactory,
    /// The leaf names a chip that does not exist.
    UnknownChip,
    /// The leaf was not signed by its device.
    UnsignedLeaf,
    /// The certificates are over.
    Expired,
    /// One record is not the golden one.
    OtherRecord,
    /// A record that has no golden value is not zero.
    ExtraRecord,
    /// Another driver than the pinned one.
    OtherDriver,
    /// No driver stated at all.
    NoDriver,
    /// Another VBIOS than the pinned one.
    OtherVbios,
    /// Another mode than the pinned one.
    OtherMode,
}

impl SimDevice {
    /// An honest device.
    #[must_use]
    pub const fn new(kind: DeviceKind, number: u8) -> Self {
        Self { kind, number, fault: None }
    }

    /// The same device, lying in one way.
    #[must_use]
    pub const fn with_fault(mut self, fault: DeviceFault) -> Self {
        self.fault = Some(fault);
        self
    }

    /// What the device answers to `nonce`.
    #[must_use]
    pub fn evidence(&self, nonce: &[u8; 32]) -> DeviceEvidence {
        DeviceEvidence { report: self.report(nonce), chain: self.chain() }
    }

    fn lies(&self, fault: DeviceFault) -> bool {
        self.fault == Some(fault)
    }
}

/// The `[device]` section of INSECURE-SIM pins that accepts that many honest GPUs of one kind and
/// switches.
#[must_use]
pub fn device_pins(kind: DeviceKind, gpus: usize, switches: usize) -> String {
    let root = hex::encode(sim_device_root_der());
    let mut text = format!(
        "\n[device]\nsim_root = \"{root}\"\ngpus = {gpus}\nswitches = {switches}\n\
         modes = [\"protected-pcie\"]\nswitches_without_firmware = true\n"
    );
    text += &report::golden("driver", kind, DRIVER);
    text += &report::golden("vbios", kind, VBIOS);
    text + &report::golden("vbios", DeviceKind::Ls10, VBIOS)
}
