//! Reads the one timestamp spelling Intel's collateral uses, `2026-02-18T10:58:51Z`. Input is
//! collateral text; anything else is refused rather than guessed.

use chrysalis_wire::UnixTime;

/// Seconds since the epoch of `YYYY-MM-DDTHH:MM:SSZ`, or `None` if the text is not exactly that.
#[must_use]
pub fn parse_utc(text: &str) -> Option<UnixTime> {
    let b: &[u8; 20] = text.as_bytes().try_into().ok()?;
    let punctuation = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'Z')];
    if punctuation.iter().any(|(at, want)| b.get(*at) != Some(want)) {
        return None;
    }
    let number = |from: usize, to: usize| -> Option<u64> {
        b.get(from..to)?.iter().try_fold(0u64, |n, c| {
            let digit = char::from(*c).to_digit(10)?;
            n.checked_mul(10)?.checked_add(digit.into())
        })
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let in_month = days_in_month(year, month)?;
    if year < 1970 || day == 0 || day > in_month || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut days = day.checked_sub(1)?;
    for y in 1970..year {
        days = days.checked_add(if is_leap(y) { 366 } else { 365 })?;
    }
    for m in 1..month {
        days = days.checked_add(days_in_month(year, m)?)?;
    }
    let hours = days.checked_mul(24)?.checked_add(hour)?;
    let minutes = hours.checked_mul(60)?.checked_add(minute)?;
    minutes.checked_mul(60)?.checked_add(second).map(UnixTime)
}

const fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

const fn days_in_month(year: u64, month: u64) -> Option<u64> {
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => Some(31),
        4 | 6 | 9 | 11 => Some(30),
        2 => Some(if is_leap(year) { 29 } else { 28 }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_known_instants() {
        assert_eq!(parse_utc("1970-01-01T00:00:00Z"), Some(UnixTime(0)));
        assert_eq!(parse_utc("2000-02-29T12:00:00Z"), Some(UnixTime(951_825_600)));
        assert_eq!(parse_utc("2026-03-01T00:00:00Z"), Some(UnixTime(1_772_323_200)));
    }

    #[test]
    fn refuses_other_spellings_and_impossible_dates() {
        for text in [
            "2026-03-01T00:00:00+00:00",
            "2026-03-01 00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-01-00T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "1969-12-31T23:59:59Z",
            "+026-01-01T00:00:00Z",
            "2026-01-01T00:00:00Z ",
            "",
        ] {
            assert_eq!(parse_utc(text), None, "{text}");
        }
    }
}
