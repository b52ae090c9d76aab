//! RA-TLS: X.509 certificates that carry a TEE's quote for their own key. This crate reads,
//! verifies and makes them in three formats, and plugs them into rustls.
//!
//! A certificate is attacker-controlled until it is verified. Whether a quote is genuine and of a
//! pinned image is decided by [`chrysalis_evidence::Appraiser`]; nobody else is trusted. There is
//! no socket, file or clock in here: quotes come through [`QuoteProvider`], collateral through
//! [`CollateralSource`], and time is an argument.
//!
//! # What a certificate proves, and what it does not
//!
//! That a TEE of a pinned image once asked for a quote for this key. Not that it still holds the
//! key, not that it is the other end of this connection, not which machine it is: the certificate
//! answers no challenge of the verifier's, so it can be replayed, relayed and diverted (see
//! [`Tier::CertificateOnly`]). Certificates distribute keys. The proof of a live session is
//! `attest/1`: a challenge after the handshake, answered with a quote over the verifier's nonce, the
//! exporter of this very connection and the key of the certificate. So the usual way is
//!
//! 1. handshake with [`client_config`] or [`server_config`]: the certificate is refused early if
//!    its quote is not of a pinned image;
//! 2. [`CertificateVerifier::peer`], and an [`exchange::Link`] of its key and of the exporters of
//!    this connection;
//! 3. [`exchange::Challenger`] on it before any other byte, and [`exchange::Prover`] at the other end,
//!    in one direction or both. ([`Peer::session`] is for those who bring messages of their own.)
//!
//! [`Peer::without_live_session`] leaves out the last two. It is refused for production pins.
//!
//! # Formats
//!
//! | [`Format`] | extension | `report_data` of the quote | key |
//! |---|---|---|---|
//! | `Interoperable` | 2.23.133.5.4.9, CBOR `60000([quote, claims])` | SHA-256(claims), 32 zeros; claims hash the SubjectPublicKeyInfo | P-256, P-384 |
//! | `Gramine` | 0.6.9.42.840.113741.1337.6, the bare quote | SHA-256(SubjectPublicKeyInfo), 32 zeros | P-256, P-384 |
//! | `Cocoon` | 1.3.6.1.4.1.12345.1 and .2, critical | SHA-512(raw key) | Ed25519 |
//!
//! Gramine writes the first two side by side, and Intel's SGX SDK the first with a copy of its quote
//! under 1.2.840.113741.1.13.1. Both are read; the copies must agree, and the tagged evidence is
//! what is appraised. A verifier recomputes `report_data` from the key it read and never takes it
//! from the peer. Stricter than the formats' own verifiers: `pubkey-hash` must be there, exactly
//! once; Cocoon's claims must be the key; the certificate must be signed with its own key; anything
//! critical and unknown, doubled, padded, or over a limit is refused.
//!
//! # Example
//!
//! ```
//! use std::sync::Arc;
//!
//! use chrysalis_evidence::{AllowSim, Appraiser, Collateral, Pins, Role};
//! use chrysalis_tee::Platform as _;
//! use chrysalis_wire::UnixTime;
//! use gramine_ratls::{CertificateVerifier, Format, Identity, Order};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let (rtmr0, rtmr1, rtmr2) = (
//! #     hex::encode(chrysalis_evidence::sim::rtmr0()),
//! #     hex::encode(chrysalis_evidence::sim::rtmr1()),
//! #     hex::encode(chrysalis_evidence::sim::rtmr2()),
//! # );
//! # let pins_text = format!(
//! #     "version = 1\ntier = \"INSECURE-SIM\"\nsim_root = \"{}\"\nnetwork = 5458253\n\
//! #      [[worker]]\nname = \"sim\"\nmrtd = \"{}\"\nrtmr0 = \"{rtmr0}\"\nrtmr1 = \"{rtmr1}\"\n\
//! #      rtmr2 = \"{rtmr2}\"\nmanifest_sha256 = \"{z}\"\nmodel_root = \"{z}\"\n[platform]\n\
//! #      td_attributes = [\"{}\"]\nxfam = [\"{}\"]\nmr_seam = [\"{}\"]\n\
//! #      max_collateral_age_days = 30\nmin_tcb_evaluation_number = 20\n\
//! #      allow_dynamic_platform = true\nallow_cached_keys = true\nallow_smt = true\n",
//! #     hex::encode(chrysalis_tee_sim::sim_root_der()),
//! #     hex::encode(chrysalis_evidence::sim::mrtd(b"a program")),
//! #     hex::encode(chrysalis_evidence::sim::TD_ATTRIBUTES),
//! #     hex::encode(chrysalis_evidence::sim::XFAM),
//! #     hex::encode(chrysalis_evidence::sim::mr_seam()),
//! #     z = "0".repeat(64),
//! # );
//! let now = UnixTime(1_772_323_200);
//!
//! // Inside: a key, a quote for it (of the simulator here), a certificate for an hour.
//! let platform = chrysalis_tee_sim::SimPlatform::new(b"a program");
//! let order = Order {
//!     format: Format::Interoperable,
//!     not_before: now,
//!     not_after: UnixTime(now.0 + 3600),
//! };
//! let identity = Identity::generate(&order, &|data: &[u8; 64]| platform.quote(data))?;
//!
//! // Outside: pins decide, with collateral from anywhere but the peer.
//! let pins = Pins::parse(&pins_text, AllowSim::Yes)?;
//! let collateral = Collateral::parse(chrysalis_tee_sim::collateral(now).as_bytes())?;
//! let verifier =
//!     CertificateVerifier::new(Appraiser::new(pins), Arc::new(collateral), Format::ALL);
//! let appraised = verifier.verify(identity.certificate(), Role::Server, now)?;
//! println!("{}", appraised.verdict());
//! let peer = appraised.accept()?;
//!
//! // A key with a genuine quote. On to attest/1 with what is this side's own:
//! let (nonce, exporter) = ([7; 32], [9; 32]);
//! let session = peer.session(nonce, exporter);
//! assert_eq!(session.tls_spki, identity.key().spki_sha256());
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(
    test,
    allow(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]

mod cbor;
mod certificate;
mod der;
mod error;
mod evidence;
mod format;
mod generate;
mod key;
mod oid;
mod report;
mod tier;
mod tls;
mod verify;
mod x509;

#[cfg(test)]
mod tests;

/// attest/1: the challenge that follows the handshake.
pub use chrysalis_evidence::exchange;

pub use cbor::{CborError, MAX_CBOR_DEPTH, MAX_CBOR_ENTRIES};
pub use certificate::RatlsCertificate;
pub use error::RatlsError;
pub use evidence::{Claims, MAX_CLAIMS_BYTES, PubkeyHash, TAG_QUOTE, TaggedEvidence};
pub use format::Format;
pub use generate::{Identity, Order, QuoteProvider};
pub use key::{KeyKind, PublicKey};
pub use oid::{
    OID_COCOON_CLAIMS, OID_COCOON_QUOTE, OID_GRAMINE_QUOTE, OID_INTEL_COPY, OID_TAGGED_EVIDENCE,
};
pub use tier::{CertificateOnly, Tier};
pub use tls::{Identities, client_config, server_config};
pub use verify::{Appraised, CertificateOnlyPeer, CertificateVerifier, CollateralSource, Peer};
pub use x509::{
    MAX_CERTIFICATE_BYTES, MAX_EXTENSION_BYTES, MAX_EXTENSIONS, MAX_OID_BYTES, MAX_SERIAL_BYTES,
};
