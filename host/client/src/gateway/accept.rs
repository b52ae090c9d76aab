//! The listener of the gateway. It bounds connections and the wait for a request's head, so that
//! a program that holds connections open holds no more than that.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::limits::{GATEWAY_HEAD_TIMEOUT, MAX_GATEWAY_CONNECTIONS};

/// Bounds of the listener; the defaults are the named constants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AcceptBounds {
    /// See [`MAX_GATEWAY_CONNECTIONS`].
    pub(crate) connections: usize,
    /// See [`GATEWAY_HEAD_TIMEOUT`].
    pub(crate) head: Duration,
}

impl Default for AcceptBounds {
    fn default() -> Self {
        Self { connections: MAX_GATEWAY_CONNECTIONS, head: GATEWAY_HEAD_TIMEOUT }
    }
}

/// Serves until `stop` completes, then until the requests in progress are answered.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    bounds: AcceptBounds,
    stop: impl Future<Output = ()>,
) {
    let slots = Arc::new(Semaphore::new(bounds.connections));
    let graceful = GracefulShutdown::new();
    tokio::pin!(stop);
    loop {
        let stream = tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => {
                    // Out of file descriptors, or the client is gone already. No busy loop.
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        // Over the limit: closing at once tells the client to try again later.
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else { continue };
        // Events are small, and each one is a token somebody waits for.
        drop(stream.set_nodelay(true));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(bounds.head)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()));
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            // Its error is that of one client, which knows it.
            drop(connection.await);
            drop(slot);
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;

    use super::*;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

    /// A server with these bounds: its address, its stop, its end.
    async fn start(bounds: AcceptBounds) -> (SocketAddr, oneshot::Sender<()>, JoinHandle<()>) {
        let slow = || async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            "slow"
        };
        let router = Router::new().route("/", get(|| async { "ok" })).route("/slow", get(slow));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let stopped = async move { drop(stopped.await) };
        let server = tokio::spawn(serve(listener, router, bounds, stopped));
        (address, stop, server)
    }

    /// Everything the server sends after `bytes`, within a bounded time.
    async fn talk(stream: &mut TcpStream, bytes: &[u8]) -> String {
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        drop(tokio::time::timeout(Duration::from_secs(10), read).await.expect("it never ends"));
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test]
    async fn one_connection_more_than_the_limit_is_closed_and_a_freed_place_is_taken() {
        let bounds = AcceptBounds { connections: 2, head: Duration::from_secs(60) };
        let (address, _stop, _server) = start(bounds).await;
        let mut held = Vec::new();
        for _ in 0..2 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET / HT").await.unwrap();
            held.push(stream);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut third = TcpStream::connect(address).await.unwrap();
        let mut byte = [0];
        assert!(matches!(third.read(&mut byte).await, Ok(0) | Err(_)), "a third is served");
        drop(held.pop());
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut next = TcpStream::connect(address).await.unwrap();
        assert!(talk(&mut next, REQUEST).await.ends_with("ok"));
    }

    #[tokio::test]
    async fn a_head_that_never_ends_is_cut_off() {
        let bounds = AcceptBounds { connections: 2, head: Duration::from_millis(200) };
        let (address, _stop, _server) = start(bounds).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let answer = talk(&mut stream, b"GET / HTTP/1.1\r\nhost: localhost\r\n").await;
        assert!(!answer.contains("200"), "{answer}");
    }

    #[tokio::test]
    async fn a_request_in_progress_is_answered_after_the_stop_and_no_new_one_is_taken() {
        let (address, stop, server) = start(AcceptBounds::default()).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let slow = b"GET /slow HTTP/1.1\r\nhost: localhost\r\n\r\n";
        let (answer, ()) = tokio::join!(talk(&mut stream, slow), async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            stop.send(()).unwrap();
        });
        assert!(answer.ends_with("slow"), "{answer}");
        server.await.unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }
}
