//! Quotes alone: form, signatures, platform and image, up to report data. Nothing else is the peer's.
//!
//! ```text
//! v4   header 48 | TD report 584 | length u32 | signature 64 | key 64 | 6 u16 | length u32 |
//!      QE report 384 | signature 64 | length u16 | QE data 32 | 5 u16 | length u32 | PEM chain
//! ```

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrysalis_evidence::{RuleId, TrustRoot};
use chrysalis_tee::Platform as _;
use chrysalis_tee_sim::{Faults, SimPlatform, device};
use serde_json::Value;

use super::{admission, enclave, quote_policy};
use crate::case::{Stage, bytes, shorten, text};
use crate::world::{EXECUTABLE, REPORT_DATA, alone, with_line};

pub(crate) fn stage() -> Stage {
    let mut stage = Stage::new("quote", "policy 2");
    let v4 = stage.genuine("genuine-v4", "a genuine quote of version 4", &alone(&honest()));
    let v5 = stage.genuine(
        "genuine-v5",
        "a genuine quote of version 5 with a TD report 1.5",
        &alone(&forge(|body| into_v5(body, SVN2))),
    );
    forms(&mut stage, v4, v5);
    chains(&mut stage, v4);
    signatures(&mut stage, v4);
    quote_policy::platforms(&mut stage, v4, v5);
    quote_policy::images(&mut stage, v4);
    admission::quotes(&mut stage, v4);
    enclave::quotes(&mut stage);
    stage
}

fn forms(stage: &mut Stage, v4: usize, v5: usize) {
    let rule = RuleId::QuoteForm;
    stage.accepts(v4, "padded", "bytes behind the end of a quote mean nothing", |case| {
        bytes(case, "/quote", |quote| quote.extend([0xAA; 70]));
    });
    stage.accepts(v4, "padded-to-the-limit", "a quote of the largest size", |case| {
        bytes(case, "/quote", |quote| quote.resize(LARGEST, 0));
    });
    stage.refuses(v4, ("E-QUOTE-SIZE", rule), "too-large", "one byte over the largest size", |c| {
        bytes(c, "/quote", |quote| quote.resize(LARGEST + 1, 0));
    });
    let truncated = ("E-QUOTE-TRUNCATED", rule);
    for (name, title, length) in [
        ("empty", "no bytes at all", 0),
        ("half-a-header", "it ends inside the header", 47),
        ("half-a-report", "it ends inside the TD report", 631),
        ("no-signature-length", "it ends inside the length of the signature data", 635),
        ("no-signature", "it ends behind the length of the signature data", 636),
        ("half-a-signature", "it ends inside the signature", 699),
        ("half-a-qe-report", "it ends inside the report of the quoting enclave", 1100),
        ("half-a-chain", "it ends inside the certificate chain", 2000),
    ] {
        stage.refuses(v4, truncated, name, title, |case| {
            bytes(case, "/quote", |quote| quote.truncate(length));
        });
    }
    stage.refuses(v4, truncated, "last-byte-missing", "its last byte is missing", |case| {
        bytes(case, "/quote", shorten);
    });
    let poke = |at: usize, value: u8| {
        move |case: &mut Value| bytes(case, "/quote", |quote| quote[at] = value)
    };
    stage.refuses(v4, truncated, "length-one-more", "its signature data claims a byte more", |c| {
        bytes(c, "/quote", |quote| quote[632] += 1);
    });
    stage.refuses(
        v4,
        truncated,
        "length-of-4-gib",
        "its signature data claims four gigabytes",
        |case| bytes(case, "/quote", |quote| quote[632..636].fill(0xFF)),
    );
    let version = ("E-QUOTE-VERSION", rule);
    stage.refuses(v4, version, "version-6", "a version nobody has defined", poke(0, 6));
    stage.refuses(v4, version, "version-0", "version zero", poke(0, 0));
    stage.refuses(v4, version, "version-3-of-tdx", "version 3 is for SGX alone", poke(0, 3));
    stage.refuses(v4, version, "version-260", "the high byte of the version counts", poke(1, 1));
    stage.refuses(
        v4,
        truncated,
        "version-4-of-sgx",
        "the TEE type of SGX, whose shorter report ends inside this one",
        poke(4, 0),
    );
    stage.refuses(v4, version, "unknown-tee", "a TEE type nobody has defined", poke(4, 0x82));
    stage.refuses(v4, version, "tee-high-byte", "the high bytes of the TEE type count", poke(7, 1));
    let key = ("E-QUOTE-KEY-TYPE", rule);
    stage.refuses(v4, key, "key-of-p384", "an attestation key on P-384", poke(2, 3));
    stage.refuses(v4, key, "key-of-no-type", "an attestation key of type zero", poke(2, 0));
    let body = ("E-QUOTE-BODY", rule);
    stage.refuses(v4, body, "v4-called-v5", "a version 4 quote that calls itself 5", poke(0, 5));
    stage.refuses(v5, body, "body-of-sgx", "version 5 with an enclave report", poke(48, 1));
    stage.refuses(v5, body, "body-of-no-type", "version 5 with a body nobody knows", poke(48, 5));
    stage.refuses(
        v5,
        body,
        "body-too-long",
        "a body of another size than its type's",
        poke(50, 0x89),
    );
    stage.refuses(v5, body, "body-of-another-type", "the size of another type's body", poke(48, 2));
    let kind = ("E-QUOTE-CERT-TYPE", rule);
    stage.refuses(v4, kind, "no-qe-report", "certification data is not a QE report", poke(764, 5));
    stage.refuses(v4, kind, "no-pck-chain", "the QE's data is no PCK chain", poke(1252, 3));
    let trailing = ("E-QUOTE-TRAILING", rule);
    stage.refuses(
        v4,
        trailing,
        "byte-after-signature-data",
        "the signature data has a byte behind its end",
        |case| {
            bytes(case, "/quote", |quote| {
                add(quote, 632, 1);
                quote.push(0);
            });
        },
    );
    stage.refuses(
        v4,
        trailing,
        "byte-after-certification-data",
        "the certification data has a byte behind its end",
        |case| {
            bytes(case, "/quote", |quote| {
                add(quote, 632, 1);
                add(quote, 766, 1);
                quote.push(0);
            });
        },
    );
}

fn chains(stage: &mut Stage, v4: usize) {
    let with_chain = |change: fn(&str) -> String| {
        move |case: &mut Value| bytes(case, "/quote", |quote| replace_chain(quote, change))
    };
    stage.accepts(
        v4,
        "chain-with-a-zero-byte",
        "one zero byte behind the chain, as Intel's quotes have",
        with_chain(|pem| format!("{pem}\0")),
    );
    let chain = ("E-QUOTE-CHAIN", RuleId::QuoteForm);
    let changes: [Spelled; 8] = [
        ("chain-empty", "no certificate", |_| String::new()),
        ("chain-of-one", "the leaf alone", |pem| first(pem, 1)),
        ("chain-of-four", "a fourth certificate", |pem| format!("{pem}{}", first(pem, 1))),
        ("chain-with-crlf", "line ends of another system", |pem| pem.replace('\n', "\r\n")),
        ("chain-with-a-comment", "text in front of a certificate", |pem| format!("x\n{pem}")),
        ("chain-unbroken", "base64 without line ends", |pem| {
            let lines: Vec<&str> = pem.lines().collect();
            pem.replace(
                &format!("{}\n{}", lines[1], lines[2]),
                &format!("{}{}", lines[1], lines[2]),
            )
        }),
        ("chain-not-base64", "a letter base64 does not have", |pem| pem.replacen("MII", "M!I", 1)),
        ("chain-with-two-zero-bytes", "two zero bytes behind it", |pem| format!("{pem}\0\0")),
    ];
    for (name, title, change) in changes {
        stage.refuses(v4, chain, name, title, with_chain(change));
    }
    stage.refuses(
        v4,
        ("E-ROOT", RuleId::Dcap),
        "under-intels-root",
        "the chain ends in another root than the pinned one",
        |case| {
            bytes(case, "/quote", |quote| {
                replace_chain(quote, |pem| first(pem, 2) + &intel_pem());
            });
        },
    );
    stage.refuses(
        v4,
        ("E-ROOT", RuleId::Dcap),
        "pins-name-another-root",
        "the pins name another root than the chain's",
        |case| {
            let root = format!("\"{}\"", hex::encode(device::sim_device_root_der()));
            text(case, "/pins", |pins| with_line(pins, "sim_root", &root));
        },
    );
    stage.refuses(
        v4,
        ("E-DCAP", RuleId::Dcap),
        "certificates-in-another-order",
        "the platform CA stands in front of the leaf",
        |case| {
            bytes(case, "/quote", |quote| {
                replace_chain(quote, |pem| {
                    let leaf = first(pem, 1);
                    let rest = &pem[leaf.len()..];
                    let ca = first(rest, 1);
                    format!("{ca}{leaf}{}", &rest[ca.len()..])
                });
            });
        },
    );
    stage.refuses(
        v4,
        ("E-DCAP", RuleId::Dcap),
        "leaf-changed",
        "one byte of the leaf's signature is another",
        |case| {
            bytes(case, "/quote", |quote| {
                // The 21st letter before the end of the leaf: inside the signature's last number.
                let end = position(quote, b"\n-----END");
                quote[end - 20] = if quote[end - 20] == b'A' { b'B' } else { b'A' };
            });
        },
    );
}

fn signatures(stage: &mut Stage, v4: usize) {
    let dcap = ("E-DCAP", RuleId::Dcap);
    for (name, title, at) in [
        ("flipped-svn", "a bit of the TEE's SVN is flipped", 48),
        ("flipped-vendor", "a bit of the QE vendor's id is flipped", 12),
        ("flipped-user-data", "a bit of the header's user data is flipped", 28),
        ("flipped-mrtd", "a bit of MRTD is flipped", 48 + 136),
        ("flipped-report-data", "a bit of the report data is flipped", 48 + 583),
        ("flipped-signature", "a bit of the quote's signature is flipped", 636),
        ("flipped-key", "a bit of the attestation key is flipped", 700),
        ("flipped-qe-report", "a bit of the QE report is flipped", 770),
        ("flipped-qe-commitment", "a bit of the QE's commitment to the key is flipped", 770 + 320),
        ("flipped-qe-signature", "a bit of the QE report's signature is flipped", 1154),
        ("flipped-qe-data", "a bit of the QE's authentication data is flipped", 1220),
    ] {
        stage.refuses(v4, dcap, name, title, |case| {
            bytes(case, "/quote", |quote| quote[at] ^= 1);
        });
    }
    let signed = |quote: Vec<u8>| move |case: &mut Value| bytes(case, "/quote", |old| *old = quote);
    stage.refuses(
        v4,
        dcap,
        "key-of-a-stranger",
        "signed by a key the quoting enclave did not vouch for",
        signed(
            platform(Faults { uncertified_key: true, ..Faults::default() })
                .quote(&REPORT_DATA)
                .unwrap(),
        ),
    );
    for (name, title, at, value) in [
        ("qe-under-debug", "the quoting enclave is under debug", 48, 0x17),
        ("qe-of-another-signer", "the quoting enclave has another signer", 128, 0x5A),
        ("qe-of-another-product", "the quoting enclave is another product", 256, 9),
        ("qe-of-another-misc", "the quoting enclave's MISCSELECT is another", 16, 1),
    ] {
        let quote = forge_qe(move |report| report[at] = value);
        stage.refuses(v4, dcap, name, title, signed(quote));
    }
    stage.refuses(
        v4,
        dcap,
        "vendor-not-intel",
        "signed, with another QE vendor in the header",
        signed(forge(|body| body[12] ^= 1)),
    );
}

pub(super) fn platform(faults: Faults) -> SimPlatform {
    SimPlatform::new(EXECUTABLE).with_faults(faults)
}

pub(crate) fn honest() -> Vec<u8> {
    platform(Faults::default()).quote(&REPORT_DATA).unwrap()
}

/// A quote with header and report changed before they were signed.
pub(super) fn forge(change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    platform(Faults::default()).forge_quote(&REPORT_DATA, change, |_| {})
}

fn forge_qe(change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    platform(Faults::default()).forge_quote(&REPORT_DATA, |_| {}, change)
}

/// Version 5, body type 3: TD report 1.5, with the module's SVN of now and no service TD.
pub(super) fn into_v5(body: &mut Vec<u8>, svn2: [u8; 16]) {
    body[0] = 5;
    let header: Vec<u8> = [3u16.to_le_bytes().to_vec(), 648u32.to_le_bytes().to_vec()].concat();
    body.splice(48..48, header);
    body.extend(svn2);
    body.extend([0; 48]);
}

fn add(quote: &mut [u8], at: usize, more: u32) {
    let field: &mut [u8; 4] = (&mut quote[at..at + 4]).try_into().unwrap();
    *field = (u32::from_le_bytes(*field) + more).to_le_bytes();
}

/// Puts another chain into a version 4 quote; every length fits again.
fn replace_chain(quote: &mut Vec<u8>, change: impl Fn(&str) -> String) {
    let pem = change(core::str::from_utf8(&quote[PEM_AT..]).unwrap());
    quote.truncate(PEM_AT);
    quote.extend(pem.as_bytes());
    let length = |from: usize| u32::try_from(quote.len() - from).unwrap().to_le_bytes();
    let (all, wrapped, chain) = (length(636), length(770), length(PEM_AT));
    quote[632..636].copy_from_slice(&all);
    quote[766..770].copy_from_slice(&wrapped);
    quote[1254..PEM_AT].copy_from_slice(&chain);
}

/// The first certificates of a chain.
fn first(pem: &str, count: usize) -> String {
    let end = "-----END CERTIFICATE-----\n";
    pem.split_inclusive(end).take(count).collect()
}

fn intel_pem() -> String {
    let lines: Vec<String> = STANDARD
        .encode(TrustRoot::Intel.der())
        .as_bytes()
        .chunks(64)
        .map(|line| String::from_utf8(line.to_vec()).unwrap())
        .collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

fn position(bytes: &[u8], part: &[u8]) -> usize {
    bytes.windows(part.len()).position(|window| window == part).unwrap()
}

/// Name, title and change of a certificate chain.
type Spelled = (&'static str, &'static str, fn(&str) -> String);

const LARGEST: usize = 32 * 1024;
const PEM_AT: usize = 1258;
/// The simulated module's SVN: module 5 of version 1, microcode 3.
pub(super) const SVN2: [u8; 16] = [5, 1, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
