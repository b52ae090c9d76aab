//! What one transaction did, in numbers.

use chrysalis_wire::Digest;
use tycho_types::boc::Boc;
use tycho_types::cell::Cell;
use tycho_types::models::{ComputePhase, MsgInfo, OrdinaryTxInfo, Transaction as Recorded, TxInfo};

use crate::error::ChainError;

/// A message that a transaction sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Account id of the receiver.
    pub to: Digest,
    /// Nanogram it carries.
    pub value: u128,
    /// Whether a refused message came back in it.
    pub bounced: bool,
    /// What delivering it costs, already taken from the sender, nanogram.
    pub fwd_fee: u128,
}

/// One transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Account id of the account it ran on.
    pub account: Digest,
    /// Exit code of the contract; `None` if no code ran.
    pub exit_code: Option<i32>,
    /// Result of the actions; `None` if there were none to run.
    pub action_code: Option<i32>,
    /// Whether everything but the fees was undone.
    pub aborted: bool,
    /// Gas used.
    pub gas: u64,
    /// Nanogram that came with the message.
    pub received: u128,
    /// Fees that it paid, nanogram, without those that travel on in [`Sent::fwd_fee`].
    pub fees: u128,
    /// Messages it sent.
    pub sent: Vec<Sent>,
    /// Logical time.
    pub lt: u64,
    /// Unix time, seconds.
    pub now: u32,
    /// Hash of the transaction.
    pub hash: Digest,
    /// The transaction itself.
    pub(crate) cell: Cell,
}

impl Transaction {
    /// All that the account paid besides what it sent, nanogram.
    #[must_use]
    pub fn cost(&self) -> u128 {
        self.sent.iter().fold(self.fees, |sum, sent| sum.saturating_add(sent.fwd_fee))
    }

    /// Bag of cells of the whole transaction, as TON records it.
    #[must_use]
    pub fn boc(&self) -> Vec<u8> {
        Boc::encode(&self.cell)
    }

    /// Whether code ran and nothing was undone.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.exit_code == Some(0) && !self.aborted
    }

    pub(crate) fn of(
        tx: &Recorded,
        cell: Cell,
        total_fees: u128,
        received: u128,
        messages: &[MsgInfo],
    ) -> Result<Self, ChainError> {
        let info = tx.info.load().map_err(ChainError::executor)?;
        let TxInfo::Ordinary(OrdinaryTxInfo { compute_phase, action_phase, aborted, .. }) = info
        else {
            return Err(ChainError::executor("not an ordinary transaction"));
        };
        let (exit_code, gas) = match compute_phase {
            ComputePhase::Executed(phase) => (Some(phase.exit_code), phase.gas_used.into_inner()),
            ComputePhase::Skipped(_) => (None, 0),
        };
        Ok(Self {
            account: Digest(tx.account.0),
            exit_code,
            action_code: action_phase.map(|phase| phase.result_code),
            aborted,
            gas,
            received,
            fees: total_fees,
            sent: messages.iter().filter_map(sent).collect(),
            lt: tx.lt,
            now: tx.now,
            hash: Digest(cell.repr_hash().0),
            cell,
        })
    }
}

/// What a message to another account carries; `None` for one that leaves the chain.
fn sent(info: &MsgInfo) -> Option<Sent> {
    let MsgInfo::Int(info) = info else { return None };
    Some(Sent {
        to: Digest(info.dst.as_std()?.address.0),
        value: info.value.tokens.into_inner(),
        bounced: info.bounced,
        fwd_fee: info.fwd_fee.into_inner(),
    })
}
