//! Runs get-methods. `tycho_vm::VmCaller` would do it without the instructions of the newest version,
//! which our contracts use, so the machine is set up here.

use chrysalis_wire::Digest;
use num_bigint::{BigInt, Sign};
use tycho_executor::ParsedConfig;
use tycho_types::cell::{Cell, HashBytes};
use tycho_types::models::{Account, AccountState};
use tycho_vm::{GasParams, RcStackValue, SmcInfoBase, VmGetterMethodId as _, VmState, VmVersion};

use crate::config::GLOBAL_VERSION;
use crate::error::ChainError;

/// The numbers that a method of `account` returns at a time, given others.
pub(crate) fn run(
    config: &ParsedConfig,
    account: &Account,
    now: u32,
    method: &str,
    arguments: &[Digest],
) -> Result<Vec<Digest>, ChainError> {
    let id = account.address.as_std().map_or(HashBytes::ZERO, |a| a.address);
    let (code, data) = match &account.state {
        AccountState::Active(init) => (init.code.clone(), init.data.clone()),
        _ => (None, None),
    };
    let code = code.ok_or(ChainError::NoContract { account: Digest(id.0) })?;
    let numbers = arguments.iter().map(|number| BigInt::from_bytes_be(Sign::Plus, &number.0));
    let selector = BigInt::from(method.as_getter_method_id());
    let stack: Vec<_> = numbers.chain([selector]).map(RcStackValue::new_dyn_value).collect();

    let info = SmcInfoBase::new()
        .with_now(now)
        .with_block_lt(account.last_trans_lt)
        .with_tx_lt(account.last_trans_lt)
        .with_mixed_rand_seed(&HashBytes::ZERO, &id)
        .with_account_balance(account.balance.clone())
        .with_account_addr(account.address.clone())
        .with_config(config.raw.params.clone())
        .require_ton_v4()
        .with_code(code.clone())
        .require_ton_v6()
        .fill_unpacked_config()
        .map_err(ChainError::executor)?
        .require_ton_v11();
    let mut machine = VmState::builder()
        .with_smc_info(info)
        .with_code(code)
        .with_data(data.unwrap_or_else(Cell::default))
        .with_init_selector(false)
        .with_stack(stack)
        .with_gas(GasParams::getter())
        .with_version(VmVersion::Ton(GLOBAL_VERSION))
        .build();
    // The machine counts exit codes down from -1.
    match !machine.run() {
        0 | 1 => {}
        exit_code => return Err(ChainError::NotAccepted { exit_code }),
    }
    let values = machine.stack.items.iter().cloned();
    values.map(|value| number(value, method)).collect()
}

/// A number of the stack in 32 bytes.
fn number(value: RcStackValue, method: &str) -> Result<Digest, ChainError> {
    let refused = || ChainError::malformed("result of a get-method", method);
    let (sign, bytes) = value.into_int().map_err(|_| refused())?.to_bytes_be();
    let start = 32usize.checked_sub(bytes.len()).filter(|_| sign != Sign::Minus);
    let mut number = [0; 32];
    let place = start.and_then(|start| number.get_mut(start..)).ok_or_else(refused)?;
    place.copy_from_slice(&bytes);
    Ok(Digest(number))
}
