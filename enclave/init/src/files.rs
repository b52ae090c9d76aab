//! Reading and writing whole small files, bounded. Files of the image are measured, files of
//! `/proc` and `/sys` come from the kernel, and what a disk holds comes from the attacker.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Reads at most `limit` bytes of `path`.
///
/// # Errors
/// What the kernel says; [`ErrorKind::FileTooLarge`] if there is more.
pub fn read(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    read_from(&mut File::open(path)?, limit)
}

/// Reads `file` to its end, at most `limit` bytes.
///
/// # Errors
/// As [`read`].
pub fn read_from(file: &mut File, limit: usize) -> io::Result<Vec<u8>> {
    let past_limit = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    file.take(past_limit).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        return Err(ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

/// Writes an existing file of the kernel in one call, as `/proc` and `/sys` require.
///
/// # Errors
/// What the kernel says; [`ErrorKind::WriteZero`] if it took only a part.
pub fn write_attribute(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let written = OpenOptions::new().write(true).open(path)?.write(bytes)?;
    if written == bytes.len() { Ok(()) } else { Err(ErrorKind::WriteZero.into()) }
}

/// Creates a file nobody may write to again.
///
/// # Errors
/// What the kernel says; a file that exists is an error.
pub fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o444).open(path)?;
    file.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_up_to_the_limit_and_refuses_one_byte_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        create(&path, &[7; 8]).unwrap();
        assert_eq!(read(&path, 8).unwrap(), [7; 8]);
        assert_eq!(read(&path, 7).unwrap_err().kind(), ErrorKind::FileTooLarge);
    }

    #[test]
    fn an_attribute_that_is_missing_is_not_created() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        assert_eq!(write_attribute(&path, b"1").unwrap_err().kind(), ErrorKind::NotFound);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_is_created_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        create(&path, b"1").unwrap();
        assert_eq!(create(&path, b"2").unwrap_err().kind(), ErrorKind::AlreadyExists);
    }
}
