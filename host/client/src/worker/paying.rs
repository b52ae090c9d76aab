//! What a client and a worker have to say to each other about money: what the worker goes on from, its cumulative
//! receipts, and the receipts of answers that were given up. Nothing that the worker says is believed here; the
//! [`Payer`] holds it against what it knows.

use bytes::Bytes;
use chrysalis_receipt::{CLAIM_BYTES, Claim};
use chrysalis_wire::Digest;
use http_body_util::Full;
use hyper::{Method, Request};

use super::AttestedWorker;
use crate::error::ClientError;
use crate::evidence::Appraised;
use crate::handover::CLAIM;
use crate::io::read_whole;
use crate::limits::{MAX_PLAIN_ERROR_BYTES, MAX_PUBLIC_RECEIPT_BYTES};
use crate::payer::{Payer, Ticket};
use crate::plain::expect_ok;
use crate::request::SealedCall;

impl AttestedWorker {
    /// Pays for every request from now on, with `payer`, if the worker asks to be paid.
    ///
    /// # Errors
    /// [`ClientError::Payment`] if the worker is not paid through that channel.
    pub async fn pay_with(&self, payer: Payer) -> Result<(), ClientError> {
        if payer.suits(&self.evidence().await.verified)? {
            // A second payer would not know what the first one signed.
            drop(self.shared.payer.set(payer));
        }
        Ok(())
    }

    /// Who pays, if anybody.
    #[must_use]
    pub fn payer(&self) -> Option<&Payer> {
        self.shared.payer.get()
    }

    /// Gives a restarted worker the claim it has to go on from.
    async fn hand_over(&self, appraised: &Appraised, claim: Vec<u8>) -> Result<(), ClientError> {
        let (connection, response) = self.shared.post(appraised, CLAIM, claim, None).await?;
        let wait = self.shared.worker.bounds.idle;
        let body = expect_ok(response, "application/json", wait).await?;
        read_whole(body, "answer to the claim", MAX_PLAIN_ERROR_BYTES, wait).await?;
        self.shared.put_idle(connection);
        Ok(())
    }

    /// Asks for the worker's cumulative receipt, holds it against the receipts of the requests and
    /// keeps it. `None` if nobody pays. Done after each answer by itself; a caller that stops may
    /// want the last one.
    ///
    /// # Errors
    /// [`ClientError::Overcharged`] for one that claims too much, after which nothing more is paid.
    pub async fn collect_claim(&self) -> Result<Option<Claim>, ClientError> {
        let appraised = self.shared.current();
        let Some(payer) = self.shared.payer.get() else { return Ok(None) };
        self.ask_claim(payer, &appraised).await.map(Some)
    }

    /// Looks for the receipts of requests whose answers were given up: what they cost is in no other place
    /// than a claim, which does not say of which request.
    async fn find_receipts(&self, payer: &Payer, appraised: &Appraised) -> Result<(), ClientError> {
        let wait = self.shared.worker.bounds.idle;
        // Ids are no secret: who carried the request may have had another one answered under its id.
        let account = payer.channel().account;
        for id in payer.missing() {
            let request = get(&format!("{RECEIPTS}{id}/{account}"))?;
            let (connection, response) =
                self.shared.exchange(appraised, request, true, false).await?;
            let body = expect_ok(response, "application/json", wait).await;
            let json = match body {
                Ok(body) => read_whole(body, "receipt", MAX_PUBLIC_RECEIPT_BYTES, wait).await,
                Err(error) => Err(error),
            };
            self.shared.put_idle(connection);
            match json {
                Ok(json) => payer.find(&appraised.verified, id, &json).await?,
                // It is still being made, was never begun, or is of another boot; or the worker is an older
                // one, which knows receipts by their ids alone.
                Err(ClientError::WorkerRefused { status: 400 | 404, .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn ask_claim(&self, payer: &Payer, appraised: &Appraised) -> Result<Claim, ClientError> {
        self.find_receipts(payer, appraised).await?;
        let (question, asked) = payer.question(&appraised.verified)?;
        let (connection, response) = self.shared.post(appraised, STATE, question, None).await?;
        let wait = self.shared.worker.bounds.idle;
        let body = expect_ok(response, "application/octet-stream", wait).await;
        let claim = match body {
            Ok(body) => read_whole(body, "claim", CLAIM_BYTES, wait).await?,
            Err(error) => {
                // A refusal was read as well.
                self.shared.put_idle(connection);
                return Err(error);
            }
        };
        self.shared.put_idle(connection);
        payer.accept(&appraised.verified, asked, &claim).await
    }

    /// Before the first cap of this process to a meter: gives it what it must go on from, and learns what
    /// it knows.
    async fn hear(&self, payer: &Payer, appraised: &Appraised) -> Result<(), ClientError> {
        let meter = Some(Digest(appraised.verified.keyset().meter_key));
        let mut heard = payer.heard().await;
        if *heard == meter {
            return Ok(());
        }
        if let Some(claim) = payer.handover(&appraised.verified) {
            match self.hand_over(appraised, claim).await {
                // It has no place for claims of those it does not serve yet; the request says the rest.
                Ok(()) | Err(ClientError::PaymentRequired { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        match self.ask_claim(payer, appraised).await {
            // It knows nothing of the channel.
            Ok(_) | Err(ClientError::PaymentRequired { .. }) => {}
            Err(error) => return Err(error),
        }
        *heard = meter;
        Ok(())
    }

    /// Signs for a call, after the worker has what it must go on from.
    pub(super) async fn offer(
        &self,
        payer: &Payer,
        appraised: &Appraised,
        call: &SealedCall,
    ) -> Result<(String, Ticket), ClientError> {
        let (verified, id) = (&appraised.verified, call.pending.request_id);
        // Before anybody is asked what it will be refused for.
        payer.signs()?;
        self.hear(payer, appraised).await?;
        match payer.offer(verified, id, &call.sealed, call.max_tokens).await {
            // Part of the budget may be held for requests whose receipts never came: a claim says what
            // they came to.
            Err(error @ ClientError::Budget { .. }) => match self.collect_claim().await {
                Ok(Some(_)) => payer.offer(verified, id, &call.sealed, call.max_tokens).await,
                Err(ended) if ended.ends_payments() => Err(ended),
                Ok(None) | Err(_) => Err(error),
            },
            offered => offered,
        }
    }
}

fn get(path: &str) -> Result<Request<Full<Bytes>>, ClientError> {
    Request::builder()
        .method(Method::GET)
        .uri(path)
        .body(Full::default())
        .map_err(|e| ClientError::Protocol { what: "request", reason: e.to_string() })
}

const RECEIPTS: &str = "/v1/receipts/";
const STATE: &str = "/v1/payment/state";
