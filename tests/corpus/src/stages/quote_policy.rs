//! The rules behind a quote's signatures: platform, image, report data. Every quote here is signed.

use chrysalis_evidence::RuleId;
use chrysalis_tee::Platform as _;
use chrysalis_tee_sim::{Faults, forge_collateral};
use serde_json::{Value, json};

use super::quote::{SVN2, forge, into_v5, platform};
use crate::case::{Stage, bytes, text};
use crate::world::{DAY, ISSUED, with_line, without_worker};

pub(super) fn platforms(stage: &mut Stage, v4: usize, v5: usize) {
    let signed = |quote: Vec<u8>| move |case: &mut Value| bytes(case, "/quote", |old| *old = quote);
    let debug = ("E-DEBUG", RuleId::Debug);
    stage.refuses(v4, debug, "debug", "signed by a TD under debug", signed(forge(|b| b[168] = 1)));
    stage.refuses(
        v4,
        debug,
        "debug-reserved-bit",
        "signed with a reserved bit of the debug group",
        signed(forge(|body| body[168] = 0x80)),
    );
    let status = ("E-TCB-STATUS", RuleId::TcbStatus);
    stage.refuses(
        v4,
        status,
        "out-of-date",
        "its microcode is older than the collateral asks for",
        signed(forge(|body| body[48 + 2] = 2)),
    );
    stage.refuses(
        v5,
        status,
        "out-of-date-since-launch",
        "up to date at launch, and its module is older now",
        signed(forge(|body| {
            let mut svn = SVN2;
            svn[2] = 2;
            into_v5(body, svn);
        })),
    );
    stage.refuses(
        v4,
        ("E-EVAL-NUMBER", RuleId::EvalNumber),
        "evaluation-number-raised",
        "the pins ask for a newer TCB evaluation",
        |case| text(case, "/pins", |pins| with_line(pins, "min_tcb_evaluation_number", "21")),
    );
    stage.accepts(v4, "collateral-at-its-age", "the oldest collateral the pins accept", |case| {
        case["now"] = (ISSUED.0 + 14 * DAY).into();
    });
    stage.refuses(
        v4,
        ("E-COLLATERAL-AGE", RuleId::CollateralAge),
        "collateral-a-second-over-its-age",
        "collateral that is a second older",
        |case| case["now"] = (ISSUED.0 + 14 * DAY + 1).into(),
    );
    for (flag, code, title) in [
        ("allow_dynamic_platform", "E-DYNAMIC", "a multi-package platform the pins do not accept"),
        (
            "allow_cached_keys",
            "E-CACHED-KEYS",
            "a platform with cached keys the pins do not accept",
        ),
        ("allow_smt", "E-SMT", "multithreading the pins do not accept"),
    ] {
        let name = format!("not-{}", flag.replace('_', "-"));
        stage.refuses(v4, (code, RuleId::PlatformFlags), &name, title, |case| {
            text(case, "/pins", |pins| with_line(pins, flag, "false"));
        });
    }
    let listed = |stage: &mut Stage,
                  what: (&'static str, RuleId),
                  field: &str,
                  titles: [&'static str; 2],
                  (at, flip): (usize, u8)| {
        let name = field.replace('_', "-");
        let quote = forge(move |body| body[at] ^= flip);
        stage.refuses(v4, what, &format!("other-{name}"), titles[0], signed(quote));
        stage.refuses(v4, what, &format!("no-{name}-pinned"), titles[1], |case| {
            text(case, "/pins", |pins| with_line(pins, field, "[]"));
        });
    };
    listed(
        stage,
        ("E-TD-ATTRIBUTES", RuleId::TdAttributes),
        "td_attributes",
        ["TD attributes that are not pinned", "an empty list of TD attributes denies"],
        // PKS: defined, and not what the pins list.
        (48 + 123, 0x40),
    );
    listed(
        stage,
        ("E-XFAM", RuleId::Xfam),
        "xfam",
        ["extended features that are not pinned", "an empty list of extended features denies"],
        (48 + 130, 2),
    );
    listed(
        stage,
        ("E-SEAM", RuleId::Seam),
        "mr_seam",
        ["a TDX module that is not pinned", "an empty list of TDX modules denies"],
        (48 + 16, 2),
    );
    // The collateral knows this signer, or the library would refuse it before our rule is asked.
    let signer = "5A".repeat(48);
    let quote = forge(|body| body[112..160].fill(0x5A));
    stage.refuses(
        v4,
        ("E-SEAM-SIGNER", RuleId::Seam),
        "module-of-another-signer",
        "a TDX module of a signer that its collateral knows and Intel is not",
        move |case| {
            bytes(case, "/quote", |old| *old = quote);
            case["collateral"] = forge_collateral(
                ISSUED,
                &[],
                |tcb| {
                    tcb["tdxModule"]["mrsigner"] = json!(signer);
                    tcb["tdxModuleIdentities"][0]["mrsigner"] = json!(signer);
                },
                |_| {},
            )
            .into();
        },
    );
    stage.refuses(
        v4,
        ("E-CONFIG-ID", RuleId::ConfigId),
        "configuration-id",
        "a configuration id that is not pinned",
        signed(forge(|body| body[48 + 184] = 1)),
    );
    stage.refuses(
        v4,
        ("E-OWNER", RuleId::ConfigId),
        "owner",
        "an owner, which has no meaning here",
        signed(forge(|body| body[48 + 232] = 1)),
    );
    stage.refuses(
        v4,
        ("E-OWNER", RuleId::ConfigId),
        "owner-configuration",
        "an owner's configuration, which has no meaning here",
        signed(forge(|body| body[48 + 280] = 1)),
    );
    stage.accepts(v4, "configuration-id-pinned", "a configuration id that is pinned", |case| {
        bytes(case, "/quote", |old| *old = forge(|body| body[48 + 184] = 1));
        let id = format!("mr_config_id = [\"01{}\"]\n", "00".repeat(47));
        text(case, "/pins", |pins| pins.replace("max_collateral", &format!("{id}max_collateral")));
    });
}

pub(super) fn images(stage: &mut Stage, v4: usize) {
    let rule = RuleId::Image;
    for (name, code, title, at) in [
        ("other-mrtd", "E-MRTD", "another initial content", 136),
        ("other-rtmr0", "E-RTMR0", "another firmware configuration", 328),
        ("other-rtmr1", "E-RTMR1", "another kernel", 376),
        ("other-rtmr2", "E-RTMR2", "another command line", 424),
    ] {
        stage.refuses(v4, (code, rule), name, title, |case| {
            bytes(case, "/quote", |old| *old = forge(|body| body[48 + at] ^= 1));
        });
    }
    stage.refuses(
        v4,
        ("E-NO-WORKERS", rule),
        "no-worker-pinned",
        "an empty list of workers denies",
        |case| text(case, "/pins", without_worker),
    );
    stage.refuses(
        v4,
        ("E-RTMR1", rule),
        "registers-of-two-pins",
        "every register is pinned, in two entries",
        |case| {
            text(case, "/pins", |pins| {
                let worker =
                    &pins[pins.find("[[worker]]").unwrap()..pins.find("[platform]").unwrap()];
                let zero = format!("\"{}\"", "ab".repeat(48));
                let first = with_line(&with_line(worker, "rtmr1", &zero), "name", "\"one\"");
                let second = with_line(&with_line(worker, "rtmr2", &zero), "name", "\"two\"");
                let second = with_line(&second, "mrtd", &zero);
                pins.replace(worker, &format!("{first}{second}"))
            });
        },
    );
    let bound = ("E-REPORT-DATA", RuleId::ReportData);
    stage.refuses(v4, bound, "other-report-data", "made for something else", |case| {
        bytes(case, "/report_data", |data| data[63] ^= 1);
    });
    stage.refuses(v4, bound, "no-report-data", "a quote of zeros is not a quote of this", |case| {
        let quote = platform(Faults::default()).quote(&[0; 64]).unwrap();
        bytes(case, "/quote", |old| *old = quote);
    });
    stage.refuses(
        v4,
        bound,
        "half-the-report-data",
        "the first half alone is not enough",
        |case| {
            bytes(case, "/report_data", |data| data[32..].fill(0));
        },
    );
}
