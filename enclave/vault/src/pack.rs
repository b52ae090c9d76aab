//! Packing. Two passes over the input: the first hashes, so that header and leaf table, which
//! come first, are known; the second writes and refuses input that changed in between.
//!
//! The same input gives the same bytes; sealed, the same input, key and salt do.

use std::fs::{File, TryLockError};
use std::io::Write;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use chrysalis_wire::Digest;
use serde::Serialize;

use crate::error::VaultError;
use crate::header::{Header, Sealing, TAG_BYTES};
use crate::input::{Content, PackInput};
use crate::key::ModelKey;
use crate::limits::BUNDLE_ALIGN;
use crate::manifest::Manifest;
use crate::pipeline;
use crate::seal::Seal;
use crate::tree::{self, Leaves};

/// What was packed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PackReport {
    /// What receipts and policies name: equal whether sealed or not.
    pub model_root: Digest,
    /// Digest of the manifest.
    pub manifest_digest: Digest,
    /// Root of the tree over the chunks.
    pub tree_root: Digest,
    /// Whether a model key is needed.
    pub sealed: bool,
    /// Number of chunks.
    pub chunks: u64,
    /// Bytes of content.
    pub content_bytes: u64,
    /// Bytes written.
    pub bundle_bytes: u64,
    /// The manifest.
    pub manifest: Manifest,
}

/// How to seal a bundle.
pub struct SealWith<'a> {
    /// The model key.
    pub key: &'a ModelKey,
    /// 32 fresh random bytes for every packing. Repeating one for the same input repeats the same
    /// bytes; it opens nothing.
    pub salt: [u8; 32],
}

/// Writes a bundle that is not sealed. `progress` is called with bytes done and bytes to do, over
/// both passes.
///
/// # Errors
/// A manifest rule (FORMAT §3), a size limit, an input that changed, or [`VaultError::Io`].
pub fn pack(
    input: PackInput<'_>,
    out: impl Write,
    progress: &dyn Fn(u64, u64),
) -> Result<PackReport, VaultError> {
    write_bundle(input, out, None, progress)
}

/// Writes a sealed bundle. Its model root is the one of the same bundle not sealed.
///
/// # Errors
/// As [`pack`], and [`VaultError::NotRandom`] for a salt of zeros.
pub fn pack_sealed(
    input: PackInput<'_>,
    out: impl Write,
    key: &ModelKey,
    salt: [u8; 32],
    progress: &dyn Fn(u64, u64),
) -> Result<PackReport, VaultError> {
    write_bundle(input, out, Some(&SealWith { key, salt }), progress)
}

/// Packs into the file `destination`. The bundle is written as `<destination>.partial`, synced,
/// and renamed when it is whole: nothing partial ever has the final name, and an interrupted run
/// is simply run again.
///
/// # Errors
/// As [`pack_sealed`], and [`VaultError::PackBusy`] while another process packs to the same name.
/// The partial file is removed on every error.
pub fn pack_file(
    input: PackInput<'_>,
    destination: &Path,
    seal: Option<&SealWith<'_>>,
    progress: &dyn Fn(u64, u64),
) -> Result<PackReport, VaultError> {
    let partial = partial_path(destination);
    let file = lock_partial(&partial)?;
    let written = file
        .set_len(0)
        .map_err(VaultError::io("empty the partial bundle"))
        .and_then(|()| write_bundle(input, &file, seal, progress))
        .and_then(|report| {
            file.sync_all().map_err(VaultError::io("sync the bundle"))?;
            std::fs::rename(&partial, destination).map_err(VaultError::io("rename the bundle"))?;
            Ok(report)
        });
    let report = match written {
        Ok(report) => report,
        Err(e) => {
            // The error that matters is the first one; a leftover is overwritten next time.
            let _ = std::fs::remove_file(&partial);
            return Err(e);
        }
    };
    let folder = destination.parent().filter(|p| !p.as_os_str().is_empty());
    File::open(folder.unwrap_or_else(|| Path::new(".")))
        .and_then(|f| f.sync_all())
        .map_err(VaultError::io("sync the folder of the bundle"))?;
    Ok(report)
}

/// Opens and locks the partial file, without touching what another process writes to it.
fn lock_partial(partial: &Path) -> Result<File, VaultError> {
    let busy = || VaultError::PackBusy { path: partial.display().to_string() };
    let file = File::options().create(true).write(true).truncate(false).open(partial);
    let file = file.map_err(VaultError::io("create the partial bundle"))?;
    file.try_lock().map_err(|e| match e {
        TryLockError::WouldBlock => busy(),
        TryLockError::Error(e) => VaultError::io("lock the partial bundle")(e),
    })?;
    // Between opening and locking, the holder of the lock may have renamed the file: then this
    // handle is the finished bundle, and emptying it would destroy it.
    let id = |m: std::fs::Metadata| (m.dev(), m.ino());
    let ours = file.metadata().map(id).map_err(VaultError::io("read the partial bundle's id"))?;
    match std::fs::metadata(partial).map(id) {
        Ok(named) if named == ours => Ok(file),
        _ => Err(busy()),
    }
}

fn partial_path(destination: &Path) -> PathBuf {
    let mut name = destination.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

fn write_bundle(
    input: PackInput<'_>,
    mut out: impl Write,
    seal_with: Option<&SealWith<'_>>,
    progress: &dyn Fn(u64, u64),
) -> Result<PackReport, VaultError> {
    if seal_with.is_some_and(|s| s.salt == [0; 32]) {
        return Err(VaultError::NotRandom { what: "salt" });
    }
    let (manifest, mut content) = input.prepare()?;
    let manifest_bytes = manifest.encode();
    let total = content.layout().total();
    let steps = total.saturating_mul(2);

    let leaves = hash_pass(&mut content, &|done| progress(done, steps))?;
    let mut header = Header {
        manifest_len: manifest_bytes.len(),
        total,
        manifest_digest: tree::manifest_digest(&manifest_bytes),
        tree_root: leaves.root().ok_or(VaultError::NoFiles)?,
        sealing: seal_with.map(|s| Sealing { salt: s.salt, key_check: [0; 32] }),
    };
    let seal = seal_with.map(|s| Seal::derive(s.key, &s.salt, &header)).transpose()?;
    let mut table = leaves.table();
    if let (Some(seal), Some(sealing)) = (&seal, &mut header.sealing) {
        sealing.key_check = seal.key_check();
        seal.seal_table(&mut table)?;
    }
    for part in [&header.encode(), &manifest_bytes, &table] {
        out.write_all(part).map_err(VaultError::io("write the bundle"))?;
    }
    write_pass(&mut content, &leaves, seal.as_ref(), &mut out, &|done| {
        progress(total.saturating_add(done), steps);
    })?;
    let padding = header.bundle_len().saturating_sub(header.content_end());
    let zeros = [0u8; BUNDLE_ALIGN as usize];
    let padding = usize::try_from(padding).ok().and_then(|n| zeros.get(..n)).unwrap_or_default();
    out.write_all(padding)
        .and_then(|()| out.flush())
        .map_err(VaultError::io("write the bundle"))?;
    Ok(PackReport {
        model_root: header.model_root(),
        manifest_digest: header.manifest_digest,
        tree_root: header.tree_root,
        sealed: seal.is_some(),
        chunks: content.layout().count(),
        content_bytes: total,
        bundle_bytes: header.bundle_len(),
        manifest,
    })
}

fn hash_pass(content: &mut Content<'_>, progress: &dyn Fn(u64)) -> Result<Leaves, VaultError> {
    content.rewind()?;
    let layout = content.layout().clone();
    let mut leaves = Leaves::with_capacity(layout.count());
    pipeline::run(
        &layout,
        |slot| content.read(slot.bytes_mut()),
        |slot| tree::leaf(slot.bytes()),
        |slot, leaf| {
            leaves.push(leaf);
            progress(layout.chunk(slot.index).end);
            Ok(())
        },
    )?;
    content.finish()?;
    Ok(leaves)
}

fn write_pass(
    content: &mut Content<'_>,
    leaves: &Leaves,
    seal: Option<&Seal>,
    out: &mut impl Write,
    progress: &dyn Fn(u64),
) -> Result<(), VaultError> {
    content.rewind()?;
    let layout = content.layout().clone();
    pipeline::run(
        &layout,
        |slot| content.read(slot.bytes_mut()),
        |slot| {
            if leaves.get(slot.index) != Some(tree::leaf(slot.bytes())) {
                let path = layout.locate(slot.index).files.join(", ");
                return Err(VaultError::InputChanged { path });
            }
            let last = slot.index.saturating_add(1) == layout.count();
            let index = slot.index;
            seal.map(|s| s.seal_segment(index, last, slot.bytes_mut())).transpose()
        },
        |slot, sealed: Result<Option<[u8; TAG_BYTES]>, VaultError>| {
            // Before anything is written: a refused chunk is still plaintext.
            let tag = sealed?;
            let tag = tag.as_ref().map_or(&[][..], |t| &t[..]);
            out.write_all(slot.bytes())
                .and_then(|()| out.write_all(tag))
                .map_err(VaultError::io("write the bundle"))?;
            progress(layout.chunk(slot.index).end);
            Ok(())
        },
    )?;
    content.finish()
}
