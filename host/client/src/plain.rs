//! Refusals a worker gives outside the sealed channel. Whoever sits on the wire before the
//! handshake, and any worker before its appraisal, can write what it likes here: everything is
//! bounded and sanitised.

use std::time::Duration;

use chrysalis_receipt::PaymentRequired;
use hyper::Response;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, RETRY_AFTER};
use serde::Deserialize;

use crate::error::{ClientError, sanitise};
use crate::io::read_whole;
use crate::limits::{MAX_PLAIN_ERROR_BYTES, MAX_RETRY_AFTER_SECONDS};

/// Requires HTTP 200 and `content_type`; turns everything else into the error it is.
///
/// # Errors
/// [`ClientError::WorkerRefused`] for another status, [`ClientError::Protocol`] for another type.
pub(crate) async fn expect_ok(
    response: Response<Incoming>,
    content_type: &'static str,
    wait: Duration,
) -> Result<Incoming, ClientError> {
    if response.status() != hyper::StatusCode::OK {
        return Err(refusal(response, wait).await);
    }
    let found = response.headers().get(CONTENT_TYPE).map_or("", |v| v.to_str().unwrap_or(""));
    if found != content_type {
        let reason = format!("expected {content_type}, got {:?}", sanitise(found));
        return Err(ClientError::Protocol { what: "content type", reason });
    }
    Ok(response.into_body())
}

async fn refusal(response: Response<Incoming>, wait: Duration) -> ClientError {
    let status = response.status().as_u16();
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.parse::<u32>().ok())
        .map(|s| s.min(MAX_RETRY_AFTER_SECONDS));
    let body = read_whole(response.into_body(), "refusal", MAX_PLAIN_ERROR_BYTES, wait).await;
    let body = match body {
        Ok(body) => body,
        Err(error) => return error,
    };
    // Not every HTTP server on the way speaks our error format.
    let ErrorBody { error: parts, payment } =
        serde_json::from_slice(&body).unwrap_or_else(|_| ErrorBody {
            error: ErrorParts {
                code: "E-HTTP".to_owned(),
                message: "the answer has no Chrysalis error in it".to_owned(),
                next_step: "check that the address is a Chrysalis worker".to_owned(),
            },
            payment: None,
        });
    if let Some(required) = payment.filter(|_| status == PAYMENT_REQUIRED) {
        let (code, message) = (sanitise(&parts.code), sanitise(&parts.message));
        let required = Box::new(required);
        return ClientError::PaymentRequired { code, message, required, retry_after };
    }
    ClientError::WorkerRefused {
        status,
        code: sanitise(&parts.code),
        message: sanitise(&parts.message),
        next_step: sanitise(&parts.next_step),
        retry_after,
    }
}

#[derive(Deserialize)]
struct ErrorBody {
    error: ErrorParts,
    payment: Option<PaymentRequired>,
}

#[derive(Deserialize)]
struct ErrorParts {
    code: String,
    message: String,
    #[serde(default)]
    next_step: String,
}

/// The status whose answer says whom to pay.
const PAYMENT_REQUIRED: u16 = 402;
