//! The file operations the backends need, injected so that tests can stand in for the kernel.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;

/// File operations on pseudo-filesystems (configfs, sysfs, `/dev/attestation`).
pub trait Files: Send + Sync {
    /// Reads a whole file.
    ///
    /// # Errors
    /// [`ErrorKind::FileTooLarge`] when the file is longer than `limit`; no more than one byte
    /// over the limit is read.
    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>>;

    /// Writes `bytes` at offset 0 of an existing file in one system call, then closes it.
    ///
    /// # Errors
    /// [`ErrorKind::WriteZero`] when the kernel took only a part: pseudo-files act on each write,
    /// so the rest must not follow in a second one.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Creates one directory.
    ///
    /// # Errors
    /// What the operating system says, [`ErrorKind::AlreadyExists`] included.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Removes one directory. In configfs the attribute files in it go with it.
    ///
    /// # Errors
    /// What the operating system says.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
}

/// The real file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostFiles;

impl Files for HostFiles {
    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        // The full capacity up front: a growing buffer would leave copies of a key behind.
        let with_witness = limit.saturating_add(1);
        let mut bytes = Vec::with_capacity(with_witness);
        let bound = u64::try_from(with_witness).unwrap_or(u64::MAX);
        OpenOptions::new().read(true).open(path)?.take(bound).read_to_end(&mut bytes)?;
        if bytes.len() > limit {
            return Err(ErrorKind::FileTooLarge.into());
        }
        Ok(bytes)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        // No create, no truncate: a missing attribute must fail, not become a regular file.
        let written = OpenOptions::new().write(true).open(path)?.write(bytes)?;
        if written == bytes.len() { Ok(()) } else { Err(ErrorKind::WriteZero.into()) }
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_up_to_the_limit_and_refuses_one_byte_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, [7; 8]).unwrap();
        assert_eq!(HostFiles.read(&path, 8).unwrap(), [7; 8]);
        assert_eq!(HostFiles.read(&path, 7).unwrap_err().kind(), ErrorKind::FileTooLarge);
    }

    #[test]
    fn refuses_to_create_a_file_by_writing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("absent");
        assert_eq!(HostFiles.write(&path, b"x").unwrap_err().kind(), ErrorKind::NotFound);
        assert!(!path.exists());
    }

    #[test]
    fn writes_in_place_without_truncating() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, b"abcdef").unwrap();
        HostFiles.write(&path, b"XY").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"XYcdef");
    }
}
