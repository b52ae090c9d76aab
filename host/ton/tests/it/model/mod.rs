//! A model of a payment channel, explored exhaustively at small bounds: payer, meter, its owner's host
//! and the chain, with crashes, restarts under new keys, disks that were rolled back, and messages that
//! are withheld, reordered and replayed by whichever side is hostile.
//!
//! Whether a meter takes a cap and has room under it is decided by the real [`SignedCap::verify`],
//! [`Offer::verify`] and [`VerifiedCap::room`]; the contract is one that a TVM agrees with action by action ([`contract`]).
//! Each rule can be taken away, and the explorer must then find the attack that it is there for.
//!
//! Amounts are units of the smallest settlement; every request costs one.

mod attacks;
mod contract;

use std::collections::{HashMap, VecDeque};
use std::sync::LazyLock;

use chrysalis_receipt::{
    ChannelId, ChannelTerms, MeterKey, MeterPublicKey, Offer, Payee, PayerKey, PayerPublicKey,
    SignedCap, TermsParts, VerifiedCap, channel_salt,
};
use chrysalis_ton::{DEFAULT_CLOSE_DELAY, DEFAULT_MIN_SETTLE};
use chrysalis_wire::{Digest, NetworkId};
use zeroize::Zeroizing;

use contract::{CONTRACT, Contract, ContractRules, Pair, Phase, Signed};

/// Who is hostile. The chain never is; the network is whoever of the two is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hostile {
    /// The payer signs any cap at any time and closes when it likes.
    Payer,
    /// Such a payer of a payee who runs two workers at once.
    PayerOfTwo,
    /// The host of the meter: delivers, withholds and replays; restarts the enclave as it likes.
    Host,
    /// Such a host that runs two meters of one payee at once, and routes to either.
    HostOfTwo,
    /// A host that has stolen the first meter key out of its enclave.
    HostWithMeterKey,
}

impl Hostile {
    /// Whether the payee and her hosts are honest.
    const fn pays(self) -> bool {
        matches!(self, Self::Payer | Self::PayerOfTwo)
    }
}

/// Rules of the parties, each of which can be taken away.
#[derive(Clone, Copy, Debug)]
struct Rules {
    contract: ContractRules,
    /// A meter takes only caps that name its key.
    own_key: bool,
    /// A channel pays for the one worker of its payee that its salt names.
    one_worker: bool,
    /// A lower cap never replaces a higher one.
    highest_cap: bool,
    /// Open requests count as owed.
    reservations: bool,
    /// A cap is worth what the owner, who looks at the chain, vouches for: nothing until she has looked,
    /// and nothing after a close request she has seen.
    covered: bool,
    /// What she saw counts for less time than closing takes.
    notes_end: bool,
    /// Nothing is served while the owner sees more paid than the meter knows claims of.
    paid_seen: bool,
    /// After a restart the sum goes on from the last pair.
    base: bool,
    /// Of that pair both signatures are verified.
    base_signed: bool,
    /// What a meter signed for is inside a pair that it is handed later.
    once: bool,
    /// No further request before the last receipts are on the owner's disk.
    stored_first: bool,
}

const ALL: Rules = Rules {
    contract: CONTRACT,
    own_key: true,
    one_worker: true,
    highest_cap: true,
    reservations: true,
    covered: true,
    notes_end: true,
    paid_seen: true,
    base: true,
    base_signed: true,
    once: true,
    stored_first: true,
};

/// How somebody was wronged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attack {
    /// More was paid than the payer ever allowed.
    AboveCap,
    /// More was paid than was served.
    Unearned,
    /// An honest payee lost more than a window for each crash and one for the end.
    Lost,
    /// The payer cannot get the rest back.
    Kept,
}

/// Bounds: units deposited, restarts, requests at once. A window is as many units.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    deposit: u8,
    restarts: u8,
    window: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    contract: Contract,
    /// Everything that was ever paid to the payee, put in by the payer and given back.
    paid: u8,
    put_in: u8,
    back: u8,
    /// What an honest payer has acknowledged, as its disk says, and whether that was rolled back.
    acknowledged: u8,
    rolled_back: bool,
    /// Caps and receipts that exist, by epoch: a bit for each amount.
    caps: [u16; 3],
    receipts: [u16; 3],
    meter: Meter,
    /// Another that lives, and that nobody is routed to now.
    aside: Option<Meter>,
    /// The pair on the owner's disk.
    stored: Option<Pair>,
    /// Requests ever served to their end.
    served: u8,
}

/// A meter: one start of the enclave. A restart forgets all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Meter {
    epoch: u8,
    cap: Option<Signed>,
    /// What the owner has vouched for.
    note: u8,
    /// What she saw paid.
    paid: u8,
    /// Owed, by what it knows.
    earned: u8,
    /// Of that what it counted itself, what it was handed, and the most that it signed or was handed.
    own: u8,
    base: u8,
    signed: u8,
    open: u8,
    unstored: u8,
}

impl Meter {
    const fn begin(epoch: u8, base: u8) -> Self {
        Self {
            epoch,
            cap: None,
            note: 0,
            paid: 0,
            earned: base,
            own: 0,
            base,
            signed: base,
            open: 0,
            unstored: 0,
        }
    }

    /// Takes the sum of another meter.
    fn resume(&mut self, rules: &Rules, units: u8) {
        if rules.once {
            self.earned += units.saturating_sub(self.signed);
        } else if units > self.base {
            self.earned = units + self.own;
        }
        self.base = self.base.max(units);
        self.signed = self.signed.max(units);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    SignCap {
        epoch: u8,
        units: u8,
    },
    Deliver {
        cap: Signed,
    },
    /// The owner looks at the chain and tells the meter.
    Vouch,
    Begin,
    End,
    Store,
    Restart {
        base: u8,
    },
    /// Starts a second meter beside this one.
    Another {
        base: u8,
    },
    /// Routes to the other meter, which is handed a pair.
    Switch {
        base: u8,
    },
    Acknowledge {
        units: u8,
    },
    RollBack {
        units: u8,
    },
    Settle {
        pair: Pair,
    },
    StartClose,
    Elapse,
    FinishClose,
    DepositAgain,
}

/// What the real code says about every cap there can be: taken by which meter, and its content.
struct Real {
    taken: HashMap<(Signed, u8), VerifiedCap>,
    /// Whether the payee's worker of this number serves the channel.
    serves: [bool; 2],
}

const PAYEE: Digest = Digest([7; 32]);
/// Most units that anything says.
const MOST: u8 = 9;

static REAL: LazyLock<Real> = LazyLock::new(|| {
    let payer = PayerKey::from_seed(&Zeroizing::new([0x22; 32]));
    let payer_key = PayerPublicKey::parse(&payer.public()).unwrap();
    let meters = [0x11, 0x12, 0x13].map(|seed| {
        let key = MeterKey::from_seed(&Zeroizing::new([seed; 32])).public();
        MeterPublicKey::parse(&key).unwrap()
    });
    let salt = channel_salt(0, 1);
    let (payee, close_delay, min_settle) = (PAYEE, DEFAULT_CLOSE_DELAY, DEFAULT_MIN_SETTLE);
    let payer_account = Digest([8; 32]);
    let parts =
        TermsParts { payer_key, payer: payer_account, payee, close_delay, min_settle, salt };
    let terms = ChannelTerms::new(parts).unwrap();
    let channel: ChannelId = terms.id(NetworkId::MAINNET).unwrap();
    let mut taken = HashMap::new();
    for (named, units) in (0..3u8).flat_map(|epoch| (0..=MOST).map(move |units| (epoch, units))) {
        let cap: SignedCap = payer.sign(channel, meters[usize::from(named)], units.into()).unwrap();
        for by in 0..3u8 {
            if let Ok(verified) = cap.verify(&payer_key, channel, &meters[usize::from(by)]) {
                taken.insert((Signed::new(named, units), by), verified);
            }
        }
    }
    let request = Digest([0xee; 32]);
    let serves = [0, 1].map(|worker| {
        let payee = Payee {
            network: channel.network,
            account: PAYEE,
            worker,
            meter_key: meters[usize::from(worker == 1)],
        };
        let cap = payer.sign(channel, payee.meter_key, 1).unwrap();
        let offer = Offer::sign(&payer, terms.clone(), cap, &request).unwrap();
        offer.verify(&request, &payee).is_ok()
    });
    Real { taken, serves }
});

struct Model {
    hostile: Hostile,
    rules: Rules,
    bounds: Bounds,
}

impl Model {
    fn start(&self) -> State {
        let deposit = self.bounds.deposit;
        State {
            contract: Contract::open(deposit),
            paid: 0,
            put_in: deposit,
            back: 0,
            acknowledged: 0,
            rolled_back: false,
            caps: [0; 3],
            receipts: [0; 3],
            meter: Meter::begin(0, 0),
            aside: None,
            stored: None,
            served: 0,
        }
    }

    /// The cap as the meter reads it, if it takes it.
    fn takes(&self, meter: &Meter, cap: Signed) -> Option<&'static VerifiedCap> {
        // A restart keeps a worker's number; a second one that lives beside the first has another.
        let worker = usize::from(self.hostile == Hostile::PayerOfTwo && meter.epoch > 0);
        if self.rules.one_worker && !REAL.serves[worker] {
            return None;
        }
        let by = if self.rules.own_key { meter.epoch } else { cap.epoch };
        REAL.taken.get(&(cap, by))
    }

    /// Whether another request fits under the cap in hand.
    fn has_room(&self, meter: &Meter) -> bool {
        let Some(cap) = meter.cap.and_then(|cap| self.takes(meter, cap)) else { return false };
        let reserved: u128 = if self.rules.reservations { meter.open.into() } else { 0 };
        let in_flight = meter.open + if self.rules.stored_first { meter.unstored } else { 0 };
        // A host that is hostile vouches for whatever it likes.
        let vouched = !self.hostile.pays()
            || ((!self.rules.covered || u128::from(meter.earned) + reserved < meter.note.into())
                && (!self.rules.paid_seen || meter.paid <= meter.signed));
        in_flight < self.bounds.window
            && vouched
            && cap.room(meter.earned.into(), reserved).is_ok_and(|room| room >= 1)
    }

    fn actions(&self, s: &State) -> Vec<Action> {
        let mut actions = vec![Action::StartClose, Action::FinishClose, Action::Elapse];
        // The meter does not see the chain.
        if self.has_room(&s.meter) {
            actions.push(Action::Begin);
        }
        if s.meter.open > 0 {
            actions.push(Action::End);
        }
        if self.hostile.pays() {
            self.of_a_hostile_payer(s, &mut actions);
        } else {
            self.of_a_hostile_host(s, &mut actions);
        }
        actions
    }

    /// The payee's side is honest: the host stores what the meter gives it and settles from that.
    fn of_a_hostile_payer(&self, s: &State, actions: &mut Vec<Action>) {
        for epoch in 0..=self.bounds.restarts {
            for units in 0..=self.bounds.deposit + 3 {
                actions.push(Action::Deliver { cap: Signed::new(epoch, units) });
            }
        }
        actions.push(Action::Vouch);
        if s.meter.unstored > 0 {
            actions.push(Action::Store);
        }
        if self.hostile == Hostile::PayerOfTwo {
            // To the other worker, which has a ledger of its own, and this payer hands nothing over.
            let base = 0;
            actions.push(if s.aside.is_some() {
                Action::Switch { base }
            } else {
                Action::Another { base }
            });
        } else if s.meter.epoch < self.bounds.restarts {
            let base = s.stored.map_or(0, |pair| pair.receipt.units);
            actions.push(Action::Restart { base: if self.rules.base { base } else { 0 } });
            // Her disk is lost, with nothing on it that was not paid.
            if base == s.contract.counted {
                actions.push(Action::Restart { base: 0 });
            }
        }
        actions.extend(s.stored.map(|pair| Action::Settle { pair }));
        // The payer has had every receipt, and can sign whatever cap goes with it.
        for receipt in signed(&s.receipts) {
            actions.push(Action::Settle { pair: Pair { cap: receipt, receipt } });
        }
    }

    /// The payer is honest: it allows what it has acknowledged and a window more, within its deposit.
    fn of_a_hostile_host(&self, s: &State, actions: &mut Vec<Action>) {
        let units = s.acknowledged.saturating_add(self.bounds.window).min(self.bounds.deposit);
        actions.push(Action::SignCap { epoch: s.meter.epoch, units });
        actions.extend(signed(&s.caps).map(|cap| Action::Deliver { cap }));
        let receipts: Vec<_> = signed(&s.receipts).collect();
        actions.extend(receipts.iter().map(|r| Action::Acknowledge { units: r.units }));
        if !s.rolled_back {
            actions.extend((0..s.acknowledged).map(|units| Action::RollBack { units }));
        }
        let two = self.hostile == Hostile::HostOfTwo;
        if two || s.meter.epoch < self.bounds.restarts {
            // A base is proved by a pair that both have signed, or by none.
            let proved = |units: &u8| {
                let holds = |r: &Signed| {
                    r.units == *units
                        && signed(&s.caps).any(|c| c.epoch == r.epoch && c.units >= r.units)
                };
                *units == 0 || receipts.iter().any(holds)
            };
            let bases = 0..=self.bounds.deposit;
            let bases = bases.filter(|base| !self.rules.base_signed || proved(base));
            actions.extend(bases.map(|base| match s.aside {
                Some(_) => Action::Switch { base },
                None if two => Action::Another { base },
                None => Action::Restart { base },
            }));
        }
        let mut receipts = receipts;
        if self.hostile == Hostile::HostWithMeterKey {
            receipts.extend((1..=MOST).map(|units| Signed::new(0, units)));
        }
        // Whatever it has, in any order and again; and what it can make itself.
        let elsewhere = Signed { elsewhere: true, ..Signed::new(0, MOST) };
        let forged = Signed { forged: true, ..Signed::new(0, MOST) };
        receipts.extend([elsewhere, forged, Signed { units: 1, ..forged }]);
        for cap in signed(&s.caps).chain([elsewhere, forged]) {
            actions.extend(
                receipts.iter().map(|r| Action::Settle { pair: Pair { cap, receipt: *r } }),
            );
        }
        if s.contract.phase == Phase::Over && s.put_in == self.bounds.deposit {
            actions.push(Action::DepositAgain);
        }
    }

    /// The state after `action`; `None` if the action does not apply there.
    fn step(&self, s: &State, action: Action) -> Option<State> {
        let mut next = s.clone();
        let (rules, meter) = (&self.rules, &mut next.meter);
        match action {
            Action::SignCap { epoch, units } => next.caps[usize::from(epoch)] |= 1 << units,
            Action::Deliver { cap } => {
                self.takes(meter, cap)?;
                let lower = meter.cap.is_some_and(|held| held.units >= cap.units);
                if rules.highest_cap && lower {
                    return None;
                }
                meter.cap = Some(cap);
            }
            Action::Vouch => {
                let worth = s.contract.counted + s.contract.balance;
                meter.note = if s.contract.phase == Phase::Open { worth } else { 0 };
                meter.paid = s.contract.counted;
            }
            Action::Begin => meter.open += 1,
            Action::End => {
                meter.open -= 1;
                meter.earned += 1;
                meter.own += 1;
                meter.signed = meter.earned;
                meter.unstored += 1;
                next.served += 1;
                if !self.hostile.pays() {
                    meter.unstored = 0;
                }
                next.receipts[usize::from(meter.epoch)] |= 1 << meter.earned;
            }
            Action::Store => {
                let cap = meter.cap?;
                let receipt = Signed::new(meter.epoch, meter.earned);
                // Of two disks the lower pair is paid nothing.
                if s.stored.is_none_or(|pair| pair.receipt.units <= receipt.units) {
                    next.stored = Some(Pair { cap, receipt });
                }
                meter.unstored = 0;
            }
            Action::Restart { base } => {
                *meter = Meter::begin(meter.epoch + 1, base);
            }
            Action::Another { base } => {
                let second = Meter::begin(meter.epoch + 1, base);
                next.aside = Some(std::mem::replace(meter, second));
            }
            Action::Switch { base } => {
                std::mem::swap(meter, next.aside.as_mut()?);
                meter.resume(rules, base);
            }
            Action::Acknowledge { units } => next.acknowledged = s.acknowledged.max(units),
            Action::RollBack { units } => {
                next.acknowledged = units;
                next.rolled_back = true;
            }
            Action::Settle { pair } => {
                next.paid += next.contract.settle(&rules.contract, pair).ok()?;
            }
            Action::StartClose => next.contract.start_close(&rules.contract).ok()?,
            Action::Elapse => {
                // The owner's watcher looks more often than the delay is long.
                let unsettled = |pair| { s.contract }.settle(&rules.contract, pair).is_ok();
                if s.contract.phase != Phase::Closing || s.stored.is_some_and(unsettled) {
                    return None;
                }
                next.contract.phase = Phase::Over;
                if rules.notes_end {
                    meter.note = 0;
                    next.aside.iter_mut().for_each(|meter| meter.note = 0);
                }
            }
            Action::FinishClose => next.back += next.contract.finish_close().ok()?,
            Action::DepositAgain => {
                if !rules.contract.remains {
                    // It is gone once it gave everything back.
                    (s.contract.balance == 0).then_some(())?;
                    next.contract = Contract::open(0);
                }
                next.contract.balance += self.bounds.deposit;
                next.put_in += self.bounds.deposit;
            }
        }
        Some(next)
    }

    fn wrong(&self, s: &State) -> Option<Attack> {
        let allowed = signed(&s.caps).map(|cap| cap.units).max().unwrap_or(0);
        if !self.hostile.pays() && s.paid > allowed {
            return Some(Attack::AboveCap);
        }
        if self.hostile != Hostile::HostWithMeterKey && s.paid > s.served {
            return Some(Attack::Unearned);
        }
        // Of a worker that lives beside the other nothing is lost by a crash.
        let crashes = if s.aside.is_some() { 0 } else { s.meter.epoch };
        let given_back = s.contract.phase == Phase::Over && s.back > 0;
        if self.hostile.pays()
            && (given_back || (s.contract.phase == Phase::Over && s.contract.balance == 0))
            && s.served.saturating_sub(s.paid) > self.bounds.window * (crashes + 1)
        {
            return Some(Attack::Lost);
        }
        // What the payer gets by closing and waiting, whatever anybody else does not do.
        let mut alone = Contract { phase: Phase::Over, ..s.contract };
        let rest = if self.rules.contract.alone { alone.finish_close().unwrap_or(0) } else { 0 };
        (s.put_in != s.paid + s.back + rest).then_some(Attack::Kept)
    }

    /// Breadth first, so what is found is a shortest one: its steps and what it is. Otherwise the
    /// number of states, and the most that was paid in any.
    fn explore(&self) -> Result<(usize, u8), (Vec<Action>, Attack)> {
        let mut numbers = HashMap::from([(self.start(), 0)]);
        let mut steps: Vec<Option<(usize, Action)>> = vec![None];
        let mut queue = VecDeque::from([(self.start(), 0)]);
        let mut paid = 0;
        while let Some((state, number)) = queue.pop_front() {
            paid = paid.max(state.paid);
            if let Some(attack) = self.wrong(&state) {
                let (mut way, mut at) = (Vec::new(), number);
                while let Some((before, action)) = steps[at] {
                    way.push(action);
                    at = before;
                }
                way.reverse();
                return Err((way, attack));
            }
            for action in self.actions(&state) {
                let Some(next) = self.step(&state, action) else { continue };
                if !numbers.contains_key(&next) {
                    numbers.insert(next.clone(), steps.len());
                    queue.push_back((next, steps.len()));
                    steps.push(Some((number, action)));
                }
            }
        }
        Ok((numbers.len(), paid))
    }
}

/// Every one of a set of signed amounts.
fn signed(set: &[u16; 3]) -> impl Iterator<Item = Signed> {
    let set = *set;
    (0..3u8).flat_map(move |epoch| {
        let has = move |units: &u8| set[usize::from(epoch)] & (1 << units) != 0;
        (0..16u8).filter(has).map(move |units| Signed::new(epoch, units))
    })
}
