//! What one end knows about its own TLS connection. It comes from its TLS library, never from a
//! message.

use chrysalis_wire::Digest;

use super::error::ExchangeError;
use crate::binding::{EXPORTER_LABEL, EXPORTER_LABEL_CLIENT, Role, Session};

/// A TLS 1.3 connection as one of its ends knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    own: Role,
    server: Side,
    client: Option<Side>,
}

/// What a proof of one end is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Side {
    tls_spki: Digest,
    exporter: [u8; 32],
}

impl Link {
    /// The connection whose end `own` this is.
    ///
    /// `server` and `client` are the SHA-256 of the SubjectPublicKeyInfo of the certificates
    /// presented in it; a client may present none. `export` is the exporter of the connection (RFC
    /// 8446 §7.5): 32 bytes for a label, without context. It is called here with the label of each
    /// direction, so that nobody can exchange the two.
    ///
    /// # Errors
    /// Whatever `export` returns.
    pub fn new<E>(
        own: Role,
        server: Digest,
        client: Option<Digest>,
        mut export: impl FnMut(&'static [u8]) -> Result<[u8; 32], E>,
    ) -> Result<Self, E> {
        let server = Side { tls_spki: server, exporter: export(EXPORTER_LABEL)? };
        let client = match client {
            Some(tls_spki) => Some(Side { tls_spki, exporter: export(EXPORTER_LABEL_CLIENT)? }),
            None => None,
        };
        Ok(Self { own, server, client })
    }

    /// The end this is.
    #[must_use]
    pub const fn own(&self) -> Role {
        self.own
    }

    /// What a challenge of `nonce` to the end `prover` is about.
    pub(super) fn session(&self, prover: Role, nonce: [u8; 32]) -> Result<Session, ExchangeError> {
        let Side { tls_spki, exporter } = match prover {
            Role::Server => self.server,
            Role::Client => self.client.ok_or(ExchangeError::NoClientKey)?,
        };
        Ok(Session { nonce, tls_spki, exporter })
    }
}

/// 32 bytes that nobody has seen. Each serves one challenge, so it cannot be copied.
#[derive(Debug)]
pub struct Nonce([u8; 32]);

impl Nonce {
    /// Draws a nonce from `fill`, the operating system's randomness.
    ///
    /// # Errors
    /// Whatever `fill` returns.
    pub fn draw<E>(fill: impl FnOnce(&mut [u8]) -> Result<(), E>) -> Result<Self, E> {
        let mut bytes = [0; 32];
        fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    pub(super) const fn into_bytes(self) -> [u8; 32] {
        self.0
    }
}
