//! Image directories on disk: read with limits, written as a whole or not at all. What is read is
//! believed by nobody before [`crate::verify`].

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::compose::{CMDLINE_FILE, FIRMWARE_FILE, INITRD_FILE, Image, KERNEL_FILE, MANIFEST_FILE};
use crate::erofs::MAX_FS_BYTES;
use crate::error::ImageError;
use crate::root::{ROOT_FILE, VERITY_FILE};
use crate::verify::Fault;

/// Whether a directory that is there may be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It is an error if it is there.
    Refuse,
    /// An image that is there is replaced in one step; anything else is not touched.
    Replace,
}

/// Writes `image` to the directory `out`: beside its place, flushed, then moved there.
///
/// # Errors
/// [`ImageError::Exists`] and [`ImageError::Io`]; nothing is left behind.
pub fn write(image: &Image, out: &Path, existing: Existing) -> Result<(), ImageError> {
    let temporary = beside(out)?;
    let moved = fill(image, &temporary).and_then(|()| put_in_place(&temporary, out, existing));
    if moved.is_err() && temporary.exists() {
        // The first error is the one to tell.
        let _ = fs::remove_dir_all(&temporary);
    }
    moved
}

/// Reads the files of the image directory `dir`.
///
/// # Errors
/// [`ImageError::Refused`] for a file that is missing, [`ImageError::TooLarge`],
/// [`ImageError::Io`].
pub fn read(dir: &Path) -> Result<Image, ImageError> {
    let part = |part: &'static str, file: &'static str| {
        let path = dir.join(file);
        match File::open(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound && dir.is_dir() => {
                Err(ImageError::Refused(Fault::Missing { part, file }))
            }
            Err(e) => Err(ImageError::io("open", &path, &e)),
            Ok(file) => read_limited(part, file, &path, MAX_PART_BYTES),
        }
    };
    // Whether there should be a root is the manifest's to say.
    let optional = |part: &'static str, file: &'static str, max| {
        let path = dir.join(file);
        match File::open(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(ImageError::io("open", &path, &e)),
            Ok(file) => read_limited(part, file, &path, max).map(Some),
        }
    };
    Ok(Image {
        manifest: part("manifest", MANIFEST_FILE)?,
        firmware: part("firmware", FIRMWARE_FILE)?,
        kernel: part("kernel", KERNEL_FILE)?,
        initrd: part("initrd", INITRD_FILE)?,
        cmdline: part("cmdline", CMDLINE_FILE)?,
        root: optional("root", ROOT_FILE, MAX_FS_BYTES)?,
        verity: optional("verity", VERITY_FILE, MAX_PART_BYTES)?,
    })
}

fn read_limited(
    what: &'static str,
    file: File,
    path: &Path,
    max: u64,
) -> Result<Vec<u8>, ImageError> {
    let mut bytes = Vec::new();
    file.take(max.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|e| ImageError::io("read", path, &e))?;
    let got = bytes.len() as u64;
    if got > max {
        return Err(ImageError::TooLarge { what, got, max });
    }
    Ok(bytes)
}

fn fill(image: &Image, dir: &Path) -> Result<(), ImageError> {
    fs::create_dir(dir).map_err(|e| ImageError::io("create", dir, &e))?;
    for (_, name, bytes) in image.files() {
        let path = dir.join(name);
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        let written = file.and_then(|mut file| {
            file.write_all(bytes)?;
            // Set, not asked for: a umask takes bits away from what is asked for.
            file.set_permissions(Permissions::from_mode(0o644))?;
            file.sync_all()
        });
        written.map_err(|e| ImageError::io("write", &path, &e))?;
    }
    let set = fs::set_permissions(dir, Permissions::from_mode(0o755));
    set.and_then(|()| File::open(dir)?.sync_all()).map_err(|e| ImageError::io("write", dir, &e))
}

fn put_in_place(temporary: &Path, out: &Path, existing: Existing) -> Result<(), ImageError> {
    let exists = || ImageError::Exists { path: out.display().to_string() };
    let rename = |flags| renameat_with(CWD, temporary, CWD, out, flags);
    match rename(RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::EXIST) if existing == Existing::Replace => {
            if !out.join(MANIFEST_FILE).is_file() {
                return Err(exists());
            }
            rename(RenameFlags::EXCHANGE).map_err(|e| ImageError::io("replace", out, &e.into()))?;
            fs::remove_dir_all(temporary).map_err(|e| ImageError::io("remove", temporary, &e))
        }
        Err(rustix::io::Errno::EXIST) => Err(exists()),
        Err(e) => Err(ImageError::io("write", out, &e.into())),
    }
}

/// A name in the same directory, so that moving it is one step.
fn beside(out: &Path) -> Result<PathBuf, ImageError> {
    let name = out.file_name().ok_or_else(|| {
        let error = std::io::Error::from(ErrorKind::InvalidInput);
        ImageError::io("write", out, &error)
    })?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}.partial", std::process::id()));
    Ok(out.with_file_name(hidden))
}

/// Largest file of an image read, in bytes; the root has a limit of its own, [`MAX_FS_BYTES`].
pub const MAX_PART_BYTES: u64 = 256 << 20;
