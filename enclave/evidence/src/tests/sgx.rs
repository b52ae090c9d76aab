//! Enclaves before the policy: the recorded SGX quotes at their clock, and every way to differ from
//! one that is accepted. What a recorded quote cannot say is put into its verified report by tests
//! alone (`VerifiedQuote::forge_enclave`); quotes that are *signed* to differ are in `tee-sim`.

use chrysalis_wire::{AttestationDocument, Digest, UnixTime};
use dcap_qvl::{QuoteClaims, TcbStatus};

use super::rules::{MODEL_ROOT, good_keyset, good_manifest, sha256};
use super::{Real, parse_pins, session};
use crate::enclave::EnclaveReport;
use crate::transcript::Transcript;
use crate::{
    Appraiser, Binding, Outcome, QuoteVerdict, ReportData, Role, RuleId, Verdict, boot_events,
    enclave_events_digest, keyset_digest, parse_utc,
};

const MRENCLAVE: &str = "33d8736db756ed4997e04ba358d27833188f1932ff7b1d156904d3f560452fbb";
const MRSIGNER: &str = "815f42f11cf64430c30bab7816ba596a1da0130c3b028b673133a66cf9a3e0e6";
const ENCLAVE_PIN: &str =
    "mrenclave = \"33d8736db756ed4997e04ba358d27833188f1932ff7b1d156904d3f560452fbb\"\n";
const CONFIG_HERE: &str = "# config\n";

/// Production pins of the recorded enclave, by MRENCLAVE; trust domains are denied.
pub(super) fn sgx_pins() -> String {
    format!(
        "version = 1\ntier = \"production\"\nnetwork = -3\n\n[platform]\ntd_attributes = []\n\
         xfam = []\nmr_seam = []\nmax_collateral_age_days = 30\nmin_tcb_evaluation_number = 17\n\
         allow_dynamic_platform = true\nallow_cached_keys = true\nallow_smt = true\n\n\
         [[platform.exception]]\nfmspc = \"00a067110000\"\n\
         statuses = [\"ConfigurationAndSWHardeningNeeded\"]\n\
         advisories = [\"INTEL-SA-00289\", \"INTEL-SA-00615\"]\nuntil = \"2025-07-01T00:00:00Z\"\n\
         reason = \"the recorded machine is a test\"\n\n\
         [sgx]\nattributes = [{{ value = \"0500000000000000\", mask = \"ffffffffffffffff\" }}]\n\
         xfrm = [{{ value = \
         \"0300000000000000\", mask = \"1bfff9ffffffffff\" }}]\n\
         misc_select = [{{ value = \"00000000\", mask = \"ffffffff\" }}]\n{CONFIG_HERE}\n\
         [[sgx.worker]]\nname = \"enclave\"\n{ENCLAVE_PIN}manifest_sha256 = \"{}\"\n\
         model_root = \"{MODEL_ROOT}\"\n",
        sha256(good_manifest().as_bytes())
    )
}

/// The same pins, naming the signer instead of one build.
pub(super) fn signer_pins(isv_prod_id: u16, min_isv_svn: u16) -> String {
    let signer = format!(
        "mrsigner = \"{MRSIGNER}\"\nisv_prod_id = {isv_prod_id}\nmin_isv_svn = {min_isv_svn}\n"
    );
    sgx_pins().replace(ENCLAVE_PIN, &signer)
}

struct Case {
    real: Real,
    doc: AttestationDocument,
    pins: String,
    now: UnixTime,
    /// Applied to the verified quote last.
    change: fn(&mut QuoteClaims, &mut EnclaveReport),
}

impl Case {
    fn good() -> Option<Self> {
        let real = Real::sgx()?;
        let mut doc = real.document();
        let now = UnixTime(1_750_999_000);
        doc.keyset = hex::encode(good_keyset(now).encode());
        doc.manifest = hex::encode(good_manifest());
        doc.events = boot_events(&sha256(good_manifest().as_bytes()), &MODEL_ROOT).to_vec();
        Some(Self { now: real.now, real, doc, pins: sgx_pins(), change: |_, _| {} })
    }

    /// Appraises with a quote whose report_data fits the good document and session.
    fn appraise(&self) -> Verdict {
        let appraiser = Appraiser::new(parse_pins(&self.pins));
        let mut log = Transcript::default();
        let verified = appraiser.verify(&mut log, &self.doc, &self.real.collateral, self.real.now);
        let result = verified.and_then(|mut evidence| {
            let honest = session();
            let events = boot_events(&sha256(good_manifest().as_bytes()), &MODEL_ROOT);
            let bound = Binding {
                role: Role::Server,
                tls_spki: honest.tls_spki,
                nonce: honest.nonce,
                exporter: honest.exporter,
                keyset_digest: keyset_digest(&evidence.document.keyset),
                device_digest: enclave_events_digest(&events).unwrap(),
            };
            evidence.verified = evidence.verified.forge_enclave(|claims, report| {
                report.report_data = bound.report_data().0;
                (self.change)(claims, report);
            });
            appraiser.judge(&mut log, &evidence, &session(), self.now)
        });
        log.finish(result, false)
    }

    fn refusal(&self) -> (&'static str, RuleId) {
        let verdict = self.appraise();
        let refusal = verdict.result.as_ref().expect_err("accepted");
        (refusal.code, refusal.rule)
    }
}

/// Refusal of the good case after one change to the verified quote.
#[track_caller]
fn refused(change: fn(&mut QuoteClaims, &mut EnclaveReport), code: &str, rule: RuleId) {
    let Some(case) = Case::good() else { return };
    assert_eq!(Case { change, ..case }.refusal(), (code, rule));
}

/// Refusal of the good case under changed pins.
#[track_caller]
fn refused_under(pins: &str, code: &str, rule: RuleId) {
    let Some(case) = Case::good() else { return };
    assert_eq!(Case { pins: pins.to_owned(), ..case }.refusal(), (code, rule));
}

fn alone(real: &Real, pins: &str) -> QuoteVerdict {
    let report = dcap_qvl::quote::Quote::parse(&real.quote).unwrap().report;
    let expected = ReportData(report.as_sgx().unwrap().report_data);
    let pins = Appraiser::new(parse_pins(pins));
    pins.appraise_quote(&real.quote, &expected, &real.collateral, real.now)
}

#[test]
fn accepts_the_recorded_quote_under_pins_by_enclave_and_by_signer() {
    let Some(real) = Real::sgx() else { return };
    for pins in [sgx_pins(), signer_pins(0, 0)] {
        let verdict = alone(&real, &pins);
        let accepted = verdict.result.as_ref().unwrap_or_else(|_| panic!("{verdict}"));
        assert_eq!(accepted.pin_names(), ["enclave"]);
        let identity = accepted.measurement().enclave().unwrap();
        assert_eq!(identity.mrenclave.to_string(), MRENCLAVE);
        assert_eq!(identity.mrsigner.to_string(), MRSIGNER);
        let ids: Vec<_> = verdict.rules.iter().map(|rule| rule.id).collect();
        assert_eq!(ids[..RuleId::OF_AN_ENCLAVE.len()], *RuleId::OF_AN_ENCLAVE);
        for rule in &verdict.rules {
            let judged = RuleId::OF_AN_ENCLAVE_QUOTE.contains(&rule.id);
            assert_eq!(rule.outcome == Outcome::Skip, !judged, "{rule}");
        }
    }
}

#[test]
fn accepts_the_pinned_worker_with_every_rule_shown_and_none_passed_silently() {
    let Some(case) = Case::good() else { return };
    let verdict = case.appraise();
    let text = verdict.to_text();
    assert!(text.ends_with("\nACCEPTED  enclave serving TON testnet (-3)"), "{text}");
    let (own, foreign) = verdict.rules.split_at(RuleId::OF_AN_ENCLAVE.len());
    let ids = |rules: &[crate::RuleResult]| rules.iter().map(|rule| rule.id).collect::<Vec<_>>();
    assert_eq!(ids(own), RuleId::OF_AN_ENCLAVE);
    assert!(own.iter().all(|rule| matches!(rule.outcome, Outcome::Pass | Outcome::Info)));
    assert_eq!(
        ids(foreign),
        [
            RuleId::Debug,
            RuleId::TdAttributes,
            RuleId::Xfam,
            RuleId::Seam,
            RuleId::ConfigId,
            RuleId::Image,
            RuleId::EventLog
        ]
    );
    assert!(foreign.iter().all(|rule| rule.outcome == Outcome::Skip));
    let json: serde_json::Value = serde_json::from_str(&verdict.to_json()).unwrap();
    assert_eq!(json["worker"]["measurement"]["mrenclave"], MRENCLAVE);
    let worker = verdict.result.unwrap();
    assert_eq!(worker.model_root(), MODEL_ROOT);
    assert_eq!(worker.manifest_digest(), sha256(good_manifest().as_bytes()));
    assert_eq!(worker.measurement_digest(), worker.measurement().digest());
}

#[test]
fn refuses_recorded_debug_enclaves_by_name() {
    for file in ["attest/ratls/gramine.der", "attest/ratls/intel-sgxsdk.der"] {
        let Some(certificate) = super::vector(file) else { return };
        // The quote begins 12 bytes before Intel's vendor id.
        let vendor = [0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3];
        let at = certificate.windows(12).position(|bytes| bytes == vendor).unwrap() - 12;
        let real = Real { quote: certificate[at..].to_vec(), ..Real::sgx().unwrap() };
        let verdict = alone(&real, &sgx_pins());
        let refusal = verdict.result.unwrap_err();
        assert_eq!((refusal.code, refusal.rule), ("E-SGX-DEBUG", RuleId::SgxDebug), "{file}");
    }
}

#[test]
fn a_debug_bit_that_is_cleared_afterwards_breaks_the_signature() {
    let Some(real) = Real::sgx() else { return };
    let mut quote = real.quote.clone();
    quote[48 + 48] ^= 2;
    let debug = alone(&Real { quote: quote.clone(), ..real.clone() }, &sgx_pins());
    assert_eq!(debug.result.unwrap_err().code, "E-SGX-DEBUG");
    quote[48 + 48] ^= 2 | 0x10;
    let other = alone(&Real { quote, ..real }, &sgx_pins());
    assert_eq!(other.result.unwrap_err().code, "E-DCAP");
}

#[test]
fn refuses_an_enclave_under_pins_of_trust_domains_and_the_other_way_round() {
    let (Some(enclave), Some(td)) = (Real::sgx(), Real::td10()) else { return };
    let verdict = alone(&enclave, &td.pins_text());
    assert_eq!(verdict.result.unwrap_err().code, "E-QUOTE-TEE");

    // Pins of enclaves that even accept the trust domain's platform.
    let platform = |text: &str| text[text.find("[platform]").unwrap()..].to_owned();
    let enclaves = sgx_pins();
    let (head, sgx) = (
        &enclaves[..enclaves.find("[platform]").unwrap()],
        &enclaves[enclaves.find("[sgx]").unwrap()..],
    );
    let text = format!("{head}{}{sgx}", platform(&td.pins_text()));
    let report = dcap_qvl::quote::Quote::parse(&td.quote).unwrap().report;
    let expected = ReportData(report.as_td10().unwrap().report_data);
    let appraiser = Appraiser::new(parse_pins(&text));
    let verdict = appraiser.appraise_quote(&td.quote, &expected, &td.collateral, td.now);
    assert_eq!(verdict.result.as_ref().unwrap_err().code, "E-NO-WORKERS");
    let skipped: Vec<_> =
        verdict.rules.iter().filter(|rule| RuleId::SGX.contains(&rule.id)).collect();
    assert_eq!(skipped.len(), RuleId::SGX.len(), "{verdict}");
    assert!(skipped.iter().all(|rule| rule.outcome == Outcome::Skip));
}

#[test]
fn refuses_every_configuration_that_is_not_pinned() {
    use RuleId::{SgxAttributes, SgxConfig, SgxMiscSelect, SgxXfrm};
    let flags = ("E-SGX-ATTRIBUTES", SgxAttributes);
    refused(|_, r| r.flags[0] |= 0x10, flags.0, flags.1); // PROVISIONKEY
    refused(|_, r| r.flags[0] |= 0x20, flags.0, flags.1); // EINITTOKEN_KEY
    refused(|_, r| r.flags[0] |= 0x80, flags.0, flags.1); // KSS
    refused(|_, r| r.flags[0] &= !0x04, flags.0, flags.1); // a 32-bit enclave
    refused(|_, r| r.flags[7] |= 0x80, flags.0, flags.1);
    refused(|_, r| r.xfrm[0] |= 0x08, "E-SGX-XFRM", SgxXfrm); // MPX, which the mask covers
    refused(|_, r| r.xfrm[0] &= !0x02, "E-SGX-XFRM", SgxXfrm);
    refused(|_, r| r.misc_select[0] = 1, "E-SGX-MISCSELECT", SgxMiscSelect);
    refused(|_, r| r.config_id[63] = 1, "E-SGX-CONFIG", SgxConfig);
    refused(|_, r| r.config_svn = 1, "E-SGX-CONFIG", SgxConfig);
    refused(|_, r| r.isv_ext_prod_id[0] = 1, "E-SGX-EXTENDED-ID", SgxConfig);
    refused(|_, r| r.isv_family_id[15] = 1, "E-SGX-EXTENDED-ID", SgxConfig);
    refused(|_, r| r.reserved_zero = false, "E-SGX-RESERVED", SgxConfig);
}

#[test]
fn what_a_mask_leaves_out_is_left_to_the_machine() {
    let Some(case) = Case::good() else { return };
    // AVX, AVX-512 and AMX.
    let change = |_: &mut QuoteClaims, r: &mut EnclaveReport| r.xfrm = [0xe7, 0, 6, 0, 0, 0, 0, 0];
    let verdict = Case { change, ..case }.appraise();
    assert!(verdict.accepted(), "{verdict}");
}

#[test]
fn accepts_a_listed_configuration_as_a_pair() {
    let Some(case) = Case::good() else { return };
    let listed = format!("config = [{{ id = \"{}01\", svn = 7 }}]\n", "00".repeat(63));
    let case = Case { pins: sgx_pins().replace(CONFIG_HERE, &listed), ..case };
    let with = |change| Case {
        change,
        pins: case.pins.clone(),
        doc: case.doc.clone(),
        real: case.real.clone(),
        now: case.now,
    };
    assert!(with(|_, r| (r.config_id[63], r.config_svn) = (1, 7)).appraise().accepted());
    let wrong = ("E-SGX-CONFIG", RuleId::SgxConfig);
    assert_eq!(with(|_, r| (r.config_id[63], r.config_svn) = (1, 6)).refusal(), wrong);
    assert_eq!(with(|_, r| (r.config_id[63], r.config_svn) = (1, 8)).refusal(), wrong);
    assert_eq!(with(|_, _| {}).refusal(), wrong);
}

#[test]
fn refuses_under_each_empty_list() {
    let text = sgx_pins();
    let emptied = |key: &str| {
        let from = text.find(&format!("\n{key} = [")).unwrap() + 1;
        let to = from + text[from..].find('\n').unwrap();
        format!("{}{key} = []{}", &text[..from], &text[to..])
    };
    refused_under(&emptied("attributes"), "E-SGX-ATTRIBUTES", RuleId::SgxAttributes);
    refused_under(&emptied("xfrm"), "E-SGX-XFRM", RuleId::SgxXfrm);
    refused_under(&emptied("misc_select"), "E-SGX-MISCSELECT", RuleId::SgxMiscSelect);
    let none = text.replace(CONFIG_HERE, "config = []\n");
    refused_under(&none, "E-SGX-CONFIG", RuleId::SgxConfig);
    let none = &text[..text.find("[[sgx.worker]]").unwrap()];
    refused_under(none, "E-SGX-NO-WORKERS", RuleId::SgxEnclave);
}

#[test]
fn refuses_an_enclave_that_no_pin_names_in_full() {
    use RuleId::SgxEnclave;
    refused(|_, r| r.mrenclave.0[31] ^= 1, "E-MRENCLAVE", SgxEnclave);
    refused_under(&signer_pins(1, 0), "E-ISV-PROD-ID", SgxEnclave);
    refused_under(&signer_pins(0, 1), "E-ISV-SVN", SgxEnclave);
    let other = signer_pins(0, 0).replace(MRSIGNER, &"ab".repeat(32));
    refused_under(&other, "E-MRSIGNER", SgxEnclave);
}

#[test]
fn a_signer_pin_accepts_other_builds_and_later_versions_and_no_others() {
    let Some(case) = Case::good() else { return };
    let with = |change: fn(&mut QuoteClaims, &mut EnclaveReport), svn| {
        let pins = signer_pins(0, svn);
        Case { change, pins, doc: case.doc.clone(), real: case.real.clone(), now: case.now }
    };
    assert!(with(|_, r| r.mrenclave.0[0] ^= 1, 0).appraise().accepted());
    assert!(with(|_, r| r.isv_svn = 2, 2).appraise().accepted());
    assert!(with(|_, r| r.isv_svn = 3, 2).appraise().accepted());
    assert_eq!(with(|_, r| r.isv_svn = 1, 2).refusal().0, "E-ISV-SVN");
    assert_eq!(with(|_, r| r.mrsigner.0[0] ^= 1, 0).refusal().0, "E-MRSIGNER");
}

#[test]
fn of_two_pins_the_refusal_names_what_is_missing_of_the_nearer_one() {
    let second = format!(
        "[[sgx.worker]]\nname = \"second\"\nmrsigner = \"{MRSIGNER}\"\nisv_prod_id = 0\n\
         min_isv_svn = 9\nmanifest_sha256 = \"{z}\"\nmodel_root = \"{z}\"\n",
        z = "0".repeat(64)
    );
    let other = sgx_pins().replace(MRENCLAVE, &"cd".repeat(32));
    refused_under(&format!("{other}{second}"), "E-ISV-SVN", RuleId::SgxEnclave);
}

#[test]
fn the_quote_commits_to_manifest_and_model_and_the_pins_to_both() {
    let Some(good) = Case::good() else { return };
    let case = |doc: AttestationDocument, pins: String| Case {
        doc,
        pins,
        real: good.real.clone(),
        ..good
    };
    let bound = ("E-REPORT-DATA", RuleId::ReportData);

    // Another manifest with events that fit it: the enclave did not commit to those.
    let other = good_manifest().replace("prompt = 1", "prompt = 9");
    let mut doc = good.doc.clone();
    doc.manifest = hex::encode(&other);
    doc.events = boot_events(&sha256(other.as_bytes()), &MODEL_ROOT).to_vec();
    let good_digest = sha256(good_manifest().as_bytes()).to_string();
    let pinned = sgx_pins().replace(&good_digest, &sha256(other.as_bytes()).to_string());
    assert_eq!(case(doc, pinned).refusal(), bound);

    // The manifest alone: its event is another's.
    let mut doc = good.doc.clone();
    doc.manifest = hex::encode(&other);
    assert_eq!(case(doc, sgx_pins()).refusal(), ("E-MANIFEST-EVENT", RuleId::Manifest));

    // Another model root in the events.
    let mut doc = good.doc.clone();
    doc.events[1].payload = Digest([1; 32]).to_string();
    assert_eq!(case(doc, sgx_pins()).refusal(), bound);

    // What the pins name is another manifest, and another model.
    let unpinned = sgx_pins().replace(&good_digest, &"00".repeat(32));
    let manifest = ("E-MANIFEST-PIN", RuleId::Manifest);
    assert_eq!(case(good.doc.clone(), unpinned).refusal(), manifest);
    let unpinned = sgx_pins().replace(&MODEL_ROOT.to_string(), &"00".repeat(32));
    let model = ("E-MODEL-ROOT-PIN", RuleId::ModelRoot);
    assert_eq!(case(good.doc.clone(), unpinned).refusal(), model);
}

#[test]
fn refuses_events_that_are_not_exactly_the_boot_events() {
    let Some(good) = Case::good() else { return };
    let order = ("E-EVENT-ORDER", RuleId::SgxEvents);
    let with = |change: fn(&mut AttestationDocument)| {
        let mut doc = good.doc.clone();
        change(&mut doc);
        Case { doc, pins: good.pins.clone(), real: good.real.clone(), ..good }.refusal()
    };
    assert_eq!(with(|d| d.events.clear()), order);
    assert_eq!(with(|d| d.events.swap(0, 1)), order);
    assert_eq!(with(|d| d.events.push(d.events[0].clone())), order);
    assert_eq!(with(|d| drop(d.events.pop())), order);
    assert_eq!(with(|d| d.events[0].name = "Manifest".into()), ("E-EVENT-NAME", RuleId::SgxEvents));
    let payload = ("E-EVENT-PAYLOAD", RuleId::SgxEvents);
    assert_eq!(with(|d| d.events[0].payload.push('0')), payload);
}

#[test]
fn refuses_a_quote_that_commits_to_no_devices_instead_of_the_events() {
    let Some(case) = Case::good() else { return };
    let change = |_: &mut QuoteClaims, report: &mut EnclaveReport| {
        let honest = session();
        let keyset = good_keyset(UnixTime(1_750_999_000)).encode();
        report.report_data = Binding {
            role: Role::Server,
            tls_spki: honest.tls_spki,
            nonce: honest.nonce,
            exporter: honest.exporter,
            keyset_digest: keyset_digest(&keyset),
            device_digest: Digest([0; 32]),
        }
        .report_data()
        .0;
    };
    assert_eq!(Case { change, ..case }.refusal(), ("E-REPORT-DATA", RuleId::ReportData));
}

#[test]
fn refuses_devices_with_an_enclave_and_pins_that_ask_an_enclave_for_them() {
    let Some(mut case) = Case::good() else { return };
    let asking = format!("{}{}", sgx_pins(), "[device]\ngpus = 1\nswitches = 0\nmodes = []\n");
    let asked = Case { pins: asking, doc: case.doc.clone(), real: case.real.clone(), ..case };
    assert_eq!(asked.refusal(), ("E-SGX-DEVICE", RuleId::Device));
    let device = chrysalis_wire::DeviceDocument { report: "00".into(), chain: "00".into() };
    case.doc.devices.push(device);
    assert_eq!(case.refusal(), ("E-GPU-UNASKED", RuleId::Device));
}

#[test]
fn an_exception_accepts_what_it_names_until_its_day_and_nothing_else() {
    let tcb = ("E-TCB-STATUS", RuleId::TcbStatus);
    let changed = |from: &str, to: &str| {
        let text = sgx_pins();
        assert!(text.contains(from));
        refused_under(&text.replace(from, to), tcb.0, tcb.1);
    };
    changed("fmspc = \"00a067110000\"", "fmspc = \"00a067110001\"");
    changed("\"INTEL-SA-00289\", ", "");
    changed("statuses = [\"ConfigurationAndSWHardeningNeeded\"]", "statuses = [\"OutOfDate\"]");
    // The clock of the quote is 1 751 000 000 seconds, 2025-06-27T04:53:20Z.
    assert_eq!(parse_utc("2025-06-27T04:53:20Z"), Some(UnixTime(super::JUNE_2025)));
    changed("2025-07-01T00:00:00Z", "2025-06-27T04:53:20Z");
    refused(|claims, _| claims.tcb.status = TcbStatus::Revoked, tcb.0, tcb.1);
    refused(|claims, _| claims.qe.tcb_level.tcb_status = TcbStatus::OutOfDate, tcb.0, tcb.1);
    let Some(case) = Case::good() else { return };
    let second_before = sgx_pins().replace("2025-07-01T00:00:00Z", "2025-06-27T04:53:21Z");
    let verdict = Case { pins: second_before, ..case }.appraise();
    assert!(verdict.accepted(), "{verdict}");
    assert!(verdict.to_text().contains("EXCEPTION of the pins for FMSPC 00a067110000"));
}

#[test]
fn without_an_exception_the_recorded_machine_is_refused() {
    let text = sgx_pins();
    let (from, to) = (text.find("[[platform.exception]]").unwrap(), text.find("[sgx]").unwrap());
    let strict = format!("{}{}", &text[..from], &text[to..]);
    refused_under(&strict, "E-TCB-STATUS", RuleId::TcbStatus);
}

#[test]
fn reads_versions_4_and_5_of_an_enclave_quote_and_leaves_them_to_the_verification() {
    let Some(real) = Real::sgx() else { return };
    for version in [4, 5] {
        let quote = as_version(&real.quote, version);
        let cut = crate::CutQuote::parse(&quote).unwrap();
        assert_eq!((cut.version(), cut.tee()), (version, crate::TeeKind::Sgx));
        assert_eq!(cut.carried_root(), real.cut().carried_root());
        let verdict = alone(&Real { quote, ..real.clone() }, &sgx_pins());
        let refusal = verdict.result.unwrap_err();
        assert_eq!((refusal.code, refusal.rule), ("E-DCAP", RuleId::Dcap));
        assert!(refusal.found.contains("version 3"), "{refusal}");
    }
}

#[test]
fn refuses_bodies_that_do_not_belong_to_the_platform_of_the_header() {
    let Some(real) = Real::sgx() else { return };
    let v5 = as_version(&real.quote, 5);
    for (tee, body) in [(0x81u8, 1u8), (0, 2), (0, 3), (0, 4), (0, 0)] {
        let mut quote = v5.clone();
        (quote[4], quote[48]) = (tee, body);
        let refusal = crate::CutQuote::parse(&quote).unwrap_err();
        assert_eq!(refusal.code(), "E-QUOTE-BODY", "{tee:#x} {body}");
    }
    let mut quote = v5;
    quote[50] = 0x81;
    assert_eq!(crate::CutQuote::parse(&quote).unwrap_err().code(), "E-QUOTE-BODY");
}

/// The recorded version 3 quote laid out as a later version; its signature no longer fits.
fn as_version(v3: &[u8], version: u16) -> Vec<u8> {
    let (header, report, signature) = (&v3[..48], &v3[48..432], &v3[436..]);
    let length = u32::from_le_bytes(v3[432..436].try_into().unwrap()) as usize;
    let signature = &signature[..length];
    let (own, wrapped) = signature.split_at(128);
    let mut out = header.to_vec();
    out[..2].copy_from_slice(&version.to_le_bytes());
    if version == 5 {
        out.extend([1, 0]);
        out.extend(384u32.to_le_bytes());
    }
    out.extend(report);
    let sized = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap().to_le_bytes();
    let signed = [own, &[6, 0], &sized(wrapped), wrapped].concat();
    out.extend(sized(&signed));
    out.extend(signed);
    out
}
