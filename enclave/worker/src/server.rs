//! The listener: TCP on loopback, TLS 1.3, HTTP/1.1. Bounds time and number of connections.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrysalis_evidence::Role;
use chrysalis_evidence::exchange::{Challenger, Link, Prover};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
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

/// Serves until `stop` turns true or nothing computes any more, then lets requests in progress end within a
/// bounded time.
pub async fn serve(worker: Arc<Worker>, listener: TcpListener, mut stop: watch::Receiver<bool>) {
    let mut lost = worker.lost.subscribe();
    let (end, ended) = watch::channel(false);
    let tls = &worker.session.tls;
    let config = if worker.peers.is_some() { &tls.asking } else { &tls.config };
    let acceptor = TlsAcceptor::from(Arc::clone(config));
    let slots = Arc::new(Semaphore::new(worker.bounds.connections));
    let mut connections = JoinSet::new();
    loop {
        let (stream, slot) = tokio::select! {
            () = stopped(&mut stop) => break,
            () = stopped(&mut lost) => break,
            Some(_) = connections.join_next() => continue,
            admitted = admit(&listener, &slots) => match admitted {
                Some(admitted) => admitted,
                None => continue,
            },
        };
        let (worker, acceptor, ended) = (Arc::clone(&worker), acceptor.clone(), ended.clone());
        connections.spawn(async move {
            connection(worker, acceptor, stream, ended).await;
            drop(slot);
        });
    }
    drop(listener);
    end.send_replace(true);
    let drained = async { while connections.join_next().await.is_some() {} };
    // Whoever waits for the last words has one.
    let limit = if *lost.borrow() { Duration::MAX } else { worker.bounds.drain };
    // What has not ended by now is cut: the requester sees a stream without its final frame.
    drop(timeout(limit, drained).await);
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
    let mut serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(tls), service);
    let limit = tokio::select! {
        // The peer's faults end here; there is nobody to report them to.
        served = &mut serving => return drop(served),
        // Whoever stops has a limit of its own, for all connections.
        () = stopped(&mut stop) => Duration::MAX,
        () = expelled(&gated, &own) => {
            own.end();
            // Time for the error that the answer in progress ends with.
            bounds.drain
        }
    };
    Pin::new(&mut serving).graceful_shutdown();
    // It is over once its peer has read all and ends it too: what the kernel has not sent by the end of the
    // process may be gone with the machine.
    let heard = async {
        let Ok(said) = serving.without_shutdown().await else { return };
        let mut stream = said.io.into_inner();
        drop(stream.shutdown().await);
        while let Ok(1..) = stream.read(&mut [0; 64]).await {}
    };
    drop(timeout(limit, heard).await);
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
