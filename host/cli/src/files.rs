//! Reading and writing the user's files: bounded, atomic, and never over something that is there
//! unless that was asked for.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use chrysalis_vault::ModelKey;
use chrysalis_wire::{Digest, SecretBytes};
use sha2::{Digest as _, Sha256};

use crate::exit::{Class, Failure};

/// Reads a file of at most `limit` bytes.
pub(crate) fn read(path: &Path, limit: usize) -> Result<Vec<u8>, Failure> {
    read_into(Vec::new(), path, limit)
}

fn read_into(mut bytes: Vec<u8>, path: &Path, limit: usize) -> Result<Vec<u8>, Failure> {
    let file = File::open(path).map_err(|e| Failure::file("open", path, &e))?;
    file.take((limit as u64).saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|e| Failure::file("read", path, &e))?;
    if bytes.len() > limit {
        let message = format!("{} is over the limit of {limit} bytes", path.display());
        return Err(Failure::new(Class::Malformed, "E-FILE-SIZE", message)
            .next("check that this is the file you meant"));
    }
    Ok(bytes)
}

/// Reads a text file of at most `limit` bytes.
pub(crate) fn read_text(path: &Path, limit: usize) -> Result<String, Failure> {
    String::from_utf8(read(path, limit)?).map_err(|_| {
        let message = format!("{} is not UTF-8 text", path.display());
        Failure::new(Class::Malformed, "E-FILE-TEXT", message)
            .next("check that this is the file you meant")
    })
}

/// Whether a file may be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Existing {
    /// It is an error if it is there.
    Refuse,
    /// It is replaced, as a whole or not at all.
    Replace,
}

/// Writes a file as a whole: beside its place, flushed, then moved there.
pub(crate) fn write(path: &Path, bytes: &[u8], existing: Existing) -> Result<(), Failure> {
    let temporary = beside(path);
    let written = create(&temporary, 0o644).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let moved = written.and_then(|()| match existing {
        Existing::Replace => std::fs::rename(&temporary, path),
        // A link fails if the name is taken, where a rename would replace it.
        Existing::Refuse => {
            std::fs::hard_link(&temporary, path).and_then(|()| std::fs::remove_file(&temporary))
        }
    });
    moved.map_err(|e| {
        let _ = std::fs::remove_file(&temporary);
        exists(path, &e)
    })
}

/// Writes a new model key file, readable by its owner alone.
pub(crate) fn write_key(path: &Path, key: &ModelKey) -> Result<(), Failure> {
    write_secret(path, key.to_text().as_bytes())
}

/// Writes a new file of one secret line, readable by its owner alone.
pub(crate) fn write_secret(path: &Path, line: &[u8]) -> Result<(), Failure> {
    let mut file = create(path, 0o600).map_err(|e| exists(path, &e))?;
    file.write_all(line)
        .and_then(|()| file.write_all(b"\n"))
        .and_then(|()| file.sync_all())
        .map_err(|e| Failure::file("write", path, &e))
}

/// Reads a model key that nobody but its owner may read.
pub(crate) fn read_key(path: &Path) -> Result<ModelKey, Failure> {
    let secret = read_secret(path, MAX_KEY_BYTES)?;
    Ok(ModelKey::from_text(core::str::from_utf8(secret.expose()).unwrap_or_default())?)
}

/// Reads a secret of at most `limit` bytes that nobody but its owner may read.
pub(crate) fn read_secret(path: &Path, limit: usize) -> Result<SecretBytes, Failure> {
    let meta = std::fs::metadata(path).map_err(|e| Failure::file("open", path, &e))?;
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let message = format!("the key {} can be read by others", path.display());
        return Err(Failure::new(Class::Refused, "E-KEY-MODE", message)
            .compared("mode 0600", format!("mode {mode:04o}"))
            .next("chmod 600 the file, and make a new key if others use this machine"));
    }
    // Room for all of it, so that no copy of a part is left behind by growing.
    let room = Vec::with_capacity(limit.saturating_add(1));
    Ok(SecretBytes::new(read_into(room, path, limit)?))
}

/// Makes the directory a file is to be written in.
pub(crate) fn make_dir_of(path: &Path) -> Result<(), Failure> {
    match path.parent() {
        Some(dir) => std::fs::create_dir_all(dir).map_err(|e| Failure::file("make", dir, &e)),
        None => Ok(()),
    }
}

/// SHA-256 of a file of any length.
pub(crate) fn sha256(path: &Path) -> Result<Digest, Failure> {
    let mut file = File::open(path).map_err(|e| Failure::file("open", path, &e))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; HASH_BUFFER_BYTES];
    loop {
        let read = file.read(&mut buffer).map_err(|e| Failure::file("read", path, &e))?;
        match buffer.get(..read) {
            Some(bytes) if !bytes.is_empty() => hash.update(bytes),
            _ => return Ok(Digest(hash.finalize().into())),
        }
    }
}

/// SHA-256 of bytes.
pub(crate) fn digest(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

fn create(path: &Path, mode: u32) -> std::io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path)
}

fn exists(path: &Path, error: &std::io::Error) -> Failure {
    if error.kind() != ErrorKind::AlreadyExists {
        return Failure::file("write", path, error);
    }
    let message = format!("{} exists already and is not overwritten", path.display());
    Failure::new(Class::Refused, "E-EXISTS", message).next("choose another name, or move it away")
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    name.into()
}

/// Bytes hashed at a time.
const HASH_BUFFER_BYTES: usize = 1 << 20;

/// Largest key file read, in bytes.
const MAX_KEY_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn refuses_a_file_one_byte_over_its_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, b"12345").unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"12345");
        assert_eq!(read(&path, 4).unwrap_err().code, "E-FILE-SIZE");
    }

    #[test]
    fn does_not_write_over_a_file_unless_told_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        write(&path, b"one", Existing::Refuse).unwrap();
        assert_eq!(write(&path, b"two", Existing::Refuse).unwrap_err().code, "E-EXISTS");
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        write(&path, b"two", Existing::Replace).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn refuses_a_key_that_others_may_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        write_key(&path, &ModelKey::from_bytes(&[7; 32]).unwrap()).unwrap();
        assert_eq!(read_key(&path).unwrap().expose(), &[7; 32]);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(read_key(&path).unwrap_err().code, "E-KEY-MODE");
    }
}
