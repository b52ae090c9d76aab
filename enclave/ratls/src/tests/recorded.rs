//! The recorded certificates come out as their origin says: two of real SGX enclaves (Gramine,
//! Intel's SDK) and two made with rcgen around filler quotes.

use chrysalis_evidence::{CutQuote, Role, TeeKind};
use chrysalis_wire::UnixTime;

use super::vector;
use crate::{Claims, Format, KeyKind, PubkeyHash, RatlsCertificate, RatlsError};

/// 2025-06-27, inside all four windows.
const NOW: UnixTime = UnixTime(1_751_000_000);

struct Row {
    file: &'static str,
    format: Format,
    kind: KeyKind,
    /// SHA-256 of the SubjectPublicKeyInfo, computed with Python's hashlib.
    spki: &'static str,
    /// Report data of the quote, read with a hex dump.
    report_data: &'static str,
    quote_bytes: usize,
    window: (u64, u64),
}

const ROWS: [Row; 4] = [
    Row {
        file: "gramine.der",
        format: Format::Interoperable,
        kind: KeyKind::P384,
        spki: "5a5a5b2d177433048e9d62409d1acc4ec526c06e294d09e69a36cff9369e4851",
        report_data: "d8673446fe0f6842d4af0d182c8751d7e967039116deff5f85a43b2ca90c2831\
                      0000000000000000000000000000000000000000000000000000000000000000",
        quote_bytes: 4734,
        // 2001-01-01 to 2030-12-31 23:59:59
        window: (978_307_200, 1_924_991_999),
    },
    Row {
        file: "intel-sgxsdk.der",
        format: Format::Interoperable,
        kind: KeyKind::P384,
        spki: "f306ed602985371e3b485102db1fcdd4f4738329ce58b2f8d1c5d2cc79752026",
        report_data: "e551b081d5079ad7565b5f20a45f276c2f5a6152c1802c0688e15a02e87a74c9\
                      0000000000000000000000000000000000000000000000000000000000000000",
        quote_bytes: 4600,
        // 2021-04-01 to 2050-12-31 23:59:59
        window: (1_617_235_200, 2_556_143_999),
    },
    Row {
        file: "own-generated-gramine-format.der",
        format: Format::Interoperable,
        kind: KeyKind::P384,
        spki: "a3a8788bcb94a243fc11302535bd2c8109ddf2ed5db2bda587e565e25531cdc1",
        report_data: "0b094aa47c1e2c8870cb8264cd2c2c6d1932c4dccf54babcfa7d9df5a537d9a6\
                      0000000000000000000000000000000000000000000000000000000000000000",
        quote_bytes: 5000,
        // 1975-01-01 to 4096-01-01
        window: (157_766_400, 67_090_118_400),
    },
    Row {
        file: "own-generated-cocoon-format.der",
        format: Format::Cocoon,
        kind: KeyKind::Ed25519,
        spki: "a03434296ac850ac09c51eb694116048c8bc24a6578eda2a50728205035e8f76",
        report_data: "15eb6172482ba4e63b7c8d852bf31bde107f4e317ab4aec105bd4a6343d203c9\
                      fa8bb39c7d18580a8f1eeafc7ee4b83471527096faa37329f487899ab4569c7f",
        quote_bytes: 5000,
        window: (157_766_400, 67_090_118_400),
    },
];

#[test]
fn every_recorded_certificate_comes_out_as_its_origin_says() {
    for row in ROWS {
        let Some(der) = vector(&format!("attest/ratls/{}", row.file)) else { return };
        let certificate =
            RatlsCertificate::parse(&der).unwrap_or_else(|e| panic!("{}: {e}", row.file));
        assert_eq!(certificate.format(), row.format, "{}", row.file);
        assert_eq!(certificate.key().kind(), row.kind);
        assert_eq!(certificate.key().spki_sha256().to_string(), row.spki);
        assert_eq!(hex::encode(certificate.report_data().0), row.report_data);
        assert_eq!(certificate.quote().len(), row.quote_bytes);
        assert_eq!(certificate.validity(), (UnixTime(row.window.0), UnixTime(row.window.1)));
        assert_eq!(certificate.check_use(Role::Server, NOW), Ok(()));
        assert_eq!(certificate.check_use(Role::Client, NOW), Ok(()));
    }
}

#[test]
fn the_quotes_of_real_enclaves_are_whole_and_fill_their_place() {
    for file in ["gramine.der", "intel-sgxsdk.der"] {
        let Some(der) = vector(&format!("attest/ratls/{file}")) else { return };
        let certificate = RatlsCertificate::parse(&der).unwrap();
        let quote = CutQuote::parse(certificate.quote()).unwrap();
        assert_eq!((quote.version(), quote.tee(), quote.ignored()), (3, TeeKind::Sgx, 0));
        let claims = Claims::parse(certificate.claims()).unwrap();
        assert_eq!(claims.nonce, None);
        assert_eq!(claims.pubkey_hash, PubkeyHash::Sha256(certificate.key().spki_sha256().0));
        assert_eq!(certificate.claims(), Claims::of_key(certificate.key()), "we write the same");
    }
}

#[test]
fn windows_are_obeyed_at_both_ends() {
    for row in ROWS {
        let Some(der) = vector(&format!("attest/ratls/{}", row.file)) else { return };
        let certificate = RatlsCertificate::parse(&der).unwrap();
        let (from, until) = certificate.validity();
        for inside in [from, until] {
            assert_eq!(certificate.check_use(Role::Server, inside), Ok(()));
        }
        let early = UnixTime(from.0 - 1);
        let refused = certificate.check_use(Role::Server, early);
        assert_eq!(refused, Err(RatlsError::NotYetValid { from, now: early }));
        let late = UnixTime(until.0 + 1);
        let refused = certificate.check_use(Role::Server, late);
        assert_eq!(refused, Err(RatlsError::Expired { until, now: late }));
    }
}

#[test]
fn refuses_every_truncation_of_every_recorded_certificate() {
    for row in ROWS {
        let Some(der) = vector(&format!("attest/ratls/{}", row.file)) else { return };
        for length in 0..der.len() {
            assert!(
                RatlsCertificate::parse(&der[..length]).is_err(),
                "{} cut at {length}",
                row.file
            );
        }
        let longer = [&der[..], &[0]].concat();
        let refused = RatlsCertificate::parse(&longer).unwrap_err();
        assert_eq!(refused, RatlsError::Trailing { what: "certificate", got: 1 });
    }
}

/// No bit is irrelevant: what is not judged by itself is covered by the self-signature, and the
/// signature's own encoding is unique. Every bit of one certificate, and a bit of every byte of the
/// others; the test below flips them all.
#[test]
fn refuses_every_flipped_bit_of_one_recorded_certificate_and_every_changed_byte_of_all() {
    for row in ROWS {
        let Some(mut der) = vector(&format!("attest/ratls/{}", row.file)) else { return };
        let all = row.format == Format::Cocoon;
        for at in 0..der.len() {
            for bit in 0..8 {
                if all || bit == at % 8 {
                    refuse_flip(&mut der, at, bit);
                }
            }
        }
    }
}

#[test]
#[ignore = "a minute and a half: scripts/exhaustive"]
fn refuses_every_flipped_bit_of_every_recorded_certificate() {
    let mut flips = 0;
    for row in ROWS {
        let Some(mut der) = vector(&format!("attest/ratls/{}", row.file)) else { return };
        for at in 0..der.len() * 8 {
            refuse_flip(&mut der, at / 8, at % 8);
            flips += 1;
        }
    }
    assert_eq!(flips, 8 * (10_068 + 9_822 + 10_517 + 5_456));
}

fn refuse_flip(der: &mut [u8], at: usize, bit: usize) {
    der[at] ^= 1 << bit;
    assert!(RatlsCertificate::parse(der).is_err(), "bit {bit} of byte {at} is irrelevant");
    der[at] ^= 1 << bit;
}
