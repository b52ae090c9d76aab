//! The file: opened with every checksum in it verified, written one entry per transaction. The file
//! is trusted no further than its checksums and its own signatures go.

use std::fmt;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrysalis_receipt::{ChannelId, Claim};
use chrysalis_wire::{RequestId, UnixTime};
use redb::{
    Builder, ConcurrencyMode, Database, DatabaseError, Durability, ReadableTable, StorageError,
    TableDefinition, WriteTransaction,
};
use serde::{Deserialize, Serialize};

use crate::channel::{Channel, Counted, Entry};
use crate::error::{LedgerError, damaged, storage};
use crate::event::{Event, EventKind};
use crate::memory::{self, OpenRequest, Stopped};
use crate::view::LedgerView;

/// Whose ledger it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// One process signs caps under one budget, so one process writes.
    Payer,
    /// The host of a worker and the watcher of its channels both write, one after the other.
    Payee,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Payer => "payer",
            Self::Payee => "payee",
        })
    }
}

impl Side {
    pub(crate) const fn concurrency(self) -> ConcurrencyMode {
        match self {
            Self::Payer => ConcurrencyMode::SingleWriter,
            Self::Payee => ConcurrencyMode::MultiWriter,
        }
    }
}

/// Whether an entry was new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// It is on the disk now, as the event with this number.
    New {
        /// See [`Event::seq`]; zero for what is kept and is no event.
        seq: u64,
    },
    /// It was there already, or something that includes it.
    Known,
}

/// A ledger that is open for writing.
#[derive(Clone)]
pub struct Ledger {
    database: Arc<Database>,
}

impl Ledger {
    /// Opens the ledger at `path`, or makes an empty one that only its owner can read.
    ///
    /// # Errors
    /// [`LedgerError::Open`], [`LedgerError::InUse`], [`LedgerError::Damaged`],
    /// [`LedgerError::NotALedger`], [`LedgerError::Newer`], [`LedgerError::Older`],
    /// [`LedgerError::OtherSide`]. A ledger of an older build stays one that such a build reads until something
    /// is recorded that it cannot.
    pub fn open(path: &Path, side: Side) -> Result<Self, LedgerError> {
        let opened =
            |e: std::io::Error| LedgerError::Open { path: path.to_owned(), kind: e.kind() };
        if !path.try_exists().map_err(opened)? {
            // Whoever is killed while a database is made leaves one that no database opens. So it is
            // made under another name, and gets its own when it is whole.
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".{}.new", std::process::id()));
            let new = PathBuf::from(name);
            let mut options = std::fs::OpenOptions::new();
            options.read(true).write(true).create(true).truncate(true).mode(OWNER_ONLY);
            drop(options.open(&new).map_err(opened)?);
            drop(Self::open_file(&new, side)?);
            match std::fs::hard_link(&new, path) {
                // Somebody else made it meanwhile.
                Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(opened(e)),
                _ => std::fs::remove_file(&new).map_err(opened)?,
            }
        }
        Self::open_file(path, side)
    }

    fn open_file(path: &Path, side: Side) -> Result<Self, LedgerError> {
        let database = Builder::new()
            .set_concurrency_mode(side.concurrency())
            .set_check_integrity_on_open(true)
            .create(path)
            .map_err(|e| refused(path, e))?;
        let ledger = Self { database: Arc::new(database) };
        ledger.claim_format(side)?;
        Ok(ledger)
    }

    /// Records `entry` as of `at`, by the caller's clock. Returns once it is on the disk.
    ///
    /// # Errors
    /// [`LedgerError::Refused`] for a cap or claim that does not verify,
    /// [`LedgerError::UnknownChannel`], [`LedgerError::Overflow`], [`LedgerError::Storage`]. After
    /// any of them the ledger is as it was. [`LedgerError::DamagedChannel`] too, but for a claim that
    /// verifies: [`LedgerView::latest_claim`] has it from then on, and nothing else does.
    pub fn record(&self, entry: &Entry<'_>, at: UnixTime) -> Result<Recorded, LedgerError> {
        let recorded = self.record_all(std::slice::from_ref(entry), at);
        if let (Err(LedgerError::DamagedChannel { .. }), Entry::Claim(claim)) = (&recorded, entry) {
            // It proves itself, and what was earned is worth more than what else the record knew.
            (*claim).clone().verify()?;
            self.write(|tx| keep_first(tx, claim))?;
        }
        recorded
    }

    /// Records `entries` in order, all of them or none; what is returned is of the last new one.
    ///
    /// # Errors
    /// As [`Ledger::record`].
    pub fn record_all(&self, entries: &[Entry<'_>], at: UnixTime) -> Result<Recorded, LedgerError> {
        self.write(|tx| {
            let mut recorded = Recorded::Known;
            for entry in entries {
                if let new @ Recorded::New { .. } = record_one(tx, entry, at)? {
                    recorded = new;
                }
            }
            Ok(recorded)
        })
    }

    /// Has a payer pay on after what stopped it, and returns that; `None` if nothing did. Of two proofs one is
    /// lifted, and the other stops it still.
    ///
    /// What a claim says that was too much is owed then. What was over when it was asked for is in it, and does
    /// not count on top: neither receipts, nor requests without one, which may still come late. A meter that
    /// has shown two logs may do so from then on; nothing is owed by that.
    ///
    /// # Errors
    /// As [`Ledger::record`].
    pub fn lift(&self, channel: ChannelId, at: UnixTime) -> Result<Option<Stopped>, LedgerError> {
        let view = self.view();
        let Some(memory) = view.memory(channel)? else { return Ok(None) };
        let known = view.channel(channel)?.ok_or(LedgerError::UnknownChannel { channel })?;
        let Some(stopped) = memory.stopped() else { return Ok(None) };
        let (mut entries, mut late) = (Vec::new(), Vec::new());
        if let Stopped::Overcharge(proof) = &stopped {
            // A record of an older build does not say what it was asked with. An answer to a later question may
            // have been accepted before; whatever that had, this one has: it is for more.
            let included = proof.asked.map_or(known.receipted, |asked| asked.receipted);
            let included = included.max(memory.included);
            let before =
                |open: &&OpenRequest| proof.asked.is_none_or(|asked| open.begun <= asked.at);
            late.extend(memory.open.iter().filter(before).map(|open| open.request));
            let claim = &proof.claim;
            let beyond = claim.cum_amount().saturating_sub(included);
            entries.push(Entry::Accepted {
                claim,
                included,
                late: &late,
                ended: &[],
                explained: memory.explained,
                unreceipted: memory.unreceipted.unwrap_or_default().max(beyond),
            });
        }
        entries.push(Entry::Lifted { channel });
        self.record_all(&entries, at)?;
        Ok(Some(stopped))
    }

    /// Reads what was recorded.
    #[must_use]
    pub fn view(&self) -> LedgerView {
        LedgerView::of(Arc::clone(&self.database))
    }

    /// Marks an empty file as a ledger, and refuses one that is something else.
    fn claim_format(&self, side: Side) -> Result<(), LedgerError> {
        self.write(|tx| {
            let foreign = tx.list_tables().map_err(storage)?.next().is_some();
            let mut meta = tx.open_table(META).map_err(|_| LedgerError::NotALedger)?;
            let found = meta.get(FORMAT).map_err(storage)?.map(|bytes| bytes.value().to_vec());
            match found {
                // As it is: an older build may be running, and would record nothing more.
                Some(bytes) => Format::check(&bytes, side).map(|_| Recorded::Known),
                None if foreign => Err(LedgerError::NotALedger),
                None => {
                    let format = Format { schema: OLDEST_SCHEMA, side };
                    let format = serde_json::to_vec(&format).map_err(damaged)?;
                    meta.insert(FORMAT, format.as_slice()).map_err(storage)?;
                    drop(meta);
                    for table in [CHANNELS, CLAIMS, REQUESTS] {
                        tx.open_table(table).map_err(storage)?;
                    }
                    tx.open_table(EVENTS).map_err(storage)?;
                    Ok(Recorded::New { seq: 0 })
                }
            }
        })?;
        Ok(())
    }

    /// One transaction, on the disk when this returns [`Recorded::New`] and without effect else.
    fn write(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<Recorded, LedgerError>,
    ) -> Result<Recorded, LedgerError> {
        let mut tx = self.database.begin_write().map_err(storage)?;
        tx.set_durability(Durability::Immediate).map_err(storage)?;
        match work(&tx) {
            Ok(new @ Recorded::New { .. }) => tx.commit().map_err(storage).map(|()| new),
            other => {
                tx.abort().map_err(storage)?;
                other
            }
        }
    }
}

fn record_one(
    tx: &WriteTransaction,
    entry: &Entry<'_>,
    at: UnixTime,
) -> Result<Recorded, LedgerError> {
    let id = entry.channel()?;
    let noted = memory::note(tx, id, entry, at)?;
    if noted != Recorded::Known {
        // Older builds do not know all that is remembered of a request.
        mark_newest(tx)?;
    }
    let paid_for = match entry {
        Entry::Request { request, .. } => Some(*request),
        Entry::Found { receipt, .. } => Some(receipt.request_id()),
        _ => None,
    };
    if let Some(request) = paid_for
        && !first_time(tx, id, request)?
    {
        return Ok(noted);
    }
    if matches!(entry, Entry::Lifted { .. }) && noted == Recorded::Known {
        return Ok(noted);
    }
    let key = key(id);
    let mut channels = tx.open_table(CHANNELS).map_err(storage)?;
    let before = channels
        .get(key.as_slice())
        .map_err(storage)?
        .map(|bytes| Channel::read(id, bytes.value()))
        .transpose()?;
    let counted = match entry {
        Entry::Claim(claim) | Entry::Accepted { claim, .. } => counted(tx, before.as_ref(), claim)?,
        _ => Counted::default(),
    };
    let Some((after, kinds)) = Channel::apply(before, entry, counted, at)? else {
        return Ok(noted);
    };
    channels.insert(key.as_slice(), after.write()?.as_slice()).map_err(storage)?;
    if let Entry::Claim(claim) | Entry::Accepted { claim, .. } = entry {
        keep(tx, id, claim)?;
    }
    let mut seq = 0;
    for kind in kinds {
        if kind.is_of_second_schema() {
            mark_newest(tx)?;
        }
        seq = append(tx, id, at, kind)?;
    }
    Ok(Recorded::New { seq })
}

/// Marks a ledger as one that only this build's schema reads, in the transaction that makes it so: an older
/// build says then that it is too old, and does not take what it finds for damage.
fn mark_newest(tx: &WriteTransaction) -> Result<(), LedgerError> {
    let mut meta = tx.open_table(META).map_err(storage)?;
    let bytes = meta.get(FORMAT).map_err(storage)?.map(|bytes| bytes.value().to_vec());
    let bytes = bytes.ok_or(LedgerError::NotALedger)?;
    let format: Format = serde_json::from_slice(&bytes).map_err(damaged)?;
    if format.schema < SCHEMA_VERSION {
        let format = Format { schema: SCHEMA_VERSION, ..format };
        let bytes = serde_json::to_vec(&format).map_err(damaged)?;
        meta.insert(FORMAT, bytes.as_slice()).map_err(storage)?;
    }
    Ok(())
}

/// What the file says about itself.
#[derive(Serialize, Deserialize)]
struct Format {
    schema: u32,
    side: Side,
}

impl Format {
    /// The schema, if this build reads it, of a ledger of this side.
    fn check(bytes: &[u8], expected: Side) -> Result<u32, LedgerError> {
        // Alone and first: what else a newer file says is not known here.
        #[derive(Deserialize)]
        struct SchemaOnly {
            schema: u32,
        }
        let SchemaOnly { schema } = serde_json::from_slice(bytes).map_err(damaged)?;
        if schema > SCHEMA_VERSION {
            return Err(LedgerError::Newer { got: schema });
        }
        if schema < OLDEST_SCHEMA {
            return Err(LedgerError::Older { got: schema });
        }
        let Self { side: got, .. } = serde_json::from_slice(bytes).map_err(damaged)?;
        if got == expected { Ok(schema) } else { Err(LedgerError::OtherSide { expected, got }) }
    }
}

pub(crate) fn check_format(
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
    side: Side,
) -> Result<(), LedgerError> {
    let bytes = meta.get(FORMAT).map_err(storage)?.ok_or(LedgerError::NotALedger)?;
    Format::check(bytes.value(), side).map(drop)
}

/// Notes a request; false if it was noted before.
fn first_time(
    tx: &WriteTransaction,
    id: ChannelId,
    request: RequestId,
) -> Result<bool, LedgerError> {
    let mut requests = tx.open_table(REQUESTS).map_err(storage)?;
    let key = [key(id).as_slice(), &request.0].concat();
    Ok(requests.insert(key.as_slice(), [].as_slice()).map_err(storage)?.is_none())
}

/// What the meter of `claim` had counted by the last of its claims that is here. Another meter's may be later.
fn counted(
    tx: &WriteTransaction,
    channel: Option<&Channel>,
    claim: &Claim,
) -> Result<Counted, LedgerError> {
    let meter = claim.cap().cap().meter_key;
    let same = |other: &Claim| other.cap().cap().meter_key == meter;
    let Some(last) = channel.and_then(|channel| channel.claim.as_ref()) else {
        return Ok(Counted::default());
    };
    if same(last) {
        return Ok(last.into());
    }
    let claims = tx.open_table(CLAIMS).map_err(storage)?;
    let (first, last) = (claim_key(claim.channel(), 0), claim_key(claim.channel(), u128::MAX));
    for entry in claims.range(first.as_slice()..=last.as_slice()).map_err(storage)?.rev() {
        let (_, bytes) = entry.map_err(storage)?;
        // One that cannot be read keeps no other out of the ledger: it is only counts that it would say.
        let Ok(earlier) = Claim::decode(bytes.value()) else { continue };
        if same(&earlier) {
            return Ok((&earlier).into());
        }
    }
    Ok(Counted::default())
}

/// Keeps a claim beside those before it: what a history of the channel is made of.
fn keep(tx: &WriteTransaction, id: ChannelId, claim: &Claim) -> Result<(), LedgerError> {
    let mut claims = tx.open_table(CLAIMS).map_err(storage)?;
    // Sums only grow, so they are in order.
    let key = claim_key(id, claim.cum_amount());
    claims.insert(key.as_slice(), claim.encode().as_slice()).map_err(storage)?;
    Ok(())
}

/// Keeps a claim, unless there is one for its sum.
fn keep_first(tx: &WriteTransaction, claim: &Claim) -> Result<Recorded, LedgerError> {
    let (id, claims) = (claim.channel(), tx.open_table(CLAIMS).map_err(storage)?);
    if claims.get(claim_key(id, claim.cum_amount()).as_slice()).map_err(storage)?.is_some() {
        return Ok(Recorded::Known);
    }
    drop(claims);
    keep(tx, id, claim).map(|()| Recorded::New { seq: 0 })
}

/// Network, account and sum.
pub(crate) fn claim_key(id: ChannelId, cum_amount: u128) -> Vec<u8> {
    [key(id).as_slice(), &cum_amount.to_be_bytes()].concat()
}

fn append(
    tx: &WriteTransaction,
    channel: ChannelId,
    at: UnixTime,
    kind: EventKind,
) -> Result<u64, LedgerError> {
    let mut events = tx.open_table(EVENTS).map_err(storage)?;
    let last = events.last().map_err(storage)?.map_or(0, |(seq, _)| seq.value());
    let seq = last.checked_add(1).ok_or(LedgerError::Overflow { channel })?;
    let ChannelId { network, account } = channel;
    let event = Event { seq, at, network, account, kind };
    let bytes = serde_json::to_vec(&event).map_err(damaged)?;
    events.insert(seq, bytes.as_slice()).map_err(storage)?;
    Ok(seq)
}

/// Network and account: the key of everything about a channel.
pub(crate) fn key(id: ChannelId) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    let (network, account) = key.split_at_mut(NETWORK_BYTES);
    network.copy_from_slice(&id.network.0.to_be_bytes());
    account.copy_from_slice(&id.account.0);
    key
}

/// What a file says that is no database, or one in use.
pub(crate) fn refused(path: &Path, error: DatabaseError) -> LedgerError {
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            LedgerError::InUse { path: path.to_owned() }
        }
        // A file that ends early or has no database in it opens well and reads badly.
        DatabaseError::Storage(StorageError::Io(e))
            if !matches!(e.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) =>
        {
            LedgerError::Open { path: path.to_owned(), kind: e.kind() }
        }
        other => damaged(other),
    }
}

/// Newest version of the file that this build writes. The second has what a payer remembers besides sums, and events
/// of claims that were too much and of payments that were none.
pub const SCHEMA_VERSION: u32 = 2;
/// Oldest version that this build reads, and writes while nothing of the second is in a ledger.
pub const OLDEST_SCHEMA: u32 = 1;

pub(crate) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
pub(crate) const CHANNELS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("channels");
pub(crate) const EVENTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("events");
/// Every claim that was recorded. Ledgers of earlier builds have none before their next one.
pub(crate) const CLAIMS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("claims");
const REQUESTS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("requests");

const FORMAT: &str = "chrysalis-ledger";
const OWNER_ONLY: u32 = 0o600;
const NETWORK_BYTES: usize = 4;
pub(crate) const KEY_BYTES: usize = 36;
