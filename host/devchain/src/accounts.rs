//! The accounts of the chain and what they hold. Accounts without code are wallets.

use std::collections::BTreeMap;

use chrysalis_wire::Digest;
use tycho_types::cell::{HashBytes, Lazy};
use tycho_types::models::{
    Account, AccountState, CurrencyCollection, OptionalAccount, ShardAccount, StdAddr, StorageInfo,
};
use tycho_types::num::Tokens;

use crate::error::ChainError;

/// Accounts by id, all in workchain 0.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accounts(BTreeMap<Digest, ShardAccount>);

impl Accounts {
    /// The account, or none at all under that id.
    pub(crate) fn shard(&self, id: Digest) -> Result<ShardAccount, ChainError> {
        match self.0.get(&id) {
            Some(account) => Ok(account.clone()),
            None => wrap(None),
        }
    }

    /// The account if it exists.
    pub(crate) fn get(&self, id: Digest) -> Result<Option<Account>, ChainError> {
        match self.0.get(&id) {
            Some(account) => account.load_account().map_err(ChainError::executor),
            None => Ok(None),
        }
    }

    pub(crate) fn put(&mut self, id: Digest, account: ShardAccount) {
        self.0.insert(id, account);
    }

    /// Nanogram of one account; zero if it does not exist.
    pub(crate) fn balance(&self, id: Digest) -> Result<u128, ChainError> {
        Ok(self.get(id)?.map_or(0, |a| a.balance.tokens.into_inner()))
    }

    /// Nanogram of all accounts together.
    pub(crate) fn total(&self) -> Result<u128, ChainError> {
        let mut sum = 0u128;
        for id in self.0.keys() {
            sum = sum.checked_add(self.balance(*id)?).ok_or(ChainError::Overflow)?;
        }
        Ok(sum)
    }

    /// Gives coins to an account, which becomes a wallet if it did not exist.
    pub(crate) fn credit(&mut self, id: Digest, value: u128, now: u32) -> Result<(), ChainError> {
        let mut account = self.get(id)?.unwrap_or_else(|| wallet(id, now));
        let sum = account.balance.tokens.into_inner().checked_add(value);
        account.balance.tokens = tokens(sum.ok_or(ChainError::Overflow)?)?;
        self.change(id, account)
    }

    /// Takes coins from a wallet.
    pub(crate) fn debit(&mut self, id: Digest, value: u128) -> Result<(), ChainError> {
        let none = ChainError::Balance { account: id, balance: 0, value };
        let mut account = self.get(id)?.ok_or(none)?;
        if account.state != AccountState::Uninit {
            return Err(ChainError::NotAWallet { account: id });
        }
        let balance = account.balance.tokens.into_inner();
        let rest = balance.checked_sub(value).ok_or(ChainError::Balance {
            account: id,
            balance,
            value,
        })?;
        account.balance.tokens = tokens(rest)?;
        self.change(id, account)
    }

    /// Every account with its bag of cells, by id.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Digest, &ShardAccount)> {
        self.0.iter().map(|(id, account)| (*id, account))
    }

    /// Another state without a transaction, so the last one stays the last.
    fn change(&mut self, id: Digest, account: Account) -> Result<(), ChainError> {
        let last_trans_hash = self.shard(id)?.last_trans_hash;
        self.put(id, ShardAccount { last_trans_hash, ..wrap(Some(account))? });
        Ok(())
    }
}

/// The address of an account id.
pub(crate) const fn address(id: Digest) -> StdAddr {
    StdAddr::new(0, HashBytes(id.0))
}

/// An amount as the chain counts it.
pub(crate) fn tokens(value: u128) -> Result<Tokens, ChainError> {
    let tokens = Tokens::new(value);
    if tokens.is_valid() { Ok(tokens) } else { Err(ChainError::Overflow) }
}

/// A new wallet. The executor counts what it stores, and so its rent, in its first transaction.
fn wallet(id: Digest, now: u32) -> Account {
    Account {
        address: address(id).into(),
        storage_stat: StorageInfo { last_paid: now, ..StorageInfo::default() },
        last_trans_lt: 0,
        balance: CurrencyCollection::ZERO,
        state: AccountState::Uninit,
    }
}

fn wrap(account: Option<Account>) -> Result<ShardAccount, ChainError> {
    let last_trans_lt = account.as_ref().map_or(0, |a| a.last_trans_lt);
    let account = Lazy::new(&OptionalAccount(account)).map_err(ChainError::executor)?;
    Ok(ShardAccount { account, last_trans_hash: HashBytes::ZERO, last_trans_lt })
}
