//! `GET /v1/attestation?nonce=<64 hex>`: fresh evidence for a caller's nonce.
//!
//! The caller supplies a nonce and nothing else. The 64 bytes that are signed are hashed inside,
//! under our own tag, from the nonce, this connection's TLS exporter and the keyset, so the
//! endpoint is no oracle that quotes what it is told to (attestation reference §2.1 rule 3).

use std::sync::Arc;

use chrysalis_wire::Digest;
use hyper::{Response, StatusCode};

use crate::body::ReplyBody;
use crate::http::{Connection, Refused, json};
use crate::quotes::document;
use crate::worker::Worker;

/// Answers the attestation route.
///
/// # Errors
/// [`Refused::BadNonce`] for a query that is not exactly one 32-byte nonce, otherwise as
/// [`Connection::statement`] and [`document`].
pub async fn answer(
    worker: &Arc<Worker>,
    connection: &Connection,
    query: Option<&str>,
) -> Result<Response<ReplyBody>, Refused> {
    let nonce: Digest = query
        .and_then(|q| q.strip_prefix("nonce="))
        .and_then(|hex| hex.parse().ok())
        .ok_or(Refused::BadNonce)?;
    let statement = connection.statement(nonce.0)?;
    Ok(json(StatusCode::OK, &document(worker, statement).await?))
}
