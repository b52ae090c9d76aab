//! Requests: sealed by the client to one to three attested keys, opened by one worker. Opening
//! treats every byte as attacker-controlled; refusals before decryption speak of public values
//! only, every later failure is [`ChannelError::Refused`] after the same amount of work.

use chrysalis_wire::limits::MAX_SEALED_REQUEST_BYTES;
use chrysalis_wire::{
    Decoder, Digest, KeyId, NetworkId, SealKeyEntry, SecretBytes, SuiteId, UnixMillis, UnixTime,
};
use hpke::rand_core::CryptoRng;
use zeroize::{Zeroize as _, Zeroizing};

use crate::error::ChannelError;
use crate::frame::{
    self, FrameCipher, FrameKind, LENGTH_BYTES, Labels, MAX_PAYLOAD_BYTES, TAG_BYTES,
};
use crate::header::{HEADER_BYTES, Header, sha256};
use crate::kem::{self, Context, OpenedKey, WRAPPED_KEY_BYTES};
use crate::keys::{SealKeyPair, check_entry, check_validity};
use crate::replay::ReplayCache;
use crate::response::{Candidate, ResponseOpener, ResponseSealer};
use crate::ring::KeyRing;

/// What this worker serves; a request that names anything else is refused (SPEC §5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// Network of the worker.
    pub network: NetworkId,
    /// Root of the model it holds.
    pub model_root: Digest,
    /// SHA-256 of its manifest.
    pub policy_digest: Digest,
}

/// A request that was opened and has not been opened before.
#[derive(Debug)]
pub struct OpenedRequest {
    /// The header, now authenticated.
    pub header: Header,
    /// The body.
    pub body: SecretBytes,
    /// Seals the answer to the client that sent this request.
    pub sealer: ResponseSealer,
}

/// Seals `body` to one to three recipients of one suite. Returns the bytes to send and the opener
/// of the answer. The caller has appraised the keyset the entries come from; this function checks
/// the entries themselves, against the time in the header.
///
/// # Errors
/// [`ChannelError::RecipientCount`], [`ChannelError::DuplicateRecipient`],
/// [`ChannelError::WrongSuite`], [`ChannelError::WrongRole`], [`ChannelError::KeyIdMismatch`],
/// [`ChannelError::KeyMalformed`], [`ChannelError::KeyExpired`],
/// [`ChannelError::KeyNotYetValid`] or [`ChannelError::RequestTooLarge`].
pub fn seal_request(
    header: &Header,
    recipients: &[&SealKeyEntry],
    body: &[u8],
    rng: &mut impl CryptoRng,
) -> Result<(Vec<u8>, ResponseOpener), ChannelError> {
    check_recipients(header, recipients)?;
    let total = sealed_request_bytes(header.suite, recipients.len(), body.len());
    if total > MAX_SEALED_REQUEST_BYTES {
        return Err(ChannelError::RequestTooLarge { got: total });
    }
    let mut out = Vec::with_capacity(total);
    out.extend_from_slice(&header.encode());
    let header_hash = sha256(&out);
    out.push(u8::try_from(recipients.len()).unwrap_or(u8::MAX));
    let info = request_info(&header_hash);
    let mut dek = Zeroizing::new([0u8; 32]);
    rng.fill_bytes(dek.as_mut_slice());
    let mut candidates = Vec::with_capacity(recipients.len());
    for entry in recipients {
        let context = Context { info: &info, aad: &entry.id.0, export: RESPONSE_EXPORT };
        let sealed = kem::seal(header.suite, &entry.public, &dek, context, rng)
            .map_err(|_| ChannelError::KeyMalformed { id: entry.id })?;
        out.extend_from_slice(&entry.id.0);
        out.extend_from_slice(&sealed.enc);
        out.extend_from_slice(&sealed.ciphertext);
        candidates.push(Candidate { enc: sealed.enc, exporter: sealed.exporter });
    }
    let mut frames = FrameCipher::derive(&sha256(&out), &dek, REQUEST_LABELS, b"", header_hash)?;
    let mut pieces = body.chunks(MAX_PAYLOAD_BYTES).peekable();
    if pieces.peek().is_none() {
        frames.seal(FrameKind::Body, b"", true, &mut out)?;
    }
    while let Some(piece) = pieces.next() {
        frames.seal(FrameKind::Body, piece, pieces.peek().is_none(), &mut out)?;
    }
    let opener = ResponseOpener::new(header_hash, sha256(&out), candidates);
    Ok((out, opener))
}

/// Opens a request. `bytes` is the whole sealed request, `now` the worker's clock. On success the
/// request is remembered in `replay` and cannot be opened again.
///
/// # Errors
/// Before decryption, typed: [`ChannelError::RequestTooLarge`], [`ChannelError::BadMagic`],
/// [`ChannelError::UnsupportedVersion`], [`ChannelError::Malformed`],
/// [`ChannelError::RecipientCount`], [`ChannelError::DuplicateRecipient`], the framing errors,
/// [`ChannelError::WrongNetwork`], [`ChannelError::WrongModelRoot`],
/// [`ChannelError::WrongPolicy`], [`ChannelError::StaleTime`], [`ChannelError::NoRecipient`],
/// [`ChannelError::KeyExpired`], [`ChannelError::KeyNotYetValid`], [`ChannelError::WrongSuite`],
/// [`ChannelError::WrongRole`], [`ChannelError::Replayed`], [`ChannelError::ReplayCacheFull`].
/// Afterwards only [`ChannelError::Refused`] (SPEC §8).
pub fn open_request(
    ring: &KeyRing,
    replay: &mut ReplayCache,
    expect: &Expectation,
    now: UnixMillis,
    bytes: &[u8],
    rng: &mut impl CryptoRng,
) -> Result<OpenedRequest, ChannelError> {
    let parsed = Parsed::read(bytes)?;
    check_expectation(&parsed.header, expect, now)?;
    let (index, recipient, pair) = find_key(ring, &parsed, now.seconds())?;
    let enc_digest = sha256(recipient.enc);
    replay.check(ring, &recipient.id, &enc_digest)?;

    // From here on every failure is the same, after the same work: an unwrap that failed goes on
    // with a random key, and a bad frame does not end the loop.
    let header_hash = sha256(parsed.header_bytes);
    let info = request_info(&header_hash);
    let context = Context { info: &info, aad: &recipient.id.0, export: RESPONSE_EXPORT };
    let mut decoy = Zeroizing::new([0u8; 32]);
    rng.fill_bytes(decoy.as_mut_slice());
    let unwrapped = pair.secret.open(recipient.enc, recipient.wrapped, context);
    let mut failed = unwrapped.is_err();
    let opened =
        unwrapped.unwrap_or_else(|_| OpenedKey { key: decoy, exporter: Zeroizing::default() });
    let prefix_hash = sha256(parsed.prefix);
    let mut frames =
        FrameCipher::derive(&prefix_hash, &opened.key, REQUEST_LABELS, b"", header_hash)?;
    let mut body = Zeroizing::new(Vec::with_capacity(parsed.max_body_bytes()));
    let mut scratch = Zeroizing::new(Vec::with_capacity(parsed.max_frame_bytes()));
    for (sealed, last) in &parsed.frames {
        scratch.extend_from_slice(sealed);
        match frames.open(&mut scratch, *last) {
            Ok((FrameKind::Body, payload)) => body.extend_from_slice(payload),
            Ok(_) | Err(_) => failed = true,
        }
        scratch.as_mut_slice().zeroize();
        scratch.clear();
    }
    let mut nonce = [0u8; 32];
    rng.fill_bytes(&mut nonce);
    let sealer = ResponseSealer::new(
        index,
        nonce,
        recipient.enc,
        &opened.exporter,
        &sha256(bytes),
        header_hash,
    )?;
    if failed {
        return Err(ChannelError::Refused);
    }
    replay.remember(recipient.id, enc_digest);
    let body = SecretBytes::new(core::mem::take(&mut *body));
    Ok(OpenedRequest { header: parsed.header, body, sealer })
}

/// Length of a sealed request with `recipients` recipients and a body of `body` bytes; compare it
/// with the worker's limit before sealing.
#[must_use]
pub fn sealed_request_bytes(suite: SuiteId, recipients: usize, body: usize) -> usize {
    let full_frame = frame::wire_len(MAX_PAYLOAD_BYTES).unwrap_or(usize::MAX);
    let rest = body % MAX_PAYLOAD_BYTES;
    let tail = if rest > 0 || body == 0 { frame::wire_len(rest).unwrap_or(usize::MAX) } else { 0 };
    (body / MAX_PAYLOAD_BYTES)
        .saturating_mul(full_frame)
        .saturating_add(tail)
        .saturating_add(recipients.saturating_mul(recipient_bytes(suite)))
        .saturating_add(HEADER_BYTES)
        .saturating_add(1)
}

/// A sealed request taken apart; nothing in it is authenticated.
struct Parsed<'a> {
    header: Header,
    header_bytes: &'a [u8],
    /// Header, recipient count and recipients: everything before the first frame.
    prefix: &'a [u8],
    recipients: Vec<Recipient<'a>>,
    frames: Vec<(&'a [u8], bool)>,
}

struct Recipient<'a> {
    id: KeyId,
    enc: &'a [u8],
    wrapped: &'a [u8],
}

impl<'a> Parsed<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, ChannelError> {
        if bytes.len() > MAX_SEALED_REQUEST_BYTES {
            return Err(ChannelError::RequestTooLarge { got: bytes.len() });
        }
        let mut d = Decoder::new(bytes);
        let header = Header::decode(&mut d)?;
        let count = usize::from(d.u8("recipient count")?);
        if count == 0 || count > MAX_RECIPIENTS {
            return Err(ChannelError::RecipientCount { got: count });
        }
        let mut recipients: Vec<Recipient<'a>> = Vec::with_capacity(count);
        for _ in 0..count {
            let id = KeyId(d.array("recipient key id")?);
            let enc = d.take("encapsulated key", kem::enc_len(header.suite))?;
            let wrapped = d.take("wrapped key", WRAPPED_KEY_BYTES)?;
            if recipients.iter().any(|r| r.id == id) {
                return Err(ChannelError::DuplicateRecipient { id });
            }
            recipients.push(Recipient { id, enc, wrapped });
        }
        let frames = read_frames(d.remaining())?;
        let prefix_len = bytes.len().saturating_sub(d.remaining().len());
        let prefix = bytes.get(..prefix_len).unwrap_or_default();
        let header_bytes = bytes.get(..HEADER_BYTES).unwrap_or_default();
        Ok(Self { header, header_bytes, prefix, recipients, frames })
    }

    /// An upper bound of the body, so that its buffer never grows.
    fn max_body_bytes(&self) -> usize {
        self.frames.iter().map(|(sealed, _)| sealed.len()).sum()
    }

    fn max_frame_bytes(&self) -> usize {
        self.frames.iter().map(|(sealed, _)| sealed.len()).max().unwrap_or(TAG_BYTES)
    }
}

/// Cuts the frames apart: each of an allowed length, the final mark on the last one and only there.
fn read_frames(mut rest: &[u8]) -> Result<Vec<(&[u8], bool)>, ChannelError> {
    let mut frames = Vec::new();
    loop {
        let (word, after) =
            rest.split_first_chunk::<LENGTH_BYTES>().ok_or(ChannelError::Truncated)?;
        let (length, last) = frame::read_length(u32::from_be_bytes(*word))?;
        let (sealed, after) = after.split_at_checked(length).ok_or(ChannelError::Truncated)?;
        frames.push((sealed, last));
        rest = after;
        if last {
            break;
        }
    }
    if rest.is_empty() { Ok(frames) } else { Err(ChannelError::AfterFinal) }
}

fn check_recipients(header: &Header, recipients: &[&SealKeyEntry]) -> Result<(), ChannelError> {
    if recipients.is_empty() || recipients.len() > MAX_RECIPIENTS {
        return Err(ChannelError::RecipientCount { got: recipients.len() });
    }
    // A header that names a role no request may have is refused here as it would be there.
    Header::peek(&header.encode())?;
    for (index, entry) in recipients.iter().enumerate() {
        // One suite for all: the key of the body is only as strong as its weakest wrapping.
        if entry.suite != header.suite {
            return Err(ChannelError::WrongSuite { expected: header.suite, got: entry.suite });
        }
        if entry.role != header.role {
            return Err(ChannelError::WrongRole { expected: header.role, got: entry.role });
        }
        if recipients.iter().take(index).any(|earlier| earlier.id == entry.id) {
            return Err(ChannelError::DuplicateRecipient { id: entry.id });
        }
        check_entry(entry)?;
        check_validity(entry.id, entry.not_before, entry.not_after, header.time.seconds())?;
    }
    Ok(())
}

fn check_expectation(
    header: &Header,
    expect: &Expectation,
    now: UnixMillis,
) -> Result<(), ChannelError> {
    if header.network != expect.network {
        return Err(ChannelError::WrongNetwork { expected: expect.network, got: header.network });
    }
    if header.model_root != expect.model_root {
        let (expected, got) = (expect.model_root, header.model_root);
        return Err(ChannelError::WrongModelRoot { expected, got });
    }
    if header.policy_digest != expect.policy_digest {
        let (expected, got) = (expect.policy_digest, header.policy_digest);
        return Err(ChannelError::WrongPolicy { expected, got });
    }
    if now.0.abs_diff(header.time.0) > MAX_CLOCK_SKEW_MILLIS {
        return Err(ChannelError::StaleTime { time: header.time, now });
    }
    Ok(())
}

/// The first recipient whose key this ring holds and may use.
fn find_key<'a>(
    ring: &'a KeyRing,
    parsed: &'a Parsed<'a>,
    now: UnixTime,
) -> Result<(u8, &'a Recipient<'a>, &'a SealKeyPair), ChannelError> {
    let mut refusal = ChannelError::NoRecipient;
    for (index, recipient) in (0u8..).zip(&parsed.recipients) {
        match ring.usable(&recipient.id, now) {
            None => {}
            Some(Err(unusable)) => refusal = unusable,
            Some(Ok(pair)) => {
                // Once the first of two own keys is destroyed, the second would open the same
                // request again, and its digest is not in the replay cache.
                let own = |r: &&Recipient<'_>| r.id != recipient.id && ring.contains(&r.id);
                if let Some(Recipient { id, .. }) = parsed.recipients.iter().find(own) {
                    return Err(ChannelError::DuplicateRecipient { id: *id });
                }
                let entry = pair.public_entry();
                let (suite, role) = (parsed.header.suite, parsed.header.role);
                if entry.suite != suite {
                    return Err(ChannelError::WrongSuite { expected: suite, got: entry.suite });
                }
                if entry.role != role {
                    return Err(ChannelError::WrongRole { expected: role, got: entry.role });
                }
                return Ok((index, recipient, pair));
            }
        }
    }
    Err(refusal)
}

fn request_info(header_hash: &[u8; 32]) -> Vec<u8> {
    [REQUEST_INFO, header_hash].concat()
}

/// Bytes of one recipient: key id, encapsulated key, wrapped key.
const fn recipient_bytes(suite: SuiteId) -> usize {
    KeyId::LEN.saturating_add(kem::enc_len(suite)).saturating_add(WRAPPED_KEY_BYTES)
}

/// Most recipients of one request.
pub const MAX_RECIPIENTS: usize = 3;

/// How far the sender's clock may be from the worker's, either way.
pub const MAX_CLOCK_SKEW_MILLIS: u64 = 300_000;

/// HPKE info of requests, before the header hash.
const REQUEST_INFO: &[u8] = b"chrysalis/seal/1";

/// HPKE exporter context of the response secret.
const RESPONSE_EXPORT: &[u8] = b"chrysalis/seal/1 response";

const REQUEST_LABELS: Labels =
    Labels { key: b"chrysalis/seal/1 request key", iv: b"chrysalis/seal/1 request iv" };

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
