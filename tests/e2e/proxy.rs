//! A worker that serves only a proxy that proves itself, over real sockets: the simulated worker as a
//! process behind its loader, and a client of the library that acts as the proxy, in a simulated TEE.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use chrysalis_channel::{KeyRing, OsRandom, SealKeyPair};
use chrysalis_client::{
    AttestedWorker, ClientError, ClientEvent, Clock, Identity, OwnEvidence, PathId, Worker,
};
use chrysalis_evidence::exchange::Statement;
use chrysalis_evidence::{
    AllowSim, Batch, Collateral, Pins, boot_events, event_digest, keyset_digest, sim,
};
use chrysalis_policy::Judge;
use chrysalis_tee::Platform as _;
use chrysalis_tee_sim::SimPlatform;
use chrysalis_tests::{Ran, Running, World, bin, chrysalis, eventually};
use chrysalis_wire::attest::ATTESTATION_SCHEMA;
use chrysalis_wire::{
    AttestationDocument, Digest, KeyRole, Keyset, NetworkId, SuiteId, UnixMillis,
};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use sha2::{Digest as _, Sha256};

const PROXY: &[u8] = b"the proxy of this test";

/// A proxy's platform, keys and manifest.
struct Proxy {
    platform: SimPlatform,
    manifest: Vec<u8>,
    keyset: std::sync::OnceLock<Keyset>,
}

fn now() -> UnixMillis {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    UnixMillis(u64::try_from(now.as_millis()).unwrap())
}

/// What a proxy measures as its manifest here: it serves no model, and says so with zeros.
fn manifest() -> Vec<u8> {
    format!(
        "version = 1\nnetwork = 5458253\nregistry = \"{z}\"\n\n[model]\nname = \"none\"\nroot = \
         \"{z}\"\nsealed = false\n\n[limits]\nrequest_bytes = 65536\ncontext_tokens = 16\n\
         completion_tokens = 1\nconcurrent_requests = 1\n\n[prices]\nprompt = 0\ncached = 0\n\
         completion = 0\nreasoning = 0\n",
        z = "0".repeat(64)
    )
    .into_bytes()
}

impl Proxy {
    /// A proxy whose platform measured `executable`.
    fn identity(executable: &[u8]) -> Identity {
        let manifest = manifest();
        let platform = SimPlatform::new(executable);
        let digest = Digest(Sha256::digest(&manifest).into());
        for event in boot_events(&digest, &Digest([0; 32])) {
            platform.extend_runtime(&event_digest(&event).unwrap()).unwrap();
        }
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let params = CertificateParams::new(vec!["proxy".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let signing = aws_lc_rs::sign::any_supported_type(&der).unwrap();
        let key = CertifiedKey::new(vec![certificate.der().clone()], signing);
        let proxy = Arc::new(Self { platform, manifest, keyset: std::sync::OnceLock::new() });
        let identity = Identity::new(key, Arc::clone(&proxy) as Arc<dyn OwnEvidence>).unwrap();
        let mut ring = KeyRing::new();
        let seconds = now().seconds();
        let pair =
            SealKeyPair::generate_hourly(SuiteId::XWing, KeyRole::Worker, seconds, &mut OsRandom);
        ring.rotate(pair, seconds).unwrap();
        let keyset = Keyset {
            network: NetworkId::INSECURE_SIM,
            meter_key: [3; 32],
            tls_spki: identity.spki(),
            seal_keys: ring.entries(seconds),
        };
        assert!(proxy.keyset.set(keyset).is_ok());
        identity
    }
}

impl OwnEvidence for Proxy {
    fn document(&self, statement: &Statement) -> Result<AttestationDocument, &'static str> {
        let keyset = self.keyset.get().ok_or("E-KEYS")?.encode();
        let leaf = statement.leaf(keyset_digest(&keyset), Digest([0; 32]));
        let batch = Batch::new(&[leaf]).map_err(|_| "E-BATCH")?;
        let quote = self.platform.quote(&batch.report_data().0).map_err(|e| e.code())?;
        let digest = Digest(Sha256::digest(&self.manifest).into());
        Ok(AttestationDocument {
            schema: ATTESTATION_SCHEMA.to_owned(),
            platform: self.platform.name().to_owned(),
            quote: hex::encode(quote),
            keyset: hex::encode(keyset),
            manifest: hex::encode(&self.manifest),
            events: boot_events(&digest, &Digest([0; 32])).to_vec(),
            devices: Vec::new(),
            batch: None,
        })
    }
}

/// Pins of a worker that accept the proxy, as an operator writes them.
fn proxy_pins(world: &World) -> String {
    let root = std::fs::read_to_string(world.path("sim-root.hex")).unwrap();
    format!(
        "version = 1\ntier = \"INSECURE-SIM\"\nsim_root = \"{}\"\nnetwork = 5458253\n\n[[worker]]\n\
         name = \"proxy\"\nmrtd = \"{}\"\nrtmr0 = \"{}\"\nrtmr1 = \"{}\"\nrtmr2 = \"{}\"\n\
         manifest_sha256 = \"{}\"\nmodel_root = \"{}\"\n\n[platform]\ntd_attributes = [\"{}\"]\n\
         xfam = [\"{}\"]\nmr_seam = [\"{}\"]\nmax_collateral_age_days = 30\n\
         min_tcb_evaluation_number = {}\nallow_dynamic_platform = true\nallow_cached_keys = true\n\
         allow_smt = true\n",
        root.trim(),
        hex::encode(sim::mrtd(PROXY)),
        hex::encode(sim::rtmr0()),
        hex::encode(sim::rtmr1()),
        hex::encode(sim::rtmr2()),
        Digest(Sha256::digest(manifest()).into()),
        "0".repeat(64),
        hex::encode(sim::TD_ATTRIBUTES),
        hex::encode(sim::XFAM),
        hex::encode(sim::mr_seam()),
        sim::TCB_EVALUATION_NUMBER,
    )
}

/// The world's worker behind a manifest that names those pins.
struct Guarded {
    worker: Running,
    pins: PathBuf,
}

impl Guarded {
    fn start(world: &World) -> Self {
        let (manifest, pins) = (world.path("guarded.toml"), world.path("pins-guarded.toml"));
        let peers = world.path("proxy-pins.toml");
        std::fs::write(&peers, proxy_pins(world)).unwrap();
        let init: Ran = Command::new(bin("chrysalis"))
            .args(["manifest", "init", "--force", "--network", "sim", "--reattest", "10"])
            .arg("--bundle")
            .arg(world.path("model.chrysalis"))
            .arg("--peer-pins")
            .arg(&peers)
            .arg("--out")
            .arg(&manifest)
            .output()
            .unwrap()
            .into();
        init.expect_code(0);
        world.measure(&manifest, "pins-guarded.toml");
        let extra = ["--peer-pins".to_owned(), peers.display().to_string()];
        let (worker, ran) =
            Running::try_start_with(world, &manifest, &world.path("model.chrysalis"), &extra);
        ran.expect_code(0);
        Self { worker: worker.unwrap(), pins }
    }

    /// The worker as a client judges it.
    fn judged(&self, world: &World) -> Worker {
        let pins = std::fs::read_to_string(&self.pins).unwrap();
        let judge = Judge::by(Pins::parse(&pins, AllowSim::Yes).unwrap());
        let collateral = std::fs::read(world.path("collateral.json")).unwrap();
        let collateral = Collateral::parse(&collateral).unwrap();
        Worker::new(&self.worker.address, Arc::new(judge), Arc::new(collateral), Clock::new(now))
    }
}

const QUESTION: &str = r#"{"model":"smollm2-135m-instruct","stream":true,"max_tokens":8,"temperature":0,"messages":[{"role":"user","content":"What is a prime number?"}]}"#;

/// Asks, and says whether the answer is complete.
async fn ask(worker: &AttestedWorker) -> Result<bool, ClientError> {
    let mut answer = worker.request(PathId::ChatCompletions, QUESTION.as_bytes()).await?;
    while let Some(event) = answer.next().await? {
        if matches!(event, ClientEvent::Done(_)) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn a_worker_behind_pins_serves_the_proxy_they_name_and_nobody_else() {
    let Some(world) = World::get() else { return };
    let guarded = Guarded::start(world);

    // Whoever cannot prove itself is told so before anything is sent, and still sees the evidence.
    let mut asked = vec!["ask".to_owned(), "--worker".into(), guarded.worker.address.clone()];
    asked.extend(world.trust_with("pins-guarded.toml"));
    asked.push("What is a prime number?".into());
    let refused = chrysalis(asked).expect_code(10);
    assert!(refused.stderr.contains("E-WORKER-WANTS-PROOF"), "{}", refused.stderr);
    assert!(refused.stderr.contains("R-IMAGE"), "{}", refused.stderr);

    run(async {
        let proxy = guarded.judged(world).proving(Proxy::identity(PROXY));
        let attested = proxy.appraise().await.unwrap();
        // Twice: on the connection that proved itself, and on others.
        let (a, b) = tokio::join!(ask(&attested), ask(&attested));
        assert!(a.unwrap() && b.unwrap());
        assert!(ask(&attested).await.unwrap());

        // A reader that pauses for longer than the interval of ten seconds: meanwhile the proxy proves
        // itself on another connection, or the worker would end an answer it is still making. On a
        // machine that makes it sooner, this says nothing; the worker's own tests do.
        let long = QUESTION.replace("\"max_tokens\":8", "\"max_tokens\":400");
        let mut answer = attested.request(PathId::ChatCompletions, long.as_bytes()).await.unwrap();
        assert!(matches!(answer.next().await, Ok(Some(ClientEvent::Chunk(_)))));
        tokio::time::sleep(Duration::from_secs(13)).await;
        loop {
            match answer.next().await.unwrap() {
                Some(ClientEvent::Chunk(_)) => {}
                Some(ClientEvent::Done(_)) => break,
                other => panic!("the answer was ended: {other:?}"),
            }
        }

        let stranger = guarded.judged(world).proving(Proxy::identity(b"another program"));
        let error = ask(&stranger.appraise().await.unwrap()).await.unwrap_err();
        let ClientError::WorkerRefused { code, message, .. } = &error else { panic!("{error:?}") };
        assert_eq!(code, "E-PEER-REFUSED");
        assert!(!message.contains("mrtd") && !message.contains("MRTD"), "{message}");
    });

    // The operator sees the rule, and nothing of who it was.
    let state = guarded.worker.state.path();
    let line = eventually(Duration::from_secs(20), "the refusal on the console", || {
        let log = chrysalis(["logs".as_ref(), "--state".as_ref(), state.as_os_str()]);
        log.stdout.lines().find(|line| line.contains("clients refused")).map(str::to_owned)
    });
    assert!(line.ends_with("1 clients refused with E-MRTD by R-IMAGE"), "{line}");
}

#[test]
fn a_worker_does_not_boot_with_other_pins_of_clients_than_its_manifest_names() {
    let Some(world) = World::get() else { return };
    let manifest = world.path("guarded-by-others.toml");
    let text = std::fs::read_to_string(world.path("worker.toml")).unwrap();
    let section =
        format!("\n[peers]\npins_sha256 = \"{}\"\nreattest_seconds = 60\n", "ab".repeat(32));
    std::fs::write(&manifest, text + &section).unwrap();
    let other = world.path("other-peers.toml");
    std::fs::write(&other, proxy_pins(world)).unwrap();
    let bundle = world.path("model.chrysalis");
    let with = ["--peer-pins".to_owned(), other.display().to_string()];
    for (extra, code) in [(&with[..], "E-PEER-PINS-DIGEST"), (&[], "E-PEER-PINS")] {
        let (worker, ran) = Running::try_start_with(world, &manifest, &bundle, extra);
        assert!(worker.is_none());
        let ran = ran.expect_code(10);
        assert!(ran.stderr.contains(code), "{}", ran.stderr);
    }
    // And a worker that serves everybody takes no pins of clients.
    let served = world.path("worker.toml");
    let (worker, ran) = Running::try_start_with(world, &served, &bundle, &with);
    assert!(worker.is_none());
    assert!(ran.expect_code(10).stderr.contains("E-PEER-PINS"));
}
