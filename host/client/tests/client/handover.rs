//! A worker of one's own is given every claim there is, whatever it says to one of them.

use chrysalis_client::{ClientError, hand_in_claims};
use chrysalis_receipt::{
    ChannelTerms, Claim, MeterKey, MeterPublicKey, MeterState, PayerKey, PayerPublicKey,
    Settlement, TermsParts,
};
use chrysalis_wire::{Digest, NetworkId, UnixTime};
use hyper::StatusCode;
use zeroize::Zeroizing;

use crate::bench::Bench;

fn claim(salt: u64) -> Claim {
    let payer = PayerKey::from_seed(&Zeroizing::new([0x22; 32]));
    let terms = ChannelTerms::new(TermsParts {
        payer_key: PayerPublicKey::parse(&payer.public()).unwrap(),
        payer: Digest([8; 32]),
        payee: Digest([7; 32]),
        close_delay: 86_400,
        min_settle: 50_000_000,
        salt,
    })
    .unwrap();
    let channel = terms.id(NetworkId::INSECURE_SIM).unwrap();
    let meter = MeterKey::from_seed(&Zeroizing::new([0x11; 32]));
    let cap = payer.sign(channel, MeterPublicKey::parse(&meter.public()).unwrap(), 100).unwrap();
    let none = Digest([0; 32]);
    let state = MeterState {
        blind: [0; 16],
        count: 1,
        cum_units: 1,
        issued_at: UnixTime(1_795_000_000),
        prev: none,
        log_root: none,
    };
    let settlement = Settlement { channel, cum_amount: 100, state };
    Claim::new(terms, cap, meter.sign_settlement(settlement).unwrap()).unwrap()
}

/// Three claims, of which the worker answers the first few as said.
async fn hand_in(bench: &Bench, answers: &[StatusCode]) -> chrysalis_client::HandedIn {
    bench.worker.state.next_claims.lock().unwrap().extend(answers);
    hand_in_claims(&bench.worker.address.to_string(), (1..=3).map(claim).collect()).await
}

fn seen(bench: &Bench) -> Vec<Claim> {
    let claims = bench.worker.state.claims.lock().unwrap();
    claims.iter().map(|bytes| Claim::decode(bytes).unwrap()).collect()
}

#[tokio::test]
async fn a_claim_that_is_refused_keeps_no_other_from_being_handed_in() {
    let bench = Bench::start().await;
    let done = hand_in(&bench, &[StatusCode::PAYMENT_REQUIRED]).await;
    assert_eq!(seen(&bench), [claim(1), claim(2), claim(3)]);
    assert!(done.left.is_none());
    let [(channel, error)] = &done.refused[..] else { panic!("{done:?}") };
    assert_eq!(*channel, claim(1).channel());
    assert!(matches!(error, ClientError::WorkerRefused { status: 402, .. }), "{error}");
    assert_eq!(bench.worker.connections(), 1);
}

/// A stranger may have filled the place for claims of channels that are not served yet.
#[tokio::test]
async fn a_claim_that_has_no_room_is_left_for_later_and_keeps_no_other_out() {
    let bench = Bench::start().await;
    let done = hand_in(&bench, &[StatusCode::INSUFFICIENT_STORAGE, StatusCode::OK]).await;
    assert_eq!(seen(&bench), [claim(1), claim(2), claim(3)]);
    assert!(done.refused.is_empty());
    assert_eq!(done.left.map(|(left, _)| left), Some(vec![claim(1)]));
    // Also where another one is left for another reason.
    let (full, busy) = (StatusCode::INSUFFICIENT_STORAGE, StatusCode::TOO_MANY_REQUESTS);
    let done = hand_in(&bench, &[full, busy]).await;
    assert_eq!(done.left.map(|(left, _)| left), Some(vec![claim(2), claim(3), claim(1)]));
}

#[tokio::test]
async fn a_busy_worker_is_handed_the_rest_later() {
    let bench = Bench::start().await;
    let done = hand_in(&bench, &[StatusCode::OK, StatusCode::TOO_MANY_REQUESTS]).await;
    assert_eq!(seen(&bench).len(), 2);
    let Some((left, error)) = done.left else { panic!("{done:?}") };
    assert_eq!((left, done.refused.len()), (vec![claim(2), claim(3)], 0));
    assert!(matches!(error, ClientError::WorkerRefused { status: 429, .. }), "{error}");
}

#[tokio::test]
async fn a_worker_that_is_not_there_is_handed_everything_later() {
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let done = hand_in_claims(&gone.to_string(), vec![claim(1)]).await;
    assert!(matches!(&done.left, Some((left, _)) if *left == [claim(1)]), "{done:?}");
}
