//! The pins file: the documented example reads, everything misleading in one is refused.

use chrysalis_wire::{NetworkId, UnixTime};

use crate::{
    Admission, AllowSim, Denial, Denied, MAX_DENIED, MAX_PINNED_VALUES, MAX_PINNED_WORKERS,
    MAX_PINS_BYTES, MAX_REASON_CHARS, MAX_VETTED_PLATFORMS, Pins, PinsError, Tier,
};

pub(crate) const EXAMPLE: &str = include_str!("../../../../manifests/pins.example.toml");

/// A certificate that is nobody's root, for pins that name a simulated one.
pub(crate) const TEST_ROOT: &str = "\
    308201a230820149a0030201020214495e62e328de6e9e2ebaf1966e7129626410afd3300a06082a8648\
    ce3d04030230263124302206035504030c1b46414b4520494e5345435552452d53494d20746573742072\
    6f6f743020170d3236313132323030303631375a180f32313236313032393030303631375a3026312430\
    2206035504030c1b46414b4520494e5345435552452d53494d207465737420726f6f743059301306072a\
    8648ce3d020106082a8648ce3d03010703420004cffd633b84fa9f4e7153ff07e86af254fabe5efd12e0\
    69f7786bfaac2cd8cfe684f34c85c8d7db68b1290a3c7e51ca6cb35a050384411211f3607dfc3d53fbef\
    a3533051301d0603551d0e0416041437fa1810d1dc2c4d3c533827b6c1f0fc838ee669301f0603551d23\
    04183016801437fa1810d1dc2c4d3c533827b6c1f0fc838ee669300f0603551d130101ff040530030101\
    ff300a06082a8648ce3d040302034700304402207c49676b32f4be97c863f291050b1bb9b3851b530f92\
    c5a03d8f7d8d5825993902205f48a0ec5a75fad4e85f26213b6fc0e0e2d6153cc2fd605ef01786379b7c\
    2594";

pub(crate) fn sim_text() -> String {
    EXAMPLE
        .replace(
            "tier = \"production\"",
            &format!("tier = \"INSECURE-SIM\"\nsim_root = \"{TEST_ROOT}\""),
        )
        .replace("network = -3", "network = 5458253")
}

fn refuse(from: &str, to: &str) -> PinsError {
    assert!(EXAMPLE.contains(from), "{from} is not in the example");
    Pins::parse(&EXAMPLE.replacen(from, to, 1), AllowSim::Yes).unwrap_err()
}

#[test]
fn reads_the_documented_example() {
    let pins = Pins::parse(EXAMPLE, AllowSim::No).unwrap();
    assert_eq!((pins.tier(), pins.network()), (Tier::Production, NetworkId::TESTNET));
    assert!(!pins.insecure_sim());
    assert_eq!(pins.workers().len(), 1);
    assert_eq!(pins.workers()[0].rtmr2, [0x44; 48]);
    assert_eq!(pins.platform().mr_config_id, [[0; 48]]);
    assert_eq!(pins.platform().max_collateral_age_days, 14);
}

#[test]
fn reads_insecure_sim_pins_only_when_asked_to() {
    assert_eq!(Pins::parse(&sim_text(), AllowSim::No), Err(PinsError::SimRefused));
    let pins = Pins::parse(&sim_text(), AllowSim::Yes).unwrap();
    assert!(pins.insecure_sim());
    assert_eq!(hex::encode(pins.root().der()), TEST_ROOT);
}

#[test]
fn reads_certificate_only_pins_only_by_the_call_named_after_them() {
    let text = EXAMPLE.replace("\"production\"\n", "\"INSECURE-CERTIFICATE-ONLY\"\n");
    for allow in [AllowSim::No, AllowSim::Yes] {
        assert_eq!(Pins::parse(&text, allow), Err(PinsError::CertificateOnlyRefused));
    }
    let pins = Pins::parse_certificate_only(&text).unwrap();
    assert_eq!((pins.tier(), pins.root()), (Tier::CertificateOnly, &crate::TrustRoot::Intel));
    assert!(!pins.insecure_sim());
    for (other, tier) in [(EXAMPLE.to_owned(), Tier::Production), (sim_text(), Tier::InsecureSim)] {
        let refused = Pins::parse_certificate_only(&other);
        assert_eq!(refused, Err(PinsError::NotCertificateOnly { tier }));
    }
    let rooted = text.replace("network = -3", &format!("network = -3\nsim_root = \"{TEST_ROOT}\""));
    assert_eq!(Pins::parse_certificate_only(&rooted).unwrap_err().code(), "E-PINS-SIM-ROOT");
}

#[test]
fn refuses_production_pins_that_name_a_root() {
    let error = refuse("network = -3", &format!("network = -3\nsim_root = \"{TEST_ROOT}\""));
    assert_eq!(error.code(), "E-PINS-SIM-ROOT");
}

#[test]
fn refuses_insecure_sim_pins_without_a_usable_root() {
    let line = format!("sim_root = \"{TEST_ROOT}\"\n");
    let intel = hex::encode(crate::TrustRoot::Intel.der());
    for root in
        ["", "sim_root = \"\"\n", "sim_root = \"00\"\n", &format!("sim_root = \"{intel}\"\n")]
    {
        let error = Pins::parse(&sim_text().replace(&line, root), AllowSim::Yes).unwrap_err();
        assert_eq!(error.code(), "E-PINS-SIM-ROOT", "{root}");
    }
}

#[test]
fn refuses_a_tier_on_the_network_of_the_other() {
    assert_eq!(refuse("network = -3", "network = 5458253").code(), "E-PINS-NETWORK");
    for network in ["-3", "-239", "7"] {
        let text = sim_text().replace("network = 5458253", &format!("network = {network}"));
        assert_eq!(Pins::parse(&text, AllowSim::Yes).unwrap_err().code(), "E-PINS-NETWORK");
    }
}

#[test]
fn refuses_unknown_and_missing_fields_by_name() {
    for (from, to, word) in [
        ("version = 1", "version = 1\nallow_any = true", "allow_any"),
        ("[platform]", "[platform]\nallow_debug = true", "allow_debug"),
        ("[[worker]]", "[[worker]]\nany_image = true", "any_image"),
        ("network = -3", "", "network"),
        ("xfam = [\"e702060000000000\"]", "", "xfam"),
        ("tier = \"production\"", "tier = \"development\"", "development"),
    ] {
        let PinsError::Malformed(message) = refuse(from, to) else { panic!("{to}") };
        assert!(message.contains(word), "{message}");
    }
}

#[test]
fn refuses_a_future_version() {
    assert_eq!(refuse("version = 1", "version = 2"), PinsError::Version { got: 2 });
}

#[test]
fn refuses_hex_that_is_short_or_upper_case() {
    assert_eq!(refuse("1111", "11").code(), "E-PINS-FORM");
    assert_eq!(refuse("e702060000000000", "E702060000000000").code(), "E-PINS-FORM");
}

#[test]
fn refuses_td_attributes_with_any_debug_bit() {
    for bit in 0..8 {
        let value = format!("{:02x}00001000000000", 1u8 << bit);
        assert_eq!(
            refuse("\"0000001000000000\"", &format!("\"0000001000000000\", \"{value}\"")),
            PinsError::Debug { value }
        );
    }
}

#[test]
fn refuses_a_zero_measurement() {
    for (digit, field) in [("1", "mrtd"), ("2", "rtmr0"), ("3", "rtmr1"), ("4", "rtmr2")] {
        let error = refuse(&digit.repeat(96), &"0".repeat(96));
        assert!(
            matches!(&error, PinsError::ZeroMeasurement { field: f, .. } if *f == field),
            "{error}"
        );
    }
}

#[test]
fn refuses_ages_and_numbers_out_of_range() {
    for age in ["0", "31"] {
        let to = format!("max_collateral_age_days = {age}");
        assert_eq!(refuse("max_collateral_age_days = 14", &to).code(), "E-PINS-RANGE");
    }
    let zero = "min_tcb_evaluation_number = 0";
    assert_eq!(refuse("min_tcb_evaluation_number = 18", zero).code(), "E-PINS-RANGE");
}

#[test]
fn refuses_names_that_are_empty_unprintable_or_used_twice() {
    let name = EXAMPLE.lines().find(|l| l.starts_with("name")).unwrap();
    for bad in ["name = \"\"", "name = \"a\\u001b[2J\"", &format!("name = \"{}\"", "x".repeat(129))]
    {
        assert_eq!(refuse(name, bad), PinsError::Name { index: 0 });
    }
    let worker =
        &EXAMPLE[EXAMPLE.find("[[worker]]").unwrap()..EXAMPLE.find("# What platf").unwrap()];
    assert_eq!(refuse(worker, &format!("{worker}{worker}")), PinsError::Name { index: 1 });
}

#[test]
fn refuses_one_worker_one_value_and_one_byte_past_the_limits() {
    let at = EXAMPLE.find("[[worker]]").unwrap();
    let worker = &EXAMPLE[at..EXAMPLE.find("# What platf").unwrap()];
    let lean: String =
        worker.lines().filter(|l| !l.starts_with('#')).map(|l| format!("{l}\n")).collect();
    let many: String = (0..=MAX_PINNED_WORKERS)
        .map(|i| lean.replace("(replace every value: these belong to no worker)", &i.to_string()))
        .collect();
    let error = refuse(worker, &many);
    assert!(matches!(error, PinsError::TooMany { what: "worker", got: 1025, .. }), "{error}");
    let values = vec!["\"e702060000000000\""; MAX_PINNED_VALUES + 1].join(", ");
    let error = refuse("\"e702060000000000\"", &values);
    assert!(matches!(error, PinsError::TooMany { what: "xfam", got: 65, .. }), "{error}");
    let mut padded = EXAMPLE.to_owned();
    padded.push_str(&"\n".repeat(MAX_PINS_BYTES - padded.len()));
    assert!(Pins::parse(&padded, AllowSim::No).is_ok());
    padded.push('\n');
    assert_eq!(Pins::parse(&padded, AllowSim::No).unwrap_err().code(), "E-PINS-SIZE");
}

#[test]
fn an_empty_worker_list_reads_and_denies_later() {
    let at = EXAMPLE.find("[[worker]]").unwrap();
    let end = EXAMPLE.find("# What platf").unwrap();
    let text = format!("{}{}", &EXAMPLE[..at], &EXAMPLE[end..]);
    assert!(Pins::parse(&text, AllowSim::No).unwrap().workers().is_empty());
}

#[test]
fn reads_a_number_a_date_an_admission_and_denials() {
    let id = "ab".repeat(16);
    let text = EXAMPLE
        .replacen("version = 1\n", "version = 1\nsequence = 7\n", 1)
        .replacen("[[worker]]", "[[worker]]\nactivates_at = \"2027-01-01T00:00:00Z\"", 1)
        .replacen(
            "[platform]\n",
            &format!("[platform]\nadmission = \"vetted\"\nvetted = [\"{id}\"]\n"),
            1,
        );
    let text = format!("{text}\n[[deny]]\nfmspc = \"90c06f000000\"\nreason = \"old\"\n");
    let pins = Pins::parse(&text, AllowSim::No).unwrap();
    assert_eq!(pins.sequence(), Some(7));
    assert_eq!(pins.workers()[0].activates_at, Some(UnixTime(1_798_761_600)));
    assert_eq!(pins.platform().admission, Admission::Vetted(vec![[0xab; 16]]));
    let denial = Denial { what: Denied::Fmspc([0x90, 0xc0, 0x6f, 0, 0, 0]), reason: "old".into() };
    assert_eq!(pins.denied(), [denial]);
    let plain = Pins::parse(EXAMPLE, AllowSim::No).unwrap();
    assert_eq!((plain.sequence(), &plain.platform().admission), (None, &Admission::Open));
}

#[test]
fn refuses_numbers_dates_and_admissions_that_mean_nothing() {
    let list = format!("vetted = [\"{}\"]", "ab".repeat(16));
    let platform = |lines: &str| format!("[platform]\n{lines}\n");
    for (from, to, code) in [
        ("version = 1\n", "version = 1\nsequence = 0\n".to_owned(), "E-PINS-SEQUENCE"),
        ("version = 1\n", "version = 1\nsequence = -1\n".to_owned(), "E-PINS-FORM"),
        ("[[worker]]", "[[worker]]\nactivates_at = \"tomorrow\"".to_owned(), "E-PINS-FORM"),
        ("[[worker]]", "[[worker]]\nactivates_at = \"2027-01-01\"".to_owned(), "E-PINS-FORM"),
        ("[platform]\n", platform(&list), "E-PINS-PLATFORM"),
        ("[platform]\n", platform("admission = \"vetted\""), "E-PINS-PLATFORM"),
        ("[platform]\n", platform("admission = \"any\""), "E-PINS-FORM"),
    ] {
        assert_eq!(refuse(from, &to).code(), code, "{to}");
    }
}

fn deny(entries: &str) -> PinsError {
    Pins::parse(&format!("{EXAMPLE}\n{entries}"), AllowSim::No).unwrap_err()
}

#[test]
fn refuses_denials_that_would_deny_nothing() {
    for entry in [
        "reason = \"x\"",
        "reason = \"x\"\nfmspc = \"90c06f000000\"\nadvisory = \"INTEL-SA-00001\"",
        "reason = \"\"\nfmspc = \"90c06f000000\"",
        "reason = \"a\\u001b[2J\"\nfmspc = \"90c06f000000\"",
        &format!("reason = \"{}\"\nfmspc = \"90c06f000000\"", "x".repeat(MAX_REASON_CHARS + 1)),
        "reason = \"x\"\nadvisory = \"SA-00001\"",
        "reason = \"x\"\nadvisory = \"INTEL-SA-\"",
        "reason = \"x\"\nadvisory = \"INTEL-SA-0615\"",
        "reason = \"x\"\nadvisory = \"INTEL-SA-006150\"",
        "reason = \"x\"\nadvisory = \"INTEL-SA-00615 \"",
        "reason = \"x\"\nadvisory = \"INTEL-SA-0061S\"",
        "reason = \"x\"\ngpu_serial = \"\"",
        "reason = \"x\"\ngpu_serial = \"0000\"",
        "reason = \"x\"\ngpu_serial = \"ABCD\"",
        &format!("reason = \"x\"\ngpu_serial = \"{}\"", "ab".repeat(22)),
    ] {
        let error = deny(&format!("[[deny]]\n{entry}\n"));
        assert!(matches!(error, PinsError::Deny { index: 0, .. }), "{entry}: {error}");
    }
    let without = "[[deny]]\nfmspc = \"90c06f000000\"\n";
    assert_eq!(deny(without).code(), "E-PINS-FORM");
    let unknown = "[[deny]]\nreason = \"x\"\ncolour = \"red\"\n";
    assert_eq!(deny(unknown).code(), "E-PINS-FORM");
}

#[test]
fn refuses_one_denial_and_one_vetted_platform_past_the_limits() {
    let longest = "x".repeat(MAX_REASON_CHARS);
    let entry = format!("[[deny]]\nfmspc = \"90c06f000000\"\nreason = \"{longest}\"\n");
    assert!(Pins::parse(&format!("{EXAMPLE}\n{entry}"), AllowSim::No).is_ok());
    let entry = "[[deny]]\nfmspc = \"90c06f000000\"\nreason = \"x\"\n";
    let most = format!("{EXAMPLE}\n{}", entry.repeat(MAX_DENIED));
    assert!(Pins::parse(&most, AllowSim::No).is_ok());
    let error = deny(&entry.repeat(MAX_DENIED + 1));
    assert!(matches!(error, PinsError::TooMany { what: "deny", got: 4097, .. }), "{error}");
    let vetted = |count: usize| {
        let ids = vec![format!("\"{}\"", "ab".repeat(16)); count].join(", ");
        format!("[platform]\nadmission = \"vetted\"\nvetted = [{ids}]\n")
    };
    let most = EXAMPLE.replacen("[platform]\n", &vetted(MAX_VETTED_PLATFORMS), 1);
    assert!(Pins::parse(&most, AllowSim::No).is_ok());
    let error = refuse("[platform]\n", &vetted(MAX_VETTED_PLATFORMS + 1));
    assert!(matches!(error, PinsError::TooMany { what: "vetted", got: 4097, .. }), "{error}");
}
