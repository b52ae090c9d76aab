//! Appraising one GPU against the signatures it contains: four certificates and a report, ECDSA
//! P-384. The GPU is the simulator's, whose evidence has the form and the size of an H100's.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use aws_lc_rs::signature::{ECDSA_P384_SHA384_ASN1, ECDSA_P384_SHA384_ASN1_SIGNING};
use chrysalis_evidence::nvidia::{DeviceKind, DevicePins, appraise};
use chrysalis_evidence::{AllowSim, Pins};
use chrysalis_tee_sim::device::{SimDevice, device_pins};
use chrysalis_tee_sim::sim_root_der;
use chrysalis_wire::UnixTime;

use crate::bare::Bare;
use crate::report::{Better, Comparison};
use crate::request::millis;

/// Appraisal and bare signatures, in turn.
pub(crate) fn measure(rounds: usize) -> Result<Comparison> {
    crate::progress("appraising a GPU");
    let (pins, nonce) = (pins()?, [7; 32]);
    let set = [SimDevice::new(DeviceKind::Gh100, 0).evidence(&nonce)];
    let certificate = set[0].chain.len() / 5;
    let sizes = [certificate, certificate, certificate, certificate, set[0].report.len()];
    let algorithms = (&ECDSA_P384_SHA384_ASN1_SIGNING, &ECDSA_P384_SHA384_ASN1);
    let bare = Bare::new(algorithms, &sizes)?;
    let candidates = ["appraisal of a GH100", "its five P-384 verifications alone"];
    let mut out = Comparison::new("Evidence: one GPU", "ms", Better::Less, candidates)
        .ratio(0, 1)
        .note("form, chain, signature and every rule; the bars are 1.5 and 2.5 ms");
    for round in 0..=rounds {
        let started = Instant::now();
        for _ in 0..TURNS {
            let verdict = appraise(&set, &nonce, &pins, NOW);
            ensure!(verdict.result.is_ok(), "the simulated GPU is refused: {verdict}");
        }
        let appraisal = started.elapsed();
        let started = Instant::now();
        for _ in 0..TURNS {
            bare.verify()?;
        }
        let alone = started.elapsed();
        if round > 0 {
            out.round(&[appraisal, alone].map(|t| millis(t) / f64::from(TURNS)));
        }
    }
    Ok(out)
}

/// INSECURE-SIM pins for one simulated GPU and no worker.
fn pins() -> Result<DevicePins> {
    let example = include_str!("../../manifests/pins.example.toml");
    let simulated = format!("tier = \"INSECURE-SIM\"\nsim_root = \"{}\"", hex(&sim_root_der()));
    let text = example
        .replace("tier = \"production\"", &simulated)
        .replace("network = -3", "network = 5458253");
    let text = text + &device_pins(DeviceKind::Gh100, 1, 0);
    let pins = Pins::parse(&text, AllowSim::Yes)?;
    pins.device().cloned().context("the pins name a device")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// 2026-03-01, when the FAKE certificates are valid.
const NOW: UnixTime = UnixTime(1_772_323_200);
/// Appraisals per round: one takes about two milliseconds.
const TURNS: u32 = 50;
