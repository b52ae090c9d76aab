//! What messages cost: configuration parameters 18, 20, 21, 24 and 25 of TON's main network as
//! published in mid-2026, after the prices of the base workchain fell on 2026-04-29. Facts to be
//! read again before a fee is quoted.

use chrysalis_wire::NetworkId;
use tycho_types::cell::{Cell, CellBuilder, HashBytes};
use tycho_types::dict::Dict;
use tycho_types::models::{
    BlockchainConfig, BlockchainConfigParams, GasLimitsPrices, GlobalCapabilities, GlobalVersion,
    MsgForwardPrices, StoragePrices, WorkchainDescription, WorkchainFormat, WorkchainFormatBasic,
};

/// Version of the TVM, the one whose behaviour `tycho-executor` implements for TON. The networks
/// themselves are at 15.
pub const GLOBAL_VERSION: u32 = 12;
/// Price of one gas in the base workchain, in 1/2^16 nanogram: 66.67 nanogram.
pub const GAS_PRICE: u64 = 4_369_067;
/// What the first [`FLAT_GAS_LIMIT`] gas of a transaction cost together, nanogram.
pub const FLAT_GAS_PRICE: u64 = 6_667;
/// Gas that [`FLAT_GAS_PRICE`] pays for.
pub const FLAT_GAS_LIMIT: u64 = 100;
/// Most gas of a transaction.
pub const GAS_LIMIT: u64 = 1_000_000;
/// Gas that an external message may use before the contract accepts to pay.
pub const GAS_CREDIT: u64 = 10_000;
/// Price of a message, nanogram.
pub const MESSAGE_LUMP_PRICE: u64 = 66_667;
/// Price of a bit of a message outside its root cell, in 1/2^16 nanogram.
pub const MESSAGE_BIT_PRICE: u64 = 4_369_067;
/// Price of a cell of a message besides its root cell, in 1/2^16 nanogram.
pub const MESSAGE_CELL_PRICE: u64 = 436_906_667;
/// Rent of a cell, in 1/2^16 nanogram per second. Bits are free.
pub const STORAGE_CELL_PRICE: u64 = 135;

/// The configuration of a chain with this `GLOBALID`.
pub(crate) fn blockchain_config(
    network: NetworkId,
) -> Result<BlockchainConfig, tycho_types::error::Error> {
    // The address of the configuration contract; no such account exists here.
    let address = HashBytes([0x55; 32]);
    let mut only = Dict::<u32, Cell>::new();
    only.set(0, CellBuilder::build_from(address)?)?;
    let root = only.into_root().unwrap_or_default();
    let mut p = BlockchainConfigParams::from_raw(root);

    p.set_global_version(&GlobalVersion {
        version: GLOBAL_VERSION,
        capabilities: GlobalCapabilities::new(CAPABILITIES),
    })?;
    p.set_global_id(network.0)?;
    p.set_workchains(&base_workchain()?)?;
    // No account is exempt from fees.
    p.set_fundamental_addresses(&[])?;
    p.set_storage_prices(&[StoragePrices {
        utime_since: 0,
        bit_price_ps: 0,
        cell_price_ps: STORAGE_CELL_PRICE,
        mc_bit_price_ps: 1_000,
        mc_cell_price_ps: 500_000,
    }])?;
    for (masterchain, price, flat) in
        [(false, GAS_PRICE, FLAT_GAS_PRICE), (true, 655_360_000, 1_000_000)]
    {
        p.set_gas_prices(masterchain, &gas_prices(price, flat))?;
    }
    for (masterchain, lump, bit, cell) in [
        (false, MESSAGE_LUMP_PRICE, MESSAGE_BIT_PRICE, MESSAGE_CELL_PRICE),
        (true, 10_000_000, 655_360_000, 65_536_000_000),
    ] {
        p.set_msg_forward_prices(masterchain, &forward_prices(lump, bit, cell))?;
    }
    Ok(BlockchainConfig { address, params: p })
}

fn base_workchain() -> Result<Dict<i32, WorkchainDescription>, tycho_types::error::Error> {
    let mut workchains = Dict::new();
    workchains.set(
        0,
        WorkchainDescription {
            enabled_since: 0,
            actual_min_split: 0,
            min_split: 0,
            max_split: 4,
            active: true,
            accept_msgs: true,
            zerostate_root_hash: HashBytes::ZERO,
            zerostate_file_hash: HashBytes::ZERO,
            version: 0,
            format: WorkchainFormat::Basic(WorkchainFormatBasic { vm_version: -1, vm_mode: 0 }),
        },
    )?;
    Ok(workchains)
}

const fn gas_prices(gas_price: u64, flat_gas_price: u64) -> GasLimitsPrices {
    GasLimitsPrices {
        gas_price,
        gas_limit: GAS_LIMIT,
        special_gas_limit: GAS_LIMIT,
        gas_credit: GAS_CREDIT,
        block_gas_limit: 10_000_000,
        freeze_due_limit: 100_000_000,
        delete_due_limit: 1_000_000_000,
        flat_gas_limit: FLAT_GAS_LIMIT,
        flat_gas_price,
    }
}

const fn forward_prices(lump_price: u64, bit_price: u64, cell_price: u64) -> MsgForwardPrices {
    MsgForwardPrices {
        lump_price,
        bit_price,
        cell_price,
        ihr_price_factor: 98_304,
        // One third of a message's price goes to those who take it from its sender.
        first_frac: 21_845,
        next_frac: 21_845,
    }
}

/// Capabilities of parameter 8 on TON: creating statistics, bounced bodies, short dequeue,
/// fast split and merge among them.
const CAPABILITIES: u64 = 0x1ee;
