//! Lives of an honest worker end at any time. Its payer brings each new one what it knows, now and then not; its
//! owner hands in what any life told her, at any time and again. Answers are given up, receipts come late, and
//! payers start again.

use std::mem::{replace, take};

use chrysalis_receipt::{
    ChannelTerms, Charge, MeterBook, MeterKey, MeterPublicKey, Offer, Payee, PayerKey,
    PayerPublicKey, ReceiptError, StateRequest, TermsParts, VerifiedClaim,
};
use chrysalis_wire::{Digest, NetworkId};
use zeroize::Zeroizing;

use super::*;

const NETWORK: NetworkId = NetworkId::TESTNET;
const PAYEE: Digest = Digest([7; 32]);
const NOW: UnixTime = UnixTime(1_795_000_000);
const BUDGET: Budget = Budget { limit: MOST, step: 1_000 };
const MOST: u128 = 1_000_000;
const WORST: u128 = 50;

/// One life of the worker.
struct Life {
    key: MeterKey,
    book: MeterBook,
    named: bool,
}

/// A payer, the life it pays, and what is true.
struct Lives {
    key: PayerKey,
    terms: ChannelTerms,
    standing: Standing,
    life: Life,
    now: UnixTime,
    /// The largest claim the payer took, and the last of each life that its owner was told.
    known: Option<VerifiedClaim>,
    owners: Vec<VerifiedClaim>,
    /// What its requests on their way cost.
    open: Vec<(OpenRequest, u128)>,
    /// Counted by any life, and the most that all requests can have cost for all that the payer knows.
    total: u128,
    most: u128,
}

impl Life {
    fn new(seed: u8) -> Self {
        let key = MeterKey::from_seed(&Zeroizing::new([seed; 32]));
        let meter_key = MeterPublicKey::parse(&key.public()).unwrap();
        let book = MeterBook::new(Payee { network: NETWORK, account: PAYEE, worker: 0, meter_key });
        Self { key, book, named: false }
    }
}

impl Lives {
    fn new() -> Self {
        let key = PayerKey::from_seed(&Zeroizing::new([0x22; 32]));
        let terms = ChannelTerms::new(TermsParts {
            payer_key: PayerPublicKey::parse(&key.public()).unwrap(),
            payer: Digest([8; 32]),
            payee: PAYEE,
            close_delay: 86_400,
            min_settle: 50_000_000,
            salt: 1,
        });
        let standing = Standing::new(BUDGET, Known { covered: MOST, ..Known::default() });
        let (terms, life, now) = (terms.unwrap(), Life::new(1), NOW);
        let (known, owners, open) = Default::default();
        Self { key, terms, standing, life, now, known, owners, open, total: 0, most: 0 }
    }

    /// A request that the worker counts, and whose receipt is on its way.
    fn begin(&mut self, id: u8, cost: u128) {
        if !replace(&mut self.life.named, true) {
            self.standing.change_meter();
        }
        let open = OpenRequest { request: RequestId([id; 16]), worst: WORST, begun: self.now };
        self.standing.begin(WORST);
        let (digest, payee) = (Digest([id; 32]), *self.life.book.payee());
        let channel = self.terms.id(NETWORK).unwrap();
        let cap = self.key.sign(channel, payee.meter_key, MOST).unwrap();
        let offer = Offer::sign(&self.key, self.terms.clone(), cap, &digest).unwrap();
        let offer = offer.verify(&digest, &payee).unwrap();
        let reservation = self.life.book.reserve(offer, WORST, self.now).unwrap();
        let charge = Charge { amount: cost, units: 1, receipt: digest };
        self.life.book.charge(reservation, charge).unwrap();
        self.open.push((open, cost));
        (self.total, self.most) = (self.total + cost, self.most + WORST);
    }

    fn end(&mut self) {
        let Some((open, cost)) = self.open.pop() else { return };
        self.standing.end(open.worst, cost);
        self.most -= WORST - cost;
    }

    fn lose(&mut self) {
        let Some((open, _)) = self.open.pop() else { return };
        self.standing.lose(open);
    }

    /// The payer ends without a word and begins again.
    fn start_again(&mut self) {
        take(&mut self.open).into_iter().for_each(|(open, _)| self.standing.lose(open));
        self.standing = Standing::new(BUDGET, self.standing.known.clone());
        self.standing.change_meter();
    }

    fn die(&mut self, seed: u8, handed_over: bool) {
        self.life = Life::new(seed);
        if let Some(known) = self.known.as_ref().filter(|_| handed_over) {
            self.life.book.resume(known).unwrap();
        }
    }

    fn tell(&mut self) {
        let told = self.life.book.grown(&self.life.key, self.now);
        self.owners.extend(told.into_iter().map(|claim| claim.verify().unwrap()));
    }

    fn claim(&mut self) -> Result<(), TooMuch> {
        let asked = self.standing.ask(self.now, 4_000);
        let (channel, meter) = (self.terms.id(NETWORK).unwrap(), self.life.book.payee().meter_key);
        let question = StateRequest::sign(&self.key, channel, &meter, Digest([0; 32])).unwrap();
        let claim = match self.life.book.answer(&question, &self.life.key, self.now) {
            Err(ReceiptError::NoSuchChannel) => return Ok(()),
            claim => claim.unwrap(),
        };
        let (cum, accounted) = (claim.cum_amount(), self.standing.accountable());
        if claim.cap().cap().meter_key != meter {
            return if cum > accounted { Err(TooMuch { accounted }) } else { Ok(()) };
        }
        self.standing.accept(asked, cum)?;
        if self.known.as_ref().is_none_or(|known| known.claim().cum_amount() < cum) {
            self.known = Some(claim.verify().unwrap());
        }
        Ok(())
    }
}

#[test]
fn no_order_of_hand_ins_accuses_an_honest_worker_or_has_a_request_counted_twice() {
    for seed in 0_u64..1_500 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut random = move |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let mut all = Lives::new();
        for step in 1..40_u8 {
            match random(13) {
                0..=3 => {
                    all.begin(step, u128::from(random(50)));
                    match random(4) {
                        0 => all.lose(),
                        1 => {}
                        _ => all.end(),
                    }
                }
                4 => all.end(),
                5 => all.tell(),
                6 => all.die(step + 1, random(3) > 0),
                7 | 8 if !all.owners.is_empty() => {
                    let which = random(all.owners.len().try_into().unwrap());
                    let claim = &all.owners[usize::try_from(which).unwrap()];
                    all.life.book.resume(claim).unwrap();
                }
                9 => all.start_again(),
                10 => all.now.0 += [60, 3_600, 40_000][usize::try_from(random(3)).unwrap()],
                _ => {
                    let judged = all.claim();
                    assert_eq!(judged, Ok(()), "seed {seed}, step {step}: {:?}", all.standing);
                }
            }
            let (owed, _) = all.life.book.standing(&all.terms.id(NETWORK).unwrap().account);
            assert!(owed <= all.total, "seed {seed}, step {step}: {owed} of {}", all.total);
            let accountable = all.standing.accountable();
            assert!(accountable <= all.most, "seed {seed}, step {step}: {:?}", all.standing);
        }
    }
}
