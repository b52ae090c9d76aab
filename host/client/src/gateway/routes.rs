//! The routes that need no worker: models, stored receipts, health.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use chrysalis_api::{ApiError, ModelCard, models_json};
use chrysalis_wire::RequestId;
use serde_json::json;
use tokio::task::spawn_blocking;

use super::State as Shared;
use super::error::{GatewayError, json as json_response};
use crate::error::ClientError;

type Answer = Result<Response, GatewayError>;

/// `GET /healthz`: the gateway runs, its worker was appraised, whether it still would be, and by what it
/// is judged now. A policy that was refused is named; the one before stays in use.
pub(super) async fn health(State(shared): State<Arc<Shared>>) -> Response {
    let evidence = shared.worker.evidence().await;
    let verified = &evidence.verified;
    let policy = shared.worker.worker().policy();
    let body = json!({
        "ok": true,
        "worker": verified.pin_name(),
        "accepted": shared.worker.is_accepted(),
        "model": verified.manifest().model.name,
        "appraised_at": evidence.at,
        "insecure_sim": verified.insecure_sim(),
        "policy": {
            "pins_sha256": policy.judge.pins().digest(),
            "collateral_sha256": policy.collateral.digest(),
            "since": policy.since,
            "refused": policy.refused,
        },
    });
    json_response(StatusCode::OK, body.to_string())
}

/// `GET /v1/models`.
pub(super) async fn models(State(shared): State<Arc<Shared>>) -> Response {
    json_response(StatusCode::OK, models_json(&[the_model(&shared).await]))
}

/// `GET /v1/models/{id}`.
pub(super) async fn model(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Answer {
    let model = the_model(&shared).await;
    if model.id != id {
        return Err(ApiError::model_not_found(&model.id).into());
    }
    Ok(json_response(StatusCode::OK, model.to_json()))
}

/// `GET /v1/receipts/{id}`: one stored receipt, as stored. There is no list: a receipt holds the
/// salt of its commitments, and its id is known to nobody but the requester.
pub(super) async fn receipt(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Answer {
    // The id becomes a file name: nothing but 32 hexadecimal digits gets past this.
    let id: RequestId = id.parse().map_err(|_| ApiError::route_not_found())?;
    let store = shared.receipts.clone();
    let bytes = blocking(move || store.read(id)).await?;
    Ok(json_response(StatusCode::OK, bytes))
}

/// Everything else.
pub(super) async fn not_found() -> Response {
    GatewayError::from(ApiError::route_not_found()).into_response()
}

/// A known route with another method.
pub(super) async fn wrong_method() -> Response {
    GatewayError::from(ApiError::method_not_allowed()).into_response()
}

/// The one model of the attested worker.
async fn the_model(shared: &Shared) -> ModelCard {
    let evidence = shared.worker.evidence().await;
    ModelCard {
        id: evidence.verified.manifest().model.name.clone(),
        created: evidence.at,
        owned_by: "chrysalis".to_owned(),
        task: evidence.verified.manifest().model.task,
    }
}

/// Runs file work off the async threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ClientError> + Send + 'static,
) -> Result<T, ClientError> {
    let stopped = |_| ClientError::Store { what: "use", kind: std::io::ErrorKind::Interrupted };
    spawn_blocking(work).await.map_err(stopped)?
}
