//! Object identifiers: as they stand in a certificate (content octets), and dotted for people.

use core::fmt::Write as _;

/// 2.23.133.5.4.9, TCG DICE `tcg-dice-TaggedEvidence`.
pub const OID_TAGGED_EVIDENCE: &[u8] = &[0x67, 0x81, 0x05, 0x05, 0x04, 0x09];
/// Gramine's bare quote. Gramine puts a whole encoded OID, tag and length, where the content
/// belongs; 1.2.840.113741.1337.6 was meant, and tools print 0.6.9.42.840.113741.1337.6.
pub const OID_GRAMINE_QUOTE: &[u8] =
    &[0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF8, 0x4D, 0x8A, 0x39, 0x06];
/// 1.2.840.113741.1.13.1, Intel's SGX extension, which its SDK sample reuses for a second copy of
/// the quote in the tagged evidence.
pub const OID_INTEL_COPY: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF8, 0x4D, 0x01, 0x0D, 0x01];
/// 1.3.6.1.4.1.12345.1, Cocoon's quote.
pub const OID_COCOON_QUOTE: &[u8] = &[0x2B, 0x06, 0x01, 0x04, 0x01, 0xE0, 0x39, 0x01];
/// 1.3.6.1.4.1.12345.2, Cocoon's claims: the raw key.
pub const OID_COCOON_CLAIMS: &[u8] = &[0x2B, 0x06, 0x01, 0x04, 0x01, 0xE0, 0x39, 0x02];

pub(crate) const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1D, 0x13];
pub(crate) const KEY_USAGE: &[u8] = &[0x55, 0x1D, 0x0F];
pub(crate) const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1D, 0x25];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1D, 0x11];
pub(crate) const SERVER_AUTH: &[u8] = &[0x2B, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
pub(crate) const CLIENT_AUTH: &[u8] = &[0x2B, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];
pub(crate) const ANY_PURPOSE: &[u8] = &[0x55, 0x1D, 0x25, 0x00];

/// Extensions that are understood here and therefore may be critical. Alternative names are
/// labels, as the subject is; the evidence formats settle their own criticality.
pub(crate) const MAY_BE_CRITICAL: [&[u8]; 9] = [
    BASIC_CONSTRAINTS,
    KEY_USAGE,
    EXTENDED_KEY_USAGE,
    SUBJECT_ALT_NAME,
    OID_TAGGED_EVIDENCE,
    OID_GRAMINE_QUOTE,
    OID_INTEL_COPY,
    OID_COCOON_QUOTE,
    OID_COCOON_CLAIMS,
];

/// The OID in dotted form; hex where it is no OID. Callers bound its length.
pub(crate) fn dotted(content: &[u8]) -> String {
    decode(content).unwrap_or_else(|| format!("0x{}", hex::encode(content)))
}

fn decode(content: &[u8]) -> Option<String> {
    let mut out = String::new();
    let mut arc = 0u64;
    for byte in content {
        arc = arc.checked_mul(0x80)?.checked_add(u64::from(byte & 0x7F))?;
        if byte & 0x80 != 0 {
            continue;
        }
        if out.is_empty() {
            // The first two arcs share a number; the first is 0, 1 or 2.
            let first = (arc / 40).min(2);
            write!(out, "{first}.{}", arc.checked_sub(first.checked_mul(40)?)?).ok()?;
        } else {
            write!(out, ".{arc}").ok()?;
        }
        arc = 0;
    }
    (content.last()? & 0x80 == 0).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oids_print_as_the_formats_name_them() {
        for (oid, text) in [
            (OID_TAGGED_EVIDENCE, "2.23.133.5.4.9"),
            (OID_GRAMINE_QUOTE, "0.6.9.42.840.113741.1337.6"),
            (OID_INTEL_COPY, "1.2.840.113741.1.13.1"),
            (OID_COCOON_QUOTE, "1.3.6.1.4.1.12345.1"),
            (OID_COCOON_CLAIMS, "1.3.6.1.4.1.12345.2"),
            (ANY_PURPOSE, "2.5.29.37.0"),
        ] {
            assert_eq!(dotted(oid), text);
        }
    }

    #[test]
    fn what_is_no_oid_prints_as_hex() {
        assert_eq!(dotted(&[]), "0x");
        assert_eq!(dotted(&[0x2A, 0x80]), "0x2a80");
        assert_eq!(dotted(&[0xFF; 12]), format!("0x{}", "ff".repeat(12)));
    }
}
