//! The end that proves itself. A challenge is the peer's bytes; all it contributes to what is
//! signed is a nonce.

use core::time::Duration;
use std::collections::VecDeque;
use std::time::Instant;

use chrysalis_wire::Digest;

use super::error::ExchangeError;
use super::link::Link;
use super::message::Challenge;
use crate::binding::{Binding, Leaf, Role, Session};

/// Most challenges of one connection that are answered within [`CHALLENGE_WINDOW`]. A peer needs
/// one every five minutes, and one more when keys change.
pub const MAX_CHALLENGES: usize = 8;

/// See [`MAX_CHALLENGES`].
pub const CHALLENGE_WINDOW: Duration = Duration::from_secs(60);

/// Answers the challenges of one connection.
#[derive(Debug)]
pub struct Prover {
    link: Link,
    /// When the latest challenges came, oldest first.
    taken: VecDeque<Instant>,
}

impl Prover {
    /// The prover of this end of `link`.
    ///
    /// # Errors
    /// [`ExchangeError::NoClientKey`] for a TLS client that presented no certificate.
    pub fn new(link: Link) -> Result<Self, ExchangeError> {
        link.session(link.own(), [0; 32])?;
        Ok(Self { link, taken: VecDeque::new() })
    }

    /// What a challenge asks for, to be hashed with the keys and devices of this end.
    ///
    /// # Errors
    /// [`ExchangeError::OtherEnd`] for a challenge that names the peer,
    /// [`ExchangeError::TooManyChallenges`].
    pub fn take(
        &mut self,
        challenge: &Challenge,
        now: Instant,
    ) -> Result<Statement, ExchangeError> {
        let own = self.link.own();
        if challenge.prover != own {
            return Err(ExchangeError::OtherEnd { asked: challenge.prover, own });
        }
        let past = |at: &Instant| now.saturating_duration_since(*at) >= CHALLENGE_WINDOW;
        while self.taken.front().is_some_and(past) {
            self.taken.pop_front();
        }
        if self.taken.len() >= MAX_CHALLENGES {
            let (limit, window) = (MAX_CHALLENGES, CHALLENGE_WINDOW);
            return Err(ExchangeError::TooManyChallenges { limit, window });
        }
        self.taken.push_back(now);
        let session = self.link.session(own, challenge.nonce)?;
        Ok(Statement { prover: own, session })
    }
}

/// What one challenge asks this end to state. Only [`Prover::take`] makes one, from this end's own
/// connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    prover: Role,
    session: Session,
}

impl Statement {
    /// A statement for a verifier in this very process, which has no connection: what a worker asks
    /// itself before it says that it is ready.
    #[must_use]
    pub const fn to_oneself(session: Session) -> Self {
        Self { prover: Role::Server, session }
    }

    /// The nonce to ask devices with.
    #[must_use]
    pub fn gpu_nonce(&self) -> [u8; 32] {
        self.session.gpu_nonce()
    }

    /// The leaf: this statement, about these keys and devices.
    #[must_use]
    pub fn leaf(&self, keyset_digest: Digest, device_digest: Digest) -> Leaf {
        let Session { nonce, tls_spki, exporter } = self.session;
        Binding { role: self.prover, tls_spki, nonce, exporter, keyset_digest, device_digest }
            .leaf()
    }
}
