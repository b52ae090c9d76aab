//! Responses: sealed by the worker that answered, opened by the client as the bytes arrive. To
//! the client the carrier of the bytes is the attacker; a stream without its final frame is an
//! error, never a short answer.

use core::fmt;

use zeroize::{Zeroize as _, Zeroizing};

use chrysalis_wire::SecretBytes;
use chrysalis_wire::limits::MAX_FRAME_BYTES;

use crate::error::ChannelError;
use crate::frame::{self, Frame, FrameCipher, FrameKind, LENGTH_BYTES, Labels, TAG_BYTES};
use crate::kem::Key32;

/// Seals the frames of one answer.
pub struct ResponseSealer {
    prefix: [u8; RESPONSE_PREFIX_BYTES],
    frames: FrameCipher,
}

impl ResponseSealer {
    /// `index` is the recipient that answers, `transcript` the hash of the sealed request.
    pub(crate) fn new(
        index: u8,
        nonce: [u8; 32],
        enc: &[u8],
        exporter: &Key32,
        transcript: &[u8; 32],
        header_hash: [u8; 32],
    ) -> Result<Self, ChannelError> {
        let frames = response_cipher(enc, &nonce, exporter, transcript, header_hash)?;
        let mut prefix = [index; RESPONSE_PREFIX_BYTES];
        for (to, from) in prefix.iter_mut().skip(1).zip(nonce) {
            *to = from;
        }
        Ok(Self { prefix, frames })
    }

    /// The first bytes of the answer, before any frame; the same at every call.
    #[must_use]
    pub fn prefix(&self) -> Vec<u8> {
        self.prefix.to_vec()
    }

    /// The next frame; `last` ends the stream.
    ///
    /// # Errors
    /// [`ChannelError::PayloadTooLarge`] above [`crate::MAX_PAYLOAD_BYTES`],
    /// [`ChannelError::AfterFinal`] after a last frame, [`ChannelError::TooManyFrames`].
    pub fn frame(
        &mut self,
        kind: FrameKind,
        payload: &[u8],
        last: bool,
    ) -> Result<Vec<u8>, ChannelError> {
        let mut out = Vec::new();
        self.frames.seal(kind, payload, last, &mut out)?;
        Ok(out)
    }
}

impl fmt::Debug for ResponseSealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ResponseSealer(frame {})", self.frames.position())
    }
}

/// Opens an answer piece by piece. After an error it opens nothing more: the answer is void.
pub struct ResponseOpener {
    header_hash: [u8; 32],
    transcript: [u8; 32],
    candidates: Vec<Candidate>,
    stage: Stage,
    /// The prefix, length word or frame being collected; holds plaintext for the moment between
    /// opening a frame and copying its payload.
    buffer: Zeroizing<Vec<u8>>,
    failed: Option<ChannelError>,
}

/// A recipient that may answer.
pub(crate) struct Candidate {
    pub(crate) enc: Vec<u8>,
    pub(crate) exporter: Key32,
}

/// What the bytes being collected are.
enum Stage {
    Prefix,
    Length(Box<FrameCipher>),
    Frame { cipher: Box<FrameCipher>, length: usize, last: bool },
    Done,
}

impl ResponseOpener {
    pub(crate) fn new(
        header_hash: [u8; 32],
        transcript: [u8; 32],
        candidates: Vec<Candidate>,
    ) -> Self {
        let buffer = Zeroizing::new(Vec::with_capacity(MAX_FRAME_BYTES.saturating_add(TAG_BYTES)));
        Self { header_hash, transcript, candidates, stage: Stage::Prefix, buffer, failed: None }
    }

    /// Takes the next bytes of the answer, cut anywhere, and returns the frames they complete.
    ///
    /// # Errors
    /// [`ChannelError::UnknownCandidate`], [`ChannelError::FrameTooLarge`],
    /// [`ChannelError::FrameSize`], [`ChannelError::AfterFinal`], [`ChannelError::TooManyFrames`]
    /// or [`ChannelError::Refused`].
    /// The same error is returned by every later call; frames that the failing call had completed
    /// are dropped.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Frame>, ChannelError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let result = self.collect(bytes);
        if let Err(error) = &result {
            self.failed = Some(error.clone());
            self.candidates.clear();
        }
        result
    }

    /// Ends the answer.
    ///
    /// # Errors
    /// [`ChannelError::Truncated`] when the final frame has not been seen; the error of a failed
    /// [`ResponseOpener::push`] when there was one.
    pub fn finish(self) -> Result<(), ChannelError> {
        match (self.failed, self.stage) {
            (Some(error), _) => Err(error),
            (None, Stage::Done) => Ok(()),
            (None, _) => Err(ChannelError::Truncated),
        }
    }

    fn collect(&mut self, mut bytes: &[u8]) -> Result<Vec<Frame>, ChannelError> {
        let mut frames = Vec::new();
        while !bytes.is_empty() {
            let needed = match &self.stage {
                Stage::Prefix => RESPONSE_PREFIX_BYTES,
                Stage::Length(_) => LENGTH_BYTES,
                Stage::Frame { length, .. } => *length,
                Stage::Done => return Err(ChannelError::AfterFinal),
            };
            let missing = needed.saturating_sub(self.buffer.len());
            let (taken, rest) = bytes.split_at_checked(missing).unwrap_or((bytes, &[]));
            self.buffer.extend_from_slice(taken);
            bytes = rest;
            if self.buffer.len() == needed {
                frames.extend(self.step()?);
                self.buffer.as_mut_slice().zeroize();
                self.buffer.clear();
            }
        }
        Ok(frames)
    }

    /// Consumes the collected item and moves to the next stage. An error leaves the stream
    /// unusable, so the stage may be lost.
    fn step(&mut self) -> Result<Option<Frame>, ChannelError> {
        match core::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Prefix => {
                self.stage = Stage::Length(Box::new(self.start()?));
                Ok(None)
            }
            Stage::Length(cipher) => {
                let word = self.buffer.first_chunk().copied().unwrap_or_default();
                let (length, last) = frame::read_length(u32::from_be_bytes(word))?;
                self.stage = Stage::Frame { cipher, length, last };
                Ok(None)
            }
            Stage::Frame { mut cipher, last, .. } => {
                let (kind, payload) = cipher.open(&mut self.buffer, last)?;
                let payload = SecretBytes::new(payload.to_vec());
                if !cipher.done() {
                    self.stage = Stage::Length(cipher);
                }
                Ok(Some(Frame { kind, payload, last }))
            }
            Stage::Done => Err(ChannelError::AfterFinal),
        }
    }

    /// Reads the prefix and derives the keys of the recipient it names.
    fn start(&mut self) -> Result<FrameCipher, ChannelError> {
        let (index, nonce) = self.buffer.split_first().ok_or(ChannelError::Truncated)?;
        let count = self.candidates.len();
        let candidate = self
            .candidates
            .get(usize::from(*index))
            .ok_or(ChannelError::UnknownCandidate { index: *index, count })?;
        let cipher = response_cipher(
            &candidate.enc,
            nonce,
            &candidate.exporter,
            &self.transcript,
            self.header_hash,
        )?;
        // One answer per request: the secrets of all candidates have done their work.
        self.candidates.clear();
        Ok(cipher)
    }
}

impl fmt::Debug for ResponseOpener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match &self.stage {
            Stage::Prefix => "prefix".to_owned(),
            Stage::Length(cipher) | Stage::Frame { cipher, .. } => {
                format!("frame {}", cipher.position())
            }
            Stage::Done => "done".to_owned(),
        };
        write!(f, "ResponseOpener({stage})")
    }
}

/// Keys of the response: the answering recipient's exporter, salted with its encapsulated key and
/// the nonce, bound to every byte of the request (SPEC §4.5).
fn response_cipher(
    enc: &[u8],
    nonce: &[u8],
    exporter: &Key32,
    transcript: &[u8; 32],
    header_hash: [u8; 32],
) -> Result<FrameCipher, ChannelError> {
    let salt = [enc, nonce].concat();
    FrameCipher::derive(&salt, exporter, RESPONSE_LABELS, transcript, header_hash)
}

/// Length of the response prefix: recipient index and nonce.
pub const RESPONSE_PREFIX_BYTES: usize = 33;

const RESPONSE_LABELS: Labels =
    Labels { key: b"chrysalis/seal/1 response key", iv: b"chrysalis/seal/1 response iv" };
