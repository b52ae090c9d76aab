//! The compiled contract. `contracts/channel.boc` is what the pinned compiler makes of
//! `contracts/channel.tolk`, which a test repeats; the hash here says which one this build expects.

use chrysalis_receipt::Cell;
use chrysalis_wire::Digest;

use crate::boc::read_boc;
use crate::error::TonError;

/// Hash of the channel contract's code: what a payee compares a contract with.
pub const CHANNEL_CODE_HASH: Digest = Digest([
    0xb4, 0x9e, 0x20, 0x52, 0x09, 0x41, 0x6a, 0x47, 0xc7, 0xca, 0xbf, 0x4f, 0x53, 0xce, 0x13, 0xaf,
    0x4e, 0x81, 0x2e, 0x92, 0xf8, 0xc8, 0xc8, 0xbd, 0x55, 0xcd, 0x8b, 0x04, 0x19, 0x2d, 0x0f, 0xa6,
]);

/// The channel contract's code.
///
/// # Errors
/// [`TonError::Code`] in a damaged build.
pub fn channel_code() -> Result<Cell, TonError> {
    let code = read_boc(CHANNEL_BOC)?;
    if code.hash() != CHANNEL_CODE_HASH {
        return Err(TonError::Code { expected: CHANNEL_CODE_HASH, got: code.hash() });
    }
    Ok(code)
}

const CHANNEL_BOC: &[u8] = include_bytes!("../contracts/channel.boc");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compiled_contract_has_the_pinned_hash() {
        assert_eq!(channel_code().unwrap().hash(), CHANNEL_CODE_HASH);
    }
}
