//! The two logs of a state directory, bounded. `console.log` holds events the loader parsed and
//! wrote again itself, so no byte in it is the worker's choice; `loader.log` holds the
//! supervisor's own words and the escaped tail of a worker's standard error.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use chrysalis_wire::{ConsoleEvent, UnixTime};

use crate::error::LoaderError;
use crate::state::state_error;

/// Appends lines; at [`MAX_LOG_BYTES`] the file becomes `NAME.1` and a new one begins.
#[derive(Debug)]
pub(crate) struct LogWriter {
    path: PathBuf,
    file: File,
    len: u64,
}

impl LogWriter {
    /// Opens or creates the log.
    pub(crate) fn open(path: PathBuf) -> Result<Self, LoaderError> {
        let file = append(&path).map_err(|e| state_error("open", &path, &e))?;
        let len = file.metadata().map_or(0, |m| m.len());
        Ok(Self { path, file, len })
    }

    /// Appends one line. A log that cannot be written must not stop a worker that serves, so
    /// errors end here.
    pub(crate) fn line(&mut self, text: &str) {
        if self.len >= MAX_LOG_BYTES {
            let _ = std::fs::rename(&self.path, old(&self.path));
            if let Ok(file) = append(&self.path) {
                self.file = file;
            }
            self.len = 0;
        }
        let line = format!("{text}\n");
        if self.file.write_all(line.as_bytes()).is_ok() {
            self.len = self.len.saturating_add(line.len() as u64);
        }
    }

    /// Appends a console event with the time it arrived.
    pub(crate) fn event(&mut self, at: UnixTime, event: &ConsoleEvent) {
        if let Ok(serde_json::Value::Object(mut line)) = serde_json::to_value(event) {
            line.insert("at".to_owned(), at.0.into());
            self.line(&serde_json::Value::Object(line).to_string());
        }
    }
}

/// Reads `console.log`, following it over rotations.
#[derive(Debug)]
pub struct LogReader {
    path: PathBuf,
    reader: Option<BufReader<File>>,
    inode: u64,
    partial: String,
}

impl LogReader {
    /// A reader at the start of the log, which need not exist yet.
    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self { path, reader: None, inode: 0, partial: String::new() }
    }

    /// Every complete line since the last call.
    ///
    /// # Errors
    /// [`LoaderError::State`] if the file exists and cannot be read.
    pub fn lines(&mut self) -> Result<Vec<LogLine>, LoaderError> {
        let mut out = Vec::new();
        self.drain(&mut out)?;
        // The file under this name is another one now: the old one is read to its end, go on
        // with the new one.
        let current = std::fs::metadata(&self.path).map(|m| m.ino()).ok();
        if current.is_some_and(|inode| inode != self.inode || self.reader.is_none()) {
            let file = File::open(&self.path).map_err(|e| state_error("open", &self.path, &e))?;
            self.inode = file.metadata().map_or(0, |m| m.ino());
            self.reader = Some(BufReader::new(file));
            self.partial.clear();
            self.drain(&mut out)?;
        }
        Ok(out)
    }

    fn drain(&mut self, out: &mut Vec<LogLine>) -> Result<(), LoaderError> {
        let Some(reader) = &mut self.reader else { return Ok(()) };
        loop {
            let mut piece = reader.by_ref().take(MAX_LOG_BYTES);
            let got = piece
                .read_line(&mut self.partial)
                .map_err(|e| state_error("read", &self.path, &e))?;
            if got == 0 || !self.partial.ends_with('\n') {
                return Ok(());
            }
            out.extend(LogLine::parse(&self.partial));
            self.partial.clear();
        }
    }
}

/// One line of `console.log`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// When the loader read it.
    pub at: UnixTime,
    /// What the worker said.
    pub event: ConsoleEvent,
}

impl LogLine {
    /// Parses one line; lines that are not events are left out.
    fn parse(line: &str) -> Option<Self> {
        let mut value: serde_json::Value = serde_json::from_str(line).ok()?;
        let at = value.as_object_mut()?.remove("at")?.as_u64()?;
        Some(Self { at: UnixTime(at), event: serde_json::from_value(value).ok()? })
    }
}

/// The last lines of `loader.log`.
///
/// # Errors
/// [`LoaderError::State`] if it exists and cannot be read.
pub fn loader_log_tail(path: &Path) -> Result<String, LoaderError> {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(LOADER_TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(LOADER_TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(escape(&bytes))
    };
    match read() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        other => other.map_err(|e| state_error("read", path, &e)),
    }
}

/// Makes untrusted bytes safe for a terminal: line feeds stay, everything else that is not
/// printable ASCII is escaped.
pub(crate) fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte == b'\n' {
            out.push('\n');
        } else {
            out.extend(byte.escape_ascii().map(char::from));
        }
    }
    out
}

fn append(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

fn old(path: &Path) -> PathBuf {
    path.with_extension("log.1")
}

/// Size at which a log is rotated, in bytes; two files exist at most.
pub const MAX_LOG_BYTES: u64 = 256 * 1024;

/// How much of `loader.log` is shown, in bytes.
const LOADER_TAIL_BYTES: u64 = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn served(requests: u64) -> ConsoleEvent {
        ConsoleEvent::Served { requests, refused: 0 }
    }

    #[test]
    fn reads_back_the_events_it_wrote() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console.log");
        let mut reader = LogReader::new(path.clone());
        assert_eq!(reader.lines().unwrap(), []);
        let mut writer = LogWriter::open(path).unwrap();
        writer.event(UnixTime(3), &served(8));
        assert_eq!(reader.lines().unwrap(), [LogLine { at: UnixTime(3), event: served(8) }]);
        assert_eq!(reader.lines().unwrap(), []);
        writer.event(UnixTime(4), &ConsoleEvent::Stopping {});
        assert_eq!(reader.lines().unwrap().len(), 1);
    }

    #[test]
    fn a_full_log_is_rotated_and_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console.log");
        let mut writer = LogWriter::open(path.clone()).unwrap();
        let mut reader = LogReader::new(path.clone());
        let mut seen = 0;
        for n in 0..9000 {
            writer.event(UnixTime(n), &served(n));
            if n % 500 == 0 {
                seen += reader.lines().unwrap().len();
            }
        }
        seen += reader.lines().unwrap().len();
        assert_eq!(seen, 9000);
        assert!(path.with_extension("log.1").exists());
        assert!(std::fs::metadata(&path).unwrap().len() <= MAX_LOG_BYTES + 100);
    }

    #[test]
    fn leaves_out_lines_that_are_not_events() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console.log");
        std::fs::write(&path, "rubbish\n{\"at\":1}\n{\"at\":1,\"event\":\"stopping\"}\n{\"at\"")
            .unwrap();
        assert_eq!(LogReader::new(path).lines().unwrap().len(), 1);
    }

    #[test]
    fn escapes_what_a_terminal_would_obey() {
        assert_eq!(escape(b"a\x1b[2J\nb\xff"), "a\\x1b[2J\nb\\xff");
    }
}
