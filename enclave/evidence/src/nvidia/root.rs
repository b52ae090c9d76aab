//! The two roots a device can hang from: NVIDIA's, built in, and a FAKE one that an INSECURE-SIM
//! pins file brings along.

use core::fmt;

use chrysalis_wire::Digest;
use sha2::{Digest as _, Sha256};

/// The certificate every device chain must end in.
#[derive(Clone, PartialEq, Eq)]
pub enum DeviceRoot {
    /// NVIDIA Device Identity CA: the root of Hopper, Blackwell and their switches.
    Nvidia,
    /// The root of simulated devices, DER. Its private key is public.
    InsecureSim(Vec<u8>),
}

impl DeviceRoot {
    /// The certificate, DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        match self {
            Self::Nvidia => NVIDIA_ROOT_DER,
            Self::InsecureSim(der) => der,
        }
    }

    /// SHA-256 fingerprint of the certificate.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        Digest(Sha256::digest(self.der()).into())
    }
}

impl fmt::Display for DeviceRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Nvidia => "NVIDIA Device Identity CA",
            Self::InsecureSim(_) => "FAKE INSECURE-SIM device root",
        };
        write!(f, "{name} (SHA-256 {})", self.fingerprint())
    }
}

impl fmt::Debug for DeviceRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// NVIDIA Device Identity CA, valid from 2021-11-05 without an end, subject key id
/// 5785FF83F263CC657D68B73A5BF48D4ACBFB495F. NVIDIA publishes it with its verifiers (nvtrust).
const NVIDIA_ROOT_DER: &[u8] = include_bytes!("../../roots/nvidia-device-identity-ca.der");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_root_is_nvidias_published_certificate() {
        assert_eq!(
            DeviceRoot::Nvidia.fingerprint().to_string(),
            "102bf659d5419614c9d8e6aecebc80454eb26b1df6a769ac720b9a690b167b48"
        );
    }
}
