//! Randomness from the operating system, for callers that pass it in. Nothing in this crate uses
//! it by itself: every function that needs randomness takes it as an argument.

use core::convert::Infallible;

use hpke::rand_core::{TryCryptoRng, TryRng};

/// The operating system's generator (`getrandom(2)`).
///
/// # Panics
/// Panics when the operating system has no randomness to give. There is nothing safe to go on
/// with: on Linux this cannot happen once the first read has succeeded.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsRandom;

impl TryRng for OsRandom {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0u8; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0u8; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    #[expect(clippy::panic, reason = "no input reaches this; without randomness nothing is safe")]
    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        match getrandom::fill(dst) {
            Ok(()) => Ok(()),
            Err(_) => panic!("the operating system has no randomness to give"),
        }
    }
}

impl TryCryptoRng for OsRandom {}
