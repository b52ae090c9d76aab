//! The messages of attest/1 as bytes. All of them are read from a peer that nobody has appraised
//! yet: lengths are bounded before anything is held.

use core::fmt;

use chrysalis_wire::limits::MAX_ATTESTATION_BYTES;
use chrysalis_wire::{AttestationDocument, Decoder, Encoder, WireError};

use super::error::ExchangeError;
use crate::binding::Role;
use crate::text::printable;

/// Bytes before the body of a message: kind and length.
pub const MESSAGE_HEADER_BYTES: usize = 5;

/// Largest evidence, in bytes.
pub const MAX_EVIDENCE_BYTES: usize = MAX_ATTESTATION_BYTES;

/// A challenge to one end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// The end that is to prove itself.
    pub prover: Role,
    /// The verifier's nonce.
    pub nonce: [u8; 32],
}

/// What the ends say to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Prove yourself.
    Challenge(Challenge),
    /// The proof, still as the peer's bytes.
    Evidence(Vec<u8>),
    /// There will be no proof.
    Refusal(Reason),
}

/// Why there will be no proof. Says nothing that the peer does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// The platform makes no quote now.
    NoQuote = 1,
    /// Too many challenges.
    TooMany = 2,
    /// This end proves nothing.
    NotHere = 3,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoQuote => "its platform makes no quote now",
            Self::TooMany => "it was challenged too often",
            Self::NotHere => "this end of the connection proves nothing",
        })
    }
}

impl TryFrom<u8> for Reason {
    type Error = WireError;

    fn try_from(value: u8) -> Result<Self, WireError> {
        match value {
            1 => Ok(Self::NoQuote),
            2 => Ok(Self::TooMany),
            3 => Ok(Self::NotHere),
            other => Err(WireError::UnknownValue { what: "refusal reason", got: other.into() }),
        }
    }
}

impl TryFrom<u8> for Role {
    type Error = WireError;

    fn try_from(value: u8) -> Result<Self, WireError> {
        match value {
            1 => Ok(Self::Server),
            2 => Ok(Self::Client),
            other => Err(WireError::UnknownValue { what: "prover", got: other.into() }),
        }
    }
}

impl Message {
    /// Evidence out of a document.
    ///
    /// # Errors
    /// [`ExchangeError::Message`] if it is larger than [`MAX_EVIDENCE_BYTES`].
    pub fn evidence(document: &AttestationDocument) -> Result<Self, ExchangeError> {
        let json = serde_json::to_vec(document)
            .map_err(|e| ExchangeError::Document(printable(&e.to_string())))?;
        if json.len() > MAX_EVIDENCE_BYTES {
            return Err(too_large(EVIDENCE, MAX_EVIDENCE_BYTES, json.len()).into());
        }
        Ok(Self::Evidence(json))
    }

    /// What this is, in words.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Challenge(_) => CHALLENGE,
            Self::Evidence(_) => EVIDENCE,
            Self::Refusal(_) => REFUSAL,
        }
    }

    /// The bytes to send.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut e = Encoder::new();
        match self {
            Self::Challenge(Challenge { prover, nonce }) => {
                let mut body = Encoder::new();
                body.u8(VERSION).u8(*prover as u8).raw(nonce);
                e.u8(KIND_CHALLENGE).bytes(&body.finish());
            }
            Self::Evidence(json) => {
                e.u8(KIND_EVIDENCE).bytes(json);
            }
            Self::Refusal(reason) => {
                e.u8(KIND_REFUSAL).bytes(&[*reason as u8]);
            }
        }
        e.finish()
    }

    /// Length of the body that follows `header`, known to be within its limit.
    ///
    /// # Errors
    /// [`WireError`] for an unknown kind, or a length its kind does not allow.
    pub fn body_bytes(header: [u8; MESSAGE_HEADER_BYTES]) -> Result<usize, WireError> {
        let mut d = Decoder::new(&header);
        let (what, limit) = kind(d.u8(KIND)?)?;
        let length = usize::try_from(d.u32(what)?).unwrap_or(usize::MAX);
        if length > limit {
            return Err(too_large(what, limit, length));
        }
        Ok(length)
    }

    /// Reads one whole message.
    ///
    /// # Errors
    /// [`WireError`] for everything that [`Message::encode`] does not write.
    pub fn decode(input: &[u8]) -> Result<Self, WireError> {
        let mut d = Decoder::new(input);
        let code = d.u8(KIND)?;
        let (what, limit) = kind(code)?;
        let body = d.bytes(what, limit)?;
        d.finish(what)?;
        let mut d = Decoder::new(body);
        let message = match code {
            KIND_CHALLENGE => {
                let version = d.u8("challenge version")?;
                if version != VERSION {
                    let (expected, got) = (VERSION.into(), version.into());
                    return Err(WireError::UnsupportedVersion { what, expected, got });
                }
                let prover = d.u8("prover")?.try_into()?;
                Self::Challenge(Challenge { prover, nonce: d.array("nonce")? })
            }
            KIND_REFUSAL => Self::Refusal(d.u8("refusal reason")?.try_into()?),
            _ => Self::Evidence(d.take(what, body.len())?.to_vec()),
        };
        d.finish(what)?;
        Ok(message)
    }
}

/// Reads evidence as a document; says nothing about its truth.
pub(super) fn document(json: &[u8]) -> Result<AttestationDocument, ExchangeError> {
    if json.len() > MAX_EVIDENCE_BYTES {
        return Err(too_large(EVIDENCE, MAX_EVIDENCE_BYTES, json.len()).into());
    }
    serde_json::from_slice(json).map_err(|e| ExchangeError::Document(printable(&e.to_string())))
}

/// Name and largest body of a kind.
const fn kind(code: u8) -> Result<(&'static str, usize), WireError> {
    match code {
        KIND_CHALLENGE => Ok((CHALLENGE, CHALLENGE_BYTES)),
        KIND_EVIDENCE => Ok((EVIDENCE, MAX_EVIDENCE_BYTES)),
        KIND_REFUSAL => Ok((REFUSAL, REFUSAL_BYTES)),
        other => Err(WireError::UnknownValue { what: KIND, got: other as u64 }),
    }
}

const fn too_large(what: &'static str, limit: usize, got: usize) -> WireError {
    WireError::TooLarge { what, limit, got }
}

const VERSION: u8 = 1;
const KIND_CHALLENGE: u8 = 1;
const KIND_EVIDENCE: u8 = 2;
const KIND_REFUSAL: u8 = 3;
const CHALLENGE_BYTES: usize = 34;
const REFUSAL_BYTES: usize = 1;
const KIND: &str = "message kind";
const CHALLENGE: &str = "a challenge";
const EVIDENCE: &str = "evidence";
const REFUSAL: &str = "a refusal";

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> [Message; 3] {
        [
            Message::Challenge(Challenge { prover: Role::Client, nonce: [7; 32] }),
            Message::Evidence(b"{}".to_vec()),
            Message::Refusal(Reason::TooMany),
        ]
    }

    fn header(kind: u8, length: usize) -> [u8; MESSAGE_HEADER_BYTES] {
        let [a, b, c, d] = u32::try_from(length).unwrap().to_be_bytes();
        [kind, a, b, c, d]
    }

    #[test]
    fn reads_back_what_it_writes_and_no_truncation_of_it() {
        for message in all() {
            let bytes = message.encode();
            assert_eq!(Message::decode(&bytes), Ok(message.clone()));
            let header = *bytes.first_chunk().unwrap();
            assert_eq!(Message::body_bytes(header), Ok(bytes.len() - MESSAGE_HEADER_BYTES));
            for len in 0..bytes.len() {
                assert!(Message::decode(&bytes[..len]).is_err(), "{message:?} of {len} bytes");
            }
            let mut longer = bytes;
            longer.push(0);
            assert!(matches!(Message::decode(&longer), Err(WireError::TrailingBytes { .. })));
        }
    }

    #[test]
    fn a_challenge_is_the_documented_bytes() {
        let [challenge, ..] = all();
        let known = format!("01000000220102{}", "07".repeat(32));
        assert_eq!(hex::encode(challenge.encode()), known);
    }

    #[test]
    fn refuses_a_length_one_over_the_limit_of_its_kind() {
        for (kind, limit) in [
            (KIND_CHALLENGE, CHALLENGE_BYTES),
            (KIND_EVIDENCE, MAX_EVIDENCE_BYTES),
            (KIND_REFUSAL, REFUSAL_BYTES),
        ] {
            assert_eq!(Message::body_bytes(header(kind, limit)), Ok(limit));
            let refused = Message::body_bytes(header(kind, limit + 1)).unwrap_err();
            assert!(matches!(refused, WireError::TooLarge { .. }));
            let refused = Message::decode(&header(kind, limit + 1)).unwrap_err();
            assert!(matches!(refused, WireError::TooLarge { .. }));
        }
    }

    #[test]
    fn refuses_evidence_one_byte_over_its_limit() {
        let mut json = vec![b' '; MAX_EVIDENCE_BYTES];
        assert!(matches!(document(&json), Err(ExchangeError::Document(_))));
        json.push(b' ');
        assert!(matches!(document(&json), Err(ExchangeError::Message(_))));
    }

    #[test]
    fn refuses_unknown_kinds_versions_provers_and_reasons() {
        let [challenge, _, refusal] = all();
        for (mut bytes, at) in [
            (challenge.encode(), 0),
            (challenge.encode(), 5),
            (challenge.encode(), 6),
            (refusal.encode(), 5),
        ] {
            for value in [0, 9, 0xff] {
                bytes[at] = value;
                assert!(Message::decode(&bytes).is_err(), "byte {at} is {value}");
            }
        }
        assert!(Message::body_bytes(header(4, 0)).is_err());
    }
}
