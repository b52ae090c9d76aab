//! Whole documents: everything a worker answers to a challenge, against the verifier's own session.

use chrysalis_evidence::nvidia::{DeviceEvidence, DeviceKind};
use chrysalis_evidence::{Role, RuleId, Session};
use chrysalis_tee_sim::device::{SimDevice, device_pins};
use chrysalis_tee_sim::{Faults, collateral};
use chrysalis_wire::Digest;
use serde_json::{Value, json};

use super::{document_batch, document_enclave, document_keys};
use crate::case::{Stage, bytes, text};
use crate::world::{ISSUED, MODEL_ROOT, Machine, NOW, Worker, manifest, pins, session, show};

pub(crate) fn stage() -> Stage {
    let mut stage = Stage::new("document", "policy 1");
    let honest = stage.genuine("genuine", "an honest worker", &input(&Worker::honest(), &pins()));
    let gpus = format!("{}{}", pins(), device_pins(DeviceKind::Gh100, 1, 0));
    let with_gpu = Worker { devices: vec![gpu(&session().gpu_nonce())], ..Worker::honest() };
    let device =
        stage.genuine("genuine-gpu", "an honest worker with a GPU", &input(&with_gpu, &gpus));
    forms(&mut stage, honest);
    quotes(&mut stage, honest);
    sessions(&mut stage, honest);
    logs(&mut stage, honest);
    manifests(&mut stage, honest);
    document_keys::keysets(&mut stage, honest);
    document_keys::networks(&mut stage, honest);
    devices(&mut stage, honest, device);
    document_batch::batches(&mut stage, honest);
    document_enclave::enclaves(&mut stage);
    provers(&mut stage, honest);
    stage
}

fn forms(stage: &mut Stage, base: usize) {
    let form = ("E-DOCUMENT", RuleId::Document);
    stage.refuses(base, form, "schema-v2", "another schema", |case| {
        case["document"]["schema"] = "chrysalis/attestation/v2".into();
    });
    for (field, upper, odd) in [
        ("quote", "a quote in upper case", "a quote of half a byte"),
        ("keyset", "a keyset in upper case", "a keyset of half a byte"),
        ("manifest", "a manifest in upper case", "a manifest of half a byte"),
    ] {
        let pointer = format!("/document/{field}");
        stage.refuses(base, form, &format!("{field}-upper-case"), upper, |case| {
            text(case, &pointer, str::to_uppercase);
        });
        stage.refuses(base, form, &format!("{field}-odd"), odd, |case| {
            text(case, &pointer, |hex| format!("{hex}0"));
        });
    }
    for (field, title, limit) in [
        ("quote", "a quote one byte over the limit", 32 * 1024),
        ("keyset", "a keyset one byte over the limit", 16 * 1024),
        ("manifest", "a manifest one byte over the limit", 64 * 1024),
    ] {
        stage.refuses(base, form, &format!("{field}-too-large"), title, |case| {
            case["document"][field] = "00".repeat(limit + 1).into();
        });
    }
    stage.refuses(base, form, "too-many-events", "one event over the limit", |case| {
        let event = json!({ "name": "a", "payload": "" });
        case["document"]["events"] = json!(vec![event; MAX_EVENTS + 1]);
    });
    stage.refuses(base, form, "too-many-devices", "one device over the limit", |case| {
        let device = json!({ "report": "", "chain": "" });
        case["document"]["devices"] = json!(vec![device; 13]);
    });
    stage.accepts(base, "says-tdx", "what a document calls its platform decides nothing", |case| {
        case["document"]["platform"] = "tdx".into();
    });
}

fn quotes(stage: &mut Stage, base: usize) {
    let none = Faults::default();
    for (name, title, faults, code, rule) in [
        ("debug", "a TD under debug", Faults { debug: true, ..none }, "E-DEBUG", RuleId::Debug),
        (
            "bad-signature",
            "a quote that is not signed",
            Faults { bad_signature: true, ..none },
            "E-DCAP",
            RuleId::Dcap,
        ),
        (
            "truncated",
            "a quote whose last byte is missing",
            Faults { truncated: true, ..none },
            "E-QUOTE-TRUNCATED",
            RuleId::QuoteForm,
        ),
        (
            "out-of-date",
            "a platform that is out of date",
            Faults { out_of_date: true, ..none },
            "E-TCB-STATUS",
            RuleId::TcbStatus,
        ),
        (
            "another-module",
            "a TDX module that is not pinned",
            Faults { wrong_mr_seam: true, ..none },
            "E-SEAM",
            RuleId::Seam,
        ),
        (
            "another-image",
            "an image that is not pinned",
            Faults { wrong_mrtd: true, ..none },
            "E-MRTD",
            RuleId::Image,
        ),
        (
            "extension-lost",
            "nothing of the log was extended",
            Faults { lost_extend: true, ..none },
            "E-RTMR3",
            RuleId::EventLog,
        ),
    ] {
        stage.refuses(base, (code, rule), name, title, |case| {
            case["document"] =
                Worker { machine: Machine::Domain(faults), ..Worker::honest() }.document();
        });
    }
}

fn sessions(stage: &mut Stage, base: usize) {
    let bound = ("E-REPORT-DATA", RuleId::ReportData);
    let shown = |worker: Worker| move |case: &mut Value| case["document"] = worker.document();
    let elsewhere = |change: fn(&mut Session)| {
        let mut session = session();
        change(&mut session);
        shown(Worker { session, ..Worker::honest() })
    };
    stage.refuses(
        base,
        bound,
        "replayed",
        "evidence for an earlier nonce",
        elsewhere(|s| s.nonce[0] ^= 1),
    );
    stage.refuses(
        base,
        bound,
        "relayed",
        "evidence of another connection",
        elsewhere(|s| s.exporter[0] ^= 1),
    );
    stage.refuses(
        base,
        bound,
        "tls-ended-elsewhere",
        "evidence for another TLS key than this connection's",
        elsewhere(|s| s.tls_spki.0[0] ^= 1),
    );
    stage.refuses(
        base,
        bound,
        "reflected",
        "evidence that a client made",
        shown(Worker { role: Role::Client, ..Worker::honest() }),
    );
    stage.refuses(base, bound, "keyset-replaced", "another keyset than the attested one", |case| {
        bytes(case, "/document/keyset", |keyset| keyset[8] ^= 1);
    });
    stage.refuses(
        base,
        bound,
        "no-report-data",
        "a quote that lies about its report data",
        shown(Worker {
            machine: Machine::Domain(Faults { wrong_report_data: true, ..Faults::default() }),
            ..Worker::honest()
        }),
    );
    stage.refuses(
        base,
        bound,
        "devices-claimed",
        "a quote that commits to devices nobody shows",
        shown(Worker { device_digest: Some(Digest([4; 32])), ..Worker::honest() }),
    );
}

/// The other end, which proves itself to a server: `session` is then about its own key and exporter.
fn provers(stage: &mut Stage, base: usize) {
    let bound = ("E-REPORT-DATA", RuleId::ReportData);
    let by_client = |worker: Worker| {
        move |case: &mut Value| {
            case["prover"] = "client".into();
            case["document"] = worker.document();
        }
    };
    let client = || Worker { role: Role::Client, ..Worker::honest() };
    stage.accepts(base, "client", "a client that proves itself", by_client(client()));
    stage.accepts(base, "server-said", "a server that proves itself, which is said", |case| {
        case["prover"] = "server".into();
    });
    stage.refuses(
        base,
        bound,
        "client-reflects",
        "a client that shows what the server made",
        by_client(Worker::honest()),
    );
    stage.refuses(
        base,
        bound,
        "client-in-a-batch-of-a-server",
        "a client that shows a batch of a server",
        by_client(Worker { beside: [1, 1], ..Worker::honest() }),
    );
    stage.refuses(
        base,
        bound,
        "client-replays",
        "a client with an earlier nonce's proof",
        |case| {
            let session = Session { nonce: [0xAA; 32], ..session() };
            by_client(Worker { session, ..client() })(case);
        },
    );
}

fn logs(stage: &mut Stage, base: usize) {
    let rule = RuleId::EventLog;
    let register = ("E-RTMR3", rule);
    stage.refuses(base, register, "log-empty", "no log of what was extended", |case| {
        case["document"]["events"] = json!([]);
    });
    stage.refuses(
        base,
        register,
        "log-payload-changed",
        "a payload that was not extended",
        |case| {
            bytes(case, "/document/events/0/payload", |payload| payload[0] ^= 1);
        },
    );
    stage.refuses(base, register, "log-swapped", "the events in another order", |case| {
        case["document"]["events"].as_array_mut().unwrap().swap(0, 1);
    });
    stage.refuses(base, register, "extended-once-more", "an extension the log hides", |case| {
        let mut worker = Worker::honest();
        let again = worker.extended[0].clone();
        worker.extended.push(again);
        case["document"] = worker.document();
    });
    let order = ("E-EVENT-ORDER", rule);
    let measured = |change: fn(&mut Vec<chrysalis_wire::RuntimeEvent>)| {
        move |case: &mut Value| case["document"] = Worker::honest().with_events(change).document()
    };
    stage.refuses(
        base,
        order,
        "model-first",
        "extended and logged in another order",
        measured(|events| events.swap(0, 1)),
    );
    stage.refuses(
        base,
        order,
        "another-event",
        "one more event, extended and logged",
        measured(|events| {
            events
                .push(chrysalis_wire::RuntimeEvent { name: "policy".into(), payload: "00".into() })
        }),
    );
    stage.refuses(
        base,
        order,
        "model-not-measured",
        "the model was never measured",
        measured(|events| drop(events.pop())),
    );
    stage.refuses(
        base,
        order,
        "nothing-measured",
        "nothing was measured, and the log says so",
        measured(Vec::clear),
    );
    stage.refuses(base, ("E-EVENT-NAME", rule), "log-name", "an event with a zero byte", |case| {
        case["document"]["events"][0]["name"] = "manifest\0".into();
    });
    stage.refuses(
        base,
        ("E-EVENT-PAYLOAD", rule),
        "log-payload",
        "a payload in upper case",
        |case| {
            case["document"]["events"][0]["payload"] = "AB".into();
        },
    );
}

fn manifests(stage: &mut Stage, base: usize) {
    let rule = RuleId::Manifest;
    stage.refuses(
        base,
        ("E-MANIFEST-EVENT", rule),
        "manifest-replaced",
        "another manifest than the measured one",
        |case| {
            let other = manifest().replace("prompt = 1", "prompt = 2");
            case["document"]["manifest"] = hex::encode(other).into();
        },
    );
    stage.refuses(
        base,
        ("E-MANIFEST-PIN", rule),
        "manifest-not-pinned",
        "measured, with other prices than pinned",
        |case| {
            let other = manifest().replace("prompt = 1", "prompt = 2");
            case["document"] = Worker::honest().with_manifest(other).document();
        },
    );
    stage.refuses(
        base,
        ("E-MANIFEST-FORM", rule),
        "manifest-unreadable",
        "measured, with a field nobody knows",
        |case| {
            let other = format!("surprise = true\n{}", manifest());
            case["document"] = Worker::honest().with_manifest(other).document();
        },
    );
    stage.refuses(
        base,
        ("E-MANIFEST-FORM", rule),
        "manifest-empty",
        "measured, of no bytes",
        |case| case["document"] = Worker::honest().with_manifest(String::new()).document(),
    );
    let rule = RuleId::ModelRoot;
    stage.refuses(
        base,
        ("E-MODEL-ROOT-EVENT", rule),
        "another-model-measured",
        "another model was measured than the manifest names",
        |case| {
            let worker = Worker::honest()
                .with_events(|events| events[1].payload = Digest([0x77; 32]).to_string());
            case["document"] = worker.document();
        },
    );
    stage.refuses(
        base,
        ("E-MODEL-ROOT-PIN", rule),
        "another-model-pinned",
        "the pins name another model than their own manifest",
        |case| {
            let root = format!("model_root = \"{MODEL_ROOT}\"");
            let other = format!("model_root = \"{}\"", Digest([0x77; 32]));
            text(case, "/pins", |pins| pins.replace(&root, &other));
        },
    );
}

fn devices(stage: &mut Stage, honest: usize, device: usize) {
    stage.refuses(
        honest,
        ("E-GPU-UNASKED", RuleId::Device),
        "device-unasked",
        "a device that the pins do not ask for, committed to",
        |case| {
            let devices = vec![gpu(&session().gpu_nonce())];
            case["document"] = Worker { devices, ..Worker::honest() }.document();
        },
    );
    let bound = ("E-REPORT-DATA", RuleId::ReportData);
    stage.refuses(
        device,
        bound,
        "device-left-out",
        "a device committed to and not shown",
        |case| {
            drop(case["document"].as_object_mut().unwrap().shift_remove("devices"));
        },
    );
    stage.refuses(device, bound, "device-replaced", "another device than committed to", |case| {
        let other = SimDevice::new(DeviceKind::Gh100, 1).evidence(&session().gpu_nonce());
        case["document"]["devices"] = json!(show(&[other]));
    });
    stage.refuses(
        device,
        ("E-GPU-COUNT", RuleId::GpuForm),
        "no-device",
        "pins that ask for a device, and a worker without",
        |case| case["document"] = Worker::honest().document(),
    );
    stage.refuses(
        device,
        ("E-GPU-NONCE", RuleId::GpuNonce),
        "device-borrowed",
        "a device that answered the bare nonce, not this connection's",
        |case| {
            let devices = vec![gpu(&session().nonce)];
            case["document"] = Worker { devices, ..Worker::honest() }.document();
        },
    );
}

fn gpu(nonce: &[u8; 32]) -> DeviceEvidence {
    SimDevice::new(DeviceKind::Gh100, 0).evidence(nonce)
}

pub(super) fn input(worker: &Worker, pins: &str) -> Value {
    json!({
        "pins": pins,
        "collateral": collateral(ISSUED),
        "now": NOW.0,
        "session": session(),
        "document": worker.document(),
    })
}

const MAX_EVENTS: usize = chrysalis_wire::limits::MAX_RUNTIME_EVENTS;
