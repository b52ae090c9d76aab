//! Quotes of SGX enclaves alone: form, signatures, configuration, identity. The hostile parts are
//! the quote and, by choice of the host, the configuration of a genuine enclave.
//!
//! ```text
//! v3   header 48 | enclave report 384 | length u32 | signature 64 | key 64 | QE report 384 |
//!      signature 64 | length u16 | QE data 32 | type u16 | length u32 | PEM chain
//! ```

use chrysalis_evidence::{RuleId, sim};
use chrysalis_tee::Platform as _;
use chrysalis_tee_sim::{FMSPC, SimEnclave, SimReport, collateral, enclave_collateral};
use serde_json::{Value, json};

use super::quote::honest;
use crate::case::{Stage, bytes, shorten, text};
use crate::world::{
    EXECUTABLE, ISSUED, NOW, REPORT_DATA, by_signer, denying, enclave_pins, enclave_section,
    manifest, pins, sha256, with_line,
};

pub(super) fn quotes(stage: &mut Stage) {
    let base =
        stage.genuine("genuine-enclave", "a genuine quote of an SGX enclave", &honest_enclave());
    kinds(stage, base);
    forms(stage, base);
    signatures(stage, base);
    configurations(stage, base);
    lists(stage, base);
    identities(stage, base);
    denials(stage, base);
}

/// A genuine quote of an enclave alone, as the stages `quote` and `collateral` judge one.
pub(super) fn honest_enclave() -> Value {
    json!({
        "pins": enclave_pins(),
        "collateral": enclave_collateral(ISSUED),
        "now": NOW.0,
        "report_data": hex::encode(REPORT_DATA),
        "quote": hex::encode(quote(|_| {})),
    })
}

fn kinds(stage: &mut Stage, base: usize) {
    stage.refuses(
        base,
        ("E-QUOTE-TEE", RuleId::QuoteForm),
        "enclave-not-asked",
        "an enclave under pins of trust domains alone",
        |case| case["pins"] = pins().into(),
    );
    stage.refuses(
        base,
        ("E-NO-WORKERS", RuleId::Image),
        "domain-under-enclave-pins",
        "a trust domain under pins of enclaves alone, on a platform that they accept",
        domain,
    );
    stage.accepts(base, "enclave-of-both-kinds", "pins of both kinds, and an enclave", |case| {
        case["pins"] = (pins() + &enclave_section()).into();
    });
    stage.accepts(base, "domain-of-both-kinds", "pins of both kinds, and a domain", |case| {
        case["pins"] = (pins() + &enclave_section()).into();
        domain(case);
    });
    stage.refuses(
        base,
        ("E-DCAP", RuleId::Dcap),
        "collateral-of-tdx",
        "genuine collateral of the same platform's trust domains",
        |case| case["collateral"] = collateral(ISSUED).into(),
    );
}

fn forms(stage: &mut Stage, base: usize) {
    let rule = RuleId::QuoteForm;
    let truncated = ("E-QUOTE-TRUNCATED", rule);
    for (name, title, length) in [
        ("half-an-enclave-report", "it ends inside the enclave report", 431),
        ("enclave-no-length", "it ends inside the length of the signature data", 435),
        ("enclave-half-a-chain", "it ends inside the certificate chain", 2000),
    ] {
        stage.refuses(base, truncated, name, title, |case| {
            bytes(case, "/quote", |quote| quote.truncate(length));
        });
    }
    stage.refuses(base, truncated, "enclave-last-byte", "its last byte is missing", |case| {
        bytes(case, "/quote", shorten);
    });
    let poke = |at: usize, value: u8| {
        move |case: &mut Value| bytes(case, "/quote", |quote| quote[at] = value)
    };
    let version = ("E-QUOTE-VERSION", rule);
    stage.refuses(base, version, "enclave-version-2", "a version with another key", poke(0, 2));
    stage.refuses(base, version, "enclave-as-domain", "version 3 is for SGX alone", poke(4, 0x81));
    stage.refuses(
        base,
        ("E-QUOTE-KEY-TYPE", rule),
        "enclave-key-of-p384",
        "an attestation key on P-384",
        poke(2, 3),
    );
    stage.refuses(
        base,
        ("E-QUOTE-CERT-TYPE", rule),
        "enclave-no-pck-chain",
        "certification data that is no PCK chain",
        poke(1046, 3),
    );
    stage.refuses(
        base,
        ("E-QUOTE-TRAILING", rule),
        "enclave-byte-after-signature-data",
        "the signature data has a byte behind its end",
        |case| {
            bytes(case, "/quote", |quote| {
                let length: &mut [u8; 4] = (&mut quote[432..436]).try_into().unwrap();
                *length = (u32::from_le_bytes(*length) + 1).to_le_bytes();
                quote.push(0);
            });
        },
    );
}

fn signatures(stage: &mut Stage, base: usize) {
    let dcap = ("E-DCAP", RuleId::Dcap);
    for (name, title, at) in [
        ("enclave-flipped-mrenclave", "a bit of MRENCLAVE is flipped", 48 + 64),
        ("enclave-flipped-report-data", "a bit of the report data is flipped", 48 + 383),
        ("enclave-flipped-signature", "a bit of the quote's signature is flipped", 436),
        ("enclave-flipped-key", "a bit of the attestation key is flipped", 500),
        ("enclave-flipped-qe-report", "a bit of the QE report is flipped", 564),
        ("enclave-flipped-qe-signature", "a bit of the QE report's signature is flipped", 948),
    ] {
        stage.refuses(base, dcap, name, title, |case| {
            bytes(case, "/quote", |quote| quote[at] ^= 1);
        });
    }
    stage.refuses(
        base,
        dcap,
        "enclave-key-of-a-stranger",
        "signed by a key the quoting enclave did not vouch for",
        says(|report| report.uncertified_key = true),
    );
    stage.refuses(
        base,
        dcap,
        "enclave-debug-cleared",
        "signed under debug, with the debug bit cleared afterwards",
        |case| {
            says(|report| report.attributes[0] |= DEBUG)(case);
            bytes(case, "/quote", |quote| quote[FLAGS_AT] ^= DEBUG);
        },
    );
    for (name, title, version) in [
        ("enclave-version-4", "signed, of version 4, which nothing verifies yet", 4),
        ("enclave-version-5", "signed, of version 5, which nothing verifies yet", 5),
    ] {
        stage.refuses(base, dcap, name, title, says(|report| report.quote_version = version));
    }
    stage.refuses(
        base,
        ("E-REPORT-DATA", RuleId::ReportData),
        "enclave-other-report-data",
        "a quote of an enclave that was made for something else",
        says(|report| report.wrong_report_data = true),
    );
}

fn configurations(stage: &mut Stage, base: usize) {
    let flags = ("E-SGX-ATTRIBUTES", RuleId::SgxAttributes);
    let config = |code| (code, RuleId::SgxConfig);
    let reports: [(_, _, _, fn(&mut SimReport)); 14] = [
        (("E-SGX-DEBUG", RuleId::SgxDebug), "enclave-debug", "an enclave under debug", |report| {
            report.attributes[0] |= DEBUG;
        }),
        (flags, "enclave-provision-key", "an enclave with the provisioning key", |report| {
            report.attributes[0] |= 0x10;
        }),
        (flags, "enclave-launch-key", "an enclave with the launch key", |report| {
            report.attributes[0] |= 0x20;
        }),
        (flags, "enclave-kss", "an enclave with key separation and sharing", |report| {
            report.attributes[0] |= 0x80;
        }),
        (flags, "enclave-32-bit", "an enclave of 32 bits", |report| report.attributes[0] &= !0x04),
        (flags, "enclave-last-flag", "an enclave with the last flag there is", |report| {
            report.attributes[7] |= 0x80;
        }),
        (
            ("E-SGX-XFRM", RuleId::SgxXfrm),
            "enclave-xfrm",
            "an enclave with protection keys",
            |report| {
                report.xfrm[1] |= 2;
            },
        ),
        (
            ("E-SGX-MISCSELECT", RuleId::SgxMiscSelect),
            "enclave-misc-select",
            "an enclave with information about exceptions",
            |report| report.misc_select[0] = 1,
        ),
        (
            config("E-SGX-CONFIG"),
            "enclave-config-id",
            "an enclave with a configuration",
            |report| {
                report.config_id[63] = 1;
            },
        ),
        (
            config("E-SGX-CONFIG"),
            "enclave-config-svn",
            "an enclave with a configuration's version",
            |report| {
                report.config_svn = 1;
            },
        ),
        (
            config("E-SGX-EXTENDED-ID"),
            "enclave-product-id",
            "an enclave with an extended id",
            |report| {
                report.isv_ext_prod_id[0] = 1;
            },
        ),
        (
            config("E-SGX-EXTENDED-ID"),
            "enclave-family-id",
            "an enclave with a family id",
            |report| {
                report.isv_family_id[15] = 1;
            },
        ),
        (
            config("E-SGX-RESERVED"),
            "enclave-reserved",
            "an enclave's report with a byte without a meaning",
            |report| {
                report.reserved = 1;
            },
        ),
        // The rule that refuses is the first one, whatever else is wrong.
        (
            ("E-SGX-DEBUG", RuleId::SgxDebug),
            "enclave-debug-and-more",
            "an enclave that is not pinned, under debug: the first rule refuses",
            |report| {
                report.attributes[0] |= DEBUG;
                report.identity.mrenclave.0[0] ^= 1;
            },
        ),
    ];
    for (refusal, name, title, change) in reports {
        stage.refuses(base, refusal, name, title, says(change));
    }
    stage.accepts(base, "enclave-xfrm-not-compared", "what a mask leaves out is open", |case| {
        says(|report| report.xfrm[1] |= 2)(case);
        text(case, "/pins", |pins| {
            with_line(
                pins,
                "xfrm",
                "[{ value = \"0300000000000000\", mask = \"1bf9ffffffffffff\" }]",
            )
        });
    });
    let listed = |case: &mut Value, svn: u16| {
        says(|report| (report.config_id[63], report.config_svn) = (1, svn))(case);
        text(case, "/pins", |pins| {
            with_config(pins, &format!("[{{ id = \"{}01\", svn = 7 }}]", "00".repeat(63)))
        });
    };
    stage.accepts(base, "enclave-config-pinned", "a configuration that is pinned", |case| {
        listed(case, 7);
    });
    stage.refuses(
        base,
        config("E-SGX-CONFIG"),
        "enclave-config-of-a-later-version",
        "a pinned configuration with another version than is pinned with it",
        |case| listed(case, 8),
    );
}

fn lists(stage: &mut Stage, base: usize) {
    for (refusal, name, title, field) in [
        (
            ("E-SGX-ATTRIBUTES", RuleId::SgxAttributes),
            "enclave-no-attributes-pinned",
            "an empty list of attributes denies",
            "attributes",
        ),
        (
            ("E-SGX-XFRM", RuleId::SgxXfrm),
            "enclave-no-xfrm-pinned",
            "an empty list of processor states denies",
            "xfrm",
        ),
        (
            ("E-SGX-MISCSELECT", RuleId::SgxMiscSelect),
            "enclave-no-misc-select-pinned",
            "an empty list of MISCSELECT denies",
            "misc_select",
        ),
    ] {
        stage.refuses(base, refusal, name, title, |case| {
            text(case, "/pins", |pins| with_line(pins, field, "[]"));
        });
    }
    stage.refuses(
        base,
        ("E-SGX-CONFIG", RuleId::SgxConfig),
        "enclave-no-config-pinned",
        "an empty list of configurations denies even none",
        |case| text(case, "/pins", |pins| with_config(pins, "[]")),
    );
    stage.refuses(
        base,
        ("E-SGX-NO-WORKERS", RuleId::SgxEnclave),
        "no-enclave-pinned",
        "an empty list of enclaves denies",
        |case| {
            text(case, "/pins", |pins| pins[..pins.find("[[sgx.worker]]").unwrap()].to_owned());
        },
    );
}

fn identities(stage: &mut Stage, base: usize) {
    let rule = RuleId::SgxEnclave;
    let signed_by = |case: &mut Value, product, svn| {
        text(case, "/pins", |pins| by_signer(pins, product, svn));
    };
    stage.accepts(
        base,
        "enclave-of-a-signer",
        "an enclave that is pinned by signer and product",
        |case| {
            signed_by(case, 1, 1);
        },
    );
    stage.accepts(base, "enclave-of-another-build", "another build of its signer", |case| {
        signed_by(case, 1, 1);
        says(|report| report.identity.mrenclave.0[0] ^= 1)(case);
    });
    stage.accepts(base, "enclave-of-a-later-version", "a later version of its signer", |case| {
        signed_by(case, 1, 1);
        says(|report| report.identity.isv_svn = 2)(case);
    });
    stage.refuses(
        base,
        ("E-MRENCLAVE", rule),
        "another-enclave",
        "another build than the pinned one, of the same signer",
        says(|report| report.identity.mrenclave.0[0] ^= 1),
    );
    stage.refuses(
        base,
        ("E-MRSIGNER", rule),
        "another-signer",
        "an enclave of another signer",
        |case| {
            signed_by(case, 1, 1);
            says(|report| report.identity.mrsigner.0[0] ^= 1)(case);
        },
    );
    stage.refuses(
        base,
        ("E-ISV-PROD-ID", rule),
        "another-product",
        "another product of the pinned signer",
        |case| signed_by(case, 2, 1),
    );
    stage.refuses(
        base,
        ("E-ISV-SVN", rule),
        "version-too-old",
        "a version before the oldest that is pinned",
        |case| signed_by(case, 1, 2),
    );
}

fn denials(stage: &mut Stage, base: usize) {
    let denied = ("E-IMAGE-DENIED", RuleId::SgxEnclave);
    let deny = |case: &mut Value, field: &str| {
        text(case, "/pins", |pins| {
            let value = match field {
                "mrenclave" => sim::enclave(EXECUTABLE).mrenclave.to_string(),
                _ => sha256(manifest().as_bytes()).to_string(),
            };
            denying(pins, field, &value)
        });
    };
    stage.refuses(base, denied, "enclave-denied", "an enclave that is pinned and denied", |case| {
        deny(case, "mrenclave");
    });
    stage.refuses(base, denied, "build-denied", "a build of a pinned signer is denied", |case| {
        text(case, "/pins", |pins| by_signer(pins, 1, 1));
        deny(case, "mrenclave");
    });
    stage.refuses(
        base,
        denied,
        "enclave-manifest-denied",
        "an enclave that is pinned with a manifest that is denied",
        |case| deny(case, "manifest_sha256"),
    );
    stage.refuses(
        base,
        ("E-PIN-INACTIVE", RuleId::SgxEnclave),
        "enclave-pin-of-tomorrow",
        "an enclave whose pin counts from tomorrow on",
        |case| {
            text(case, "/pins", |pins| format!("{pins}activates_at = \"2026-03-02T00:00:00Z\"\n"));
        },
    );
    stage.refuses(
        base,
        ("E-FMSPC-DENIED", RuleId::PlatformId),
        "enclave-family-denied",
        "an enclave on a platform family that is denied",
        |case| text(case, "/pins", |pins| denying(pins, "fmspc", &hex::encode(FMSPC))),
    );
}

/// A genuine quote of an enclave whose report differs.
fn quote(change: impl FnOnce(&mut SimReport)) -> Vec<u8> {
    SimEnclave::new(EXECUTABLE).with(change).quote(&REPORT_DATA).unwrap()
}

/// Puts such a quote into a case.
fn says(change: impl FnOnce(&mut SimReport)) -> impl FnOnce(&mut Value) {
    let quote = quote(change);
    move |case| case["quote"] = hex::encode(quote).into()
}

/// Puts a trust domain's quote and collateral into a case.
fn domain(case: &mut Value) {
    case["quote"] = hex::encode(honest()).into();
    case["collateral"] = collateral(ISSUED).into();
}

fn with_config(pins: &str, list: &str) -> String {
    pins.replacen("\n[[sgx.worker]]", &format!("config = {list}\n\n[[sgx.worker]]"), 1)
}

/// First byte of ATTRIBUTES.FLAGS.
const FLAGS_AT: usize = 48 + 48;
const DEBUG: u8 = 0x02;
