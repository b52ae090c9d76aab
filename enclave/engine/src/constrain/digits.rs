//! Whole numbers of a range, digit by digit.

use crate::constrain::program::Expr;

/// Every number from `low` to `high`, in decimal and without leading zeros.
pub(crate) fn between(low: u64, high: u64) -> Expr {
    let mut parts = Vec::new();
    let (mut from, mut most) = (low, 9u64);
    // One length after the other.
    while from <= high {
        if from <= most {
            let to = high.min(most);
            parts.push(same_length(&from.to_string(), &to.to_string()));
            from = most.saturating_add(1);
        }
        if most == u64::MAX {
            break;
        }
        most = most.saturating_mul(10).saturating_add(9);
    }
    Expr::Any(parts)
}

/// Every number from `low` to `high`, which have the same number of digits.
fn same_length(low: &str, high: &str) -> Expr {
    let (Some((a, low)), Some((b, high))) = (split(low), split(high)) else { return Expr::Empty };
    if a == b {
        return Expr::Seq(vec![Expr::Byte(a, a), same_length(low, high)]);
    }
    let count = u32::try_from(low.len()).unwrap_or(u32::MAX);
    let rest = || Expr::Repeat(Box::new(Expr::Byte(b'0', b'9')), count, Some(count));
    let mut parts = Vec::new();
    let (mut first, mut last) = (a, b);
    if low.bytes().any(|digit| digit != b'0') {
        parts.push(Expr::Seq(vec![Expr::Byte(a, a), same_length(low, &"9".repeat(low.len()))]));
        first = first.saturating_add(1);
    }
    if high.bytes().any(|digit| digit != b'9') {
        parts.push(Expr::Seq(vec![Expr::Byte(b, b), same_length(&"0".repeat(low.len()), high)]));
        last = last.saturating_sub(1);
    }
    if first <= last {
        parts.push(Expr::Seq(vec![Expr::Byte(first, last), rest()]));
    }
    Expr::Any(parts)
}

fn split(digits: &str) -> Option<(u8, &str)> {
    Some((*digits.as_bytes().first()?, digits.get(1..)?))
}
