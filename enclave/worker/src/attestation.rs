//! `GET /v1/attestation?nonce=<64 hex>`: fresh evidence for a caller's nonce.
//!
//! The caller supplies a nonce and nothing else. The 64 bytes that are signed are hashed here,
//! under our own tag, from the nonce, this connection's TLS exporter and the keyset, so the
//! endpoint is no oracle that quotes what it is told to (attestation reference §2.1 rule 3).

use chrysalis_evidence::{Binding, CutQuote, Role, keyset_digest};
use chrysalis_wire::attest::ATTESTATION_SCHEMA;
use chrysalis_wire::{AttestationDocument, Digest, Keyset};
use hyper::{Response, StatusCode};
use tokio::task::spawn_blocking;

use crate::body::ReplyBody;
use crate::http::{Connection, Refused, json};
use crate::worker::Worker;

/// Answers the attestation route.
///
/// # Errors
/// [`Refused::BadNonce`] for a query that is not exactly one 32-byte nonce, [`Refused::Quote`] if
/// the platform makes no quote.
pub async fn answer(
    worker: &Worker,
    connection: Connection,
    query: Option<&str>,
) -> Result<Response<ReplyBody>, Refused> {
    let nonce: Digest = query
        .and_then(|q| q.strip_prefix("nonce="))
        .and_then(|hex| hex.parse().ok())
        .ok_or(Refused::BadNonce)?;
    let document = document(worker, connection.exporter, nonce.0).await?;
    Ok(json(StatusCode::OK, &document))
}

/// Makes the attestation document for `nonce` on the connection with `exporter`.
///
/// # Errors
/// [`Refused::Quote`] if the platform makes no quote.
pub async fn document(
    worker: &Worker,
    exporter: [u8; 32],
    nonce: [u8; 32],
) -> Result<AttestationDocument, Refused> {
    let stopped = Refused::Quote { code: "E-QUOTE-STOPPED" };
    let _turn = worker.quotes.acquire().await.map_err(|_| stopped.clone())?;
    let now = (worker.clock)().seconds();
    worker.session.maintain(now).map_err(|e| Refused::Quote { code: e.code() })?;
    let keyset = worker.session.keyset(now);
    let binding = binding(&keyset, exporter, nonce);
    let platform = std::sync::Arc::clone(&worker.platform);
    let quote = spawn_blocking(move || platform.quote(&binding.report_data().0))
        .await
        .map_err(|_| stopped)?
        .map_err(|error| Refused::Quote { code: error.code() })?;
    let cut = CutQuote::parse(&quote).map_err(|error| Refused::Quote { code: error.code() })?;
    worker.session.remember_evidence(cut.digest());
    Ok(AttestationDocument {
        schema: ATTESTATION_SCHEMA.to_owned(),
        platform: worker.platform.name().to_owned(),
        quote: hex::encode(quote),
        keyset: hex::encode(keyset.encode()),
        manifest: hex::encode(&worker.manifest_bytes),
        events: worker.events.clone(),
        devices: Vec::new(),
    })
}

fn binding(keyset: &Keyset, exporter: [u8; 32], nonce: [u8; 32]) -> Binding {
    Binding {
        role: Role::Server,
        tls_spki: keyset.tls_spki,
        nonce,
        exporter,
        keyset_digest: keyset_digest(&keyset.encode()),
        // No devices: this worker computes on the CPU.
        device_digest: Digest([0; 32]),
    }
}
