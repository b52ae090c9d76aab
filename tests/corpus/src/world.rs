//! An honest simulated worker, its verifier and their connection: what every case begins with.

use chrysalis_evidence::nvidia::{DeviceEvidence, device_digest};
use chrysalis_evidence::{
    Batch, Binding, Leaf, Role, Session, boot_events, enclave_events_digest, event_digest,
    keyset_digest, sim,
};
use chrysalis_tee::Platform;
use chrysalis_tee_sim::{Faults, SimEnclave, SimPlatform, SimReport, collateral, sim_root_der};
use chrysalis_wire::attest::ATTESTATION_SCHEMA;
use chrysalis_wire::{
    DeviceDocument, Digest, KeyId, KeyRole, Keyset, NetworkId, RuntimeEvent, SealKeyEntry, SuiteId,
    UnixTime,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

pub(crate) const EXECUTABLE: &[u8] = b"the worker of the conformance corpus";
/// 2026-03-01, a week after the collateral was issued.
pub(crate) const NOW: UnixTime = UnixTime(1_772_323_200);
pub(crate) const ISSUED: UnixTime = UnixTime(NOW.0 - 7 * DAY);
pub(crate) const DAY: u64 = 86_400;
pub(crate) const SPKI: Digest = Digest([0x5B; 32]);
pub(crate) const MODEL_ROOT: Digest = Digest([0x3D; 32]);
/// Report data of quotes that stand alone.
pub(crate) const REPORT_DATA: [u8; 64] = [0x5C; 64];

/// The verifier's view of the connection.
pub(crate) const fn session() -> Session {
    Session { nonce: [0xAB; 32], tls_spki: SPKI, exporter: [0xCD; 32] }
}

/// A manifest of the network.
pub(crate) fn manifest() -> String {
    format!(
        "version = 1\nnetwork = {}\nregistry = \"{}\"\n[model]\nname = \"m\"\nroot = \
         \"{MODEL_ROOT}\"\nsealed = false\n[limits]\nrequest_bytes = 65536\ncontext_tokens = 2048\n\
         completion_tokens = 512\nconcurrent_requests = 4\n[prices]\nprompt = 1\ncached = 1\n\
         completion = 1\nreasoning = 1\n",
        NetworkId::INSECURE_SIM.0,
        "0".repeat(64)
    )
}

/// INSECURE-SIM pins for the honest worker, without devices.
pub(crate) fn pins() -> String {
    format!(
        "version = 1\ntier = \"INSECURE-SIM\"\nsim_root = \"{}\"\nnetwork = {}\n\n[[worker]]\nname = \
         \"sim\"\nmrtd = \"{}\"\nrtmr0 = \"{}\"\nrtmr1 = \"{}\"\nrtmr2 = \"{}\"\nmanifest_sha256 = \
         \"{}\"\nmodel_root = \"{MODEL_ROOT}\"\n\n[platform]\ntd_attributes = [\"{}\"]\nxfam = \
         [\"{}\"]\nmr_seam = [\"{}\"]\nmax_collateral_age_days = 14\nmin_tcb_evaluation_number = \
         {}\nallow_dynamic_platform = true\nallow_cached_keys = true\nallow_smt = true\n",
        hex::encode(sim_root_der()),
        NetworkId::INSECURE_SIM.0,
        hex::encode(sim::mrtd(EXECUTABLE)),
        hex::encode(sim::rtmr0()),
        hex::encode(sim::rtmr1()),
        hex::encode(sim::rtmr2()),
        sha256(manifest().as_bytes()),
        hex::encode(sim::TD_ATTRIBUTES),
        hex::encode(sim::XFAM),
        hex::encode(sim::mr_seam()),
        sim::TCB_EVALUATION_NUMBER,
    )
}

/// INSECURE-SIM pins for the honest enclave, by its measurement, and for no trust domain.
pub(crate) fn enclave_pins() -> String {
    without_worker(&pins()) + &enclave_section()
}

/// What such pins have more than those of trust domains.
pub(crate) fn enclave_section() -> String {
    format!(
        "\n[sgx]\nattributes = [{{ value = \"{}\", mask = \"ffffffffffffffff\" }}]\nxfrm = [{{ value \
         = \"{}\", mask = \"ffffffffffffffff\" }}]\nmisc_select = [{{ value = \"{}\", mask = \
         \"ffffffff\" }}]\n\n[[sgx.worker]]\nname = \"enclave\"\nmrenclave = \"{}\"\nmanifest_sha256 = \
         \"{}\"\nmodel_root = \"{MODEL_ROOT}\"\n",
        hex::encode(sim::SGX_ATTRIBUTES),
        hex::encode(sim::SGX_XFRM),
        hex::encode(sim::SGX_MISC_SELECT),
        sim::enclave(EXECUTABLE).mrenclave,
        sha256(manifest().as_bytes()),
    )
}

/// Enclave pins that name the signer, a product and its oldest version instead of one build.
pub(crate) fn by_signer(pins: &str, isv_prod_id: u16, min_isv_svn: u16) -> String {
    let signer = format!(
        "mrsigner = \"{}\"\nisv_prod_id = {isv_prod_id}\nmin_isv_svn = {min_isv_svn}",
        sim::enclave(EXECUTABLE).mrsigner
    );
    pins.replacen(&line(pins, "mrenclave"), &signer, 1)
}

/// Pins that name no trust domain.
pub(crate) fn without_worker(pins: &str) -> String {
    let (from, until) = (pins.find("[[worker]]").unwrap(), pins.find("[platform]").unwrap());
    format!("{}{}", &pins[..from], &pins[until..])
}

/// Pins with a denial of one value.
pub(crate) fn denying(pins: &str, field: &str, value: &str) -> String {
    format!("{pins}\n[[deny]]\n{field} = \"{value}\"\nreason = \"a case of the corpus\"\n")
}

/// Input of the stages `quote` and `collateral`: a quote alone.
pub(crate) fn alone(quote: &[u8]) -> Value {
    json!({
        "pins": pins(),
        "collateral": collateral(ISSUED),
        "now": NOW.0,
        "report_data": hex::encode(REPORT_DATA),
        "quote": hex::encode(quote),
    })
}

/// What a worker runs in.
#[derive(Clone, Copy)]
pub(crate) enum Machine {
    Domain(Faults),
    /// With its report changed before it is signed.
    Enclave(fn(&mut SimReport)),
}

/// A worker before it answers a challenge, with everything that can be otherwise.
pub(crate) struct Worker {
    pub(crate) machine: Machine,
    pub(crate) manifest: String,
    /// Extended into RTMR3; an enclave commits to them.
    pub(crate) extended: Vec<RuntimeEvent>,
    /// Shown to the verifier.
    pub(crate) events: Vec<RuntimeEvent>,
    pub(crate) keyset: Vec<u8>,
    pub(crate) devices: Vec<DeviceEvidence>,
    /// What the quote says of the devices, or of an enclave's events, if not the truth.
    pub(crate) device_digest: Option<Digest>,
    /// How many other challenges the quote answers, in front of this one and behind it.
    pub(crate) beside: [u8; 2],
    pub(crate) role: Role,
    pub(crate) session: Session,
}

impl Worker {
    /// An honest one without devices.
    pub(crate) fn honest() -> Self {
        let events = boot_events(&sha256(manifest().as_bytes()), &MODEL_ROOT).to_vec();
        Self {
            machine: Machine::Domain(Faults::default()),
            manifest: manifest(),
            extended: events.clone(),
            events,
            keyset: keyset().encode(),
            devices: Vec::new(),
            device_digest: None,
            beside: [0, 0],
            role: Role::Server,
            session: session(),
        }
    }

    /// Measures, extends and shows another manifest.
    pub(crate) fn with_manifest(mut self, manifest: String) -> Self {
        self.events = boot_events(&sha256(manifest.as_bytes()), &MODEL_ROOT).to_vec();
        self.extended = self.events.clone();
        self.manifest = manifest;
        self
    }

    /// Attests another keyset.
    pub(crate) fn with_keyset(mut self, change: impl FnOnce(&mut Keyset)) -> Self {
        let mut keyset = keyset();
        change(&mut keyset);
        self.keyset = keyset.encode();
        self
    }

    /// Extends and shows other events.
    pub(crate) fn with_events(mut self, change: impl FnOnce(&mut Vec<RuntimeEvent>)) -> Self {
        change(&mut self.events);
        self.extended = self.events.clone();
        self
    }

    /// Answers the challenge.
    pub(crate) fn document(&self) -> Value {
        let (platform, committed) = self.platform();
        let binding = Binding {
            role: self.role,
            tls_spki: self.session.tls_spki,
            nonce: self.session.nonce,
            exporter: self.session.exporter,
            keyset_digest: keyset_digest(&self.keyset),
            device_digest: self.device_digest.unwrap_or(committed),
        };
        let other = |n: u8| Binding { nonce: [n; 32], ..binding.clone() }.leaf();
        let [before, behind] = self.beside;
        let mut leaves: Vec<Leaf> = (0..before).map(other).collect();
        leaves.push(binding.leaf());
        leaves.extend((before..before + behind).map(other));
        let batch = Batch::new(&leaves).unwrap();
        let quote = platform.quote(&batch.report_data().0).unwrap();
        // As text, so that fields a worker may leave out are left out here.
        let mut document = json!({
            "schema": ATTESTATION_SCHEMA,
            "platform": platform.name(),
            "quote": hex::encode(quote),
            "keyset": hex::encode(&self.keyset),
            "manifest": hex::encode(&self.manifest),
            "events": self.events,
        });
        if !self.devices.is_empty() {
            document["devices"] = json!(show(&self.devices));
        }
        let path = batch.paths().nth(before.into()).unwrap();
        if let Some(place) = path.to_document() {
            document["batch"] = json!(place);
        }
        document
    }

    /// The machine after the events, and what its quotes state besides keys and connection.
    fn platform(&self) -> (Box<dyn Platform>, Digest) {
        match self.machine {
            Machine::Domain(faults) => {
                let platform = SimPlatform::new(EXECUTABLE).with_faults(faults);
                for event in &self.extended {
                    platform.extend_runtime(&event_digest(event).unwrap()).unwrap();
                }
                (Box::new(platform), device_digest(&self.devices))
            }
            Machine::Enclave(change) => {
                let committed = enclave_events_digest(&self.extended).unwrap();
                (Box::new(SimEnclave::new(EXECUTABLE).with(change)), committed)
            }
        }
    }
}

/// Devices as a document shows them.
pub(crate) fn show(set: &[DeviceEvidence]) -> Vec<DeviceDocument> {
    let show = |device: &DeviceEvidence| DeviceDocument {
        report: hex::encode(&device.report),
        chain: hex::encode(&device.chain),
    };
    set.iter().map(show).collect()
}

/// A keyset with one key, valid for an hour.
pub(crate) fn keyset() -> Keyset {
    let public = vec![9; 32];
    Keyset {
        network: NetworkId::INSECURE_SIM,
        meter_key: [1; 32],
        tls_spki: SPKI,
        seal_keys: vec![SealKeyEntry {
            id: key_id(SuiteId::X25519, &public),
            suite: SuiteId::X25519,
            role: KeyRole::Worker,
            not_before: NOW,
            not_after: UnixTime(NOW.0 + 3600),
            public,
        }],
    }
}

pub(crate) fn key_id(suite: SuiteId, public: &[u8]) -> KeyId {
    let hash = Sha256::new().chain_update((suite as u16).to_be_bytes()).chain_update(public);
    KeyId(*hash.finalize().first_chunk().unwrap())
}

pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

/// A line of pins that begins with `name`.
pub(crate) fn line(text: &str, name: &str) -> String {
    let start = format!("{name} = ");
    text.lines().find(|line| line.starts_with(&start)).unwrap().to_owned()
}

/// Pins in which the line that begins with `name` has another value.
pub(crate) fn with_line(text: &str, name: &str, value: &str) -> String {
    text.replacen(&line(text, name), &format!("{name} = {value}"), 1)
}
