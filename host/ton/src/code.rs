//! The compiled contracts. Each `contracts/*.boc` is what the pinned compiler makes of the `.tolk` of
//! the same name, which a test repeats; the hashes here say which ones this build expects.

use chrysalis_receipt::Cell;
use chrysalis_wire::Digest;

use crate::boc::read_boc;
use crate::error::TonError;

/// Hash of the channel contract's code: what a payee compares a contract with.
pub const CHANNEL_CODE_HASH: Digest = Digest([
    0xb4, 0x9e, 0x20, 0x52, 0x09, 0x41, 0x6a, 0x47, 0xc7, 0xca, 0xbf, 0x4f, 0x53, 0xce, 0x13, 0xaf,
    0x4e, 0x81, 0x2e, 0x92, 0xf8, 0xc8, 0xc8, 0xbd, 0x55, 0xcd, 0x8b, 0x04, 0x19, 0x2d, 0x0f, 0xa6,
]);

/// Hash of the registry contract's code.
pub const REGISTRY_CODE_HASH: Digest = Digest([
    0xad, 0xe4, 0xf9, 0x13, 0x2d, 0x7d, 0xf7, 0x4d, 0xc0, 0x61, 0xfe, 0x1c, 0xb3, 0x89, 0xa6, 0x02,
    0xd0, 0x73, 0x8d, 0x91, 0x57, 0x04, 0xbc, 0xef, 0x9f, 0x8d, 0x8f, 0x29, 0x42, 0x98, 0x8a, 0xaa,
]);

/// Hash of the code of TON's standard wallet, version 5 revision 1; `contracts/WALLET-V5R1.md`.
pub const WALLET_CODE_HASH: Digest = Digest([
    0x20, 0x83, 0x4b, 0x7b, 0x72, 0xb1, 0x12, 0x14, 0x7e, 0x1b, 0x2f, 0xb4, 0x57, 0xb8, 0x4e, 0x74,
    0xd1, 0xa3, 0x0f, 0x04, 0xf7, 0x37, 0xd4, 0xf6, 0x2a, 0x66, 0x8e, 0x95, 0x52, 0xd2, 0xb7, 0x2f,
]);

/// The channel contract's code.
///
/// # Errors
/// [`TonError::Code`] in a damaged build.
pub fn channel_code() -> Result<Cell, TonError> {
    pinned(include_bytes!("../contracts/channel.boc"), CHANNEL_CODE_HASH)
}

/// The registry contract's code.
///
/// # Errors
/// [`TonError::Code`] in a damaged build.
pub fn registry_code() -> Result<Cell, TonError> {
    pinned(include_bytes!("../contracts/registry.boc"), REGISTRY_CODE_HASH)
}

/// The wallet contract's code, which is not ours.
pub(crate) fn wallet_code() -> Result<Cell, TonError> {
    pinned(include_bytes!("../contracts/wallet-v5r1.boc"), WALLET_CODE_HASH)
}

fn pinned(boc: &[u8], expected: Digest) -> Result<Cell, TonError> {
    let code = read_boc(boc)?;
    let got = code.hash();
    if got == expected { Ok(code) } else { Err(TonError::Code { expected, got }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compiled_contracts_have_the_pinned_hashes() {
        assert_eq!(channel_code().unwrap().hash(), CHANNEL_CODE_HASH);
        assert_eq!(registry_code().unwrap().hash(), REGISTRY_CODE_HASH);
        assert_eq!(wallet_code().unwrap().hash(), WALLET_CODE_HASH);
    }

    #[test]
    fn refuses_code_with_another_hash() {
        let refused = pinned(include_bytes!("../contracts/channel.boc"), REGISTRY_CODE_HASH);
        let (expected, got) = (REGISTRY_CODE_HASH, CHANNEL_CODE_HASH);
        assert_eq!(refused, Err(TonError::Code { expected, got }));
    }
}
