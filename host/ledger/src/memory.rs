//! What a payer has to remember of one channel besides its sums: which requests may still cost
//! something, which receipts a claim includes, and the claim it does not pay. Without it every start
//! would have to take all that was ever allowed for owed.

use chrysalis_receipt::{ChannelId, Claim};
use chrysalis_wire::{Digest, RequestId, UnixTime};
use redb::{
    ReadTransaction, ReadableTable as _, TableDefinition, TableError, TableHandle as _,
    WriteTransaction,
};
use serde::{Deserialize, Serialize};

use crate::channel::Entry;
use crate::error::{LedgerError, damaged, storage};
use crate::ledger::{KEY_BYTES, Recorded, key};
use crate::nano::Nano;

/// What a payer remembers of one channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Receipts that the last accepted claim includes for certain, nanogram since the channel was opened.
    pub included: u128,
    /// Requests that were begun and have not ended.
    pub open: Vec<OpenRequest>,
    /// Those of which a claim ought to have said what they cost, and no receipt did.
    pub late: Vec<OpenRequest>,
    /// What claims said that only the late ones explain, nanogram; which of them is not known.
    pub explained: u128,
    /// The most that claims can say of requests that are over without a receipt, and of those that were
    /// forgotten, nanogram. `None` in a record of an older build: all that the last claim says beyond
    /// [`Memory::included`].
    pub unreceipted: Option<u128>,
    /// Receipts of requests whose answers were given up, as JSON of [`chrysalis_receipt::PublicReceipt`].
    pub found: Vec<Vec<u8>>,
    /// The claim that ended the payments.
    pub overcharge: Option<Overcharge>,
    /// The two logs that ended the payments.
    pub fork: Option<Fork>,
    /// Meter that is paid though it has shown two logs.
    pub forgiven: Option<Digest>,
}

impl Memory {
    /// What ended the payments, if anything did.
    #[must_use]
    pub fn stopped(&self) -> Option<Stopped> {
        let overcharge = self.overcharge.clone().map(Box::new).map(Stopped::Overcharge);
        overcharge.or_else(|| self.fork.clone().map(Box::new).map(Stopped::Fork))
    }
}

/// A request whose cost is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenRequest {
    /// Its id.
    pub request: RequestId,
    /// The most it can cost, nanogram.
    pub worst: u128,
    /// When it was signed for, by the payer's clock.
    pub begun: UnixTime,
}

/// A claim for more than its payer can account for: with both signatures in it, it proves that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overcharge {
    /// The claim.
    pub claim: Claim,
    /// The most that could be owed, nanogram.
    pub accounted: u128,
    /// The question that it answers; `None` in a record of an older build.
    pub asked: Option<Question>,
}

/// What a payer knew when it asked for a claim: what came later may be in it or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Receipts that are in the claim for certain, nanogram since the channel was opened.
    pub receipted: u128,
    /// By the payer's clock.
    pub at: UnixTime,
}

/// Two claims of one meter that cannot both be of one log: with both signatures in each, they prove that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fork {
    /// The one that was accepted.
    pub before: Claim,
    /// The other.
    pub claim: Claim,
}

/// Why a payer signs nothing more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// A claim was too much.
    Overcharge(Box<Overcharge>),
    /// Its meter has shown two logs.
    Fork(Box<Fork>),
}

/// Takes note of what `entry` says for the memory of its channel.
pub(crate) fn note(
    tx: &WriteTransaction,
    id: ChannelId,
    entry: &Entry<'_>,
    at: UnixTime,
) -> Result<Recorded, LedgerError> {
    let changed = match entry {
        Entry::Begun { request, worst, .. } => {
            begin(tx, id, *request, &Begun { worst: Nano(*worst), at, late: false })?;
            update(tx, id, |_| {})?;
            true
        }
        Entry::Found { receipt, .. } => {
            let json = receipt.to_json()?;
            let request = receipt.request_id();
            let mut found = tx.open_table(FOUND).map_err(storage)?;
            found.insert(row(id, request).as_slice(), json.as_bytes()).map_err(storage)?;
            let ended = end(tx, id, request)?;
            if ended.as_ref().is_some_and(|begun| begun.late) {
                // Claims may have said it already: then the others explain so much less of them.
                update(tx, id, |record| {
                    record.explained = Nano(record.explained.0.saturating_sub(receipt.amount()));
                })?;
            }
            ended.is_some()
        }
        Entry::Request { request, .. } | Entry::Refused { request, .. } => {
            end(tx, id, *request)?.is_some()
        }
        Entry::Accepted { included, late, ended, explained, unreceipted, .. } => {
            for request in *ended {
                end(tx, id, *request)?;
            }
            for request in *late {
                let key = row(id, *request);
                let begun = tx.open_table(BEGUN).map_err(storage)?;
                let known = begun.get(key.as_slice()).map_err(storage)?;
                let known = known.map(|bytes| serde_json::from_slice(bytes.value()));
                drop(begun);
                if let Some(begun) = known.transpose().map_err(damaged)? {
                    begin(tx, id, *request, &Begun { late: true, ..begun })?;
                }
            }
            update(tx, id, |record| {
                (record.included, record.explained) = (Nano(*included), Nano(*explained));
                record.unreceipted = Some(Nano(*unreceipted));
            })?;
            true
        }
        // What a payer forgot that it signed for: only it has a record with such a sum.
        Entry::Claim(claim) => adopt(tx, id, claim.cum_amount())?,
        Entry::Overcharge { claim, accounted, asked: Question { receipted, at } } => {
            let (claim, accounted) = (hex::encode(claim.encode()), Nano(*accounted));
            let asked = Some(AskedAt { receipted: Nano(*receipted), at: *at });
            let proof = Proof { claim, accounted, asked };
            update(tx, id, |record| record.overcharge = Some(proof))?;
            true
        }
        Entry::Forked { before, claim } => {
            let (before, claim) = (hex::encode(before.encode()), hex::encode(claim.encode()));
            update(tx, id, |record| record.fork = Some(TwoLogs { before, claim }))?;
            true
        }
        Entry::Lifted { .. } => {
            let mut lifted = false;
            let mut fork = None;
            update(tx, id, |record| {
                // The one that `Memory::stopped` shows, and no other unseen.
                lifted = record.overcharge.take().is_some();
                if !lifted {
                    fork = record.fork.take();
                    lifted = fork.is_some();
                }
            })?;
            if let Some(fork) = fork.map(TwoLogs::read).transpose()? {
                let meter = Digest(fork.claim.cap().cap().meter_key.to_bytes());
                update(tx, id, |record| record.forgiven = Some(meter))?;
            }
            lifted
        }
        _ => false,
    };
    Ok(if changed { Recorded::New { seq: 0 } } else { Recorded::Known })
}

/// Reads the memory of a channel; `None` if nothing was ever noted for it.
pub(crate) fn read(tx: &ReadTransaction, id: ChannelId) -> Result<Option<Memory>, LedgerError> {
    // Made with the first entry that needs it.
    let records = match tx.open_table(MEMORY) {
        Ok(records) => records,
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(storage(error)),
    };
    let Some(bytes) = records.get(key(id).as_slice()).map_err(storage)? else { return Ok(None) };
    let Record { included, overcharge, explained, fork, forgiven, unreceipted } =
        serde_json::from_slice(bytes.value()).map_err(damaged)?;
    let overcharge = overcharge.map(Proof::read).transpose()?;
    let fork = fork.map(TwoLogs::read).transpose()?;
    let (included, explained) = (included.0, explained.0);
    let unreceipted = unreceipted.map(|sum| sum.0);
    let (open, late, found) = Default::default();
    let mut memory =
        Memory { included, open, late, explained, unreceipted, found, overcharge, fork, forgiven };
    let (first, last) = (row(id, RequestId([0; 16])), row(id, RequestId([0xff; 16])));
    match tx.open_table(FOUND) {
        Ok(found) => {
            for entry in found.range(first.as_slice()..=last.as_slice()).map_err(storage)? {
                memory.found.push(entry.map_err(storage)?.1.value().to_vec());
            }
        }
        Err(TableError::TableDoesNotExist(_)) => {}
        Err(error) => return Err(storage(error)),
    }
    let begun = match tx.open_table(BEGUN) {
        Ok(begun) => begun,
        Err(TableError::TableDoesNotExist(_)) => return Ok(Some(memory)),
        Err(error) => return Err(storage(error)),
    };
    for entry in begun.range(first.as_slice()..=last.as_slice()).map_err(storage)? {
        let (key, bytes) = entry.map_err(storage)?;
        let request = key.value().get(KEY_BYTES..).and_then(|id| id.try_into().ok());
        let request = RequestId(request.ok_or_else(|| damaged("a key of another length"))?);
        let Begun { worst, at, late } = serde_json::from_slice(bytes.value()).map_err(damaged)?;
        let list = if late { &mut memory.late } else { &mut memory.open };
        list.push(OpenRequest { request, worst: worst.0, begun: at });
    }
    Ok(Some(memory))
}

fn begin(
    tx: &WriteTransaction,
    id: ChannelId,
    request: RequestId,
    record: &Begun,
) -> Result<(), LedgerError> {
    let bytes = serde_json::to_vec(record).map_err(damaged)?;
    let mut begun = tx.open_table(BEGUN).map_err(storage)?;
    begun.insert(row(id, request).as_slice(), bytes.as_slice()).map_err(storage)?;
    Ok(())
}

/// Forgets an open request, and returns it if there was one.
fn end(
    tx: &WriteTransaction,
    id: ChannelId,
    request: RequestId,
) -> Result<Option<Begun>, LedgerError> {
    let mut begun = tx.open_table(BEGUN).map_err(storage)?;
    let removed = begun.remove(row(id, request).as_slice()).map_err(storage)?;
    removed.map(|bytes| serde_json::from_slice(bytes.value()).map_err(damaged)).transpose()
}

fn update(
    tx: &WriteTransaction,
    id: ChannelId,
    change: impl FnOnce(&mut Record),
) -> Result<(), LedgerError> {
    let mut records = tx.open_table(MEMORY).map_err(storage)?;
    let before = records
        .get(key(id).as_slice())
        .map_err(storage)?
        .map(|bytes| serde_json::from_slice(bytes.value()).map_err(damaged))
        .transpose()?;
    let mut record: Record = before.unwrap_or_default();
    change(&mut record);
    let bytes = serde_json::to_vec(&record).map_err(damaged)?;
    records.insert(key(id).as_slice(), bytes.as_slice()).map_err(storage)?;
    Ok(())
}

/// Makes room for what a claim for `cum` says beyond the receipts; false where there is as much.
fn adopt(tx: &WriteTransaction, id: ChannelId, cum: u128) -> Result<bool, LedgerError> {
    // Made with the first entry that needs it.
    if !tx.list_tables().map_err(storage)?.any(|table| table.name() == MEMORY.name()) {
        return Ok(false);
    }
    let records = tx.open_table(MEMORY).map_err(storage)?;
    let record = records
        .get(key(id).as_slice())
        .map_err(storage)?
        .map(|bytes| serde_json::from_slice::<Record>(bytes.value()).map_err(damaged))
        .transpose()?;
    drop(records);
    let Some(Record { included, unreceipted: Some(before), .. }) = record else { return Ok(false) };
    let beyond = cum.saturating_sub(included.0);
    if beyond <= before.0 {
        return Ok(false);
    }
    update(tx, id, |record| record.unreceipted = Some(Nano(beyond)))?;
    Ok(true)
}

fn row(id: ChannelId, request: RequestId) -> Vec<u8> {
    [key(id).as_slice(), &request.0].concat()
}

impl Proof {
    fn read(self) -> Result<Overcharge, LedgerError> {
        let asked = self.asked.map(|AskedAt { receipted, at }| {
            let receipted = receipted.0;
            Question { receipted, at }
        });
        Ok(Overcharge { claim: claim(&self.claim)?, accounted: self.accounted.0, asked })
    }
}

impl TwoLogs {
    fn read(self) -> Result<Fork, LedgerError> {
        Ok(Fork { before: claim(&self.before)?, claim: claim(&self.claim)? })
    }
}

fn claim(digits: &str) -> Result<Claim, LedgerError> {
    Claim::decode(&hex::decode(digits).map_err(damaged)?).map_err(damaged)
}

/// A memory as it stands in the file, less its open requests.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    included: Nano,
    overcharge: Option<Proof>,
    #[serde(default, skip_serializing_if = "Nano::is_zero")]
    explained: Nano,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fork: Option<TwoLogs>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    forgiven: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unreceipted: Option<Nano>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TwoLogs {
    before: String,
    claim: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Proof {
    claim: String,
    accounted: Nano,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    asked: Option<AskedAt>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AskedAt {
    receipted: Nano,
    at: UnixTime,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Begun {
    worst: Nano,
    at: UnixTime,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    late: bool,
}

const MEMORY: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("memory");
const BEGUN: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("begun");
const FOUND: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("found");
