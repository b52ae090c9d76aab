//! The methods, with the meaning that toncenter gives them.

use chrysalis_wire::Digest;
use num_bigint::BigInt;
use serde_json::{Value, json};

use super::request::{Call, Fault, boc};
use super::shape;
use crate::account::Status;
use crate::error::ChainError;
use crate::estimate::Draft;
use crate::node::{Node, Range};
use crate::stack::StackValue;

/// Runs one call.
pub(super) fn run(node: &Node, call: &Call) -> Result<Value, Fault> {
    let account = || call.account("address");
    let network = node.network();
    match call.method.as_str() {
        "getMasterchainInfo" => Ok(shape::masterchain(node.head())),
        "getConsensusBlock" => {
            let head = node.head();
            Ok(json!({ "consensus_block": head.seqno, "timestamp": head.now }))
        }
        "getAddressInformation" => Ok(shape::account(&node.account(account()?)?, node.head())),
        "getAddressBalance" => Ok(node.account(account()?)?.balance.to_string().into()),
        "getAddressState" => Ok(shape::state(node.account(account()?)?.status).into()),
        "getWalletInformation" => wallet(node, account()?),
        "runGetMethod" => run_get_method(node, call),
        "sendBoc" => {
            node.send(&message(call)?)?;
            Ok(json!({ "@type": "ok" }))
        }
        "sendBocReturnHash" => {
            let (hash, _) = node.send(&message(call)?)?;
            Ok(json!({ "@type": "raw.extMessageInfo", "hash": shape::base64(&hash.0) }))
        }
        "getTransactions" => transactions(node, call),
        "estimateFee" => estimate(node, call),
        "getConfigParam" => {
            let number = call.number("config_id")?.or(call.number("param")?);
            let number = number.ok_or_else(|| Fault::new(422, "config_id is missing"))?;
            let cell = node.config_param(number)?;
            let cell = cell.ok_or_else(|| Fault::new(404, "the parameter is not set"))?;
            Ok(json!({ "@type": "configInfo", "config": shape::cell(&cell) }))
        }
        "faucet" => {
            let amount = call.number("amount")?;
            let amount = amount.ok_or_else(|| Fault::new(422, "amount (nanogram) is missing"))?;
            let done = node.faucet(account()?, amount)?;
            let lt = done.first().map_or(0, |first| first.lt);
            Ok(json!({ "@type": "ok", "amount": amount.to_string(), "lt": lt.to_string() }))
        }
        "advance" => {
            let seconds = call.number("seconds")?;
            let seconds = seconds.ok_or_else(|| Fault::new(422, "seconds is missing"))?;
            let head = node.advance(seconds)?;
            Ok(json!({ "@type": "ok", "now": head.now, "seqno": head.seqno }))
        }
        "" => Ok(json!({
            "what": super::NOTICE,
            "network": network.0,
            "api": "/api/v2/METHOD, /api/v2/jsonRPC, POST /faucet, POST /advance",
        })),
        other => {
            let shown: String = other.chars().take(MAX_SHOWN_CHARS).collect();
            Err(Fault::new(404, format!("there is no method {shown:?} here")))
        }
    }
}

fn message(call: &Call) -> Result<Vec<u8>, Fault> {
    call.boc("boc")?.ok_or_else(|| Fault::new(422, "boc is missing"))
}

fn wallet(node: &Node, id: Digest) -> Result<Value, Fault> {
    let account = node.account(id)?;
    let mut found = json!({
        "wallet": false,
        "balance": account.balance.to_string(),
        "account_state": shape::state(account.status),
        "last_transaction_id": shape::transaction_id(account.last_lt, account.last_hash),
    });
    if account.status == Status::Active
        && let Ok(called) = node.call(id, "seqno", &[])
        && called.succeeded()
        && let [StackValue::Number(seqno)] = called.stack.as_slice()
        && let Some(object) = found.as_object_mut()
        && let Ok(seqno) = u32::try_from(seqno)
    {
        object.insert("wallet".to_owned(), true.into());
        object.insert("seqno".to_owned(), seqno.into());
    }
    Ok(found)
}

fn run_get_method(node: &Node, call: &Call) -> Result<Value, Fault> {
    let account = call.account("address")?;
    let method = call.required("method")?;
    let stack = call.list("stack")?;
    if stack.len() > MAX_ARGUMENTS {
        return Err(Fault::new(422, format!("over {MAX_ARGUMENTS} values on the stack")));
    }
    let arguments = stack.iter().map(argument).collect::<Result<Vec<_>, _>>()?;
    match node.call(account, &method, &arguments) {
        Ok(called) => Ok(shape::called(called.exit_code, called.gas, &called.stack)),
        // What toncenter answers where there is no contract.
        Err(ChainError::NoContract { .. }) => Ok(shape::called(NO_CONTRACT, 0, &[])),
        Err(error) => Err(error.into()),
    }
}

/// An argument as toncenter takes it: `["num", "0x2a"]`, `["tvm.Cell", base64]`.
fn argument(value: &Value) -> Result<StackValue, Fault> {
    let refused = || Fault::new(422, "a value of the stack is neither num, tvm.Cell nor tvm.Slice");
    let Some([Value::String(kind), value]) = value.as_array().map(Vec::as_slice) else {
        return Err(refused());
    };
    match (kind.as_str(), value) {
        ("num", Value::Number(number)) => number_of(&number.to_string()).ok_or_else(refused),
        ("num" | "int", Value::String(text)) => number_of(text).ok_or_else(refused),
        ("tvm.Cell" | "cell", Value::String(text)) => boc(text).map(StackValue::Cell),
        ("tvm.Slice" | "slice", Value::String(text)) => boc(text).map(StackValue::Slice),
        ("null", _) => Ok(StackValue::Null),
        _ => Err(refused()),
    }
}

fn number_of(text: &str) -> Option<StackValue> {
    if text.len() > MAX_NUMBER_CHARS {
        return None;
    }
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let number = match digits.strip_prefix("0x") {
        Some(hex) => BigInt::parse_bytes(hex.as_bytes(), 16),
        None => BigInt::parse_bytes(digits.as_bytes(), 10),
    }?;
    Some(StackValue::Number(if negative { -number } else { number }))
}

fn transactions(node: &Node, call: &Call) -> Result<Value, Fault> {
    let limit = call.number("limit")?.unwrap_or(DEFAULT_TRANSACTIONS);
    if limit > MAX_TRANSACTIONS {
        return Err(Fault::new(422, format!("limit is over {MAX_TRANSACTIONS}")));
    }
    let range = Range {
        from_lt: call.number("lt")?.filter(|lt| *lt != 0),
        after_lt: call.number("to_lt")?.unwrap_or(0),
        limit,
    };
    let listed = node.transactions(call.account("address")?, range);
    let shapes = listed.iter().map(|entry| shape::transaction(entry, node.network()));
    Ok(Value::Array(shapes.collect::<Result<_, ChainError>>()?))
}

fn estimate(node: &Node, call: &Call) -> Result<Value, Fault> {
    let body = call.boc("body")?.ok_or_else(|| Fault::new(422, "body is missing"))?;
    let (code, data) = (call.boc("init_code")?, call.boc("init_data")?);
    let draft = Draft { to: call.account("address")?, body, code, data };
    let signed = !call.flag("ignore_chksig")?;
    Ok(shape::fees(&node.estimate(&draft, signed)?))
}

/// Most values that a get-method is given.
const MAX_ARGUMENTS: usize = 64;
/// Longest number in digits: 257 bits and a sign.
const MAX_NUMBER_CHARS: usize = 80;
/// Transactions of one answer unless said otherwise, as toncenter has it.
const DEFAULT_TRANSACTIONS: usize = 10;
/// Most transactions of one answer, as toncenter has it.
pub(super) const MAX_TRANSACTIONS: usize = 100;
/// Longest text of a caller that is repeated to it.
const MAX_SHOWN_CHARS: usize = 64;
/// Exit code of a get-method where there is no contract.
const NO_CONTRACT: i32 = -13;
