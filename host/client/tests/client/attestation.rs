//! Who is accepted: only a worker whose evidence is genuine, fresh, made for this very connection
//! and pinned.

use std::sync::Arc;

use chrysalis_client::{ClientError, PathId};
use chrysalis_evidence::{AllowSim, Outcome, Pins};
use chrysalis_policy::Judge;
use chrysalis_tee_sim::Faults;
use chrysalis_wire::limits::MAX_ATTESTATION_BYTES;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use crate::bench::{Bench, STREAM, pins, pins_for, pins_without_workers, stream};
use crate::fake::FakeWorker;
use crate::fake::script::{Certificate, Evidence};

/// The code with which evidence is refused.
async fn refused(evidence: Evidence) -> &'static str {
    let bench = Bench::start().await;
    bench.worker.evidence(evidence);
    let error = bench.refusal().await;
    assert!(!error.next_step().is_empty());
    error.code()
}

async fn refused_platform(faults: Faults) -> &'static str {
    refused(Evidence::Platform(faults)).await
}

#[tokio::test]
async fn accepts_a_genuine_worker_and_shows_every_rule() {
    let bench = Bench::start().await;
    let attestation = bench.client().attest().await.unwrap();
    let rules = &attestation.verdict().rules;
    assert!(rules.iter().all(|r| matches!(r.outcome, Outcome::Pass | Outcome::Info)));
    let worker = attestation.accept().unwrap();
    let evidence = worker.evidence().await;
    assert!(evidence.verified.insecure_sim());
    assert_eq!(evidence.verified.pin_name(), "fake");
    assert_eq!(evidence.session.tls_spki, bench.worker.state.tls_spki);
}

#[tokio::test]
async fn each_challenge_has_its_own_nonce_and_connection() {
    let bench = Bench::start().await;
    let (a, b) = (bench.attested().await, bench.attested().await);
    let (a, b) = (a.evidence().await, b.evidence().await);
    assert_ne!(a.session.nonce, b.session.nonce);
    assert_ne!(a.session.exporter, b.session.exporter);
}

#[tokio::test]
async fn a_refusal_comes_with_its_transcript() {
    let bench = Bench::start().await;
    bench.worker.evidence(Evidence::OtherNonce);
    let attestation = bench.client().attest().await.unwrap();
    let outcomes: Vec<_> = attestation.verdict().rules.iter().map(|r| r.outcome).collect();
    assert_eq!(outcomes.iter().filter(|o| **o == Outcome::Fail).count(), 1);
    assert!(outcomes.contains(&Outcome::Skip));
    assert!(matches!(attestation.accept(), Err(ClientError::Appraisal(_))));
}

#[tokio::test]
async fn refuses_replayed_evidence() {
    let bench = Bench::start().await;
    bench.attested().await;
    bench.worker.evidence(Evidence::Replayed);
    assert_eq!(bench.refusal().await.code(), "E-REPORT-DATA");
}

#[tokio::test]
async fn refuses_evidence_for_another_nonce() {
    assert_eq!(refused(Evidence::OtherNonce).await, "E-REPORT-DATA");
}

#[tokio::test]
async fn refuses_evidence_of_another_connection() {
    assert_eq!(refused(Evidence::OtherExporter).await, "E-REPORT-DATA");
}

#[tokio::test]
async fn refuses_genuine_evidence_relayed_by_a_machine_in_the_middle() {
    let bench = Bench::start().await;
    let relay = FakeWorker::start(bench.clock.clone()).await;
    relay.evidence(Evidence::RelayedFrom(bench.worker.address));
    let client = bench.client_with(&relay.address.to_string(), &pins());
    let Err(error) = client.appraise().await else { panic!("the relay was accepted") };
    assert_eq!(error.code(), "E-REPORT-DATA");
}

#[tokio::test]
async fn refuses_a_keyset_that_was_swapped() {
    assert_eq!(refused(Evidence::KeysetSwapped).await, "E-REPORT-DATA");
}

#[tokio::test]
async fn refuses_a_keyset_that_names_another_tls_key() {
    assert_eq!(refused(Evidence::KeysetNamesOtherTlsKey).await, "E-TLS-KEY");
}

#[tokio::test]
async fn refuses_a_manifest_that_was_not_measured() {
    assert_eq!(refused(Evidence::ManifestSwapped).await, "E-MANIFEST-EVENT");
}

#[tokio::test]
async fn refuses_a_worker_under_debug() {
    assert_eq!(refused_platform(Faults { debug: true, ..Faults::default() }).await, "E-DEBUG");
}

#[tokio::test]
async fn refuses_a_quote_whose_signature_does_not_verify() {
    let faults = Faults { bad_signature: true, ..Faults::default() };
    assert_eq!(refused_platform(faults).await, "E-DCAP");
}

#[tokio::test]
async fn refuses_a_platform_that_is_out_of_date() {
    let faults = Faults { out_of_date: true, ..Faults::default() };
    assert_eq!(refused_platform(faults).await, "E-TCB-STATUS");
}

#[tokio::test]
async fn refuses_a_quote_that_is_cut_short() {
    let faults = Faults { truncated: true, ..Faults::default() };
    assert_eq!(refused_platform(faults).await, "E-QUOTE-TRUNCATED");
}

#[tokio::test]
async fn refuses_a_worker_of_another_executable() {
    let bench = Bench::start().await;
    let address = bench.worker.address.to_string();
    let client = bench.client_with(&address, &pins_for(b"another executable"));
    let Err(error) = client.appraise().await else { panic!("accepted") };
    assert_eq!(error.code(), "E-MRTD");
}

#[tokio::test]
async fn refuses_everybody_when_nobody_is_pinned() {
    let bench = Bench::start().await;
    let address = bench.worker.address.to_string();
    let client = bench.client_with(&address, &pins_without_workers());
    let Err(error) = client.appraise().await else { panic!("accepted") };
    assert_eq!(error.code(), "E-NO-WORKERS");
}

#[tokio::test]
async fn refuses_simulated_evidence_under_production_pins() {
    let bench = Bench::start().await;
    let production = pins()
        .lines()
        .filter(|line| !line.starts_with("sim_root"))
        .map(|line| match line {
            "tier = \"INSECURE-SIM\"" => "tier = \"production\"\n",
            "network = 5458253" => "network = -239\n",
            other => other,
        })
        .map(|line| format!("{line}\n"))
        .collect::<String>();
    let pins = Pins::parse(&production, AllowSim::No).unwrap();
    let attestation = bench.client().attest().await.unwrap();
    let judge = Arc::new(Judge::by(pins));
    let evidence = attestation.accept().unwrap().evidence().await;
    let (document, session) = (&evidence.document, &evidence.session);
    let verdict = judge.appraise(document, session, &bench.collateral, evidence.at);
    assert_eq!(verdict.result.unwrap_err().code, "E-ROOT");
}

#[tokio::test]
async fn refuses_evidence_when_the_collateral_has_expired() {
    let bench = Bench::start().await;
    bench.clock.advance(31 * 86_400);
    bench.worker.state.rotate();
    assert_eq!(bench.refusal().await.code(), "E-COLLATERAL-EXPIRED");
}

#[tokio::test]
async fn asks_the_whole_policy_again_before_each_request() {
    let bench = Bench::start().await;
    // Ten minutes before the collateral is too old for these pins, with fresh keys.
    bench.clock.advance(86_400 - 600);
    bench.worker.state.rotate();
    let pins = pins().replace("max_collateral_age_days = 30", "max_collateral_age_days = 1");
    let client = bench.client_with(&bench.worker.address.to_string(), &pins);
    let worker = client.appraise().await.unwrap();
    stream(&worker).await;
    // The key is still good; the collateral is not, though it has not expired.
    bench.clock.advance(601);
    let evidence = worker.evidence().await;
    assert!(evidence.is_usable(bench.clock.now().seconds()));
    let refused = worker.request(PathId::ChatCompletions, STREAM.as_bytes()).await;
    let Err(error) = refused else { panic!("sealed under evidence that the pins refuse") };
    assert_eq!(error.code(), "E-COLLATERAL-AGE");
}

#[tokio::test]
async fn refuses_a_document_that_is_not_json() {
    assert_eq!(refused(Evidence::NotJson).await, "E-PROTOCOL");
}

#[tokio::test]
async fn refuses_a_document_of_a_future_schema() {
    assert_eq!(refused(Evidence::FutureSchema).await, "E-PROTOCOL");
}

#[tokio::test]
async fn refuses_a_web_page_as_evidence() {
    assert_eq!(refused(Evidence::WebPage).await, "E-PROTOCOL");
}

#[tokio::test]
async fn refuses_a_document_one_byte_over_its_limit() {
    let bench = Bench::start().await;
    bench.worker.evidence(Evidence::PaddedTo(MAX_ATTESTATION_BYTES));
    bench.attested().await;
    bench.worker.evidence(Evidence::PaddedTo(MAX_ATTESTATION_BYTES + 1));
    let expected =
        ClientError::TooLarge { what: "attestation document", limit: MAX_ATTESTATION_BYTES };
    assert_eq!(bench.refusal().await, expected);
}

#[tokio::test]
async fn repeats_a_worker_s_refusal_without_its_control_characters() {
    let bench = Bench::start().await;
    bench.worker.evidence(Evidence::Refused);
    let error = bench.refusal().await;
    let ClientError::WorkerRefused { status: 503, code, .. } = &error else { panic!("{error:?}") };
    assert_eq!(code, "E-NOT-READY");
    let text = format!("{error} {}", error.next_step());
    assert!(!text.chars().any(char::is_control), "{text:?}");
}

#[tokio::test]
async fn gives_up_on_a_worker_that_never_shows_evidence() {
    let bench = Bench::start().await;
    bench.worker.evidence(Evidence::Silent);
    assert!(matches!(bench.refusal().await, ClientError::TimedOut { .. }));
}

#[tokio::test]
async fn refuses_a_certificate_that_brings_others() {
    let bench = Bench::start().await;
    let any = "127.0.0.1:0".parse().unwrap();
    let worker = FakeWorker::start_with(bench.clock.clone(), Certificate::Chain, any).await;
    let client = bench.client_with(&worker.address.to_string(), &pins());
    let Err(error) = client.appraise().await else { panic!("accepted") };
    assert_eq!(error, ClientError::CertificateChain { got: 1 });
}

#[tokio::test]
async fn refuses_a_certificate_whose_key_the_worker_does_not_hold() {
    let bench = Bench::start().await;
    let any = "127.0.0.1:0".parse().unwrap();
    let worker = FakeWorker::start_with(bench.clock.clone(), Certificate::StolenKey, any).await;
    let client = bench.client_with(&worker.address.to_string(), &pins());
    let Err(error) = client.appraise().await else { panic!("accepted") };
    assert!(matches!(&error, ClientError::Handshake(text) if text.contains("BadSignature")));
}

/// A client pointed at something that is no worker.
async fn against(listener: TcpListener) -> ClientError {
    let bench = Bench::start().await;
    let address = listener.local_addr().unwrap().to_string();
    let Err(error) = bench.client_with(&address, &pins()).appraise().await else {
        panic!("accepted")
    };
    error
}

#[tokio::test]
async fn refuses_a_server_that_does_not_speak_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        stream
    });
    let bench = Bench::start().await;
    let Err(error) = bench.client_with(&address.to_string(), &pins()).appraise().await else {
        panic!("accepted")
    };
    assert_eq!(error.code(), "E-TLS");
    drop(server.await);
}

#[tokio::test]
async fn gives_up_on_a_server_that_never_shakes_hands() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let error = against(listener).await;
    assert!(matches!(error, ClientError::TimedOut { what: "the TLS handshake", .. }), "{error:?}");
}

#[tokio::test]
async fn says_when_nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let bench = Bench::start().await;
    let Err(error) = bench.client_with(&address, &pins()).appraise().await else {
        panic!("accepted")
    };
    assert_eq!(error.code(), "E-UNREACHABLE");
    assert!(error.to_string().contains(&address));
}

#[tokio::test]
async fn a_name_without_an_address_is_said_to_be_one() {
    let bench = Bench::start().await;
    let Err(error) = bench.client_with("worker.invalid:8443", &pins()).attest().await else {
        panic!("there is a worker at worker.invalid")
    };
    assert_eq!(error.code(), "E-NO-SUCH-HOST");
    assert!(error.to_string().contains("worker.invalid:8443"), "{error}");
}
