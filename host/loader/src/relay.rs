//! Copies bytes between the public address and the worker. No TLS, no HTTP: the relay cannot
//! read what it carries and does not try. It protects only itself: connections, memory and time
//! are bounded.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrysalis_wire::limits::KEEP_ALIVE_INTERVAL;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// Bounds of the relay.
#[derive(Clone, Copy, Debug)]
pub struct RelayLimits {
    /// Most connections at once; one more is closed at once.
    pub connections: usize,
    /// A client that sends nothing for this long after it connected is closed.
    pub first_byte: Duration,
    /// A connection that carries nothing in either direction for this long is closed.
    pub idle: Duration,
}

impl Default for RelayLimits {
    fn default() -> Self {
        Self { connections: MAX_CONNECTIONS, first_byte: FIRST_BYTE_TIMEOUT, idle: IDLE_TIMEOUT }
    }
}

/// Accepts until the task is dropped. `target` is the worker's address while it listens; when it
/// changes, every connection of the worker that was is closed, so nobody waits for a dead one.
pub async fn relay(
    listener: TcpListener,
    target: watch::Receiver<Option<SocketAddr>>,
    limits: RelayLimits,
) {
    let permits = Arc::new(Semaphore::new(limits.connections));
    loop {
        let Ok((client, _)) = listener.accept().await else {
            // Out of file descriptors, or the client is gone already. Never a busy loop.
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // Over the limit, or no worker: closing at once tells the client to try again later.
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else { continue };
        let target = target.clone();
        tokio::spawn(async move {
            connection(client, target, limits).await;
            drop(permit);
        });
    }
}

async fn connection(
    client: TcpStream,
    mut target: watch::Receiver<Option<SocketAddr>>,
    limits: RelayLimits,
) {
    let Some(address) = *target.borrow_and_update() else { return };
    let Ok(Ok(worker)) = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await else {
        return;
    };
    // Streamed tokens are small; waiting to fill a segment would only add latency.
    let _ = client.set_nodelay(true);
    let _ = worker.set_nodelay(true);
    tokio::select! {
        () = copy_both(client, worker, limits) => {}
        _ = target.changed() => {}
    }
}

/// Copies both ways until both sides are done, one breaks, or nothing moves for too long.
async fn copy_both(client: TcpStream, worker: TcpStream, limits: RelayLimits) {
    let (client_read, client_write) = client.into_split();
    let (worker_read, worker_write) = worker.into_split();
    let moved = Activity::new();
    let both = async {
        // An error on either side ends the connection as a whole; an end of stream only its half.
        tokio::try_join!(
            pump(client_read, worker_write, &moved),
            pump(worker_read, client_write, &moved)
        )
    };
    tokio::select! {
        _ = both => {}
        () = moved.too_idle(limits) => {}
    }
}

/// Copies one direction; at its end the other side's writing half is shut down (half-close).
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    moved: &Activity,
) -> std::io::Result<()> {
    let mut buffer = vec![0u8; RELAY_BUFFER_BYTES];
    loop {
        let got = from.read(&mut buffer).await?;
        moved.now();
        let Some(bytes) = buffer.get(..got).filter(|bytes| !bytes.is_empty()) else {
            return to.shutdown().await;
        };
        to.write_all(bytes).await?;
        moved.now();
    }
}

/// When a connection last carried a byte.
struct Activity {
    start: Instant,
    /// Milliseconds after `start`; 0 until the first byte.
    last_ms: AtomicU64,
}

impl Activity {
    fn new() -> Self {
        Self { start: Instant::now(), last_ms: AtomicU64::new(0) }
    }

    fn now(&self) {
        let ms = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(ms.max(1), Ordering::Relaxed);
    }

    async fn too_idle(&self, limits: RelayLimits) {
        loop {
            let last = self.last_ms.load(Ordering::Relaxed);
            // TLS begins with the client: one that is silent only holds a place.
            let allowed = if last == 0 { limits.first_byte } else { limits.idle };
            let end = self.start + Duration::from_millis(last) + allowed;
            let now = Instant::now();
            if now >= end {
                return;
            }
            // Which of the two bounds applies may change while this sleeps.
            sleep_until(end.min(now + limits.first_byte.min(limits.idle))).await;
        }
    }
}

/// Most connections at once. With two buffers each: 8 MiB.
pub const MAX_CONNECTIONS: usize = 256;

/// Buffer of one direction of one connection, in bytes.
pub const RELAY_BUFFER_BYTES: usize = 16 * 1024;

/// Longest silence of a client that has just connected.
pub const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(15);

/// Longest silence of a connection. The worker sends a frame every [`KEEP_ALIVE_INTERVAL`] while it computes,
/// so a connection silent for this long is dead or abandoned.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
const _: () = assert!(IDLE_TIMEOUT.as_secs() >= 4 * KEEP_ALIVE_INTERVAL.as_secs());

/// Longest wait for the worker's loopback port.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
