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
use crate::stack::{Called, MAX_RESULT_DEPTH, MAX_RESULT_VALUES, StackValue};

/// Runs a method of `account` at a time.
pub(crate) fn call(
    config: &ParsedConfig,
    account: &Account,
    now: u32,
    method: &str,
    arguments: &[StackValue],
) -> Result<Called, ChainError> {
    let id = account.address.as_std().map_or(HashBytes::ZERO, |a| a.address);
    let (code, data) = match &account.state {
        AccountState::Active(init) => (init.code.clone(), init.data.clone()),
        _ => (None, None),
    };
    let code = code.ok_or(ChainError::NoContract { account: Digest(id.0) })?;
    let mut stack =
        arguments.iter().map(StackValue::to_machine).collect::<Result<Vec<_>, ChainError>>()?;
    stack.push(RcStackValue::new_dyn_value(BigInt::from(method.as_getter_method_id())));

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
    let exit_code = !machine.run();
    let gas = machine.gas.consumed();
    let mut left = MAX_RESULT_VALUES;
    let values = machine.stack.items.iter();
    let stack = values.map(|value| StackValue::of_machine(value, MAX_RESULT_DEPTH, &mut left));
    let stack = stack.collect::<Result<_, _>>();
    // What lies on the stack of a method that threw is no result, so nobody misses it.
    let stack = if matches!(exit_code, 0 | 1) { stack? } else { stack.unwrap_or_default() };
    Ok(Called { exit_code, gas, stack })
}

/// The numbers that a method of `account` returns at a time, given others.
pub(crate) fn run(
    config: &ParsedConfig,
    account: &Account,
    now: u32,
    method: &str,
    arguments: &[Digest],
) -> Result<Vec<Digest>, ChainError> {
    let number = |number: &Digest| StackValue::Number(BigInt::from_bytes_be(Sign::Plus, &number.0));
    let arguments: Vec<StackValue> = arguments.iter().map(number).collect();
    let called = call(config, account, now, method, &arguments)?;
    if !called.succeeded() {
        return Err(ChainError::NotAccepted { exit_code: called.exit_code });
    }
    called.stack.iter().map(|value| natural(value, method)).collect()
}

/// A number of the stack in 32 bytes.
fn natural(value: &StackValue, method: &str) -> Result<Digest, ChainError> {
    let refused = || ChainError::malformed("result of a get-method", method);
    let StackValue::Number(number) = value else { return Err(refused()) };
    let (sign, bytes) = number.to_bytes_be();
    let start = 32usize.checked_sub(bytes.len()).filter(|_| sign != Sign::Minus);
    let mut number = [0; 32];
    let place = start.and_then(|start| number.get_mut(start..)).ok_or_else(refused)?;
    place.copy_from_slice(&bytes);
    Ok(Digest(number))
}
