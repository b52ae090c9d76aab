//! Limits of everything that crosses a boundary. Each has a test one past it, in the crate that
//! enforces it.

use core::time::Duration;

/// Largest attestation document (JSON) accepted, in bytes. A real TDX quote is 5 KB, the keyset
/// under 4 KB, the manifest under 64 KB; base64 adds a third.
pub const MAX_ATTESTATION_BYTES: usize = 256 * 1024;

/// Largest quote accepted, in bytes. DICE-based TDX quotes may exceed 8 KiB (kernel
/// `configfs-tsm` ABI text), so the bound is four times that.
pub const MAX_QUOTE_BYTES: usize = 32 * 1024;

/// Largest canonical keyset, in bytes.
pub const MAX_KEYSET_BYTES: usize = 16 * 1024;

/// Most seal keys one keyset may carry: current and previous of each suite and role.
pub const MAX_SEAL_KEYS: usize = 8;

/// Largest seal public key, in bytes (X-Wing is 1216).
pub const MAX_SEAL_PUBLIC_KEY_BYTES: usize = 2048;

/// Largest worker manifest, in bytes.
pub const MAX_MANIFEST_BYTES: usize = 64 * 1024;

/// Largest sealed request, in bytes: header, recipients and frames together.
pub const MAX_SEALED_REQUEST_BYTES: usize = 8 * 1024 * 1024;

/// Largest collateral bundle, in bytes; ten times the largest real one seen (24 KB).
pub const MAX_COLLATERAL_BYTES: usize = 256 * 1024;

/// Largest plaintext of one seal/1 frame, in bytes, padding included.
pub const MAX_FRAME_BYTES: usize = 64 * 1024;

/// Longest an answer in the making says nothing: then its worker sends an empty frame. Everybody on the way
/// waits several times as long before taking it for dead.
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);

/// What a refusal for lack of a place asks its requester to wait, in seconds; outside the channel in
/// `Retry-After`, inside it by its status alone. When a place will be free follows from what others asked
/// for, so it is not told.
pub const RETRY_AFTER_SECONDS: u32 = 1;

/// Most runtime events (RTMR3 extensions) an attestation document may list.
pub const MAX_RUNTIME_EVENTS: usize = 64;

/// Most challenges one quote may answer: paths of at most [`MAX_BATCH_PATH`] hashes.
pub const MAX_BATCH_LEAVES: u32 = 1 << MAX_BATCH_PATH;

/// Most hashes between a challenge and the root of its batch.
pub const MAX_BATCH_PATH: usize = 16;

/// Most devices of one worker: eight GPUs and four switches.
pub const MAX_DEVICES: usize = 12;

/// Largest pins file a worker takes for its clients, in bytes: some hundred images and platforms.
pub const MAX_PEER_PINS_BYTES: usize = 256 * 1024;
