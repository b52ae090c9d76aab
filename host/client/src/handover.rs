//! Gives a worker of one's own the claims it has to go on from and what its owner saw of deposits,
//! whatever it is: neither is a secret to it, and both prove themselves. One that is refused keeps no other from being handed in.

use chrysalis_receipt::{ChannelId, Claim, ReceiptError, SignedNote};
use hyper::Response;
use hyper::body::Incoming;

use crate::connection::{Connection, SendError};
use crate::error::ClientError;
use crate::io::read_whole;
use crate::limits::{Bounds, MAX_PLAIN_ERROR_BYTES};
use crate::plain::expect_ok;
use crate::worker::post;

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
    let mut no_room: Option<(Vec<Claim>, ClientError)> = None;
    while let Some(claim) = claims.next() {
        match hand_in(&mut connection, address, &claim, &bounds).await {
            Ok(()) => {}
            // Anybody fills that place, and a channel that is served needs none in it: the others go on.
            Err(error) if is_no_room(&error) => match &mut no_room {
                Some((left, _)) => left.push(claim),
                None => no_room = Some((vec![claim], error)),
            },
            Err(error) if is_final(&error) => done.refused.push((claim.channel(), error)),
            Err(error) => {
                let left = std::iter::once(claim).chain(claims);
                let later = no_room.take().into_iter().flat_map(|(left, _)| left);
                done.left = Some((left.chain(later).collect(), error));
                return done;
            }
        }
    }
    done.left = no_room;
    done
}

/// Gives a worker of one's own what its owner saw of a channel's deposit.
///
/// # Errors
/// [`ClientError`], in particular [`ClientError::PaymentRequired`] for a note it does not take.
pub async fn hand_in_note(address: &str, note: &SignedNote) -> Result<(), ClientError> {
    let bounds = Bounds::default();
    let mut connection = Connection::open(address, None, None, &bounds).await?;
    let response = connection.send(post(FUNDING, note.encode())?, bounds.idle).await?;
    let body = expect_ok(response, "application/json", bounds.idle).await?;
    read_whole(body, "answer to the note", MAX_PLAIN_ERROR_BYTES, bounds.idle).await.map(drop)
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

/// Whether the worker holds as many claims of channels that it does not serve as it takes.
#[must_use]
pub fn is_no_room(error: &ClientError) -> bool {
    let full = ReceiptError::ClaimsFull.code();
    match error {
        ClientError::PaymentRequired { code, .. } | ClientError::WorkerRefused { code, .. } => {
            code == full
        }
        _ => false,
    }
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

/// Takes claims.
pub(crate) const CLAIM: &str = "/v1/payment/claim";
const FUNDING: &str = "/v1/payment/funding";
