//! What anybody may read of an account.

use chrysalis_wire::Digest;
use tycho_types::boc::Boc;
use tycho_types::models::AccountState;

use crate::chain::DevChain;
use crate::error::ChainError;

/// Whether there is code at an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Nothing, or coins alone.
    Uninitialized,
    /// A contract.
    Active,
    /// A contract that did not pay its rent.
    Frozen,
}

/// An account, or what there is to say about none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountView {
    /// Whether there is code.
    pub status: Status,
    /// Nanogram.
    pub balance: u128,
    /// Bag of cells of the code.
    pub code: Option<Vec<u8>>,
    /// Hash of the code's root.
    pub code_hash: Option<Digest>,
    /// Bag of cells of the data.
    pub data: Option<Vec<u8>>,
    /// Hash of the last known state of a frozen contract.
    pub frozen_hash: Option<Digest>,
    /// Logical time of its last transaction; zero for none.
    pub last_lt: u64,
    /// Hash of its last transaction; zeros for none.
    pub last_hash: Digest,
}

impl DevChain {
    /// What anybody may read of an account.
    ///
    /// # Errors
    /// [`ChainError::Executor`] for an account that cannot be read.
    pub fn account(&self, account: Digest) -> Result<AccountView, ChainError> {
        let shard = self.accounts.shard(account)?;
        let mut view = AccountView {
            status: Status::Uninitialized,
            balance: 0,
            code: None,
            code_hash: None,
            data: None,
            frozen_hash: None,
            last_lt: shard.last_trans_lt,
            last_hash: Digest(shard.last_trans_hash.0),
        };
        let Some(found) = self.accounts.get(account)? else { return Ok(view) };
        view.balance = found.balance.tokens.into_inner();
        match found.state {
            AccountState::Uninit => {}
            AccountState::Frozen(hash) => {
                view.status = Status::Frozen;
                view.frozen_hash = Some(Digest(hash.0));
            }
            AccountState::Active(init) => {
                view.status = Status::Active;
                view.code_hash = init.code.as_ref().map(|code| Digest(code.repr_hash().0));
                view.code = init.code.map(Boc::encode);
                view.data = init.data.map(Boc::encode);
            }
        }
        Ok(view)
    }

    /// Bag of cells of a contract's data; `None` where no contract is.
    ///
    /// # Errors
    /// [`ChainError::Executor`] for an account that cannot be read.
    pub fn data(&self, account: Digest) -> Result<Option<Vec<u8>>, ChainError> {
        Ok(self.account(account)?.data)
    }

    /// Bag of cells of a configuration parameter; `None` if it is not set.
    ///
    /// # Errors
    /// [`ChainError::Executor`] if the configuration cannot be read.
    pub fn config_param(&self, number: u32) -> Result<Option<Vec<u8>>, ChainError> {
        let cell = self.config.raw.params.get_raw_cell(number).map_err(ChainError::executor)?;
        Ok(cell.map(Boc::encode))
    }
}
