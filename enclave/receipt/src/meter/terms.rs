//! The terms of a payment channel. Whoever shows them is a stranger: the account of the contract is
//! the hash of its code and these terms, so a meter that knows the code needs no chain to know what
//! the contract at an account will do.

use chrysalis_wire::codec::{Decoder, Encoder};
use chrysalis_wire::{Digest, NetworkId};
use sha2::{Digest as _, Sha256};

use crate::cell::{Cell, CellBuilder, CellError};
use crate::channel::ChannelId;
use crate::error::ReceiptError;
use crate::meter::claim::end;
use crate::payer::PayerPublicKey;

/// The code of a channel contract this build knows how to be paid by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelCode {
    hash: Digest,
    depth: u16,
}

impl ChannelCode {
    /// `host/ton/contracts/channel.tolk`, as compiled there; a test of that crate compares.
    pub const METERED_V1: Self = Self {
        hash: Digest([
            0xb4, 0x9e, 0x20, 0x52, 0x09, 0x41, 0x6a, 0x47, 0xc7, 0xca, 0xbf, 0x4f, 0x53, 0xce,
            0x13, 0xaf, 0x4e, 0x81, 0x2e, 0x92, 0xf8, 0xc8, 0xc8, 0xbd, 0x55, 0xcd, 0x8b, 0x04,
            0x19, 0x2d, 0x0f, 0xa6,
        ]),
        depth: METERED_V1_DEPTH,
    };

    /// The known code with this representation hash.
    ///
    /// # Errors
    /// [`ReceiptError::UnknownCode`].
    pub fn known(hash: Digest) -> Result<Self, ReceiptError> {
        if hash == Self::METERED_V1.hash {
            return Ok(Self::METERED_V1);
        }
        Err(ReceiptError::UnknownCode { got: hash })
    }

    /// Representation hash of the code.
    #[must_use]
    pub const fn hash(&self) -> Digest {
        self.hash
    }

    /// Depth of its tree of cells, which the hash of a parent contains.
    #[must_use]
    pub const fn depth(&self) -> u16 {
        self.depth
    }
}

/// Who pays whom through a channel, and how it ends. Accounts are in workchain 0, amounts nanogram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelTerms {
    code: ChannelCode,
    payer_key: PayerPublicKey,
    payer: Digest,
    payee: Digest,
    close_delay: u32,
    min_settle: u128,
    salt: u64,
}

/// The settings of [`ChannelTerms`] by name.
#[derive(Clone, Copy, Debug)]
pub struct TermsParts {
    /// Key whose caps count.
    pub payer_key: PayerPublicKey,
    /// Account that gets the rest.
    pub payer: Digest,
    /// Account that settlements pay.
    pub payee: Digest,
    /// Seconds between a close request and the refund.
    pub close_delay: u32,
    /// Smallest settlement at the deposit's expense, nanogram.
    pub min_settle: u128,
    /// Tells channels of the same parties apart; see [`channel_salt`].
    pub salt: u64,
}

/// The salt of channel `number` to a payee's worker: its high half names the only worker that the
/// channel pays for. The salt is part of the account, so nobody can change that later.
#[must_use]
pub const fn channel_salt(worker: u32, number: u32) -> u64 {
    // Widening alone.
    (worker as u64) << 32 | number as u64
}

impl ChannelTerms {
    /// Terms of a channel with the current contract.
    ///
    /// # Errors
    /// [`ReceiptError::Terms`] for a payer who is the payee, or a delay or minimum outside its limits:
    /// a payee must have time to settle, and neither side may be held to amounts not worth their fee.
    pub fn new(parts: TermsParts) -> Result<Self, ReceiptError> {
        let TermsParts { payer_key, payer, payee, close_delay, min_settle, salt } = parts;
        if payer == payee {
            return Err(ReceiptError::Terms { field: "the payee (is the payer)" });
        }
        if !(MIN_CLOSE_DELAY..=MAX_CLOSE_DELAY).contains(&close_delay) {
            return Err(ReceiptError::Terms { field: "the closing delay" });
        }
        if !(MIN_MIN_SETTLE..=MAX_MIN_SETTLE).contains(&min_settle) {
            return Err(ReceiptError::Terms { field: "the smallest settlement" });
        }
        let code = ChannelCode::METERED_V1;
        Ok(Self { code, payer_key, payer, payee, close_delay, min_settle, salt })
    }

    /// The contract.
    #[must_use]
    pub const fn code(&self) -> &ChannelCode {
        &self.code
    }

    /// Key whose caps count.
    #[must_use]
    pub const fn payer_key(&self) -> &PayerPublicKey {
        &self.payer_key
    }

    /// Account that opened the channel and gets the rest.
    #[must_use]
    pub const fn payer(&self) -> Digest {
        self.payer
    }

    /// Account that settlements pay.
    #[must_use]
    pub const fn payee(&self) -> Digest {
        self.payee
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

    /// Tells channels of the same parties apart.
    #[must_use]
    pub const fn salt(&self) -> u64 {
        self.salt
    }

    /// The worker of the payee that it pays for; see [`channel_salt`].
    #[must_use]
    pub const fn worker(&self) -> u32 {
        let [a, b, c, d, ..] = self.salt.to_be_bytes();
        u32::from_be_bytes([a, b, c, d])
    }

    /// The contract's data before its first message: nothing paid, open, and the terms.
    ///
    /// `cum_paid:Coins close_at:32 ^[ payer_key:256 payee:267 close_delay:32 min_settle:Coins salt:64
    /// ^payer:267 ]`
    ///
    /// # Errors
    /// None in practice: checked terms fit.
    pub fn data(&self) -> Result<Cell, CellError> {
        let mut payer = CellBuilder::new();
        store_address(&mut payer, self.payer)?;
        let mut config = CellBuilder::new();
        config.bytes(&self.payer_key.to_bytes())?;
        store_address(&mut config, self.payee)?;
        config
            .uint(self.close_delay.into(), 32)?
            .coins(self.min_settle)?
            .uint(self.salt.into(), 64)?
            .reference(payer.build()?)?;
        let mut data = CellBuilder::new();
        data.coins(0)?.uint(0, 32)?.reference(config.build()?)?;
        data.build()
    }

    /// The channel with these terms: the hash of the contract's initial state, of which the code is
    /// known by hash and depth alone. Representation hash as in [`Cell`]: two references, five bits
    /// `00110` with their padding, both depths, both hashes.
    ///
    /// # Errors
    /// None in practice: checked terms fit.
    pub fn id(&self, network: NetworkId) -> Result<ChannelId, CellError> {
        let data = self.data()?;
        let mut hash = Sha256::new();
        hash.update([2, 1, 0b0011_0100]);
        hash.update(self.code.depth.to_be_bytes());
        hash.update(data.depth().to_be_bytes());
        hash.update(self.code.hash.0);
        hash.update(data.hash().0);
        Ok(ChannelId { network, account: Digest(hash.finalize().into()) })
    }

    /// `code:32 | payer_key:32 | payer:32 | payee:32 | close_delay:u32 | min_settle:u128 | salt:u64`,
    /// lengths in bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut e = Encoder::new();
        self.encode_into(&mut e);
        e.finish()
    }

    /// Reads terms from untrusted bytes.
    ///
    /// # Errors
    /// [`ReceiptError::Wire`], [`ReceiptError::UnknownCode`], [`ReceiptError::Terms`], a refused key.
    pub fn decode(bytes: &[u8]) -> Result<Self, ReceiptError> {
        let mut d = Decoder::new(bytes);
        let terms = Self::decode_from(&mut d)?;
        end("channel terms", &d)?;
        Ok(terms)
    }

    pub(crate) fn encode_into(&self, e: &mut Encoder) {
        e.raw(&self.code.hash.0)
            .raw(&self.payer_key.to_bytes())
            .raw(&self.payer.0)
            .raw(&self.payee.0)
            .u32(self.close_delay)
            .raw(&self.min_settle.to_be_bytes())
            .u64(self.salt);
    }

    pub(crate) fn decode_from(d: &mut Decoder<'_>) -> Result<Self, ReceiptError> {
        // One code is known, so whoever names it names the one `new` puts in.
        ChannelCode::known(Digest(d.array("channel code")?))?;
        Self::new(TermsParts {
            payer_key: PayerPublicKey::parse(&d.array("payer key")?)?,
            payer: Digest(d.array("payer")?),
            payee: Digest(d.array("payee")?),
            close_delay: d.u32("closing delay")?,
            min_settle: u128::from_be_bytes(d.array("smallest settlement")?),
            salt: d.u64("salt")?,
        })
    }
}

/// `addr_std$10`, no anycast, workchain 0, account.
fn store_address(b: &mut CellBuilder, account: Digest) -> Result<(), CellError> {
    b.uint(0b100, 3)?.uint(0, 8)?.bytes(&account.0)?;
    Ok(())
}

/// Delay between a close request and the refund unless said otherwise: a day, seconds.
pub const DEFAULT_CLOSE_DELAY: u32 = 86_400;
/// Smallest settlement unless said otherwise: 0.05 GRAM, of which the fee is 1.4 %.
pub const DEFAULT_MIN_SETTLE: u128 = 50_000_000;
/// Shortest delay between a close request and the refund, seconds: a payee looks at the chain at
/// least this often.
pub const MIN_CLOSE_DELAY: u32 = 3_600;
/// Longest delay: thirty days.
pub const MAX_CLOSE_DELAY: u32 = 30 * 86_400;
/// Lowest smallest settlement: 0.01 GRAM, of which the fee is 7 %.
pub const MIN_MIN_SETTLE: u128 = 10_000_000;
/// Highest smallest settlement: 10 GRAM.
pub const MAX_MIN_SETTLE: u128 = 10_000_000_000;

const METERED_V1_DEPTH: u16 = 5;

#[cfg(test)]
pub(crate) mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::payer::PayerKey;

    pub(crate) fn parts() -> TermsParts {
        let key = PayerKey::from_seed(&Zeroizing::new([0x22; 32])).public();
        TermsParts {
            payer_key: PayerPublicKey::parse(&key).unwrap(),
            payer: Digest([8; 32]),
            payee: Digest([7; 32]),
            close_delay: 86_400,
            min_settle: 50_000_000,
            salt: 1,
        }
    }

    #[test]
    fn the_account_is_the_hash_of_the_initial_state() {
        let terms = ChannelTerms::new(parts()).unwrap();
        // The same cell with a code of our own in place of the contract.
        let mut code = CellBuilder::new();
        code.bytes(b"code").unwrap().reference(CellBuilder::new().build().unwrap()).unwrap();
        let code = code.build().unwrap();
        let mut state = CellBuilder::new();
        state.uint(0b00110, 5).unwrap().reference(code.clone()).unwrap();
        state.reference(terms.data().unwrap()).unwrap();
        let known = ChannelCode { hash: code.hash(), depth: code.depth() };
        let terms = ChannelTerms { code: known, ..terms };
        let id = terms.id(NetworkId::MAINNET).unwrap();
        assert_eq!(id.account, state.build().unwrap().hash());
    }

    #[test]
    fn terms_survive_their_encoding_and_are_refused_with_a_bit_of_the_code_changed() {
        let terms = ChannelTerms::new(parts()).unwrap();
        let mut bytes = terms.encode();
        assert_eq!(ChannelTerms::decode(&bytes), Ok(terms));
        bytes[0] ^= 1;
        let refused = ChannelTerms::decode(&bytes);
        assert!(matches!(refused, Err(ReceiptError::UnknownCode { .. })));
    }

    #[test]
    fn the_high_half_of_a_salt_names_the_worker() {
        for (worker, number) in [(0, 1), (1, 0), (u32::MAX, u32::MAX), (7, 9)] {
            let salt = channel_salt(worker, number);
            assert_eq!(ChannelTerms::new(TermsParts { salt, ..parts() }).unwrap().worker(), worker);
        }
        assert_eq!(channel_salt(0, 1), 1, "the salts of before");
    }

    #[test]
    fn refuses_terms_one_past_their_limits() {
        let with = |change: fn(&mut TermsParts)| {
            let mut parts = parts();
            change(&mut parts);
            ChannelTerms::new(parts).map(|_| ())
        };
        for fine in [
            (|p| p.close_delay = MIN_CLOSE_DELAY) as fn(&mut TermsParts),
            |p| p.close_delay = MAX_CLOSE_DELAY,
            |p| p.min_settle = MIN_MIN_SETTLE,
            |p| p.min_settle = MAX_MIN_SETTLE,
        ] {
            assert_eq!(with(fine), Ok(()));
        }
        for past in [
            (|p| p.close_delay = MIN_CLOSE_DELAY - 1) as fn(&mut TermsParts),
            |p| p.close_delay = MAX_CLOSE_DELAY + 1,
            |p| p.min_settle = MIN_MIN_SETTLE - 1,
            |p| p.min_settle = MAX_MIN_SETTLE + 1,
            |p| p.payee = p.payer,
        ] {
            assert!(matches!(with(past), Err(ReceiptError::Terms { .. })));
        }
    }
}
