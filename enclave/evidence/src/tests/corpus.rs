//! The conformance corpus, in this process: every case that this crate can judge, by code and rule.
//! Unlike the recorded evidence of the other tests it is in the tree, so no run is without it.

#[path = "../../../../tests/vectors/reader.rs"]
mod reader;

use std::path::Path;

use chrysalis_wire::{AttestationDocument, DeviceDocument, Digest, RuntimeEvent, UnixTime};
use serde::de::DeserializeOwned;
use serde_json::Value;

use self::reader::{Case, cases};
use crate::nvidia::{self, DeviceEvidence};
use crate::{
    AllowSim, Appraiser, Binding, Collateral, Pins, Refusal, ReportData, Role, Session,
    keyset_digest, replay_rtmr,
};

/// Code and rule of a refusal.
type No = (String, Option<String>);

fn of(refusal: &Refusal) -> No {
    (refusal.code.to_owned(), Some(refusal.rule.id().to_owned()))
}

fn text<'a>(input: &'a Value, name: &str) -> &'a str {
    input[name].as_str().unwrap()
}

fn bytes(input: &Value, name: &str) -> Vec<u8> {
    hex::decode(text(input, name)).unwrap()
}

fn value<T: DeserializeOwned>(input: &Value, name: &str) -> T {
    serde_json::from_value(input[name].clone()).unwrap()
}

fn pins(input: &Value, allow: AllowSim) -> Result<Pins, No> {
    Pins::parse(text(input, "pins"), allow).map_err(|e| (e.code().to_owned(), None))
}

fn collateral(input: &Value) -> Result<Collateral, No> {
    let bundle = text(input, "collateral").as_bytes();
    Collateral::parse(bundle).map_err(|e| (e.code().to_owned(), None))
}

fn role(value: &Value) -> Role {
    match value.as_str() {
        Some("server") => Role::Server,
        Some("client") => Role::Client,
        other => panic!("{other:?} is no end of a connection"),
    }
}

fn judge(stage: &str, input: &Value) -> Result<(), No> {
    let now = || -> UnixTime { value(input, "now") };
    match stage {
        "quote" | "collateral" => {
            let appraiser = Appraiser::new(pins(input, AllowSim::Yes)?);
            let expected = ReportData(bytes(input, "report_data").try_into().unwrap());
            let (quote, collateral) = (bytes(input, "quote"), collateral(input)?);
            let verdict = appraiser.appraise_quote(&quote, &expected, &collateral, now());
            verdict.result.map(|_| ()).map_err(|no| of(&no))
        }
        "document" => {
            let appraiser = Appraiser::new(pins(input, AllowSim::Yes)?);
            let document: AttestationDocument = value(input, "document");
            let session: Session = value(input, "session");
            let prover = input.get("prover").map_or(Role::Server, role);
            let collateral = collateral(input)?;
            let verdict = appraiser.appraise_end(prover, &document, &session, &collateral, now());
            verdict.result.map(|_| ()).map_err(|no| of(&no))
        }
        "pins" => {
            let allow = if value(input, "allow_sim") { AllowSim::Yes } else { AllowSim::No };
            pins(input, allow).map(|_| ())
        }
        "event-log" => {
            let events: Vec<RuntimeEvent> = value(input, "events");
            let no = |code: &str| (code.to_owned(), Some("R-EVENT-LOG".to_owned()));
            let register = replay_rtmr(&events).map_err(|e| no(e.code()))?;
            if register[..] == bytes(input, "rtmr3") { Ok(()) } else { Err(no("E-RTMR3")) }
        }
        "gpu" => {
            let pins = pins(input, AllowSim::Yes)?;
            let set: Vec<DeviceDocument> = value(input, "devices");
            let read = |device: &DeviceDocument| DeviceEvidence {
                report: hex::decode(&device.report).unwrap(),
                chain: hex::decode(&device.chain).unwrap(),
            };
            let set: Vec<DeviceEvidence> = set.iter().map(read).collect();
            let nonce = bytes(input, "nonce").try_into().unwrap();
            let verdict = nvidia::appraise(&set, &nonce, pins.device().unwrap(), now());
            verdict.result.map(|_| ()).map_err(|no| of(&no))
        }
        _ => {
            let session: Session = value(input, "session");
            let binding = Binding {
                role: role(&input["role"]),
                tls_spki: session.tls_spki,
                nonce: session.nonce,
                exporter: session.exporter,
                keyset_digest: keyset_digest(&bytes(input, "keyset")),
                device_digest: value::<Digest>(input, "device_digest"),
            };
            let found = bytes(input, "report_data").try_into().unwrap();
            let no = || ("E-REPORT-DATA".to_owned(), Some("R-REPORT-DATA".to_owned()));
            binding.report_data().matches(&found).then_some(()).ok_or_else(no)
        }
    }
}

#[test]
fn every_case_comes_out_as_the_corpus_says() {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors");
    let stages = ["quote", "collateral", "document", "pins", "event-log", "gpu", "attest"];
    let (all, mut faults) = (cases(&vectors, &stages), Vec::new());
    for Case { name, input, expected } in &all {
        let (stage, _) = name.split_once('/').unwrap();
        let found = judge(stage, input);
        let wanted = match expected["code"].as_str() {
            None => Ok(()),
            Some(code) => Err((code.to_owned(), expected["rule"].as_str().map(str::to_owned))),
        };
        if found != wanted {
            faults.push(format!("{name}: expected {wanted:?}, found {found:?}"));
        }
    }
    assert!(all.len() > 350, "only {} cases", all.len());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn an_accepted_worker_shows_what_was_verified() {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors");
    let all = cases(&vectors, &["document"]);
    let input = &all.iter().find(|case| case.name.ends_with("002-genuine-gpu")).unwrap().input;
    let appraiser = Appraiser::new(pins(input, AllowSim::Yes).unwrap());
    let document: AttestationDocument = value(input, "document");
    let (bundle, now) = (collateral(input).unwrap(), value(input, "now"));
    let verdict = appraiser.appraise(&document, &value(input, "session"), &bundle, now);
    assert!(verdict.accepted() && verdict.insecure_sim);
    let (text, json) = (verdict.to_text(), verdict.to_json());
    assert!(text.contains("ACCEPTED (INSECURE-SIM)  sim serving"), "{text}");
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["accepted"], &json["insecure_sim"]), (&true.into(), &true.into()));
    assert_eq!(json["worker"]["pin_name"], "sim");

    // What the transcript says of rules that pass is read by people who decide.
    let detail = |id: crate::RuleId| {
        let rule = verdict.rules.iter().find(|rule| rule.id == id).unwrap();
        rule.detail.clone()
    };
    assert_eq!(detail(crate::RuleId::CollateralAge), "issued 7 days ago, at most 14");
    assert!(detail(crate::RuleId::Image).contains("sim"), "{}", detail(crate::RuleId::Image));

    let worker = verdict.result.unwrap();
    let pin = &appraiser.pins().workers()[0];
    assert_eq!((worker.pin_name(), worker.insecure_sim()), ("sim", true));
    assert_eq!(worker.keyset().encode(), hex::decode(&document.keyset).unwrap());
    assert_eq!(worker.keyset_digest(), keyset_digest(&hex::decode(&document.keyset).unwrap()));
    assert_eq!(worker.measurement().td().unwrap().mrtd, pin.mrtd);
    assert_eq!(worker.measurement().td().unwrap().rtmr[3], replay_rtmr(&document.events).unwrap());
    assert_eq!(worker.measurement_digest(), worker.measurement().digest());
    assert_eq!(worker.manifest_digest(), pin.manifest_sha256);
    assert_eq!(
        (worker.model_root(), worker.manifest().model.root),
        (pin.model_root, pin.model_root)
    );
    assert_eq!(worker.devices().len(), 1);
    let quote = crate::CutQuote::parse(&hex::decode(&document.quote).unwrap()).unwrap();
    assert_eq!(worker.evidence_digest(), quote.digest());
    assert_eq!(worker.collateral_expires(), bundle.stated().unwrap().expires);
}

#[test]
fn a_quote_alone_says_that_it_is_simulated_and_whether_it_is_accepted() {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors");
    let all = cases(&vectors, &["quote"]);
    for name in ["quote/001-genuine-v4", "quote/065-debug"] {
        let case = all.iter().find(|case| case.name == name).unwrap();
        let input = &case.input;
        let appraiser = Appraiser::new(pins(input, AllowSim::Yes).unwrap());
        let expected = ReportData(bytes(input, "report_data").try_into().unwrap());
        let bundle = collateral(input).unwrap();
        let quote = bytes(input, "quote");
        let verdict = appraiser.appraise_quote(&quote, &expected, &bundle, value(input, "now"));
        let wanted = case.expected["code"].is_null();
        assert!(verdict.insecure_sim);
        assert_eq!((verdict.accepted(), verdict.result.is_ok()), (wanted, wanted));
        let json = serde_json::to_value(&verdict).unwrap();
        assert_eq!(json["accepted"], wanted);
        // The rule about report_data asks less of a quote alone, and says so; the others are the same.
        for rule in &verdict.rules {
            let own = rule.id == crate::RuleId::ReportData;
            assert_eq!(rule.title != rule.id.title(), own, "{rule}");
        }
        match &verdict.result {
            Ok(accepted) => assert!(accepted.insecure_sim()),
            Err(refusal) => {
                let sentence = format!("expected {}; found {}", refusal.expected, refusal.found);
                assert_eq!(refusal.message(), sentence);
            }
        }
    }
}

#[test]
fn an_enclave_and_a_set_of_devices_are_shown_with_what_was_pinned() {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors");
    let enclaves = cases(&vectors, &["document"]);
    let input = &enclaves.iter().find(|c| c.name.ends_with("-genuine-enclave")).unwrap().input;
    let appraiser = Appraiser::new(pins(input, AllowSim::Yes).unwrap());
    let document: AttestationDocument = value(input, "document");
    let (bundle, now) = (collateral(input).unwrap(), value(input, "now"));
    let verdict = appraiser.appraise(&document, &value(input, "session"), &bundle, now);
    let text = verdict.to_text();
    assert!(text.contains("CONFIGID zero, CONFIGSVN 0, one of 1"), "{text}");
    assert!(text.contains("enclave"), "{text}");

    let sets = cases(&vectors, &["gpu"]);
    for (name, words) in [("gpu/001-genuine", "ACCEPTED  1 devices"), ("gpu/067", "REFUSED  ")] {
        let case = sets.iter().find(|c| c.name.starts_with(name)).unwrap();
        let pins = pins(&case.input, AllowSim::Yes).unwrap();
        let set: Vec<DeviceDocument> = value(&case.input, "devices");
        let read = |device: &DeviceDocument| DeviceEvidence {
            report: hex::decode(&device.report).unwrap(),
            chain: hex::decode(&device.chain).unwrap(),
        };
        let set: Vec<DeviceEvidence> = set.iter().map(read).collect();
        let nonce = bytes(&case.input, "nonce").try_into().unwrap();
        let now = value(&case.input, "now");
        let shown = nvidia::appraise(&set, &nonce, pins.device().unwrap(), now).to_string();
        assert!(shown.contains(words), "{shown}");
        assert!(shown.lines().count() > 10, "{shown}");
    }
}
