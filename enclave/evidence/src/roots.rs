//! The two roots evidence can hang from: Intel's, built in, and a FAKE one that an INSECURE-SIM
//! pins file brings along. Which one is used is decided by the pins alone.

use core::fmt;

use chrysalis_wire::Digest;
use sha2::{Digest as _, Sha256};

/// The certificate every quote must chain to.
#[derive(Clone, PartialEq, Eq)]
pub enum TrustRoot {
    /// Intel SGX Root CA, the root of production.
    Intel,
    /// The root of the simulated platform, DER. Its private key is public.
    InsecureSim(Vec<u8>),
}

impl TrustRoot {
    /// The certificate, DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        match self {
            Self::Intel => INTEL_ROOT_DER,
            Self::InsecureSim(der) => der,
        }
    }

    /// SHA-256 fingerprint of the certificate.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        Digest(Sha256::digest(self.der()).into())
    }
}

impl fmt::Display for TrustRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Intel => "Intel SGX Root CA",
            Self::InsecureSim(_) => "FAKE INSECURE-SIM root",
        };
        write!(f, "{name} (SHA-256 {})", self.fingerprint())
    }
}

impl fmt::Debug for TrustRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Intel SGX Root CA as published by Intel's provisioning certification service
/// (`Intel_SGX_Provisioning_Certification_RootCA.cer`), valid 2018-05-21 to 2049-12-31. The same
/// bytes are in `dcap-qvl`, which exports them only together with a crypto backend we do not use.
const INTEL_ROOT_DER: &[u8] = include_bytes!("../roots/intel-sgx-root-ca.der");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_root_is_intels_published_certificate() {
        assert_eq!(
            TrustRoot::Intel.fingerprint().to_string(),
            "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3"
        );
    }
}
