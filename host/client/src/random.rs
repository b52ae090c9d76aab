//! Random bytes of this client: nonces, salts and request ids. They come from the operating
//! system and from nowhere a peer could reach.

use crate::error::ClientError;

/// `N` fresh random bytes.
///
/// # Errors
/// [`ClientError::Randomness`] if the operating system gives none.
pub(crate) fn fresh<const N: usize>() -> Result<[u8; N], ClientError> {
    let mut bytes = [0u8; N];
    getrandom::fill(&mut bytes).map_err(|_| ClientError::Randomness)?;
    Ok(bytes)
}
