//! The chain over HTTP, in the shape of toncenter's API v2, so that wallets and libraries of others
//! speak to it. Whoever reaches the port rules the chain: it makes coins and time for anybody. Every
//! length, wait and number of callers is bounded all the same.
//!
//! | path | what |
//! |---|---|
//! | `/api/v2/METHOD`, `/METHOD` | a method, its parameters in the query or as a JSON object |
//! | `/api/v2/jsonRPC`, `/jsonRPC` | the same in JSON-RPC 2.0 |
//! | `POST /faucet` | `{"address": …, "amount": nanogram}` |
//! | `POST /advance` | `{"seconds": …}`: time passes at once |

mod api;
mod request;
mod shape;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use self::request::{Call, Fault};
use crate::error::ChainError;
use crate::node::Node;

/// Whether others on the network may use the chain. A type and not a flag, so that the choice is
/// visible at every call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposure {
    /// Only this machine.
    LoopbackOnly,
    /// Whoever reaches the address.
    Network,
}

/// Binds `address`.
///
/// # Errors
/// [`ChainError::NotLoopback`] for an address that others can reach, unless `exposure` allows it;
/// [`ChainError::Listen`].
pub async fn bind(address: SocketAddr, exposure: Exposure) -> Result<TcpListener, ChainError> {
    if exposure == Exposure::LoopbackOnly && !address.ip().to_canonical().is_loopback() {
        return Err(ChainError::NotLoopback(address));
    }
    TcpListener::bind(address).await.map_err(|e| ChainError::Listen { address, kind: e.kind() })
}

/// Serves until `stop` completes. What was answered before is on disk, so nothing is waited for.
pub async fn serve(node: Arc<Node>, listener: TcpListener, stop: impl Future<Output = ()>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    tokio::pin!(stop);
    loop {
        let stream = tokio::select! {
            () = &mut stop => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => {
                    // Out of file descriptors, or the caller is gone already. No busy loop.
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        // Over the limit: closing at once tells the caller to try again later.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let node = Arc::clone(&node);
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(Arc::clone(&node), request));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            // Its error is that of one caller, which knows it.
            drop(connection.await);
            drop(place);
        });
    }
}

async fn answer(
    node: Arc<Node>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let whole = Limited::new(body, MAX_BODY_BYTES).collect();
    let answered = match tokio::time::timeout(BODY_TIMEOUT, whole).await {
        Err(_) => Answered::of(None, Err(Fault::new(408, "the request does not end"))),
        Ok(Err(_)) => {
            let refused = format!("the request is cut, or over {MAX_BODY_BYTES} bytes");
            Answered::of(None, Err(Fault::new(413, refused)))
        }
        Ok(Ok(body)) => match Call::read(&head.method, &head.uri, &body.to_bytes()) {
            Err(fault) => Answered::of(None, Err(fault)),
            Ok(call) => {
                // The virtual machine and the disk take their time.
                let id = call.rpc_id.clone();
                let run = tokio::task::spawn_blocking(move || api::run(&node, &call));
                let stopped = |_| Err(Fault::new(500, "the call did not end"));
                Answered::of(id, run.await.unwrap_or_else(stopped))
            }
        },
    };
    Ok(answered.response())
}

/// What goes back.
struct Answered {
    status: u16,
    body: String,
}

impl Answered {
    /// The result, or why there is none, as `{"ok": …}`; with `id`, as JSON-RPC too.
    fn of(rpc_id: Option<serde_json::Value>, result: Result<serde_json::Value, Fault>) -> Self {
        let (status, mut body) = match result {
            Ok(result) => (200, serde_json::json!({ "ok": true, "result": result })),
            Err(Fault { code, error }) => {
                (code, serde_json::json!({ "ok": false, "error": error, "code": code }))
            }
        };
        if let (Some(id), Some(body)) = (rpc_id, body.as_object_mut()) {
            body.insert("jsonrpc".to_owned(), "2.0".into());
            body.insert("id".to_owned(), id);
        }
        Self { status, body: body.to_string() }
    }

    fn response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(Bytes::from(self.body)));
        let failed = StatusCode::INTERNAL_SERVER_ERROR;
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(failed);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(NOTICE_HEADER, HeaderValue::from_static(NOTICE));
        response
    }
}

/// What every answer says about the chain.
pub const NOTICE: &str = "local dev chain, no consensus network; its coins have no value";
/// The header it says it in.
pub const NOTICE_HEADER: HeaderName = HeaderName::from_static("x-chrysalis-devchain");

/// Most connections at once.
pub const MAX_CONNECTIONS: usize = 64;
/// Largest body of a request: a bag of cells of the size that TON takes, in base64, and some.
pub const MAX_BODY_BYTES: usize = 128 << 10;
/// Longest wait for the head of a request.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for its body.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
