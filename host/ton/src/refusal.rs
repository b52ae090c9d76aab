//! What the channel contract says no with. The numbers stand in `contracts/refusals.tolk`, here is
//! what they mean; a test compares the two.

use core::fmt;

/// A refusal of the channel contract, by exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Refusal {
    /// The cap is for another network, channel or workchain.
    CapForAnotherChannel = 101,
    /// The receipt is for another network or channel.
    ReceiptForAnotherChannel = 102,
    /// The receipt is above the cap.
    AboveCap = 103,
    /// Everything in the receipt was paid before.
    AlreadyPaid = 104,
    /// Less is owed than the channel settles at once.
    BelowMinimum = 105,
    /// The deposit does not cover the least payment.
    NotCovered = 106,
    /// The payer did not sign this cap.
    PayerSignature = 107,
    /// The meter that the cap names did not sign this receipt.
    MeterSignature = 108,
    /// A cell is no cap, or no receipt.
    NotACapOrReceipt = 109,
    /// Only the payer may ask to close.
    NotThePayer = 110,
    /// The channel is closing already.
    AlreadyClosing = 111,
    /// The channel is open, or its delay has not passed.
    NotYetClosed = 112,
    /// Only the payee may close without a delay.
    NotThePayee = 113,
    /// A message that the contract does not know.
    UnknownMessage = 0xffff,
}

impl Refusal {
    /// All of them, by code.
    pub const ALL: [Self; 14] = [
        Self::CapForAnotherChannel,
        Self::ReceiptForAnotherChannel,
        Self::AboveCap,
        Self::AlreadyPaid,
        Self::BelowMinimum,
        Self::NotCovered,
        Self::PayerSignature,
        Self::MeterSignature,
        Self::NotACapOrReceipt,
        Self::NotThePayer,
        Self::AlreadyClosing,
        Self::NotYetClosed,
        Self::NotThePayee,
        Self::UnknownMessage,
    ];

    /// The exit code.
    #[must_use]
    pub const fn exit_code(self) -> i32 {
        self as i32
    }

    /// The refusal with this exit code; `None` for success and for what TON's virtual machine
    /// itself throws.
    #[must_use]
    pub fn from_exit_code(code: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.exit_code() == code)
    }

    /// Its name in the contract.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::CapForAnotherChannel => "CAP_FOR_ANOTHER_CHANNEL",
            Self::ReceiptForAnotherChannel => "RECEIPT_FOR_ANOTHER_CHANNEL",
            Self::AboveCap => "ABOVE_CAP",
            Self::AlreadyPaid => "ALREADY_PAID",
            Self::BelowMinimum => "BELOW_MINIMUM",
            Self::NotCovered => "NOT_COVERED",
            Self::PayerSignature => "PAYER_SIGNATURE",
            Self::MeterSignature => "METER_SIGNATURE",
            Self::NotACapOrReceipt => "NOT_A_CAP_OR_RECEIPT",
            Self::NotThePayer => "NOT_THE_PAYER",
            Self::AlreadyClosing => "ALREADY_CLOSING",
            Self::NotYetClosed => "NOT_YET_CLOSED",
            Self::NotThePayee => "NOT_THE_PAYEE",
            Self::UnknownMessage => "UNKNOWN_MESSAGE",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CapForAnotherChannel => "the cap is for another channel or network",
            Self::ReceiptForAnotherChannel => "the receipt is for another channel or network",
            Self::AboveCap => "the receipt is above the cap; a larger cap is needed",
            Self::AlreadyPaid => "everything in the receipt was paid before; bring a newer one",
            Self::BelowMinimum => "less is owed than the channel settles at once; wait for more",
            Self::NotCovered => "the deposit does not cover the least payment; top it up",
            Self::PayerSignature => "the payer did not sign this cap",
            Self::MeterSignature => "the meter that the cap names did not sign this receipt",
            Self::NotACapOrReceipt => "a cell in the message is no cap, or no receipt",
            Self::NotThePayer => "only the payer may ask to close",
            Self::AlreadyClosing => "the channel is closing already",
            Self::NotYetClosed => "the channel is open, or its closing delay has not passed",
            Self::NotThePayee => "only the payee may close without a delay",
            Self::UnknownMessage => "the contract does not know this message",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_those_of_the_contract_by_name_and_number() {
        let mut lines = include_str!("../contracts/refusals.tolk")
            .lines()
            .filter_map(|line| line.strip_prefix("const "))
            .map(|line| line.split_once(" = ").unwrap());
        for refusal in Refusal::ALL {
            let (name, number) = lines.next().unwrap();
            let number = number.strip_prefix("0x").map_or_else(
                || number.parse().unwrap(),
                |hex| i32::from_str_radix(hex, 16).unwrap(),
            );
            assert_eq!((name, number), (refusal.name(), refusal.exit_code()));
            assert_eq!(Refusal::from_exit_code(number), Some(refusal));
        }
        assert_eq!(lines.next(), None, "a code of the contract has no meaning here");
    }

    #[test]
    fn the_contract_throws_every_code_and_no_number() {
        let contract = include_str!("../contracts/channel.tolk");
        for refusal in Refusal::ALL {
            assert!(
                contract.contains(&format!(": {}", refusal.name()))
                    || contract.contains(&format!("throw {}", refusal.name())),
                "{refusal:?}"
            );
        }
        for line in contract.lines().filter(|line| line.contains("throw ")) {
            let (_, code) = line.rsplit_once("throw ").unwrap();
            assert!(!code.starts_with(|c: char| c.is_ascii_digit()), "{line}");
        }
    }
}
