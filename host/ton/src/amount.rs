//! Amounts as people write and read them: GRAM, the coin of the TON network (called Toncoin before
//! 2026), of which nanogram are the smallest part. Text comes from people; what is not plainly an amount
//! is refused.

use core::fmt;
use core::str::FromStr;

use chrysalis_receipt::MAX_COINS_BITS;

use crate::error::TonError;

/// An amount. Prints four decimals, rounded down, as `12.3456 GRAM`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gram {
    /// Nanogram.
    pub nano: u128,
}

impl Gram {
    /// So many nanogram.
    #[must_use]
    pub const fn of(nano: u128) -> Self {
        Self { nano }
    }
}

impl fmt::Display for Gram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.nano / NANO_PER_GRAM, self.nano % NANO_PER_GRAM);
        if whole == 0 && (1..NANO_PER_SHOWN).contains(&part) {
            // Not nothing, which is what four zeros would say.
            return f.write_str("< 0.0001 GRAM");
        }
        write!(f, "{whole}.{:04} GRAM", part / NANO_PER_SHOWN)
    }
}

impl FromStr for Gram {
    type Err = TonError;

    /// `12`, `12.5` or `0.000000001`, in GRAM.
    fn from_str(text: &str) -> Result<Self, TonError> {
        let refused = |reason| TonError::Amount { reason };
        let (whole, part) = match text.split_once('.') {
            Some((_, "")) => return Err(refused("digits follow a point")),
            Some((whole, part)) => (whole, part),
            None => (text, ""),
        };
        if whole.is_empty() || !whole.bytes().chain(part.bytes()).all(|b| b.is_ascii_digit()) {
            return Err(refused("it is digits, and at most one point"));
        }
        if part.len() > DECIMALS {
            return Err(refused("a GRAM has nine decimals"));
        }
        let number = |digits: &str| digits.parse::<u128>().map_err(|_| refused("it is too large"));
        let nano = number(&format!("{part:0<DECIMALS$}"))?;
        let nano = number(whole)?
            .checked_mul(NANO_PER_GRAM)
            .and_then(|whole| whole.checked_add(nano))
            .filter(|nano| u128::BITS.saturating_sub(nano.leading_zeros()) <= MAX_COINS_BITS);
        nano.map(Self::of).ok_or_else(|| refused("it is too large"))
    }
}

const DECIMALS: usize = 9;
/// Nanogram of one GRAM.
pub const NANO_PER_GRAM: u128 = 1_000_000_000;
/// The smallest amount that four decimals show.
const NANO_PER_SHOWN: u128 = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, nano) in [
            ("0", 0),
            ("1", 1_000_000_000),
            ("0.5", 500_000_000),
            ("12.000000001", 12_000_000_001),
            ("007.10", 7_100_000_000),
        ] {
            assert_eq!(text.parse(), Ok(Gram::of(nano)), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_not_plainly_an_amount() {
        let widest = (1u128 << MAX_COINS_BITS) - 1;
        let text = |nano: u128| format!("{}.{:09}", nano / NANO_PER_GRAM, nano % NANO_PER_GRAM);
        assert_eq!(text(widest).parse(), Ok(Gram::of(widest)));
        for text in [
            "",
            ".",
            ".5",
            "1.",
            "-1",
            "+1",
            "1,5",
            "1e3",
            "1 GRAM",
            "1.0000000000",
            "1.2.3",
            "٣",
            &text(widest + 1),
            &"9".repeat(60),
        ] {
            assert!(matches!(text.parse::<Gram>(), Err(TonError::Amount { .. })), "{text}");
        }
    }

    #[test]
    fn shows_four_decimals_and_never_rounds_up_or_to_nothing() {
        for (nano, shown) in [
            (0, "0.0000 GRAM"),
            (1, "< 0.0001 GRAM"),
            (99_999, "< 0.0001 GRAM"),
            (100_000, "0.0001 GRAM"),
            (1_999_999_999, "1.9999 GRAM"),
            (12_000_000_001, "12.0000 GRAM"),
        ] {
            assert_eq!(Gram::of(nano).to_string(), shown);
        }
    }
}
