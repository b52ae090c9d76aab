//! The file that a chain's state is kept in: written beside its place, flushed and moved there, so it
//! is always a whole state. One process at a time has it.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrysalis_wire::NetworkId;
use serde::{Deserialize, Serialize};

use crate::chain::DevChain;
use crate::error::ChainError;
use crate::history::Entry;
use crate::node::Inner;
use crate::snapshot::Snapshot;

/// Where the state is kept.
pub(crate) struct Store {
    directory: PathBuf,
    /// Locked as long as it is open.
    _lock: File,
}

impl Store {
    pub(crate) fn open(directory: &Path) -> Result<Self, ChainError> {
        fs::create_dir_all(directory).map_err(failed("make"))?;
        let lock = File::create(directory.join(LOCK_FILE)).map_err(failed("lock"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { directory: directory.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(ChainError::InUse),
            Err(TryLockError::Error(error)) => Err(failed("lock")(error)),
        }
    }

    /// The state; `None` where there is none yet.
    pub(crate) fn read(&self) -> Result<Option<Stored>, ChainError> {
        let file = match File::open(self.directory.join(STATE_FILE)) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read")(error)),
        };
        let mut bytes = Vec::new();
        file.take(MAX_STATE_BYTES.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(failed("read"))?;
        if bytes.len() as u64 > MAX_STATE_BYTES {
            let detail = format!("it is over {MAX_STATE_BYTES} bytes");
            return Err(ChainError::Snapshot { detail });
        }
        let stored = serde_json::from_slice(&bytes);
        stored.map(Some).map_err(|e| ChainError::Snapshot { detail: e.to_string() })
    }

    /// Replaces the state, as a whole or not at all.
    pub(crate) fn write(&self, stored: &Stored) -> Result<(), ChainError> {
        let bytes = serde_json::to_vec(stored)
            .map_err(|e| ChainError::Snapshot { detail: e.to_string() })?;
        if bytes.len() as u64 > MAX_STATE_BYTES {
            // What could not be read again is not written.
            let detail = format!("it would be over {MAX_STATE_BYTES} bytes");
            return Err(ChainError::Snapshot { detail });
        }
        let beside = self.directory.join(BESIDE_FILE);
        let replace = || {
            let mut file = File::create(&beside)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&beside, self.directory.join(STATE_FILE))?;
            File::open(&self.directory)?.sync_all()
        };
        replace().map_err(failed("write"))
    }
}

/// The document.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stored {
    schema: String,
    seqno: u32,
    block_at: u32,
    ahead: u32,
    chain: Snapshot,
    /// Bags of cells, base64, oldest first.
    history: Vec<String>,
}

impl Stored {
    pub(crate) fn of(network: NetworkId, inner: &Inner) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            seqno: inner.seqno,
            block_at: inner.block_at,
            ahead: inner.ahead,
            chain: inner.chain.snapshot(network),
            history: inner.history.iter().map(|entry| STANDARD.encode(entry.boc())).collect(),
        }
    }

    pub(crate) fn restore(self, network: NetworkId) -> Result<Inner, ChainError> {
        if self.schema != SCHEMA {
            let detail = format!("its schema is not {SCHEMA}");
            return Err(ChainError::Snapshot { detail });
        }
        let damaged = |_| ChainError::Snapshot { detail: "history is no base64".to_owned() };
        let entry = |text: &String| Entry::from_boc(&STANDARD.decode(text).map_err(damaged)?);
        Ok(Inner {
            chain: DevChain::restore(network, &self.chain)?,
            history: self.history.iter().map(entry).collect::<Result<_, _>>()?,
            seqno: self.seqno,
            block_at: self.block_at,
            ahead: self.ahead,
        })
    }
}

fn failed(action: &'static str) -> impl Fn(io::Error) -> ChainError {
    move |error| ChainError::Store { action, kind: error.kind() }
}

/// Largest state, in bytes: the history of a chain is about 4 MB.
pub const MAX_STATE_BYTES: u64 = 64 << 20;

const SCHEMA: &str = "chrysalis/devchain-state/v1";
const STATE_FILE: &str = "devchain.json";
const BESIDE_FILE: &str = "devchain.json.new";
const LOCK_FILE: &str = "devchain.lock";
