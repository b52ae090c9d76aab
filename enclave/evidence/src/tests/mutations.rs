//! Mutants of a real quote. None may verify: every byte of a cut quote is covered by a signature,
//! a hash, a length or the canonical spelling of its certificate chain.

use super::Real;
use crate::dcap::verify;
use crate::{CutQuote, TrustRoot, cut_quote};

/// Every n-th byte is mutated in every run; the ignored test below takes every bit, and
/// `collateral_mutants` more patterns and the collateral.
const STEP: usize = 7;

fn accepted(real: &Real, mutant: &[u8]) -> bool {
    let Ok(cut) = CutQuote::parse(mutant) else { return false };
    verify(&cut, &real.collateral, &TrustRoot::Intel, real.now).is_ok()
}

#[test]
fn refuses_every_seventh_byte_flipped() {
    let Some(real) = Real::td10() else { return };
    let whole = cut_quote(&real.quote).unwrap().to_vec();
    assert!(accepted(&real, &whole));
    for at in (0..whole.len()).step_by(STEP) {
        let mut mutant = whole.clone();
        mutant[at] ^= 1 << (at % 8);
        assert!(!accepted(&real, &mutant), "accepted with bit {} of byte {at} flipped", at % 8);
    }
}

/// All 39,488 single-bit mutants, in some fifteen seconds.
#[test]
#[ignore = "takes fifteen seconds: scripts/exhaustive"]
fn refuses_every_bit_flipped() {
    let Some(real) = Real::td10() else { return };
    let whole = cut_quote(&real.quote).unwrap().to_vec();
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut mutant = whole.clone();
            mutant[at] ^= 1 << bit;
            assert!(!accepted(&real, &mutant), "accepted with bit {bit} of byte {at} flipped");
        }
    }
}

#[test]
fn refuses_every_truncation_without_a_panic() {
    let Some(real) = Real::td15ex() else { return };
    let whole = cut_quote(&real.quote).unwrap();
    for len in 0..whole.len() {
        assert!(CutQuote::parse(&whole[..len]).is_err(), "accepted {len} bytes");
    }
}

#[test]
fn refuses_every_truncation_of_quotes_of_each_version() {
    for name in ["attest/dcap/sgx_quote", "attest/dcap/tdx_quote", "attest/dcap/tdx_quote_outdated"]
    {
        let Some(raw) = super::vector(name) else { return };
        let whole = cut_quote(&raw).unwrap();
        assert!((0..whole.len()).all(|len| CutQuote::parse(&whole[..len]).is_err()), "{name}");
    }
}

#[test]
fn bytes_after_the_end_are_cut_and_change_no_digest() {
    let Some(real) = Real::td10() else { return };
    let cut = CutQuote::parse(&real.quote).unwrap();
    assert_eq!((cut.ignored(), cut.bytes().len()), (70, real.quote.len() - 70));
    let mut padded = cut.bytes().to_vec();
    padded.extend([0xaa; 500]);
    let again = CutQuote::parse(&padded).unwrap();
    assert_eq!((again.digest(), again.ignored()), (cut.digest(), 500));
    let mut other = cut.bytes().to_vec();
    // A changed signature is other evidence: the digest covers it.
    other[48 + 584 + 4] ^= 1;
    assert_ne!(CutQuote::parse(&other).unwrap().digest(), cut.digest());
}

#[test]
fn refuses_a_quote_with_its_root_certificate_replaced_or_missing_lines() {
    let Some(real) = Real::td10() else { return };
    let whole = cut_quote(&real.quote).unwrap();
    let begin = b"-----BEGIN CERTIFICATE-----\n";
    let last = whole.windows(begin.len()).rposition(|w| w == begin).unwrap();
    let mut mutant = whole.to_vec();
    // Another letter inside the base64 of the root, which no signature covers.
    mutant[last + begin.len() + 10] =
        if mutant[last + begin.len() + 10] == b'A' { b'B' } else { b'A' };
    assert!(!accepted(&real, &mutant));
}

#[test]
fn refuses_one_byte_over_the_size_limit() {
    let Some(real) = Real::td10() else { return };
    let mut padded = real.quote;
    padded.resize(chrysalis_wire::limits::MAX_QUOTE_BYTES, 0);
    assert!(CutQuote::parse(&padded).is_ok());
    padded.push(0);
    assert_eq!(CutQuote::parse(&padded).unwrap_err().code(), "E-QUOTE-SIZE");
}

#[test]
fn refuses_unknown_versions_bodies_key_types_and_certification_types() {
    let (Some(v4), Some(v5)) = (Real::td10(), Real::td15ex()) else { return };
    let code = |real: &Real, at: usize, value: u8| {
        let mut mutant = real.quote.clone();
        mutant[at] = value;
        CutQuote::parse(&mutant).unwrap_err().code()
    };
    assert_eq!(code(&v4, 0, 6), "E-QUOTE-VERSION");
    assert_eq!(code(&v4, 0, 3), "E-QUOTE-VERSION");
    assert_eq!(code(&v4, 2, 3), "E-QUOTE-KEY-TYPE");
    assert_eq!(code(&v4, 4, 1), "E-QUOTE-VERSION");
    // Called an enclave's, its lengths lie elsewhere.
    assert_eq!(code(&v4, 4, 0), "E-QUOTE-TRUNCATED");
    assert_eq!(code(&v5, 4, 0), "E-QUOTE-BODY");
    assert_eq!(code(&v5, 48, 5), "E-QUOTE-BODY");
    assert_eq!(code(&v5, 48, 3), "E-QUOTE-BODY");
    assert_eq!(code(&v5, 50, 0), "E-QUOTE-BODY");
    let certification = 48 + 584 + 4 + 128;
    assert_eq!(code(&v4, certification, 5), "E-QUOTE-CERT-TYPE");
    let inner = certification + 6 + 384 + 64 + 2 + 32;
    assert_eq!(code(&v4, inner, 3), "E-QUOTE-CERT-TYPE");
    let mut longer = cut_quote(&v4.quote).unwrap().to_vec();
    let length = u32::from_le_bytes(longer[632..636].try_into().unwrap()) + 1;
    longer[632..636].copy_from_slice(&length.to_le_bytes());
    longer.push(0);
    assert_eq!(CutQuote::parse(&longer).unwrap_err().code(), "E-QUOTE-TRAILING");
}

proptest::proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(0u8..=255, 0..2000)) {
        let _ = CutQuote::parse(&bytes);
    }
}
