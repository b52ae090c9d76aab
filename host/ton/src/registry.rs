//! The registry of a network: its owners, the orders they sign, and the messages that carry them.
//! Nothing here holds an owner's key; orders arrive signed, and the contract judges them.

use std::collections::{BTreeMap, BTreeSet};

use chrysalis_receipt::{Cell, CellBuilder, CellError, PayerPublicKey};
use chrysalis_wire::{Digest, NetworkId};

use crate::code::registry_code;
use crate::dict::store_dictionary;
use crate::error::TonError;

/// Who may change a registry: `threshold` of these keys together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owners {
    threshold: u8,
    keys: BTreeMap<u8, [u8; 32]>,
}

impl Owners {
    /// Owners numbered in the order given.
    ///
    /// # Errors
    /// [`TonError::Owners`] for no owner, more than [`MAX_OWNERS`], a key twice, or a threshold that
    /// is zero or that they cannot reach; [`TonError::OwnerKey`] for a key that is weak or no key:
    /// the contract would count signatures that nobody made.
    pub fn new(threshold: u8, keys: &[[u8; 32]]) -> Result<Self, TonError> {
        let refused = |reason| TonError::Owners { reason };
        if keys.is_empty() || keys.len() > MAX_OWNERS {
            return Err(refused("a registry has one to eight owners"));
        }
        if threshold == 0 || usize::from(threshold) > keys.len() {
            return Err(refused("the threshold is not between one and the number of owners"));
        }
        if keys.iter().collect::<BTreeSet<_>>().len() != keys.len() {
            return Err(refused("a key counts for two owners"));
        }
        let mut numbered = BTreeMap::new();
        for (number, key) in (0u8..).zip(keys) {
            // The checks are those of any key whose signatures TON's machine verifies.
            PayerPublicKey::parse(key).map_err(|_| TonError::OwnerKey { number })?;
            numbered.insert(number, *key);
        }
        Ok(Self { threshold, keys: numbered })
    }

    /// `threshold:8 | keys:HashmapE 8 uint256`
    fn cell(&self) -> Result<Cell, CellError> {
        let mut b = CellBuilder::new();
        b.uint(self.threshold.into(), 8)?;
        store_dictionary(&mut b, &self.keys)?;
        b.build()
    }
}

/// A registry before its first order; that is its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryConfig {
    owners: Owners,
    activation_delay: u32,
}

impl RegistryConfig {
    /// A registry in which additions of trust wait for `activation_delay` seconds, forever.
    ///
    /// # Errors
    /// [`TonError::Setting`] outside [`MIN_ACTIVATION_DELAY`] to [`MAX_ACTIVATION_DELAY`].
    pub fn new(owners: Owners, activation_delay: u32) -> Result<Self, TonError> {
        let (least, most) = (MIN_ACTIVATION_DELAY, MAX_ACTIVATION_DELAY);
        if !(least..=most).contains(&activation_delay) {
            let (least, most) = (least.into(), most.into());
            let field = "the activation delay (seconds)";
            return Err(TonError::Setting { field, least, most, got: activation_delay.into() });
        }
        Ok(Self { owners, activation_delay })
    }

    /// The `StateInit` that deploys the registry; its hash is the account id.
    ///
    /// # Errors
    /// [`TonError::Code`] in a damaged build.
    pub fn state_init(&self) -> Result<Cell, TonError> {
        let mut data = CellBuilder::new();
        // No order yet, the delay, the owners, no next ones, no entries.
        data.uint(0, 32)?
            .uint(self.activation_delay.into(), 32)?
            .reference(self.owners.cell()?)?
            .bit(false)?
            .uint(0, 32)?
            .bit(false)?;
        let mut b = CellBuilder::new();
        b.uint(0b00110, 5)?.reference(registry_code()?)?.reference(data.build()?)?;
        Ok(b.build()?)
    }

    /// Account id of the registry, the same on every network.
    ///
    /// # Errors
    /// [`TonError::Code`] in a damaged build.
    pub fn account(&self) -> Result<Digest, TonError> {
        Ok(self.state_init()?.hash())
    }
}

/// What an entry is about. An entry without a value, or with zero, is not accepted; a platform with
/// a value is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EntryKind {
    /// An image, by its measurement digest.
    Image = 1,
    /// A model, by its root.
    Model = 2,
    /// A proxy, by its measurement digest.
    Proxy = 3,
    /// A denied platform, by the hash of its id.
    Platform = 4,
    /// The least TCB evaluation number; its id is zero.
    MinTcb = 5,
    /// A parameter of the network, by the hash of its name.
    Parameter = 6,
}

/// What owners order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A value for an entry: at once if it takes trust away, else after the activation delay.
    Set {
        /// What the entry is about.
        kind: EntryKind,
        /// Which one.
        id: Digest,
        /// The value; all zeros is none.
        value: Digest,
    },
    /// Other owners, after the activation delay.
    SetOwners(Owners),
}

/// An order to one registry on one network, good once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Network of the registry.
    pub network: NetworkId,
    /// Account id of the registry.
    pub registry: Digest,
    /// Orders the registry carried out before this one.
    pub version: u32,
    /// Last second in which it counts, Unix time.
    pub valid_until: u32,
    /// What to do.
    pub action: Action,
}

impl Order {
    /// The cell whose hash owners sign:
    /// `ORD1 | global_id:32 | registry:256 | version:32 | valid_until:32 | action`.
    ///
    /// # Errors
    /// None in practice: the parts fit.
    pub fn cell(&self) -> Result<Cell, CellError> {
        let mut b = CellBuilder::new();
        b.bytes(b"ORD1")?
            .int32(self.network.0)?
            .bytes(&self.registry.0)?
            .uint(self.version.into(), 32)?
            .uint(self.valid_until.into(), 32)?;
        match &self.action {
            Action::Set { kind, id, value } => {
                b.bytes(b"SETV")?.uint((*kind as u8).into(), 8)?.bytes(&id.0)?.bytes(&value.0)?;
            }
            Action::SetOwners(owners) => {
                b.bytes(b"SOWN")?.reference(owners.cell()?)?;
            }
        }
        b.build()
    }
}

/// Body of a message with an order and the signatures of owners, by their numbers. From anybody, who
/// pays for it.
///
/// # Errors
/// None in practice: the parts fit.
pub fn apply_order(
    order: Cell,
    signatures: &BTreeMap<u8, [u8; 64]>,
    query: u64,
) -> Result<Cell, CellError> {
    let mut b = CellBuilder::new();
    b.bytes(b"REG1")?.uint(query.into(), 64)?.reference(order)?;
    store_dictionary(&mut b, signatures)?;
    b.build()
}

/// Most owners of a registry: signatures above the tenth of a transaction cost much gas.
pub const MAX_OWNERS: usize = 8;
/// Shortest activation delay: a day, seconds.
pub const MIN_ACTIVATION_DELAY: u32 = 86_400;
/// Longest activation delay: ninety days, seconds.
pub const MAX_ACTIVATION_DELAY: u32 = 90 * 86_400;

#[cfg(test)]
mod tests {
    use chrysalis_receipt::PayerKey;
    use zeroize::Zeroizing;

    use super::*;

    fn keys() -> Vec<[u8; 32]> {
        [[0x11; 32], [0x12; 32], [0x13; 32]]
            .map(|seed| PayerKey::from_seed(&Zeroizing::new(seed)).public())
            .to_vec()
    }

    fn reason(result: Result<Owners, TonError>) -> &'static str {
        match result {
            Err(TonError::Owners { reason }) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn refuses_a_threshold_that_is_zero_or_out_of_reach() {
        let why = "the threshold is not between one and the number of owners";
        assert_eq!(reason(Owners::new(0, &keys())), why);
        assert_eq!(reason(Owners::new(4, &keys())), why);
        assert!(Owners::new(3, &keys()).is_ok());
    }

    #[test]
    fn refuses_a_key_that_counts_twice() {
        let twice = [keys()[0], keys()[1], keys()[0]];
        assert_eq!(reason(Owners::new(2, &twice)), "a key counts for two owners");
    }

    #[test]
    fn refuses_no_owner_and_one_more_than_the_limit() {
        let why = "a registry has one to eight owners";
        assert_eq!(reason(Owners::new(1, &[])), why);
        assert_eq!(reason(Owners::new(1, &[[1; 32]; MAX_OWNERS + 1])), why);
    }

    #[test]
    fn refuses_a_weak_owner_key_by_its_number() {
        let mut weak = [0; 32];
        weak[0] = 1;
        let keys = [keys()[0], weak];
        assert_eq!(Owners::new(1, &keys), Err(TonError::OwnerKey { number: 1 }));
    }

    #[test]
    fn refuses_a_delay_one_second_past_its_limits() {
        let owners = || Owners::new(2, &keys()).unwrap();
        for delay in [MIN_ACTIVATION_DELAY, MAX_ACTIVATION_DELAY] {
            assert!(RegistryConfig::new(owners(), delay).is_ok());
        }
        for delay in [MIN_ACTIVATION_DELAY - 1, MAX_ACTIVATION_DELAY + 1] {
            let error = RegistryConfig::new(owners(), delay).unwrap_err();
            assert_eq!(error.code(), "E-TON-SETTING");
        }
    }
}
