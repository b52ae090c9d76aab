//! Chain access against a local chain that tells the truth, and against servers that do not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod honest;
mod hostile;
mod tls;

use std::time::Duration;

use chrysalis_chain::{Endpoint, Patience, Toncenter};
use chrysalis_wire::Digest;

pub const ACCOUNT: Digest = Digest([7; 32]);

/// A client that does not wait long.
pub fn client(base: &str) -> Toncenter {
    let patience = Patience {
        connect: Duration::from_secs(5),
        answer: Duration::from_millis(1_500),
        attempts: 3,
        first_wait: Duration::from_millis(1),
        max_wait: Duration::from_millis(20),
    };
    Toncenter::new(Endpoint::parse(base).unwrap(), None, None).with_patience(patience)
}
