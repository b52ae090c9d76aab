//! Registers of the simulated platform: public constants and hashes, no keys. They live here so
//! that the measuring tool can predict a simulated worker without linking the simulator and its
//! FAKE keys. Trusts nothing; proves nothing about hardware.

use sha2::{Digest as _, Sha384};

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
    fn a_simulated_td_is_not_under_debug() {
        assert_eq!(TD_ATTRIBUTES[0], 0);
    }
}
