//! Links that a wallet application opens, `ton://transfer/…`: what to send, where to and with what. The
//! owner reads it there and signs, or not; no key passes through this program.

use core::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrysalis_receipt::{Cell, boc};

use crate::address::Address;

/// A transfer to be signed in a wallet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferLink {
    /// Receiver. Contracts are named by a bounceable address even before they exist: a wallet that
    /// drops `init` then gets its coins back, instead of losing them to an address without code.
    pub to: Address,
    /// Nanogram.
    pub amount: u128,
    /// Body of the message.
    pub body: Option<Cell>,
    /// `StateInit` of the contract to deploy.
    pub init: Option<Cell>,
}

impl fmt::Display for TransferLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ton://transfer/{}?amount={}", self.to, self.amount)?;
        for (name, cell) in [("bin", &self.body), ("init", &self.init)] {
            if let Some(cell) = cell {
                // The alphabet needs no percent-encoding.
                write!(f, "&{name}={}", URL_SAFE_NO_PAD.encode(boc(cell)))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use chrysalis_wire::{Digest, NetworkId};

    use super::*;
    use crate::{read_boc, top_up};

    #[test]
    fn a_link_says_where_how_much_and_with_what() {
        let to = Address::contract(Digest([7; 32]), NetworkId::MAINNET);
        let plain = TransferLink { to, amount: 1_500_000_000, body: None, init: None };
        assert_eq!(plain.to_string(), format!("ton://transfer/{to}?amount=1500000000"));
        let (body, init) = (top_up(1).unwrap(), top_up(2).unwrap());
        let full = TransferLink { body: Some(body.clone()), init: Some(init.clone()), ..plain };
        let text = full.to_string();
        let (_, query) = text.split_once('?').unwrap();
        let parts: Vec<_> = query.split('&').map(|p| p.split_once('=').unwrap()).collect();
        assert_eq!(parts[0], ("amount", "1500000000"));
        for ((name, value), (expected, cell)) in
            parts[1..].iter().zip([("bin", &body), ("init", &init)])
        {
            assert_eq!(*name, expected);
            assert_eq!(read_boc(&URL_SAFE_NO_PAD.decode(value).unwrap()).as_ref(), Ok(cell));
        }
    }
}
