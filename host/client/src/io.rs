//! Reading from a peer that decides when and how much to send: both are bounded here.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

use crate::error::ClientError;

/// Bounds the wait for `step`.
///
/// # Errors
/// [`ClientError::TimedOut`] after `limit`.
pub(crate) async fn within<T>(
    what: &'static str,
    limit: Duration,
    step: impl Future<Output = T>,
) -> Result<T, ClientError> {
    tokio::time::timeout(limit, step).await.map_err(|_| ClientError::TimedOut { what, limit })
}

/// The next piece of `body`, `None` at its end.
///
/// # Errors
/// [`ClientError::TimedOut`] after `wait` of silence, [`ClientError::Disconnected`] if the body
/// ends before HTTP says it does.
pub(crate) async fn next_piece(
    body: &mut Incoming,
    wait: Duration,
) -> Result<Option<Bytes>, ClientError> {
    loop {
        let frame = within("the next piece of the answer", wait, body.frame()).await?;
        match frame {
            None => return Ok(None),
            // Trailers carry nothing here.
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => return Ok(Some(data)),
                Err(_trailers) => {}
            },
            Some(Err(_broken)) => return Err(ClientError::Disconnected),
        }
    }
}

/// Reads a whole body of at most `limit` bytes, all of it within `wait`: piece by piece a peer could
/// hold its reader for days.
///
/// # Errors
/// [`ClientError::TooLarge`], [`ClientError::Disconnected`], [`ClientError::TimedOut`].
pub(crate) async fn read_whole(
    mut body: Incoming,
    what: &'static str,
    limit: usize,
    wait: Duration,
) -> Result<Vec<u8>, ClientError> {
    let too_large = ClientError::TooLarge { what, limit };
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large);
    }
    let read = async {
        let mut whole = Vec::new();
        while let Some(piece) = next_piece(&mut body, wait).await? {
            if whole.len().saturating_add(piece.len()) > limit {
                return Err(too_large);
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole)
    };
    within(what, wait, read).await?
}
