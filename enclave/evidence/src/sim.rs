//! Registers of the simulated platform: public constants and hashes, no keys. They live here so
//! that the measuring tool can predict a simulated worker without linking the simulator and its
//! FAKE keys. Trusts nothing; proves nothing about hardware.

use chrysalis_wire::Digest;
use sha2::{Digest as _, Sha256, Sha384};

use crate::measurement::EnclaveIdentity;

/// Value of `platform` in a simulated attestation document, and the tier name in pins.
pub const PLATFORM: &str = "INSECURE-SIM";

/// `td_attributes` of a simulated TD: SEPT_VE_DISABLE (bit 28) as on production TDX hosts.
pub const TD_ATTRIBUTES: [u8; 8] = [0, 0, 0, 0x10, 0, 0, 0, 0];

/// `xfam` of a simulated TD, a value seen on production TDX hosts.
pub const XFAM: [u8; 8] = [0xe7, 0x02, 0x06, 0, 0, 0, 0, 0];

/// TCB evaluation number that simulated collateral carries.
pub const TCB_EVALUATION_NUMBER: u32 = 20;

/// MRTD of the process-mode simulator: a hash of the worker executable.
#[must_use]
pub fn mrtd(executable: &[u8]) -> [u8; 48] {
    let mut hash = Sha384::new();
    hash.update(b"chrysalis/sim/mrtd/v1");
    hash.update(Sha384::digest(executable));
    hash.finalize().into()
}

/// RTMR0 of a simulated platform; constant, there is no firmware to measure.
#[must_use]
pub fn rtmr0() -> [u8; 48] {
    Sha384::digest(b"chrysalis/sim/rtmr0/v1").into()
}

/// RTMR1 of a simulated platform; constant, there is no kernel to measure.
#[must_use]
pub fn rtmr1() -> [u8; 48] {
    Sha384::digest(b"chrysalis/sim/rtmr1/v1").into()
}

/// RTMR2 of a simulated platform; constant, there is no command line to measure.
#[must_use]
pub fn rtmr2() -> [u8; 48] {
    Sha384::digest(b"chrysalis/sim/rtmr2/v1").into()
}

/// MRSEAM of a simulated platform.
#[must_use]
pub fn mr_seam() -> [u8; 48] {
    Sha384::digest(b"chrysalis/sim/mrseam/v1").into()
}

/// ATTRIBUTES.FLAGS of a simulated enclave: INIT and MODE64BIT, as of a production enclave.
pub const SGX_ATTRIBUTES: [u8; 8] = [0x05, 0, 0, 0, 0, 0, 0, 0];

/// XFRM of a simulated enclave: x87, SSE, AVX and AVX-512, as on the recorded server.
pub const SGX_XFRM: [u8; 8] = [0xe7, 0, 0, 0, 0, 0, 0, 0];

/// MISCSELECT of a simulated enclave.
pub const SGX_MISC_SELECT: [u8; 4] = [0; 4];

/// Who the process-mode simulator of SGX is: MRENCLAVE is a hash of the worker executable, the rest
/// is constant. A real MRENCLAVE covers the Gramine manifest and through it the worker's; a
/// simulated one does not, so that only the quote's commitment tells manifests apart.
#[must_use]
pub fn enclave(executable: &[u8]) -> EnclaveIdentity {
    let mut mrenclave = Sha256::new();
    mrenclave.update(b"chrysalis/sim/mrenclave/v1");
    mrenclave.update(Sha256::digest(executable));
    EnclaveIdentity {
        mrenclave: Digest(mrenclave.finalize().into()),
        mrsigner: Digest(Sha256::digest(b"chrysalis/sim/mrsigner/v1").into()),
        isv_prod_id: 1,
        isv_svn: 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_are_pairwise_different() {
        let all = [mrtd(b"worker"), mrtd(b"worker2"), rtmr0(), rtmr1(), rtmr2(), mr_seam()];
        for (i, a) in all.iter().enumerate() {
            assert!(all[i + 1..].iter().all(|b| a != b), "register {i} repeats");
        }
    }

    #[test]
    fn one_byte_of_the_executable_is_another_enclave_of_the_same_signer() {
        let (a, b) = (enclave(b"worker"), enclave(b"workes"));
        assert_ne!(a.mrenclave, b.mrenclave);
        assert_eq!((a.mrsigner, a.isv_prod_id), (b.mrsigner, b.isv_prod_id));
    }

    #[test]
    fn a_simulated_enclave_is_not_under_debug() {
        assert_eq!(SGX_ATTRIBUTES[0] & 2, 0);
    }

    #[test]
    fn a_simulated_td_is_not_under_debug() {
        assert_eq!(TD_ATTRIBUTES[0], 0);
    }
}
