//! Certificates made with the simulated platform and judged by the whole verifier: accepted in
//! every format, and refused for each thing that is wrong with platform, policy, clock or tier.

use std::sync::Arc;

use chrysalis_evidence::{AllowSim, Appraiser, Collateral, Pins, Role, RuleId};
use chrysalis_tee_sim::Faults;
use chrysalis_wire::UnixTime;

use super::sim::{
    self, HOUR, NOW, collateral, hardware_pins_text, identity, identity_with, order, pins,
    verifier, verifier_with,
};
use super::vector;
use crate::{
    CertificateVerifier, CollateralSource, Format, Identity, KeyKind, RatlsCertificate, RatlsError,
    Tier,
};

fn code(verifier: &CertificateVerifier, der: &[u8], now: UnixTime) -> &'static str {
    match verifier.verify(der, Role::Server, now).and_then(|appraised| appraised.accept()) {
        Ok(peer) => panic!("accepted: {peer:?}"),
        Err(error) => error.code(),
    }
}

#[test]
fn what_is_made_in_each_format_is_verified_in_it() {
    for format in Format::ALL {
        let identity = identity(format);
        let kind = if format == Format::Cocoon { KeyKind::Ed25519 } else { KeyKind::P256 };
        assert_eq!(identity.key().kind(), kind);
        assert_eq!(identity.not_after(), UnixTime(NOW.0 + HOUR));
        let certificate = RatlsCertificate::parse(identity.certificate()).unwrap();
        assert_eq!((certificate.format(), certificate.key()), (format, identity.key()));
        assert_eq!(certificate.validity(), (NOW, UnixTime(NOW.0 + HOUR)));
        for role in [Role::Server, Role::Client] {
            let appraised = verifier().verify(identity.certificate(), role, NOW).unwrap();
            assert_eq!((appraised.format(), appraised.key()), (format, identity.key()));
            assert!(appraised.verdict().accepted(), "{}", appraised.verdict());
            let peer = appraised.accept().unwrap();
            assert_eq!(peer.key(), identity.key());
            assert_eq!(peer.quote().pin_names(), ["sim"]);
            assert!(peer.quote().insecure_sim());
            assert_eq!(peer.expires(), UnixTime(NOW.0 + HOUR));
            let session = peer.session([1; 32], [2; 32]);
            assert_eq!(session.tls_spki, identity.key().spki_sha256());
            assert_eq!((session.nonce, session.exporter), ([1; 32], [2; 32]));
        }
    }
}

#[test]
fn keys_and_certificates_are_fresh_each_time() {
    let (one, other) = (identity(Format::Interoperable), identity(Format::Interoperable));
    assert_ne!(one.key(), other.key());
    assert_ne!(one.certificate(), other.certificate());
}

/// Recorded certificates have P-384 and Ed25519 keys; these have ours, and Gramine's bare quote.
#[test]
fn refuses_every_flipped_bit_and_every_truncation_of_a_made_certificate() {
    let identity = identity(Format::Gramine);
    let mut der = identity.certificate().to_vec();
    for length in 0..der.len() {
        assert!(RatlsCertificate::parse(&der[..length]).is_err(), "cut at {length}");
    }
    for bit in 0..der.len() * 8 {
        der[bit / 8] ^= 1 << (bit % 8);
        assert!(RatlsCertificate::parse(&der).is_err(), "bit {bit} is irrelevant");
        der[bit / 8] ^= 1 << (bit % 8);
    }
    assert!(RatlsCertificate::parse(&der).is_ok());
}

/// Another reader of X.509 agrees about the key, and stops at Cocoon's critical extensions: why
/// nothing here asks it.
#[test]
fn webpki_reads_what_is_made_except_for_cocoon() {
    for format in Format::ALL {
        let identity = identity(format);
        let parsed = rustls::server::ParsedCertificate::try_from(identity.certificate());
        match format {
            Format::Cocoon => assert!(parsed.is_err()),
            Format::Interoperable | Format::Gramine => {
                let spki = parsed.unwrap().subject_public_key_info();
                assert_eq!(spki.as_ref(), identity.key().spki());
            }
        }
    }
}

#[test]
fn evidence_of_lying_platforms_is_refused_by_the_rule_for_it() {
    for format in Format::ALL {
        for (faults, expected) in [
            (Faults { debug: true, ..Faults::default() }, "E-DEBUG"),
            (Faults { bad_signature: true, ..Faults::default() }, "E-DCAP"),
            (Faults { uncertified_key: true, ..Faults::default() }, "E-DCAP"),
            (Faults { truncated: true, ..Faults::default() }, "E-QUOTE-TRUNCATED"),
            (Faults { out_of_date: true, ..Faults::default() }, "E-TCB-STATUS"),
            (Faults { wrong_mr_seam: true, ..Faults::default() }, "E-SEAM"),
            (Faults { wrong_mrtd: true, ..Faults::default() }, "E-MRTD"),
        ] {
            let identity = identity_with(format, faults).unwrap();
            assert_eq!(code(&verifier(), identity.certificate(), NOW), expected, "{faults:?}");
        }
    }
}

#[test]
fn no_certificate_is_made_around_a_quote_of_something_else() {
    for format in Format::ALL {
        let wrong = Faults { wrong_report_data: true, ..Faults::default() };
        assert_eq!(identity_with(format, wrong).unwrap_err().code(), "E-RATLS-BINDING");
        let none = Faults { no_quote: true, ..Faults::default() };
        assert_eq!(identity_with(format, none).unwrap_err().code(), "E-RATLS-PROVIDER");
        let made = |answer: &[u8]| {
            let platform = |_: &[u8; 64]| Ok::<_, &str>(answer.to_vec());
            Identity::generate(&order(format), &platform).unwrap_err().code()
        };
        assert_eq!(made(b"no quote"), "E-RATLS-QUOTE");
        assert_eq!(made(&[0; 32 * 1024 + 1]), "E-RATLS-SIZE");
    }
}

#[test]
fn no_certificate_is_made_for_an_impossible_window() {
    let platform = |data: &[u8; 64]| Ok::<_, &str>(super::forge::quote(data));
    for (from, until) in [(5, 4), (0, 253_402_300_800), (u64::MAX, u64::MAX)] {
        let (not_before, not_after) = (UnixTime(from), UnixTime(until));
        let order = crate::Order { not_before, not_after, ..order(Format::Gramine) };
        let refused = Identity::generate(&order, &platform).unwrap_err();
        assert_eq!(refused, RatlsError::Validity { from: not_before, until: not_after });
    }
    let widest = crate::Order {
        not_before: UnixTime(0),
        not_after: UnixTime(253_402_300_799),
        ..order(Format::Gramine)
    };
    let identity = Identity::generate(&widest, &platform).unwrap();
    let certificate = RatlsCertificate::parse(identity.certificate()).unwrap();
    assert_eq!(certificate.validity(), (widest.not_before, widest.not_after));
}

/// The claimed report data is right, the signed one is too, but the certificate is another one's:
/// moving evidence to another key needs a quote the attacker cannot make.
#[test]
fn evidence_moved_to_another_key_is_refused() {
    let genuine = identity(Format::Gramine);
    let quote = RatlsCertificate::parse(genuine.certificate()).unwrap().quote().to_vec();
    let moved = super::forge::Forge::with(super::forge::Key::p256(), |_| {
        vec![super::forge::extension(crate::OID_GRAMINE_QUOTE, false, &quote)]
    });
    assert_eq!(code(&verifier(), &moved.sign(), NOW), "E-RATLS-BINDING");
    // With the claim patched to fit, the signature over it no longer holds.
    let patched = super::forge::Forge::with(super::forge::Key::p256(), |key| {
        let mut quote = quote.clone();
        quote[568..632].copy_from_slice(&Format::Gramine.report_data(key, &[]).0);
        vec![super::forge::extension(crate::OID_GRAMINE_QUOTE, false, &quote)]
    });
    assert_eq!(code(&verifier(), &patched.sign(), NOW), "E-DCAP");
}

#[test]
fn clock_formats_collateral_and_policy_are_obeyed() {
    let identity = identity(Format::Interoperable);
    let der = identity.certificate();
    assert_eq!(code(&verifier(), der, UnixTime(NOW.0 - 1)), "E-RATLS-EARLY");
    assert_eq!(code(&verifier(), der, UnixTime(NOW.0 + HOUR + 1)), "E-RATLS-EXPIRED");

    let formats =
        |list: &[Format]| CertificateVerifier::new(Appraiser::new(pins()), collateral(), list);
    for others in [&[][..], &[Format::Gramine, Format::Cocoon]] {
        assert_eq!(code(&formats(others), der, NOW), "E-RATLS-FORMAT");
    }

    #[derive(Debug)]
    struct Nothing;
    impl CollateralSource for Nothing {
        fn collateral(&self, _: &[u8]) -> Option<Arc<Collateral>> {
            None
        }
    }
    let bare = CertificateVerifier::new(Appraiser::new(pins()), Nothing, Format::ALL);
    assert_eq!(code(&bare, der, NOW), "E-RATLS-COLLATERAL");

    let production = Pins::parse(&hardware_pins_text("production"), AllowSim::No).unwrap();
    assert_eq!(code(&verifier_with(production), der, NOW), "E-ROOT");
}

#[test]
fn production_pins_never_trust_a_certificate_alone() {
    let production = Pins::parse(&hardware_pins_text("production"), AllowSim::No).unwrap();
    let refused = verifier_with(production).certificate_only().unwrap_err();
    assert_eq!(refused, RatlsError::CertificateOnly);

    let text = hardware_pins_text("INSECURE-CERTIFICATE-ONLY");
    assert!(Pins::parse(&text, AllowSim::Yes).is_err());
    let named = Pins::parse_certificate_only(&text).unwrap();
    let verifier = verifier_with(named).certificate_only().unwrap();
    assert!(matches!(verifier.tier(), Tier::CertificateOnly(_)));
}

#[test]
fn a_peer_of_a_live_session_verifier_is_not_trusted_without_one() {
    let identity = identity(Format::Cocoon);
    let peer = |verifier: &CertificateVerifier| {
        verifier.verify(identity.certificate(), Role::Client, NOW).unwrap().accept().unwrap()
    };
    assert_eq!(verifier().tier(), Tier::LiveSession);
    let refused = peer(&verifier()).without_live_session().unwrap_err();
    assert_eq!(refused, RatlsError::CertificateOnly);
    let loose = verifier().certificate_only().unwrap();
    let trusted = peer(&loose).without_live_session().unwrap();
    assert_eq!(trusted.key, *identity.key());
    assert_eq!(trusted.expires, UnixTime(NOW.0 + HOUR));
}

/// Recorded enclaves get as far as the policy, which names trust domains only; the two around filler
/// quotes end where their quotes do.
#[test]
fn recorded_certificates_are_refused_by_the_policy() {
    let now = UnixTime(1_751_000_000);
    for (file, expected, rule) in [
        ("gramine.der", "E-QUOTE-TEE", RuleId::QuoteForm),
        ("intel-sgxsdk.der", "E-QUOTE-TEE", RuleId::QuoteForm),
        ("own-generated-gramine-format.der", "E-QUOTE-TRUNCATED", RuleId::QuoteForm),
        ("own-generated-cocoon-format.der", "E-QUOTE-TRUNCATED", RuleId::QuoteForm),
    ] {
        let Some(der) = vector(&format!("attest/ratls/{file}")) else { return };
        let appraised = sim::verifier().verify(&der, Role::Server, now).unwrap();
        let refusal = appraised.verdict().result.as_ref().unwrap_err();
        assert_eq!((refusal.code, refusal.rule), (expected, rule), "{file}");
        assert!(matches!(appraised.accept(), Err(RatlsError::Refused(_))));
    }
}
