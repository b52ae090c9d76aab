//! The rules behind a device's form: its chain, its signature, what the pins accept. One device or one
//! line of the pins lies in each case.

use chrysalis_evidence::RuleId;
use chrysalis_tee_sim::device::{DeviceFault, SimDevice};
use serde_json::{Value, json};

use super::gpu::{CHAIN, KIND, NONCE, OPAQUE_AT, REPORT, certificate_length};
use crate::case::{Stage, bytes, text};
use crate::world::{show, with_line};

pub(super) fn faults(stage: &mut Stage, one: usize) {
    use DeviceFault as F;
    let chain = |code| (code, RuleId::GpuChain);
    for (fault, what, name, title) in [
        (
            F::StaleNonce,
            ("E-GPU-NONCE", RuleId::GpuNonce),
            "stale-nonce",
            "it answers another nonce",
        ),
        (F::LeafIsAuthority, chain("E-GPU-CHAIN"), "leaf-is-authority", "its leaf is an authority"),
        (
            F::LeafCannotSign,
            chain("E-GPU-CHAIN"),
            "leaf-cannot-sign",
            "its leaf's key is not for signatures",
        ),
        (
            F::DeviceIsNoAuthority,
            chain("E-GPU-CHAIN"),
            "device-is-no-authority",
            "its device certificate is no authority",
        ),
        (
            F::DeviceCannotCertify,
            chain("E-GPU-CHAIN"),
            "device-cannot-certify",
            "its device's key may not sign certificates",
        ),
        (F::PathTooLong, chain("E-GPU-CHAIN"), "path-too-long", "more authorities than allowed"),
        (
            F::UncertifiedFirmware,
            chain("E-GPU-CHAIN"),
            "firmware-uncertified",
            "its leaf names no firmware",
        ),
        (
            F::OtherDeviceKey,
            chain("E-GPU-CHAIN"),
            "leaf-of-another-device",
            "its leaf names another device's key",
        ),
        (
            F::UnknownCritical,
            ("E-GPU-CHAIN-FORM", RuleId::GpuForm),
            "unknown-critical",
            "a critical extension nobody knows",
        ),
        (
            F::OtherFactory,
            chain("E-GPU-KIND"),
            "another-factory",
            "its factory made another chip than its leaf says",
        ),
        (F::UnknownChip, chain("E-GPU-KIND"), "unknown-chip", "its leaf names an unknown chip"),
        (
            F::UnsignedLeaf,
            chain("E-GPU-CHAIN-SIGNATURE"),
            "leaf-unsigned",
            "its leaf was not signed by its device",
        ),
        (F::Expired, chain("E-GPU-CHAIN-TIME"), "expired", "its leaf is over"),
        (
            F::ForeignKey,
            ("E-GPU-SIGNATURE", RuleId::GpuSignature),
            "report-of-another-key",
            "a key that its chain does not end in signed the report",
        ),
        (
            F::OtherFirmware,
            ("E-GPU-FWID", RuleId::GpuFirmware),
            "another-firmware",
            "its report states another firmware than its leaf",
        ),
        (
            F::NoFirmware,
            ("E-GPU-FWID-MISSING", RuleId::GpuFirmware),
            "no-firmware",
            "its report states no firmware",
        ),
        (
            F::OtherMode,
            ("E-GPU-MODE", RuleId::GpuMode),
            "another-mode",
            "a mode that is not pinned",
        ),
        (
            F::OtherDriver,
            ("E-GPU-DRIVER", RuleId::GpuDriver),
            "another-driver",
            "a driver that is not pinned",
        ),
        (
            F::NoDriver,
            ("E-GPU-DRIVER", RuleId::GpuDriver),
            "driver-not-stated",
            "a GPU that states no driver",
        ),
        (
            F::OtherVbios,
            ("E-GPU-VBIOS", RuleId::GpuVbios),
            "another-vbios",
            "a VBIOS that is not pinned",
        ),
        (
            F::OtherRecord,
            ("E-GPU-RECORD", RuleId::GpuRecords),
            "another-record",
            "a measurement that is not the golden one",
        ),
        (
            F::ExtraRecord,
            ("E-GPU-UNLISTED", RuleId::GpuRecords),
            "extra-record",
            "a measurement that has no golden value and is not zero",
        ),
    ] {
        stage.refuses(one, what, name, title, |case| {
            let device = SimDevice::new(KIND, 0).with_fault(fault).evidence(&NONCE);
            case["devices"] = json!(show(&[device]));
        });
    }
    let signature = ("E-GPU-SIGNATURE", RuleId::GpuSignature);
    for (name, title, at) in [
        ("flipped-measurement", "a bit of a measurement is flipped", 60),
        ("flipped-device-nonce", "a bit of the device's own nonce is flipped", OPAQUE_AT - 1),
        ("flipped-answer", "a bit of the signature is flipped", usize::MAX),
    ] {
        stage.refuses(one, signature, name, title, |case| {
            bytes(case, REPORT, |report| {
                let last = report.len() - 1;
                report[at.min(last)] ^= 1;
            });
        });
    }
}

pub(super) fn sets(stage: &mut Stage, one: usize, two: usize, switch: usize) {
    let count = ("E-GPU-COUNT", RuleId::GpuForm);
    stage.refuses(one, count, "none-shown", "no device is shown", |case| {
        case["devices"] = json!([]);
    });
    stage.refuses(one, count, "one-too-many", "a device more than pinned", |case| {
        let more = SimDevice::new(KIND, 1).evidence(&NONCE);
        case["devices"].as_array_mut().unwrap().extend(show(&[more]).iter().map(|d| json!(d)));
    });
    stage.refuses(two, count, "one-too-few", "a device fewer than pinned", |case| {
        drop(case["devices"].as_array_mut().unwrap().pop());
    });
    stage.refuses(
        switch,
        ("E-GPU-COUNT", RuleId::GpuKinds),
        "switch-as-gpu",
        "a switch where the pins ask for a GPU",
        |case| {
            text(case, "/pins", |pins| with_line(&with_line(pins, "gpus", "1"), "switches", "0"));
        },
    );
    stage.refuses(
        switch,
        ("E-GPU-FWID-MISSING", RuleId::GpuFirmware),
        "switch-without-firmware",
        "a switch without firmware that the pins do not accept",
        |case| text(case, "/pins", |pins| with_line(pins, "switches_without_firmware", "false")),
    );
    stage.refuses(
        two,
        ("E-GPU-DUPLICATE", RuleId::GpuDistinct),
        "one-as-two",
        "one device shown as two",
        |case| case["devices"][1] = case["devices"][0].clone(),
    );
    stage.accepts(
        two,
        "another-order",
        "the order in which devices are shown means nothing",
        |case| {
            case["devices"].as_array_mut().unwrap().swap(0, 1);
        },
    );
    stage.refuses(
        two,
        ("E-GPU-CHAIN-SIGNATURE", RuleId::GpuChain),
        "second-unsigned",
        "an honest device in front of one that lies",
        |case| {
            let device = SimDevice::new(KIND, 1).with_fault(DeviceFault::UnsignedLeaf);
            case["devices"][1] = json!(show(&[device.evidence(&NONCE)])[0]);
        },
    );
    stage.refuses(
        two,
        ("E-GPU-SIGNATURE", RuleId::GpuSignature),
        "chains-swapped",
        "each report with the other device's chain",
        |case| {
            let first = case["devices"][0]["chain"].take();
            case["devices"][0]["chain"] = case["devices"][1]["chain"].take();
            case["devices"][1]["chain"] = first;
        },
    );
}

pub(super) fn policies(stage: &mut Stage, one: usize) {
    stage.refuses(
        one,
        ("E-GPU-DENIED", RuleId::GpuDenied),
        "leaf-denied",
        "the pins deny its leaf",
        |case| deny(case, 0),
    );
    stage.refuses(
        one,
        ("E-GPU-DENIED", RuleId::GpuDenied),
        "factory-denied",
        "the pins deny the authority of its factory",
        |case| deny(case, 2),
    );
    stage.refuses(
        one,
        ("E-GPU-MODE", RuleId::GpuMode),
        "no-mode-pinned",
        "an empty list of modes denies",
        |case| {
            text(case, "/pins", |pins| with_line(pins, "modes", "[]"));
        },
    );
    stage.refuses(
        one,
        ("E-GPU-DRIVER", RuleId::GpuDriver),
        "no-driver-pinned",
        "no golden values of any driver",
        |case| text(case, "/pins", |pins| without(pins, "[[device.driver]]")),
    );
    stage.refuses(
        one,
        ("E-GPU-VBIOS", RuleId::GpuVbios),
        "no-vbios-pinned",
        "no golden values of any VBIOS",
        |case| {
            text(case, "/pins", |pins| {
                without(&without(pins, "[[device.vbios]]"), "[[device.vbios]]")
            });
        },
    );
    stage.refuses(
        one,
        ("E-GPU-VBIOS", RuleId::GpuVbios),
        "vbios-of-another-board",
        "golden values of another board",
        |case| {
            text(case, "/pins", |pins| {
                pins.replacen("version = \"5A.", "board = \"1010_0200_882\"\nversion = \"5A.", 1)
            });
        },
    );
    stage.refuses(
        one,
        ("E-GPU-RECORD", RuleId::GpuRecords),
        "record-without-values",
        "an empty list of golden values denies",
        |case| text(case, "/pins", |pins| with_line(pins, "2", "[]")),
    );
    stage.refuses(
        one,
        ("E-GPU-UNLISTED", RuleId::GpuRecords),
        "record-not-listed",
        "a measurement without golden value",
        |case| {
            text(case, "/pins", |pins| {
                let line = pins.lines().find(|line| line.starts_with("2 = ")).unwrap();
                pins.replacen(&format!("{line}\n"), "", 1)
            });
        },
    );
    stage.accepts(one, "record-with-alternatives", "a golden value among others", |case| {
        text(case, "/pins", |pins| {
            pins.replacen("\n2 = [", &format!("\n2 = [\"{}\", ", "ab".repeat(48)), 1)
        });
    });
    stage.refuses(
        one,
        ("E-GPU-DENIED", RuleId::GpuDenied),
        "leaf-denied-with-zeros",
        "the pins deny its leaf, with zeros before the number",
        |case| {
            deny(case, 0);
            text(case, "/pins", |pins| {
                pins.replacen("denied_serials = [\"", "denied_serials = [\"00", 1)
            });
        },
    );
}

fn deny(case: &mut Value, certificate: usize) {
    let chain = hex::decode(case.pointer(CHAIN).unwrap().as_str().unwrap()).unwrap();
    let mut rest = &chain[..];
    for _ in 0..certificate {
        rest = &rest[certificate_length(rest)..];
    }
    // SEQUENCE, SEQUENCE, version; then the serial number.
    let length = usize::from(rest[14]);
    let serial = hex::encode(&rest[15..15 + length]);
    text(case, "/pins", |pins| {
        pins.replacen("modes = ", &format!("denied_serials = [\"{serial}\"]\nmodes = "), 1)
    });
}

/// Pins without the first section of that name.
fn without(pins: &str, section: &str) -> String {
    let from = pins.find(section).unwrap();
    let rest = &pins[from + section.len()..];
    let until = rest.find("[[").map_or(pins.len(), |at| from + section.len() + at);
    format!("{}{}", &pins[..from], &pins[until..])
}
