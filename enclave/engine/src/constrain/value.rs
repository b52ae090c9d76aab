//! The text of JSON values. What comes out is read by every reader: there is at most one space behind a comma
//! or a colon, numbers fit a double, and strings are UTF-8 without halves of characters.

use crate::constrain::digits;
use crate::constrain::program::Expr;

/// Any number of at most [`DIGITS`] digits before the point and behind it.
pub(crate) fn number() -> Expr {
    let digit = || Box::new(Expr::Byte(b'0', b'9'));
    let whole = digits::between(0, MOST.unsigned_abs());
    let fraction = Expr::Seq(vec![Expr::text("."), Expr::Repeat(digit(), 1, Some(DIGITS))]);
    let sign = Expr::Any(vec![Expr::text("+"), Expr::text("-")]).optional();
    let mark = Expr::Any(vec![Expr::text("e"), Expr::text("E")]);
    let exponent = Expr::Seq(vec![mark, sign, Expr::Repeat(digit(), 1, Some(2))]);
    Expr::Seq(vec![Expr::text("-").optional(), whole, fraction.optional(), exponent.optional()])
}

pub(crate) fn boolean() -> Expr {
    Expr::Any(vec![Expr::text("true"), Expr::text("false")])
}

pub(crate) fn separator() -> Expr {
    Expr::Seq(vec![Expr::text(","), Expr::text(" ").optional()])
}

pub(crate) fn colon() -> Expr {
    Expr::Seq(vec![Expr::text(":"), Expr::text(" ").optional()])
}

/// One character inside a string: UTF-8 as RFC 3629 has it, or an escape that is a character.
pub(crate) fn character() -> Expr {
    let tail = || Expr::Byte(0x80, 0xbf);
    let bytes = |parts: Vec<Expr>| Expr::Seq(parts);
    let hex =
        || Expr::Any(vec![Expr::Byte(b'0', b'9'), Expr::Byte(b'a', b'f'), Expr::Byte(b'A', b'F')]);
    let not_d = Expr::Any(vec![
        Expr::Byte(b'0', b'9'),
        Expr::Byte(b'a', b'c'),
        Expr::Byte(b'e', b'f'),
        Expr::Byte(b'A', b'C'),
        Expr::Byte(b'E', b'F'),
    ]);
    // D800 to DFFF are halves of a pair: a character beyond is written as itself.
    let after_d =
        Expr::Seq(vec![Expr::Any(vec![Expr::text("d"), Expr::text("D")]), Expr::Byte(b'0', b'7')]);
    let unicode = Expr::Seq(vec![
        Expr::text("u"),
        Expr::Any(vec![Expr::Seq(vec![not_d, hex()]), after_d]),
        hex(),
        hex(),
    ]);
    let mut escapes: Vec<Expr> = "\"\\/bfnrt".bytes().map(|b| Expr::Byte(b, b)).collect();
    escapes.push(unicode);
    Expr::Any(vec![
        Expr::Byte(0x20, 0x21),
        Expr::Byte(0x23, 0x5b),
        Expr::Byte(0x5d, 0x7f),
        bytes(vec![Expr::Byte(0xc2, 0xdf), tail()]),
        bytes(vec![Expr::Byte(0xe0, 0xe0), Expr::Byte(0xa0, 0xbf), tail()]),
        bytes(vec![Expr::Byte(0xe1, 0xec), tail(), tail()]),
        bytes(vec![Expr::Byte(0xed, 0xed), Expr::Byte(0x80, 0x9f), tail()]),
        bytes(vec![Expr::Byte(0xee, 0xef), tail(), tail()]),
        bytes(vec![Expr::Byte(0xf0, 0xf0), Expr::Byte(0x90, 0xbf), tail(), tail()]),
        bytes(vec![Expr::Byte(0xf1, 0xf3), tail(), tail(), tail()]),
        bytes(vec![Expr::Byte(0xf4, 0xf4), Expr::Byte(0x80, 0x8f), tail(), tail()]),
        bytes(vec![Expr::text("\\"), Expr::Any(escapes)]),
    ])
}

/// Digits before and behind the point: a double holds as many.
const DIGITS: u32 = 15;
/// The largest number of [`DIGITS`] digits.
pub(crate) const MOST: i64 = 999_999_999_999_999;
