//! Collateral: what an untrusted fetcher hands to a verifier. The quote is genuine in every case; the
//! facts about its platform are too old, unsigned, of another platform, or say that it is not fit.

use chrysalis_evidence::RuleId;
use chrysalis_tee_sim::{Revoked, collateral, forge_collateral};
use chrysalis_wire::UnixTime;
use serde_json::{Value, json};

use super::collateral_enclave;
use super::quote::honest;
use crate::case::{Stage, text};
use crate::world::{DAY, ISSUED, alone, with_line};

pub(crate) fn stage() -> Stage {
    let mut stage = Stage::new("collateral", "policy 4");
    let base = stage.genuine("genuine", "collateral of the quote's platform", &alone(&honest()));
    forms(&mut stage, base);
    windows(&mut stage, base);
    signatures(&mut stage, base);
    revocations(&mut stage, base);
    platforms(&mut stage, base);
    statuses(&mut stage, base);
    collateral_enclave::enclaves(&mut stage);
    stage
}

fn forms(stage: &mut Stage, base: usize) {
    let form = ("E-COLLATERAL-FORM", 30);
    stage.rejects(base, form, "empty", "no bytes at all", |case| case["collateral"] = "".into());
    stage.rejects(base, form, "truncated", "its last byte is missing", |case| {
        text(case, "/collateral", |old| old[..old.len() - 1].to_owned());
    });
    stage.rejects(base, form, "trailing", "text behind its end", |case| {
        text(case, "/collateral", |old| format!("{old}x"));
    });
    stage.rejects(base, form, "no-pck-crl", "a revocation list is missing", |case| {
        within(case, |inner| drop(inner.as_object_mut().unwrap().shift_remove("pck_crl")));
    });
    stage.rejects(base, form, "signature-not-hex", "a signature that is not hex", |case| {
        within(case, |inner| inner["tcb_info_signature"] = "zz".into());
    });
    stage.rejects(base, form, "unknown-field", "a field beside the schema", |case| {
        whole(case, |bundle| bundle["comment"] = "trust me".into());
    });
    stage.rejects(base, ("E-COLLATERAL-SCHEMA", 20), "schema-v2", "another schema", |case| {
        whole(case, |bundle| bundle["schema"] = "chrysalis/collateral/v2".into());
    });
    stage.rejects(
        base,
        ("E-COLLATERAL-SIZE", 30),
        "too-large",
        "one byte over the largest size",
        |case| text(case, "/collateral", |old| padded(old, LARGEST + 1)),
    );
    stage.accepts(base, "padded-to-the-limit", "white space up to the largest size", |case| {
        text(case, "/collateral", |old| padded(old, LARGEST));
    });
    let dcap = ("E-COLLATERAL-FORM", RuleId::Dcap);
    stage.refuses(base, dcap, "tcb-info-not-json", "TCB info that is not JSON", |case| {
        within(case, |inner| inner["tcb_info"] = "{".into());
    });
    stage.refuses(base, dcap, "qe-identity-not-json", "QE identity that is not JSON", |case| {
        within(case, |inner| inner["qe_identity"] = "[]".into());
    });
    stage.refuses(
        base,
        dcap,
        "date-of-another-form",
        "signed, with a date without a zone",
        |case| {
            case["collateral"] = tcb(|tcb| tcb["issueDate"] = "2026-02-22 00:00:00".into());
        },
    );
    stage.refuses(base, dcap, "no-such-day", "signed, issued on 30 February", |case| {
        case["collateral"] = tcb(|tcb| tcb["issueDate"] = "2026-02-30T00:00:00Z".into());
    });
}

fn windows(stage: &mut Stage, base: usize) {
    let at = |time: u64| move |case: &mut Value| case["now"] = time.into();
    let early = ("E-COLLATERAL-EARLY", RuleId::Dcap);
    stage.accepts(base, "first-second", "the first second of its window", at(ISSUED.0));
    stage.refuses(base, early, "before-its-window", "a second before its window", at(ISSUED.0 - 1));
    stage.refuses(base, early, "clock-of-1970", "a clock that was never set", at(0));
    let expired = ("E-COLLATERAL-EXPIRED", RuleId::Dcap);
    stage.refuses(
        base,
        expired,
        "after-its-window",
        "a second after its window",
        at(ISSUED.0 + 30 * DAY + 1),
    );
    stage.refuses(base, expired, "far-future", "a clock of the far future", at(1 << 40));
    stage.refuses(
        base,
        early,
        "tcb-info-of-tomorrow",
        "TCB info alone is from the future",
        |case| {
            case["collateral"] = tcb(|tcb| tcb["issueDate"] = "2026-03-02T00:00:00Z".into());
        },
    );
    stage.refuses(base, expired, "qe-identity-expired", "the QE identity alone is over", |case| {
        case["collateral"] = qe(|qe| qe["nextUpdate"] = "2026-02-28T00:00:00Z".into());
    });
    stage.refuses(
        base,
        ("E-COLLATERAL-AGE", RuleId::CollateralAge),
        "tcb-info-too-old",
        "TCB info alone is older than the pins accept",
        |case| case["collateral"] = tcb(|tcb| tcb["issueDate"] = "2026-02-14T00:00:00Z".into()),
    );
    stage.refuses(
        base,
        ("E-COLLATERAL-AGE", RuleId::CollateralAge),
        "qe-identity-too-old",
        "the QE identity alone is older than the pins accept",
        |case| case["collateral"] = qe(|qe| qe["issueDate"] = "2026-02-14T00:00:00Z".into()),
    );
    // The lists have dates of their own.
    let dcap = ("E-DCAP", RuleId::Dcap);
    for (name, title, list) in [
        ("pck-crl-expired", "the platform CA's revocation list is over", "pck_crl"),
        ("root-crl-expired", "the root's revocation list is over", "root_ca_crl"),
    ] {
        stage.refuses(base, dcap, name, title, |case| {
            let old = collateral(UnixTime(ISSUED.0 - 60 * DAY));
            let old: Value = serde_json::from_str(&old).unwrap();
            within(case, |inner| inner[list] = old["collateral"][list].clone());
        });
    }
}

fn signatures(stage: &mut Stage, base: usize) {
    let dcap = ("E-DCAP", RuleId::Dcap);
    stage.refuses(base, dcap, "tcb-info-edited", "OutOfDate was edited to UpToDate", |case| {
        field(case, "tcb_info", |tcb| tcb.replacen("\"OutOfDate\"", "\"UpToDate\"", 1));
    });
    stage.refuses(base, dcap, "tcb-info-with-a-space", "white space in signed text", |case| {
        field(case, "tcb_info", |tcb| tcb.replacen(',', ", ", 1));
    });
    stage.refuses(
        base,
        dcap,
        "qe-identity-edited",
        "the quoting enclave's SVN was lowered",
        |case| {
            field(case, "qe_identity", |qe| qe.replacen("\"isvsvn\":4", "\"isvsvn\":3", 1));
        },
    );
    for (name, title, signature) in [
        ("tcb-info-signature", "a bit of TCB info's signature is flipped", "tcb_info_signature"),
        ("qe-identity-signature", "a bit of the QE identity's is", "qe_identity_signature"),
        ("pck-crl-signature", "a bit of the platform CA's list is flipped", "pck_crl"),
        ("root-crl-signature", "a bit of the root's list is flipped", "root_ca_crl"),
    ] {
        stage.refuses(base, dcap, name, title, |case| {
            field(case, signature, |hex| {
                let (head, last) = hex.split_at(hex.len() - 1);
                format!("{head}{}", if last == "0" { "1" } else { "0" })
            });
        });
    }
    let swap = |one: &'static str, other: &'static str| {
        move |case: &mut Value| {
            within(case, |inner| {
                let first = inner[one].take();
                inner[one] = inner[other].take();
                inner[other] = first;
            });
        }
    };
    stage.refuses(
        base,
        dcap,
        "signatures-swapped",
        "the two signatures stand in each other's place",
        swap("tcb_info_signature", "qe_identity_signature"),
    );
    stage.refuses(
        base,
        dcap,
        "lists-swapped",
        "the two revocation lists stand in each other's place",
        swap("pck_crl", "root_ca_crl"),
    );
    stage.refuses(
        base,
        dcap,
        "chains-swapped",
        "the chains of signer and platform CA stand in each other's place",
        swap("tcb_info_issuer_chain", "pck_crl_issuer_chain"),
    );
    for (name, title, chain) in [
        ("no-signer", "TCB info without its signer's chain", "tcb_info_issuer_chain"),
        ("no-qe-signer", "QE identity without its signer's chain", "qe_identity_issuer_chain"),
    ] {
        stage.refuses(base, dcap, name, title, |case| {
            within(case, |inner| inner[chain] = "".into());
        });
    }
    for (name, title, list) in [
        ("no-pck-crl-bytes", "an empty revocation list of the platform CA", "pck_crl"),
        ("no-root-crl-bytes", "an empty revocation list of the root", "root_ca_crl"),
    ] {
        stage.refuses(base, dcap, name, title, |case| {
            within(case, |inner| inner[list] = "".into());
        });
    }
    stage.accepts(
        base,
        "signer-without-its-root",
        "the signer's chain without its copy of the root, which is pinned",
        |case| {
            field(case, "tcb_info_issuer_chain", |pem| {
                let end = "-----END CERTIFICATE-----\n";
                pem.split_inclusive(end).next().unwrap().to_owned()
            });
        },
    );
}

fn revocations(stage: &mut Stage, base: usize) {
    let dcap = ("E-DCAP", RuleId::Dcap);
    for (name, title, revoked) in [
        ("pck-revoked", "the platform's certificate is revoked", Revoked::Pck),
        ("platform-ca-revoked", "the platform CA is revoked", Revoked::PlatformCa),
        ("signer-revoked", "the signer of TCB info is revoked", Revoked::TcbSigning),
    ] {
        stage.refuses(base, dcap, name, title, |case| {
            case["collateral"] = forge_collateral(ISSUED, &[revoked], |_| {}, |_| {}).into();
        });
    }
}

fn platforms(stage: &mut Stage, base: usize) {
    let dcap = ("E-DCAP", RuleId::Dcap);
    stage.refuses(
        base,
        ("E-COLLATERAL-FMSPC", RuleId::Dcap),
        "another-fmspc",
        "signed, for another platform family",
        |case| case["collateral"] = tcb(|tcb| tcb["fmspc"] = "00906ED50000".into()),
    );
    stage.refuses(
        base,
        ("E-COLLATERAL-PCE", RuleId::Dcap),
        "another-pce",
        "signed, for another provisioning certification enclave",
        |case| case["collateral"] = tcb(|tcb| tcb["pceId"] = "0001".into()),
    );
    let tcbs: [Signed; 4] = [
        ("tcb-info-of-sgx", "signed, for SGX", |tcb| tcb["id"] = "SGX".into()),
        ("no-level-matches", "signed, with levels above the platform's alone", |tcb| {
            tcb["tcbLevels"].as_array_mut().unwrap().truncate(1);
            tcb["tcbLevels"][0]["tcb"]["pcesvn"] = 14.into();
        }),
        ("no-levels", "signed, without any level", |tcb| tcb["tcbLevels"] = json!([])),
        ("no-module-identity", "signed, without the TDX module's identity", |tcb| {
            tcb["tdxModuleIdentities"] = json!([]);
        }),
    ];
    for (name, title, change) in tcbs {
        stage.refuses(base, dcap, name, title, |case| case["collateral"] = tcb(change));
    }
    let form = ("E-COLLATERAL-FORM", RuleId::Dcap);
    stage.refuses(base, form, "tcb-info-version-4", "signed, of a later version", |case| {
        case["collateral"] = tcb(|tcb| tcb["version"] = 4.into());
    });
    stage.refuses(base, form, "tcb-info-version-2", "signed, of a version without TDX", |case| {
        case["collateral"] = tcb(|tcb| tcb["version"] = 2.into());
    });
    stage.refuses(base, form, "qe-identity-version-3", "signed, of a later version", |case| {
        case["collateral"] = qe(|qe| qe["version"] = 3.into());
    });
    let qes: [Signed; 5] = [
        ("qe-of-sgx", "signed, for the quoting enclave of SGX", |qe| qe["id"] = "QE".into()),
        ("qe-signer", "signed, for a quoting enclave of another signer", |qe| {
            qe["mrsigner"] = "5A".repeat(32).into();
        }),
        ("qe-product", "signed, for another quoting enclave", |qe| qe["isvprodid"] = 7.into()),
        ("qe-attributes", "signed, for other attributes", |qe| {
            qe["attributes"] = format!("13{}", "00".repeat(15)).into();
        }),
        ("qe-miscselect", "signed, for another MISCSELECT", |qe| {
            qe["miscselect"] = "01000000".into();
        }),
    ];
    for (name, title, change) in qes {
        stage.refuses(base, dcap, name, title, |case| case["collateral"] = qe(change));
    }
    stage.refuses(
        base,
        ("E-EVAL-NUMBER", RuleId::EvalNumber),
        "evaluation-too-low",
        "signed, of an earlier TCB evaluation",
        |case| {
            case["collateral"] = forge_collateral(
                ISSUED,
                &[],
                |tcb| tcb["tcbEvaluationDataNumber"] = 19.into(),
                |qe| qe["tcbEvaluationDataNumber"] = 19.into(),
            )
            .into();
        },
    );
    stage.accepts(
        base,
        "evaluation-as-pinned",
        "an earlier evaluation that the pins accept",
        |case| {
            case["collateral"] = forge_collateral(
                ISSUED,
                &[],
                |tcb| tcb["tcbEvaluationDataNumber"] = 19.into(),
                |qe| qe["tcbEvaluationDataNumber"] = 19.into(),
            )
            .into();
            text(case, "/pins", |pins| with_line(pins, "min_tcb_evaluation_number", "19"));
        },
    );
}

fn statuses(stage: &mut Stage, base: usize) {
    let refused = ("E-TCB-STATUS", RuleId::TcbStatus);
    for (name, title, status) in [
        ("platform-hardening", "the platform needs hardened software", "SWHardeningNeeded"),
        ("platform-configuration", "it needs another configuration", "ConfigurationNeeded"),
        ("platform-both", "it needs both", "ConfigurationAndSWHardeningNeeded"),
        ("platform-out-of-date", "it is out of date", "OutOfDate"),
        ("platform-out-of-date-both", "out of date, misconfigured", "OutOfDateConfigurationNeeded"),
    ] {
        stage.refuses(base, refused, name, title, |case| {
            case["collateral"] = tcb(|tcb| tcb["tcbLevels"][0]["tcbStatus"] = status.into());
        });
    }
    // Levels of an enclave or a module have fewer statuses; one of the others is no status of theirs.
    let unknown = ("E-DCAP", RuleId::Dcap);
    for (name, title, status, refusal) in [
        ("enclave-configuration", "misconfigured", "ConfigurationNeeded", refused),
        ("enclave-out-of-date", "the quoting enclave is out of date", "OutOfDate", refused),
        ("enclave-both", "out of date, misconfigured", "OutOfDateConfigurationNeeded", refused),
        ("enclave-hardening", "a platform's status", "SWHardeningNeeded", unknown),
        ("enclave-hardening-both", "a platform's", "ConfigurationAndSWHardeningNeeded", unknown),
    ] {
        stage.refuses(base, refusal, name, title, |case| {
            case["collateral"] = qe(|qe| qe["tcbLevels"][0]["tcbStatus"] = status.into());
        });
    }
    for (name, title, status, refusal) in [
        ("module-out-of-date", "the TDX module is out of date", "OutOfDate", refused),
        ("module-configuration", "a platform's status", "ConfigurationNeeded", unknown),
        ("module-hardening", "a platform's status", "SWHardeningNeeded", unknown),
    ] {
        stage.refuses(base, refusal, name, title, |case| {
            case["collateral"] = tcb(|tcb| {
                tcb["tdxModuleIdentities"][0]["tcbLevels"][0]["tcbStatus"] = status.into();
            });
        });
    }
    let dcap = ("E-DCAP", RuleId::Dcap);
    stage.refuses(base, dcap, "platform-revoked", "the platform's level is revoked", |case| {
        case["collateral"] = tcb(|tcb| tcb["tcbLevels"][0]["tcbStatus"] = "Revoked".into());
    });
    stage.refuses(
        base,
        dcap,
        "enclave-revoked",
        "the quoting enclave's level is revoked",
        |case| {
            case["collateral"] = qe(|qe| qe["tcbLevels"][0]["tcbStatus"] = "Revoked".into());
        },
    );
    stage.refuses(base, dcap, "status-unknown", "a status nobody has defined", |case| {
        case["collateral"] = tcb(|tcb| tcb["tcbLevels"][0]["tcbStatus"] = "Fine".into());
    });
}

/// Signed collateral with another TCB info.
fn tcb(change: impl FnOnce(&mut Value)) -> Value {
    forge_collateral(ISSUED, &[], change, |_| {}).into()
}

/// Signed collateral with another QE identity.
fn qe(change: impl FnOnce(&mut Value)) -> Value {
    forge_collateral(ISSUED, &[], |_| {}, change).into()
}

/// Changes the bundle of a case.
fn whole(case: &mut Value, change: impl FnOnce(&mut Value)) {
    text(case, "/collateral", |old| {
        let mut bundle = serde_json::from_str(old).unwrap();
        change(&mut bundle);
        bundle.to_string()
    });
}

/// Changes the object inside the bundle.
fn within(case: &mut Value, change: impl FnOnce(&mut Value)) {
    whole(case, |bundle| change(&mut bundle["collateral"]));
}

/// Changes a text of the object inside the bundle.
fn field(case: &mut Value, name: &str, change: impl FnOnce(&str) -> String) {
    within(case, |inner| text(inner, &format!("/{name}"), change));
}

fn padded(text: &str, length: usize) -> String {
    format!("{text}{}", " ".repeat(length - text.len()))
}

/// Name, title and change of something that is signed afterwards.
type Signed = (&'static str, &'static str, fn(&mut Value));

const LARGEST: usize = 256 * 1024;
