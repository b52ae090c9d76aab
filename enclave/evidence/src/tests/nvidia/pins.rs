//! The `[device]` section of pins files: what is read, what is refused, and how it joins the
//! appraisal of a worker.

use super::super::{Real, parse_pins, session};
use super::NOW;
use crate::nvidia::{
    DeviceKind, DeviceRoot, MAX_DENIED_SERIALS, MAX_DEVICES, MAX_GOLDEN_ALTERNATIVES,
    MAX_GOLDEN_SETS, Mode,
};
use crate::pins::MAX_PINNED_VALUES;
use crate::{AllowSim, Appraiser, Outcome, Pins, PinsError, RuleId};

const DEVICE: &str =
    "\n[device]\ngpus = 1\nswitches = 0\nmodes = [\"single\", \"protected-pcie\"]\n";
const VALUE: &str = "\"111111111111111111111111111111111111111111111111\
    111111111111111111111111111111111111111111111111\"";

/// Production pins that only lack a device section.
fn base() -> String {
    let example = include_str!("../../../../../manifests/pins.example.toml");
    let end = example.find("\n# [device]").unwrap_or(example.len());
    example[..end].to_owned()
}

fn parse(device: &str) -> Result<Pins, PinsError> {
    Pins::parse(&format!("{}{device}", base()), AllowSim::No)
}

fn refused(device: &str) -> &'static str {
    parse(device).unwrap_err().code()
}

#[test]
fn reads_golden_values_by_chip_and_version() {
    let text = format!(
        "{DEVICE}denied_serials = [\"53c22b\"]\n\
         [[device.driver]]\nkind = \"GH100\"\nversion = \"550.90.07\"\n\
         records = {{ 22 = [{VALUE}], 64 = [{VALUE}, {VALUE}] }}\n\
         [[device.vbios]]\nkind = \"LS10\"\nversion = \"96.10.55.00.01\"\nboard = \"a_b_c\"\n\
         [device.vbios.records]\n1 = []\n"
    );
    let pins = parse(&text).unwrap();
    let device = pins.device().unwrap();
    assert_eq!(device.root, DeviceRoot::Nvidia);
    assert_eq!((device.gpus, device.switches), (1, 0));
    assert_eq!(device.modes, [Mode::Single, Mode::ProtectedPcie]);
    assert!(!device.switches_without_firmware);
    assert_eq!(device.drivers[0].kind, DeviceKind::Gh100);
    assert_eq!(device.drivers[0].records.keys().copied().collect::<Vec<_>>(), [22, 64]);
    assert_eq!(device.drivers[0].records[&64], [[0x11; 48]; 2]);
    assert_eq!(device.vbioses[0].board.as_deref(), Some("a_b_c"));
    assert!(parse("").unwrap().device().is_none());
}

#[test]
fn refuses_sections_that_contradict_themselves_or_the_tier() {
    assert_eq!(refused(&DEVICE.replace("gpus = 1", "gpus = 0")), "E-PINS-DEVICE");
    assert_eq!(refused(&format!("{DEVICE}sim_root = \"3000\"\n")), "E-PINS-DEVICE");
    for serial in ["", "00", "5", "5G", "AA", &"ab".repeat(22)] {
        let text = format!("{DEVICE}denied_serials = [\"{serial}\"]\n");
        assert_eq!(refused(&text), "E-PINS-DEVICE", "{serial:?}");
    }
    for index in ["0", "65", "01", "x", "256", "-1"] {
        let text = format!(
            "{DEVICE}[[device.driver]]\nkind = \"GH100\"\nversion = \"1\"\n\
             [device.driver.records]\n{index} = []\n"
        );
        assert_eq!(refused(&text), "E-PINS-DEVICE", "{index}");
    }
    for malformed in [
        DEVICE.replace("gpus = 1\n", ""),
        DEVICE.replace("switches = 0\n", ""),
        DEVICE.replace("single", "devtools"),
        format!("{DEVICE}unknown = 1\n"),
        format!("{DEVICE}[[device.driver]]\nkind = \"GH200\"\nversion = \"1\"\nrecords = {{}}\n"),
        format!("{DEVICE}[[device.driver]]\nkind = \"GH100\"\nversion = \"1\"\n"),
    ] {
        assert_eq!(refused(&malformed), "E-PINS-FORM", "{malformed}");
    }
}

#[test]
fn refuses_insecure_sim_pins_without_a_device_root_or_with_nvidias() {
    let sim = |root: &str| {
        let text = base()
            .replace(
                "tier = \"production\"",
                &format!(
                    "tier = \"INSECURE-SIM\"\nsim_root = \"{}\"",
                    super::super::pins::TEST_ROOT
                ),
            )
            .replace("network = -3", "network = 5458253");
        Pins::parse(&format!("{text}{DEVICE}{root}"), AllowSim::Yes)
    };
    let named = |der: &[u8]| sim(&format!("sim_root = \"{}\"\n", hex::encode(der)));
    assert_eq!(sim("").unwrap_err().code(), "E-PINS-DEVICE");
    assert_eq!(named(DeviceRoot::Nvidia.der()).unwrap_err().code(), "E-PINS-DEVICE");
    assert_eq!(named(&[]).unwrap_err().code(), "E-PINS-DEVICE");
    assert_eq!(named(&[0x30; 4097]).unwrap_err().code(), "E-PINS-DEVICE");
    let pins = named(&[0x30, 0]).unwrap();
    assert_eq!(pins.device().unwrap().root, DeviceRoot::InsecureSim(vec![0x30, 0]));
}

#[test]
fn refuses_a_device_section_in_certificate_only_pins() {
    let text = base().replace("\"production\"", "\"INSECURE-CERTIFICATE-ONLY\"");
    assert!(Pins::parse_certificate_only(&text).is_ok());
    let refused = Pins::parse_certificate_only(&format!("{text}{DEVICE}")).unwrap_err();
    assert_eq!(refused.code(), "E-PINS-DEVICE");
}

#[test]
fn refuses_lists_one_over_their_limits() {
    let entry = "[[device.vbios]]\nkind = \"GH100\"\nversion = \"1\"\nrecords = {}\n";
    assert!(parse(&format!("{DEVICE}{}", entry.repeat(MAX_GOLDEN_SETS))).is_ok());
    let many = |text: String| refused(&text) == "E-PINS-COUNT";
    assert!(many(format!("{DEVICE}{}", entry.repeat(MAX_GOLDEN_SETS + 1))));
    let drivers = entry.replace("vbios", "driver").repeat(MAX_GOLDEN_SETS + 1);
    assert!(many(format!("{DEVICE}{drivers}")));
    let gpus = |n: usize| DEVICE.replace("gpus = 1", &format!("gpus = {n}"));
    assert!(parse(&gpus(MAX_DEVICES)).is_ok());
    assert!(many(gpus(MAX_DEVICES + 1)));
    let serials =
        |n: usize| format!("{DEVICE}denied_serials = [{}]\n", vec!["\"aa\""; n].join(","));
    assert!(parse(&serials(MAX_DENIED_SERIALS)).is_ok());
    assert!(many(serials(MAX_DENIED_SERIALS + 1)));
    let modes = |n: usize| {
        DEVICE.replace("\"single\", \"protected-pcie\"", &vec!["\"single\""; n].join(","))
    };
    assert!(parse(&modes(MAX_PINNED_VALUES)).is_ok());
    assert!(many(modes(MAX_PINNED_VALUES + 1)));
    let values = |n: usize| {
        let values = vec![VALUE; n].join(",");
        format!("{DEVICE}{}", entry.replace("{}", &format!("{{ 1 = [{values}] }}")))
    };
    assert!(parse(&values(MAX_GOLDEN_ALTERNATIVES)).is_ok());
    assert!(many(values(MAX_GOLDEN_ALTERNATIVES + 1)));
}

#[test]
fn a_worker_with_device_pins_must_pass_every_device_rule() {
    let Some(real) = Real::cocoon() else { return };
    let text = format!("{}{DEVICE}", real.pins_text());
    let verdict = Appraiser::new(parse_pins(&text)).appraise(
        &real.document(),
        &session(),
        &real.collateral,
        NOW,
    );
    let ids: Vec<RuleId> = verdict.rules.iter().map(|r| r.id).collect();
    assert_eq!(ids, [RuleId::ALL, RuleId::DEVICE].concat());
    assert!(verdict.rules.iter().rev().take(12).all(|r| r.outcome == Outcome::Skip));
    assert!(!verdict.accepted());
}

#[test]
fn refuses_documents_with_too_many_or_too_long_devices() {
    let Some(real) = Real::cocoon() else { return };
    let appraiser = Appraiser::new(parse_pins(&real.pins_text()));
    let code = |devices: usize, report: usize, chain: usize| {
        let mut document = real.document();
        let device = chrysalis_wire::DeviceDocument {
            report: "00".repeat(report),
            chain: "00".repeat(chain),
        };
        document.devices = vec![device; devices];
        appraiser
            .appraise(&document, &session(), &real.collateral, real.now)
            .result
            .unwrap_err()
            .code
    };
    // Devices that are shown change what the quote must commit to.
    let (report, chain) =
        (crate::nvidia::MAX_DEVICE_REPORT_BYTES, crate::nvidia::MAX_DEVICE_CHAIN_BYTES);
    assert_eq!(code(MAX_DEVICES, report, chain), "E-REPORT-DATA");
    assert_eq!(code(MAX_DEVICES + 1, 1, 1), "E-DOCUMENT");
    assert_eq!(code(1, report + 1, chain), "E-DOCUMENT");
    assert_eq!(code(1, report, chain + 1), "E-DOCUMENT");
}

#[test]
fn refuses_devices_that_the_pins_do_not_ask_for() {
    let Some(evidence) = super::Recorded::Nvtrust.load() else { return };
    let refused = crate::rules::devices(None, &[evidence]).unwrap_err();
    assert_eq!(refused.code, "E-GPU-UNASKED");
}
