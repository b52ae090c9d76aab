//! What a message would cost, found by running it on a fork.

use chrysalis_wire::Digest;
use tycho_types::boc::Boc;
use tycho_types::cell::{Cell, CellBuilder};
use tycho_types::models::{
    ComputePhase, ExtInMsgInfo, MsgInfo, OrdinaryTxInfo, OwnedMessage, StateInit,
    Transaction as Recorded, TxInfo,
};

use crate::accounts::address;
use crate::chain::{DevChain, Signatures};
use crate::error::ChainError;

/// What a contract would pay for an external message, nanogram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fees {
    /// For the message itself.
    pub in_fwd: u128,
    /// Rent since its last transaction.
    pub storage: u128,
    /// For gas.
    pub gas: u128,
    /// For the messages it sends.
    pub fwd: u128,
}

/// An external message to be priced; each part a bag of cells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Account id of the contract.
    pub to: Digest,
    /// Body.
    pub body: Vec<u8>,
    /// Code, if the message deploys the contract.
    pub code: Option<Vec<u8>>,
    /// Data, if the message deploys the contract.
    pub data: Option<Vec<u8>>,
}

impl DevChain {
    /// What a message would cost now. Nothing happens. With `signed` false, the contract is told
    /// that every signature is good.
    ///
    /// # Errors
    /// Those of [`DevChain::send_boc`].
    pub fn estimate(&self, draft: &Draft, signed: bool) -> Result<Fees, ChainError> {
        let decode =
            |boc: &Vec<u8>| Boc::decode(boc).map_err(|e| ChainError::malformed("bag of cells", e));
        let init = match (&draft.code, &draft.data) {
            (None, None) => None,
            (code, data) => Some(StateInit {
                code: code.as_ref().map(decode).transpose()?,
                data: data.as_ref().map(decode).transpose()?,
                ..StateInit::default()
            }),
        };
        let message = CellBuilder::build_from(OwnedMessage {
            info: MsgInfo::ExtIn(ExtInMsgInfo {
                dst: address(draft.to).into(),
                ..ExtInMsgInfo::default()
            }),
            init,
            body: decode(&draft.body)?.into(),
            layout: None,
        })
        .map_err(ChainError::executor)?;
        let mut fork = self.clone();
        if !signed {
            fork.signatures = Signatures::Believed;
        }
        let done = fork.send_boc(&Boc::encode(message))?;
        done.first().map_or_else(|| Ok(Fees::default()), |first| fees(&first.cell))
    }
}

/// The parts of what a transaction paid.
pub(crate) fn fees(transaction: &Cell) -> Result<Fees, ChainError> {
    let recorded = transaction.parse::<Recorded>().map_err(ChainError::executor)?;
    let info = recorded.info.load().map_err(ChainError::executor)?;
    let TxInfo::Ordinary(OrdinaryTxInfo { storage_phase, compute_phase, action_phase, .. }) = info
    else {
        return Err(ChainError::executor("not an ordinary transaction"));
    };
    let storage = storage_phase.map_or(0, |p| p.storage_fees_collected.into_inner());
    let gas = match compute_phase {
        ComputePhase::Executed(phase) => phase.gas_fees.into_inner(),
        ComputePhase::Skipped(_) => 0,
    };
    let (fwd, taken) = action_phase.map_or((0, 0), |phase| {
        let fees = |tokens: Option<tycho_types::num::Tokens>| tokens.unwrap_or_default();
        let (fwd, taken) = (fees(phase.total_fwd_fees), fees(phase.total_action_fees));
        (fwd.into_inner(), taken.into_inner())
    });
    let total = recorded.total_fees.tokens.into_inner();
    let in_fwd = total.saturating_sub(storage).saturating_sub(gas).saturating_sub(taken);
    Ok(Fees { in_fwd, storage, gas, fwd })
}
