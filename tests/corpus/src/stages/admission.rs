//! What pins take away from, and add to, what their lists accept: denials, vetted platforms, dated
//! exceptions, pins of another day. The quote is genuine in every case.

use chrysalis_evidence::{RuleId, sim};
use chrysalis_tee_sim::{FMSPC, PLATFORM_INSTANCE_ID, PPID, forge_collateral};
use serde_json::{Value, json};

use super::quote::forge;
use crate::case::{Stage, bytes, text};
use crate::world::{EXECUTABLE, ISSUED, MODEL_ROOT, denying, line, manifest, sha256, with_line};

pub(super) fn quotes(stage: &mut Stage, v4: usize) {
    platforms(stage, v4);
    vetting(stage, v4);
    exceptions(stage, v4);
    workers(stage, v4);
}

fn deny(field: &'static str, value: String) -> impl FnOnce(&mut Value) {
    move |case| text(case, "/pins", |pins| denying(pins, field, &value))
}

fn platforms(stage: &mut Stage, v4: usize) {
    let rule = RuleId::PlatformId;
    stage.refuses(
        v4,
        ("E-FMSPC-DENIED", rule),
        "family-denied",
        "a platform family that is denied",
        deny("fmspc", hex::encode(FMSPC)),
    );
    for (name, title, id) in [
        ("platform-denied", "a platform that is denied by its instance id", PLATFORM_INSTANCE_ID),
        ("platform-denied-by-ppid", "a platform that is denied by its PPID", PPID),
    ] {
        stage.refuses(
            v4,
            ("E-PLATFORM-DENIED", rule),
            name,
            title,
            deny("platform", hex::encode(id)),
        );
    }
    stage.accepts(
        v4,
        "another-platform-denied",
        "denials of another platform, another family and an advisory that does not apply",
        |case| {
            deny("platform", "11".repeat(16))(case);
            deny("fmspc", "00906ed50000".to_owned())(case);
            deny("advisory", ADVISORY.to_owned())(case);
        },
    );
    let advised = |case: &mut Value| {
        let change = |tcb: &mut Value| tcb["tcbLevels"][0]["advisoryIDs"] = json!([ADVISORY]);
        case["collateral"] = forge_collateral(ISSUED, &[], change, |_| {}).into();
    };
    stage.accepts(v4, "advisory-not-denied", "up to date, with an advisory", advised);
    stage.refuses(
        v4,
        ("E-ADVISORY-DENIED", rule),
        "advisory-denied",
        "up to date, with an advisory that is denied",
        |case| {
            advised(case);
            deny("advisory", ADVISORY.to_owned())(case);
        },
    );
}

fn vetting(stage: &mut Stage, v4: usize) {
    let admit = |ids: &[[u8; 16]]| {
        let list: Vec<String> = ids.iter().map(|id| format!("\"{}\"", hex::encode(id))).collect();
        let lines = format!("admission = \"vetted\"\nvetted = [{}]\n", list.join(", "));
        move |case: &mut Value| text(case, "/pins", |pins| format!("{pins}{lines}"))
    };
    stage.accepts(
        v4,
        "platform-vetted",
        "a platform that is vetted, among others",
        admit(&[[0x11; 16], PLATFORM_INSTANCE_ID]),
    );
    let unvetted = ("E-PLATFORM-UNVETTED", RuleId::PlatformId);
    stage.refuses(
        v4,
        unvetted,
        "platform-not-vetted",
        "a platform that is not vetted",
        admit(&[[0x11; 16]]),
    );
    stage.refuses(
        v4,
        unvetted,
        "no-platform-vetted",
        "an empty list of platforms denies",
        admit(&[]),
    );
    stage.refuses(
        v4,
        unvetted,
        "platform-vetted-by-ppid",
        "the PPID is vetted of a platform that has an instance id",
        admit(&[PPID]),
    );
    stage.refuses(
        v4,
        ("E-PLATFORM-DENIED", RuleId::PlatformId),
        "platform-vetted-and-denied",
        "a platform that is vetted and denied",
        |case| {
            admit(&[PLATFORM_INSTANCE_ID])(case);
            deny("platform", hex::encode(PLATFORM_INSTANCE_ID))(case);
        },
    );
}

fn exceptions(stage: &mut Stage, v4: usize) {
    // A platform whose microcode is older than the collateral asks for: OutOfDate, one advisory.
    let old = |exception: String| {
        move |case: &mut Value| {
            bytes(case, "/quote", |quote| *quote = forge(|body| body[48 + 2] = 2));
            text(case, "/pins", |pins| format!("{pins}{exception}"));
        }
    };
    let exception = |fmspc: [u8; 6], status, advisories: &str, until| {
        format!(
            "\n[[platform.exception]]\nfmspc = \"{}\"\nstatuses = [\"{status}\"]\nadvisories = \
             [{advisories}]\nuntil = \"2026-03-01T00:00:{until:02}Z\"\nreason = \"a case\"\n",
            hex::encode(fmspc)
        )
    };
    let applies = "\"INSECURE-SIM-SA-00001\"";
    stage.accepts(
        v4,
        "excepted",
        "out of date, in the last second of an exception for it",
        old(exception(FMSPC, "OutOfDate", applies, 1)),
    );
    let status = ("E-TCB-STATUS", RuleId::TcbStatus);
    for (name, title, entry) in [
        (
            "excepted-until-now",
            "out of date, in the first second behind its exception",
            exception(FMSPC, "OutOfDate", applies, 0),
        ),
        (
            "excepted-of-another-family",
            "out of date, with an exception for another platform family",
            exception([0; 6], "OutOfDate", applies, 1),
        ),
        (
            "excepted-of-another-status",
            "out of date, with an exception for another status",
            exception(FMSPC, "SWHardeningNeeded", applies, 1),
        ),
        (
            "excepted-without-the-advisory",
            "out of date, with an exception that does not name what applies",
            exception(FMSPC, "OutOfDate", "", 1),
        ),
    ] {
        stage.refuses(v4, status, name, title, old(entry));
    }
    stage.refuses(
        v4,
        ("E-FMSPC-DENIED", RuleId::PlatformId),
        "excepted-and-denied",
        "out of date, with an exception for a family that is denied",
        |case| {
            old(exception(FMSPC, "OutOfDate", applies, 1))(case);
            deny("fmspc", hex::encode(FMSPC))(case);
        },
    );
}

fn workers(stage: &mut Stage, v4: usize) {
    let denied = ("E-IMAGE-DENIED", RuleId::Image);
    for (name, title, field, value) in [
        ("image-denied", "pinned, and denied", "mrtd", hex::encode(sim::mrtd(EXECUTABLE))),
        (
            "manifest-denied",
            "pinned with a manifest that is denied",
            "manifest_sha256",
            sha256(manifest().as_bytes()).to_string(),
        ),
        (
            "model-denied",
            "pinned with a model that is denied",
            "model_root",
            MODEL_ROOT.to_string(),
        ),
    ] {
        stage.refuses(v4, denied, name, title, deny(field, value));
    }
    let twice = |pins: &str| {
        let worker = &pins[pins.find("[[worker]]").unwrap()..pins.find("[platform]").unwrap()];
        let second = with_line(worker, "name", "\"second\"");
        let second = with_line(&second, "manifest_sha256", &format!("\"{}\"", "12".repeat(32)));
        pins.replacen(worker, &format!("{worker}{second}"), 1)
    };
    stage.accepts(
        v4,
        "pinned-twice-and-denied-once",
        "one of two pins of the image has a manifest that is denied",
        |case| {
            text(case, "/pins", twice);
            deny("manifest_sha256", "12".repeat(32))(case);
        },
    );
    let active = |at: &str| {
        let activates = format!("activates_at = \"{at}\"\n");
        move |case: &mut Value| {
            text(case, "/pins", |pins| {
                let last = line(pins, "model_root");
                pins.replacen(&last, &format!("{last}\n{activates}"), 1)
            });
        }
    };
    stage.accepts(
        v4,
        "pin-of-this-second",
        "its pin counts from now on",
        active("2026-03-01T00:00:00Z"),
    );
    let inactive = ("E-PIN-INACTIVE", RuleId::Image);
    stage.refuses(
        v4,
        inactive,
        "pin-of-the-next-second",
        "its pin counts from the next second on",
        active("2026-03-01T00:00:01Z"),
    );
    stage.refuses(
        v4,
        inactive,
        "active-pin-denied",
        "of two pins one is denied and the other not yet active",
        |case| {
            active("2026-03-01T00:00:01Z")(case);
            text(case, "/pins", |pins| {
                // The second entry has no date, and is the one that is denied.
                let dated = twice(pins);
                let at = dated.rfind("activates_at").unwrap();
                let end = at + dated[at..].find('\n').unwrap() + 1;
                format!("{}{}", &dated[..at], &dated[end..])
            });
            deny("manifest_sha256", "12".repeat(32))(case);
        },
    );
}

const ADVISORY: &str = "INTEL-SA-00615";
