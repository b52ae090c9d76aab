//! The whole state of a local chain as one JSON document, for a chain that outlives its process. A
//! document that was edited or damaged is refused: its coins would not add up, or its cells not parse.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrysalis_wire::{Digest, NetworkId};
use serde::{Deserialize, Serialize};
use tycho_types::boc::Boc;
use tycho_types::cell::{HashBytes, Lazy};
use tycho_types::models::ShardAccount;

use crate::chain::DevChain;
use crate::error::ChainError;

/// Accounts, clock and coins of a chain. Numbers that JSON cannot hold are decimal strings.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Snapshot {
    network: i32,
    now: u32,
    lt: String,
    issued: String,
    fees: String,
    accounts: Vec<Stored>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    id: Digest,
    /// Bag of cells of the account, base64.
    state: String,
    last_lt: String,
    last_hash: Digest,
}

impl DevChain {
    /// The state, to be restored later.
    pub(crate) fn snapshot(&self, network: NetworkId) -> Snapshot {
        let accounts = self.accounts.iter().map(|(id, account)| Stored {
            id,
            state: STANDARD.encode(Boc::encode(account.account.inner())),
            last_lt: account.last_trans_lt.to_string(),
            last_hash: Digest(account.last_trans_hash.0),
        });
        Snapshot {
            network: network.0,
            now: self.now,
            lt: self.lt.to_string(),
            issued: self.issued.to_string(),
            fees: self.fees.to_string(),
            accounts: accounts.collect(),
        }
    }

    /// A chain in the state of a snapshot of the same network.
    pub(crate) fn restore(network: NetworkId, stored: &Snapshot) -> Result<Self, ChainError> {
        let damaged = |what: &str| ChainError::Snapshot { detail: what.to_owned() };
        if stored.network != network.0 {
            let other = NetworkId(stored.network);
            return Err(damaged(&format!("it is of {other}, and this chain is {network}")));
        }
        let mut chain = Self::new(network, stored.now)?;
        chain.lt = stored.lt.parse().map_err(|_| damaged("lt is no number"))?;
        chain.issued = stored.issued.parse().map_err(|_| damaged("issued is no number"))?;
        chain.fees = stored.fees.parse().map_err(|_| damaged("fees is no number"))?;
        for account in &stored.accounts {
            let cell = STANDARD
                .decode(&account.state)
                .ok()
                .and_then(|boc| Boc::decode(boc).ok())
                .ok_or_else(|| damaged("an account is no bag of cells"))?;
            let shard = ShardAccount {
                account: Lazy::from_raw(cell).map_err(ChainError::executor)?,
                last_trans_hash: HashBytes(account.last_hash.0),
                last_trans_lt: account
                    .last_lt
                    .parse()
                    .map_err(|_| damaged("last_lt is no number"))?,
            };
            chain.accounts.put(account.id, shard);
        }
        let held = chain.balances().map_err(|_| damaged("an account cannot be read"))?;
        if held.checked_add(chain.fees) != Some(chain.issued) {
            return Err(damaged("its coins do not add up to what was issued"));
        }
        Ok(chain)
    }
}
