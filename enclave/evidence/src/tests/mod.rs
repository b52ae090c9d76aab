//! Tests on real quotes and collateral. The vectors are other people's data and stay outside the
//! tree: `$CHRYSALIS_VECTORS`, or `shared/vectors` beside the workspace. Where the folder is absent
//! these tests say `skipped`; where it is present a missing file fails them.

mod appraise;
mod batch;
mod collateral;
mod collateral_mutants;
mod corpus;
mod dcap;
mod document;
mod model;
mod mutations;
mod nvidia;
mod pins;
mod quote_alone;
mod rules;
mod sgx;
mod sgx_pins;
mod wycheproof;

use std::path::PathBuf;

use chrysalis_wire::attest::ATTESTATION_SCHEMA;
use chrysalis_wire::{AttestationDocument, Digest, UnixTime};

use crate::{AllowSim, Collateral, CutQuote, Pins, Session};

/// Bytes of a vector; `None` (and a line on stderr) where the vectors folder is absent.
pub(crate) fn vector(path: &str) -> Option<Vec<u8>> {
    let root = std::env::var_os("CHRYSALIS_VECTORS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors")),
        PathBuf::from,
    );
    if !root.is_dir() {
        eprintln!("skipped: no vectors folder; set CHRYSALIS_VECTORS");
        return None;
    }
    let file = root.join(path);
    Some(std::fs::read(&file).unwrap_or_else(|e| panic!("vector {path} is missing: {e}")))
}

/// A real quote with the collateral and the clock it verifies under.
#[derive(Clone)]
pub(crate) struct Real {
    pub(crate) quote: Vec<u8>,
    pub(crate) collateral: Collateral,
    pub(crate) now: UnixTime,
}

impl Real {
    pub(crate) fn load(quote: &str, collateral: &str, now: u64) -> Option<Self> {
        let quote = vector(quote)?;
        let collateral = Collateral::from_dcap_json(&vector(collateral)?).unwrap();
        Some(Self { quote, collateral, now: UnixTime(now) })
    }

    /// dcap-qvl's TDX 1.0 sample, UpToDate in June 2025.
    pub(crate) fn td10() -> Option<Self> {
        Self::load("attest/dcap/tdx_quote", "attest/dcap/tdx_quote_collateral.json", JUNE_2025)
    }

    /// Cocoon's sample, UpToDate in March 2026.
    pub(crate) fn cocoon() -> Option<Self> {
        Self::load("quote.dat", "attest/dcap/tdx_quote_outdated_collateral.json", MARCH_2026)
    }

    /// dcap-qvl's extended TDX 1.5 sample, UpToDate in October 2026.
    pub(crate) fn td15ex() -> Option<Self> {
        let quote = "attest/dcap/tdx_quote_td15ex";
        Self::load(quote, "attest/dcap/tdx_quote_td15ex_collateral.json", OCTOBER_2026)
    }

    /// dcap-qvl's SGX sample: version 3, needs configuration and software hardening.
    pub(crate) fn sgx() -> Option<Self> {
        Self::load("attest/dcap/sgx_quote", "attest/dcap/sgx_quote_collateral.json", JUNE_2025)
    }

    pub(crate) fn cut(&self) -> CutQuote {
        CutQuote::parse(&self.quote).unwrap()
    }

    /// A document around the quote; everything but the quote is made up.
    pub(crate) fn document(&self) -> AttestationDocument {
        AttestationDocument {
            schema: ATTESTATION_SCHEMA.to_owned(),
            platform: "tdx".to_owned(),
            quote: hex::encode(&self.quote),
            keyset: "00".to_owned(),
            manifest: "00".to_owned(),
            events: Vec::new(),
            devices: Vec::new(),
            batch: None,
        }
    }

    /// Production pins whose every value is that of the quote.
    pub(crate) fn pins_text(&self) -> String {
        let report = dcap_qvl::quote::Quote::parse(&self.quote).unwrap().report;
        let td = *report.as_td10().unwrap();
        pins_text(&td)
    }
}

pub(crate) fn pins_text(td: &dcap_qvl::quote::TDReport10) -> String {
    let h = |bytes: &[u8]| hex::encode(bytes);
    format!(
        "version = 1\ntier = \"production\"\nnetwork = -3\n\n[[worker]]\nname = \"real\"\n\
         mrtd = \"{}\"\nrtmr0 = \"{}\"\nrtmr1 = \"{}\"\nrtmr2 = \"{}\"\n\
         manifest_sha256 = \"{z}\"\nmodel_root = \"{z}\"\n\n[platform]\n\
         td_attributes = [\"{}\"]\nxfam = [\"{}\"]\nmr_seam = [\"{}\"]\nmr_config_id = [\"{}\"]\n\
         max_collateral_age_days = 30\nmin_tcb_evaluation_number = 17\n\
         allow_dynamic_platform = true\nallow_cached_keys = true\nallow_smt = true\n",
        h(&td.mr_td),
        h(&td.rt_mr0),
        h(&td.rt_mr1),
        h(&td.rt_mr2),
        h(&td.td_attributes),
        h(&td.xfam),
        h(&td.mr_seam),
        h(&td.mr_config_id),
        z = "0".repeat(64),
    )
}

pub(crate) fn parse_pins(text: &str) -> Pins {
    Pins::parse(text, AllowSim::No).unwrap()
}

/// A session of ours; no recorded quote was made for it.
pub(crate) fn session() -> Session {
    Session { nonce: [7; 32], tls_spki: Digest([8; 32]), exporter: [9; 32] }
}

/// 2025-06-27, inside the window of `tdx_quote_collateral.json` and `sgx_quote_collateral.json`.
pub(crate) const JUNE_2025: u64 = 1_751_000_000;
/// 2026-03-01, inside the window of `tdx_quote_outdated_collateral.json`.
pub(crate) const MARCH_2026: u64 = 1_772_323_200;
/// 2026-10-23, inside the window of `tdx_quote_td15ex_collateral.json`.
pub(crate) const OCTOBER_2026: u64 = 1_792_800_000;
