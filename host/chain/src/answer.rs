//! Reads toncenter's answers into exact types. They are a stranger's: a number that is not minimal, a
//! list that is too long or an answer about something else is refused, never repaired.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use chrysalis_receipt::{Cell, CellBuilder};
use chrysalis_ton::{account_of, read_boc};
use chrysalis_wire::{Digest, UnixTime};
use serde::Deserialize;
use serde_json::Value;

use crate::access::{AccountState, Deployed, Received, TransactionView};
use crate::error::{AccessError, shown};
use crate::limits::{MAX_SENT, MAX_STACK, MAX_TRANSACTIONS};

#[derive(Deserialize)]
struct Envelope {
    ok: bool,
    #[serde(default)]
    result: Value,
    #[serde(default)]
    error: Option<Value>,
    #[serde(default)]
    code: Option<u16>,
}

/// The result in an answer, or what the server says instead.
pub(crate) fn result(status: u16, body: &[u8]) -> Result<Value, AccessError> {
    if (300..400).contains(&status) {
        return Err(AccessError::Redirect { got: status });
    }
    if status == 429 {
        return Err(AccessError::RateLimited);
    }
    let envelope: Envelope = match serde_json::from_slice(body) {
        Ok(envelope) => envelope,
        Err(_) if status != 200 => {
            // A gateway's error page.
            let message = shown(&String::from_utf8_lossy(body));
            return Err(AccessError::Refused { status, message });
        }
        Err(error) => return Err(AccessError::malformed("JSON of API v2", error)),
    };
    if envelope.ok && status == 200 {
        return Ok(envelope.result);
    }
    let message = match envelope.error {
        Some(Value::String(text)) => text,
        other => other.unwrap_or_default().to_string(),
    };
    if message.contains("cannot apply external message") {
        return Err(AccessError::NotAccepted { exit_code: exit_code_in(&message) });
    }
    let status = envelope.code.filter(|code| *code >= 400).unwrap_or(status);
    if status == 429 {
        return Err(AccessError::RateLimited);
    }
    Err(AccessError::Refused { status, message: shown(&message) })
}

/// The number after `exitcode=`.
fn exit_code_in(message: &str) -> Option<i32> {
    let (_, after) = message.split_once("exitcode=")?;
    let digits: String = after.chars().take_while(|c| c.is_ascii_digit() || *c == '-').collect();
    digits.parse().ok()
}

#[derive(Deserialize)]
struct Id {
    lt: String,
    hash: String,
}

#[derive(Deserialize)]
struct Account {
    balance: Value,
    state: String,
    code: String,
    data: String,
    last_transaction_id: Id,
    sync_utime: u64,
}

pub(crate) fn account(result: Value) -> Result<AccountState, AccessError> {
    const WHAT: &str = "an account";
    let account: Account = parse(WHAT, result)?;
    let contract = match account.state.as_str() {
        "active" => {
            let (code, data) = (cell(WHAT, &account.code)?, cell(WHAT, &account.data)?);
            Some(Deployed { code, data })
        }
        "uninitialized" | "frozen" => None,
        other => return Err(AccessError::malformed(WHAT, format!("its state is {other:?}"))),
    };
    Ok(AccountState {
        balance: amount(WHAT, &account.balance)?,
        contract,
        last_lt: number(WHAT, &account.last_transaction_id.lt)?,
        last_hash: hash(WHAT, &account.last_transaction_id.hash)?,
        at: UnixTime(account.sync_utime),
    })
}

#[derive(Deserialize)]
struct Called {
    exit_code: i32,
    stack: Vec<(String, Value)>,
}

pub(crate) fn numbers(
    account: Digest,
    method: &str,
    result: Value,
) -> Result<Vec<Digest>, AccessError> {
    const WHAT: &str = "a list of numbers";
    let called: Called = parse(WHAT, result)?;
    match called.exit_code {
        0 | 1 => {}
        // What toncenter answers where nothing is.
        -13 => return Err(AccessError::NoContract { account }),
        exit_code => return Err(AccessError::Threw { method: method.to_owned(), exit_code }),
    }
    if called.stack.len() > MAX_STACK {
        return Err(AccessError::malformed(WHAT, format!("{} values", called.stack.len())));
    }
    let number = |(kind, value): &(String, Value)| match (kind.as_str(), value) {
        ("num", Value::String(text)) => natural(text),
        _ => None,
    };
    let numbers = called.stack.iter().map(number).collect::<Option<Vec<_>>>();
    numbers.ok_or_else(|| AccessError::malformed(WHAT, "a value is no natural number"))
}

/// `0x` and hexadecimal digits, in 32 bytes.
fn natural(text: &str) -> Option<Digest> {
    let digits = text.strip_prefix("0x")?;
    if digits.is_empty() || digits.len() > 64 {
        return None;
    }
    format!("{:0>64}", digits.to_ascii_lowercase()).parse().ok()
}

#[derive(Deserialize)]
struct Transaction {
    #[serde(default)]
    address: Option<Shown>,
    utime: u64,
    transaction_id: Id,
    fee: Value,
    #[serde(default)]
    in_msg: Option<Message>,
    out_msgs: Vec<Message>,
}

#[derive(Deserialize)]
struct Shown {
    account_address: String,
}

#[derive(Deserialize)]
struct Message {
    source: String,
    destination: String,
    value: Value,
}

pub(crate) fn transactions(
    account: Digest,
    after_lt: u64,
    limit: usize,
    result: Value,
) -> Result<Vec<TransactionView>, AccessError> {
    const WHAT: &str = "a list of transactions";
    let listed: Vec<Transaction> = parse(WHAT, result)?;
    if listed.len() > limit.min(MAX_TRANSACTIONS) {
        return Err(AccessError::malformed(WHAT, format!("{} of them", listed.len())));
    }
    let mut views = Vec::with_capacity(listed.len());
    let mut before = u64::MAX;
    for shown in listed {
        let view = transaction(account, &shown)?;
        if view.lt <= after_lt || view.lt >= before {
            return Err(AccessError::malformed(WHAT, "not newest first, or older than asked for"));
        }
        before = view.lt;
        views.push(view);
    }
    Ok(views)
}

fn transaction(account: Digest, shown: &Transaction) -> Result<TransactionView, AccessError> {
    const WHAT: &str = "a transaction";
    let about = |text: &str| {
        let got = account_of(text).map_err(|e| AccessError::malformed(WHAT, e))?;
        if got == account {
            Ok(())
        } else {
            Err(AccessError::OtherAccount { expected: account, got })
        }
    };
    if let Some(address) = &shown.address {
        about(&address.account_address)?;
    }
    let received = match &shown.in_msg {
        None => None,
        Some(message) => {
            about(&message.destination)?;
            let value = amount(WHAT, &message.value)?;
            Some(Received { from: account_of(&message.source).ok(), value })
        }
    };
    if shown.out_msgs.len() > MAX_SENT {
        return Err(AccessError::malformed(WHAT, "it sends too much"));
    }
    let mut sent = Vec::new();
    for message in &shown.out_msgs {
        about(&message.source)?;
        // What goes to the outside or to another workchain is none of our payments.
        if let Ok(to) = account_of(&message.destination) {
            sent.push((to, amount(WHAT, &message.value)?));
        }
    }
    Ok(TransactionView {
        lt: number(WHAT, &shown.transaction_id.lt)?,
        hash: hash(WHAT, &shown.transaction_id.hash)?,
        at: UnixTime(shown.utime),
        fee: amount(WHAT, &shown.fee)?,
        received,
        sent,
    })
}

fn parse<T: serde::de::DeserializeOwned>(
    what: &'static str,
    result: Value,
) -> Result<T, AccessError> {
    serde_json::from_value(result).map_err(|e| AccessError::malformed(what, e))
}

/// Nanogram: decimal digits, or a JSON number. More than coins can be is refused.
fn amount(what: &'static str, value: &Value) -> Result<u128, AccessError> {
    let amount = match value {
        Value::String(text) => decimal(text),
        Value::Number(number) => number.as_u64().map(u128::from),
        _ => None,
    };
    let fits = |amount: &u128| CellBuilder::new().coins(*amount).is_ok();
    amount.filter(fits).ok_or_else(|| AccessError::malformed(what, "an amount is none"))
}

fn number(what: &'static str, text: &str) -> Result<u64, AccessError> {
    let number = decimal(text).and_then(|number| u64::try_from(number).ok());
    number.ok_or_else(|| AccessError::malformed(what, "a logical time is none"))
}

/// Decimal digits and nothing else; `parse` alone would take a plus sign.
fn decimal(text: &str) -> Option<u128> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn hash(what: &'static str, text: &str) -> Result<Digest, AccessError> {
    let bytes = STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text)).ok();
    let hash = bytes.and_then(|bytes| bytes.try_into().ok());
    hash.map(Digest).ok_or_else(|| AccessError::malformed(what, "a hash is none"))
}

fn cell(what: &'static str, text: &str) -> Result<Cell, AccessError> {
    let boc = STANDARD.decode(text).map_err(|_| AccessError::malformed(what, "no base64"))?;
    Ok(read_boc(&boc)?)
}
