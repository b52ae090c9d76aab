//! Appraising one TDX quote against the signatures that quote and collateral contain: ECDSA P-256.
//! The quote is the simulator's, whose evidence has the form and the size of a real platform's.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING};
use chrysalis_evidence::{AllowSim, Appraiser, Collateral, Pins, ReportData, sim};
use chrysalis_tee::Platform as _;
use chrysalis_tee_sim::{SimPlatform, collateral, sim_root_der};
use chrysalis_wire::UnixTime;

use crate::bare::Bare;
use crate::report::{Better, Comparison};
use crate::request::millis;

/// Appraisal and bare signatures, in turn.
pub(crate) fn measure(rounds: usize) -> Result<Comparison> {
    crate::progress("appraising a quote");
    let appraiser = Appraiser::new(pins()?);
    let quote = SimPlatform::new(EXECUTABLE).quote(&REPORT_DATA)?;
    let (expected, bundle) = (ReportData(REPORT_DATA), collateral(NOW));
    let bundle = Collateral::parse(bundle.as_bytes())?;
    let algorithms = (&ECDSA_P256_SHA256_ASN1_SIGNING, &ECDSA_P256_SHA256_ASN1);
    let bare = Bare::new(algorithms, &SIGNED)?;
    let candidates = ["appraisal of a TDX quote", "its nine P-256 verifications alone"];
    let mut out = Comparison::new("Evidence: one quote", "ms", Better::Less, candidates)
        .ratio(0, 1)
        .note("form, chains, lists, collateral and every rule; the bars are 1.5 and 1.0 ms");
    for round in 0..=rounds {
        let started = Instant::now();
        for _ in 0..TURNS {
            let verdict = appraiser.appraise_quote(&quote, &expected, &bundle, NOW);
            ensure!(verdict.accepted(), "the simulated quote is refused: {verdict}");
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

/// INSECURE-SIM pins for the simulated platform.
fn pins() -> Result<Pins> {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let (mrtd, seam) = (hex(&sim::mrtd(EXECUTABLE)), hex(&sim::mr_seam()));
    let [rtmr0, rtmr1, rtmr2] = [sim::rtmr0(), sim::rtmr1(), sim::rtmr2()].map(|r| hex(&r));
    let simulated = format!("tier = \"INSECURE-SIM\"\nsim_root = \"{}\"", hex(&sim_root_der()));
    let text = include_str!("../../manifests/pins.example.toml")
        .replace("tier = \"production\"", &simulated)
        .replace("network = -3", "network = 5458253")
        .replace(&"1".repeat(96), &mrtd)
        .replace(&"2".repeat(96), &rtmr0)
        .replace(&"3".repeat(96), &rtmr1)
        .replace(&"4".repeat(96), &rtmr2)
        .replace(&"7".repeat(96), &seam);
    Pins::parse(&text, AllowSim::Yes).context("the example's pins, for the simulator")
}

const EXECUTABLE: &[u8] = b"a worker to measure by";
const REPORT_DATA: [u8; 64] = [7; 64];
/// 2026-03-01, when the FAKE certificates are valid.
const NOW: UnixTime = UnixTime(1_772_323_200);
/// Bytes that are signed: quote, QE report, the certificates of leaf, platform CA and TCB signer,
/// two revocation lists, TCB info, QE identity.
const SIGNED: [usize; 9] = [632, 384, 1100, 560, 520, 250, 250, 2400, 600];
/// Appraisals per round: one takes about a millisecond.
const TURNS: u32 = 100;
