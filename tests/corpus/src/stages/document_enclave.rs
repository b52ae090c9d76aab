//! Whole documents of workers in SGX enclaves. An enclave has no register for what it loads; its quote
//! commits to the events instead. Every quote here is signed as it stands.

use chrysalis_evidence::nvidia::DeviceKind;
use chrysalis_evidence::{RuleId, Session};
use chrysalis_tee_sim::SimReport;
use chrysalis_tee_sim::device::{SimDevice, device_pins};
use chrysalis_tee_sim::enclave_collateral;
use chrysalis_wire::{Digest, RuntimeEvent};
use serde_json::{Value, json};

use super::document::input;
use crate::case::{Stage, bytes, text};
use crate::world::{
    ISSUED, Machine, Worker, by_signer, enclave_pins, manifest, pins, session, show,
};

pub(super) fn enclaves(stage: &mut Stage) {
    let mut genuine = input(&honest(), &enclave_pins());
    genuine["collateral"] = enclave_collateral(ISSUED).into();
    let base = stage.genuine("genuine-enclave", "an honest worker in an enclave", &genuine);
    stage.accepts(base, "enclave-of-a-signer", "pinned by its signer", |case| {
        text(case, "/pins", |pins| by_signer(pins, 1, 1));
    });
    stage.accepts(base, "enclave-in-a-batch", "whose quote answers three challenges", |case| {
        case["document"] = Worker { beside: [1, 1], ..honest() }.document();
    });
    quotes(stage, base);
    events(stage, base);
    manifests(stage, base);
    devices(stage, base);
}

fn quotes(stage: &mut Stage, base: usize) {
    stage.refuses(
        base,
        ("E-QUOTE-TEE", RuleId::QuoteForm),
        "enclave-not-asked",
        "an enclave under pins of trust domains",
        |case| case["pins"] = pins().into(),
    );
    let reports: [(_, _, _, fn(&mut SimReport)); 3] = [
        (("E-SGX-DEBUG", RuleId::SgxDebug), "enclave-debug", "an enclave under debug", |report| {
            report.attributes[0] |= 2
        }),
        (
            ("E-MRENCLAVE", RuleId::SgxEnclave),
            "another-enclave",
            "an enclave that is not pinned",
            |report| report.identity.mrenclave.0[0] ^= 1,
        ),
        (
            ("E-REPORT-DATA", RuleId::ReportData),
            "enclave-no-report-data",
            "a quote that was made for something else",
            |report| report.wrong_report_data = true,
        ),
    ];
    for (refusal, name, title, change) in reports {
        stage.refuses(base, refusal, name, title, |case| {
            case["document"] =
                Worker { machine: Machine::Enclave(change), ..Worker::honest() }.document();
        });
    }
    stage.refuses(
        base,
        ("E-REPORT-DATA", RuleId::ReportData),
        "enclave-replayed",
        "evidence of an enclave for an earlier nonce",
        |case| {
            let session = Session { nonce: [0xAA; 32], ..session() };
            case["document"] = Worker { session, ..honest() }.document();
        },
    );
}

fn events(stage: &mut Stage, base: usize) {
    let rule = RuleId::SgxEvents;
    let order = ("E-EVENT-ORDER", rule);
    let committed = |change: fn(&mut Vec<RuntimeEvent>)| {
        move |case: &mut Value| case["document"] = honest().with_events(change).document()
    };
    stage.refuses(
        base,
        order,
        "enclave-model-first",
        "committed to, in another order",
        committed(|events| events.swap(0, 1)),
    );
    stage.refuses(
        base,
        order,
        "enclave-nothing-loaded",
        "committed to nothing",
        committed(Vec::clear),
    );
    stage.refuses(
        base,
        order,
        "enclave-another-event",
        "committed to one event more",
        committed(|events| {
            events.push(RuntimeEvent { name: "policy".into(), payload: "00".into() });
        }),
    );
    stage.refuses(
        base,
        ("E-EVENT-NAME", rule),
        "enclave-event-name",
        "an event with a zero byte",
        |case| case["document"]["events"][0]["name"] = "manifest\0".into(),
    );
    stage.refuses(
        base,
        ("E-EVENT-PAYLOAD", rule),
        "enclave-event-payload",
        "a payload in upper case",
        |case| case["document"]["events"][0]["payload"] = "AB".into(),
    );
    let bound = ("E-REPORT-DATA", RuleId::ReportData);
    stage.refuses(
        base,
        bound,
        "enclave-event-changed",
        "another manifest than the enclave committed to",
        |case| bytes(case, "/document/events/0/payload", |payload| payload[0] ^= 1),
    );
    stage.refuses(
        base,
        bound,
        "enclave-committed-to-nothing",
        "a quote as of a trust domain without devices, which says nothing of the events",
        |case| {
            let device_digest = Some(Digest([0; 32]));
            case["document"] = Worker { device_digest, ..honest() }.document();
        },
    );
}

fn manifests(stage: &mut Stage, base: usize) {
    let rule = RuleId::Manifest;
    let other = || manifest().replace("prompt = 1", "prompt = 2");
    stage.refuses(
        base,
        ("E-MANIFEST-EVENT", rule),
        "enclave-manifest-replaced",
        "another manifest than the enclave committed to",
        |case| case["document"]["manifest"] = hex::encode(other()).into(),
    );
    // Under a pin of the signer nothing but the commitment tells two manifests apart.
    stage.refuses(
        base,
        ("E-MANIFEST-PIN", rule),
        "enclave-manifest-not-pinned",
        "committed to, with other prices than pinned with the signer",
        |case| {
            text(case, "/pins", |pins| by_signer(pins, 1, 1));
            case["document"] = honest().with_manifest(other()).document();
        },
    );
    stage.refuses(
        base,
        ("E-MODEL-ROOT-EVENT", RuleId::ModelRoot),
        "enclave-another-model",
        "committed to another model than the manifest names",
        |case| {
            let worker =
                honest().with_events(|events| events[1].payload = Digest([0x77; 32]).to_string());
            case["document"] = worker.document();
        },
    );
}

fn devices(stage: &mut Stage, base: usize) {
    stage.refuses(
        base,
        ("E-SGX-DEVICE", RuleId::Device),
        "enclave-device-asked",
        "an enclave under pins that ask for a device, which no enclave has",
        |case| {
            let section = device_pins(DeviceKind::Gh100, 1, 0);
            text(case, "/pins", |pins| format!("{pins}{section}"));
        },
    );
    stage.refuses(
        base,
        ("E-GPU-UNASKED", RuleId::Device),
        "enclave-device-shown",
        "an enclave that shows a device, which its quote cannot commit to",
        |case| {
            let device = SimDevice::new(DeviceKind::Gh100, 0).evidence(&session().gpu_nonce());
            case["document"]["devices"] = json!(show(&[device]));
        },
    );
}

fn honest() -> Worker {
    Worker { machine: Machine::Enclave(|_| {}), ..Worker::honest() }
}
