//! Limits of the worker's network side. What one request may ask for is in the measured manifest.

use std::time::Duration;

use chrysalis_api::limits::MAX_ANSWER_BYTES;
use chrysalis_wire::limits::{KEEP_ALIVE_INTERVAL, MAX_SEALED_REQUEST_BYTES};
use chrysalis_wire::manifest::LimitsSection;

/// What one worker grants to its peers together. Every worker has the default; tests of the
/// limits shorten them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// [`WAITING_REQUESTS`].
    pub waiting: u32,
    /// [`MAX_CONNECTIONS`].
    pub connections: usize,
    /// [`MAX_BODY_BYTES_IN_FLIGHT`].
    pub body_bytes: usize,
    /// [`MAX_ANSWER_BYTES`]: more vectors than it has room for are not computed.
    pub answer_bytes: usize,
    /// [`MAX_WAITING_CHALLENGES`].
    pub challenges: usize,
    /// [`MAX_BATCHED_CHALLENGES`].
    pub batch: usize,
    /// [`CHALLENGE_TIMEOUT`].
    pub challenge: Duration,
    /// [`HANDSHAKE_TIMEOUT`].
    pub handshake: Duration,
    /// [`HEAD_READ_TIMEOUT`].
    pub head: Duration,
    /// [`BODY_READ_TIMEOUT`].
    pub body: Duration,
    /// [`BODY_IDLE_TIMEOUT`].
    pub idle: Duration,
    /// [`STALL_TIMEOUT`].
    pub stall: Duration,
    /// [`DELIVERY_TIMEOUT`].
    pub delivery: Duration,
    /// [`KEEP_ALIVE_INTERVAL`].
    pub keep_alive: Duration,
    /// [`DRAIN_TIMEOUT`].
    pub drain: Duration,
    /// [`PEER_CHECK`].
    pub peer_check: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            waiting: WAITING_REQUESTS,
            connections: MAX_CONNECTIONS,
            body_bytes: MAX_BODY_BYTES_IN_FLIGHT,
            answer_bytes: MAX_ANSWER_BYTES,
            challenges: MAX_WAITING_CHALLENGES,
            batch: MAX_BATCHED_CHALLENGES,
            challenge: CHALLENGE_TIMEOUT,
            handshake: HANDSHAKE_TIMEOUT,
            head: HEAD_READ_TIMEOUT,
            body: BODY_READ_TIMEOUT,
            idle: BODY_IDLE_TIMEOUT,
            stall: STALL_TIMEOUT,
            delivery: DELIVERY_TIMEOUT,
            keep_alive: KEEP_ALIVE_INTERVAL,
            drain: DRAIN_TIMEOUT,
            peer_check: PEER_CHECK,
        }
    }
}

impl Bounds {
    /// Most requests in progress at once: those that are computed, which the manifest counts, and those that
    /// wait for their turn.
    #[must_use]
    pub const fn places(&self, limits: &LimitsSection) -> u32 {
        limits.concurrent_requests.saturating_add(self.waiting)
    }
}

/// Requests that may wait behind those that are computed, and are told that they do
/// ([`KEEP_ALIVE_INTERVAL`]); one more is answered 429. Whose turn is next is the engine's to say, and fair
/// between callers: were it whoever asks again at the right moment, who asks most often would have the most.
pub const WAITING_REQUESTS: u32 = 16;

/// Most TCP connections open at once; one more waits in the kernel's backlog.
pub const MAX_CONNECTIONS: usize = 256;

/// Most bytes of request bodies held at once, over all connections and beyond the first
/// [`SMALL_BODY_BYTES`] of each: eight of the largest requests a manifest can allow. Without it the
/// memory one peer can take is connections times that size.
pub const MAX_BODY_BYTES_IN_FLIGHT: usize = 8 * MAX_SEALED_REQUEST_BYTES;

/// Bytes of each body that need no room: connections bound them, 1 MiB over all. So a grant, a claim and
/// a short request are read whoever holds the rest.
pub const SMALL_BODY_BYTES: usize = 4096;

/// Longest a TLS handshake may take.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest the head of a request may take, idle keep-alive time included.
pub const HEAD_READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest the body of a request may take.
pub const BODY_READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest nothing of a body may arrive.
pub const BODY_IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// In which a peer has to take [`LEAST_TAKEN_BYTES`] of what it is sent, if there is as much, and each frame
/// of an answer. Then its connection is closed, and the place its request holds is free.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Least a peer has to take in [`STALL_TIMEOUT`]: two kilobytes a second.
pub const LEAST_TAKEN_BYTES: usize = 64 * 1024;

/// Longest a requester may take for the rest of its answer once all of it is there, and a second more for
/// each [`LONG_DELIVERY_RATE`] bytes that it took. Until then the place of its request is taken.
pub const DELIVERY_TIMEOUT: Duration = Duration::from_secs(60);

/// Bytes of a complete answer that give its requester another second. So the largest body there is holds
/// its place for two minutes and some, however slowly it is read, and text for little more than one.
pub const LONG_DELIVERY_RATE: usize = 1024 * 1024;

/// Pause after the system could not accept a connection, so that a lack of descriptors does not
/// become a busy loop.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Largest head of a request, in bytes.
pub const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Most header fields of a request.
pub const MAX_HEADERS: usize = 32;

/// Largest grant, in bytes: an X-Wing encapsulation is 1120, the rest under 300.
pub const MAX_GRANT_BYTES: usize = 4096;

/// Most challenges that wait for a quote at once: one for each connection, and the worker's own.
pub const MAX_WAITING_CHALLENGES: usize = MAX_CONNECTIONS + 1;

/// Most challenges one quote answers. At most this many can wait while the one before is made, so
/// whoever waits is served by the next quote; its path has nine hashes.
pub const MAX_BATCHED_CHALLENGES: usize = MAX_WAITING_CHALLENGES;

/// Most challenges one quote answers where there are devices: each device makes a report of its own for
/// every challenge, one after the other.
pub const MAX_BATCHED_WITH_DEVICES: usize = 4;

/// Longest a challenge waits: for the quote that is being made when it comes, and for its own. Each
/// takes a second through the stock TDX driver. Clients wait longer than this.
pub const CHALLENGE_TIMEOUT: Duration = Duration::from_secs(20);

/// Receipts kept for `/v1/receipts/{id}`; the oldest goes first.
pub const MAX_RECEIPTS: usize = 4096;

/// How many sealed frames may wait for a slow reader. What the engine produces meanwhile waits
/// unsealed in its own queue, which holds a whole answer.
pub const FRAMES_IN_FLIGHT: usize = 16;

/// How long requests in progress may go on after SIGTERM.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Keysets a grant may name: the current one and those before a rotation or an expiry.
pub const MAX_ATTESTED_KEYSETS: usize = 8;

/// Quotes a request may rely on; a client whose quote was forgotten attests again.
pub const MAX_EVIDENCE_DIGESTS: usize = 4096;

/// How often keys are looked after; expired ones are destroyed within this time.
pub const KEY_MAINTENANCE: Duration = Duration::from_secs(15);

/// How often the owner is told what was earned, at least.
pub const CLAIM_INTERVAL: Duration = Duration::from_secs(5);

/// After how many requests of a channel the owner is told sooner; as many as may run at once, if that is
/// more. Each claim shows the host a sum: over fewer requests it would show the lengths of prompts.
pub const CLAIM_BATCH: u32 = 8;

/// Channels without a deposit that the console may show at once; one more asks again.
pub const MAX_FUNDING_WANTED: usize = 64;

/// How often the console may show them.
pub const FUNDING_INTERVAL: Duration = Duration::from_secs(1);

/// How often the console may show the counters.
pub const COUNTER_INTERVAL: Duration = Duration::from_secs(60);

/// How often the console may show refused clients, one line for each reason there was.
pub const REFUSAL_INTERVAL: Duration = Duration::from_secs(5);

/// How often a connection is looked at whose client has to prove itself again; so much later than due
/// it is closed at most.
pub const PEER_CHECK: Duration = Duration::from_secs(1);
