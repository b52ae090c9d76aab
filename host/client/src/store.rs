//! Receipts on disk, one file each, under their request id. The directory belongs to the user;
//! what is read from it is still parsed as untrusted.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use chrysalis_wire::RequestId;

use crate::error::ClientError;
use crate::limits::{MAX_LISTED_RECEIPTS, MAX_STORED_RECEIPT_BYTES};
use crate::response::Completed;
use crate::stored::StoredReceipt;

/// A directory of stored receipts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptStore {
    directory: PathBuf,
}

impl ReceiptStore {
    /// Opens `directory`, making it (for its owner only) if it does not exist.
    ///
    /// # Errors
    /// [`ClientError::Store`].
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, ClientError> {
        let directory = directory.into();
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(|e| failed("create", &e))?;
        Ok(Self { directory })
    }

    /// Where a receipt is or would be.
    #[must_use]
    pub fn path(&self, id: RequestId) -> PathBuf {
        self.directory.join(format!("{id}.json"))
    }

    /// Where a transcript is or would be.
    #[must_use]
    pub fn transcript_path(&self, id: RequestId) -> PathBuf {
        self.directory.join(format!("{id}.transcript"))
    }

    /// Writes the receipt of an answer, after the words if they were to be kept.
    ///
    /// # Errors
    /// As [`ReceiptStore::save`].
    pub fn save_completed(&self, completed: &Completed) -> Result<PathBuf, ClientError> {
        if let Some(transcript) = &completed.transcript {
            self.write(&self.transcript_path(transcript.request_id()), &transcript.to_json()?)?;
        }
        self.save(&completed.stored)
    }

    /// Writes a receipt so that after a crash it is there whole or not at all: temporary file,
    /// `fsync`, rename, `fsync` of the directory.
    ///
    /// # Errors
    /// [`ClientError::Store`], [`ClientError::StoredMalformed`].
    pub fn save(&self, receipt: &StoredReceipt) -> Result<PathBuf, ClientError> {
        let path = self.path(receipt.request_id());
        self.write(&path, &receipt.to_json()?)?;
        Ok(path)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), ClientError> {
        let partial = path.with_extension("partial");
        let written = write_synced(&partial, bytes)
            .and_then(|()| fs::rename(&partial, path))
            .and_then(|()| File::open(&self.directory)?.sync_all());
        written.map_err(|e| {
            // Best effort: what is left behind is not a receipt and is never listed.
            drop(fs::remove_file(&partial));
            failed("write to", &e)
        })
    }

    /// The bytes of a stored receipt.
    ///
    /// # Errors
    /// [`ClientError::NoSuchReceipt`], [`ClientError::Store`], [`ClientError::StoredMalformed`]
    /// for a file over its limit.
    pub fn read(&self, id: RequestId) -> Result<Vec<u8>, ClientError> {
        read_bounded(&self.path(id)).map_err(|e| match e {
            ClientError::Store { kind: io::ErrorKind::NotFound, .. } => {
                ClientError::NoSuchReceipt(id)
            }
            other => other,
        })
    }

    /// Reads a stored receipt; the file must be about the request it is named for.
    ///
    /// # Errors
    /// As [`ReceiptStore::read`], and [`ClientError::StoredMalformed`].
    pub fn load(&self, id: RequestId) -> Result<StoredReceipt, ClientError> {
        let receipt = StoredReceipt::parse(&self.read(id)?)?;
        if receipt.request_id() != id {
            let text = format!("it is about request {}, not {id}", receipt.request_id());
            return Err(ClientError::StoredMalformed(text));
        }
        Ok(receipt)
    }

    /// Ids of the stored receipts, newest first, at most [`MAX_LISTED_RECEIPTS`].
    ///
    /// # Errors
    /// [`ClientError::Store`].
    pub fn list(&self) -> Result<Vec<RequestId>, ClientError> {
        let mut found: Vec<(SystemTime, RequestId)> = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(|e| failed("list", &e))? {
            let entry = entry.map_err(|e| failed("list", &e))?;
            let name = entry.file_name();
            let id = name.to_str().and_then(|n| n.strip_suffix(".json")).map(str::parse);
            if let Some(Ok(id)) = id {
                let changed = entry.metadata().and_then(|m| m.modified());
                found.push((changed.unwrap_or(SystemTime::UNIX_EPOCH), id));
            }
        }
        found.sort_by(|a, b| b.cmp(a));
        Ok(found.into_iter().map(|(_, id)| id).take(MAX_LISTED_RECEIPTS).collect())
    }
}

/// Reads a stored receipt from any file.
///
/// # Errors
/// [`ClientError::Store`], [`ClientError::StoredMalformed`].
pub fn read_stored_receipt(path: &Path) -> Result<StoredReceipt, ClientError> {
    StoredReceipt::parse(&read_bounded(path)?)
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, ClientError> {
    let past_limit = MAX_STORED_RECEIPT_BYTES as u64 + 1;
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(past_limit).read_to_end(&mut bytes))
        .map_err(|e| failed("read", &e))?;
    if bytes.len() as u64 == past_limit {
        let text = format!("over the limit of {MAX_STORED_RECEIPT_BYTES} bytes");
        return Err(ClientError::StoredMalformed(text));
    }
    Ok(bytes)
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn failed(what: &'static str, error: &io::Error) -> ClientError {
    ClientError::Store { what, kind: error.kind() }
}
