//! The wallet that people have: version 5 revision 1 ("W5"), TON's standard one. Its address, and the
//! orders that its owner signs. No key is here: an order is built, its hash is signed elsewhere, and
//! the signature is put in. Everything else a wallet application does for its owner.

use chrysalis_receipt::{Cell, CellBuilder, CellError};
use chrysalis_wire::{Digest, NetworkId};

use crate::channel::store_address;
use crate::code::wallet_code;
use crate::error::TonError;

/// The first wallet of a key on a network, in workchain 0. Wallets of the same key on other networks
/// have other addresses, so an order for one is worth nothing on another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wallet {
    public_key: [u8; 32],
    network: NetworkId,
}

/// A message that a wallet is told to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Account id of the receiver.
    pub to: Digest,
    /// Nanogram.
    pub value: u128,
    /// Whether a refused message comes back, less its fees.
    pub bounce: bool,
    /// `StateInit` of a contract to deploy.
    pub init: Option<Cell>,
    /// Body.
    pub body: Option<Cell>,
}

impl Wallet {
    /// The wallet of an Ed25519 key.
    #[must_use]
    pub const fn new(public_key: [u8; 32], network: NetworkId) -> Self {
        Self { public_key, network }
    }

    /// The number by which the contract tells its network and its orders from others': the network
    /// XOR a context, which is the client's (1 bit), workchain 0, version 0 and wallet 0.
    const fn id(self) -> u32 {
        self.network.0.cast_unsigned() ^ CLIENT_CONTEXT
    }

    /// The `StateInit` that deploys it; its hash is the account id.
    ///
    /// # Errors
    /// [`TonError::Code`] in a damaged build.
    pub fn state_init(&self) -> Result<Cell, TonError> {
        let mut data = CellBuilder::new();
        // Signatures are allowed, no order was carried out, no extension.
        data.bit(true)?.uint(0, 32)?.uint(self.id().into(), 32)?;
        data.bytes(&self.public_key)?.bit(false)?;
        let mut b = CellBuilder::new();
        b.uint(0b00110, 5)?.reference(wallet_code()?)?.reference(data.build()?)?;
        Ok(b.build()?)
    }

    /// Account id.
    ///
    /// # Errors
    /// [`TonError::Code`] in a damaged build.
    pub fn account(&self) -> Result<Digest, TonError> {
        Ok(self.state_init()?.hash())
    }

    /// An order to send messages, to be signed. `seqno` is the number of orders before it, of which
    /// the first one deploys the wallet; after `valid_until` (Unix seconds) it is worth nothing.
    ///
    /// # Errors
    /// [`TonError::WalletMessages`] for none, or over [`MAX_WALLET_MESSAGES`]; [`TonError::Cell`] for
    /// an amount above 120 bits.
    pub fn order(
        &self,
        seqno: u32,
        valid_until: u32,
        messages: &[Outgoing],
    ) -> Result<Order, TonError> {
        if messages.is_empty() || messages.len() > MAX_WALLET_MESSAGES {
            return Err(TonError::WalletMessages { got: messages.len() });
        }
        // A list from its end: out_list$_ prev:^(OutList n) action_send_msg#0ec3c86d mode:8 ^msg.
        let mut list = CellBuilder::new().build()?;
        for message in messages {
            let mut b = CellBuilder::new();
            b.reference(list)?;
            b.uint(0x0ec3_c86d, 32)?.uint(SEND_MODE, 8)?.reference(message.cell()?)?;
            list = b.build()?;
        }
        let mut unsigned = CellBuilder::new();
        unsigned.bytes(b"sign")?.uint(self.id().into(), 32)?;
        unsigned.uint(valid_until.into(), 32)?.uint(seqno.into(), 32)?;
        // The list is there, actions on the wallet itself are not.
        unsigned.bit(true)?.reference(list)?.bit(false)?;
        let hash = unsigned.clone().build()?.hash();
        let init = if seqno == 0 { Some(self.state_init()?) } else { None };
        Ok(Order { account: self.account()?, init, unsigned, hash })
    }
}

/// An order that its owner has not signed.
#[derive(Clone, Debug)]
pub struct Order {
    account: Digest,
    init: Option<Cell>,
    unsigned: CellBuilder,
    hash: Digest,
}

impl Order {
    /// What the owner's Ed25519 key signs.
    #[must_use]
    pub const fn hash(&self) -> Digest {
        self.hash
    }

    /// The external message that carries the order out.
    ///
    /// # Errors
    /// None in practice: the parts fit.
    pub fn signed(mut self, signature: &[u8; 64]) -> Result<Cell, TonError> {
        self.unsigned.bytes(signature)?;
        let mut b = CellBuilder::new();
        b.uint(0b1000, 4)?;
        store_address(&mut b, self.account)?;
        b.coins(0)?;
        store_maybe_either(&mut b, self.init)?;
        b.bit(true)?.reference(self.unsigned.build()?)?;
        Ok(b.build()?)
    }
}

impl Outgoing {
    /// `int_msg_info$0 ihr_disabled:1 bounce bounced:0 src:addr_none$00 dest value:Coins other:0
    /// ihr_fee:0 fwd_fee:0 created_lt:64 created_at:32 init body`, of which the wallet's chain fills in
    /// what is zero.
    fn cell(&self) -> Result<Cell, CellError> {
        let mut b = CellBuilder::new();
        b.uint(0b01, 2)?.bit(self.bounce)?.bit(false)?.uint(0b00, 2)?;
        store_address(&mut b, self.to)?;
        b.coins(self.value)?.bit(false)?.coins(0)?.coins(0)?.uint(0, 96)?;
        store_maybe_either(&mut b, self.init.clone())?;
        match self.body.clone() {
            Some(body) => b.bit(true)?.reference(body)?,
            None => b.bit(false)?,
        };
        b.build()
    }
}

/// Nothing, or a cell of its own: `Maybe (Either X ^X)`.
fn store_maybe_either(b: &mut CellBuilder, cell: Option<Cell>) -> Result<(), CellError> {
    b.bit(cell.is_some())?;
    if let Some(cell) = cell {
        b.bit(true)?.reference(cell)?;
    }
    Ok(())
}

/// Most messages of one order. The contract takes 255; nobody here needs more than two.
pub const MAX_WALLET_MESSAGES: usize = 4;

/// Fees apart from the value, and errors of the action phase ignored: W5 demands the latter of
/// external orders, since a failed action would undo the count and the order could be sent again.
const SEND_MODE: u128 = 3;
const CLIENT_CONTEXT: u32 = 1 << 31;

#[cfg(test)]
mod tests {
    use super::*;

    /// Key of the seed 42×32, and its wallets as `@ton/ton` 16.3.0 computes them.
    const KEY: &str = "2152f8d19b791d24453242e15f2eab6cb7cffa7b6a5ed30097960e069881db12";
    const WALLETS: [(NetworkId, &str); 3] = [
        (NetworkId::MAINNET, "3f3b5893fa6ac13361418d529488cf4ee90bfefb2ce60fd17c6c85d2ddaaba8e"),
        (NetworkId::TESTNET, "0932b4b56b67d41c9e7865f5259bced4a9267ef2aa60094d3497f7e7c02f02b3"),
        (
            NetworkId::INSECURE_SIM,
            "b2daa934511d48cb464150385c4d1873e7c17d61b2919e4cae1d478323d3f8eb",
        ),
    ];

    fn key() -> [u8; 32] {
        KEY.parse::<Digest>().unwrap().0
    }

    fn coins(value: u128) -> Outgoing {
        Outgoing { to: Digest([7; 32]), value, bounce: false, init: None, body: None }
    }

    #[test]
    fn a_key_has_the_addresses_that_wallets_show() {
        for (network, account) in WALLETS {
            let wallet = Wallet::new(key(), network);
            assert_eq!(wallet.account().unwrap().to_string(), account, "{network}");
        }
        assert_eq!(Wallet::new(key(), NetworkId::MAINNET).id(), 0x7fff_ff11);
        assert_eq!(Wallet::new(key(), NetworkId::TESTNET).id(), 0x7fff_fffd);
    }

    #[test]
    fn everything_an_order_says_is_signed() {
        let wallet = Wallet::new(key(), NetworkId::MAINNET);
        let hash = |wallet: Wallet, seqno, until, messages: &[Outgoing]| {
            wallet.order(seqno, until, messages).unwrap().hash()
        };
        let first = hash(wallet, 1, 100, &[coins(5)]);
        let others = [
            hash(wallet, 2, 100, &[coins(5)]),
            hash(wallet, 1, 101, &[coins(5)]),
            hash(wallet, 1, 100, &[coins(6)]),
            hash(wallet, 1, 100, &[coins(5), coins(5)]),
            hash(wallet, 1, 100, &[Outgoing { bounce: true, ..coins(5) }]),
            hash(wallet, 1, 100, &[Outgoing { to: Digest([8; 32]), ..coins(5) }]),
            hash(Wallet::new(key(), NetworkId::TESTNET), 1, 100, &[coins(5)]),
        ];
        assert!(others.iter().all(|other| *other != first));
    }

    #[test]
    fn refuses_an_order_without_a_message_and_with_one_too_many() {
        let wallet = Wallet::new(key(), NetworkId::MAINNET);
        let order = |count| wallet.order(0, 1, &vec![coins(1); count]).map(|_| ());
        assert_eq!(order(MAX_WALLET_MESSAGES), Ok(()));
        for got in [0, MAX_WALLET_MESSAGES + 1] {
            assert_eq!(order(got), Err(TonError::WalletMessages { got }));
        }
    }
}
