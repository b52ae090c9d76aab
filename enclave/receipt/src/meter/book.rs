//! What a meter counts, channel by channel: the largest cap, what is owed, and what is promised to
//! requests that run. It is memory of an enclave and dies with it; what outlives it are the claims it
//! signed, in the hands of whoever pays and whoever is paid ([`MeterBook::resume`]).
//!
//! Offers and claims enter verified. Nothing enters that lowers an amount.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use chrysalis_wire::{Digest, UnixTime};

use crate::channel::{MeterState, Settlement, SignedCap, VerifiedCap};
use crate::error::ReceiptError;
use crate::key::MeterKey;
use crate::log::{Frontier, LogHead};
use crate::meter::claim::{Claim, VerifiedClaim};
use crate::meter::funding::{FundingNote, FundingPublicKey, SignedNote};
use crate::meter::offer::{Payee, StateRequest, VerifiedOffer, expect_payee};
use crate::meter::terms::ChannelTerms;

/// The channels of one meter key.
pub struct MeterBook {
    payee: Payee,
    channels: HashMap<Digest, Account>,
    /// Whose notes say what channels can pay; without one a cap is taken for coins.
    funding: Option<FundingPublicKey>,
    notes: HashMap<Digest, FundingNote>,
    /// Most requests of a channel that run, or were counted and not told.
    window: u32,
}

/// One channel.
struct Account {
    terms: ChannelTerms,
    cap: Option<(SignedCap, VerifiedCap)>,
    /// The highest claim of another meter, in which this one's own may be counted.
    base: Option<Claim>,
    /// Owed since the channel was opened, nanogram.
    owed: u128,
    /// Counted by this meter, nanogram.
    earned: u128,
    /// Promised to requests that run, nanogram.
    reserved: u128,
    units: u64,
    log: Frontier,
    /// Hash of the last settlement the payer said it has.
    acknowledged: Digest,
    issued: Option<Issued>,
    reported: u128,
    /// Requests that run.
    open: u32,
    /// Requests counted, the payee not told of, and how many of them the last claim is about.
    untold: u32,
    telling: u32,
}

/// A claim that was signed, and for what.
struct Issued {
    claim: Claim,
    acknowledged: Digest,
}

/// Nanogram set aside for one request. It is given back by [`MeterBook::charge`] or
/// [`MeterBook::release`], once: it cannot be copied.
#[derive(Debug)]
#[must_use = "what is reserved stays reserved until it is charged or released"]
pub struct Reservation {
    account: Digest,
    amount: u128,
}

impl Reservation {
    /// Account of the channel that pays.
    #[must_use]
    pub const fn account(&self) -> Digest {
        self.account
    }
}

/// What one request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    /// Amount of its receipt, nanogram.
    pub amount: u128,
    /// Tokens of prompt and completion.
    pub units: u64,
    /// Hash of its receipt, the next leaf of the log.
    pub receipt: Digest,
}

/// Why a request is not covered, in nanogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortfall {
    /// Owed since the channel was opened.
    pub owed: u128,
    /// Promised to other requests that run.
    pub reserved: u128,
    /// Most this request can cost.
    pub request: u128,
    /// The payer's largest cap.
    pub max_cum: u128,
}

impl Shortfall {
    /// Smallest cap that would do.
    #[must_use]
    pub const fn wanted(&self) -> u128 {
        self.owed.saturating_add(self.reserved).saturating_add(self.request)
    }

    /// How much the cap is too low.
    #[must_use]
    pub const fn missing(&self) -> u128 {
        self.wanted().saturating_sub(self.max_cum)
    }
}

impl MeterBook {
    /// An empty book.
    #[must_use]
    pub fn new(payee: Payee) -> Self {
        Self {
            payee,
            channels: HashMap::new(),
            funding: None,
            notes: HashMap::new(),
            window: u32::MAX,
        }
    }

    /// The same, serving a channel no further than the newest note under `key` covers.
    #[must_use]
    pub fn funded_by(self, key: FundingPublicKey) -> Self {
        Self { funding: Some(key), ..self }
    }

    /// The same, beginning no request of a channel while `window` of it run, or were counted and the payee
    /// not told of: what she loses if this meter ends without a word.
    #[must_use]
    pub fn telling_within(self, window: u32) -> Self {
        Self { window, ..self }
    }

    /// Who is paid.
    #[must_use]
    pub const fn payee(&self) -> &Payee {
        &self.payee
    }

    /// Sets aside `worst` nanogram for a request, if the larger of the offered and the known cap
    /// covers what is owed, what is promised and this, and a note that is good at `now` does.
    ///
    /// # Errors
    /// [`ReceiptError::Uncovered`], [`ReceiptError::Unfunded`] and [`ReceiptError::Unclaimed`] say what is
    /// missing; [`ReceiptError::Untold`] beyond the window, [`ReceiptError::ChannelsFull`] for a channel that is one
    /// too many.
    pub fn reserve(
        &mut self,
        offer: VerifiedOffer,
        worst: u128,
        now: UnixTime,
    ) -> Result<Reservation, ReceiptError> {
        let account = offer.channel().account;
        let VerifiedOffer { terms, signed, verified } = offer;
        let max_cum = verified.cap().max_cum;
        let known = self.channels.get(&account);
        let pays = known.is_some_and(Account::pays);
        let mut shortfall = Shortfall { owed: 0, reserved: 0, request: worst, max_cum };
        let mut claimed = 0;
        if let Some(channel) = known {
            (shortfall.owed, shortfall.reserved) = (channel.owed, channel.reserved);
            shortfall.max_cum = max_cum.max(channel.max_cum());
            claimed = channel.signed();
        }
        // A place among those who pay is taken only by a request that is served.
        let covered = (shortfall.missing() == 0).then_some(());
        let served = covered
            .ok_or(ReceiptError::Uncovered(shortfall))
            .and_then(|()| self.funded(&account, shortfall.wanted(), claimed, now))
            .and_then(|()| if pays { Ok(()) } else { self.make_room() });
        if pays || served.is_ok() {
            let channel = self.channels.entry(account).or_insert_with(|| Account::new(terms));
            if max_cum > channel.max_cum() {
                channel.cap = Some((signed, verified));
            }
        }
        served?;
        if let Some(channel) = self.channels.get_mut(&account) {
            let untold = channel.untold;
            if channel.open.saturating_add(untold) >= self.window {
                return Err(ReceiptError::Untold { untold });
            }
            channel.open = channel.open.saturating_add(1);
            channel.reserved = channel.reserved.saturating_add(worst);
        }
        Ok(Reservation { account, amount: worst })
    }

    /// Gives back the part of a reservation above `worst`, once more is known about its request.
    pub fn narrow(&mut self, reservation: &mut Reservation, worst: u128) {
        let Some(surplus) = reservation.amount.checked_sub(worst) else { return };
        if let Some(channel) = self.channels.get_mut(&reservation.account) {
            channel.reserved = channel.reserved.saturating_sub(surplus);
            reservation.amount = worst;
        }
    }

    /// Counts what a request came to and gives back the rest of its reservation.
    ///
    /// # Errors
    /// [`ReceiptError::OverReservation`] for more than was reserved: then nothing is counted, and the
    /// payee bears it. [`ReceiptError::Log`] for a full log.
    pub fn charge(&mut self, reservation: Reservation, charge: Charge) -> Result<(), ReceiptError> {
        let Reservation { account, amount: reserved } = reservation;
        let channel = self.channels.get_mut(&account).ok_or(ReceiptError::NoSuchChannel)?;
        channel.reserved = channel.reserved.saturating_sub(reserved);
        channel.open = channel.open.saturating_sub(1);
        let Charge { amount, units, receipt } = charge;
        if amount > reserved {
            return Err(ReceiptError::OverReservation { reserved, got: amount });
        }
        channel.log.append(&receipt)?;
        if amount > 0 {
            channel.untold = channel.untold.saturating_add(1);
        }
        // Within the cap, which has 120 bits.
        channel.earned = channel.earned.saturating_add(amount);
        channel.owed = channel.owed.saturating_add(amount);
        channel.units = channel.units.saturating_add(units);
        Ok(())
    }

    /// Gives a reservation back whole.
    pub fn release(&mut self, reservation: Reservation) {
        if let Some(channel) = self.channels.get_mut(&reservation.account) {
            channel.reserved = channel.reserved.saturating_sub(reservation.amount);
            channel.open = channel.open.saturating_sub(1);
        }
    }

    /// Goes on from the claim of another meter: what was owed stays owed. Anybody may hand one in,
    /// before or after the first request: the payer signed for it, whoever the meter is that it allowed
    /// to count, and a lower one than is known changes nothing.
    ///
    /// The other meter may have gone on from a claim of this one, and nobody can tell. So what this one
    /// signed for is taken to be inside, and what it counted and never signed cannot be.
    ///
    /// # Errors
    /// [`ReceiptError::OtherPayee`], [`ReceiptError::OtherWorker`], [`ReceiptError::OtherChannel`] for
    /// another network, [`ReceiptError::ClaimsFull`].
    pub fn resume(&mut self, claim: &VerifiedClaim) -> Result<(), ReceiptError> {
        let claim = claim.claim();
        let expected = expect_payee(claim.terms(), &self.payee)?;
        if expected != claim.channel() {
            return Err(ReceiptError::OtherChannel { expected, got: claim.channel() });
        }
        // This meter's own claims say nothing that it does not know.
        if claim.cap().cap().meter_key == self.payee.meter_key {
            return Ok(());
        }
        // Claims cost nothing: whoever makes some in masses fills this place, and not the other.
        if !self.channels.contains_key(&expected.account)
            && self.channels.len().saturating_sub(self.paying()) >= MAX_CLAIMED
        {
            return Err(ReceiptError::ClaimsFull);
        }
        let channel = match self.channels.entry(expected.account) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(Account::new(claim.terms().clone())),
        };
        if let Some(more) = claim.cum_amount().checked_sub(channel.signed()).filter(|m| *m > 0) {
            channel.owed = channel.owed.saturating_add(more);
            channel.base = Some(claim.clone());
        }
        Ok(())
    }

    /// Takes what the owner saw of a channel. It may say less than the one before.
    ///
    /// # Errors
    /// [`ReceiptError::FundingKey`] where nobody vouches; what a note is refused for that is another
    /// owner's, meter's or network's or not good at `now`; [`ReceiptError::NoteOld`],
    /// [`ReceiptError::ChannelsFull`].
    pub fn fund(&mut self, note: SignedNote, now: UnixTime) -> Result<(), ReceiptError> {
        let key = self.funding.as_ref().ok_or(ReceiptError::FundingKey)?;
        let note = note.verify(key, &self.payee, now)?;
        let account = note.channel.account;
        if let Some(known) = self.notes.get(&account)
            && note.seen_at <= known.seen_at
            && note != *known
        {
            return Err(ReceiptError::NoteOld { known: known.seen_at, got: note.seen_at });
        }
        if self.notes.len() >= MAX_CHANNELS {
            // Anybody can have a channel looked at that is not there.
            self.notes.retain(|_, note| note.covers > 0 && note.holds_at(now));
        }
        if self.notes.len() >= MAX_CHANNELS && !self.notes.contains_key(&account) {
            return Err(ReceiptError::ChannelsFull);
        }
        self.notes.insert(account, note);
        Ok(())
    }

    /// Whether the last note of a channel saw coins, be it good still or over.
    #[must_use]
    pub fn saw_coins(&self, account: &Digest) -> bool {
        self.notes.get(account).is_some_and(|note| note.covers > 0)
    }

    /// Whether coins are seen to stand behind `needed` nanogram of a channel with claims for `claimed`.
    fn funded(
        &self,
        account: &Digest,
        needed: u128,
        claimed: u128,
        now: UnixTime,
    ) -> Result<(), ReceiptError> {
        if self.funding.is_none() {
            return Ok(());
        }
        let note = self.notes.get(account).filter(|note| note.holds_at(now));
        // Whoever paid by a claim has it; that she keeps it to herself must not be worth what she paid.
        if let Some(paid) = note.map(|note| note.paid).filter(|paid| *paid > claimed) {
            return Err(ReceiptError::Unclaimed { paid, claimed });
        }
        match note.map(|note| note.covers) {
            Some(covers) if needed <= covers => Ok(()),
            covers => Err(ReceiptError::Unfunded { needed, covers }),
        }
    }

    /// Signs where a channel stands, for its payer, and notes which claim the payer has. Before its first
    /// request that is the claim of another meter from which this one goes on.
    ///
    /// # Errors
    /// [`ReceiptError::NoSuchChannel`], [`ReceiptError::SpendSignature`].
    pub fn answer(
        &mut self,
        request: &StateRequest,
        key: &MeterKey,
        now: UnixTime,
    ) -> Result<Claim, ReceiptError> {
        let account = request.channel().account;
        let channel = self.channels.get_mut(&account).ok_or(ReceiptError::NoSuchChannel)?;
        let acknowledged = request.verify(&channel.terms, &self.payee)?;
        let known = channel.issued.as_ref().map(|issued| issued.claim.hash());
        if known == Some(acknowledged) {
            channel.acknowledged = acknowledged;
        }
        match (&channel.cap, &channel.base) {
            (None, Some(base)) => Ok(base.clone()),
            _ => channel.claim(key, now),
        }
    }

    /// Claims that say more than when this was called last, for the payee. What no cap covers yet comes
    /// with one that does.
    pub fn grown(&mut self, key: &MeterKey, now: UnixTime) -> Vec<Claim> {
        let mut claims = Vec::new();
        for channel in self.channels.values_mut() {
            if channel.earned == 0 || channel.claimable() <= channel.reported {
                continue;
            }
            if let Ok(claim) = channel.claim(key, now) {
                channel.reported = claim.cum_amount();
                channel.telling = channel.untold;
                claims.push(claim);
            }
        }
        claims
    }

    /// Notes that the payee was told of claims that [`MeterBook::grown`] gave.
    pub fn told(&mut self, claims: &[Claim]) {
        for claim in claims {
            if let Some(channel) = self.channels.get_mut(&claim.channel().account) {
                channel.untold = channel.untold.saturating_sub(channel.telling);
                channel.telling = 0;
            }
        }
    }

    /// Requests of a channel that were counted and the payee not told of.
    #[must_use]
    pub fn untold(&self, account: &Digest) -> u32 {
        self.channels.get(account).map_or(0, |channel| channel.untold)
    }

    /// The highest claim of a channel that was handed in or signed: a payer who lost hers learns from
    /// it what she owes.
    #[must_use]
    pub fn latest(&self, account: &Digest) -> Option<&Claim> {
        let channel = self.channels.get(account)?;
        let own = channel.issued.as_ref().map(|issued| &issued.claim);
        own.into_iter().chain(&channel.base).max_by_key(|claim| claim.cum_amount())
    }

    /// Owed and promised on a channel, nanogram; zeros for one that is not known.
    #[must_use]
    pub fn standing(&self, account: &Digest) -> (u128, u128) {
        self.channels.get(account).map_or((0, 0), |channel| (channel.owed, channel.reserved))
    }

    /// Room for one more channel that pays; the ones nothing depends on give theirs up.
    fn make_room(&mut self) -> Result<(), ReceiptError> {
        if self.paying() >= MAX_CHANNELS {
            self.channels.retain(|_, channel| channel.owed > 0 || channel.reserved > 0);
        }
        if self.paying() >= MAX_CHANNELS {
            return Err(ReceiptError::ChannelsFull);
        }
        Ok(())
    }

    fn paying(&self) -> usize {
        self.channels.values().filter(|channel| channel.pays()).count()
    }
}

impl Account {
    fn new(terms: ChannelTerms) -> Self {
        Self {
            terms,
            cap: None,
            base: None,
            owed: 0,
            earned: 0,
            reserved: 0,
            units: 0,
            log: Frontier::new(),
            acknowledged: Digest([0; 32]),
            issued: None,
            reported: 0,
            open: 0,
            untold: 0,
            telling: 0,
        }
    }

    /// Whether a request was served for it. Else nothing but a claim of another meter is known of it.
    const fn pays(&self) -> bool {
        self.cap.is_some()
    }

    fn max_cum(&self) -> u128 {
        self.cap.as_ref().map_or(0, |(_, verified)| verified.cap().max_cum)
    }

    /// The most of what is owed that a claim of another meter may have gone on from.
    fn signed(&self) -> u128 {
        let base = self.base.as_ref().map_or(0, Claim::cum_amount);
        self.issued.as_ref().map_or(0, |issued| issued.claim.cum_amount()).max(base)
    }

    /// What is owed as far as the payer signed for it: the contract refuses a receipt over its cap.
    /// A claim handed in later may make more owed than that. It must not hold back what is covered, for
    /// a payer can make one of any amount with a meter of its own.
    fn claimable(&self) -> u128 {
        self.owed.min(self.max_cum())
    }

    /// The cumulative receipt under the largest cap; the one signed before, if it still says it all.
    fn claim(&mut self, key: &MeterKey, now: UnixTime) -> Result<Claim, ReceiptError> {
        let cum_amount = self.claimable();
        let LogHead { size: count, root: log_root } = self.log.head();
        let (cap, _) = self.cap.as_ref().ok_or(ReceiptError::NoSuchChannel)?;
        if let Some(Issued { claim, acknowledged }) = &self.issued
            && claim.cum_amount() == cum_amount
            && claim.settlement().settlement().state.count == count
            && claim.cap() == cap
            && *acknowledged == self.acknowledged
        {
            return Ok(claim.clone());
        }
        let channel = cap.cap().channel;
        let prev = match &self.base {
            Some(base) if self.acknowledged == Digest([0; 32]) => base.hash(),
            _ => self.acknowledged,
        };
        let state = MeterState {
            blind: key.state_blind(&channel, count),
            count,
            cum_units: self.units,
            issued_at: now,
            prev,
            log_root,
        };
        let settlement = key.sign_settlement(Settlement { channel, cum_amount, state })?;
        let claim = Claim::new(self.terms.clone(), cap.clone(), settlement)?;
        let acknowledged = self.acknowledged;
        self.issued = Some(Issued { claim: claim.clone(), acknowledged });
        Ok(claim)
    }
}

/// Most channels that pay one meter key; with the hashes of a log each, a few megabytes.
pub const MAX_CHANNELS: usize = 4096;
/// Most channels of which nothing is known but a claim of another meter.
pub const MAX_CLAIMED: usize = 4096;
