//! Collateral of SGX enclaves, which states other things than that of trust domains: no TDX module,
//! another quoting enclave. The quote is genuine in every case.

use chrysalis_evidence::RuleId;
use chrysalis_tee_sim::{Revoked, collateral, forge_enclave_collateral};
use serde_json::{Value, json};

use super::enclave::honest_enclave;
use crate::case::{Stage, text};
use crate::world::{ISSUED, with_line};

pub(super) fn enclaves(stage: &mut Stage) {
    let base = stage.genuine(
        "genuine-enclave",
        "collateral of the platform of an enclave",
        &honest_enclave(),
    );
    kinds(stage, base);
    statements(stage, base);
    statuses(stage, base);
    revocations(stage, base);
    stage.accepts(base, "enclave-last-second", "the last second of the QE identity", |case| {
        case["collateral"] = qe(|qe| qe["nextUpdate"] = "2026-03-01T00:00:00Z".into())
    });
}

fn kinds(stage: &mut Stage, base: usize) {
    let dcap = ("E-DCAP", RuleId::Dcap);
    stage.refuses(base, dcap, "enclave-of-domains", "that of trust domains", |case| {
        case["collateral"] = collateral(ISSUED).into();
    });
    let tcbs: [Signed; 2] = [
        ("enclave-tcb-info-of-tdx", "signed, for TDX", |tcb| tcb["id"] = "TDX".into()),
        ("enclave-no-levels", "signed, without any level", |tcb| tcb["tcbLevels"] = json!([])),
    ];
    for (name, title, change) in tcbs {
        stage.refuses(base, dcap, name, title, |case| case["collateral"] = tcb(change));
    }
    let qes: [Signed; 3] = [
        ("enclave-qe-of-tdx", "signed, for the quoting enclave of trust domains", |qe| {
            qe["id"] = "TD_QE".into();
        }),
        ("enclave-qe-signer", "signed, for a quoting enclave of another signer", |qe| {
            qe["mrsigner"] = "5A".repeat(32).into();
        }),
        ("enclave-qe-product", "signed, for another quoting enclave", |qe| {
            qe["isvprodid"] = 7.into();
        }),
    ];
    for (name, title, change) in qes {
        stage.refuses(base, dcap, name, title, |case| case["collateral"] = qe(change));
    }
}

fn statements(stage: &mut Stage, base: usize) {
    stage.refuses(
        base,
        ("E-COLLATERAL-FMSPC", RuleId::Dcap),
        "enclave-another-fmspc",
        "signed, for another platform family",
        |case| case["collateral"] = tcb(|tcb| tcb["fmspc"] = "00906ED50000".into()),
    );
    stage.refuses(
        base,
        ("E-COLLATERAL-PCE", RuleId::Dcap),
        "enclave-another-pce",
        "signed, for another provisioning certification enclave",
        |case| case["collateral"] = tcb(|tcb| tcb["pceId"] = "0001".into()),
    );
    stage.refuses(
        base,
        ("E-COLLATERAL-EARLY", RuleId::Dcap),
        "enclave-tcb-info-of-tomorrow",
        "TCB info alone is from the future",
        |case| case["collateral"] = tcb(|tcb| tcb["issueDate"] = "2026-03-02T00:00:00Z".into()),
    );
    stage.refuses(
        base,
        ("E-COLLATERAL-EXPIRED", RuleId::Dcap),
        "enclave-qe-identity-expired",
        "the QE identity alone is over",
        |case| case["collateral"] = qe(|qe| qe["nextUpdate"] = "2026-02-28T00:00:00Z".into()),
    );
    stage.refuses(
        base,
        ("E-COLLATERAL-AGE", RuleId::CollateralAge),
        "enclave-tcb-info-too-old",
        "TCB info alone is older than the pins accept",
        |case| case["collateral"] = tcb(|tcb| tcb["issueDate"] = "2026-02-14T00:00:00Z".into()),
    );
    let earlier = |case: &mut Value| {
        let before = |facts: &mut Value| facts["tcbEvaluationDataNumber"] = 19.into();
        case["collateral"] = forge_enclave_collateral(ISSUED, &[], before, before).into();
    };
    stage.refuses(
        base,
        ("E-EVAL-NUMBER", RuleId::EvalNumber),
        "enclave-evaluation-too-low",
        "signed, of an earlier TCB evaluation",
        earlier,
    );
    stage.accepts(
        base,
        "enclave-evaluation-as-pinned",
        "an earlier evaluation that the pins accept",
        |case| {
            earlier(case);
            text(case, "/pins", |pins| with_line(pins, "min_tcb_evaluation_number", "19"));
        },
    );
}

fn statuses(stage: &mut Stage, base: usize) {
    let refused = ("E-TCB-STATUS", RuleId::TcbStatus);
    for (name, title, status) in [
        ("enclave-platform-hardening", "the platform needs hardened software", "SWHardeningNeeded"),
        ("enclave-platform-configuration", "it needs configuration", "ConfigurationNeeded"),
        ("enclave-platform-out-of-date", "it is out of date", "OutOfDate"),
    ] {
        stage.refuses(base, refused, name, title, |case| {
            case["collateral"] = tcb(|tcb| tcb["tcbLevels"][0]["tcbStatus"] = status.into());
        });
    }
    stage.refuses(
        base,
        refused,
        "enclave-qe-out-of-date",
        "the quoting enclave is out of date",
        |case| case["collateral"] = qe(|qe| qe["tcbLevels"][0]["tcbStatus"] = "OutOfDate".into()),
    );
    stage.refuses(
        base,
        ("E-DCAP", RuleId::Dcap),
        "enclave-platform-revoked",
        "the platform's level is revoked",
        |case| {
            case["collateral"] = tcb(|tcb| tcb["tcbLevels"][0]["tcbStatus"] = "Revoked".into());
        },
    );
}

fn revocations(stage: &mut Stage, base: usize) {
    for (name, title, revoked) in [
        ("enclave-pck-revoked", "the platform's certificate is revoked", Revoked::Pck),
        ("enclave-platform-ca-revoked", "the platform CA is revoked", Revoked::PlatformCa),
        ("enclave-signer-revoked", "the signer of TCB info is revoked", Revoked::TcbSigning),
    ] {
        stage.refuses(base, ("E-DCAP", RuleId::Dcap), name, title, |case| {
            case["collateral"] =
                forge_enclave_collateral(ISSUED, &[revoked], |_| {}, |_| {}).into();
        });
    }
}

/// Signed collateral with another TCB info.
fn tcb(change: impl FnOnce(&mut Value)) -> Value {
    forge_enclave_collateral(ISSUED, &[], change, |_| {}).into()
}

/// Signed collateral with another QE identity.
fn qe(change: impl FnOnce(&mut Value)) -> Value {
    forge_enclave_collateral(ISSUED, &[], |_| {}, change).into()
}

/// Name, title and change of something that is signed afterwards.
type Signed = (&'static str, &'static str, fn(&mut Value));
