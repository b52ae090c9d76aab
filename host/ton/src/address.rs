//! Addresses as wallets show them: 48 characters of base64url over flags, workchain, account and a
//! checksum. Text comes from people and links, and is refused when anything in it is off.

use core::fmt;
use core::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrysalis_wire::{Digest, NetworkId};

use crate::error::TonError;

/// Whether coins sent to an address come back if nothing there takes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressKind {
    /// They come back: contracts, `EQ…`.
    Bounceable,
    /// They stay: wallets, which may not be deployed yet, `UQ…`.
    NonBounceable,
}

/// An account of workchain 0 as people see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Account id.
    pub account: Digest,
    /// What becomes of coins that nothing takes.
    pub kind: AddressKind,
    /// Whether it is marked for test networks only.
    pub test_only: bool,
}

impl Address {
    /// The address of a contract on a network.
    #[must_use]
    pub fn contract(account: Digest, network: NetworkId) -> Self {
        let test_only = network != NetworkId::MAINNET;
        Self { account, kind: AddressKind::Bounceable, test_only }
    }

    const fn flags(&self) -> u8 {
        let kind = match self.kind {
            AddressKind::Bounceable => BOUNCEABLE,
            AddressKind::NonBounceable => NON_BOUNCEABLE,
        };
        if self.test_only { kind | TEST_ONLY } else { kind }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![self.flags(), 0];
        bytes.extend_from_slice(&self.account.0);
        let crc = crc16(&bytes).to_be_bytes();
        bytes.extend_from_slice(&crc);
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for Address {
    type Err = TonError;

    fn from_str(text: &str) -> Result<Self, TonError> {
        let refused = |reason| TonError::Address { reason };
        let bytes: [u8; 36] = URL_SAFE_NO_PAD
            .decode(text)
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(|| refused("not 48 characters of base64url"))?;
        let [flags, workchain, rest @ ..] = bytes;
        let (account, crc) = rest.split_first_chunk::<32>().ok_or_else(|| refused("too short"))?;
        let covered = bytes.split_last_chunk::<2>().map_or(bytes.as_slice(), |(head, _)| head);
        if crc16(covered).to_be_bytes() != crc {
            return Err(refused("the checksum is wrong; a character was changed"));
        }
        if workchain != 0 {
            return Err(refused("not in workchain 0"));
        }
        let kind = match flags & !TEST_ONLY {
            BOUNCEABLE => AddressKind::Bounceable,
            NON_BOUNCEABLE => AddressKind::NonBounceable,
            _ => return Err(refused("unknown flags")),
        };
        Ok(Self { account: Digest(*account), kind, test_only: flags & TEST_ONLY != 0 })
    }
}

/// The account that a text names, in the form of wallets or as `0:` and 64 hexadecimal digits.
///
/// # Errors
/// [`TonError::Address`] for anything else, and for other workchains.
pub fn account_of(text: &str) -> Result<Digest, TonError> {
    match text.split_once(':') {
        None => Ok(text.parse::<Address>()?.account),
        Some(("0", account)) => account
            .parse()
            .map_err(|_| TonError::Address { reason: "not 64 hexadecimal digits after 0:" }),
        Some(_) => Err(TonError::Address { reason: "not in workchain 0" }),
    }
}

/// CRC-16 of XMODEM: polynomial 0x1021, from zero.
fn crc16(bytes: &[u8]) -> u16 {
    let mut crc = 0u16;
    for byte in bytes {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 != 0 { crc << 1 ^ 0x1021 } else { crc << 1 };
        }
    }
    crc
}

const BOUNCEABLE: u8 = 0x11;
const NON_BOUNCEABLE: u8 = 0x51;
const TEST_ONLY: u8 = 0x80;

#[cfg(test)]
mod tests {
    use super::*;

    /// Published by the computation of the contract vectors.
    const TEXT: &str = "EQDa6BWLZLlyItpqoXMgZv5jJrsoUbv73Vbt3cnLRM3oDCha";
    const ACCOUNT: &str = "dae8158b64b97222da6aa1732066fe6326bb2851bbfbdd56edddc9cb44cde80c";

    #[test]
    fn reads_and_writes_the_published_address() {
        let address: Address = TEXT.parse().unwrap();
        assert_eq!(address, Address::contract(ACCOUNT.parse().unwrap(), NetworkId::MAINNET));
        assert_eq!(address.to_string(), TEXT);
    }

    #[test]
    fn both_forms_name_the_same_account() {
        let raw = format!("0:{ACCOUNT}");
        assert_eq!(account_of(TEXT), account_of(&raw));
        assert_eq!(account_of(TEXT).unwrap().to_string(), ACCOUNT);
        for text in ["", "0:", "-1:00", &raw[..65], &format!("{raw}0"), &raw.replace("0:", "-1:")] {
            assert!(account_of(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_kind_reads_back_and_looks_different() {
        let account = Digest([7; 32]);
        let mut seen = Vec::new();
        for kind in [AddressKind::Bounceable, AddressKind::NonBounceable] {
            for test_only in [false, true] {
                let address = Address { account, kind, test_only };
                assert_eq!(address.to_string().parse(), Ok(address));
                seen.push(address.to_string()[..2].to_owned());
            }
        }
        assert_eq!(seen, ["EQ", "kQ", "UQ", "0Q"]);
    }

    #[test]
    fn refuses_every_changed_character() {
        for at in 0..TEXT.len() {
            let mut text = TEXT.to_owned();
            let other = if &text[at..=at] == "A" { "B" } else { "A" };
            text.replace_range(at..=at, other);
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
        assert!(format!("{TEXT}A").parse::<Address>().is_err());
    }

    #[test]
    fn refuses_another_workchain_and_unknown_flags() {
        for (at, value, reason) in [(1, 0xff, "not in workchain 0"), (0, 0x31, "unknown flags")] {
            let mut bytes = URL_SAFE_NO_PAD.decode(TEXT).unwrap();
            bytes[at] = value;
            let crc = crc16(&bytes[..34]).to_be_bytes();
            bytes[34..].copy_from_slice(&crc);
            let text = URL_SAFE_NO_PAD.encode(bytes);
            assert_eq!(text.parse::<Address>(), Err(TonError::Address { reason }));
        }
    }
}
