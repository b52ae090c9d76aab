//! Debian version order (Debian policy 5.6.12), to find the newest of what a mirror offers.

use std::cmp::Ordering;

/// Compares two Debian versions.
#[must_use]
pub fn compare(a: &str, b: &str) -> Ordering {
    let ((epoch_a, a), (epoch_b, b)) = (epoch(a), epoch(b));
    let ((upstream_a, revision_a), (upstream_b, revision_b)) = (revision(a), revision(b));
    numbers(epoch_a, epoch_b)
        .then_with(|| part(upstream_a, upstream_b))
        .then_with(|| part(revision_a, revision_b))
}

fn epoch(version: &str) -> (&str, &str) {
    version.split_once(':').unwrap_or(("0", version))
}

fn revision(version: &str) -> (&str, &str) {
    version.rsplit_once('-').unwrap_or((version, "0"))
}

/// Runs of non-digits and of digits in turn, from the left.
fn part(mut a: &str, mut b: &str) -> Ordering {
    while !a.is_empty() || !b.is_empty() {
        let ((text_a, rest_a), (text_b, rest_b)) = (run(a, false), run(b, false));
        let ((digits_a, rest_a), (digits_b, rest_b)) = (run(rest_a, true), run(rest_b, true));
        let order = words(text_a, text_b).then_with(|| numbers(digits_a, digits_b));
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
    Ordering::Equal
}

/// The longest run of digits, or of anything else, and the rest.
fn run(text: &str, digits: bool) -> (&str, &str) {
    let end = text.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

/// `~` before the end, the end before letters, letters before everything else.
fn words(a: &str, b: &str) -> Ordering {
    let weight = |byte: Option<u8>| match byte {
        Some(b'~') => -1,
        None => 0,
        Some(b) if b.is_ascii_alphabetic() => i32::from(b),
        Some(b) => i32::from(b).saturating_add(256),
    };
    let longest = a.len().max(b.len());
    (0..longest)
        .map(|i| weight(a.as_bytes().get(i).copied()).cmp(&weight(b.as_bytes().get(i).copied())))
        .find(|order| *order != Ordering::Equal)
        .unwrap_or(Ordering::Equal)
}

fn numbers(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDERED: &[&str] = &[
        "1.0~~",
        "1.0~~a",
        "1.0~",
        "1.0~rc1-1",
        "1.0",
        "1.0-1",
        "1.0-1+b1",
        "1.0-1.1",
        "1.0-2",
        "1.0a",
        "1.0+ds-1",
        "1.2",
        "1.10",
        "7.3.4-1~bpo13+1",
        "7.3.4-1",
        "2025.02-8",
        "2025.02-8+deb13u1",
        "2026.08+ds-2",
        "1:0.1",
    ];

    #[test]
    fn orders_versions_as_the_policy_does() {
        for (i, a) in ORDERED.iter().enumerate() {
            for (j, b) in ORDERED.iter().enumerate() {
                assert_eq!(compare(a, b), i.cmp(&j), "{a} and {b}");
            }
        }
        assert_eq!(compare("1.0", "0:1.0-0"), Ordering::Equal);
        assert_eq!(compare("1.007", "1.7"), Ordering::Equal);
    }

    #[test]
    fn agrees_with_dpkg_where_it_is_installed() {
        let ask = |a: &str, op: &str, b: &str| {
            std::process::Command::new("dpkg").args(["--compare-versions", a, op, b]).status()
        };
        for a in ORDERED {
            for b in ORDERED {
                let op = match compare(a, b) {
                    Ordering::Less => "lt",
                    Ordering::Equal => "eq",
                    Ordering::Greater => "gt",
                };
                let Ok(status) = ask(a, op, b) else {
                    eprintln!("skipped: dpkg is not installed");
                    return;
                };
                assert!(status.success(), "dpkg does not say {a} {op} {b}");
            }
        }
    }
}
