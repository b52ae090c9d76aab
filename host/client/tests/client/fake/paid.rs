//! What a fake worker that is paid counts: a real meter, which has counted an answer before its first byte
//! leaves.

use std::collections::HashMap;
use std::sync::Mutex;

use chrysalis_channel::Header;
use chrysalis_receipt::{
    ChannelCode, Charge, MeterBook, MeterKey, MeterPublicKey, Offer, Payee, PaymentRequired,
    PublicReceipt, ReceiptError, Reservation, SignedReceipt, StateRequest, worst_case,
};
use chrysalis_wire::{Digest, RequestId, WorkerManifest};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::{Request, Response, StatusCode};
use sha2::{Digest as _, Sha256};

use super::{Reply, State, refusal, typed};

pub(super) struct Paid(Mutex<Counted>);

struct Counted {
    book: MeterBook,
    running: HashMap<RequestId, Reservation>,
    /// By the account that paid, too: a stranger may have used the same id.
    receipts: HashMap<(RequestId, Digest), String>,
}

impl Paid {
    pub(super) fn new(manifest: &WorkerManifest, meter: &MeterKey) -> Option<Self> {
        let account = manifest.payment.as_ref()?.payee;
        let meter_key = MeterPublicKey::parse(&meter.public()).unwrap();
        let book =
            MeterBook::new(Payee { network: manifest.network, account, worker: 0, meter_key });
        let (running, receipts) = Default::default();
        Some(Self(Mutex::new(Counted { book, running, receipts })))
    }

    pub(super) fn reserve(
        &self,
        state: &State,
        offer: Option<HeaderValue>,
        sealed: &[u8],
        header: &Header,
    ) -> Result<(), ReceiptError> {
        let mut counted = self.0.lock().unwrap();
        let digest = Digest(Sha256::digest(sealed).into());
        let offer = Offer::decode(&hex::decode(offer.unwrap()).unwrap()).unwrap();
        let offer = offer.verify(&digest, counted.book.payee())?;
        let (prices, limits) = (&state.manifest.prices, &state.manifest.limits);
        let worst = worst_case(prices, limits, header.max_tokens);
        let reserved = counted.book.reserve(offer, worst, state.now())?;
        counted.running.insert(header.request_id, reserved);
        Ok(())
    }

    pub(super) fn count(&self, id: RequestId, receipt: &SignedReceipt) {
        let mut counted = self.0.lock().unwrap();
        let reserved = counted.running.remove(&id).unwrap();
        let amount = receipt.receipt().amount;
        let charge = Charge { amount, units: 1, receipt: receipt.hash() };
        let account = reserved.account();
        // More than was set aside no real meter counts, whatever its receipt says.
        drop(counted.book.charge(reserved, charge));
        counted.receipts.insert((id, account), PublicReceipt::from(receipt).to_json().unwrap());
    }
}

pub(super) async fn state(state: &State, request: Request<Incoming>) -> Response<Reply> {
    let question = request.into_body().collect().await.unwrap().to_bytes();
    let question = StateRequest::decode(&question).unwrap();
    let mut counted = state.paid.as_ref().unwrap().0.lock().unwrap();
    match counted.book.answer(&question, &state.meter, state.now()) {
        Ok(claim) => typed("application/octet-stream", claim.encode()),
        Err(error) => refused(state, &error),
    }
}

pub(super) fn receipt(state: &State, path: &str) -> Response<Reply> {
    let named = path.strip_prefix("/v1/receipts/").unwrap();
    let (id, account) = named.split_once('/').expect("a payer says which channel paid");
    let key = (id.parse().unwrap(), account.parse().unwrap());
    let counted = state.paid.as_ref().unwrap().0.lock().unwrap();
    match counted.receipts.get(&key) {
        Some(json) => typed("application/json", json.clone().into_bytes()),
        None => refusal(StatusCode::NOT_FOUND, "E-NO-RECEIPT", "no such receipt"),
    }
}

pub(super) fn refused(state: &State, error: &ReceiptError) -> Response<Reply> {
    let (network, payee) = (state.manifest.network, state.manifest.payment.as_ref().unwrap().payee);
    let (code, meter) = (ChannelCode::METERED_V1.hash(), Digest(state.meter.public()));
    let payment = PaymentRequired::new(network, payee, code, meter);
    let error = serde_json::json!({
        "code": error.code(), "message": error.to_string(), "next_step": "pay",
    });
    let json = serde_json::json!({ "error": error, "payment": payment }).to_string();
    let mut response = typed("application/json", json.into_bytes());
    *response.status_mut() = StatusCode::PAYMENT_REQUIRED;
    response
}
