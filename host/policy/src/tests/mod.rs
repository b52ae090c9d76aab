//! Signed pins, their memory and cached verdicts, on simulated evidence that runs the whole
//! verifier.

mod cache;
mod diff;
mod judge;
mod signed;

use chrysalis_evidence::{
    AllowSim, Binding, Collateral, Pins, Role, Session, boot_events, event_digest, keyset_digest,
    sim,
};
use chrysalis_tee::Platform as _;
use chrysalis_tee_sim::{PLATFORM_INSTANCE_ID, SimPlatform, collateral, sim_root_der};
use chrysalis_wire::attest::ATTESTATION_SCHEMA;
use chrysalis_wire::{
    AttestationDocument, Digest, KeyId, KeyRole, Keyset, NetworkId, SealKeyEntry, SuiteId, UnixTime,
};
use sha2::{Digest as _, Sha256};

use crate::{Judge, PinsSecret, SignedPins};

/// 2026-03-01.
const NOW: UnixTime = UnixTime(1_772_323_200);
const HOUR: u64 = 3600;
const SPKI: Digest = Digest([0x5B; 32]);
const MODEL_ROOT: Digest = Digest([0x3D; 32]);
const WORKER: &[u8] = b"a worker";

fn secret() -> PinsSecret {
    PinsSecret::from_seed(&[7; 32])
}

fn manifest() -> String {
    format!(
        "version = 1\nnetwork = {}\nregistry = \"{}\"\n[model]\nname = \"m\"\nroot = \
         \"{MODEL_ROOT}\"\nsealed = false\n[limits]\nrequest_bytes = 65536\ncontext_tokens = 2048\n\
         completion_tokens = 512\nconcurrent_requests = 4\n[prices]\nprompt = 1\ncached = 1\n\
         completion = 1\nreasoning = 1\n",
        NetworkId::INSECURE_SIM.0,
        "0".repeat(64)
    )
}

/// Pins number `sequence` of the worker made from `executable`.
fn pins_of(sequence: u64, executable: &[u8]) -> String {
    format!(
        "version = 1\nsequence = {sequence}\ntier = \"INSECURE-SIM\"\nsim_root = \"{}\"\n\
         network = {}\n[[worker]]\nname = \"sim\"\nmrtd = \"{}\"\nrtmr0 = \"{}\"\nrtmr1 = \"{}\"\n\
         rtmr2 = \"{}\"\nmanifest_sha256 = \"{}\"\nmodel_root = \"{MODEL_ROOT}\"\n[platform]\n\
         td_attributes = [\"{}\"]\nxfam = [\"{}\"]\nmr_seam = [\"{}\"]\nmax_collateral_age_days = 30\n\
         min_tcb_evaluation_number = {}\nallow_dynamic_platform = true\nallow_cached_keys = true\n\
         allow_smt = true\n",
        hex::encode(sim_root_der()),
        NetworkId::INSECURE_SIM.0,
        hex::encode(sim::mrtd(executable)),
        hex::encode(sim::rtmr0()),
        hex::encode(sim::rtmr1()),
        hex::encode(sim::rtmr2()),
        hex::encode(Sha256::digest(manifest())),
        hex::encode(sim::TD_ATTRIBUTES),
        hex::encode(sim::XFAM),
        hex::encode(sim::mr_seam()),
        sim::TCB_EVALUATION_NUMBER,
    )
}

fn pins(text: &str) -> Pins {
    Pins::parse(text, AllowSim::Yes).unwrap()
}

fn open(text: &str) -> SignedPins {
    let envelope = SignedPins::sign(text, &secret(), AllowSim::Yes).unwrap();
    SignedPins::open(envelope.as_bytes(), &secret().public(), AllowSim::Yes).unwrap()
}

/// Evidence of the worker for one session, and what it is judged with.
struct Case {
    document: AttestationDocument,
    session: Session,
    collateral: Collateral,
}

impl Case {
    /// An honest worker with a key that ends an hour from now.
    fn new() -> Self {
        let public = vec![9; 32];
        let id =
            Sha256::new().chain_update(0x0020u16.to_be_bytes()).chain_update(&public).finalize();
        let key = SealKeyEntry {
            id: KeyId(*id.first_chunk().unwrap()),
            suite: SuiteId::X25519,
            role: KeyRole::Worker,
            not_before: NOW,
            not_after: UnixTime(NOW.0 + HOUR),
            public,
        };
        let keyset = Keyset {
            network: NetworkId::INSECURE_SIM,
            meter_key: [1; 32],
            tls_spki: SPKI,
            seal_keys: vec![key],
        }
        .encode();
        let platform = SimPlatform::new(WORKER);
        let events = boot_events(&Digest(Sha256::digest(manifest()).into()), &MODEL_ROOT);
        for event in &events {
            platform.extend_runtime(&event_digest(event).unwrap()).unwrap();
        }
        let session = Session { nonce: [0xAB; 32], tls_spki: SPKI, exporter: [0xCD; 32] };
        let binding = Binding {
            role: Role::Server,
            tls_spki: session.tls_spki,
            nonce: session.nonce,
            exporter: session.exporter,
            keyset_digest: keyset_digest(&keyset),
            device_digest: Digest([0; 32]),
        };
        let document = AttestationDocument {
            schema: ATTESTATION_SCHEMA.to_owned(),
            platform: platform.name().to_owned(),
            quote: hex::encode(platform.quote(&binding.report_data().0).unwrap()),
            keyset: hex::encode(keyset),
            manifest: hex::encode(manifest()),
            events: events.to_vec(),
            devices: Vec::new(),
            batch: None,
        };
        let collateral = Collateral::parse(collateral(NOW).as_bytes()).unwrap();
        Self { document, session, collateral }
    }

    /// The code of the refusal, or `""`.
    fn judged(&self, judge: &Judge, now: UnixTime) -> &'static str {
        let verdict = judge.appraise(&self.document, &self.session, &self.collateral, now);
        verdict.result.map_or_else(|refusal| refusal.code, |_| "")
    }
}
