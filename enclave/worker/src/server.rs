//! The listener: TCP on loopback, TLS 1.3, HTTP/1.1. Bounds time and number of connections.

use std::sync::Arc;
use std::time::Instant;

use chrysalis_evidence::Role;
use chrysalis_evidence::exchange::{Challenger, Link, Prover};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::http::{Connection, route};
use crate::limits::{ACCEPT_PAUSE, LEAST_TAKEN_BYTES, MAX_HEAD_BYTES, MAX_HEADERS};
use crate::stall::Impatient;
use crate::tls::shown_key;
use crate::worker::Worker;

/// Serves until `stop` turns true, then lets requests in progress end within a bounded time.
pub async fn serve(worker: Arc<Worker>, listener: TcpListener, mut stop: watch::Receiver<bool>) {
    let tls = &worker.session.tls;
    let config = if worker.peers.is_some() { &tls.asking } else { &tls.config };
    let acceptor = TlsAcceptor::from(Arc::clone(config));
    let slots = Arc::new(Semaphore::new(worker.bounds.connections));
    let mut connections = JoinSet::new();
    loop {
        let (stream, slot) = tokio::select! {
            () = stopped(&mut stop) => break,
            Some(_) = connections.join_next() => continue,
            admitted = admit(&listener, &slots) => match admitted {
                Some(admitted) => admitted,
                None => continue,
            },
        };
        let (worker, acceptor, stop) = (Arc::clone(&worker), acceptor.clone(), stop.clone());
        connections.spawn(async move {
            connection(worker, acceptor, stream, stop).await;
            drop(slot);
        });
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    // What has not ended by now is cut: the requester sees a stream without its final frame.
    drop(timeout(worker.bounds.drain, drained).await);
}

/// The next connection, once there is a slot for it. An accept error concerns one connection
/// (reset, descriptor limit), never the listener.
async fn admit(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, slot)),
        Err(_) => {
            sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

async fn connection(
    worker: Arc<Worker>,
    acceptor: TlsAcceptor,
    stream: TcpStream,
    mut stop: watch::Receiver<bool>,
) {
    let bounds = worker.bounds;
    // Frames are small and each one matters to a waiting reader.
    drop(stream.set_nodelay(true));
    let stream = Impatient::new(stream, bounds.stall, LEAST_TAKEN_BYTES);
    let Ok(Ok(tls)) = timeout(bounds.handshake, acceptor.accept(stream)).await else { return };
    let session = tls.get_ref().1;
    let export = |label| session.export_keying_material([0u8; 32], label, None);
    let Ok(client) = shown_key(session.peer_certificates()) else { return };
    let Ok(link) = Link::new(Role::Server, worker.session.tls.spki, client, export) else { return };
    let Ok(prover) = Prover::new(link.clone()) else { return };
    let connection = Arc::new(Connection::new(prover, Challenger::new(link).ok()));
    let (gated, own) = (Arc::clone(&worker), Arc::clone(&connection));
    let service = service_fn(move |request| {
        let (worker, connection) = (Arc::clone(&worker), Arc::clone(&connection));
        async move { Ok::<_, std::convert::Infallible>(route(worker, connection, request).await) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(tls), service);
    tokio::pin!(serving);
    tokio::select! {
        // The peer's faults end here; there is nobody to report them to.
        served = serving.as_mut() => drop(served),
        () = stopped(&mut stop) => {
            serving.as_mut().graceful_shutdown();
            drop(serving.await);
        }
        () = expelled(&gated, &own) => {
            own.end();
            serving.as_mut().graceful_shutdown();
            // Time for the error that the answer in progress ends with.
            drop(timeout(bounds.drain, serving).await);
        }
    }
}

/// Resolves when the client, once let in, has to prove itself again and has not; never where everybody
/// is served.
async fn expelled(worker: &Worker, connection: &Connection) {
    let Some(gate) = &worker.peers else { return core::future::pending().await };
    loop {
        sleep(worker.bounds.peer_check).await;
        let clock = (worker.clock)().seconds();
        if gate.is_over(&connection.client(), clock, Instant::now()) {
            return;
        }
    }
}

/// Resolves when the worker is told to stop, or nobody is left to tell it.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // The guard in the result must not live across an await of the caller.
    drop(stop.wait_for(|stopped| *stopped).await);
}
