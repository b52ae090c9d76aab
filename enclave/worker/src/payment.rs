//! Who pays for a request. Offers, questions and claims come from the network; the arithmetic and
//! every signature are `chrysalis-receipt`'s, the lock and the HTTP are here.
//!
//! A worker whose manifest has no `[payment]` serves for nothing and counts nothing.

use std::collections::BTreeMap;
use std::mem::take;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrysalis_receipt::{
    ChannelCode, ChannelId, ChannelTerms, Charge, Claim, DEFAULT_CLOSE_DELAY, DEFAULT_MIN_SETTLE,
    FundingPublicKey, MeterBook, MeterKey, MeterPublicKey, Offer, Payee, PaymentRequired,
    ReceiptError, Reservation, SignedNote, SignedReceipt, StateRequest, VerifiedOffer, bound,
    worst_case,
};
use chrysalis_wire::{Digest, UnixTime, WorkerManifest};
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;

use crate::error::WorkerError;
use crate::http::Refused;
use crate::limits::{CLAIM_BATCH, MAX_FUNDING_WANTED};

/// The meter of a worker that is paid.
pub struct Payments {
    book: Mutex<MeterBook>,
    payee: Payee,
    code: ChannelCode,
    /// Channels that nobody vouches for and somebody wants served.
    wanted: Mutex<Wanted>,
    wants: Notify,
    /// Requests of a channel after which its claim is told.
    batch: u32,
    due: Notify,
}

impl Payments {
    /// The meter that the manifest asks for, if it does, of a worker with so many `places` for requests.
    ///
    /// # Errors
    /// [`WorkerError::Payment`] for a contract this build does not know, or a meter or funding key that
    /// is weak.
    pub fn new(
        manifest: &WorkerManifest,
        places: u32,
        meter: &MeterKey,
    ) -> Result<Option<Arc<Self>>, WorkerError> {
        let Some(payment) = &manifest.payment else { return Ok(None) };
        let code = ChannelCode::known(payment.channel_code).map_err(WorkerError::Payment)?;
        let meter_key = MeterPublicKey::parse(&meter.public()).map_err(WorkerError::Payment)?;
        let payee = Payee {
            network: manifest.network,
            account: payment.payee,
            worker: payment.worker,
            meter_key,
        };
        // What a payee can lose to a meter that ends: the requests in progress, and a batch before them. One
        // payer may have all places, so those that wait count as well.
        let batch = manifest.limits.concurrent_requests.max(CLAIM_BATCH);
        let mut book = MeterBook::new(payee).telling_within(places.saturating_add(batch));
        if let Some(key) = &payment.funding_key {
            let key = FundingPublicKey::parse(&key.0).map_err(WorkerError::Payment)?;
            book = book.funded_by(key);
        }
        let (book, wanted) = (Mutex::new(book), Mutex::default());
        let (wants, due) = (Notify::new(), Notify::new());
        Ok(Some(Arc::new(Self { book, payee, code, wanted, wants, batch, due })))
    }

    /// Reads and verifies what a request carries in [`PAYMENT_HEADER`]: everything that needs no
    /// look into the request.
    ///
    /// # Errors
    /// [`Refused::Payment`], status 402.
    pub fn offer(&self, header: Option<&[u8]>, sealed: &[u8]) -> Result<VerifiedOffer, Refused> {
        let header = header.ok_or_else(|| self.refused("E-PAYMENT-MISSING", &MISSING))?;
        let bytes = hex::decode(header)
            .map_err(|_| self.refused("E-PAYMENT-MESSAGE", &"the offer is not hexadecimal"))?;
        let request = Digest(Sha256::digest(sealed).into());
        Offer::decode(&bytes)
            .and_then(|offer| offer.verify(&request, &self.payee))
            .and_then(|offer| match offer.terms().min_settle() {
                // The contract keeps what is below it for the payer.
                more if more > DEFAULT_MIN_SETTLE => Err(ReceiptError::Terms {
                    field: "the smallest settlement (here at most 0.05 GRAM)",
                }),
                // For the last of it the owner needs her wallet, and time.
                _ if offer.terms().close_delay() < DEFAULT_CLOSE_DELAY => {
                    Err(ReceiptError::Terms { field: "the closing delay (here at least a day)" })
                }
                _ => Ok(offer),
            })
            .map_err(|error| self.because(&error))
    }

    /// Sets aside the most that a request for `completion` tokens can cost.
    ///
    /// # Errors
    /// [`Refused::Payment`], status 402, with what is missing and the claim that proves it;
    /// [`Refused::Busy`] while the owner has not been told of the requests before.
    pub fn reserve(
        self: &Arc<Self>,
        manifest: &WorkerManifest,
        offer: VerifiedOffer,
        completion: u32,
        now: UnixTime,
    ) -> Result<Held, Refused> {
        let account = offer.channel().account;
        let terms = offer.terms().clone();
        let worst = worst_case(&manifest.prices, &manifest.limits, completion);
        let mut book = self.book();
        match book.reserve(offer, worst, now) {
            Ok(reservation) => {
                Ok(Held { payments: Arc::clone(self), reservation: Some(reservation) })
            }
            Err(ReceiptError::Untold { .. }) => {
                self.due.notify_one();
                Err(Refused::Busy)
            }
            Err(error) => {
                let mut required = self.required();
                if let ReceiptError::Uncovered(shortfall) = &error {
                    required.shortfall = Some((*shortfall).into());
                }
                if let ReceiptError::Unfunded { .. } = &error {
                    self.want(terms, book.saw_coins(&account));
                }
                // A payer that lost its ledger learns from its own signature what it owes.
                if let Some(claim) = book.latest(&account) {
                    required = required.with_claim(claim);
                }
                Err(payment_refused(error.code(), &error, required))
            }
        }
    }

    /// Where a channel stands, for its payer.
    ///
    /// # Errors
    /// [`Refused::Payment`] if nothing was counted on it or the question is not its payer's.
    pub fn state(&self, body: &[u8], key: &MeterKey, now: UnixTime) -> Result<Claim, Refused> {
        StateRequest::decode(body)
            .and_then(|request| self.book().answer(&request, key, now))
            .map_err(|error| self.because(&error))
    }

    /// Goes on from a claim of an earlier boot.
    ///
    /// # Errors
    /// [`Refused::Payment`] for one that does not verify or pays somebody else.
    pub fn resume(&self, body: &[u8]) -> Result<(), Refused> {
        Claim::decode(body)
            .and_then(Claim::verify)
            .and_then(|claim| self.book().resume(&claim))
            .map_err(|error| self.because(&error))
    }

    /// Takes what the owner saw on the chain.
    ///
    /// # Errors
    /// [`Refused::Payment`] for a note that is not good here and now.
    pub fn fund(&self, body: &[u8], now: UnixTime) -> Result<(), Refused> {
        SignedNote::decode(body)
            .and_then(|note| self.book().fund(note, now))
            .map_err(|error| self.because(&error))
    }

    /// Waits until somebody wants a channel served that nobody vouches for, and says which.
    pub async fn wanted(&self) -> Vec<ChannelTerms> {
        self.wants.notified().await;
        // Pushed to and taken in one step each.
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        take(&mut wanted.0).into_values().collect()
    }

    fn want(&self, terms: ChannelTerms, seen: bool) {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.add(terms, seen, crate::boot::entropy());
        self.wants.notify_one();
    }

    /// Claims that grew since this was called last, for the owner.
    pub fn grown(&self, key: &MeterKey, now: UnixTime) -> Vec<Claim> {
        self.book().grown(key, now)
    }

    /// Notes that the owner was told of claims.
    pub fn told(&self, claims: &[Claim]) {
        self.book().told(claims);
    }

    /// Waits until a claim is due before its time.
    pub async fn due(&self) {
        self.due.notified().await;
    }

    /// Owed and promised on a channel, nanogram.
    #[must_use]
    pub fn standing(&self, channel: &ChannelId) -> (u128, u128) {
        self.book().standing(&channel.account)
    }

    fn because(&self, error: &ReceiptError) -> Refused {
        self.refused(error.code(), error)
    }

    fn refused(&self, code: &'static str, message: &dyn std::fmt::Display) -> Refused {
        payment_refused(code, message, self.required())
    }

    fn required(&self) -> PaymentRequired {
        let Payee { network, account, meter_key, .. } = self.payee;
        PaymentRequired::new(network, account, self.code.hash(), Digest(meter_key.to_bytes()))
    }

    fn book(&self) -> MutexGuard<'_, MeterBook> {
        // Poisoned in builds that unwind only: a panic ends a release worker (`profile.release`), and its
        // payers resume from their claims.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Channels that the owner is told of next, each in one place: those where she saw coins before the others, which
/// anybody can make up, and these in the order of their lots. Whoever asks has as good a chance of a place as
/// everybody else, however many come and when. Neither kind keeps the other out: the places of both are
/// half of all at least, once there is no place left.
#[derive(Default)]
struct Wanted(BTreeMap<(bool, u64), ChannelTerms>);

impl Wanted {
    fn add(&mut self, terms: ChannelTerms, seen: bool, lot: u64) {
        self.0.retain(|_, known| *known != terms);
        self.0.insert((!seen, lot), terms);
        // The one too many asks again: its payer is told to.
        if self.0.len() > MAX_FUNDING_WANTED {
            let with_coins = self.0.range(..(true, 0));
            let surplus = with_coins.clone().count() > MAX_FUNDING_WANTED / 2;
            let mut of = if surplus { with_coins } else { self.0.range(..) };
            if let Some(last) = of.next_back().map(|(place, _)| *place) {
                self.0.remove(&last);
            }
        }
    }
}

/// What is set aside for one request. Dropped without a charge, it is given back whole.
pub struct Held {
    payments: Arc<Payments>,
    reservation: Option<Reservation>,
}

impl Held {
    /// Account of the channel that pays.
    pub fn account(&self) -> Option<Digest> {
        self.reservation.as_ref().map(Reservation::account)
    }

    /// Gives back what the prompt's length rules out.
    pub fn narrow(&mut self, manifest: &WorkerManifest, prompt: u32, completion: u32) {
        if let Some(reservation) = &mut self.reservation {
            let worst = bound(&manifest.prices, prompt, completion);
            self.payments.book().narrow(reservation, worst);
        }
    }

    /// Counts what the receipt says the request came to.
    ///
    /// # Errors
    /// [`ReceiptError::OverReservation`] if that is more than was set aside; it is not counted then.
    pub fn charge(mut self, receipt: &SignedReceipt) -> Result<(), ReceiptError> {
        let Some(reservation) = self.reservation.take() else { return Ok(()) };
        let usage = &receipt.receipt().usage;
        let charge = Charge {
            amount: receipt.receipt().amount,
            units: u64::from(usage.prompt).saturating_add(usage.completion.into()),
            receipt: receipt.hash(),
        };
        let account = reservation.account();
        let mut book = self.payments.book();
        book.charge(reservation, charge)?;
        if book.untold(&account) >= self.payments.batch {
            self.payments.due.notify_one();
        }
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(reservation) = self.reservation.take() {
            self.payments.book().release(reservation);
        }
    }
}

fn payment_refused(
    code: &'static str,
    message: &dyn std::fmt::Display,
    required: PaymentRequired,
) -> Refused {
    Refused::Payment { code, message: message.to_string(), required: Box::new(required) }
}

/// Header field of a sealed request that carries an [`Offer`], in hexadecimal.
pub const PAYMENT_HEADER: &str = "chrysalis-payment";

const MISSING: &str = "this worker is paid for its requests, and this one carries no offer";

#[cfg(test)]
mod tests {
    use chrysalis_receipt::{PayerKey, PayerPublicKey, TermsParts};
    use zeroize::Zeroizing;

    use super::*;

    fn terms(salt: u64) -> ChannelTerms {
        let key = PayerKey::from_seed(&Zeroizing::new([0x22; 32])).public();
        ChannelTerms::new(TermsParts {
            payer_key: PayerPublicKey::parse(&key).unwrap(),
            payer: Digest([8; 32]),
            payee: Digest([7; 32]),
            close_delay: DEFAULT_CLOSE_DELAY,
            min_settle: DEFAULT_MIN_SETTLE,
            salt,
        })
        .unwrap()
    }

    fn salts(wanted: &Wanted) -> Vec<u64> {
        wanted.0.values().map(ChannelTerms::salt).collect()
    }

    #[test]
    fn a_channel_waits_in_one_place_and_those_where_coins_were_seen_go_first() {
        let mut wanted = Wanted::default();
        for (salt, seen, lot) in [(1, false, 1), (2, true, 9), (1, false, 5), (3, false, 3)] {
            wanted.add(terms(salt), seen, lot);
        }
        assert_eq!(salts(&wanted), [2, 3, 1], "whoever asks again has the last lot alone");
    }

    #[test]
    fn strangers_who_fill_all_places_keep_nobody_out_who_draws_a_better_lot_or_has_coins() {
        let mut wanted = Wanted::default();
        for salt in 0..1_000 {
            wanted.add(terms(salt), false, 1_000 + salt);
        }
        let most = u64::try_from(MAX_FUNDING_WANTED).unwrap();
        assert!(salts(&wanted).into_iter().eq(0..most), "the best lots, whenever they came");
        wanted.add(terms(2_000), false, 5_000);
        assert!(!salts(&wanted).contains(&2_000));
        wanted.add(terms(2_000), false, 7);
        wanted.add(terms(3_000), true, u64::MAX);
        assert_eq!(salts(&wanted)[..3], [3_000, 2_000, 0]);
        assert_eq!(wanted.0.len(), MAX_FUNDING_WANTED);
    }

    #[test]
    fn channels_with_coins_leave_half_of_the_places_to_new_payers_who_ask() {
        let mut wanted = Wanted::default();
        let most = u64::try_from(MAX_FUNDING_WANTED).unwrap();
        for salt in 0..2 * most {
            wanted.add(terms(salt), true, salt);
        }
        assert!(salts(&wanted).into_iter().eq(0..most), "nobody else asks");
        for salt in 0..most {
            wanted.add(terms(1_000 + salt), false, salt);
        }
        let both: Vec<u64> = (0..most / 2).chain(1_000..1_000 + most / 2).collect();
        assert_eq!(salts(&wanted), both);
    }
}
