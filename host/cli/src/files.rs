//! Reading and writing the user's files: bounded, atomic, and never over something that is there
//! unless that was asked for.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use chrysalis_vault::ModelKey;
use chrysalis_wire::SecretBytes;

use crate::exit::{Class, Failure};

/// Reads a file of at most `limit` bytes.
pub(crate) fn read(path: &Path, limit: usize) -> Result<Vec<u8>, Failure> {
    let file = File::open(path).map_err(|e| Failure::file("open", path, &e))?;
    let mut bytes = Vec::new();
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
    let mut file = create(path, 0o600).map_err(|e| exists(path, &e))?;
    file.write_all(key.to_text().as_bytes())
        .and_then(|()| file.write_all(b"\n"))
        .and_then(|()| file.sync_all())
        .map_err(|e| Failure::file("write", path, &e))
}

/// Reads a model key that nobody but its owner may read.
pub(crate) fn read_key(path: &Path) -> Result<ModelKey, Failure> {
    let meta = std::fs::metadata(path).map_err(|e| Failure::file("open", path, &e))?;
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let message = format!("the model key {} can be read by others", path.display());
        return Err(Failure::new(Class::Refused, "E-KEY-MODE", message)
            .compared("mode 0600", format!("mode {mode:04o}"))
            .next("chmod 600 the file, and make a new key if others use this machine"));
    }
    let secret = SecretBytes::new(read(path, MAX_KEY_BYTES)?);
    Ok(ModelKey::from_text(core::str::from_utf8(secret.expose()).unwrap_or_default())?)
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
