//! Whole appraisals of real quotes. They were made for other people's sessions, so with pins that
//! fit them exactly everything passes up to the binding, and the binding refuses: the rule that
//! ties evidence to our own session cannot be skipped.

use chrysalis_wire::UnixTime;

use super::{Real, parse_pins, session};
use crate::{AllowSim, Appraiser, Outcome, Pins, RuleId, Verdict};

fn appraise(real: &Real, pins: &str) -> Verdict {
    Appraiser::new(parse_pins(pins)).appraise(
        &real.document(),
        &session(),
        &real.collateral,
        real.now,
    )
}

fn refused_by(verdict: &Verdict) -> (&'static str, RuleId) {
    let refusal = verdict.result.as_ref().unwrap_err();
    assert_eq!(verdict.rules.len(), RuleId::ALL.len(), "a verdict lists every rule");
    let fail = verdict.rules.iter().position(|r| r.outcome == Outcome::Fail).unwrap();
    assert_eq!(verdict.rules[fail].id, refusal.rule);
    for (i, rule) in verdict.rules.iter().enumerate() {
        assert_eq!(rule.id, RuleId::ALL[i]);
        assert_eq!(rule.outcome == Outcome::Skip, i > fail, "{}", rule.id);
    }
    (refusal.code, refusal.rule)
}

#[test]
fn real_quotes_with_fitting_pins_pass_until_report_data_refuses() {
    for real in [Real::td10(), Real::cocoon(), Real::td15ex()] {
        let Some(real) = real else { return };
        let verdict = appraise(&real, &real.pins_text());
        assert_eq!(refused_by(&verdict), ("E-REPORT-DATA", RuleId::ReportData), "{verdict}");
        let passed = verdict.rules.iter().filter(|r| r.outcome == Outcome::Pass).count();
        assert_eq!(passed, 13, "{verdict}");
    }
}

#[test]
fn transcript_shows_every_rule_and_the_next_step() {
    let Some(real) = Real::cocoon() else { return };
    let verdict = appraise(&real, &real.pins_text());
    let text = verdict.to_text();
    let words: Vec<&str> = text.lines().map(|l| &l[..4]).collect();
    assert_eq!(words.iter().filter(|w| **w == "PASS").count(), 13);
    assert_eq!(words.iter().filter(|w| **w == "SKIP").count(), 7);
    assert!(text.contains("PASS  R-DCAP            quote and collateral verify"), "{text}");
    assert!(text.contains("\nREFUSED  E-REPORT-DATA by R-REPORT-DATA\n  expected: "), "{text}");
    assert!(!text.contains("INSECURE-SIM"));
    assert!(text.chars().all(|c| c == '\n' || c == '—' || c == ' ' || c.is_ascii_graphic()));
}

#[test]
fn verdict_as_json_names_the_refusing_rule() {
    let Some(real) = Real::cocoon() else { return };
    let json: serde_json::Value =
        serde_json::from_str(&appraise(&real, &real.pins_text()).to_json()).unwrap();
    assert_eq!(json["schema"], "chrysalis/verdict/v1");
    assert_eq!(json["accepted"], false);
    assert_eq!(json["worker"], serde_json::Value::Null);
    assert_eq!(json["refusal"]["code"], "E-REPORT-DATA");
    assert_eq!(json["refusal"]["rule"], "R-REPORT-DATA");
    assert_eq!(json["rules"][3]["id"], "R-DCAP");
    assert_eq!(json["rules"][3]["outcome"], "pass");
}

#[test]
fn refuses_each_pinned_value_that_differs_with_its_own_code() {
    let Some(real) = Real::cocoon() else { return };
    let text = real.pins_text();
    let line = |name: &str| text.lines().find(|l| l.starts_with(name)).unwrap().to_owned();
    for (name, code, rule) in [
        ("mrtd", "E-MRTD", RuleId::Image),
        ("rtmr0", "E-RTMR0", RuleId::Image),
        ("rtmr1", "E-RTMR1", RuleId::Image),
        ("rtmr2", "E-RTMR2", RuleId::Image),
        ("mr_seam", "E-SEAM", RuleId::Seam),
        ("xfam", "E-XFAM", RuleId::Xfam),
        ("mr_config_id", "E-CONFIG-ID", RuleId::ConfigId),
    ] {
        let old = line(name);
        // The last digit before the closing quote.
        let at = old.rfind(|c: char| c.is_ascii_hexdigit()).unwrap();
        let digit = if old.as_bytes()[at] == b'0' { "1" } else { "0" };
        let new = format!("{}{digit}{}", &old[..at], &old[at + 1..]);
        let verdict = appraise(&real, &text.replacen(&old, &new, 1));
        assert_eq!(refused_by(&verdict), (code, rule), "{verdict}");
    }
    let verdict = appraise(&real, &text.replace("\"0000001000000000\"", "\"0000005000000000\""));
    assert_eq!(refused_by(&verdict), ("E-TD-ATTRIBUTES", RuleId::TdAttributes));
}

#[test]
fn refuses_every_empty_list() {
    let Some(real) = Real::cocoon() else { return };
    let text = real.pins_text();
    for (name, code) in [
        ("td_attributes", "E-TD-ATTRIBUTES"),
        ("xfam", "E-XFAM"),
        ("mr_seam", "E-SEAM"),
        ("mr_config_id", "E-CONFIG-ID"),
    ] {
        let old = text.lines().find(|l| l.starts_with(name)).unwrap();
        let verdict = appraise(&real, &text.replacen(old, &format!("{name} = []"), 1));
        assert_eq!(refused_by(&verdict).0, code);
        assert!(verdict.result.unwrap_err().expected.contains("the list is empty, which denies"));
    }
    let (head, tail) = (text.find("[[worker]]").unwrap(), text.find("[platform]").unwrap());
    let verdict = appraise(&real, &format!("{}{}", &text[..head], &text[tail..]));
    assert_eq!(refused_by(&verdict), ("E-NO-WORKERS", RuleId::Image));
}

#[test]
fn refuses_a_mix_of_registers_from_two_pins() {
    let Some(real) = Real::cocoon() else { return };
    let text = real.pins_text();
    let (head, tail) = (text.find("[[worker]]").unwrap(), text.find("[platform]").unwrap());
    let worker = &text[head..tail];
    let spoil = |name: &str, field: &str| {
        let old = worker.lines().find(|l| l.starts_with(field)).unwrap();
        worker
            .replace(old, &format!("{field} = \"{}\"", "ab".repeat(48)))
            .replace("\"real\"", &format!("\"{name}\""))
    };
    let both = format!("{}{}", spoil("first", "rtmr1"), spoil("second", "rtmr2"));
    let verdict = appraise(&real, &format!("{}{both}{}", &text[..head], &text[tail..]));
    assert_eq!(refused_by(&verdict).1, RuleId::Image);
}

#[test]
fn refuses_flags_that_are_not_accepted() {
    let Some(real) = Real::cocoon() else { return };
    for (flag, code) in [
        ("allow_dynamic_platform", "E-DYNAMIC"),
        ("allow_cached_keys", "E-CACHED-KEYS"),
        ("allow_smt", "E-SMT"),
    ] {
        let text = real.pins_text();
        let off = text.replace(&format!("{flag} = true"), &format!("{flag} = false"));
        assert_eq!(refused_by(&appraise(&real, &off)), (code, RuleId::PlatformFlags));
        // Leaving a flag out is the same as false.
        let out = text.replace(&format!("{flag} = true\n"), "");
        assert_eq!(refused_by(&appraise(&real, &out)), (code, RuleId::PlatformFlags));
    }
}

#[test]
fn refuses_collateral_that_is_too_old_or_of_too_low_a_number() {
    let Some(mut real) = Real::cocoon() else { return };
    let text = real.pins_text();
    let higher = text.replace("_number = 17", "_number = 19");
    assert_eq!(refused_by(&appraise(&real, &higher)), ("E-EVAL-NUMBER", RuleId::EvalNumber));
    let week = text.replace("age_days = 30", "age_days = 7");
    let issued = real.collateral.stated().unwrap().oldest_issue.0;
    real.now = UnixTime(issued + 7 * 86_400);
    // Exactly at the limit, before the other document was issued, only this rule could refuse.
    if real.now >= real.collateral.stated().unwrap().newest_issue {
        assert_eq!(refused_by(&appraise(&real, &week)).0, "E-REPORT-DATA");
    }
    real.now = UnixTime(issued + 7 * 86_400 + 1);
    assert_eq!(refused_by(&appraise(&real, &week)), ("E-COLLATERAL-AGE", RuleId::CollateralAge));
}

#[test]
fn refuses_the_quote_that_newer_collateral_calls_out_of_date() {
    let (Some(old), Some(new)) = (Real::td10(), Real::td15ex()) else { return };
    let pair = Real { quote: old.quote, ..new };
    let verdict = appraise(&pair, &pair.pins_text());
    assert_eq!(refused_by(&verdict), ("E-TCB-STATUS", RuleId::TcbStatus));
    assert!(verdict.result.unwrap_err().found.contains("INTEL-SA-01313"));
}

#[test]
fn refuses_expired_early_and_foreign_collateral_with_different_codes() {
    let (Some(real), Some(cocoon)) = (Real::td10(), Real::cocoon()) else { return };
    let code = |real: &Real| refused_by(&appraise(real, &real.pins_text()));
    let late = Real { now: cocoon.now, ..real.clone() };
    assert_eq!(code(&late), ("E-COLLATERAL-EXPIRED", RuleId::Dcap));
    let early = Real { now: UnixTime(1), ..real.clone() };
    assert_eq!(code(&early), ("E-COLLATERAL-EARLY", RuleId::Dcap));
    let foreign = Real { quote: real.quote, ..cocoon };
    assert_eq!(code(&foreign), ("E-COLLATERAL-FMSPC", RuleId::Dcap));
}

#[test]
fn refuses_a_genuine_quote_under_insecure_sim_pins() {
    let Some(real) = Real::cocoon() else { return };
    let root = super::pins::TEST_ROOT;
    let text = real
        .pins_text()
        .replace("\"production\"", &format!("\"INSECURE-SIM\"\nsim_root = \"{root}\""))
        .replace("network = -3", "network = 5458253");
    let pins = Pins::parse(&text, AllowSim::Yes).unwrap();
    let verdict =
        Appraiser::new(pins).appraise(&real.document(), &session(), &real.collateral, real.now);
    assert_eq!(refused_by(&verdict), ("E-ROOT", RuleId::Dcap));
    assert!(verdict.insecure_sim);
    assert!(verdict.to_text().starts_with("INSECURE-SIM  simulated platform under a FAKE root"));
}

#[test]
fn refuses_a_debug_td_by_name() {
    let Some(mut real) = Real::cocoon() else { return };
    let text = real.pins_text();
    for bit in 0..8 {
        let mut changed = real.clone();
        changed.quote[48 + 120] |= 1 << bit;
        assert_eq!(refused_by(&appraise(&changed, &text)), ("E-DEBUG", RuleId::Debug));
    }
    // The other attribute bytes are not debug bits; changing one breaks the signature.
    real.quote[48 + 121] ^= 1;
    assert_eq!(refused_by(&appraise(&real, &text)), ("E-DCAP", RuleId::Dcap));
}

#[test]
fn refuses_sgx_quotes_and_documents_of_the_wrong_form() {
    let collateral = "attest/dcap/sgx_quote_collateral.json";
    let Some(sgx) = Real::load("attest/dcap/sgx_quote", collateral, super::JUNE_2025) else {
        return;
    };
    let real = Real::cocoon().unwrap();
    let pins = real.pins_text();
    assert_eq!(refused_by(&appraise(&sgx, &pins)), ("E-QUOTE-TEE", RuleId::QuoteForm));

    let appraiser = Appraiser::new(parse_pins(&pins));
    let code = |change: fn(&mut chrysalis_wire::AttestationDocument)| {
        let mut doc = real.document();
        change(&mut doc);
        refused_by(&appraiser.appraise(&doc, &session(), &real.collateral, real.now))
    };
    let form = ("E-DOCUMENT", RuleId::Document);
    assert_eq!(code(|d| d.schema.push('2')), form);
    assert_eq!(code(|d| d.quote = d.quote.to_uppercase()), form);
    assert_eq!(code(|d| d.quote.push('0')), form);
    assert_eq!(code(|d| d.keyset = "00".repeat(16 * 1024 + 1)), form);
    assert_eq!(code(|d| d.manifest = "00".repeat(64 * 1024 + 1)), form);
    assert_eq!(code(|d| d.quote = "00".repeat(32 * 1024 + 1)), form);
    assert_eq!(code(|d| d.quote.clear()), ("E-QUOTE-TRUNCATED", RuleId::QuoteForm));
    assert_eq!(code(|d| d.platform = "INSECURE-SIM".into()), ("E-REPORT-DATA", RuleId::ReportData));
}
