//! A payment channel: its settings, the address they make, and the message that deploys it.

use chrysalis_receipt::{
    Cell, CellBuilder, CellError, ChannelId, ChannelTerms, PayerPublicKey, ReceiptError, TermsParts,
};
pub use chrysalis_receipt::{
    DEFAULT_CLOSE_DELAY, DEFAULT_MIN_SETTLE, MAX_CLOSE_DELAY, MAX_MIN_SETTLE, MIN_CLOSE_DELAY,
    MIN_MIN_SETTLE,
};
use chrysalis_wire::{Digest, NetworkId};

use crate::code::channel_code;
use crate::error::TonError;

/// The settings of a channel. They make its address, so whoever knows them and the address knows
/// that nothing else is there. Amounts are nanogram, accounts are in workchain 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelConfig {
    payer_key: PayerPublicKey,
    payee: Digest,
    close_delay: u32,
    min_settle: u128,
    salt: u64,
    payer: Digest,
}

impl ChannelConfig {
    /// A channel from the account `payer`, whose caps `payer_key` signs, to the account `payee`, with
    /// the default delay and minimum. `salt` tells channels of the same parties apart.
    ///
    /// # Errors
    /// [`TonError::SameParties`]. A weak payer key has no [`PayerPublicKey`].
    pub fn new(
        payer_key: PayerPublicKey,
        payer: Digest,
        payee: Digest,
        salt: u64,
    ) -> Result<Self, TonError> {
        if payer == payee {
            return Err(TonError::SameParties { account: payer });
        }
        let (close_delay, min_settle) = (DEFAULT_CLOSE_DELAY, DEFAULT_MIN_SETTLE);
        Ok(Self { payer_key, payee, close_delay, min_settle, salt, payer })
    }

    /// The same channel with another delay between a close request and the refund, in seconds.
    ///
    /// # Errors
    /// [`TonError::Setting`] outside [`MIN_CLOSE_DELAY`] to [`MAX_CLOSE_DELAY`]: a payee must have
    /// time to settle, and a payer must not lose sight of the deposit.
    pub fn with_close_delay(self, seconds: u32) -> Result<Self, TonError> {
        let (least, most) = (MIN_CLOSE_DELAY, MAX_CLOSE_DELAY);
        check("the closing delay (seconds)", seconds.into(), least.into(), most.into())?;
        Ok(Self { close_delay: seconds, ..self })
    }

    /// The same channel with another smallest settlement, in nanogram.
    ///
    /// # Errors
    /// [`TonError::Setting`] outside [`MIN_MIN_SETTLE`] to [`MAX_MIN_SETTLE`]: below, fees burn the
    /// deposit; above, the payee waits for too much.
    pub fn with_min_settle(self, min_settle: u128) -> Result<Self, TonError> {
        let field = "the smallest settlement (nanogram)";
        check(field, min_settle, MIN_MIN_SETTLE, MAX_MIN_SETTLE)?;
        Ok(Self { min_settle, ..self })
    }

    /// The key whose caps count.
    #[must_use]
    pub const fn payer_key(&self) -> &PayerPublicKey {
        &self.payer_key
    }

    /// Account that settlements pay.
    #[must_use]
    pub const fn payee(&self) -> Digest {
        self.payee
    }

    /// Account that opened the channel and gets the rest.
    #[must_use]
    pub const fn payer(&self) -> Digest {
        self.payer
    }

    /// Seconds between a close request and the refund.
    #[must_use]
    pub const fn close_delay(&self) -> u32 {
        self.close_delay
    }

    /// Smallest settlement at the deposit's expense, nanogram.
    #[must_use]
    pub const fn min_settle(&self) -> u128 {
        self.min_settle
    }

    /// The `StateInit` that deploys the channel; its hash is the account id.
    ///
    /// # Errors
    /// [`TonError::Code`] in a damaged build.
    pub fn state_init(&self) -> Result<Cell, TonError> {
        let mut b = CellBuilder::new();
        // No split depth, no special account, code, data, no libraries.
        b.uint(0b00110, 5)?.reference(channel_code()?)?.reference(self.terms()?.data()?)?;
        Ok(b.build()?)
    }

    /// The channel on a network. Its account is the same on every one.
    ///
    /// # Errors
    /// [`TonError::Code`] in a damaged build.
    pub fn id(&self, network: NetworkId) -> Result<ChannelId, TonError> {
        Ok(ChannelId { network, account: self.state_init()?.hash() })
    }

    /// The same settings as a meter in an enclave reads them, which knows the contract by its hash.
    ///
    /// # Errors
    /// None in practice: settings made here are within the limits of terms.
    pub fn terms(&self) -> Result<ChannelTerms, ReceiptError> {
        ChannelTerms::new(TermsParts {
            payer_key: self.payer_key,
            payer: self.payer,
            payee: self.payee,
            close_delay: self.close_delay,
            min_settle: self.min_settle,
            salt: self.salt,
        })
    }

    /// The channel with these terms.
    #[must_use]
    pub fn from_terms(terms: &ChannelTerms) -> Self {
        Self {
            payer_key: *terms.payer_key(),
            payee: terms.payee(),
            close_delay: terms.close_delay(),
            min_settle: terms.min_settle(),
            salt: terms.salt(),
            payer: terms.payer(),
        }
    }
}

fn check(field: &'static str, got: u128, least: u128, most: u128) -> Result<(), TonError> {
    if (least..=most).contains(&got) {
        Ok(())
    } else {
        Err(TonError::Setting { field, least, most, got })
    }
}

/// `addr_std$10`, no anycast, workchain 0, account.
pub(crate) fn store_address(b: &mut CellBuilder, account: Digest) -> Result<(), CellError> {
    b.uint(0b100, 3)?.uint(0, 8)?.bytes(&account.0)?;
    Ok(())
}

/// What stays in the contract for rent and the last fees, nanogram; `RESERVE` of the contract.
pub const RESERVE: u128 = 5_000_000;

#[cfg(test)]
mod tests {
    use chrysalis_receipt::{ChannelCode, PayerKey};
    use zeroize::Zeroizing;

    use super::*;

    fn config() -> ChannelConfig {
        let key = PayerKey::from_seed(&Zeroizing::new([0x22; 32])).public();
        let key = PayerPublicKey::parse(&key).unwrap();
        ChannelConfig::new(key, Digest([8; 32]), Digest([7; 32]), 1).unwrap()
    }

    #[test]
    fn every_setting_is_in_the_address() {
        let id = |config: ChannelConfig| config.id(NetworkId::MAINNET).unwrap();
        let mut other_key = config();
        let key = PayerKey::from_seed(&Zeroizing::new([0x23; 32])).public();
        other_key.payer_key = PayerPublicKey::parse(&key).unwrap();
        let others = [
            other_key,
            ChannelConfig { payee: Digest([9; 32]), ..config() },
            ChannelConfig { payer: Digest([9; 32]), ..config() },
            ChannelConfig { salt: 2, ..config() },
            config().with_close_delay(MIN_CLOSE_DELAY).unwrap(),
            config().with_min_settle(MIN_MIN_SETTLE).unwrap(),
        ];
        for other in others {
            assert_ne!(id(other.clone()).account, id(config()).account, "{other:?}");
        }
    }

    #[test]
    fn a_meter_that_knows_the_code_by_its_hash_finds_the_same_account() {
        let code = channel_code().unwrap();
        let known = ChannelCode::METERED_V1;
        assert_eq!((known.hash(), known.depth()), (code.hash(), code.depth()));
        for salt in 0..100 {
            let config =
                ChannelConfig { salt, min_settle: MIN_MIN_SETTLE << (salt % 9), ..config() };
            let terms = config.terms().unwrap();
            assert_eq!(terms.id(NetworkId::TESTNET), Ok(config.id(NetworkId::TESTNET).unwrap()));
            assert_eq!(ChannelConfig::from_terms(&terms), config);
        }
    }

    #[test]
    fn the_account_is_the_same_on_every_network() {
        let on = |network| config().id(network).unwrap().account;
        assert_eq!(on(NetworkId::MAINNET), on(NetworkId::TESTNET));
    }

    #[test]
    fn refuses_settings_one_past_their_limits() {
        for seconds in [MIN_CLOSE_DELAY, MAX_CLOSE_DELAY] {
            assert!(config().with_close_delay(seconds).is_ok());
        }
        for seconds in [MIN_CLOSE_DELAY - 1, MAX_CLOSE_DELAY + 1] {
            let error = config().with_close_delay(seconds).unwrap_err();
            assert_eq!(error.code(), "E-TON-SETTING");
        }
        for amount in [MIN_MIN_SETTLE, MAX_MIN_SETTLE] {
            assert!(config().with_min_settle(amount).is_ok());
        }
        for amount in [MIN_MIN_SETTLE - 1, MAX_MIN_SETTLE + 1] {
            let error = config().with_min_settle(amount).unwrap_err();
            assert_eq!(error.code(), "E-TON-SETTING");
        }
    }

    #[test]
    fn refuses_a_channel_to_oneself() {
        let account = Digest([8; 32]);
        let key = *config().payer_key();
        assert_eq!(
            ChannelConfig::new(key, account, account, 1),
            Err(TonError::SameParties { account })
        );
    }

    #[test]
    fn the_reserve_is_that_of_the_contract() {
        let contract = include_str!("../contracts/channel.tolk");
        let line =
            contract.lines().find_map(|l| l.strip_prefix("const RESERVE = ton(\"0.")).unwrap();
        let digits = line.trim_end_matches("\")");
        let nano = digits.parse::<u128>().unwrap() * 10u128.pow(9 - digits.len() as u32);
        assert_eq!(nano, RESERVE);
    }
}
