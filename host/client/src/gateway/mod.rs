//! The OpenAI API on loopback, in front of one attested worker. The local process that speaks to
//! it is trusted with its own prompts; a web page that reaches for the port is not.
//!
//! Requests are parsed here, so that an unknown field is refused by name before anything is
//! sealed; their exact bytes are what is sealed. Any API key is accepted and ignored: who may use
//! the port is decided by the machine. Nothing of a prompt or an answer is logged.

mod accept;
mod answer;
mod error;
mod guard;
mod routes;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use tokio::net::TcpListener;

use self::accept::AcceptBounds;
use crate::error::ClientError;
use crate::store::ReceiptStore;
use crate::transcript::Keep;
use crate::worker::AttestedWorker;

/// Whether others on the network may use the gateway, and so read prompts on their way to it: it
/// speaks plain HTTP. A type and not a flag, so that the choice is visible at every call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposure {
    /// Only this machine.
    LoopbackOnly,
    /// Whoever reaches the address.
    Network,
}

/// The gateway.
#[derive(Clone)]
pub struct Gateway {
    state: Arc<State>,
}

/// What every route shares.
pub(crate) struct State {
    pub(crate) worker: AttestedWorker,
    pub(crate) receipts: ReceiptStore,
    pub(crate) exposure: Exposure,
    pub(crate) keep: Keep,
}

impl Gateway {
    /// A gateway in front of `worker` that keeps receipts in `receipts`, and the words beside
    /// them if `keep` says so.
    #[must_use]
    pub fn new(
        worker: AttestedWorker,
        receipts: ReceiptStore,
        exposure: Exposure,
        keep: Keep,
    ) -> Self {
        Self { state: Arc::new(State { worker, receipts, exposure, keep }) }
    }

    /// Binds `address`.
    ///
    /// # Errors
    /// [`ClientError::NotLoopback`] for an address others can reach, unless `exposure` allows it;
    /// [`ClientError::Listen`].
    pub async fn bind(address: SocketAddr, exposure: Exposure) -> Result<TcpListener, ClientError> {
        if exposure == Exposure::LoopbackOnly && !is_loopback(address.ip()) {
            return Err(ClientError::NotLoopback(address));
        }
        TcpListener::bind(address)
            .await
            .map_err(|e| ClientError::Listen { address, kind: e.kind() })
    }

    /// Serves until `stop` completes; requests in progress are then finished.
    ///
    /// To stop at once, drop the future and the runtime with it.
    pub async fn serve(self, listener: TcpListener, stop: impl Future<Output = ()>) {
        self.serve_within(listener, AcceptBounds::default(), stop).await;
    }

    async fn serve_within(
        self,
        listener: TcpListener,
        bounds: AcceptBounds,
        stop: impl Future<Output = ()>,
    ) {
        accept::serve(listener, self.router(), bounds, stop).await;
    }

    /// The routes, for a server of the caller's own.
    pub fn router(self) -> Router {
        Router::new()
            .route("/healthz", get(routes::health))
            .route("/v1/models", get(routes::models))
            .route("/v1/models/{id}", get(routes::model))
            .route("/v1/chat/completions", post(answer::chat))
            .route("/v1/completions", post(answer::completion))
            .route("/v1/responses", post(answer::response))
            .route("/v1/embeddings", post(answer::embedding))
            .route("/v1/receipts/{id}", get(routes::receipt))
            .fallback(routes::not_found)
            .method_not_allowed_fallback(routes::wrong_method)
            .layer(axum::middleware::from_fn_with_state(Arc::clone(&self.state), guard::check))
            .with_state(self.state)
    }
}

/// Whether only this machine can reach `address`. An IPv4 address in IPv6 clothes is still IPv4.
fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn bind(address: &str) -> Result<TcpListener, ClientError> {
        Gateway::bind(address.parse().unwrap(), Exposure::LoopbackOnly).await
    }

    #[tokio::test]
    async fn refuses_to_listen_where_others_can_reach_it() {
        for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "[::ffff:192.0.2.1]:0"] {
            let refused = bind(address).await.unwrap_err();
            assert_eq!(refused, ClientError::NotLoopback(address.parse().unwrap()));
        }
    }

    #[tokio::test]
    async fn listens_on_loopback_and_elsewhere_only_when_told_to() {
        bind("127.0.0.1:0").await.unwrap();
        Gateway::bind("0.0.0.0:0".parse().unwrap(), Exposure::Network).await.unwrap();
    }

    #[tokio::test]
    async fn refuses_a_port_that_is_taken() {
        let taken = bind("127.0.0.1:0").await.unwrap();
        let refused = bind(&taken.local_addr().unwrap().to_string()).await.unwrap_err();
        assert_eq!(refused.code(), "E-LISTEN");
    }
}
