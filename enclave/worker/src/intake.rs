//! Reads the bodies of requests. Everything about them is attacker-controlled: what they say their length is,
//! whether they come, and how fast. Room is taken for bytes that are there, never for a promise.

use bytes::BytesMut;
use http_body_util::BodyExt;
use hyper::Request;
use hyper::body::{Body, Incoming};
use tokio::sync::SemaphorePermit;
use tokio::time::timeout;

use crate::http::Refused;
use crate::limits::SMALL_BODY_BYTES;
use crate::worker::Worker;

/// A body that was read, with the room it takes in [`Worker::bodies`].
pub struct HeldBody<'a> {
    /// All of it.
    pub bytes: BytesMut,
    room: Option<SemaphorePermit<'a>>,
}

/// Reads a body of at most `limit` bytes.
///
/// # Errors
/// [`Refused::TooLarge`] for one byte more, said or sent; [`Refused::Busy`] if there is no room for what
/// comes; [`Refused::Slow`] if it does not come in time; [`Refused::Broken`] if it ends early.
pub async fn read_body(
    worker: &Worker,
    request: Request<Incoming>,
    limit: usize,
) -> Result<HeldBody<'_>, Refused> {
    let body = request.into_body();
    let stated = body.size_hint().lower();
    if usize::try_from(stated).map_or(true, |stated| stated > limit) {
        return Err(Refused::TooLarge { limit });
    }
    timeout(worker.bounds.body, read(worker, body, limit)).await.map_err(|_| Refused::Slow)?
}

async fn read(worker: &Worker, mut body: Incoming, limit: usize) -> Result<HeldBody<'_>, Refused> {
    let mut held = HeldBody { bytes: BytesMut::new(), room: None };
    loop {
        let frame = timeout(worker.bounds.idle, body.frame()).await.map_err(|_| Refused::Slow)?;
        let Some(frame) = frame else { return Ok(held) };
        // Trailers say nothing that is read here.
        let Ok(data) = frame.map_err(|_| Refused::Broken)?.into_data() else { continue };
        let len = held.bytes.len().saturating_add(data.len());
        if len > limit {
            return Err(Refused::TooLarge { limit });
        }
        held.make_room(worker, len)?;
        held.bytes.extend_from_slice(&data);
    }
}

impl<'a> HeldBody<'a> {
    /// Takes room for `len` bytes in all, or none more.
    fn make_room(&mut self, worker: &'a Worker, len: usize) -> Result<(), Refused> {
        let has = self.room.as_ref().map_or(0, SemaphorePermit::num_permits);
        let more = len.saturating_sub(SMALL_BODY_BYTES).saturating_sub(has);
        if more == 0 {
            return Ok(());
        }
        let more = u32::try_from(more).map_err(|_| Refused::Busy)?;
        let more = worker.bodies.try_acquire_many(more).map_err(|_| Refused::Busy)?;
        match &mut self.room {
            Some(room) => room.merge(more),
            None => self.room = Some(more),
        }
        Ok(())
    }
}
