//! Devices of this machine that sign what they measured: GPUs, and the switches between them. What they
//! answer is evidence like a quote, believed by nobody here and appraised by whoever receives it. The
//! driver below is part of the measured guest.

use crate::error::TeeError;

/// Devices that make reports. Calls block, about as long as a quote.
pub trait Devices: Send + Sync {
    /// How many there are.
    ///
    /// # Errors
    /// [`TeeError::NoDriver`] without a driver, [`TeeError::Nvml`] from one.
    fn count(&self) -> Result<DeviceCount, TeeError>;

    /// The report of every device over `nonce`, in an order that stays the same.
    ///
    /// `nonce` is a digest the caller computed itself, as the report data of a quote is.
    ///
    /// # Errors
    /// As [`Self::count`]; one device without a report fails them all.
    fn reports(&self, nonce: &[u8; 32]) -> Result<Vec<DeviceReport>, TeeError>;
}

/// Numbers of devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceCount {
    /// GPUs.
    pub gpus: u32,
    /// Switches.
    pub switches: u32,
}

/// What one device answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceReport {
    /// SPDM request and response.
    pub report: Vec<u8>,
    /// The certificates of the device, leaf first.
    pub chain: DeviceChain,
}

/// Certificates of a device in one of their two spellings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceChain {
    /// DER, one behind the other.
    Der(Vec<u8>),
    /// PEM, as the driver's library gives it.
    Pem(Vec<u8>),
}
