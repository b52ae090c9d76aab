//! Frames of both directions: AES-256-GCM over padded plaintext, numbered, with a final mark.
//! What arrives is attacker-controlled; lengths are checked before they are used.

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aead::{AeadInOut as _, KeyInit as _};
use aes_gcm::{Aes256Gcm, Key, Nonce, Tag};
use chrysalis_wire::limits::MAX_FRAME_BYTES;
use chrysalis_wire::{SecretBytes, WireError};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::error::ChannelError;

/// What a frame carries (SPEC §4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// The JSON of one streamed event.
    Chunk = 1,
    /// A piece of a whole body; requests have only these.
    Body = 2,
    /// An error for the user.
    Error = 3,
    /// The receipt.
    Receipt = 4,
    /// Nothing; it keeps the connection open and its rhythm even.
    KeepAlive = 5,
}

impl TryFrom<u8> for FrameKind {
    type Error = WireError;

    fn try_from(value: u8) -> Result<Self, WireError> {
        match value {
            1 => Ok(Self::Chunk),
            2 => Ok(Self::Body),
            3 => Ok(Self::Error),
            4 => Ok(Self::Receipt),
            5 => Ok(Self::KeepAlive),
            other => Err(WireError::UnknownValue { what: "frame kind", got: other.into() }),
        }
    }
}

/// One opened frame.
#[derive(Debug)]
pub struct Frame {
    /// What the payload is.
    pub kind: FrameKind,
    /// The payload, without padding.
    pub payload: SecretBytes,
    /// Whether the stream is complete with this frame.
    pub last: bool,
}

/// Key, nonce base and position of one direction.
pub(crate) struct FrameCipher {
    cipher: Aes256Gcm,
    iv: Zeroizing<[u8; 12]>,
    header_hash: [u8; 32],
    next: u64,
    done: bool,
}

impl FrameCipher {
    /// Derives key and nonce base: `HKDF-SHA256(salt, secret)` expanded with the two labels, each
    /// followed by `bind`.
    pub(crate) fn derive(
        salt: &[u8],
        secret: &[u8; 32],
        labels: Labels,
        bind: &[u8],
        header_hash: [u8; 32],
    ) -> Result<Self, ChannelError> {
        let hkdf = Hkdf::<Sha256>::new(Some(salt), secret);
        let mut key = Zeroizing::new([0u8; 32]);
        let mut iv = Zeroizing::new([0u8; 12]);
        // 44 bytes are far below the bound of HKDF-Expand, so this cannot fail.
        hkdf.expand_multi_info(&[labels.key, bind], key.as_mut_slice())
            .map_err(|_| ChannelError::Refused)?;
        hkdf.expand_multi_info(&[labels.iv, bind], iv.as_mut_slice())
            .map_err(|_| ChannelError::Refused)?;
        let cipher = Aes256Gcm::new(<&Key<Aes256Gcm>>::from(&*key));
        Ok(Self { cipher, iv, header_hash, next: 0, done: false })
    }

    /// Whether the final frame has passed.
    pub(crate) const fn done(&self) -> bool {
        self.done
    }

    /// Frames sealed or opened so far.
    pub(crate) const fn position(&self) -> u64 {
        self.next
    }

    /// Appends the next frame to `out`.
    pub(crate) fn seal(
        &mut self,
        kind: FrameKind,
        payload: &[u8],
        last: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), ChannelError> {
        if self.done {
            return Err(ChannelError::AfterFinal);
        }
        let bucket = bucket(payload.len())?;
        let (nonce, aad) = self.position_inputs(last)?;
        let mark = if last { FINAL_BIT } else { 0 };
        let length = u32::try_from(bucket.saturating_add(TAG_BYTES)).unwrap_or(u32::MAX);
        // The plaintext is laid out where its ciphertext will be; reserving first keeps a growing
        // vector from leaving a copy behind.
        out.reserve_exact(LENGTH_BYTES.saturating_add(bucket).saturating_add(TAG_BYTES));
        out.extend_from_slice(&(length | mark).to_be_bytes());
        let start = out.len();
        out.push(kind as u8);
        out.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(payload);
        out.resize(start.saturating_add(bucket), 0);
        let body = out.get_mut(start..).unwrap_or_default();
        let tag = self
            .cipher
            .encrypt_inout_detached(&nonce, &aad, InOutBuf::from(body))
            .map_err(|_| ChannelError::PayloadTooLarge { got: payload.len() })?;
        out.extend_from_slice(&tag);
        self.advance(last);
        Ok(())
    }

    /// Opens the next frame in place. `sealed` is ciphertext and tag, of a length that
    /// [`read_length`] accepted. Failures are uniform: [`ChannelError::Refused`].
    pub(crate) fn open<'a>(
        &mut self,
        sealed: &'a mut [u8],
        last: bool,
    ) -> Result<(FrameKind, &'a [u8]), ChannelError> {
        let (nonce, aad) = self.position_inputs(last)?;
        // The position moves on even when this frame is bad, so that a caller that goes on for
        // even work does the same work.
        self.advance(last);
        let split = sealed.len().checked_sub(TAG_BYTES).ok_or(ChannelError::Refused)?;
        let (body, tag) = sealed.split_at_mut(split);
        let tag = Tag::try_from(&*tag).map_err(|_| ChannelError::Refused)?;
        self.cipher
            .decrypt_inout_detached(&nonce, &aad, InOutBuf::from(&mut *body), &tag)
            .map_err(|_| ChannelError::Refused)?;
        parse_plaintext(body).ok_or(ChannelError::Refused)
    }

    const fn advance(&mut self, last: bool) {
        self.next = self.next.saturating_add(1);
        self.done = last;
    }

    /// Nonce `iv XOR i` and AAD `header hash || i || final` of the next frame (SPEC §4.3).
    fn position_inputs(&self, last: bool) -> Result<(GcmNonce, [u8; 41]), ChannelError> {
        if self.next >= MAX_FRAMES {
            return Err(ChannelError::TooManyFrames);
        }
        let counter = self.next.to_be_bytes();
        let mut nonce = *self.iv;
        for (byte, count) in nonce.iter_mut().rev().zip(counter.iter().rev()) {
            *byte ^= count;
        }
        let mut aad = [0u8; 41];
        let parts = self.header_hash.iter().chain(&counter).copied().chain([u8::from(last)]);
        for (byte, value) in aad.iter_mut().zip(parts) {
            *byte = value;
        }
        Ok((nonce.into(), aad))
    }
}

/// Reads the length word of a frame: ciphertext length with tag, and the final mark.
pub(crate) fn read_length(word: u32) -> Result<(usize, bool), ChannelError> {
    let last = word & FINAL_BIT != 0;
    let got = usize::try_from(word & !FINAL_BIT).unwrap_or(usize::MAX);
    let plain = got.saturating_sub(TAG_BYTES);
    if plain > MAX_FRAME_BYTES {
        return Err(ChannelError::FrameTooLarge { got });
    }
    if got < TAG_BYTES || !BUCKETS.contains(&plain) {
        return Err(ChannelError::FrameSize { got });
    }
    Ok((got, last))
}

/// Wire length of a frame that carries `payload` bytes.
pub(crate) fn wire_len(payload: usize) -> Result<usize, ChannelError> {
    Ok(bucket(payload)?.saturating_add(LENGTH_BYTES).saturating_add(TAG_BYTES))
}

/// Plaintext length of a frame that carries `payload` bytes.
fn bucket(payload: usize) -> Result<usize, ChannelError> {
    let needed = payload.saturating_add(PLAINTEXT_HEAD_BYTES);
    BUCKETS.into_iter().find(|b| needed <= *b).ok_or(ChannelError::PayloadTooLarge { got: payload })
}

/// Splits `kind | length | payload | zeros`; `None` when it is anything else.
fn parse_plaintext(plain: &[u8]) -> Option<(FrameKind, &[u8])> {
    let (kind, rest) = plain.split_first()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (payload, padding) = rest.split_at_checked(length)?;
    let kind = FrameKind::try_from(*kind).ok()?;
    (padding.iter().fold(0, |acc, byte| acc | byte) == 0).then_some((kind, payload))
}

/// HKDF labels of one direction.
#[derive(Clone, Copy)]
pub(crate) struct Labels {
    pub(crate) key: &'static [u8],
    pub(crate) iv: &'static [u8],
}

type GcmNonce = Nonce<aes_gcm::aead::consts::U12>;

/// Largest payload of one frame.
pub const MAX_PAYLOAD_BYTES: usize = MAX_FRAME_BYTES - PLAINTEXT_HEAD_BYTES;

/// Plaintext lengths a frame may have: an observer sees which of nine sizes, nothing finer.
pub const BUCKETS: [usize; 9] = [256, 512, 1024, 2048, 4096, 8192, 16384, 32768, MAX_FRAME_BYTES];

/// Most frames of one stream. 2^24 frames of 64 KiB are 2^36 cipher blocks under one key, where
/// GCM's distinguishing advantage is below 2^-56.
pub const MAX_FRAMES: u64 = 1 << 24;

/// Length of an AES-GCM tag.
pub(crate) const TAG_BYTES: usize = 16;

/// Length of the length word.
pub(crate) const LENGTH_BYTES: usize = 4;

/// Kind and payload length inside a frame.
const PLAINTEXT_HEAD_BYTES: usize = 5;

/// Bit of the length word that marks the final frame.
const FINAL_BIT: u32 = 1 << 31;

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
