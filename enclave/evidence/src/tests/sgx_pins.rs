//! The `[sgx]` section and the dated exceptions: what reads, and what no file may accept.

use super::parse_pins;
use super::sgx::{sgx_pins, signer_pins};
use crate::{AllowSim, EnclaveConfig, MAX_PINNED_VALUES, MAX_PINNED_WORKERS, PinnedIdentity, Pins};

#[track_caller]
fn refused(text: &str, code: &str) {
    let refusal = Pins::parse(text, AllowSim::No).expect_err("accepted");
    assert_eq!(refusal.code(), code, "{refusal}");
}

#[track_caller]
fn changed(from: &str, to: &str, code: &str) {
    let text = sgx_pins();
    assert!(text.contains(from), "{from}");
    refused(&text.replacen(from, to, 1), code);
}

const FLAGS: &str = "{ value = \"0500000000000000\", mask = \"ffffffffffffffff\" }";

#[test]
fn reads_enclaves_by_measurement_and_by_signer() {
    let pins = parse_pins(&sgx_pins());
    assert!(pins.workers().is_empty());
    let sgx = pins.sgx().unwrap();
    assert_eq!(sgx.config, [EnclaveConfig { id: [0; 64], svn: 0 }]);
    assert!(matches!(sgx.workers[0].identity, PinnedIdentity::Enclave { .. }));
    assert_eq!(sgx.attributes[0].value()[0], 5);
    assert_eq!(sgx.attributes[0].mask(), &[0xff; 8]);
    let pins = parse_pins(&signer_pins(1, 2));
    let identity = pins.sgx().unwrap().workers[0].identity;
    assert!(
        matches!(identity, PinnedIdentity::Signer { isv_prod_id: 1, min_isv_svn: 2, .. }),
        "{identity:?}"
    );
}

#[test]
fn pins_without_the_section_name_no_enclave() {
    let text = sgx_pins();
    assert!(parse_pins(&text[..text.find("[sgx]").unwrap()]).sgx().is_none());
}

#[test]
fn refuses_unknown_fields_in_every_table() {
    for (after, code) in [("[sgx]\n", "E-PINS-FORM"), ("[[sgx.worker]]\n", "E-PINS-FORM")] {
        changed(after, &format!("{after}surprise = 1\n"), code);
    }
    changed(
        FLAGS,
        "{ value = \"0500000000000000\", mask = \"ffffffffffffffff\", x = 1 }",
        "E-PINS-FORM",
    );
    changed("fmspc = ", "surprise = 1\nfmspc = ", "E-PINS-FORM");
}

#[test]
fn refuses_an_enclave_named_in_no_way_in_half_and_in_two() {
    let text = sgx_pins();
    let line = text.lines().find(|line| line.starts_with("mrenclave")).unwrap();
    changed(line, "", "E-PINS-ENCLAVE");
    changed(line, &format!("{line}\nisv_prod_id = 1"), "E-PINS-ENCLAVE");
    let by_signer = signer_pins(1, 1);
    refused(&by_signer.replace("min_isv_svn = 1\n", ""), "E-PINS-ENCLAVE");
    refused(&by_signer.replace("isv_prod_id = 1\n", ""), "E-PINS-ENCLAVE");
    refused(&by_signer.replace("min_isv_svn", &format!("{line}\nmin_isv_svn")), "E-PINS-ENCLAVE");
}

#[test]
fn refuses_a_zero_measurement_and_a_zero_signer() {
    let text = sgx_pins();
    let line = text.lines().find(|line| line.starts_with("mrenclave")).unwrap();
    changed(line, &format!("mrenclave = \"{}\"", "00".repeat(32)), "E-PINS-ZERO");
    let text = signer_pins(1, 1);
    let line = text.lines().find(|line| line.starts_with("mrsigner")).unwrap();
    refused(&text.replace(line, &format!("mrsigner = \"{}\"", "00".repeat(32))), "E-PINS-ZERO");
}

#[test]
fn refuses_versions_that_no_report_can_hold() {
    refused(&signer_pins(1, 1).replace("min_isv_svn = 1", "min_isv_svn = 65536"), "E-PINS-FORM");
    refused(&signer_pins(1, 1).replace("isv_prod_id = 1", "isv_prod_id = -1"), "E-PINS-FORM");
}

#[test]
fn refuses_attributes_that_no_policy_may_accept() {
    let flags = |value: &str, mask: &str| format!("{{ value = \"{value}\", mask = \"{mask}\" }}");
    let all = "ffffffffffffffff";
    for value in ["0700000000000000", "0400000000000000", "0100000000000000", "0000000000000000"] {
        changed(FLAGS, &flags(value, all), "E-PINS-SGX");
    }
    // Every bit that the mask must cover, left out.
    for bit in [0x01u8, 0x02, 0x04, 0x10, 0x20, 0x80] {
        let mask = format!("{:02x}ffffffffffffff", !bit);
        let value = format!("{:02x}00000000000000", 5 & !bit);
        changed(FLAGS, &flags(&value, &mask), "E-PINS-SGX");
    }
    // And what may be left open.
    let open = sgx_pins().replace(FLAGS, &flags("0500000000000000", "b700000000000000"));
    assert!(Pins::parse(&open, AllowSim::No).is_ok());
    // PROVISIONKEY may be accepted, if that is said.
    let open = sgx_pins().replace(FLAGS, &flags("1500000000000000", all));
    assert!(Pins::parse(&open, AllowSim::No).is_ok());
}

#[test]
fn refuses_a_bit_that_is_set_and_not_compared() {
    changed(FLAGS, "{ value = \"0500000000000001\", mask = \"ffffffffffffff00\" }", "E-PINS-SGX");
    let misc = "{ value = \"00000000\", mask = \"ffffffff\" }";
    changed(misc, "{ value = \"01000000\", mask = \"feffffff\" }", "E-PINS-SGX");
}

#[test]
fn refuses_processor_state_without_x87_or_sse() {
    for value in ["0200000000000000", "0100000000000000"] {
        changed("value = \"0300000000000000\"", &format!("value = \"{value}\""), "E-PINS-SGX");
    }
}

#[test]
fn refuses_names_that_are_taken_by_any_other_worker() {
    let text = sgx_pins();
    let worker = &text[text.find("[[sgx.worker]]").unwrap()..];
    refused(&format!("{text}{worker}"), "E-PINS-NAME");
    changed("name = \"enclave\"", "name = \"\"", "E-PINS-NAME");
    let h = |n: usize| "1".repeat(n);
    let td = format!(
        "[[worker]]\nname = \"enclave\"\nmrtd = \"{a}\"\nrtmr0 = \"{a}\"\nrtmr1 = \"{a}\"\n\
         rtmr2 = \"{a}\"\nmanifest_sha256 = \"{b}\"\nmodel_root = \"{b}\"\n",
        a = h(96),
        b = h(64)
    );
    refused(&format!("{text}{td}"), "E-PINS-NAME");
    let both = format!("{text}{}", td.replace("\"enclave\"", "\"domain\""));
    let pins = Pins::parse(&both, AllowSim::No).unwrap();
    assert_eq!((pins.workers().len(), pins.sgx().unwrap().workers.len()), (1, 1));
}

#[test]
fn refuses_one_entry_past_each_limit() {
    let text = sgx_pins();
    let many = |entry: &str, n: usize| vec![entry; n].join(", ");
    let at = text.replace(FLAGS, &many(FLAGS, MAX_PINNED_VALUES));
    assert!(Pins::parse(&at, AllowSim::No).is_ok());
    changed(FLAGS, &many(FLAGS, MAX_PINNED_VALUES + 1), "E-PINS-COUNT");
    let config = format!("{{ id = \"{}\", svn = 0 }}", "00".repeat(64));
    let listed = |n| text.replace("# config", &format!("config = [{}]", many(&config, n)));
    assert!(Pins::parse(&listed(MAX_PINNED_VALUES), AllowSim::No).is_ok());
    refused(&listed(MAX_PINNED_VALUES + 1), "E-PINS-COUNT");
    let (head, worker) = text.split_at(text.find("[[sgx.worker]]").unwrap());
    let workers = |n: usize| {
        (0..n).fold(head.to_owned(), |all, i| {
            all + &worker.replace("\"enclave\"", &format!("\"enclave {i}\""))
        })
    };
    assert!(Pins::parse(&workers(MAX_PINNED_WORKERS), AllowSim::No).is_ok());
    refused(&workers(MAX_PINNED_WORKERS + 1), "E-PINS-COUNT");
    let exception =
        &text[text.find("[[platform.exception]]").unwrap()..text.find("[sgx]").unwrap()];
    let exceptions = |n: usize| text.replace(exception, &exception.repeat(n));
    assert!(Pins::parse(&exceptions(MAX_PINNED_VALUES), AllowSim::No).is_ok());
    refused(&exceptions(MAX_PINNED_VALUES + 1), "E-PINS-COUNT");
}

#[test]
fn refuses_exceptions_that_accept_too_much_or_are_not_readable() {
    let named = "\"ConfigurationAndSWHardeningNeeded\"";
    for status in ["Revoked", "UpToDate", "outofdate", "*", ""] {
        changed(named, &format!("\"{status}\""), "E-PINS-EXCEPTION");
    }
    for advisory in ["*", "", "intel-sa-00289"] {
        changed("\"INTEL-SA-00289\"", &format!("\"{advisory}\""), "E-PINS-EXCEPTION");
    }
    changed("2025-07-01T00:00:00Z", "2025-07-01", "E-PINS-EXCEPTION");
    changed("the recorded machine is a test", " ", "E-PINS-EXCEPTION");
    changed("fmspc = \"00a067110000\"", "fmspc = \"00A067110000\"", "E-PINS-FORM");
}
