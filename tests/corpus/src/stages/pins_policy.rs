//! Pins files that say when and where their entries count: sequence, activation, vetted platforms,
//! denials, exceptions. An entry that is misread here denies nothing, or accepts too much.

use serde_json::Value;

use crate::case::{Stage, text};
use crate::world::line;

pub(super) fn policies(stage: &mut Stage, base: usize) {
    sequences(stage, base);
    admissions(stage, base);
    denials(stage, base);
    exceptions(stage, base);
}

/// Denials that would deny nothing.
pub(super) fn spellings(stage: &mut Stage, base: usize) {
    for (name, title, value) in [
        ("denial-of-a-cut-advisory", "an advisory of four digits", "advisory = \"INTEL-SA-0061\""),
        (
            "denial-of-a-long-advisory",
            "an advisory of six digits",
            "advisory = \"INTEL-SA-006150\"",
        ),
        ("denial-of-a-number", "an advisory without a number", "advisory = \"INTEL-SA-\""),
        ("denial-of-serial-zero", "a serial number that is zero", "gpu_serial = \"0000\""),
    ] {
        let entry = format!("\n[[deny]]\n{value}\nreason = \"a case\"\n");
        stage.rejects(base, ("E-PINS-DENY", 30), name, title, and(&entry));
    }
}

/// More text behind the pins, which end inside `[platform]`.
fn and(more: &str) -> impl FnOnce(&mut Value) + use<> {
    let more = more.to_owned();
    move |case| text(case, "/pins", |pins| format!("{pins}{more}"))
}

fn sequences(stage: &mut Stage, base: usize) {
    let with = |value: &'static str| {
        move |case: &mut Value| {
            text(case, "/pins", |pins| {
                pins.replacen("tier", &format!("sequence = {value}\ntier"), 1)
            });
        }
    };
    stage.accepts(base, "sequence-one", "the first of a publisher's files", with("1"));
    stage.rejects(
        base,
        ("E-PINS-SEQUENCE", 30),
        "sequence-zero",
        "a sequence that nothing can come before",
        with("0"),
    );
    stage.rejects(base, FORM, "sequence-negative", "a negative sequence", with("-1"));
    let active = |at: &'static str| {
        move |case: &mut Value| {
            text(case, "/pins", |pins| {
                let last = line(pins, "model_root");
                pins.replacen(&last, &format!("{last}\nactivates_at = \"{at}\""), 1)
            });
        }
    };
    stage.accepts(base, "pin-of-a-day", "a worker from a day on", active("2027-01-01T00:00:00Z"));
    for (name, title, at) in [
        ("pin-of-no-time", "a day without a time", "2027-01-01"),
        ("pin-of-no-day", "30 February", "2027-02-30T00:00:00Z"),
        ("pin-of-another-zone", "a time of another zone", "2027-01-01T00:00:00+01:00"),
    ] {
        stage.rejects(base, FORM, name, title, active(at));
    }
}

fn admissions(stage: &mut Stage, base: usize) {
    let platform = ("E-PINS-PLATFORM", 30);
    let id = "11".repeat(16);
    stage.accepts(
        base,
        "admission-open",
        "any platform, which is said",
        and("admission = \"open\"\n"),
    );
    stage.accepts(
        base,
        "admission-vetted",
        "one platform",
        and(&format!("admission = \"vetted\"\nvetted = [\"{id}\"]\n")),
    );
    stage.rejects(
        base,
        platform,
        "vetted-not-asked",
        "a list of platforms that nothing asks for",
        and(&format!("vetted = [\"{id}\"]\n")),
    );
    stage.rejects(
        base,
        platform,
        "vetted-and-open",
        "a list of platforms, and any platform",
        and(&format!("admission = \"open\"\nvetted = [\"{id}\"]\n")),
    );
    stage.rejects(
        base,
        platform,
        "vetted-without-list",
        "vetted platforms, and no list of them",
        and("admission = \"vetted\"\n"),
    );
    stage.rejects(
        base,
        FORM,
        "admission-unknown",
        "an admission nobody knows",
        and("admission = \"closed\"\n"),
    );
    stage.rejects(
        base,
        FORM,
        "vetted-too-short",
        "a platform of 15 bytes",
        and(&format!("admission = \"vetted\"\nvetted = [\"{}\"]\n", "11".repeat(15))),
    );
}

fn denials(stage: &mut Stage, base: usize) {
    let entry = |fields: &str, reason: &str| format!("\n[[deny]]\n{fields}reason = \"{reason}\"\n");
    let mut all = String::new();
    for (field, value) in [
        ("mrtd", "11".repeat(48)),
        ("mrenclave", "11".repeat(32)),
        ("manifest_sha256", "11".repeat(32)),
        ("model_root", "11".repeat(32)),
        ("platform", "11".repeat(16)),
        ("fmspc", "11".repeat(6)),
        ("advisory", "INTEL-SA-00615".to_owned()),
        ("gpu_serial", "11".repeat(20)),
    ] {
        all.push_str(&entry(&format!("{field} = \"{value}\"\n"), "a case"));
    }
    stage.accepts(base, "denials", "a denial of each kind", and(&all));
    let deny = ("E-PINS-DENY", 30);
    let fmspc = "fmspc = \"111111111111\"\n";
    for (name, title, fields, reason) in [
        ("denial-of-nothing", "a denial without a value", String::new(), "a case".to_owned()),
        (
            "denial-of-two",
            "a denial of two values",
            format!("{fmspc}platform = \"{}\"\n", "11".repeat(16)),
            "a case".to_owned(),
        ),
        ("denial-without-reason", "an empty reason", fmspc.to_owned(), String::new()),
        ("denial-long-winded", "a reason one over the limit", fmspc.to_owned(), "x".repeat(201)),
        (
            "denial-with-escape",
            "a reason with a control character",
            fmspc.to_owned(),
            "a\\u001b[2J".to_owned(),
        ),
        (
            "denial-of-any-advisory",
            "an advisory that is none",
            "advisory = \"*\"\n".to_owned(),
            "a case".to_owned(),
        ),
        (
            "denial-of-a-lower-advisory",
            "an advisory in lower case",
            "advisory = \"intel-sa-00615\"\n".to_owned(),
            "a case".to_owned(),
        ),
        (
            "denial-of-a-serial",
            "a serial number in upper case",
            "gpu_serial = \"AB\"\n".to_owned(),
            "a case".to_owned(),
        ),
        (
            "denial-of-no-serial",
            "a serial number of no bytes",
            "gpu_serial = \"\"\n".to_owned(),
            "a case".to_owned(),
        ),
    ] {
        stage.rejects(base, deny, name, title, and(&entry(&fields, &reason)));
    }
    stage.rejects(
        base,
        FORM,
        "denial-of-what",
        "a denial of something nobody knows",
        and(&entry("rtmr0 = \"00\"\n", "a case")),
    );
    stage.rejects(
        base,
        FORM,
        "denial-of-a-short-family",
        "a family of 5 bytes",
        and(&entry("fmspc = \"1111111111\"\n", "a case")),
    );
}

fn exceptions(stage: &mut Stage, base: usize) {
    let entry = |change: fn(&str) -> String| and(&change(EXCEPTION));
    stage.accepts(base, "exception", "an exception of one platform family", entry(str::to_owned));
    let refused = ("E-PINS-EXCEPTION", 30);
    let changes: [Spelled; 8] = [
        ("exception-of-revoked", "an exception of a revoked platform", |old| {
            old.replacen("OutOfDate", "Revoked", 1)
        }),
        ("exception-of-nothing", "an exception of a platform that needs none", |old| {
            old.replacen("OutOfDate", "UpToDate", 1)
        }),
        ("exception-of-any-status", "an exception of every status", |old| {
            old.replacen("OutOfDate", "*", 1)
        }),
        ("exception-of-any-advisory", "an exception of every advisory", |old| {
            old.replacen("INTEL-SA-00615", "*", 1)
        }),
        ("exception-of-a-lower-advisory", "an exception of an advisory in lower case", |old| {
            old.replacen("INTEL-SA-00615", "intel-sa-00615", 1)
        }),
        ("exception-until-a-day", "an exception until a day without a time", |old| {
            old.replacen("2027-01-01T00:00:00Z", "2027-01-01", 1)
        }),
        ("exception-until-no-day", "an exception until 30 February", |old| {
            old.replacen("01-01", "02-30", 1)
        }),
        ("exception-without-reason", "an exception for no reason", |old| {
            old.replacen("a case", " ", 1)
        }),
    ];
    for (name, title, change) in changes {
        stage.rejects(base, refused, name, title, entry(change));
    }
    let forms: [Spelled; 3] = [
        ("exception-for-ever", "an exception without an end", |old| {
            old.replacen("until", "# until", 1)
        }),
        ("exception-of-any-family", "an exception of no family", |old| {
            old.replacen("fmspc", "# fmspc", 1)
        }),
        ("exception-with-more", "an exception with a field nobody knows", |old| {
            format!("{old}x = 1\n")
        }),
    ];
    for (name, title, change) in forms {
        stage.rejects(base, FORM, name, title, entry(change));
    }
    stage.rejects(base, ("E-PINS-COUNT", 30), "too-many-exceptions", "65 exceptions", |case| {
        and(&EXCEPTION.repeat(65))(case);
    });
    stage.rejects(
        base,
        ("E-PINS-COUNT", 30),
        "too-many-configurations",
        "one configuration id over the limit",
        |case| {
            let list = vec![format!("\"{}\"", "11".repeat(48)); 65].join(",");
            and(&format!("mr_config_id = [{list}]\n"))(case);
        },
    );
}

/// Name, title and change of an exception.
type Spelled = (&'static str, &'static str, fn(&str) -> String);

const FORM: (&str, u8) = ("E-PINS-FORM", 30);
const EXCEPTION: &str = "\n[[platform.exception]]\nfmspc = \"111111111111\"\nstatuses = \
    [\"OutOfDate\"]\nadvisories = [\"INTEL-SA-00615\"]\nuntil = \"2027-01-01T00:00:00Z\"\nreason = \
    \"a case\"\n";
