//! Reads a ledger, also while another process writes to it. What is read is checked as it was when
//! it was written: a record that does not parse is damage.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use chrysalis_receipt::{ChannelId, Claim};
use chrysalis_wire::{Digest, NetworkId};
use redb::{
    Builder, Database, ReadOnlyDatabase, ReadTransaction, ReadableDatabase as _,
    ReadableTable as _, TableError,
};

use crate::channel::Channel;
use crate::error::{LedgerError, damaged, storage};
use crate::event::Event;
use crate::ledger::{CHANNELS, CLAIMS, EVENTS, META, Side, check_format, claim_key, key, refused};
use crate::memory::{self, Memory};

/// A ledger that is open for reading.
pub struct LedgerView(Source);

enum Source {
    /// The writer's own.
    Writer(Arc<Database>),
    /// Somebody else's.
    Reader(ReadOnlyDatabase),
}

impl LedgerView {
    pub(crate) const fn of(database: Arc<Database>) -> Self {
        Self(Source::Writer(database))
    }

    /// Opens the ledger at `path` for reading; whoever writes to it goes on.
    ///
    /// # Errors
    /// [`LedgerError::Open`] if there is none, [`LedgerError::Damaged`] for one that was not closed
    /// after a crash too ([`crate::Ledger::open`] repairs it), [`LedgerError::NotALedger`],
    /// [`LedgerError::Newer`], [`LedgerError::OtherSide`].
    pub fn open(path: &Path, side: Side) -> Result<Self, LedgerError> {
        let database = Builder::new()
            .set_concurrency_mode(side.concurrency())
            .open_read_only(path)
            .map_err(|e| refused(path, e))?;
        let view = Self(Source::Reader(database));
        let meta = view.begin()?.open_table(META).map_err(|_| LedgerError::NotALedger)?;
        check_format(&meta, side)?;
        Ok(view)
    }

    /// Every channel, in the order of network and account.
    ///
    /// # Errors
    /// [`LedgerError::Damaged`], [`LedgerError::Storage`].
    pub fn channels(&self) -> Result<Vec<Channel>, LedgerError> {
        self.each_channel()?.into_iter().collect()
    }

    /// Every channel, each with its own [`LedgerError::DamagedChannel`] if its record cannot be read: for
    /// who has to go on with the others.
    ///
    /// # Errors
    /// [`LedgerError::Damaged`] for the file itself, [`LedgerError::Storage`].
    pub fn each_channel(&self) -> Result<Vec<Result<Channel, LedgerError>>, LedgerError> {
        let table = self.begin()?.open_table(CHANNELS).map_err(storage)?;
        let mut channels = Vec::new();
        for entry in table.iter().map_err(storage)? {
            let (key, record) = entry.map_err(storage)?;
            let channel = id(key.value());
            channels.push(channel.and_then(|channel| Channel::read(channel, record.value())));
        }
        Ok(channels)
    }

    /// One channel.
    ///
    /// # Errors
    /// [`LedgerError::DamagedChannel`], [`LedgerError::Storage`].
    pub fn channel(&self, id: ChannelId) -> Result<Option<Channel>, LedgerError> {
        let table = self.begin()?.open_table(CHANNELS).map_err(storage)?;
        let record = table.get(key(id).as_slice()).map_err(storage)?;
        record.map(|bytes| Channel::read(id, bytes.value())).transpose()
    }

    /// What a payer remembers of a channel besides its sums; `None` before its first request.
    ///
    /// # Errors
    /// [`LedgerError::Damaged`], [`LedgerError::Storage`].
    pub fn memory(&self, id: ChannelId) -> Result<Option<Memory>, LedgerError> {
        memory::read(&self.begin()?, id)
    }

    /// Every claim of a channel, the smallest sum first, also of one whose record is damaged. A ledger of
    /// an earlier build has the latest one only, in that record.
    ///
    /// # Errors
    /// [`LedgerError::Damaged`], [`LedgerError::Storage`].
    pub fn claims(&self, id: ChannelId) -> Result<Vec<Claim>, LedgerError> {
        let latest = || self.channel(id).map(|channel| channel.and_then(|channel| channel.claim));
        let table = match self.begin()?.open_table(CLAIMS) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(latest()?.into_iter().collect()),
            Err(error) => return Err(storage(error)),
        };
        let mut claims = Vec::new();
        for entry in table
            .range(claim_key(id, 0).as_slice()..=claim_key(id, u128::MAX).as_slice())
            .map_err(storage)?
        {
            let (_, bytes) = entry.map_err(storage)?;
            claims.push(Claim::decode(bytes.value()).map_err(damaged)?);
        }
        if claims.is_empty() {
            claims.extend(latest()?);
        }
        Ok(claims)
    }

    /// The claim of a channel with the largest sum that can be read and proves itself, also where its record
    /// or another claim of it does not. A ledger of an earlier build has it in that record only.
    ///
    /// # Errors
    /// [`LedgerError::DamagedChannel`] if all there is to read it from is that record,
    /// [`LedgerError::Storage`].
    pub fn latest_claim(&self, id: ChannelId) -> Result<Option<Claim>, LedgerError> {
        match self.begin()?.open_table(CLAIMS) {
            Ok(table) => {
                let (first, last) = (claim_key(id, 0), claim_key(id, u128::MAX));
                let range = first.as_slice()..=last.as_slice();
                for entry in table.range(range).map_err(storage)?.rev() {
                    // Most of a claim is numbers and signatures: one that is damaged there is read all the same.
                    let claim = Claim::decode(entry.map_err(storage)?.1.value());
                    if let Ok(verified) = claim.and_then(Claim::verify) {
                        return Ok(Some(verified.claim().clone()));
                    }
                }
            }
            Err(TableError::TableDoesNotExist(_)) => {}
            Err(error) => return Err(storage(error)),
        }
        Ok(self.channel(id)?.and_then(|channel| channel.claim))
    }

    /// Up to `most` events after number `after`, in order; 0 begins at the first.
    ///
    /// # Errors
    /// [`LedgerError::Damaged`], [`LedgerError::Storage`].
    pub fn events(&self, after: u64, most: usize) -> Result<Vec<Event>, LedgerError> {
        let table = self.begin()?.open_table(EVENTS).map_err(storage)?;
        let from = after.saturating_add(1);
        table
            .range(from..)
            .map_err(storage)?
            .take(most)
            .map(|entry| {
                let (_, bytes) = entry.map_err(storage)?;
                serde_json::from_slice(bytes.value()).map_err(damaged)
            })
            .collect()
    }

    /// Writes every event as a line of JSON; amounts are decimal strings in nanogram.
    ///
    /// # Errors
    /// [`LedgerError::Storage`] also if `out` refuses; [`LedgerError::Damaged`].
    pub fn export(&self, out: &mut impl Write) -> Result<u64, LedgerError> {
        let mut last = 0;
        loop {
            let page = self.events(last, EXPORT_PAGE)?;
            if page.is_empty() {
                return Ok(last);
            }
            for event in page {
                let line = serde_json::to_string(&event).map_err(damaged)?;
                writeln!(out, "{line}").map_err(|e| storage(redb::StorageError::Io(e)))?;
                last = event.seq;
            }
        }
    }

    fn begin(&self) -> Result<ReadTransaction, LedgerError> {
        match &self.0 {
            Source::Writer(database) => database.begin_read(),
            Source::Reader(database) => database.begin_read(),
        }
        .map_err(storage)
    }
}

fn id(key: &[u8]) -> Result<ChannelId, LedgerError> {
    let (network, account) = key.split_first_chunk().ok_or_else(|| damaged("a short key"))?;
    let account = account.try_into().map_err(|_| damaged("a key of another length"))?;
    Ok(ChannelId { network: NetworkId(i32::from_be_bytes(*network)), account: Digest(account) })
}

/// Events held at once while exporting.
const EXPORT_PAGE: usize = 1024;
