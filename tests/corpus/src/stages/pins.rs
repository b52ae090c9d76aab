//! Pins files: a policy that is misread accepts too much. Exit code 10 where the file asks for what it
//! must not, 20 for another version, 30 where it is no pins file.

use chrysalis_evidence::nvidia::DeviceKind;
use chrysalis_tee_sim::device::device_pins;
use chrysalis_wire::NetworkId;
use serde_json::{Value, json};

use super::{pins_enclave, pins_policy};
use crate::case::{Stage, text};
use crate::world::{line, pins, with_line};

pub(crate) fn stage() -> Stage {
    let mut stage = Stage::new("pins", "manifests/pins.example.toml");
    let sim = stage.genuine(
        "simulated",
        "INSECURE-SIM pins, where simulation was asked for",
        &json!({ "pins": pins(), "allow_sim": true }),
    );
    let hardware = stage.genuine(
        "production",
        "production pins",
        &json!({ "pins": production(), "allow_sim": false }),
    );
    let gpus = stage.genuine(
        "devices",
        "pins with devices",
        &json!({ "pins": pins() + &device_pins(DeviceKind::Gh100, 1, 0), "allow_sim": true }),
    );
    forms(&mut stage, sim);
    tiers(&mut stage, sim, hardware);
    values(&mut stage, sim);
    devices(&mut stage, gpus);
    pins_policy::policies(&mut stage, sim);
    pins_enclave::enclaves(&mut stage);
    pins_policy::spellings(&mut stage, sim);
    registers(&mut stage, sim);
    stage
}

fn forms(stage: &mut Stage, base: usize) {
    let form = ("E-PINS-FORM", 30);
    let with = |change: fn(&str) -> String| move |case: &mut Value| text(case, "/pins", change);
    stage.rejects(base, form, "empty", "no bytes at all", with(|_| String::new()));
    stage.rejects(base, form, "not-toml", "no TOML", with(|old| format!("{old}\n=")));
    stage.rejects(
        base,
        form,
        "unknown-field",
        "a field nobody knows",
        with(|old| format!("x = 1\n{old}")),
    );
    stage.rejects(
        base,
        form,
        "unknown-platform-field",
        "a field of [platform] nobody knows",
        with(|old| format!("{old}allow_debug = true\n")),
    );
    stage.rejects(
        base,
        form,
        "unknown-worker-field",
        "a field of a worker nobody knows",
        with(|old| old.replacen("[[worker]]\n", "[[worker]]\nrtmr3 = \"\"\n", 1)),
    );
    for (name, title, field) in [
        ("no-mrtd", "a worker without MRTD", "mrtd"),
        ("no-rtmr2", "a worker without RTMR2", "rtmr2"),
        ("no-manifest", "a worker without manifest", "manifest_sha256"),
        ("no-model", "a worker without model", "model_root"),
        ("no-xfam", "a platform without extended features", "xfam"),
        ("no-age", "no age of collateral", "max_collateral_age_days"),
        ("no-evaluation", "no TCB evaluation number", "min_tcb_evaluation_number"),
    ] {
        stage.rejects(base, form, name, title, |case| {
            text(case, "/pins", |old| old.replacen(&format!("{}\n", line(old, field)), "", 1));
        });
    }
    stage.rejects(base, form, "mrtd-too-short", "an MRTD of 47 bytes", |case| {
        text(case, "/pins", |old| with_line(old, "mrtd", &format!("\"{}\"", "11".repeat(47))));
    });
    stage.rejects(base, form, "mrtd-upper-case", "an MRTD in upper case", |case| {
        text(case, "/pins", |old| with_line(old, "mrtd", &format!("\"{}\"", "AB".repeat(48))));
    });
    stage.rejects(base, form, "field-twice", "a field twice", |case| {
        text(case, "/pins", |old| format!("{old}allow_smt = true\n"));
    });
    stage.rejects(base, form, "number-negative", "a negative age", |case| {
        text(case, "/pins", |old| with_line(old, "max_collateral_age_days", "-1"));
    });
    stage.rejects(base, ("E-PINS-VERSION", 20), "version-2", "another version", |case| {
        text(case, "/pins", |old| with_line(old, "version", "2"));
    });
    stage.rejects(base, ("E-PINS-SIZE", 30), "too-large", "one byte over the limit", |case| {
        text(case, "/pins", |old| format!("{old}{}", "#".repeat(LARGEST + 1 - old.len())));
    });
}

fn tiers(stage: &mut Stage, sim: usize, hardware: usize) {
    let root = ("E-PINS-SIM-ROOT", 30);
    stage.rejects(
        sim,
        ("E-PINS-SIM-REFUSED", 10),
        "simulation-unasked",
        "INSECURE-SIM pins where nobody asked for simulation",
        |case| {
            case["allow_sim"] = false.into();
        },
    );
    stage.rejects(
        hardware,
        ("E-PINS-CERTIFICATE-ONLY", 10),
        "certificate-only",
        "pins that trust a certificate alone, where a live proof is due",
        |case| text(case, "/pins", |old| with_line(old, "tier", "\"INSECURE-CERTIFICATE-ONLY\"")),
    );
    stage.rejects(hardware, ("E-PINS-FORM", 30), "tier-unknown", "a tier nobody knows", |case| {
        text(case, "/pins", |old| with_line(old, "tier", "\"vetted\""));
    });
    stage.rejects(
        hardware,
        ("E-PINS-NETWORK", 10),
        "production-on-the-simulated-network",
        "production pins that name the simulated network",
        |case| {
            let network = NetworkId::INSECURE_SIM.0.to_string();
            text(case, "/pins", |old| with_line(old, "network", &network));
        },
    );
    stage.rejects(
        sim,
        ("E-PINS-NETWORK", 10),
        "simulation-on-mainnet",
        "INSECURE-SIM pins that name a real network",
        |case| {
            let network = NetworkId::MAINNET.0.to_string();
            text(case, "/pins", |old| with_line(old, "network", &network));
        },
    );
    stage.rejects(
        hardware,
        root,
        "production-with-a-fake-root",
        "production pins that bring a root",
        |case| {
            let root = line(&pins(), "sim_root");
            text(case, "/pins", |old| old.replacen("network =", &format!("{root}\nnetwork ="), 1));
        },
    );
    stage.rejects(
        sim,
        root,
        "simulation-without-root",
        "INSECURE-SIM pins without their root",
        |case| {
            text(case, "/pins", |old| old.replacen(&format!("{}\n", line(old, "sim_root")), "", 1));
        },
    );
    for (name, title, value) in [
        ("root-not-hex", "a root that is not hex", "zz".to_owned()),
        ("root-upper-case", "a root in upper case", "AB".to_owned()),
        ("root-no-certificate", "a root that is no certificate", "3000".to_owned()),
        ("root-too-large", "a root one byte over the limit", "00".repeat(4097)),
        (
            "root-of-intel",
            "a FAKE root that is Intel's",
            hex::encode(chrysalis_evidence::TrustRoot::Intel.der()),
        ),
    ] {
        stage.rejects(sim, root, name, title, |case| {
            text(case, "/pins", |old| with_line(old, "sim_root", &format!("\"{value}\"")));
        });
    }
}

fn values(stage: &mut Stage, base: usize) {
    let set = |field: &'static str, value: String| {
        move |case: &mut Value| text(case, "/pins", |old| with_line(old, field, &value))
    };
    stage.rejects(
        base,
        ("E-PINS-ZERO", 10),
        "mrtd-zero",
        "an MRTD of zeros, which nothing measured has",
        set("mrtd", format!("\"{}\"", "0".repeat(96))),
    );
    stage.rejects(
        base,
        ("E-PINS-DEBUG", 10),
        "debug-pinned",
        "TD attributes with the debug bit",
        set("td_attributes", "[\"0100001000000000\"]".to_owned()),
    );
    stage.rejects(
        base,
        ("E-PINS-DEBUG", 10),
        "debug-pinned-second",
        "a reserved debug bit in the second value of a list",
        set("td_attributes", "[\"0000001000000000\", \"8000001000000000\"]".to_owned()),
    );
    let name = ("E-PINS-NAME", 30);
    for (label, title, value) in [
        ("name-empty", "a worker without a name", String::new()),
        ("name-not-ascii", "a name that is not ASCII", "wörker".to_owned()),
        ("name-with-escape", "a name with a control character", "a\\u001b[2J".to_owned()),
        ("name-too-long", "a name one character over the limit", "x".repeat(129)),
    ] {
        stage.rejects(base, name, label, title, set("name", format!("\"{value}\"")));
    }
    stage.rejects(base, name, "name-twice", "two workers of one name", |case| {
        text(case, "/pins", |old| {
            let worker = &old[old.find("[[worker]]").unwrap()..old.find("[platform]").unwrap()];
            old.replacen(worker, &worker.repeat(2), 1)
        });
    });
    let range = ("E-PINS-RANGE", 30);
    stage.rejects(
        base,
        range,
        "age-zero",
        "collateral of no age",
        set("max_collateral_age_days", "0".into()),
    );
    stage.rejects(
        base,
        range,
        "age-31",
        "an age longer than collateral is valid",
        set("max_collateral_age_days", "31".into()),
    );
    stage.rejects(
        base,
        range,
        "evaluation-zero",
        "a TCB evaluation number of zero",
        set("min_tcb_evaluation_number", "0".into()),
    );
    let count = ("E-PINS-COUNT", 30);
    for (label, title, field, value) in [
        (
            "too-many-attributes",
            "one value over the limit",
            "td_attributes",
            "0000001000000000".to_owned(),
        ),
        ("too-many-features", "one value over the limit", "xfam", "e702060000000000".to_owned()),
        ("too-many-modules", "one value over the limit", "mr_seam", "11".repeat(48)),
    ] {
        let list = vec![format!("\"{value}\""); 65].join(",");
        stage.rejects(base, count, label, title, set(field, format!("[{list}]")));
    }
}

fn registers(stage: &mut Stage, base: usize) {
    for (field, name, title) in [
        ("rtmr0", "rtmr0-zero", "an RTMR0 of zeros"),
        ("rtmr1", "rtmr1-zero", "an RTMR1 of zeros"),
        ("rtmr2", "rtmr2-zero", "an RTMR2 of zeros"),
    ] {
        let zeros = format!("\"{}\"", "0".repeat(96));
        stage.rejects(base, ("E-PINS-ZERO", 10), name, title, |case| {
            text(case, "/pins", |old| with_line(old, field, &zeros));
        });
    }
}

fn devices(stage: &mut Stage, base: usize) {
    let device = ("E-PINS-DEVICE", 30);
    let set = |field: &'static str, value: &'static str| {
        move |case: &mut Value| text(case, "/pins", |old| with_line(old, field, value))
    };
    stage.rejects(base, device, "no-device-pinned", "a section for no device", set("gpus", "0"));
    stage.rejects(
        base,
        ("E-PINS-COUNT", 30),
        "thirteen-devices",
        "one device over the limit",
        set("gpus", "13"),
    );
    stage.rejects(
        base,
        ("E-PINS-FORM", 30),
        "mode-unknown",
        "a mode nobody knows",
        set("modes", "[\"off\"]"),
    );
    stage.rejects(
        base,
        device,
        "serial-not-hex",
        "a denied serial number that is not hex",
        |case| {
            text(case, "/pins", |old| {
                old.replacen("modes = ", "denied_serials = [\"XY\"]\nmodes = ", 1)
            });
        },
    );
    stage.rejects(base, device, "record-zero", "a record with the number zero", |case| {
        text(case, "/pins", |old| old.replacen("\n2 = ", "\n0 = ", 1));
    });
    stage.rejects(base, device, "record-65", "a record over the limit", |case| {
        text(case, "/pins", |old| old.replacen("\n2 = ", "\n65 = ", 1));
    });
    stage.rejects(base, device, "record-number-twice", "a number of another spelling", |case| {
        text(case, "/pins", |old| old.replacen("\n2 = ", "\n02 = ", 1));
    });
    stage.rejects(
        base,
        device,
        "devices-without-root",
        "simulated devices without their root",
        |case| {
            text(case, "/pins", |old| {
                let at = old.find("[device]").unwrap();
                let section = &old[at..];
                let root = format!("{}\n", line(section, "sim_root"));
                format!("{}{}", &old[..at], section.replacen(&root, "", 1))
            });
        },
    );
}

/// The same file for hardware.
fn production() -> String {
    let sim = pins();
    let text = sim.replacen(&format!("{}\n", line(&sim, "sim_root")), "", 1);
    with_line(&with_line(&text, "tier", "\"production\""), "network", "-3")
}

const LARGEST: usize = 1024 * 1024;
