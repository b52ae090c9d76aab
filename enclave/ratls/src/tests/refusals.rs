//! One certificate per way to be refused, each made right except for one thing.

use chrysalis_evidence::Role;
use chrysalis_wire::UnixTime;

use super::forge::{
    BASIC_CONSTRAINTS, EXTENDED_KEY_USAGE, Forge, KEY_USAGE, Key, der, evidence, extension, quote,
    tagged, validity,
};
use crate::oid::{
    OID_COCOON_CLAIMS, OID_COCOON_QUOTE, OID_GRAMINE_QUOTE, OID_INTEL_COPY, OID_TAGGED_EVIDENCE,
};
use crate::{
    CborError, Claims, Format, KeyKind, MAX_CERTIFICATE_BYTES, MAX_CLAIMS_BYTES,
    MAX_EXTENSION_BYTES, MAX_EXTENSIONS, MAX_OID_BYTES, MAX_SERIAL_BYTES, PublicKey,
    RatlsCertificate, RatlsError, TaggedEvidence,
};

fn refused(forge: &Forge) -> RatlsError {
    refused_der(&forge.sign())
}

fn refused_der(bytes: &[u8]) -> RatlsError {
    match RatlsCertificate::parse(bytes) {
        Ok(accepted) => panic!("accepted: {accepted:?}"),
        Err(error) => error,
    }
}

fn der_error(what: &'static str, reason: &'static str) -> RatlsError {
    RatlsError::Der { what, reason }
}

#[test]
fn what_the_forge_makes_is_accepted_until_something_is_wrong_with_it() {
    for format in Format::ALL {
        let der = Forge::new(format).sign();
        let certificate = RatlsCertificate::parse(&der).unwrap();
        assert_eq!(certificate.format(), format);
        // 2026-01-01 and 2027-01-01.
        assert_eq!(certificate.validity(), (UnixTime(1_767_225_600), UnixTime(1_798_761_600)));
    }
    let both = Forge::with(Key::p256(), |key| {
        [evidence(Format::Gramine, key), evidence(Format::Interoperable, key)].concat()
    });
    let der = both.sign();
    assert_eq!(RatlsCertificate::parse(&der).unwrap().format(), Format::Interoperable);
}

#[test]
fn refuses_a_certificate_or_a_part_of_it_over_its_limit() {
    let too_large = |what, limit: usize| RatlsError::TooLarge { what, limit, got: limit + 1 };
    let huge = vec![0; MAX_CERTIFICATE_BYTES + 1];
    assert_eq!(refused_der(&huge), too_large("certificate", MAX_CERTIFICATE_BYTES));
    assert_eq!(refused_der(&huge[1..]).code(), "E-RATLS-DER");

    let made = || Forge::new(Format::Gramine);
    let other = |n: u8| extension(&[0x2A, n], false, &[]);
    let many = |count: usize| (1..count).map(|n| other(n as u8)).fold(made(), Forge::extended);
    assert!(RatlsCertificate::parse(&many(MAX_EXTENSIONS).sign()).is_ok());
    assert_eq!(refused(&many(MAX_EXTENSIONS + 1)), too_large("extensions", MAX_EXTENSIONS));

    let sized = |length| made().extended(extension(&[0x2A, 1], false, &vec![0; length]));
    assert!(RatlsCertificate::parse(&sized(MAX_EXTENSION_BYTES).sign()).is_ok());
    let over = refused(&sized(MAX_EXTENSION_BYTES + 1));
    assert_eq!(over, too_large("extension value", MAX_EXTENSION_BYTES));

    let named = |length| made().extended(extension(&vec![0x2A; length], false, &[]));
    assert!(RatlsCertificate::parse(&named(MAX_OID_BYTES).sign()).is_ok());
    assert_eq!(refused(&named(MAX_OID_BYTES + 1)), too_large("extension OID", MAX_OID_BYTES));

    let numbered = |length| Forge { serial: der(2, &vec![1; length]), ..made() };
    assert!(RatlsCertificate::parse(&numbered(MAX_SERIAL_BYTES).sign()).is_ok());
    let over = refused(&numbered(MAX_SERIAL_BYTES + 1));
    assert_eq!(over, too_large("serial number", MAX_SERIAL_BYTES));

    let claims = vec![0; MAX_CLAIMS_BYTES + 1];
    let value = TaggedEvidence { quote: &[], claims: &claims }.encode();
    let over = TaggedEvidence::parse(&value).unwrap_err();
    assert_eq!(over, too_large("claims", MAX_CLAIMS_BYTES));
    assert_eq!(Claims::parse(&claims).unwrap_err(), too_large("claims", MAX_CLAIMS_BYTES));
    let quote = vec![0; 32 * 1024 + 1];
    let value = TaggedEvidence { quote: &quote, claims: &[] }.encode();
    assert_eq!(TaggedEvidence::parse(&value).unwrap_err(), too_large("quote", 32 * 1024));
}

#[test]
fn refuses_bytes_behind_every_part() {
    let trailing = |what, got| RatlsError::Trailing { what, got };
    let made = || Forge::new(Format::Interoperable);
    let whole = made().sign();
    assert_eq!(refused_der(&[&whole[..], &[0, 0]].concat()), trailing("certificate", 2));
    let inner = der(0x30, &[&whole[4..], &[5, 0]].concat());
    assert_eq!(refused_der(&inner), trailing("certificate", 2));
    let tail = Forge { tail: vec![5, 0], ..made() };
    assert_eq!(refused(&tail), trailing("to-be-signed certificate", 2));
    let version = Forge { version: der(0xA0, &[2, 1, 2, 5, 0]), ..made() };
    assert_eq!(refused(&version), trailing("version", 2));
    let third = der(0x30, &[&validity("260101000000Z", "270101000000Z")[2..], &[5, 0]].concat());
    assert_eq!(refused(&Forge { validity: third, ..made() }), trailing("validity", 2));
    let fields = [der(6, &[0x2A, 1]), der(4, &[]), vec![5, 0]].concat();
    assert_eq!(refused(&made().extended(der(0x30, &fields))), trailing("extension", 2));
    let basic = made().extended(extension(BASIC_CONSTRAINTS, false, &[0x30, 0, 0]));
    assert_eq!(refused(&basic), trailing("basic constraints", 1));
}

#[test]
fn refuses_another_version_than_3() {
    for version in [vec![], der(0xA0, &[2, 1, 0]), der(0xA0, &[2, 1, 1]), der(0xA0, &[2, 1, 3])] {
        let forge = Forge { version, ..Forge::new(Format::Cocoon) };
        assert_eq!(refused(&forge), RatlsError::Version);
    }
}

#[test]
fn refuses_a_serial_number_that_is_negative_or_padded() {
    let expected = der_error("serial number", "is negative or not in its shortest form");
    for content in [&[][..], &[0x80], &[0, 1]] {
        let forge = Forge { serial: der(2, content), ..Forge::new(Format::Cocoon) };
        assert_eq!(refused(&forge), expected);
    }
}

#[test]
fn refuses_a_certificate_of_another_issuer() {
    let issuer = der(0x30, &der(0x31, &[]));
    let forge = Forge { issuer, ..Forge::new(Format::Gramine) };
    assert_eq!(refused(&forge), RatlsError::NotSelfIssued);
}

#[test]
fn refuses_keys_of_other_kinds_and_sizes() {
    let made = || Forge::new(Format::Gramine);
    let good = made().spki;
    // RSA, a compressed point, an Ed25519 key one byte short, P-256 named for a P-384 point.
    let rsa = der(
        0x30,
        &[&hex::decode("300d06092a864886f70d0101010500").unwrap()[..], &der(3, &[0, 1])].concat(),
    );
    let algorithm = &good[2..23];
    let compressed = der(0x30, &[algorithm, &der(3, &[&[0, 2][..], &[1; 32]].concat())].concat());
    let short =
        der(0x30, &[&hex::decode("300506032b6570").unwrap()[..], &der(3, &[0; 32])].concat());
    let long = der(0x30, &[algorithm, &der(3, &[&[0, 4][..], &[1; 96]].concat())].concat());
    for spki in [rsa, compressed, short, long] {
        assert_eq!(refused(&Forge { spki, ..made() }), RatlsError::KeyKind);
    }
    let bits = der(0x30, &[algorithm, &der(3, &[&[1, 4][..], &[1; 64]].concat())].concat());
    let expected = der_error("public key", "is not a whole number of bytes");
    assert_eq!(refused(&Forge { spki: bits, ..made() }), expected);
}

#[test]
fn refuses_keys_the_format_does_not_allow() {
    for (key, format) in [
        (Key::ed25519(), Format::Interoperable),
        (Key::ed25519(), Format::Gramine),
        (Key::p256(), Format::Cocoon),
    ] {
        let kind = key.public().kind();
        let forge = Forge::with(key, |key| evidence(format, key));
        assert_eq!(refused(&forge), RatlsError::KeyOfFormat { format, kind });
    }
}

#[test]
fn refuses_signatures_by_another_key_and_another_algorithm() {
    let mut forge = Forge::new(Format::Gramine);
    forge.key = Key::p256();
    assert_eq!(refused(&forge), RatlsError::Signature);

    let mut whole = Forge::new(Format::Cocoon).sign();
    *whole.last_mut().unwrap() ^= 1;
    assert_eq!(refused_der(&whole), RatlsError::Signature);

    // ecdsa-with-SHA512 and Ed25519 for an ECDSA key; NULL parameters for Ed25519.
    let kind = KeyKind::P256;
    for algorithm in ["300a06082a8648ce3d040304", "300506032b6570"] {
        let algorithm = hex::decode(algorithm).unwrap();
        let forge = Forge { algorithm, ..Forge::new(Format::Gramine) };
        assert_eq!(refused(&forge), RatlsError::SignatureAlgorithm { kind });
    }
    let algorithm = hex::decode("300706032b65700500").unwrap();
    let forge = Forge { algorithm, ..Forge::new(Format::Cocoon) };
    assert_eq!(refused(&forge), RatlsError::SignatureAlgorithm { kind: KeyKind::Ed25519 });
    let algorithm = hex::decode("300d06082a8648ce3d0403020501ff").unwrap();
    let forge = Forge { algorithm, ..Forge::new(Format::Gramine) };
    assert_eq!(refused(&forge), der_error("signature algorithm", "NULL holds bytes"));

    let outer_algorithm = Some(hex::decode("300a06082a8648ce3d040303").unwrap());
    let forge = Forge { outer_algorithm, ..Forge::new(Format::Gramine) };
    let reason = "differs inside and outside of what is signed";
    assert_eq!(refused(&forge), der_error("signature algorithm", reason));
}

#[test]
fn takes_gramines_null_behind_its_signature_algorithm() {
    let algorithm = hex::decode("300c06082a8648ce3d0403020500").unwrap();
    let der = Forge { algorithm, ..Forge::new(Format::Gramine) }.sign();
    assert!(RatlsCertificate::parse(&der).is_ok());
}

#[test]
fn refuses_windows_that_end_before_they_begin() {
    let made =
        |from, until| Forge { validity: validity(from, until), ..Forge::new(Format::Cocoon) };
    let (from, until) = (UnixTime(1_767_225_600), UnixTime(1_767_225_599));
    let refusal = refused(&made("260101000000Z", "251231235959Z"));
    assert_eq!(refusal, RatlsError::Validity { from, until });
    let der = made("260101000000Z", "20260101000000Z").sign();
    assert_eq!(RatlsCertificate::parse(&der).unwrap().validity(), (from, from));
}

#[test]
fn refuses_every_other_spelling_of_a_time() {
    let expected = der_error("validity", "is not a time from 1970 to 9999");
    for text in [
        "2601010000Z",
        "260101000000z",
        "260101000000+0000",
        "20260101000000.0Z",
        "260230000000Z",
        "500101000000Z",
        "19691231235959Z",
        "2026010100000Z",
        "+60101000000Z",
        "",
    ] {
        for (from, until) in [(text, "20990101000000Z"), ("700101000000Z", text)] {
            let forge = Forge { validity: validity(from, until), ..Forge::new(Format::Cocoon) };
            assert_eq!(refused(&forge), expected, "{text}");
        }
    }
}

#[test]
fn refuses_an_extension_that_stands_twice() {
    for format in Format::ALL {
        let forge = Forge::new(format);
        let again = forge.extensions[0].clone();
        assert_eq!(refused(&forge.extended(again)).code(), "E-RATLS-DUPLICATE");
    }
    let twice = (0..2).fold(Forge::new(Format::Cocoon), |forge, n| {
        forge.extended(extension(&[0x2A, 3], false, &[n]))
    });
    assert_eq!(refused(&twice), RatlsError::DuplicateExtension { oid: "1.2.3".to_owned() });
}

#[test]
fn refuses_unknown_extensions_only_if_they_are_critical() {
    let with = |critical| {
        Forge::new(Format::Interoperable).extended(extension(&[0x2A, 3], critical, b"?"))
    };
    assert!(RatlsCertificate::parse(&with(false).sign()).is_ok());
    assert_eq!(refused(&with(true)), RatlsError::UnknownCritical { oid: "1.2.3".to_owned() });
    for boolean in [&[1, 1, 0][..], &[1, 1, 1], &[1, 0]] {
        let fields = [der(6, &[0x2A, 3]), boolean.to_vec(), der(4, &[])].concat();
        let forge = Forge::new(Format::Gramine).extended(der(0x30, &fields));
        assert_eq!(refused(&forge), der_error("criticality", "is not TRUE or absent"));
    }
}

#[test]
fn refuses_evidence_of_the_wrong_criticality() {
    for (format, oids, expected) in [
        (Format::Interoperable, &[OID_TAGGED_EVIDENCE][..], false),
        (Format::Gramine, &[OID_GRAMINE_QUOTE], false),
        (Format::Cocoon, &[OID_COCOON_QUOTE, OID_COCOON_CLAIMS], true),
    ] {
        for (index, oid) in oids.iter().enumerate() {
            let mut forge = Forge::new(format);
            forge.extensions[index] = extension(oid, !expected, b"?");
            let oid = crate::oid::dotted(oid);
            assert_eq!(refused(&forge), RatlsError::Criticality { oid, expected });
        }
    }
}

#[test]
fn refuses_certificate_authorities() {
    for value in ["30030101ff", "30060101ff020100"] {
        let value = hex::decode(value).unwrap();
        let forge =
            Forge::new(Format::Gramine).extended(extension(BASIC_CONSTRAINTS, true, &value));
        assert_eq!(refused(&forge), RatlsError::Authority);
    }
    let end_entity = extension(BASIC_CONSTRAINTS, true, &[0x30, 0]);
    assert!(
        RatlsCertificate::parse(&Forge::new(Format::Gramine).extended(end_entity).sign()).is_ok()
    );
}

#[test]
fn obeys_key_usage_and_extended_key_usage() {
    let usage = |bits: &[u8]| {
        Forge::new(Format::Gramine).extended(extension(KEY_USAGE, true, &der(3, bits)))
    };
    assert!(RatlsCertificate::parse(&usage(&[7, 0x80]).sign()).is_ok());
    for bits in [&[6, 0x40][..], &[], &[0], &[8, 0x80]] {
        let purpose = "digital signatures";
        assert_eq!(refused(&usage(bits)), RatlsError::Purpose { purpose }, "{bits:?}");
    }

    let purposes = |list: &[&str]| {
        let list: Vec<u8> = list.iter().flat_map(|oid| hex::decode(oid).unwrap()).collect();
        Forge::new(Format::Gramine)
            .extended(extension(EXTENDED_KEY_USAGE, true, &der(0x30, &list)))
            .sign()
    };
    let (server, client, any) = ("06082b06010505070301", "06082b06010505070302", "0604551d2500");
    let now = UnixTime(1_767_225_600);
    for (list, as_server, as_client) in [
        (&[server][..], true, false),
        (&[client], false, true),
        (&[client, server], true, true),
        (&[any], true, true),
        (&[], false, false),
    ] {
        let der = purposes(list);
        let certificate = RatlsCertificate::parse(&der).unwrap();
        assert_eq!(certificate.check_use(Role::Server, now).is_ok(), as_server);
        assert_eq!(certificate.check_use(Role::Client, now).is_ok(), as_client);
    }
    let der = purposes(&[client]);
    let refused = RatlsCertificate::parse(&der).unwrap().check_use(Role::Server, now);
    assert_eq!(refused, Err(RatlsError::Purpose { purpose: "server authentication" }));
}

#[test]
fn refuses_certificates_without_evidence() {
    let none = Forge::with(Key::p256(), |_| vec![]);
    assert_eq!(refused(&none), RatlsError::NoEvidence);
    // Half of Cocoon's pair, and Intel's copy without what it copies.
    for kept in [0, 1] {
        let half = Forge::with(Key::ed25519(), |key| {
            vec![evidence(Format::Cocoon, key).swap_remove(kept)]
        });
        assert_eq!(refused(&half), RatlsError::NoEvidence);
    }
    let copy = Forge::with(Key::p256(), |key| {
        let data = Format::Gramine.report_data(key, &[]).0;
        vec![extension(OID_INTEL_COPY, false, &quote(&data))]
    });
    assert_eq!(refused(&copy), RatlsError::NoEvidence);
}

#[test]
fn refuses_quotes_of_several_formats() {
    for (first, second) in
        [(Format::Cocoon, Format::Interoperable), (Format::Gramine, Format::Cocoon)]
    {
        for key in [Key::p256(), Key::ed25519()] {
            let mixed =
                Forge::with(key, |key| [evidence(first, key), evidence(second, key)].concat());
            assert_eq!(refused(&mixed).code(), "E-RATLS-SEVERAL");
        }
    }
    let legacies = Forge::new(Format::Gramine).extended(extension(OID_INTEL_COPY, false, &[]));
    let (first, second) = ("Gramine's quote", "Intel's copy");
    assert_eq!(refused(&legacies), RatlsError::SeveralQuotes { first, second });
    let pair = Forge::new(Format::Gramine).extended(extension(OID_COCOON_CLAIMS, true, &[]));
    let (first, second) = ("Cocoon's quote", "Gramine's quote");
    assert_eq!(refused(&pair), RatlsError::SeveralQuotes { first, second });
}

#[test]
fn refuses_copies_that_disagree() {
    // Gramine's second quote is of another enclave, then bound to another key.
    let other_enclave = Forge::with(Key::p256(), |key| {
        let mut copy = quote(&Format::Gramine.report_data(key, &[]).0);
        copy[48 + 136] ^= 1;
        let mut both = evidence(Format::Interoperable, key);
        both.push(extension(OID_GRAMINE_QUOTE, false, &copy));
        both
    });
    assert_eq!(refused(&other_enclave), RatlsError::CopiesDisagree { what: "the report" });
    let other_key = Forge::with(Key::p256(), |key| {
        let stranger = Key::p256().public();
        [evidence(Format::Interoperable, key), evidence(Format::Gramine, &stranger)].concat()
    });
    assert_eq!(refused(&other_key).code(), "E-RATLS-BINDING");
    // Intel's copy must be the same bytes.
    let copies = |flip: u8| {
        Forge::with(Key::p256(), |key| {
            let claims = Claims::of_key(key);
            let mut copy = quote(&Format::Interoperable.report_data(key, &claims).0);
            copy[635] ^= flip;
            vec![tagged(key, &claims), extension(OID_INTEL_COPY, false, &copy)]
        })
    };
    assert!(RatlsCertificate::parse(&copies(0).sign()).is_ok());
    let what = "a byte of the quote";
    assert_eq!(refused(&copies(1)), RatlsError::CopiesDisagree { what });
}

#[test]
fn refuses_claims_about_another_key() {
    let stranger = Key::p256().public();
    let forge = Forge::with(Key::p256(), |key| vec![tagged(key, &Claims::of_key(&stranger))]);
    let spki = forge.key.public().spki_sha256();
    assert_eq!(refused(&forge), RatlsError::KeyMismatch { spki });

    let forge = Forge::with(Key::ed25519(), |key| {
        let mut pair = evidence(Format::Cocoon, key);
        pair[1] = extension(OID_COCOON_CLAIMS, true, Key::ed25519().public().raw());
        pair
    });
    let spki = forge.key.public().spki_sha256();
    assert_eq!(refused(&forge), RatlsError::KeyMismatch { spki });
}

/// Each format's rule applied to the other's evidence: the raw key is not the SPKI, the claims are
/// not the SPKI, and zero binds nothing.
#[test]
fn refuses_quotes_bound_by_another_rule() {
    type Rule = fn(&PublicKey) -> [u8; 64];
    let spki_512: Rule = |key| {
        use sha2::Digest as _;
        sha2::Sha512::digest(key.spki()).into()
    };
    let rules: [(Rule, &[Format]); 5] = [
        (
            |key| Format::Interoperable.report_data(key, &Claims::of_key(key)).0,
            &[Format::Interoperable],
        ),
        (|key| Format::Gramine.report_data(key, &[]).0, &[Format::Gramine]),
        (|key| Format::Cocoon.report_data(key, &[]).0, &[Format::Cocoon]),
        (spki_512, &[]),
        (|_| [0; 64], &[]),
    ];
    for format in Format::ALL {
        for (rule, fits) in rules {
            let key = if format == Format::Cocoon { Key::ed25519() } else { Key::p256() };
            let forge = Forge::with(key, |key| {
                let quote = quote(&rule(key));
                match format {
                    Format::Interoperable => {
                        let claims = &Claims::of_key(key);
                        let value = TaggedEvidence { quote: &quote, claims }.encode();
                        vec![extension(OID_TAGGED_EVIDENCE, false, &value)]
                    }
                    Format::Gramine => vec![extension(OID_GRAMINE_QUOTE, false, &quote)],
                    Format::Cocoon => vec![
                        extension(OID_COCOON_QUOTE, true, &quote),
                        extension(OID_COCOON_CLAIMS, true, key.raw()),
                    ],
                }
            });
            let parsed = RatlsCertificate::parse(&forge.sign()).map(|_| ()).map_err(|e| e.code());
            let expected = if fits.contains(&format) { Ok(()) } else { Err("E-RATLS-BINDING") };
            assert_eq!(parsed, expected, "{format}");
        }
    }
}

#[test]
fn refuses_quotes_of_unknown_form() {
    let with = |quote: &[u8]| {
        refused(&Forge::with(Key::p256(), |_| vec![extension(OID_GRAMINE_QUOTE, false, quote)]))
    };
    let short = RatlsError::Quote { reason: "ends inside its report" };
    let whole = quote(&[0; 64]);
    assert_eq!(with(&[]), short);
    assert_eq!(with(&whole[..7]), short);
    assert_eq!(with(&whole[..631]), short);
    for (version, tee) in [(3, 0x81), (4, 0), (5, 0), (2, 0), (6, 0x81)] {
        let mut other = whole.clone();
        (other[0], other[4]) = (version, tee);
        assert_eq!(with(&other), RatlsError::Quote { reason: "unknown version or TEE type" });
    }
}

#[test]
fn refuses_tagged_evidence_of_another_shape() {
    let parse = |value: &str| TaggedEvidence::parse(&hex::decode(value).unwrap()).map(drop);
    assert_eq!(parse("d9ea60824100"), Err(CborError::Truncated { what: "claims" }.into()));
    assert_eq!(parse("d9ea6082410041a0"), Ok(()));
    for got in [60_001, 60_002] {
        let value = format!("d9{got:04x}82410041a0");
        assert_eq!(parse(&value), Err(RatlsError::EvidenceTag { got }));
    }
    for (value, error) in [
        ("82410041a0", CborError::Type { what: "evidence tag", expected: 6, got: 4 }),
        ("d9ea6083410041a000", CborError::Entries { what: "evidence", expected: 2, got: 3 }),
        ("d9ea60814100", CborError::Entries { what: "evidence", expected: 2, got: 1 }),
        ("d9ea6082610041a0", CborError::Type { what: "quote", expected: 2, got: 3 }),
        ("d9ea60824100a0", CborError::Type { what: "claims", expected: 2, got: 5 }),
        ("d9ea6082410041a000", CborError::Trailing { what: "evidence", got: 1 }),
        ("d9ea609f410041a0ff", CborError::NotDeterministic { what: "evidence" }),
        ("d9ea608258010041a0", CborError::NotDeterministic { what: "quote" }),
        ("da0000ea6082410041a0", CborError::NotDeterministic { what: "evidence tag" }),
    ] {
        assert_eq!(parse(value), Err(error.into()), "{value}");
    }
}

#[test]
fn refuses_claims_without_exactly_one_known_hash_of_the_key() {
    let parse = |claims: &str| Claims::parse(&hex::decode(claims).unwrap()).map(drop);
    let name = format!("6b{}", hex::encode("pubkey-hash"));
    let hash = |id: &str, length: usize| {
        let hash = format!("82{id}58{length:02x}{}", "00".repeat(length));
        format!("{name}58{:02x}{hash}", hash.len() / 2)
    };
    for (id, length) in [("01", 32), ("07", 48), ("08", 64)] {
        assert_eq!(parse(&format!("a1{}", hash(id, length))), Ok(()));
    }
    assert_eq!(parse("a0"), Err(RatlsError::NoPubkeyHash));
    assert_eq!(parse("a1656e6f6e63654100"), Err(RatlsError::NoPubkeyHash));
    for (id, algorithm, bytes) in [("01", 1, 48), ("07", 7, 32), ("08", 8, 48), ("02", 2, 32)] {
        let refused = parse(&format!("a1{}", hash(id, bytes)));
        assert_eq!(refused, Err(RatlsError::PubkeyHashForm { algorithm, bytes }));
    }
    let twice = format!("a2{0}{0}", hash("01", 32));
    assert_eq!(parse(&twice), Err(CborError::DuplicateKey { what: "claims" }.into()));
    let unknown_twice = format!("a3{}616100616101", hash("01", 32));
    assert_eq!(parse(&unknown_twice), Err(CborError::DuplicateKey { what: "claims" }.into()));
    let trailing = format!("a1{}00", hash("01", 32));
    assert_eq!(parse(&trailing), Err(CborError::Trailing { what: "claims", got: 1 }.into()));
    let behind_hash = format!("a1{name}5825{}00", &hash("01", 32)[name.len() + 4..]);
    assert_eq!(
        parse(&behind_hash),
        Err(CborError::Trailing { what: "pubkey-hash", got: 1 }.into())
    );
    let number = format!("a1{name}00");
    let expected = CborError::Type { what: "pubkey-hash", expected: 2, got: 0 };
    assert_eq!(parse(&number), Err(expected.into()));
    assert_eq!(
        parse("a10000"),
        Err(CborError::Type { what: "claim name", expected: 3, got: 0 }.into())
    );
}

#[test]
fn takes_claims_in_the_order_and_with_the_additions_of_rats_tls() {
    let mut claims = vec![0xA4];
    claims.extend(&Claims::of_key(&Key::p256().public())[1..]);
    for name in ["nonce", "key_0", "key_1"] {
        claims.push(0x65);
        claims.extend(name.as_bytes());
        claims.extend([0x42, 1, 2]);
    }
    assert_eq!(Claims::parse(&claims).unwrap().nonce, Some(&[1, 2][..]));
}

/// The hash covers the claims as they came: a bit that means nothing still changes report data.
#[test]
fn every_byte_of_the_claims_is_bound() {
    let key = Key::p256().public();
    let claims = Claims::of_key(&key);
    let rule = |claims: &[u8]| Format::Interoperable.report_data(&key, claims).0;
    for at in 0..claims.len() {
        let mut changed = claims.clone();
        changed[at] ^= 1;
        assert_ne!(rule(&claims), rule(&changed), "byte {at}");
    }
}
