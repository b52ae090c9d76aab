//! Quotes that come without a document, as in an RA-TLS certificate: the same rules as for a
//! worker, minus those about the document, and a result that is less than a worker.

use super::{Real, parse_pins};
use crate::{Appraiser, Outcome, QuoteVerdict, ReportData, RuleId};

fn report_data(real: &Real) -> ReportData {
    let report = dcap_qvl::quote::Quote::parse(&real.quote).unwrap().report;
    ReportData(report.as_td10().unwrap().report_data)
}

fn appraise(real: &Real, pins: &str, expected: &ReportData) -> QuoteVerdict {
    Appraiser::new(parse_pins(pins)).appraise_quote(
        &real.quote,
        expected,
        &real.collateral,
        real.now,
    )
}

#[test]
fn accepts_real_quotes_bound_to_the_computed_value() {
    for real in [Real::td10(), Real::cocoon(), Real::td15ex()] {
        let Some(real) = real else { return };
        let verdict = appraise(&real, &real.pins_text(), &report_data(&real));
        let accepted = verdict.result.as_ref().unwrap_or_else(|_| panic!("{verdict}"));
        assert_eq!(accepted.pin_names(), ["real"]);
        assert_eq!(accepted.evidence_digest(), real.cut().digest());
        assert!(!accepted.insecure_sim() && accepted.collateral_expires() > real.now);
        let ids: Vec<_> = verdict.rules.iter().map(|rule| rule.id).collect();
        assert_eq!(ids, RuleId::ALL, "a verdict lists every rule in order");
        for rule in &verdict.rules {
            let judged = RuleId::OF_A_QUOTE.contains(&rule.id);
            assert_eq!(rule.outcome == Outcome::Skip, !judged, "{rule}");
        }
        assert!(
            verdict.to_string().ends_with("ACCEPTED  a quote of real; it proves no live session")
        );
        let json = serde_json::to_value(&verdict).unwrap();
        assert_eq!(json["schema"].as_str(), Some("chrysalis/quote-verdict/v1"));
    }
}

#[test]
fn refuses_every_flipped_bit_of_the_expected_value() {
    let Some(real) = Real::cocoon() else { return };
    let pins = Appraiser::new(parse_pins(&real.pins_text()));
    for bit in [0, 7, 255, 256, 511] {
        let mut expected = report_data(&real);
        expected.0[bit / 8] ^= 1 << (bit % 8);
        let verdict = pins.appraise_quote(&real.quote, &expected, &real.collateral, real.now);
        let refusal = verdict.result.unwrap_err();
        assert_eq!((refusal.code, refusal.rule), ("E-REPORT-DATA", RuleId::ReportData));
    }
}

#[test]
fn refuses_what_the_pins_do_not_list_before_it_looks_at_the_binding() {
    let Some(real) = Real::cocoon() else { return };
    let text = real.pins_text();
    let (head, tail) = (text.find("[[worker]]").unwrap(), text.find("[platform]").unwrap());
    let none = format!("{}{}", &text[..head], &text[tail..]);
    let verdict = appraise(&real, &none, &report_data(&real));
    assert_eq!(verdict.result.as_ref().unwrap_err().code, "E-NO-WORKERS");
    let skipped = verdict.rules.iter().filter(|rule| rule.outcome == Outcome::Skip).count();
    assert_eq!(skipped, 8 + 1, "the document's rules and the one after the refusal: {verdict}");
}

#[test]
fn refuses_the_quote_of_an_enclave_under_pins_of_trust_domains() {
    let Some(sgx) = Real::sgx() else { return };
    let pins = Real::td10().unwrap().pins_text();
    let verdict = appraise(&sgx, &pins, &ReportData([0; 64]));
    assert_eq!(verdict.result.unwrap_err().code, "E-QUOTE-TEE");
}
