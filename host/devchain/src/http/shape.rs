//! What toncenter's API v2 answers look like. Numbers that JSON cannot hold are decimal strings,
//! hashes and bags of cells are base64, addresses are what wallets show.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrysalis_ton::Address;
use chrysalis_wire::{Digest, NetworkId};
use num_bigint::{BigInt, Sign};
use serde_json::{Value, json};
use tycho_types::boc::Boc;
use tycho_types::cell::{Cell, CellBuilder, CellSlice};
use tycho_types::models::{IntAddr, MsgInfo, OwnedMessage, Transaction as Recorded};

use crate::account::{AccountView, Status};
use crate::error::ChainError;
use crate::estimate::{Fees, fees as parts_of};
use crate::history::Entry;
use crate::node::Head;
use crate::stack::StackValue;

pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// A block. It has a number and no content, so its hashes are zeros.
fn block(head: Head) -> Value {
    json!({
        "@type": "ton.blockIdExt",
        "workchain": -1,
        "shard": "-9223372036854775808",
        "seqno": head.seqno,
        "root_hash": base64(&[0; 32]),
        "file_hash": base64(&[0; 32]),
    })
}

pub(super) fn masterchain(head: Head) -> Value {
    json!({
        "@type": "blocks.masterchainInfo",
        "last": block(head),
        "state_root_hash": base64(&[0; 32]),
        "init": block(Head { seqno: 0, now: 0 }),
    })
}

pub(super) const fn state(status: Status) -> &'static str {
    match status {
        Status::Uninitialized => "uninitialized",
        Status::Active => "active",
        Status::Frozen => "frozen",
    }
}

pub(super) fn transaction_id(lt: u64, hash: Digest) -> Value {
    json!({ "@type": "internal.transactionId", "lt": lt.to_string(), "hash": base64(&hash.0) })
}

pub(super) fn account(account: &AccountView, head: Head) -> Value {
    let bytes = |boc: &Option<Vec<u8>>| boc.as_deref().map(base64).unwrap_or_default();
    json!({
        "@type": "raw.fullAccountState",
        "balance": account.balance.to_string(),
        "code": bytes(&account.code),
        "data": bytes(&account.data),
        "last_transaction_id": transaction_id(account.last_lt, account.last_hash),
        "block_id": block(head),
        "frozen_hash": account.frozen_hash.map(|hash| base64(&hash.0)).unwrap_or_default(),
        "sync_utime": head.now,
        "state": state(account.status),
    })
}

pub(super) fn cell(boc: &[u8]) -> Value {
    json!({ "@type": "tvm.cell", "bytes": base64(boc) })
}

pub(super) fn called(exit_code: i32, gas: u64, stack: &[StackValue]) -> Value {
    json!({
        "@type": "smc.runResult",
        "gas_used": gas,
        "stack": stack.iter().map(value).collect::<Vec<_>>(),
        "exit_code": exit_code,
    })
}

/// A value on top of the stack: its kind and itself.
fn value(value: &StackValue) -> Value {
    match value {
        StackValue::Null => json!(["list", { "@type": "tvm.list", "elements": [] }]),
        StackValue::Number(number) => json!(["num", hex(number)]),
        StackValue::Cell(boc) => json!(["cell", { "bytes": base64(boc) }]),
        StackValue::Slice(boc) => json!(["slice", { "bytes": base64(boc) }]),
        StackValue::Builder(boc) => json!(["builder", { "bytes": base64(boc) }]),
        StackValue::Tuple(values) => {
            let elements: Vec<Value> = values.iter().map(element).collect();
            json!(["tuple", { "@type": "tvm.tuple", "elements": elements }])
        }
    }
}

/// A value inside a tuple, where toncenter spells them differently.
fn element(value: &StackValue) -> Value {
    let entry = |name: &str, kind: &str, inner: Value| json!({ "@type": kind, name: inner });
    match value {
        StackValue::Null => {
            entry("list", "tvm.stackEntryList", json!({ "@type": "tvm.list", "elements": [] }))
        }
        StackValue::Number(number) => entry(
            "number",
            "tvm.stackEntryNumber",
            json!({ "@type": "tvm.numberDecimal", "number": number.to_string() }),
        ),
        StackValue::Cell(boc) => entry("cell", "tvm.stackEntryCell", cell(boc)),
        StackValue::Slice(boc) | StackValue::Builder(boc) => entry(
            "slice",
            "tvm.stackEntrySlice",
            json!({ "@type": "tvm.slice", "bytes": base64(boc) }),
        ),
        StackValue::Tuple(values) => {
            let elements: Vec<Value> = values.iter().map(element).collect();
            let tuple = json!({ "@type": "tvm.tuple", "elements": elements });
            entry("tuple", "tvm.stackEntryTuple", tuple)
        }
    }
}

fn hex(number: &BigInt) -> String {
    let sign = if number.sign() == Sign::Minus { "-" } else { "" };
    format!("{sign}0x{}", number.magnitude().to_str_radix(16))
}

pub(super) fn fees(fees: &Fees) -> Value {
    let source = json!({
        "@type": "fees",
        "in_fwd_fee": small(fees.in_fwd),
        "storage_fee": small(fees.storage),
        "gas_fee": small(fees.gas),
        "fwd_fee": small(fees.fwd),
    });
    json!({ "@type": "query.fees", "source_fees": source, "destination_fees": [] })
}

/// A fee, which toncenter writes as a JSON number. None is near the end of its range.
fn small(fee: u128) -> u64 {
    u64::try_from(fee).unwrap_or(u64::MAX)
}

pub(super) fn transaction(entry: &Entry, network: NetworkId) -> Result<Value, ChainError> {
    let recorded = entry.cell.parse::<Recorded>().map_err(ChainError::executor)?;
    let parts = parts_of(&entry.cell)?;
    let mut sent = Vec::new();
    for message in recorded.out_msgs.values() {
        sent.push(self::message(&message.map_err(ChainError::executor)?, network)?);
    }
    let total = recorded.total_fees.tokens.into_inner();
    let mut shape = json!({
        "@type": "raw.transaction",
        "address": {
            "@type": "accountAddress",
            "account_address": shown(entry.account, network),
        },
        "utime": recorded.now,
        "data": base64(&entry.boc()),
        "transaction_id": transaction_id(entry.lt, entry.hash()),
        "fee": total.to_string(),
        "storage_fee": parts.storage.to_string(),
        "other_fee": total.saturating_sub(parts.storage).to_string(),
        "out_msgs": sent,
    });
    if let (Some(message), Some(object)) = (&recorded.in_msg, shape.as_object_mut()) {
        object.insert("in_msg".to_owned(), self::message(message, network)?);
    }
    Ok(shape)
}

fn message(cell: &Cell, network: NetworkId) -> Result<Value, ChainError> {
    let message = cell.parse::<OwnedMessage>().map_err(ChainError::executor)?;
    let address = |address: &IntAddr| {
        address.as_std().map(|a| shown(Digest(a.address.0), network)).unwrap_or_default()
    };
    let (source, destination, value, fwd_fee, created_lt) = match &message.info {
        MsgInfo::Int(info) => (
            address(&info.src),
            address(&info.dst),
            info.value.tokens.into_inner(),
            info.fwd_fee.into_inner(),
            info.created_lt,
        ),
        MsgInfo::ExtIn(info) => (String::new(), address(&info.dst), 0, 0, 0),
        MsgInfo::ExtOut(info) => (address(&info.src), String::new(), 0, 0, info.created_lt),
    };
    let mut body = CellBuilder::new();
    let rest = CellSlice::apply_allow_exotic(&message.body);
    body.store_slice(rest).map_err(ChainError::executor)?;
    let body = body.build().map_err(ChainError::executor)?;
    let init =
        message.init.map(CellBuilder::build_from).transpose().map_err(ChainError::executor)?;
    Ok(json!({
        "@type": "raw.message",
        "hash": base64(&cell.repr_hash().0),
        "source": source,
        "destination": destination,
        "value": value.to_string(),
        "fwd_fee": fwd_fee.to_string(),
        "ihr_fee": "0",
        "created_lt": created_lt.to_string(),
        "body_hash": base64(&body.repr_hash().0),
        "msg_data": {
            "@type": "msg.dataRaw",
            "body": base64(&Boc::encode(&body)),
            "init_state": init.map(|init| base64(&Boc::encode(init))).unwrap_or_default(),
        },
    }))
}

fn shown(account: Digest, network: NetworkId) -> String {
    Address::contract(account, network).to_string()
}
