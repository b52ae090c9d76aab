//! The `[sgx]` section of a pins file: what names an enclave, and what no file may leave to its host.

use serde_json::{Value, json};

use crate::case::{Stage, text};
use crate::world::{by_signer, enclave_pins, enclave_section, line, pins, with_line};

pub(super) fn enclaves(stage: &mut Stage) {
    let base = stage.genuine(
        "enclaves",
        "pins of an enclave",
        &json!({ "pins": enclave_pins(), "allow_sim": true }),
    );
    stage.accepts(base, "enclaves-and-domains", "pins of both kinds", |case| {
        case["pins"] = (pins() + &enclave_section()).into();
    });
    stage.accepts(base, "enclave-signer", "an enclave by signer and product", |case| {
        text(case, "/pins", |pins| by_signer(pins, 1, 1));
    });
    forms(stage, base);
    identities(stage, base);
    values(stage, base);
}

fn forms(stage: &mut Stage, base: usize) {
    let form = ("E-PINS-FORM", 30);
    let replace = |from: &'static str, to: &'static str| {
        move |case: &mut Value| {
            text(case, "/pins", |pins| {
                assert!(pins.contains(from), "{from}");
                pins.replacen(from, to, 1)
            });
        }
    };
    stage.rejects(
        base,
        form,
        "unknown-enclave-field",
        "a field of [sgx] nobody knows",
        replace("[sgx]\n", "[sgx]\nallow_debug = true\n"),
    );
    stage.rejects(
        base,
        form,
        "unknown-enclave-worker-field",
        "a field of an enclave nobody knows",
        replace("[[sgx.worker]]\n", "[[sgx.worker]]\nrtmr0 = \"\"\n"),
    );
    stage.rejects(
        base,
        form,
        "unknown-mask-field",
        "a field of a value nobody knows",
        replace("{ value", "{ not = true, value"),
    );
    for (name, title, field) in [
        ("no-attributes", "an [sgx] without attributes", "attributes"),
        ("no-xfrm", "an [sgx] without processor state", "xfrm"),
        ("no-misc-select", "an [sgx] without MISCSELECT", "misc_select"),
    ] {
        stage.rejects(base, form, name, title, |case| {
            text(case, "/pins", |old| old.replacen(&format!("{}\n", line(old, field)), "", 1));
        });
    }
    let signer = |product: &'static str, svn: &'static str| {
        move |case: &mut Value| {
            text(case, "/pins", |pins| {
                let pins = with_line(&by_signer(pins, 1, 1), "isv_prod_id", product);
                with_line(&pins, "min_isv_svn", svn)
            });
        }
    };
    stage.rejects(base, form, "product-negative", "a negative product", signer("-1", "1"));
    stage.rejects(base, form, "version-65536", "a version no report holds", signer("1", "65536"));
}

fn identities(stage: &mut Stage, base: usize) {
    let enclave = ("E-PINS-ENCLAVE", 30);
    let by = |change: fn(&str) -> String| move |case: &mut Value| text(case, "/pins", change);
    let without =
        |pins: &str, field: &str| pins.replacen(&format!("{}\n", line(pins, field)), "", 1);
    stage.rejects(base, enclave, "enclave-unnamed", "an enclave that nothing names", |case| {
        text(case, "/pins", |pins| without(pins, "mrenclave"));
    });
    stage.rejects(base, enclave, "signer-without-product", "a signer without product", |case| {
        text(case, "/pins", |pins| without(&by_signer(pins, 1, 1), "isv_prod_id"));
    });
    stage.rejects(base, enclave, "signer-without-version", "a signer without version", |case| {
        text(case, "/pins", |pins| without(&by_signer(pins, 1, 1), "min_isv_svn"));
    });
    stage.rejects(
        base,
        enclave,
        "enclave-named-twice",
        "an enclave that is named by its measurement and by its signer",
        by(|pins| {
            let measured = line(pins, "mrenclave");
            let signed = by_signer(pins, 1, 1);
            signed.replacen("isv_prod_id", &format!("{measured}\nisv_prod_id"), 1)
        }),
    );
    let zero = format!("\"{}\"", "0".repeat(64));
    let none = ("E-PINS-ZERO", 10);
    stage.rejects(base, none, "enclave-zero", "a measurement of zeros", |case| {
        text(case, "/pins", |pins| with_line(pins, "mrenclave", &zero));
    });
    stage.rejects(base, none, "signer-zero", "a signer of zeros", |case| {
        text(case, "/pins", |pins| with_line(&by_signer(pins, 1, 1), "mrsigner", &zero));
    });
    let name = ("E-PINS-NAME", 30);
    stage.rejects(base, name, "enclave-name-empty", "an enclave without a name", |case| {
        text(case, "/pins", |pins| with_line(pins, "name", "\"\""));
    });
    stage.rejects(
        base,
        name,
        "enclave-name-twice",
        "two enclaves of one name",
        by(|pins| {
            let worker = &pins[pins.find("[[sgx.worker]]").unwrap()..];
            format!("{pins}{worker}")
        }),
    );
    stage.rejects(
        base,
        name,
        "enclave-name-of-a-domain",
        "an enclave and a trust domain of one name",
        |case| case["pins"] = (pins() + &with_line(&enclave_section(), "name", "\"sim\"")).into(),
    );
}

fn values(stage: &mut Stage, base: usize) {
    let sgx = ("E-PINS-SGX", 10);
    let set = |field: &'static str, value: &str, mask: &str| {
        let list = format!("[{{ value = \"{value}\", mask = \"{mask}\" }}]");
        move |case: &mut Value| text(case, "/pins", |pins| with_line(pins, field, &list))
    };
    let all = "ff".repeat(8);
    for (name, title, value) in [
        ("attributes-of-debug", "attributes with the debug bit", "0700000000000000"),
        ("attributes-without-init", "of an enclave that never was started", "0400000000000000"),
        ("attributes-of-32-bit", "attributes of an enclave of 32 bits", "0100000000000000"),
    ] {
        stage.rejects(base, sgx, name, title, set("attributes", value, &all));
    }
    for (bit, name, title) in [
        (0x01, "mask-without-init", "a mask that leaves INIT open"),
        (0x02, "mask-without-debug", "a mask that leaves DEBUG open"),
        (0x04, "mask-without-mode", "a mask that leaves MODE64BIT open"),
        (0x10, "mask-without-provision-key", "a mask that leaves PROVISIONKEY open"),
        (0x20, "mask-without-launch-key", "a mask that leaves EINITTOKEN_KEY open"),
        (0x80, "mask-without-kss", "a mask that leaves KSS open"),
    ] {
        let (value, mask) = (5 & !bit, 0xFF ^ bit);
        let value = format!("{value:02x}00000000000000");
        let mask = format!("{mask:02x}ffffffffffffff");
        stage.rejects(base, sgx, name, title, set("attributes", &value, &mask));
    }
    stage.accepts(
        base,
        "mask-of-what-must-be",
        "a mask of the bits that must be decided",
        set("attributes", "0500000000000000", "b700000000000000"),
    );
    stage.rejects(
        base,
        sgx,
        "value-outside-its-mask",
        "a bit that is set and not compared",
        set("misc_select", "01000000", "feffffff"),
    );
    for (name, title, value) in [
        ("xfrm-without-x87", "processor state without x87", "0200000000000000"),
        ("xfrm-without-sse", "processor state without SSE", "0100000000000000"),
    ] {
        stage.rejects(base, sgx, name, title, set("xfrm", value, &all));
    }
    let count = ("E-PINS-COUNT", 30);
    let many = |entry: &str| format!("[{}]", vec![entry; 65].join(","));
    stage.rejects(base, count, "too-many-misc-selects", "one value over the limit", |case| {
        let list = many("{ value = \"00000000\", mask = \"ffffffff\" }");
        text(case, "/pins", |pins| with_line(pins, "misc_select", &list));
    });
    stage.rejects(base, count, "too-many-enclave-configs", "65 configurations", |case| {
        let list = many(&format!("{{ id = \"{}\", svn = 0 }}", "00".repeat(64)));
        text(case, "/pins", |pins| {
            pins.replacen("[[sgx.worker]]", &format!("config = {list}\n[[sgx.worker]]"), 1)
        });
    });
}
