//! Splits the PEM certificate chain inside a quote. The bytes are attacker-controlled; only the one
//! canonical spelling is read, so no byte of a quote can change without changing its meaning.
//!
//! Intel's chains are the leaf, the platform CA and the root, base64 in lines of 64 characters,
//! with a final line feed and sometimes one zero byte.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Fewest and most certificates in a chain: the root may be left out, nothing may be added.
const CHAIN_LENGTH: core::ops::RangeInclusive<usize> = 2..=3;
const BEGIN: &str = "-----BEGIN CERTIFICATE-----\n";
const END: &str = "-----END CERTIFICATE-----\n";
const LINE: usize = 64;

/// The certificates of a canonical PEM chain as DER, leaf first, or what is wrong with it.
pub(crate) fn split(chain: &[u8]) -> Result<Vec<Vec<u8>>, &'static str> {
    let text = chain.strip_suffix(&[0]).unwrap_or(chain);
    let mut rest = core::str::from_utf8(text).map_err(|_| "not ASCII")?;
    let mut certificates = Vec::new();
    while !rest.is_empty() {
        if certificates.len() >= *CHAIN_LENGTH.end() {
            return Err("more than three certificates");
        }
        let body = rest.strip_prefix(BEGIN).ok_or("no BEGIN CERTIFICATE line where one must be")?;
        let (body, tail) = body.split_once(END).ok_or("no END CERTIFICATE line")?;
        certificates.push(decode(body).ok_or("base64 is not in its only allowed spelling")?);
        rest = tail;
    }
    if CHAIN_LENGTH.contains(&certificates.len()) {
        Ok(certificates)
    } else {
        Err("fewer than two certificates")
    }
}

fn decode(body: &str) -> Option<Vec<u8>> {
    let compact: String = body.split('\n').collect();
    let der = STANDARD.decode(&compact).ok()?;
    // Comparing with our own encoding refuses odd line lengths and white space in one step.
    (encode_lines(&der) == body).then_some(der)
}

fn encode_lines(der: &[u8]) -> String {
    let mut out = String::new();
    for line in STANDARD.encode(der).as_bytes().chunks(LINE) {
        out.extend(line.iter().map(|b| char::from(*b)));
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem(ders: &[&[u8]]) -> String {
        ders.iter().map(|d| format!("{BEGIN}{}{END}", encode_lines(d))).collect()
    }

    #[test]
    fn splits_two_or_three_certificates_with_or_without_a_zero_byte() {
        let (a, b, c) = ([1u8; 100], [2u8; 48], [3u8; 1]);
        let text = pem(&[&a, &b, &c]);
        assert_eq!(split(text.as_bytes()).unwrap(), [a.to_vec(), b.to_vec(), c.to_vec()]);
        assert_eq!(split(format!("{text}\0").as_bytes()).unwrap().len(), 3);
        assert_eq!(split(pem(&[&a, &b]).as_bytes()).unwrap().len(), 2);
    }

    #[test]
    fn refuses_one_and_four_certificates() {
        assert_eq!(split(pem(&[&[1]]).as_bytes()), Err("fewer than two certificates"));
        assert_eq!(
            split(pem(&[&[1], &[2], &[3], &[4]]).as_bytes()),
            Err("more than three certificates")
        );
        assert_eq!(split(b""), Err("fewer than two certificates"));
    }

    #[test]
    fn refuses_every_other_spelling_of_the_same_chain() {
        let text = pem(&[&[1u8; 100], &[2u8; 50]]);
        for other in [
            text.replace('\n', "\r\n"),
            format!("{text}\n"),
            format!(" {text}"),
            format!("{text}\0\0"),
            text.replacen("AQEB", "AQ\nEB", 1),
            text.replacen("-----BEGIN", "# comment\n-----BEGIN", 1),
            text.trim_end().to_owned(),
        ] {
            assert!(split(other.as_bytes()).is_err(), "accepted {other:?}");
        }
    }
}
