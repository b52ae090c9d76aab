//! Writes the pins file that accepts exactly one predicted worker. The file is policy: it is
//! written from what the auditor measured, never from what a worker said.

use core::fmt::Write as _;

use chrysalis_evidence::sim;
use chrysalis_wire::NetworkId;

use crate::error::MeasureError;
use crate::predict::Prediction;

/// A complete INSECURE-SIM pins file, with comments, that accepts `prediction` under the
/// simulator's FAKE root and nothing else.
///
/// # Errors
/// [`MeasureError::Name`], [`MeasureError::SimRoot`] and [`MeasureError::NotSimulated`].
pub fn pins_for(
    prediction: &Prediction,
    name: &str,
    sim_root: &[u8],
) -> Result<String, MeasureError> {
    if prediction.network != NetworkId::INSECURE_SIM {
        return Err(MeasureError::NotSimulated { network: prediction.network });
    }
    check_name(name)?;
    check_root(sim_root)?;
    let [rtmr0, rtmr1, rtmr2, _] = prediction.registers.rtmr;
    let mut out = String::from(HEAD);
    let mut put = |line: core::fmt::Arguments<'_>| {
        // Writing to a string does not fail.
        let _ = out.write_fmt(line);
    };
    put(format_args!("sim_root = \"{}\"\n\n", hex::encode(sim_root)));
    put(format_args!("# TON global_id of the simulation.\nnetwork = {}\n\n", prediction.network.0));
    put(format_args!("{WORKER}name = \"{}\"\n", quoted(name)));
    put(format_args!("# SHA-384 over the worker executable.\n"));
    put(format_args!("mrtd = \"{}\"\n", hex::encode(prediction.registers.mrtd)));
    put(format_args!("# Constants: a simulated platform has no firmware, kernel or initrd.\n"));
    put(format_args!("rtmr0 = \"{}\"\n", hex::encode(rtmr0)));
    put(format_args!("rtmr1 = \"{}\"\n", hex::encode(rtmr1)));
    put(format_args!("rtmr2 = \"{}\"\n", hex::encode(rtmr2)));
    put(format_args!("# SHA-256 of the exact bytes of the worker manifest.\n"));
    put(format_args!("manifest_sha256 = \"{}\"\n", prediction.manifest_sha256));
    put(format_args!("# Content root of the model bundle.\n"));
    put(format_args!("model_root = \"{}\"\n\n", prediction.model_root));
    put(format_args!("{PLATFORM}"));
    put(format_args!("td_attributes = [\"{}\"]\n", hex::encode(sim::TD_ATTRIBUTES)));
    put(format_args!("xfam = [\"{}\"]\n", hex::encode(sim::XFAM)));
    put(format_args!("mr_seam = [\n    \"{}\",\n]\n", hex::encode(sim::mr_seam())));
    put(format_args!("max_collateral_age_days = {SIM_COLLATERAL_AGE_DAYS}\n"));
    put(format_args!("min_tcb_evaluation_number = {}\n", sim::TCB_EVALUATION_NUMBER));
    put(format_args!("{FLAGS}"));
    Ok(out)
}

/// The same names that the pins parser accepts.
pub(crate) fn check_name(name: &str) -> Result<(), MeasureError> {
    let printable = name.bytes().all(|b| (0x20..0x7f).contains(&b));
    if name.is_empty() || name.len() > MAX_NAME_CHARS || !printable {
        let got = name.chars().take(MAX_NAME_CHARS).collect();
        return Err(MeasureError::Name { got });
    }
    Ok(())
}

/// Catches a wrong file (PEM, hex, a key) here, where the message can say what to do. Whether it
/// is a certificate is for the pins parser to say.
pub(crate) const fn check_root(der: &[u8]) -> Result<(), MeasureError> {
    if der.len() > MAX_SIM_ROOT_BYTES {
        return Err(MeasureError::SimRoot { reason: "it is over 4096 bytes" });
    }
    match der {
        // SEQUENCE with a two-byte length, X.690 8.1.3.5: no certificate is shorter or longer.
        [0x30, 0x82, ..] => Ok(()),
        [b'-', b'-', ..] => Err(MeasureError::SimRoot { reason: "it is PEM; DER is wanted" }),
        _ => Err(MeasureError::SimRoot { reason: "it does not begin like one" }),
    }
}

/// Escapes the two characters that end or escape a basic TOML string.
pub(crate) fn quoted(name: &str) -> String {
    name.replace('\\', "\\\\").replace('"', "\\\"")
}

/// Largest root certificate accepted, in bytes; the pins parser's own limit.
pub const MAX_SIM_ROOT_BYTES: usize = 4096;

const MAX_NAME_CHARS: usize = 128;

/// Simulated collateral is valid for 30 days, and its age protects nothing.
const SIM_COLLATERAL_AGE_DAYS: u32 = 30;

const HEAD: &str = "\
# Pins of one SIMULATED worker, written by `chrysalis measure worker` from files alone.
# INSECURE-SIM: the evidence is real in form and worthless as proof; the keys that sign it are
# public. Loads only where --insecure-sim was given.
version = 1
tier = \"INSECURE-SIM\"

# The simulator's FAKE root certificate, DER.
";

const WORKER: &str = "\
# The one accepted worker. The values hold together; there is no partial match. RTMR3 is not
# pinned: it is recomputed from the worker's event log, which names manifest and model.
[[worker]]
";

const PLATFORM: &str = "\
# What a simulated platform reports.
[platform]
";

const FLAGS: &str = "\
allow_dynamic_platform = true
allow_cached_keys = true
allow_smt = true
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predict::{predict_process, tests::manifest};
    use chrysalis_evidence::{AllowSim, Pins, PinsError, TrustRoot};

    fn prediction() -> Prediction {
        predict_process(b"worker", manifest().as_bytes()).unwrap()
    }

    /// A real self-signed certificate, so that the parser can be asked. It signs nothing here.
    fn root() -> Vec<u8> {
        hex::decode(include_str!("../tests/fixtures/fake-root.hex").trim()).unwrap()
    }

    #[test]
    fn writes_pins_that_parse_and_accept_exactly_the_prediction() {
        let text = pins_for(&prediction(), "demo \"worker\" \\ 1", &root()).unwrap();
        let pins = Pins::parse(&text, AllowSim::Yes).unwrap();
        assert!(pins.insecure_sim());
        assert_eq!(pins.network(), NetworkId::INSECURE_SIM);
        assert_eq!(pins.root(), &TrustRoot::InsecureSim(root()));
        let [worker] = pins.workers() else { panic!("one worker expected") };
        let expected = prediction();
        assert_eq!(worker.name, "demo \"worker\" \\ 1");
        assert_eq!(worker.mrtd, expected.registers.mrtd);
        assert_eq!(worker.rtmr0, expected.registers.rtmr[0]);
        assert_eq!(worker.rtmr1, expected.registers.rtmr[1]);
        assert_eq!(worker.rtmr2, expected.registers.rtmr[2]);
        assert_eq!(worker.manifest_sha256, expected.manifest_sha256);
        assert_eq!(worker.model_root, expected.model_root);
        assert_eq!(pins.platform().mr_seam, [sim::mr_seam()]);
    }

    #[test]
    fn written_pins_do_not_load_unless_simulation_was_asked_for() {
        let text = pins_for(&prediction(), "demo", &root()).unwrap();
        assert_eq!(Pins::parse(&text, AllowSim::No), Err(PinsError::SimRefused));
    }

    #[test]
    fn refuses_a_name_that_could_write_into_the_file() {
        for bad in ["", "a\nmrtd = \"00\"", "tab\there", "é", &"x".repeat(129)] {
            let refused = pins_for(&prediction(), bad, &root());
            assert!(matches!(refused, Err(MeasureError::Name { .. })), "accepted {bad:?}");
        }
        assert!(pins_for(&prediction(), &"x".repeat(128), &root()).is_ok());
    }

    #[test]
    fn refuses_a_root_in_pem() {
        let refused = pins_for(&prediction(), "demo", b"-----BEGIN CERTIFICATE-----");
        assert!(matches!(refused, Err(MeasureError::SimRoot { reason }) if reason.contains("PEM")));
    }

    #[test]
    fn refuses_a_root_one_byte_over_the_limit() {
        let mut der = vec![0u8; MAX_SIM_ROOT_BYTES + 1];
        der[..2].copy_from_slice(&[0x30, 0x82]);
        assert!(matches!(pins_for(&prediction(), "demo", &der), Err(MeasureError::SimRoot { .. })));
        assert!(pins_for(&prediction(), "demo", &der[..MAX_SIM_ROOT_BYTES]).is_ok());
    }

    #[test]
    fn refuses_an_empty_root() {
        assert!(matches!(pins_for(&prediction(), "demo", b""), Err(MeasureError::SimRoot { .. })));
    }

    #[test]
    fn refuses_to_pin_a_simulated_worker_for_mainnet() {
        let mainnet = Prediction { network: NetworkId::MAINNET, ..prediction() };
        assert!(matches!(
            pins_for(&mainnet, "demo", &root()),
            Err(MeasureError::NotSimulated { .. })
        ));
    }
}
