//! What stands inside a sealed request, and inside a sealed error.
//!
//! ```text
//! request   salt[32] | n u8 (1..3) | n x evidence_sha256[32] | OpenAI JSON, to the end
//! error     status u16 | OpenAI error JSON, to the end
//! ```
//!
//! The salt blinds the receipt's commitments; the client chooses it. The evidence digests name,
//! in the order of the recipients, the quotes the client appraised before it sealed: the receipt
//! commits to the one of the recipient that answered.

use crate::codec::{Decoder, WireError};
use crate::ids::Digest;
use crate::secret::SecretBytes;

/// The plaintext of a sealed request, borrowed from the opened buffer.
#[derive(Clone)]
pub struct InnerRequest<'a> {
    /// Blinds the commitments of the receipt.
    pub salt: [u8; 32],
    /// SHA-256 of the quote of each recipient, in their order.
    pub evidence: Vec<Digest>,
    /// The exact bytes of the OpenAI request.
    pub json: &'a [u8],
}

impl<'a> InnerRequest<'a> {
    /// The plaintext to seal.
    #[must_use]
    pub fn encode(&self) -> SecretBytes {
        let head = 33usize.saturating_add(self.evidence.len().saturating_mul(Digest::LEN));
        let mut out = Vec::with_capacity(head.saturating_add(self.json.len()));
        out.extend_from_slice(&self.salt);
        out.push(u8::try_from(self.evidence.len()).unwrap_or(u8::MAX));
        for digest in &self.evidence {
            out.extend_from_slice(&digest.0);
        }
        out.extend_from_slice(self.json);
        SecretBytes::new(out)
    }

    /// Reads an opened request.
    ///
    /// # Errors
    /// [`WireError::Truncated`] if the head is cut, [`WireError::TooLarge`] or
    /// [`WireError::UnknownValue`] for a number of digests that is not 1 to 3.
    pub fn decode(plaintext: &'a [u8]) -> Result<Self, WireError> {
        let mut d = Decoder::new(plaintext);
        let salt = d.array("salt")?;
        let count = usize::from(d.u8("evidence count")?);
        if count > MAX_INNER_EVIDENCE {
            return Err(WireError::TooLarge {
                what: "evidence count",
                limit: MAX_INNER_EVIDENCE,
                got: count,
            });
        }
        if count == 0 {
            return Err(WireError::UnknownValue { what: "evidence count", got: 0 });
        }
        let mut evidence = Vec::with_capacity(count);
        for _ in 0..count {
            evidence.push(Digest(d.array("evidence digest")?));
        }
        Ok(Self { salt, evidence, json: d.remaining() })
    }
}

/// Payload of a sealed error frame.
#[must_use]
pub fn encode_error(status: u16, json: &[u8]) -> Vec<u8> {
    [&status.to_be_bytes(), json].concat()
}

/// Reads the payload of a sealed error frame: HTTP status and OpenAI error JSON.
///
/// # Errors
/// [`WireError::Truncated`] if there is no status.
pub fn decode_error(payload: &[u8]) -> Result<(u16, &[u8]), WireError> {
    let mut d = Decoder::new(payload);
    let status = d.u16("error status")?;
    Ok((status, d.remaining()))
}

/// Most recipients of one request, and so most evidence digests in it.
pub const MAX_INNER_EVIDENCE: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_what_it_encodes() {
        let inner =
            InnerRequest { salt: [1; 32], evidence: vec![Digest([2; 32]); 2], json: b"{\"a\":1}" };
        let bytes = inner.encode();
        let back = InnerRequest::decode(bytes.expose()).unwrap();
        assert_eq!((back.salt, back.evidence, back.json), (inner.salt, inner.evidence, inner.json));
    }

    #[test]
    fn refuses_a_head_that_is_cut() {
        let inner = InnerRequest { salt: [1; 32], evidence: vec![Digest([2; 32])], json: b"" };
        let bytes = inner.encode();
        for len in 0..bytes.len() {
            assert!(InnerRequest::decode(&bytes.expose()[..len]).is_err(), "accepted {len} bytes");
        }
    }

    #[test]
    fn refuses_no_evidence_and_one_more_than_there_can_be_recipients() {
        let with = |n: usize| {
            InnerRequest { salt: [0; 32], evidence: vec![Digest([0; 32]); n], json: b"" }.encode()
        };
        assert!(matches!(
            InnerRequest::decode(with(0).expose()),
            Err(WireError::UnknownValue { .. })
        ));
        assert!(InnerRequest::decode(with(3).expose()).is_ok());
        assert!(matches!(InnerRequest::decode(with(4).expose()), Err(WireError::TooLarge { .. })));
    }

    #[test]
    fn an_error_keeps_its_status() {
        assert_eq!(decode_error(&encode_error(429, b"{}")).unwrap(), (429, &b"{}"[..]));
        assert!(decode_error(&[1]).is_err());
    }
}
