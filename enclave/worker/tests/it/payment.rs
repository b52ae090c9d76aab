//! A worker that is paid, over its real socket: what it refuses to do for nothing, and what it says is
//! owed for what it did.

use std::sync::Arc;

use chrysalis_channel::ResponseOpener;
use chrysalis_engine::testing::TinyModel;
use chrysalis_engine::{
    ConstraintError, Engine, EngineError, Event, GenerateRequest, Generation, ModelInfo,
};
use chrysalis_receipt::{
    ChannelCode, ChannelId, ChannelTerms, Claim, FundingKey, FundingNote, MeterKey, MeterPublicKey,
    MeterState, NOTE_BYTES, Offer, PayerKey, PayerPublicKey, PaymentRequired, Settlement,
    Shortfall, StateRequest, TermsParts,
};
use chrysalis_wire::{Digest, UnixTime};
use chrysalis_worker::payment::PAYMENT_HEADER;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::rig::{NOW, Rig, chat, code, engine, json, receipt};

const PAYEE: Digest = Digest([0x77; 32]);
const NONE: Digest = Digest([0; 32]);
/// More than any request of the rig costs: its context at its dearest prices.
pub(crate) const PLENTY: u128 = 1_000_000_000;

fn payer() -> PayerKey {
    PayerKey::from_seed(&Zeroizing::new([0x22; 32]))
}

fn terms() -> ChannelTerms {
    ChannelTerms::new(TermsParts {
        payer_key: PayerPublicKey::parse(&payer().public()).unwrap(),
        payer: Digest([8; 32]),
        payee: PAYEE,
        close_delay: 86_400,
        min_settle: 50_000_000,
        salt: 1,
    })
    .unwrap()
}

pub(crate) fn section() -> String {
    let code = ChannelCode::METERED_V1.hash();
    format!("[payment]\npayee = \"{PAYEE}\"\nchannel_code = \"{code}\"\n")
}

async fn paid() -> Rig {
    Rig::paid(&["Hello", " there"], &section()).await
}

fn owner() -> FundingKey {
    FundingKey::from_seed(&Zeroizing::new([0x33; 32]))
}

/// A worker whose owner vouches for deposits.
async fn funded() -> Rig {
    let (code, key) = (ChannelCode::METERED_V1.hash(), Digest(owner().public()));
    let section = format!(
        "[payment]\npayee = \"{PAYEE}\"\nchannel_code = \"{code}\"\nfunding_key = \"{key}\"\n"
    );
    Rig::paid(&["Hello", " there"], &section).await
}

async fn vouch(rig: &Rig, covers: u128, seconds_ago: u64) -> (u16, String) {
    let seen_at = UnixTime(NOW.0 / 1000 - seconds_ago);
    let until = UnixTime(seen_at.0 + 600);
    let (channel, meter_key) = (channel(rig), meter(rig));
    let note = FundingNote { channel, meter_key, covers, paid: 0, seen_at, until };
    let note = owner().sign(note).unwrap().encode();
    let response = rig.send(Method::POST, "/v1/payment/funding", note).await;
    if response.status() == StatusCode::OK {
        return (200, String::new());
    }
    code(response).await
}

fn meter(rig: &Rig) -> MeterPublicKey {
    MeterPublicKey::parse(&rig.worker.session.meter.public()).unwrap()
}

pub(crate) fn channel(rig: &Rig) -> ChannelId {
    terms().id(rig.worker.manifest.network).unwrap()
}

pub(crate) fn offer(rig: &Rig, sealed: &[u8], max_cum: u128) -> String {
    let cap = payer().sign(channel(rig), meter(rig), max_cum).unwrap();
    let request = Digest(Sha256::digest(sealed).into());
    hex::encode(Offer::sign(&payer(), terms(), cap, &request).unwrap().encode())
}

pub(crate) async fn post(rig: &Rig, offer: Option<String>, sealed: Vec<u8>) -> Response<Incoming> {
    let mut request = Request::builder().method(Method::POST).uri("/v1/sealed");
    if let Some(offer) = offer {
        request = request.header(PAYMENT_HEADER, offer);
    }
    let request = request.body(Full::new(Bytes::from(sealed))).unwrap();
    rig.http().await.send_request(request).await.unwrap()
}

/// Pays for one request and returns the amount of its receipt.
async fn ask(rig: &Rig, id: u8, max_cum: u128) -> u128 {
    let (sealed, opener) = rig.seal(id, &chat("hi"));
    let response = post(rig, Some(offer(rig, &sealed, max_cum)), sealed).await;
    assert_eq!(response.status(), StatusCode::OK);
    amount(response, opener).await
}

pub(crate) async fn amount(response: Response<Incoming>, mut opener: ResponseOpener) -> u128 {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let frames = opener.push(&bytes).unwrap();
    receipt(&frames).receipt().amount
}

async fn required(response: Response<Incoming>, expected: &str) -> PaymentRequired {
    let (status, body) = json(response).await;
    assert_eq!(status, StatusCode::PAYMENT_REQUIRED, "{body}");
    assert_eq!(body["error"]["code"], expected);
    serde_json::from_value(body["payment"].clone()).unwrap()
}

async fn state(rig: &Rig, payer: &PayerKey) -> Response<Incoming> {
    let question = StateRequest::sign(payer, channel(rig), &meter(rig), NONE).unwrap();
    rig.send(Method::POST, "/v1/payment/state", question.encode()).await
}

async fn claim(rig: &Rig) -> Claim {
    let response = state(rig, &payer()).await;
    assert_eq!(response.status(), StatusCode::OK);
    Claim::decode(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_opened_for_whoever_offers_nothing_and_they_learn_whom_to_pay() {
    let rig = paid().await;
    let (sealed, _) = rig.seal(1, &chat("hi"));
    let required = required(post(&rig, None, sealed.clone()).await, "E-PAYMENT-MISSING").await;
    assert_eq!((required.payee, required.code), (PAYEE, ChannelCode::METERED_V1.hash()));
    assert_eq!(required.meter_key, Digest(rig.worker.session.meter.public()));
    assert_eq!(required.shortfall, None);
    // The same bytes are still fresh: they were not opened.
    let paying = offer(&rig, &sealed, PLENTY);
    assert_eq!(post(&rig, Some(paying), sealed).await.status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_an_offer_that_was_made_for_other_bytes() {
    let rig = paid().await;
    let (first, _) = rig.seal(1, &chat("hi"));
    let (second, _) = rig.seal(2, &chat("hi"));
    let refused = post(&rig, Some(offer(&rig, &first, PLENTY)), second).await;
    required(refused, "E-PAYMENT-SIGNATURE").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cumulative_receipt_is_the_sum_of_the_receipts() {
    let rig = paid().await;
    let mut sum = 0;
    for id in 1..=3 {
        sum += ask(&rig, id, PLENTY).await;
        let claim = claim(&rig).await;
        assert_eq!(claim.cum_amount(), sum);
        assert_eq!(claim.settlement().settlement().state.count, u64::from(id));
        claim.verify().unwrap();
    }
    assert!(sum > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_a_request_one_nanogram_over_its_cap_and_says_which_cap_would_do() {
    let rig = paid().await;
    let owed = ask(&rig, 1, PLENTY).await;
    // 4096 tokens of context and the 4000 that the header pays for.
    let worst = 4096 * 20 + 4000 * 80;
    let small = paid().await;
    let (sealed, _) = small.seal(1, &chat("hi"));
    let refused = post(&small, Some(offer(&small, &sealed, worst - 1)), sealed).await;
    let short = required(refused, "E-PAYMENT-CAP").await.shortfall.unwrap().parse().unwrap();
    assert_eq!(short, Shortfall { owed: 0, reserved: 0, request: worst, max_cum: worst - 1 });
    assert_eq!(ask(&small, 2, worst).await, owed, "with one nanogram more it is served");
    let (sealed, _) = small.seal(3, &chat("hi"));
    let refused = post(&small, Some(offer(&small, &sealed, worst)), sealed).await;
    let short = required(refused, "E-PAYMENT-CAP").await.shortfall.unwrap().parse().unwrap();
    assert_eq!((short.owed, short.wanted()), (owed, owed + worst));
    assert_eq!(ask(&small, 4, owed + worst).await, owed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_refused_inside_the_channel_costs_nothing() {
    let rig = paid().await;
    let (sealed, _) = rig.seal(1, "{\"model\":\"another\",\"messages\":[]}");
    let response = post(&rig, Some(offer(&rig, &sealed, PLENTY)), sealed).await;
    assert_eq!(response.status(), StatusCode::OK);
    drop(response.into_body().collect().await.unwrap());
    let payments = rig.worker.payments.as_ref().unwrap();
    assert_eq!(payments.standing(&channel(&rig)), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_fails_as_its_first_event_costs_nothing() {
    let failing = engine(&TinyModel::random(1).poisoned(b'!'));
    let rig = Rig::paid_with(failing, &section()).await;
    let (sealed, opener) = rig.seal(1, &chat("boom!"));
    let response = post(&rig, Some(offer(&rig, &sealed, PLENTY)), sealed).await;
    assert_eq!(amount(response, opener).await, 0);
    let payments = rig.worker.payments.as_ref().unwrap();
    assert_eq!(payments.standing(&channel(&rig)), (0, 0));
}

/// Answers nothing: its channel closes at once, as that of an engine whose thread is gone.
struct Vanishing(Arc<dyn Engine>);

impl Engine for Vanishing {
    fn info(&self) -> &ModelInfo {
        self.0.info()
    }

    fn generate(&self, request: GenerateRequest) -> Result<Generation, EngineError> {
        let mut generation = self.0.generate(request)?;
        generation.events = tokio::sync::mpsc::channel(1).1;
        Ok(generation)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_vanishes_costs_nothing_and_gives_back_what_was_set_aside() {
    // Blocked tokens would race with the end; this model fails before its first.
    let inner = engine(&TinyModel::random(1).poisoned(b'!'));
    let rig = Rig::paid_with(Arc::new(Vanishing(inner)), &section()).await;
    let (sealed, _) = rig.seal(1, &chat("boom!"));
    let response = post(&rig, Some(offer(&rig, &sealed, PLENTY)), sealed).await;
    drop(response.into_body().collect().await);
    let payments = rig.worker.payments.as_ref().unwrap();
    assert_eq!(payments.standing(&channel(&rig)), (0, 0));
}

/// Finds out with the first token that the constraint cannot be kept.
struct TooComplex(Arc<dyn Engine>);

impl Engine for TooComplex {
    fn info(&self) -> &ModelInfo {
        self.0.info()
    }

    fn generate(&self, request: GenerateRequest) -> Result<Generation, EngineError> {
        let mut generation = self.0.generate(request)?;
        // One that never began costs nothing.
        while generation.control.usage().prompt == 0 {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let (failed, events) = tokio::sync::mpsc::channel(1);
        let error = EngineError::Constraint(ConstraintError::TooComplex);
        failed.try_send(Event::Failed(error)).unwrap();
        generation.events = events;
        Ok(generation)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_constraint_that_ends_an_answer_before_its_first_token_leaves_the_prompt_to_be_paid() {
    let inner = engine(&TinyModel::random(1).poisoned(b'!'));
    let rig = Rig::paid_with(Arc::new(TooComplex(inner)), &section()).await;
    let (sealed, opener) = rig.seal(1, &chat("boom!"));
    let response = post(&rig, Some(offer(&rig, &sealed, PLENTY)), sealed).await;
    let cost = amount(response, opener).await;
    assert!(cost > 0 && cost % 20 == 0, "{cost}: tokens of the prompt, and none of an answer");
    let payments = rig.worker.payments.as_ref().unwrap();
    assert_eq!(payments.standing(&channel(&rig)), (cost, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_requester_that_goes_away_pays_for_what_was_produced_and_no_more() {
    let rig = paid().await;
    let (sealed, _) = rig.seal(1, &chat("hi"));
    let offer = offer(&rig, &sealed, PLENTY);
    drop(post(&rig, Some(offer), sealed).await);
    // The place is free again once the request is over.
    let payments = rig.worker.payments.as_ref().unwrap();
    let mut standing = payments.standing(&channel(&rig));
    for _ in 0..200 {
        if standing.1 == 0 && standing.0 > 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        standing = payments.standing(&channel(&rig));
    }
    let path = format!("/v1/receipts/{}", "01".repeat(16));
    let (_, by_id) = json(rig.send(Method::GET, &path, vec![]).await).await;
    let own = format!("{path}/{}", channel(&rig).account);
    let (_, stored) = json(rig.send(Method::GET, &own, vec![]).await).await;
    assert_eq!(stored, by_id);
    let other = rig.send(Method::GET, &format!("{path}/{NONE}"), vec![]).await;
    assert_eq!(
        code(other).await,
        (404, "E-NO-RECEIPT".to_owned()),
        "another channel paid for none"
    );
    assert_eq!(standing, (stored["head"]["amount"].as_str().unwrap().parse().unwrap(), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_nobody_vouches_for_is_refused_soon_to_be_asked_again_and_its_owner_is_told()
{
    let rig = funded().await;
    let (sealed, _) = rig.seal(1, &chat("hi"));
    let refused = post(&rig, Some(offer(&rig, &sealed, PLENTY)), sealed).await;
    assert_eq!(refused.headers()["retry-after"], "1");
    let required = required(refused, "E-PAYMENT-FUNDING").await;
    assert_eq!((required.payee, required.shortfall), (PAYEE, None));
    let payments = rig.worker.payments.as_ref().unwrap();
    assert_eq!(payments.wanted().await, [terms()]);

    let worst = 4096 * 20 + 4000 * 80;
    assert_eq!(vouch(&rig, worst - 1, 2).await.0, 200);
    let (sealed, _) = rig.seal(2, &chat("hi"));
    let refused = post(&rig, Some(offer(&rig, &sealed, PLENTY)), sealed).await;
    assert_eq!(code(refused).await, (402, "E-PAYMENT-FUNDING".to_owned()));
    assert_eq!(vouch(&rig, worst, 1).await.0, 200);
    assert!(ask(&rig, 3, PLENTY).await > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_note_that_is_old_or_over_or_asked_of_a_worker_without_an_owners_key_is_refused() {
    let rig = funded().await;
    assert_eq!(vouch(&rig, PLENTY, 1).await.0, 200);
    assert_eq!(vouch(&rig, PLENTY, 2).await, (402, "E-FUNDING-OLD".to_owned()));
    assert_eq!(vouch(&rig, PLENTY, 600).await, (402, "E-FUNDING-TIME".to_owned()));
    assert_eq!(vouch(&paid().await, PLENTY, 1).await, (402, "E-FUNDING-KEY".to_owned()));
    let free = Rig::saying(&["Hello"]).await;
    assert_eq!(vouch(&free, PLENTY, 1).await.0, 404);
    let long = rig.send(Method::POST, "/v1/payment/funding", vec![0; NOTE_BYTES + 1]).await;
    assert_eq!(long.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_requests_is_due_to_be_told_and_a_window_of_them_stops_the_next() {
    let rig = paid().await;
    let payments = rig.worker.payments.as_ref().unwrap();
    let (batch, places) = (8, rig.places());
    for id in 0..batch {
        ask(&rig, id as u8, PLENTY).await;
    }
    tokio::time::timeout(std::time::Duration::from_secs(1), payments.due()).await.unwrap();
    for id in batch..batch + places {
        ask(&rig, id as u8, PLENTY).await;
    }
    // Nobody has told the owner: this rig has no console.
    let (sealed, _) = rig.seal(200, &chat("hi"));
    let refused = post(&rig, Some(offer(&rig, &sealed, PLENTY)), sealed).await;
    assert_eq!(code(refused).await, (429, "E-BUSY".to_owned()));
    let claims = payments.grown(&rig.worker.session.meter, UnixTime(NOW.0 / 1000));
    payments.told(&claims);
    assert!(ask(&rig, 201, PLENTY).await > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_a_channel_that_keeps_more_or_closes_sooner_than_its_owner_can_help() {
    let rig = paid().await;
    for (close_delay, min_settle) in [(86_400, 50_000_001), (86_399, 50_000_000)] {
        let (payer_key, payee) = (*terms().payer_key(), PAYEE);
        let parts = TermsParts {
            payer_key,
            payer: Digest([8; 32]),
            payee,
            close_delay,
            min_settle,
            salt: 1,
        };
        let terms = ChannelTerms::new(parts).unwrap();
        let (sealed, _) = rig.seal(1, &chat("hi"));
        let id = terms.id(rig.worker.manifest.network).unwrap();
        let cap = payer().sign(id, meter(&rig), PLENTY).unwrap();
        let request = Digest(Sha256::digest(&sealed).into());
        let offer = hex::encode(Offer::sign(&payer(), terms, cap, &request).unwrap().encode());
        required(post(&rig, Some(offer), sealed).await, "E-CHANNEL-TERMS").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_payer_learns_where_a_channel_stands() {
    let rig = paid().await;
    assert_eq!(code(state(&rig, &payer()).await).await, (402, "E-PAYMENT-CHANNEL".to_owned()));
    ask(&rig, 1, PLENTY).await;
    let stranger = PayerKey::from_seed(&Zeroizing::new([0x23; 32]));
    assert_eq!(code(state(&rig, &stranger).await).await, (402, "E-PAYMENT-SIGNATURE".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_of_an_earlier_boot_is_where_this_one_goes_on_and_its_payer_is_shown_it() {
    let rig = paid().await;
    let earlier = earlier_claim(&rig, 700);
    let response = rig.send(Method::POST, "/v1/payment/claim", earlier.encode()).await;
    assert_eq!(response.status(), StatusCode::OK);
    let (sealed, _) = rig.seal(1, &chat("hi"));
    let worst = 4096 * 20 + 4000 * 80;
    let refused = post(&rig, Some(offer(&rig, &sealed, worst)), sealed).await;
    let required = required(refused, "E-PAYMENT-CAP").await;
    assert_eq!(required.claim(), Ok(Some(earlier)));
    let amount = ask(&rig, 2, worst + 700).await;
    assert_eq!(claim(&rig).await.cum_amount(), 700 + amount);
}

/// She lost her ledger and not the worker's trust: the worker says what it has her signature for.
#[tokio::test(flavor = "multi_thread")]
async fn a_payer_with_too_low_a_cap_is_shown_the_claim_of_this_very_meter() {
    let rig = paid().await;
    let worst = 4096 * 20 + 4000 * 80;
    ask(&rig, 1, worst).await;
    let shown = claim(&rig).await;
    let (sealed, _) = rig.seal(2, &chat("hi"));
    let refused = post(&rig, Some(offer(&rig, &sealed, 1)), sealed).await;
    assert_eq!(required(refused, "E-PAYMENT-CAP").await.claim(), Ok(Some(shown)));
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_a_claim_with_a_changed_byte_or_a_byte_too_many() {
    let rig = paid().await;
    let good = earlier_claim(&rig, 700).encode();
    for at in (0..good.len()).step_by(23) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        let refused = rig.send(Method::POST, "/v1/payment/claim", bad).await;
        assert_eq!(refused.status(), StatusCode::PAYMENT_REQUIRED, "byte {at}");
    }
    let long = rig.send(Method::POST, "/v1/payment/claim", [good, vec![0]].concat()).await;
    assert_eq!(long.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_a_payment_section_asks_for_nothing_and_has_no_such_routes() {
    let rig = Rig::saying(&["Hello"]).await;
    let frames = rig.ask(1, &chat("hi")).await;
    assert!(receipt(&frames).receipt().amount > 0, "the receipt still says what it is worth");
    assert_eq!(code(state(&rig, &payer()).await).await.0, 404);
    let claim = rig.send(Method::POST, "/v1/payment/claim", vec![]).await;
    assert_eq!(claim.status(), StatusCode::NOT_FOUND);
}

fn earlier_claim(rig: &Rig, cum_amount: u128) -> Claim {
    let earlier = MeterKey::from_seed(&Zeroizing::new([0x99; 32]));
    let key = MeterPublicKey::parse(&earlier.public()).unwrap();
    let cap = payer().sign(channel(rig), key, cum_amount).unwrap();
    let state = MeterState {
        blind: [1; 16],
        count: 3,
        cum_units: 30,
        issued_at: UnixTime(NOW.0 / 1000),
        prev: NONE,
        log_root: NONE,
    };
    let settlement = Settlement { channel: channel(rig), cum_amount, state };
    Claim::new(terms(), cap, earlier.sign_settlement(settlement).unwrap()).unwrap()
}
