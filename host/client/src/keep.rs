//! Keeps an accepted worker accepted, beside the requests: connections that nobody uses are closed
//! when their evidence is old, a worker that is answering is challenged again in time, and a change of
//! policy is applied at once. What does not pass ends the answers in progress with the reason; an
//! answer is never told complete by a worker that was refused meanwhile.
//!
//! HTTP/1.1 has no room for a challenge on a connection whose answer is in progress. The challenge goes
//! over another connection to the same TLS key then, and counts only if it is answered by the same
//! boot ([`chrysalis_evidence::exchange::Attested::renewed_by`]).

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use chrysalis_wire::UnixTime;
use tokio::sync::watch;

use crate::connection::Connection;
use crate::error::{ClientError, ErrorClass};
use crate::evidence::Appraised;
use crate::io::within;
use crate::own;
use crate::worker::{Policy, Shared};

/// Looks after `shared` until nobody else holds it. `jitter` is a random number: clients that began
/// together do not challenge together.
pub(crate) async fn keep(
    shared: Weak<Shared>,
    mut policy: watch::Receiver<Arc<Policy>>,
    jitter: u8,
) {
    loop {
        let Some(kept) = shared.upgrade() else { return };
        let pause = kept.pause();
        drop(kept);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            changed = policy.changed() => if changed.is_err() { return },
        }
        let Some(kept) = shared.upgrade() else { return };
        kept.look(&mut policy, jitter).await;
    }
}

/// When evidence is asked for again: between three and seven eighths of the interval, so that one
/// attempt may fail before what is there is too old.
pub(crate) fn early(interval: Duration, jitter: u8) -> Duration {
    let eighth = interval / 8;
    let spread = eighth.saturating_mul(u32::from(jitter)).saturating_mul(4) / 256;
    eighth.saturating_mul(3).saturating_add(spread)
}

impl Shared {
    /// How long nothing has to be looked at: a sixteenth of the shorter interval.
    fn pause(&self) -> Duration {
        let own = self.worker().bounds().reattest;
        let current = self.current();
        let theirs = current.verified.manifest().peers.as_ref();
        let theirs = theirs.map_or(own, |peers| Duration::from_secs(peers.reattest_seconds.into()));
        match own.min(theirs) / 16 {
            // Every request asks; there is nothing to keep.
            Duration::ZERO => LONGEST_PAUSE,
            pause => pause.clamp(SHORTEST_PAUSE, LONGEST_PAUSE),
        }
    }

    /// Judges first: what is denied ends, whether or not there is anybody to ask. A change of policy is
    /// not kept waiting by a worker that takes its time either.
    async fn look(&self, policy: &mut watch::Receiver<Arc<Policy>>, jitter: u8) {
        if !self.judge() {
            return;
        }
        let current = self.current();
        if !current.answering() {
            let (interval, now) = (self.worker().bounds().reattest, self.now());
            if current.due(interval, now).is_some() {
                // The next request asks for evidence first.
                self.close_idle();
            }
            return;
        }
        let asking = async {
            self.prove_again(&current).await;
            self.renew_in_time(&current, jitter).await;
        };
        tokio::pin!(asking);
        loop {
            tokio::select! {
                biased;
                changed = policy.changed() => if changed.is_err() || !self.judge() { return },
                () = &mut asking => return,
            }
        }
    }

    /// Asks a worker that is answering for evidence before what is there is too old. New evidence is
    /// judged by the policy as it is by then.
    async fn renew_in_time(&self, current: &Arc<Appraised>, jitter: u8) {
        let interval = self.worker().bounds().reattest;
        let Some(due) = current.due(early(interval, jitter), self.now()) else { return };
        match self.renew(current, Some(due)).await {
            Ok(_) => {}
            // Unreachable for a moment, and what is there is not too old yet.
            Err(error)
                if error.class() == ErrorClass::Unavailable
                    && current.due(interval, self.now()).is_none() => {}
            Err(error) => self.end(current, error),
        }
    }

    /// Whether the policy as it is now has nothing against the worker; ends what rests on it if it has.
    fn judge(&self) -> bool {
        let current = self.current();
        let refusal = self.worker().refusal(&current, self.now());
        let accepted = refusal.is_none();
        if let Some(refusal) = refusal {
            self.end(&current, ClientError::Appraisal(Box::new(refusal)));
        }
        accepted
    }

    fn now(&self) -> UnixTime {
        self.worker().clock().now().seconds()
    }

    /// Proves this side again, if the worker asks for that, so that its answers go on. What fails is
    /// tried again at the next look, or the worker ends them.
    async fn prove_again(&self, current: &Appraised) {
        let Some((own, peers)) = self.worker().identity().zip(current.verified.manifest().peers)
        else {
            return;
        };
        if !own::due(self.proved(), &peers, Instant::now()) {
            return;
        }
        let (worker, pin) = (self.worker(), current.verified.keyset().tls_spki);
        let bounds = worker.bounds();
        let proof = async {
            let opened = Connection::open(worker.address(), Some(pin), Some(own), bounds);
            let mut connection = opened.await?;
            own::prove(&mut connection, own, bounds).await?;
            Ok::<_, ClientError>(connection)
        };
        if let Ok(Ok(connection)) = within("the proof", bounds.attestation, proof).await {
            self.note_proof(connection.proved);
            self.put_idle(connection);
        }
    }
}

const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_is_asked_for_between_three_and_seven_eighths_of_its_interval() {
        let interval = Duration::from_secs(80);
        assert_eq!(early(interval, 0), Duration::from_secs(30));
        assert_eq!(early(interval, 128), Duration::from_secs(50));
        assert!(early(interval, u8::MAX) < Duration::from_secs(70));
        assert_eq!(early(Duration::ZERO, u8::MAX), Duration::ZERO);
    }
}
