//! INSECURE-SIM FAKE devices of one machine, in the place of a driver. They prove nothing.

use chrysalis_evidence::nvidia::DeviceKind;
use chrysalis_tee::{DeviceChain, DeviceCount, DeviceReport, Devices, TeeError};

use super::SimDevice;

/// The simulated devices of one machine.
pub struct SimDevices(Vec<SimDevice>);

impl SimDevices {
    /// So many honest GPUs of one kind, and so many switches.
    #[must_use]
    pub fn new(kind: DeviceKind, gpus: u8, switches: u8) -> Self {
        let gpus = (0..gpus).map(|number| SimDevice::new(kind, number));
        let switches = (0..switches).map(|number| SimDevice::new(DeviceKind::Ls10, number));
        Self(gpus.chain(switches).collect())
    }

    /// These devices, lying as they do.
    #[must_use]
    pub const fn of(devices: Vec<SimDevice>) -> Self {
        Self(devices)
    }
}

impl Devices for SimDevices {
    fn count(&self) -> Result<DeviceCount, TeeError> {
        let number = |switch| {
            let all = self.0.iter().filter(|device| device.kind.is_switch() == switch);
            u32::try_from(all.count()).unwrap_or(u32::MAX)
        };
        Ok(DeviceCount { gpus: number(false), switches: number(true) })
    }

    fn reports(&self, nonce: &[u8; 32]) -> Result<Vec<DeviceReport>, TeeError> {
        let report = |device: &SimDevice| {
            let evidence = device.evidence(nonce);
            DeviceReport { report: evidence.report, chain: DeviceChain::Der(evidence.chain) }
        };
        Ok(self.0.iter().map(report).collect())
    }
}
