//! Bounded reads of little-endian fields. Every input of this module tree is a file or a log that
//! somebody else wrote: a read outside it is an error, never a panic.

use super::error::TdxError;

/// `len` bytes at `at`.
pub(crate) fn slice<'a>(
    what: &'static str,
    bytes: &'a [u8],
    at: usize,
    len: usize,
) -> Result<&'a [u8], TdxError> {
    at.checked_add(len).and_then(|end| bytes.get(at..end)).ok_or(TdxError::Truncated {
        what,
        at,
        needed: len,
        size: bytes.len(),
    })
}

/// `N` bytes at `at`.
pub(crate) fn array<const N: usize>(
    what: &'static str,
    bytes: &[u8],
    at: usize,
) -> Result<[u8; N], TdxError> {
    let mut out = [0u8; N];
    out.copy_from_slice(slice(what, bytes, at, N)?);
    Ok(out)
}

/// The `u16` at `at`.
pub(crate) fn u16_at(what: &'static str, bytes: &[u8], at: usize) -> Result<u16, TdxError> {
    array(what, bytes, at).map(u16::from_le_bytes)
}

/// The `u32` at `at`.
pub(crate) fn u32_at(what: &'static str, bytes: &[u8], at: usize) -> Result<u32, TdxError> {
    array(what, bytes, at).map(u32::from_le_bytes)
}

/// The `u32` at `at` as a length or an offset.
pub(crate) fn size_at(what: &'static str, bytes: &[u8], at: usize) -> Result<usize, TdxError> {
    // Too large for this machine is too large for any file it could hold.
    u32_at(what, bytes, at).map(|v| usize::try_from(v).unwrap_or(usize::MAX))
}

/// The `u64` at `at`.
pub(crate) fn u64_at(what: &'static str, bytes: &[u8], at: usize) -> Result<u64, TdxError> {
    array(what, bytes, at).map(u64::from_le_bytes)
}

/// Refuses an input that is empty or over its limit, before anything of it is read.
pub(crate) const fn bounded(
    what: &'static str,
    bytes: &[u8],
    limit: usize,
) -> Result<(), TdxError> {
    match bytes.len() {
        0 => Err(TdxError::Empty { what }),
        got if got > limit => Err(TdxError::TooLarge { what, limit, got }),
        _ => Ok(()),
    }
}
