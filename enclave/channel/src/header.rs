//! The request header: all a router may see. It is read before anything is authenticated, so its
//! fields are claims until [`crate::open_request`] has opened the request they belong to.

use chrysalis_wire::{
    Decoder, Digest, Encoder, KeyRole, NetworkId, RequestId, SuiteId, UnixMillis, WireError,
};
use sha2::{Digest as _, Sha256};

use crate::error::ChannelError;

/// The authenticated, unencrypted part of a request (SPEC §2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// HPKE suite of every recipient.
    pub suite: SuiteId,
    /// Role of every recipient: a worker, or a proxy in compatible mode.
    pub role: KeyRole,
    /// Network the request is for.
    pub network: NetworkId,
    /// Random id chosen by the sender; the receipt carries it.
    pub request_id: RequestId,
    /// When the sender sealed.
    pub time: UnixMillis,
    /// Which interface the body is for.
    pub path: PathId,
    /// Content root of the model asked for.
    pub model_root: Digest,
    /// Digest of the worker manifest the sender appraised.
    pub policy_digest: Digest,
    /// Most completion tokens the sender will pay for; enforced by the worker, not here.
    pub max_tokens: u32,
}

/// Interface a request body is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PathId {
    /// OpenAI chat completions.
    ChatCompletions = 1,
    /// OpenAI completions.
    Completions = 2,
    /// OpenAI responses. 3 stays unknown: the vectors of the format refuse it.
    Responses = 4,
    /// OpenAI embeddings.
    Embeddings = 5,
}

impl TryFrom<u8> for PathId {
    type Error = WireError;

    fn try_from(value: u8) -> Result<Self, WireError> {
        match value {
            1 => Ok(Self::ChatCompletions),
            2 => Ok(Self::Completions),
            4 => Ok(Self::Responses),
            5 => Ok(Self::Embeddings),
            other => Err(WireError::UnknownValue { what: "path id", got: other.into() }),
        }
    }
}

impl Header {
    /// The header of a sealed request, for routing. Unauthenticated: whoever carried the request
    /// could have written it, and only the recipient will notice.
    ///
    /// # Errors
    /// [`ChannelError::BadMagic`], [`ChannelError::UnsupportedVersion`],
    /// [`ChannelError::Malformed`] or [`ChannelError::WrongRole`] (SPEC §2).
    pub fn peek(sealed: &[u8]) -> Result<Self, ChannelError> {
        Self::decode(&mut Decoder::new(sealed))
    }

    /// The [`HEADER_BYTES`] bytes of the header.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut e = Encoder::new();
        e.raw(&REQUEST_MAGIC).u8(SEAL_VERSION);
        e.u16(self.suite as u16).u8(self.role as u8).i32(self.network.0);
        e.raw(&self.request_id.0).u64(self.time.0).u8(self.path as u8);
        e.raw(&self.model_root.0).raw(&self.policy_digest.0).u32(self.max_tokens);
        e.finish()
    }

    /// Reads a header and leaves the decoder behind it.
    pub(crate) fn decode(d: &mut Decoder<'_>) -> Result<Self, ChannelError> {
        read_magic(d, "sealed request", REQUEST_MAGIC)?;
        let suite = d.u16("suite")?.try_into()?;
        let role = d.u8("role")?.try_into()?;
        let header = Self {
            suite,
            role,
            network: NetworkId(d.i32("network")?),
            request_id: RequestId(d.array("request id")?),
            time: UnixMillis(d.u64("time")?),
            path: d.u8("path id")?.try_into()?,
            model_root: Digest(d.array("model root")?),
            policy_digest: Digest(d.array("policy digest")?),
            max_tokens: d.u32("max tokens")?,
        };
        if role == KeyRole::Grant {
            return Err(ChannelError::WrongRole { expected: KeyRole::Worker, got: role });
        }
        Ok(header)
    }
}

/// Reads magic and version; the version is looked at before any other field so that a later
/// format is named as such instead of being misread.
pub(crate) fn read_magic(
    d: &mut Decoder<'_>,
    what: &'static str,
    magic: [u8; 4],
) -> Result<(), ChannelError> {
    let got = d.array(what)?;
    if got != magic {
        return Err(ChannelError::BadMagic { what, got });
    }
    let got = d.u8("version")?;
    if got != SEAL_VERSION {
        return Err(ChannelError::UnsupportedVersion { what, expected: SEAL_VERSION, got });
    }
    Ok(())
}

/// SHA-256 of `bytes`.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Length of an encoded header.
pub const HEADER_BYTES: usize = 105;

/// Version of seal/1 and grant/1 this build reads and writes.
pub const SEAL_VERSION: u8 = 1;

/// First bytes of a sealed request.
const REQUEST_MAGIC: [u8; 4] = *b"CHSL";

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            suite: SuiteId::XWing,
            role: KeyRole::Worker,
            network: NetworkId::TESTNET,
            request_id: RequestId([1; 16]),
            time: UnixMillis(2),
            path: PathId::Completions,
            model_root: Digest([3; 32]),
            policy_digest: Digest([4; 32]),
            max_tokens: 5,
        }
    }

    #[test]
    fn decodes_what_it_encodes() {
        let bytes = header().encode();
        assert_eq!(bytes.len(), HEADER_BYTES);
        assert_eq!(Header::peek(&bytes), Ok(header()));
    }

    #[test]
    fn refuses_every_truncation() {
        let bytes = header().encode();
        for len in 0..bytes.len() {
            assert!(
                matches!(Header::peek(&bytes[..len]), Err(ChannelError::Malformed(_))),
                "{len}"
            );
        }
    }

    #[test]
    fn refuses_unknown_suite_role_and_path() {
        for (offset, value) in [(5, 0xff), (7, 9), (36, 3)] {
            let mut bytes = header().encode();
            bytes[offset] = value;
            assert!(
                matches!(
                    Header::peek(&bytes),
                    Err(ChannelError::Malformed(WireError::UnknownValue { .. }))
                ),
                "offset {offset}"
            );
        }
    }

    #[test]
    fn refuses_a_request_addressed_to_a_grant_key() {
        let header = Header { role: KeyRole::Grant, ..header() };
        assert_eq!(
            Header::peek(&header.encode()),
            Err(ChannelError::WrongRole { expected: KeyRole::Worker, got: KeyRole::Grant })
        );
    }

    #[test]
    fn a_header_that_cannot_be_read_is_malformed_whatever_its_role() {
        let mut bytes = Header { role: KeyRole::Grant, ..header() }.encode();
        assert!(matches!(
            Header::peek(&bytes[..HEADER_BYTES - 1]),
            Err(ChannelError::Malformed(WireError::Truncated { .. }))
        ));
        bytes[36] = 3;
        assert!(matches!(
            Header::peek(&bytes),
            Err(ChannelError::Malformed(WireError::UnknownValue { what: "path id", .. }))
        ));
    }
}
