//! attest/1 from challenge to verdict: simulated TEEs at both ends of a connection, real quotes and
//! the real appraiser. The connection is its secrets; `chrysalis-worker` tests it on sockets.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use chrysalis_evidence::exchange::{
    ANSWER_DEADLINE, Attested, Awaiting, CHALLENGE_WINDOW, Challenge, Challenger, Due,
    ExchangeError, Judged, Link, MAX_CHALLENGES, Message, Nonce, Prover, REATTEST_INTERVAL, Reason,
    Statement,
};
use chrysalis_evidence::{
    AllowSim, Appraiser, Batch, Collateral, Pins, Role, boot_events, event_digest, keyset_digest,
};
use chrysalis_tee::Platform;
use chrysalis_wire::attest::ATTESTATION_SCHEMA;
use chrysalis_wire::{AttestationDocument, Digest, UnixTime};
use sha2::{Digest as _, Sha256};

use super::appraisal::{EXECUTABLE, MODEL_ROOT, NOW, keyset_of, manifest, pins_text};
use crate::{SimPlatform, collateral};

const SERVER_KEY: Digest = Digest([0x5E; 32]);
const CLIENT_KEY: Digest = Digest([0xC1; 32]);

/// One end's view of the connection with these secrets, in which both showed a key.
fn link(own: Role, secrets: u8) -> Link {
    link_of(own, secrets, Some(CLIENT_KEY))
}

fn link_of(own: Role, secrets: u8, client: Option<Digest>) -> Link {
    let export = |label: &'static [u8]| {
        let hash = Sha256::new().chain_update([secrets]).chain_update(label);
        Ok::<_, Infallible>(hash.finalize().into())
    };
    Link::new(own, SERVER_KEY, client, export).unwrap()
}

fn nonce(byte: u8) -> Nonce {
    let fill = |bytes: &mut [u8]| {
        bytes.fill(byte);
        Ok::<_, Infallible>(())
    };
    Nonce::draw(fill).unwrap()
}

/// What a TEE with the TLS key `key` and the meter key `meter` says to `statement`.
fn evidence(statement: &Statement, key: Digest, meter: u8) -> Message {
    let platform = SimPlatform::new(EXECUTABLE);
    let events = boot_events(&Digest(Sha256::digest(manifest()).into()), &MODEL_ROOT);
    for event in &events {
        platform.extend_runtime(&event_digest(event).unwrap()).unwrap();
    }
    let keyset = keyset_of(key, [meter; 32]).encode();
    let leaf = statement.leaf(keyset_digest(&keyset), Digest([0; 32]));
    let report_data = Batch::new(&[leaf]).unwrap().report_data();
    let document = AttestationDocument {
        schema: ATTESTATION_SCHEMA.into(),
        platform: platform.name().into(),
        quote: hex::encode(platform.quote(&report_data.0).unwrap()),
        keyset: hex::encode(keyset),
        manifest: hex::encode(manifest()),
        events: events.to_vec(),
        devices: Vec::new(),
        batch: None,
    };
    Message::evidence(&document).unwrap()
}

/// The worker's answer to a challenge on the connection with these secrets.
fn worker_says(secrets: u8, challenge: &Challenge) -> Message {
    let mut prover = Prover::new(link(Role::Server, secrets)).unwrap();
    let statement = prover.take(challenge, Instant::now()).unwrap();
    evidence(&statement, SERVER_KEY, 1)
}

fn judge_at(
    awaiting: Awaiting,
    message: &Message,
    clock: UnixTime,
    now: Instant,
) -> Result<Judged, ExchangeError> {
    let appraiser = Appraiser::new(Pins::parse(&pins_text(), AllowSim::Yes).unwrap());
    let collateral = Collateral::parse(collateral(NOW).as_bytes()).unwrap();
    awaiting.receive(message, &appraiser, &collateral, clock, now)
}

fn judge(awaiting: Awaiting, message: &Message) -> Result<Attested, ExchangeError> {
    judge_at(awaiting, message, NOW, Instant::now()).and_then(Judged::accept)
}

/// A client that challenges the worker on the connection with these secrets.
fn challenge(secrets: u8, byte: u8) -> Awaiting {
    let challenger = Challenger::new(link(Role::Client, secrets)).unwrap();
    challenger.challenge(nonce(byte), Instant::now()).unwrap()
}

fn attested() -> Attested {
    let awaiting = challenge(1, 7);
    let answer = worker_says(1, &awaiting.challenge());
    judge(awaiting, &answer).unwrap()
}

#[test]
fn accepts_the_other_end_of_its_own_connection_and_challenges_it_again() {
    let first = attested();
    assert_eq!(first.peer().pin_name(), "sim");
    let again = first.challenge_again(nonce(8), Instant::now()).unwrap();
    let answer = worker_says(1, &again.challenge());
    assert!(judge(again, &answer).unwrap().peer().insecure_sim());
}

#[test]
fn both_ends_prove_themselves_and_neither_proof_serves_in_the_other_direction() {
    let of_server = challenge(1, 7);
    let of_client = Challenger::new(link(Role::Server, 1)).unwrap();
    // The same nonce in both directions: what a peer that reflects would choose.
    let of_client = of_client.challenge(nonce(7), Instant::now()).unwrap();
    let by_server = worker_says(1, &of_server.challenge());
    let mut prover = Prover::new(link(Role::Client, 1)).unwrap();
    let statement = prover.take(&of_client.challenge(), Instant::now()).unwrap();
    let by_client = evidence(&statement, CLIENT_KEY, 2);

    for (awaiting, reflected) in [(&of_server, &by_client), (&of_client, &by_server)] {
        let refused = judge(awaiting.clone(), reflected).unwrap_err();
        assert_eq!(refused.code(), "E-REPORT-DATA");
    }
    assert!(judge(of_server, &by_server).is_ok());
    assert_eq!(judge(of_client, &by_client).unwrap().session().tls_spki, CLIENT_KEY);
}

#[test]
fn refuses_evidence_of_another_connection_nonce_or_key() {
    let awaiting = challenge(1, 7);
    let ask = awaiting.challenge();
    let relayed = worker_says(2, &ask);
    let replayed = worker_says(1, &Challenge { nonce: [6; 32], ..ask });
    let mut elsewhere = Prover::new(link(Role::Server, 1)).unwrap();
    let statement = elsewhere.take(&ask, Instant::now()).unwrap();
    let other_keyset = evidence(&statement, CLIENT_KEY, 1);
    for (wrong, code) in
        [(relayed, "E-REPORT-DATA"), (replayed, "E-REPORT-DATA"), (other_keyset, "E-TLS-KEY")]
    {
        assert_eq!(judge(awaiting.clone(), &wrong).unwrap_err().code(), code);
    }
    assert!(judge(awaiting, &worker_says(1, &ask)).is_ok());
}

#[test]
fn old_evidence_does_not_answer_the_next_challenge_of_the_same_connection() {
    let awaiting = challenge(1, 7);
    let old = worker_says(1, &awaiting.challenge());
    let first = judge(awaiting, &old).unwrap();
    let again = first.challenge_again(nonce(8), Instant::now()).unwrap();
    assert_eq!(judge(again, &old).unwrap_err().code(), "E-REPORT-DATA");
}

#[test]
fn refuses_another_boot_on_a_live_connection() {
    let again = attested().challenge_again(nonce(8), Instant::now()).unwrap();
    let mut prover = Prover::new(link(Role::Server, 1)).unwrap();
    let statement = prover.take(&again.challenge(), Instant::now()).unwrap();
    let refused = judge(again, &evidence(&statement, SERVER_KEY, 9)).unwrap_err();
    let (expected, got) = (Digest([1; 32]).to_string(), Digest([9; 32]).to_string());
    assert_eq!(refused, ExchangeError::Changed { what: "meter key", expected, got });
}

#[test]
fn a_proof_on_another_connection_renews_one_of_the_same_key_and_boot_only() {
    let prove = |secrets: u8, meter: u8| {
        let awaiting = challenge(secrets, 7);
        let mut prover = Prover::new(link(Role::Server, secrets)).unwrap();
        let statement = prover.take(&awaiting.challenge(), Instant::now()).unwrap();
        judge(awaiting, &evidence(&statement, SERVER_KEY, meter)).unwrap()
    };
    let first = attested();
    assert!(first.renewed_by(&prove(2, 1)));
    assert!(!first.renewed_by(&prove(2, 9)), "another boot");
    let of_client = Challenger::new(link(Role::Server, 1)).unwrap();
    let of_client = of_client.challenge(nonce(7), Instant::now()).unwrap();
    let mut prover = Prover::new(link(Role::Client, 1)).unwrap();
    let statement = prover.take(&of_client.challenge(), Instant::now()).unwrap();
    let other_end = judge(of_client, &evidence(&statement, CLIENT_KEY, 1)).unwrap();
    assert!(!first.renewed_by(&other_end), "the other end, with another key");
}

#[test]
fn newer_collateral_replaces_older_of_the_same_platforms() {
    let at = |now: u64| Collateral::parse(collateral(UnixTime(now)).as_bytes()).unwrap();
    let (old, new) = (at(NOW.0 - 1), at(NOW.0));
    assert!(new.may_replace(&old) && new.may_replace(&new));
    assert!(!old.may_replace(&new));
    let enclaves = crate::enclave_collateral(UnixTime(NOW.0 - 1));
    let enclaves = Collateral::parse(enclaves.as_bytes()).unwrap();
    assert!(enclaves.may_replace(&new), "what is about other platforms is no older word");
    let fewer =
        crate::forge_collateral(NOW, &[], |tcb| tcb["tcbEvaluationDataNumber"] = 19.into(), |_| {});
    assert!(!Collateral::parse(fewer.as_bytes()).unwrap().may_replace(&new), "a lower number");
}

#[test]
fn takes_evidence_until_its_deadline_and_not_after() {
    let awaiting = challenge(1, 7);
    let answer = worker_says(1, &awaiting.challenge());
    let deadline = awaiting.deadline();
    assert!(judge_at(awaiting.clone(), &answer, NOW, deadline).is_ok());
    let late = judge_at(awaiting, &answer, NOW, deadline + Duration::from_millis(1));
    assert_eq!(late.unwrap_err(), ExchangeError::Late { limit: ANSWER_DEADLINE });
}

#[test]
fn takes_nothing_but_evidence_for_an_answer() {
    let awaiting = challenge(1, 7);
    let challenged = Message::Challenge(awaiting.challenge());
    let refused = judge(awaiting.clone(), &challenged).unwrap_err();
    assert!(matches!(refused, ExchangeError::Order { got: "a challenge", .. }));
    let refused = judge(awaiting.clone(), &Message::Refusal(Reason::NotHere)).unwrap_err();
    assert_eq!(refused, ExchangeError::NoEvidence(Reason::NotHere));
    let refused = judge(awaiting, &Message::Evidence(b"{}".to_vec())).unwrap_err();
    assert_eq!(refused.code(), "E-ATTEST-DOCUMENT");
}

#[test]
fn evidence_is_due_again_when_time_keys_or_collateral_are_over() {
    let attested = attested();
    let (now, hour) = (Instant::now(), UnixTime(NOW.0 + 3600));
    assert_eq!(attested.due(now, NOW), None);
    assert_eq!(attested.due(now, hour), None);
    assert_eq!(attested.due(now, UnixTime(hour.0 + 1)), Some(Due::Keyset));
    assert_eq!(attested.due(now + REATTEST_INTERVAL, NOW), Some(Due::Interval));
    let expired = UnixTime(attested.peer().collateral_expires().0 + 1);
    assert_eq!(attested.due(now, expired), Some(Due::Collateral));
}

#[test]
fn a_prover_answers_no_challenge_to_the_other_end() {
    for own in [Role::Server, Role::Client] {
        let mut prover = Prover::new(link(own, 1)).unwrap();
        let asked = own.other();
        let refused = prover.take(&Challenge { prover: asked, nonce: [7; 32] }, Instant::now());
        assert_eq!(refused.unwrap_err(), ExchangeError::OtherEnd { asked, own });
    }
}

#[test]
fn a_prover_answers_so_many_challenges_in_a_window_and_no_more() {
    let mut prover = Prover::new(link(Role::Server, 1)).unwrap();
    let ask = Challenge { prover: Role::Server, nonce: [7; 32] };
    let start = Instant::now();
    for n in 0..MAX_CHALLENGES {
        assert!(prover.take(&ask, start + Duration::from_secs(n as u64)).is_ok(), "challenge {n}");
    }
    let full = start + CHALLENGE_WINDOW - Duration::from_millis(1);
    let refused = prover.take(&ask, full).unwrap_err();
    assert_eq!(refused.code(), "E-ATTEST-RATE");
    assert!(prover.take(&ask, start + CHALLENGE_WINDOW).is_ok());
    assert!(prover.take(&ask, start + CHALLENGE_WINDOW).is_err());
}

#[test]
fn a_client_without_a_key_neither_proves_itself_nor_is_challenged() {
    let refused = Prover::new(link_of(Role::Client, 1, None)).unwrap_err();
    assert_eq!(refused, ExchangeError::NoClientKey);
    let refused = Challenger::new(link_of(Role::Server, 1, None)).unwrap_err();
    assert_eq!(refused, ExchangeError::NoClientKey);
    assert!(Challenger::new(link_of(Role::Client, 1, None)).is_ok());
}
