//! Mutants of the collateral of a real quote, and truncations of everything an appraisal reads.
//!
//! A bundle has bytes that mean nothing, so "no mutant verifies" would be false. What holds, and is
//! tested here: a mutant that verifies states the same facts to the byte, and the facts are all that
//! is read of a bundle. The bytes that mean nothing are therefore
//!
//! * JSON white space, the case of hex digits, and the names of fields that are not read;
//! * PEM line ends and what stands around a certificate;
//! * behind the first certificate of the signer's two chains: copies of the root, which a verifier
//!   has pinned;
//! * the chain of the PCK list's issuer: the quote brings that certificate itself.

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use dcap_qvl::QuoteCollateralV3;

use super::{Real, parse_pins};
use crate::dcap::verify;
use crate::{AllowSim, Collateral, Pins, TrustRoot};

/// What a bundle says, once what means nothing is left out.
#[derive(Debug, PartialEq, Eq)]
struct Facts {
    texts: [String; 2],
    signatures: [Vec<u8>; 2],
    lists: [Vec<u8>; 2],
    signers: [Vec<u8>; 2],
}

impl Facts {
    fn of(collateral: &Collateral) -> Option<Self> {
        let c = collateral.dcap();
        Some(Self {
            texts: [c.tcb_info.clone(), c.qe_identity.clone()],
            signatures: [c.tcb_info_signature.clone(), c.qe_identity_signature.clone()],
            lists: [c.pck_crl.clone(), c.root_ca_crl.clone()],
            signers: [signer(&c.tcb_info_issuer_chain)?, signer(&c.qe_identity_issuer_chain)?],
        })
    }

    /// A bundle of the facts and nothing else.
    fn bare(self) -> Collateral {
        let pem = |der: &[u8]| {
            let body = base64::engine::general_purpose::STANDARD.encode(der);
            format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
        };
        let [tcb_info_issuer_chain, qe_identity_issuer_chain] = self.signers.map(|der| pem(&der));
        let [tcb_info, qe_identity] = self.texts;
        let [tcb_info_signature, qe_identity_signature] = self.signatures;
        let [pck_crl, root_ca_crl] = self.lists;
        Collateral::new(QuoteCollateralV3 {
            pck_crl_issuer_chain: String::new(),
            root_ca_crl,
            pck_crl,
            tcb_info_issuer_chain,
            tcb_info,
            tcb_info_signature,
            qe_identity_issuer_chain,
            qe_identity,
            qe_identity_signature,
            pck_certificate_chain: None,
        })
    }
}

/// The first certificate of a chain, whatever its line ends.
fn signer(chain: &str) -> Option<Vec<u8>> {
    let (_, rest) = chain.split_once("-----BEGIN CERTIFICATE-----")?;
    let (body, _) = rest.split_once("-----END CERTIFICATE-----")?;
    let body: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let lenient = GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(&base64::alphabet::STANDARD, lenient).decode(body).ok()
}

/// The library's claims, whole, or nothing.
fn claims(real: &Real, collateral: &Collateral) -> Option<String> {
    let verified = verify(&real.cut(), collateral, &TrustRoot::Intel, real.now).ok()?;
    Some(format!("{:?}", verified.claims()))
}

/// Mutants of every `step`-th byte; how many there were, and how many of them mean the same.
fn mutate(real: &Real, step: usize) -> (usize, usize) {
    let (facts, genuine) = (Facts::of(&real.collateral).unwrap(), claims(real, &real.collateral));
    assert!(genuine.is_some());
    let mut bundle = real.collateral.to_json().into_bytes();
    let (mut mutants, mut same) = (0, 0);
    for at in (0..bundle.len()).step_by(step) {
        let byte = bundle[at];
        for flip in PATTERNS {
            bundle[at] = byte ^ flip;
            mutants += 1;
            if let Ok(mutant) = Collateral::parse(&bundle)
                && let Some(found) = claims(real, &mutant)
            {
                let end = bundle.len().min(at + 20);
                let around = String::from_utf8_lossy(&bundle[at.saturating_sub(20)..end]);
                let accepted = format!("accepted byte {at} as {:#x}: {around:?}", bundle[at]);
                assert_eq!(Facts::of(&mutant).as_ref(), Some(&facts), "{accepted}");
                assert_eq!(Some(found), genuine, "{accepted}");
                same += 1;
            }
        }
        bundle[at] = byte;
    }
    (mutants, same)
}

#[test]
fn nothing_but_the_facts_of_a_bundle_is_read() {
    for real in [Real::td10(), Real::cocoon(), Real::td15ex()] {
        let Some(real) = real else { return };
        let bare = Facts::of(&real.collateral).unwrap().bare();
        assert!(bare.to_json().len() < real.collateral.to_json().len());
        assert_eq!(claims(&real, &bare), claims(&real, &real.collateral));
        assert!(claims(&real, &bare).is_some());
    }
}

#[test]
fn accepts_a_sample_of_mutants_only_if_they_state_the_same_facts() {
    let Some(real) = Real::td10() else { return };
    let (mutants, same) = mutate(&real, 23);
    assert!(mutants > 2000 && same < mutants / 2, "{same} of {mutants}");
}

/// Every byte of the bundle, four ways: some 60,000 mutants.
#[test]
#[ignore = "takes a minute: scripts/exhaustive"]
fn accepts_any_mutant_only_if_it_states_the_same_facts() {
    let Some(real) = Real::td10() else { return };
    let (mutants, same) = mutate(&real, 1);
    eprintln!("{mutants} mutants of a bundle; {same} state the same facts, the others are refused");
    assert!(mutants > 50_000, "{mutants}");
}

/// Every byte of a quote, four ways: none verifies.
#[test]
#[ignore = "takes a minute: scripts/exhaustive"]
fn refuses_every_mutant_of_a_quote() {
    let Some(real) = Real::td10() else { return };
    let mut quote = real.cut().bytes().to_vec();
    let mut mutants = 0;
    for at in 0..quote.len() {
        let byte = quote[at];
        for flip in PATTERNS {
            quote[at] = byte ^ flip;
            let mutant = Real { quote: quote.clone(), ..real.clone() };
            let verified = crate::CutQuote::parse(&mutant.quote).is_ok_and(|cut| {
                verify(&cut, &real.collateral, &TrustRoot::Intel, real.now).is_ok()
            });
            assert!(!verified, "accepted byte {at} as {:#x}", quote[at]);
            mutants += 1;
        }
        quote[at] = byte;
    }
    eprintln!("{mutants} mutants of a quote, all refused");
    assert_eq!(mutants, quote.len() * PATTERNS.len());
}

#[test]
fn refuses_every_truncation_of_a_bundle() {
    for real in [Real::td10(), Real::td15ex()] {
        let Some(real) = real else { return };
        let bundle = real.collateral.to_json();
        for length in 0..bundle.len() {
            let cut = Collateral::parse(&bundle.as_bytes()[..length]);
            assert!(cut.is_err(), "accepted {length} bytes");
        }
    }
}

/// Every part of a bundle, cut at every length: signed text, signatures, lists and chains.
#[test]
fn refuses_a_bundle_with_any_part_cut_short() {
    let Some(real) = Real::td10() else { return };
    let parts: [fn(&mut QuoteCollateralV3) -> Part<'_>; 8] = [
        |c| Part::Text(&mut c.tcb_info),
        |c| Part::Text(&mut c.qe_identity),
        |c| Part::Bytes(&mut c.tcb_info_signature),
        |c| Part::Bytes(&mut c.qe_identity_signature),
        |c| Part::Bytes(&mut c.pck_crl),
        |c| Part::Bytes(&mut c.root_ca_crl),
        |c| Part::First(&mut c.tcb_info_issuer_chain),
        |c| Part::First(&mut c.qe_identity_issuer_chain),
    ];
    for (index, part) in parts.iter().enumerate() {
        let whole = part(&mut real.collateral.dcap().clone()).length();
        for length in (0..whole).step_by(CUT_STEP).chain([whole - 1]) {
            let mut inner = real.collateral.dcap().clone();
            part(&mut inner).cut(length);
            let cut = claims(&real, &Collateral::new(inner));
            assert!(cut.is_none(), "accepted {length} of {whole} bytes of part {index}");
        }
    }
}

enum Part<'a> {
    Text(&'a mut String),
    Bytes(&'a mut Vec<u8>),
    /// The first certificate of a chain.
    First(&'a mut String),
}

impl Part<'_> {
    fn length(&self) -> usize {
        match self {
            Part::Text(text) => text.len(),
            Part::Bytes(bytes) => bytes.len(),
            // Without its last line feed, which means nothing.
            Part::First(chain) => {
                chain.find("-----END").unwrap() + "-----END CERTIFICATE-----".len()
            }
        }
    }

    fn cut(self, length: usize) {
        match self {
            Part::Text(text) | Part::First(text) => text.truncate(length),
            Part::Bytes(bytes) => bytes.truncate(length),
        }
    }
}

/// A pins file that ends early accepts nothing more than the whole one.
#[test]
fn a_truncated_pins_file_is_refused_or_stricter() {
    let text = include_str!("../../../../manifests/pins.example.toml");
    let whole = parse_pins(text);
    for length in (0..text.len()).filter(|length| text.is_char_boundary(*length)) {
        let Ok(cut) = Pins::parse(&text[..length], AllowSim::No) else { continue };
        assert_eq!((cut.workers(), cut.network()), (whole.workers(), whole.network()));
        let (cut, all) = (cut.platform(), whole.platform());
        assert_eq!((&cut.td_attributes, &cut.xfam), (&all.td_attributes, &all.xfam));
        assert_eq!((&cut.mr_seam, &cut.mr_config_id), (&all.mr_seam, &all.mr_config_id));
        assert_eq!(cut.max_collateral_age_days, all.max_collateral_age_days);
        assert!(cut.allow_smt <= all.allow_smt && cut.allow_cached_keys <= all.allow_cached_keys);
        // "18" cut to "1" lowers the number; every flag is missing then, and missing is refused.
        if cut.min_tcb_evaluation_number != all.min_tcb_evaluation_number {
            assert!(!(cut.allow_dynamic_platform || cut.allow_cached_keys || cut.allow_smt));
        }
    }
}

/// A bit, the case of a letter, the high bit, all bits.
const PATTERNS: [u8; 4] = [0x01, 0x20, 0x80, 0xFF];
/// Cuts of texts are tried every so many bytes: each costs signature verifications.
const CUT_STEP: usize = 7;
