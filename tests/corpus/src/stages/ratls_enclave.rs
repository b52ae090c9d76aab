//! RA-TLS certificates of SGX enclaves, which is what Gramine makes them for. Every quote is signed as it
//! stands, and bound to the certificate's key unless the case says otherwise.

use chrysalis_evidence::RuleId;
use chrysalis_tee::Platform as _;
use chrysalis_tee_sim::{SimEnclave, SimReport, collateral, enclave_collateral};
use gramine_ratls::{Claims, Format, OID_GRAMINE_QUOTE, OID_TAGGED_EVIDENCE, TaggedEvidence};
use serde_json::json;

use super::ratls::of;
use crate::case::{Stage, text};
use crate::certificate::{Certificate, Key, extension};
use crate::world::{EXECUTABLE, ISSUED, NOW, by_signer, enclave_pins, pins, with_line};

pub(super) fn enclaves(stage: &mut Stage) {
    let mut base = |name, title, certificate: Certificate| {
        let input = json!({
            "pins": enclave_pins(),
            "collateral": enclave_collateral(ISSUED),
            "now": NOW.0,
            "holder": "server",
            "certificate": hex::encode(certificate.sign()),
        });
        stage.genuine(name, title, &input)
    };
    let gramine = base("genuine-enclave", "an enclave, Gramine's bare quote", bare(0, |_| {}));
    let tagged = base("genuine-enclave-tagged", "an enclave, tagged evidence", tagged());
    stage.accepts(tagged, "enclave-of-a-signer", "pinned by its signer", |case| {
        text(case, "/pins", |pins| by_signer(pins, 1, 1));
    });
    stage.refuses(
        gramine,
        ("E-QUOTE-TEE", RuleId::QuoteForm),
        "enclave-not-asked",
        "an enclave under pins of trust domains",
        |case| case["pins"] = pins().into(),
    );
    stage.refuses(
        gramine,
        ("E-DCAP", RuleId::Dcap),
        "enclave-collateral-of-domains",
        "collateral of trust domains",
        |case| case["collateral"] = collateral(ISSUED).into(),
    );
    stage.refuses(
        gramine,
        ("E-SGX-DEBUG", RuleId::SgxDebug),
        "enclave-under-debug",
        "an enclave under debug",
        of(&bare(0, |report| report.attributes[0] |= 2)),
    );
    stage.refuses(
        gramine,
        ("E-MRENCLAVE", RuleId::SgxEnclave),
        "enclave-not-pinned",
        "an enclave that is not pinned",
        of(&bare(0, |report| report.identity.mrenclave.0[0] ^= 1)),
    );
    stage.refuses(
        tagged,
        ("E-MRENCLAVE", RuleId::SgxEnclave),
        "enclave-other-pinned",
        "an enclave where another is pinned",
        |case| {
            let other = format!("\"{}\"", "12".repeat(32));
            text(case, "/pins", |pins| with_line(pins, "mrenclave", &other));
        },
    );
    stage.rejects(
        gramine,
        ("E-RATLS-BINDING", 10),
        "enclave-borrowed-quote",
        "a quote of an enclave for another key",
        of(&bare(1, |_| {})),
    );
}

/// A certificate of key 0, with the quote of an enclave for key `bound`.
fn bare(bound: u8, change: fn(&mut SimReport)) -> Certificate {
    let data = Format::Gramine.report_data(&Key::p256(bound).public(), &[]);
    let extensions = vec![extension(OID_GRAMINE_QUOTE, false, &quote(&data.0, change))];
    Certificate::of(Key::p256(0), extensions)
}

fn tagged() -> Certificate {
    let key = Key::p256(0);
    let claims = Claims::of_key(&key.public());
    let data = Format::Interoperable.report_data(&key.public(), &claims);
    let quote = quote(&data.0, |_| {});
    let value = TaggedEvidence { quote: &quote, claims: &claims }.encode();
    Certificate::of(key, vec![extension(OID_TAGGED_EVIDENCE, false, &value)])
}

fn quote(report_data: &[u8; 64], change: fn(&mut SimReport)) -> Vec<u8> {
    SimEnclave::new(EXECUTABLE).with(change).quote(report_data).unwrap()
}
