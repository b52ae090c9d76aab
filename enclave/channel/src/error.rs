//! Why the channel refused. Refusals before decryption are typed and speak only of public values;
//! every failure that needed a key is the one variant [`ChannelError::Refused`].

use chrysalis_wire::limits::{MAX_FRAME_BYTES, MAX_SEAL_KEYS, MAX_SEALED_REQUEST_BYTES};
use chrysalis_wire::{Digest, KeyId, KeyRole, NetworkId, SuiteId, UnixMillis, UnixTime, WireError};
use thiserror::Error;

use crate::frame::{MAX_FRAMES, MAX_PAYLOAD_BYTES};
use crate::request::{MAX_CLOCK_SKEW_MILLIS, MAX_RECIPIENTS};

/// Why a message was refused, or could not be sealed. Clauses are those of `SPEC.md`.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ChannelError {
    /// The input does not start with the magic of its kind (§2, §7).
    #[error(
        "these bytes are not a {what}: they start with {got:02x?}. Send the exact bytes that \
         were sealed"
    )]
    BadMagic {
        /// What was expected here.
        what: &'static str,
        /// The first four bytes found.
        got: [u8; 4],
    },
    /// A version this build does not read (§2, §7).
    #[error(
        "{what} version {got} is not supported; this build reads {expected}. Update the older side"
    )]
    UnsupportedVersion {
        /// What was read.
        what: &'static str,
        /// Version this build reads.
        expected: u8,
        /// Version found.
        got: u8,
    },
    /// A field is cut off, has no meaning, or is followed by bytes that belong to nothing.
    #[error("{0}")]
    Malformed(#[from] WireError),
    /// The sealed request is over its limit (§9).
    #[error(
        "the sealed request has {got} bytes; the limit is {MAX_SEALED_REQUEST_BYTES}. Shorten the \
         prompt"
    )]
    RequestTooLarge {
        /// Size found, or the size sealing would give.
        got: usize,
    },
    /// No recipient, or more than three (§3).
    #[error("{got} recipients; a request has 1 to {MAX_RECIPIENTS}")]
    RecipientCount {
        /// Count found.
        got: usize,
    },
    /// Two recipients of one request are the same key, or two keys of this worker (§3, §5).
    #[error("recipient {id} is a worker named before; name each worker once")]
    DuplicateRecipient {
        /// The repeated key.
        id: KeyId,
    },
    /// A recipient's suite is not the suite of the header (§3).
    #[error("the header names suite {expected:?}, the key is {got:?}; seal to keys of one suite")]
    WrongSuite {
        /// Suite of the header.
        expected: SuiteId,
        /// Suite of the key.
        got: SuiteId,
    },
    /// The key is for something else (§3, §7).
    #[error("the key has role {got:?}, this message needs {expected:?}; pick another key")]
    WrongRole {
        /// Role the message needs.
        expected: KeyRole,
        /// Role found.
        got: KeyRole,
    },
    /// The message was sealed for another network (§5).
    #[error("sealed for {got}, but this worker serves {expected}. Pick a worker of your network")]
    WrongNetwork {
        /// Network served.
        expected: NetworkId,
        /// Network of the header.
        got: NetworkId,
    },
    /// The message names another model (§5, §7).
    #[error("names model root {got}, but this worker holds {expected}. Attest the worker again")]
    WrongModelRoot {
        /// Root held.
        expected: Digest,
        /// Root of the message.
        got: Digest,
    },
    /// The request was sealed under another policy (§5).
    #[error("sealed under policy {got}, but this worker runs {expected}. Attest the worker again")]
    WrongPolicy {
        /// Digest of the running manifest.
        expected: Digest,
        /// Digest of the header.
        got: Digest,
    },
    /// The request's clock and the worker's are too far apart (§5).
    #[error(
        "sealed at {} ms, it is {} ms here; at most {MAX_CLOCK_SKEW_MILLIS} ms may lie between. \
         Set the clock, then seal again", time.0, now.0
    )]
    StaleTime {
        /// Time of the header.
        time: UnixMillis,
        /// Time of the receiver.
        now: UnixMillis,
    },
    /// No recipient is a key of this worker: another worker's, or one already destroyed (§5).
    #[error(
        "sealed to no key this worker holds. Attest the worker again and seal to a current key"
    )]
    NoRecipient,
    /// The key's last second has passed (§6).
    #[error("key {id} expired at {} and it is {}. Attest the worker again", not_after.0, now.0)]
    KeyExpired {
        /// The key.
        id: KeyId,
        /// Its last valid second.
        not_after: UnixTime,
        /// The time it was used at.
        now: UnixTime,
    },
    /// The key's first second has not come (§6).
    #[error("key {id} is valid from {} and it is {}. Check the clock", not_before.0, now.0)]
    KeyNotYetValid {
        /// The key.
        id: KeyId,
        /// Its first valid second.
        not_before: UnixTime,
        /// The time it was used at.
        now: UnixTime,
    },
    /// The key id is not the hash of the key (§6).
    #[error("key id {stated} is stated, the key hashes to {computed}. Do not seal to this keyset")]
    KeyIdMismatch {
        /// Id stated in the entry.
        stated: KeyId,
        /// Id computed from the entry.
        computed: KeyId,
    },
    /// The public key is no key of its suite (§6).
    #[error("key {id} is not a valid public key of its suite. Do not seal to this keyset")]
    KeyMalformed {
        /// The key.
        id: KeyId,
    },
    /// The ring already has as many keys as a keyset can name (§6).
    #[error("a keyset names at most {MAX_SEAL_KEYS} keys; this ring has no room for another")]
    TooManyKeys,
    /// The same sealed request was opened before (§5).
    #[error("this sealed request was opened before. Seal it again to repeat it")]
    Replayed,
    /// The replay cache has no room for this key; nothing is evicted to make some (§5).
    #[error(
        "{capacity} requests were sealed to this key, as many as the replay cache holds. Attest again \
         for a new key, or try another worker"
    )]
    ReplayCacheFull {
        /// Capacity of the cache for one key.
        capacity: usize,
    },
    /// A frame is larger than any frame may be (§4).
    #[error("a frame of {got} bytes; with padding the limit is {MAX_FRAME_BYTES} and a tag of 16")]
    FrameTooLarge {
        /// Ciphertext length found.
        got: usize,
    },
    /// A frame's length is not that of a padding bucket (§4).
    #[error("a frame of {got} bytes fits no padding bucket; the stream is damaged")]
    FrameSize {
        /// Ciphertext length found.
        got: usize,
    },
    /// The stream ended before its final frame: what was read is not the whole message (§4).
    #[error("the stream ended before its final frame; what arrived is incomplete. Send it again")]
    Truncated,
    /// Bytes follow the final frame, or a frame was asked for after it (§4).
    #[error("the final frame was reached; nothing may follow it")]
    AfterFinal,
    /// The response names a recipient the request did not have (§4.5).
    #[error("the response names recipient {index}, the request had {count}")]
    UnknownCandidate {
        /// Index in the response.
        index: u8,
        /// Recipients of the request.
        count: usize,
    },
    /// The payload does not fit one frame; the caller splits it (§4).
    #[error("a payload of {got} bytes; one frame takes {MAX_PAYLOAD_BYTES}. Split it")]
    PayloadTooLarge {
        /// Payload length.
        got: usize,
    },
    /// The stream has as many frames as one key may seal (§9).
    #[error("the stream has reached {MAX_FRAMES} frames, the most one key may seal")]
    TooManyFrames,
    /// A model key is not 32 bytes (§7).
    #[error("the model key has {got} bytes; it must have 32")]
    GrantKeyLength {
        /// Length found.
        got: usize,
    },
    /// The grant was made for a keyset this worker does not have (§7).
    #[error("granted to keyset {got}, which this worker does not have. Attest it again")]
    WrongKeyset {
        /// Keyset the grant names.
        got: Digest,
    },
    /// Decryption failed. Nothing else is said: wrong key, altered byte, frame out of order and
    /// malformed plaintext look the same (§8).
    #[error("could not be opened. Attest the worker again and seal a new message")]
    Refused,
}

impl ChannelError {
    /// The stable code of this refusal; it does not change between versions.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::BadMagic { .. } => "E-SEAL-MAGIC",
            Self::UnsupportedVersion { .. } => "E-SEAL-VERSION",
            Self::Malformed(_) => "E-SEAL-MALFORMED",
            Self::RequestTooLarge { .. } => "E-SEAL-REQUEST-SIZE",
            Self::RecipientCount { .. } => "E-SEAL-RECIPIENT-COUNT",
            Self::DuplicateRecipient { .. } => "E-SEAL-DUPLICATE-RECIPIENT",
            Self::WrongSuite { .. } => "E-SEAL-SUITE",
            Self::WrongRole { .. } => "E-SEAL-ROLE",
            Self::WrongNetwork { .. } => "E-SEAL-NETWORK",
            Self::WrongModelRoot { .. } => "E-SEAL-MODEL-ROOT",
            Self::WrongPolicy { .. } => "E-SEAL-POLICY",
            Self::StaleTime { .. } => "E-SEAL-TIME",
            Self::NoRecipient => "E-SEAL-NO-RECIPIENT",
            Self::KeyExpired { .. } => "E-SEAL-KEY-EXPIRED",
            Self::KeyNotYetValid { .. } => "E-SEAL-KEY-NOT-YET",
            Self::KeyIdMismatch { .. } => "E-SEAL-KEY-ID",
            Self::KeyMalformed { .. } => "E-SEAL-KEY",
            Self::TooManyKeys => "E-SEAL-KEY-COUNT",
            Self::Replayed => "E-SEAL-REPLAY",
            Self::ReplayCacheFull { .. } => "E-SEAL-REPLAY-FULL",
            Self::FrameTooLarge { .. } => "E-SEAL-FRAME-LIMIT",
            Self::FrameSize { .. } => "E-SEAL-FRAME-SIZE",
            Self::Truncated => "E-SEAL-TRUNCATED",
            Self::AfterFinal => "E-SEAL-AFTER-FINAL",
            Self::UnknownCandidate { .. } => "E-SEAL-CANDIDATE",
            Self::PayloadTooLarge { .. } => "E-SEAL-PAYLOAD",
            Self::TooManyFrames => "E-SEAL-FRAME-COUNT",
            Self::GrantKeyLength { .. } => "E-GRANT-KEY-LENGTH",
            Self::WrongKeyset { .. } => "E-GRANT-KEYSET",
            Self::Refused => "E-SEAL-REFUSED",
        }
    }
}
