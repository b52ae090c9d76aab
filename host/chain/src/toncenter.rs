//! toncenter's API v2 as a [`ChainAccess`]: five methods over JSON-RPC, asked again when it may help.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrysalis_receipt::{Cell, boc};
use chrysalis_wire::Digest;
use serde_json::{Value, json};

use crate::access::{AccountState, ChainAccess, TransactionView};
use crate::answer;
use crate::endpoint::{ApiKey, Endpoint};
use crate::error::AccessError;
use crate::http::{self, TlsRoots};
use crate::limits::{
    ANSWER_TIMEOUT, CONNECT_TIMEOUT, FIRST_WAIT, MAX_ATTEMPTS, MAX_TRANSACTIONS, MAX_WAIT,
};

/// How long a server is waited for, and how often it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// See [`CONNECT_TIMEOUT`].
    pub connect: Duration,
    /// See [`ANSWER_TIMEOUT`].
    pub answer: Duration,
    /// See [`MAX_ATTEMPTS`].
    pub attempts: u32,
    /// See [`FIRST_WAIT`].
    pub first_wait: Duration,
    /// See [`MAX_WAIT`].
    pub max_wait: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: CONNECT_TIMEOUT,
            answer: ANSWER_TIMEOUT,
            attempts: MAX_ATTEMPTS,
            first_wait: FIRST_WAIT,
            max_wait: MAX_WAIT,
        }
    }
}

/// A server of toncenter's API v2.
#[derive(Debug)]
pub struct Toncenter {
    endpoint: Endpoint,
    key: Option<ApiKey>,
    tls: Option<TlsRoots>,
    patience: Patience,
}

impl Toncenter {
    /// A server at an endpoint; `tls` is what an `https` one is judged by.
    #[must_use]
    pub fn new(endpoint: Endpoint, key: Option<ApiKey>, tls: Option<TlsRoots>) -> Self {
        Self { endpoint, key, tls, patience: Patience::default() }
    }

    /// The same with another patience.
    #[must_use]
    pub fn with_patience(self, patience: Patience) -> Self {
        Self { patience, ..self }
    }

    /// Where it is.
    #[must_use]
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// One method of the API. Errors that may pass are waited out, as often as patience has it.
    ///
    /// # Errors
    /// [`AccessError`].
    pub async fn call(&self, method: &str, parameters: Value) -> Result<Value, AccessError> {
        let body = json!({ "id": "1", "jsonrpc": "2.0", "method": method, "params": parameters });
        self.post("/jsonRPC", &body.to_string()).await
    }

    /// Posts JSON below the endpoint.
    ///
    /// # Errors
    /// [`AccessError`].
    pub async fn post(&self, path: &str, json: &str) -> Result<Value, AccessError> {
        let mut wait = self.patience.first_wait;
        let mut attempt = 1;
        loop {
            let (error, asked_for) = match self.once(path, json).await {
                Ok(result) => return Ok(result),
                Err(failed) => failed,
            };
            if attempt >= self.patience.attempts || !error.is_transient() {
                return Err(error);
            }
            tokio::time::sleep(asked_for.unwrap_or(wait).min(self.patience.max_wait)).await;
            wait = wait.saturating_mul(2);
            attempt = attempt.saturating_add(1);
        }
    }

    /// One attempt; a failure comes with how long the server asks to wait.
    async fn once(&self, path: &str, json: &str) -> Result<Value, (AccessError, Option<Duration>)> {
        let (key, tls) = (self.key.as_ref(), self.tls.as_ref());
        let answered =
            http::post(&self.endpoint, path, key, tls, json.to_owned(), &self.patience).await;
        let answered = answered.map_err(|error| (error, None))?;
        answer::result(answered.status, &answered.body)
            .map_err(|error| (error, answered.retry_after))
    }
}

impl ChainAccess for Toncenter {
    async fn account(&self, account: Digest) -> Result<AccountState, AccessError> {
        let parameters = json!({ "address": raw(account) });
        answer::account(self.call("getAddressInformation", parameters).await?)
    }

    async fn get(
        &self,
        account: Digest,
        method: &str,
        arguments: &[Digest],
    ) -> Result<Vec<Digest>, AccessError> {
        let stack: Vec<Value> =
            arguments.iter().map(|n| json!(["num", format!("0x{n}")])).collect();
        let parameters = json!({ "address": raw(account), "method": method, "stack": stack });
        answer::numbers(account, method, self.call("runGetMethod", parameters).await?)
    }

    async fn send(&self, message: &Cell) -> Result<(), AccessError> {
        let parameters = json!({ "boc": STANDARD.encode(boc(message)) });
        self.call("sendBoc", parameters).await.map(|_| ())
    }

    async fn transactions(
        &self,
        account: Digest,
        after_lt: u64,
        limit: usize,
    ) -> Result<Vec<TransactionView>, AccessError> {
        let limit = limit.min(MAX_TRANSACTIONS);
        let parameters = json!({
            "address": raw(account),
            "limit": limit,
            "to_lt": after_lt.to_string(),
            "archival": false,
        });
        let result = self.call("getTransactions", parameters).await?;
        answer::transactions(account, after_lt, limit, result)
    }
}

/// The form of an address that needs no checksum.
fn raw(account: Digest) -> String {
    format!("0:{account}")
}
