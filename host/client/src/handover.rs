//! Gives a worker of one's own the claims it has to go on from, whatever it is: a claim is no secret to
//! it, and proves itself. One that is refused keeps no other from being handed in.

use chrysalis_receipt::{ChannelId, Claim};
use hyper::Response;
use hyper::body::Incoming;

use crate::connection::{Connection, SendError};
use crate::error::ClientError;
use crate::io::read_whole;
use crate::limits::{Bounds, MAX_PLAIN_ERROR_BYTES};
use crate::plain::expect_ok;
use crate::worker::{CLAIM, post};

/// What became of claims.
#[derive(Debug, Default)]
pub struct HandedIn {
    /// Those that the worker does not take, and will not the next time.
    pub refused: Vec<(ChannelId, ClientError)>,
    /// Those that are worth another try, and why the first of them did not go through.
    pub left: Option<(Vec<Claim>, ClientError)>,
}

/// Hands in `claims` to the worker at `address` (`host:port`), in order.
pub async fn hand_in_claims(address: &str, claims: Vec<Claim>) -> HandedIn {
    let bounds = Bounds::default();
    let mut done = HandedIn::default();
    let mut connection = None;
    let mut claims = claims.into_iter();
    while let Some(claim) = claims.next() {
        match hand_in(&mut connection, address, &claim, &bounds).await {
            Ok(()) => {}
            Err(error) if is_final(&error) => done.refused.push((claim.channel(), error)),
            Err(error) => {
                let left = std::iter::once(claim).chain(claims).collect();
                done.left = Some((left, error));
                break;
            }
        }
    }
    done
}

async fn hand_in(
    kept: &mut Option<Connection>,
    address: &str,
    claim: &Claim,
    bounds: &Bounds,
) -> Result<(), ClientError> {
    let request = post(CLAIM, claim.encode())?;
    // A worker may end a connection after any answer; what was not written is sent again.
    let unsent = match kept.take() {
        Some(mut connection) => match connection.send(request, bounds.idle).await {
            Ok(response) => return answered(kept, connection, response, bounds).await,
            Err(SendError::Unsent(unsent)) => unsent,
            Err(SendError::Failed(error)) => return Err(error),
        },
        None => request,
    };
    let mut connection = Connection::open(address, None, None, bounds).await?;
    let response = connection.send(unsent, bounds.idle).await?;
    answered(kept, connection, response, bounds).await
}

/// Reads the answer and keeps the connection for the next claim.
async fn answered(
    kept: &mut Option<Connection>,
    connection: Connection,
    response: Response<Incoming>,
    bounds: &Bounds,
) -> Result<(), ClientError> {
    let body = expect_ok(response, "application/json", bounds.idle).await;
    // The body of a refusal was read as well.
    *kept = Some(connection);
    read_whole(body?, "answer to the claim", MAX_PLAIN_ERROR_BYTES, bounds.idle).await.map(drop)
}

/// Whether the worker has judged the claim. What was not sent, or came while the worker had no room
/// for it, was not judged.
const fn is_final(error: &ClientError) -> bool {
    match error {
        ClientError::PaymentRequired { .. } => true,
        ClientError::WorkerRefused { status, .. } => !matches!(*status, 404 | 408 | 429 | 500..),
        _ => false,
    }
}
