//! Blinds and commitments: SHA-256 and HKDF over secrets of one request. Nothing here prints.

use core::fmt;

use chrysalis_wire::{Digest, RequestId};
use hkdf::Hkdf;
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// `SHA-256("chrysalis/req/v1" || 0x00 || salt || len:u64 || request)`: commits to the exact
/// bytes of a request. `salt` is the client's, so nobody can confirm a guess of the request.
#[must_use]
pub fn request_commit(salt: &[u8; 32], request: &[u8]) -> Digest {
    let mut hash = start(REQUEST_DOMAIN, salt);
    hash.update(length(request).to_be_bytes());
    hash.update(request);
    Digest(hash.finalize().into())
}

/// `SHA-256("chrysalis/resp/v1" || 0x00 || salt || response || len:u64)`: commits to the exact
/// bytes of a response while they are produced. The length comes last because a stream's length
/// is known only at its end; being of fixed size there, it stays unambiguous.
pub struct ResponseCommit {
    hash: Sha256,
    len: u64,
}

impl ResponseCommit {
    /// A commitment to no bytes yet.
    #[must_use]
    pub fn new(salt: &[u8; 32]) -> Self {
        Self { hash: start(RESPONSE_DOMAIN, salt), len: 0 }
    }

    /// Adds the next bytes of the response.
    pub fn update(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.len = self.len.saturating_add(length(bytes));
    }

    /// The commitment to every byte so far.
    #[must_use]
    pub fn finish(mut self) -> Digest {
        self.hash.update(self.len.to_be_bytes());
        Digest(self.hash.finalize().into())
    }
}

impl fmt::Debug for ResponseCommit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<redacted commitment to {} bytes>", self.len)
    }
}

/// The blind of each child cell. Without them a child hash of a known layout could be searched:
/// token counts alone have few values.
///
/// They are functions of the client's salt and the request id, so a worker has no freedom in
/// them and cannot hide a message there. The receipt's owner holds them in the clear and shows one
/// by opening its child.
///
/// Wiped when dropped: in the worker nobody needs them any more.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Blinds {
    /// Blind of the io cell.
    pub io: [u8; 16],
    /// Blind of the usage cell.
    pub usage: [u8; 16],
    /// Blind of the model cell.
    pub model: [u8; 16],
    /// Blind of the attestation cell.
    pub att: [u8; 16],
}

impl Blinds {
    /// The blinds of the request `request_id` with the client's `salt`.
    #[must_use]
    pub fn derive(salt: &[u8; 32], request_id: RequestId) -> Self {
        let hkdf = Hkdf::<Sha256>::new(Some(BLIND_SALT), salt);
        let blind = |label: &[u8]| {
            let mut out = [0u8; 16];
            // HKDF-Expand refuses only outputs above 255 hashes; 16 bytes always fit, and a zero
            // blind would still be caught by the client, who derives its own.
            let _always_fits = hkdf.expand_multi_info(&[label, &request_id.0], &mut out);
            out
        };
        Self {
            io: blind(b"io"),
            usage: blind(b"usage"),
            model: blind(b"model"),
            att: blind(b"att"),
        }
    }
}

impl fmt::Debug for Blinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted blinds>")
    }
}

fn start(domain: &[u8], salt: &[u8; 32]) -> Sha256 {
    let mut hash = Sha256::new();
    hash.update(domain);
    hash.update([0]);
    hash.update(salt);
    hash
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

const REQUEST_DOMAIN: &[u8] = b"chrysalis/req/v1";
const RESPONSE_DOMAIN: &[u8] = b"chrysalis/resp/v1";
const BLIND_SALT: &[u8] = b"chrysalis/receipt/blind/v1";

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: [u8; 32] = [7; 32];

    fn response(pieces: &[&[u8]]) -> Digest {
        let mut commit = ResponseCommit::new(&SALT);
        for piece in pieces {
            commit.update(piece);
        }
        commit.finish()
    }

    #[test]
    fn commits_to_the_documented_bytes() {
        let mut bytes = b"chrysalis/req/v1\0".to_vec();
        bytes.extend_from_slice(&SALT);
        bytes.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 2]);
        bytes.extend_from_slice(b"hi");
        assert_eq!(request_commit(&SALT, b"hi").0, <[u8; 32]>::from(Sha256::digest(&bytes)));

        let mut bytes = b"chrysalis/resp/v1\0".to_vec();
        bytes.extend_from_slice(&SALT);
        bytes.extend_from_slice(b"hi");
        bytes.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 2]);
        assert_eq!(response(&[b"hi"]).0, <[u8; 32]>::from(Sha256::digest(&bytes)));
    }

    #[test]
    fn how_a_response_was_cut_into_pieces_does_not_matter() {
        assert_eq!(response(&[b"hello"]), response(&[b"he", b"", b"llo"]));
    }

    #[test]
    fn a_request_and_a_response_with_the_same_bytes_commit_differently() {
        assert_ne!(request_commit(&SALT, b""), response(&[]));
    }

    #[test]
    fn another_salt_gives_another_commitment() {
        assert_ne!(request_commit(&SALT, b"hi"), request_commit(&[8; 32], b"hi"));
    }

    #[test]
    fn blinds_are_hkdf_of_salt_label_and_request_id() {
        let id = RequestId([3; 16]);
        let blinds = Blinds::derive(&SALT, id);
        let mut info = b"usage".to_vec();
        info.extend_from_slice(&id.0);
        let mut expected = [0u8; 16];
        Hkdf::<Sha256>::new(Some(b"chrysalis/receipt/blind/v1"), &SALT)
            .expand(&info, &mut expected)
            .unwrap();
        assert_eq!(blinds.usage, expected);
        let all = [blinds.io, blinds.usage, blinds.model, blinds.att];
        assert!((0..4).all(|i| (0..i).all(|j| all[i] != all[j])));
        assert_ne!(blinds, Blinds::derive(&SALT, RequestId([4; 16])));
    }

    #[test]
    fn blinds_and_hash_states_are_wiped_when_dropped() {
        const fn wiped<T: ZeroizeOnDrop>() {}
        wiped::<Blinds>();
        // What ResponseCommit holds; a feature of its crate.
        wiped::<Sha256>();
    }

    #[test]
    fn debug_shows_no_blind_and_no_hash_state() {
        let blinds = Blinds::derive(&SALT, RequestId([3; 16]));
        assert_eq!(format!("{blinds:?}"), "<redacted blinds>");
        let commit = ResponseCommit::new(&SALT);
        assert_eq!(format!("{commit:?}"), "<redacted commitment to 0 bytes>");
    }
}
