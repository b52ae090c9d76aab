//! Random lives of a channel: everybody sends whatever they like in any order, and after every
//! message no coin is missing, nothing was paid above a cap or twice, and each refusal has its reason.
//! At the end of every life the payer gets the rest back.

use chrysalis_devchain::{ChainError, Transaction, Transfer};
use chrysalis_receipt::{ChannelId, PayerKey, Settlement, SignedCap, SignedSettlement, boc};
use chrysalis_ton::{
    DEFAULT_CLOSE_DELAY, DEFAULT_MIN_SETTLE, RESERVE, Refusal, coop_close, finish_close, settle,
    settle_external, start_close,
};
use chrysalis_wire::{Digest, NetworkId};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use zeroize::Zeroizing;

use crate::{
    FOR_FEES, GRAM, PAYEE, PAYER, STRANGER, World, meter, meter_key, other_meter, payer, state,
};

#[derive(Clone, Copy, Debug)]
enum Op {
    /// A pair as its parties sign it, or with one thing wrong.
    Settle {
        cap: u128,
        cum: u128,
        fault: Fault,
        by: Option<Digest>,
    },
    /// An earlier pair once more.
    Replay {
        which: usize,
        by: Option<Digest>,
    },
    Deposit {
        value: u128,
        deploy: bool,
    },
    Start {
        by: Digest,
    },
    Finish {
        by: Digest,
    },
    Coop {
        by: Digest,
    },
    Advance {
        seconds: u32,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    CapNetwork,
    CapChannel,
    ReceiptNetwork,
    ReceiptChannel,
    Payer,
    Meter,
}

fn op() -> impl Strategy<Value = Op> {
    let who = || prop::sample::select(vec![PAYER, PAYEE, STRANGER]);
    let by = move || prop_oneof![2 => Just(None), 1 => who().prop_map(Some)];
    // Around the smallest settlement, around the deposit, and anything.
    let amount = || {
        prop_oneof![
            4 => (1u128..60).prop_map(|n| n * DEFAULT_MIN_SETTLE),
            1 => DEFAULT_MIN_SETTLE - 2..DEFAULT_MIN_SETTLE + 2,
            1 => 0u128..4 * GRAM,
            1 => GRAM - 2 * RESERVE..GRAM + 2 * RESERVE,
        ]
    };
    let fault = prop_oneof![
        12 => Just(Fault::None),
        1 => prop::sample::select(vec![
            Fault::CapNetwork,
            Fault::CapChannel,
            Fault::ReceiptNetwork,
            Fault::ReceiptChannel,
            Fault::Payer,
            Fault::Meter,
        ]),
    ];
    prop_oneof![
        8 => (amount(), amount(), fault, by())
            .prop_map(|(cap, cum, fault, by)| Op::Settle { cap, cum, fault, by }),
        3 => (0usize..8, by()).prop_map(|(which, by)| Op::Replay { which, by }),
        3 => (0u128..GRAM, any::<bool>()).prop_map(|(value, deploy)| Op::Deposit { value, deploy }),
        1 => who().prop_map(|by| Op::Start { by }),
        1 => who().prop_map(|by| Op::Finish { by }),
        1 => who().prop_map(|by| Op::Coop { by }),
        2 => prop_oneof![1u32..100, Just(DEFAULT_CLOSE_DELAY), 1u32..40_000_000]
            .prop_map(|seconds| Op::Advance { seconds }),
    ]
}

/// What must be true of a channel, kept beside it.
struct Model {
    world: World,
    cum_paid: u128,
    close_at: u32,
    /// Largest cap that the payer signed for this channel and its meter.
    max_cap: u128,
    pairs: Vec<(SignedCap, SignedSettlement)>,
}

impl Model {
    fn new(world: World) -> Self {
        Self { world, cum_paid: 0, close_at: 0, max_cap: 0, pairs: Vec::new() }
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Settle { cap, cum, fault, by } => {
                let pair = self.pair(cap, cum, fault);
                self.pairs.push(pair.clone());
                self.settle(&pair, by);
            }
            Op::Replay { which, by } => {
                if let Some(pair) = self.pairs.get(which).cloned() {
                    self.settle(&pair, by);
                }
            }
            Op::Deposit { value, deploy } => {
                let init = deploy.then(|| boc(&self.world.config.state_init().unwrap()));
                let transfer =
                    Transfer { init, ..Transfer::new(PAYER, self.world.channel.account, value) };
                self.internal(&transfer);
            }
            Op::Start { by } => {
                let expected = if by != PAYER {
                    Some(Refusal::NotThePayer)
                } else if self.close_at != 0 {
                    Some(Refusal::AlreadyClosing)
                } else {
                    self.close_at = self.world.chain.now() + DEFAULT_CLOSE_DELAY;
                    None
                };
                self.command(by, &start_close(1).unwrap(), expected);
            }
            Op::Finish { by } => {
                let open = self.close_at == 0 || self.world.chain.now() < self.close_at;
                let expected = open.then_some(Refusal::NotYetClosed);
                self.command(by, &finish_close(2).unwrap(), expected);
            }
            Op::Coop { by } => {
                let expected = (by != PAYEE).then_some(Refusal::NotThePayee);
                if expected.is_none() && self.close_at == 0 {
                    self.close_at = self.world.chain.now();
                }
                self.command(by, &coop_close(3).unwrap(), expected);
            }
            Op::Advance { seconds } => self.world.chain.advance(seconds),
        }
        let state = self.world.state();
        assert_eq!((state.cum_paid, state.close_at), (self.cum_paid, self.close_at));
        assert!(self.cum_paid <= self.max_cap, "paid above every cap");
    }

    fn pair(
        &mut self,
        max_cum: u128,
        cum_amount: u128,
        fault: Fault,
    ) -> (SignedCap, SignedSettlement) {
        let right = self.world.channel;
        let place = |network, channel| {
            if fault == network {
                ChannelId { network: NetworkId::TESTNET, ..right }
            } else if fault == channel {
                ChannelId { account: Digest([1; 32]), ..right }
            } else {
                right
            }
        };
        let key = if fault == Fault::Payer {
            PayerKey::from_seed(&Zeroizing::new([0x23; 32]))
        } else {
            payer()
        };
        let cap_channel = place(Fault::CapNetwork, Fault::CapChannel);
        let cap = key.sign(cap_channel, meter_key(&meter()), max_cum).unwrap();
        if fault != Fault::Payer && cap_channel == right {
            self.max_cap = self.max_cap.max(max_cum);
        }
        let channel = place(Fault::ReceiptNetwork, Fault::ReceiptChannel);
        let meter = if fault == Fault::Meter { other_meter() } else { meter() };
        let settlement = Settlement { channel, cum_amount, state: state(self.pairs.len() as u64) };
        (cap, meter.sign_settlement(settlement).unwrap())
    }

    /// The contract's own order of refusals. Whether a deposit covers a payment depends on its
    /// rent too, so `None` there means: one or the other.
    fn expected(&self, pair: &(SignedCap, SignedSettlement), internal: bool) -> Option<Refusal> {
        let (cap, receipt) = (pair.0.cap(), pair.1.settlement());
        let right = self.world.channel;
        let least = if internal && self.close_at != 0 { 1 } else { DEFAULT_MIN_SETTLE };
        let by_payer = pair.0.verify(self.world.config.payer_key(), right, &cap.meter_key);
        if cap.channel != right {
            Some(Refusal::CapForAnotherChannel)
        } else if receipt.channel != right {
            Some(Refusal::ReceiptForAnotherChannel)
        } else if receipt.cum_amount > cap.max_cum {
            Some(Refusal::AboveCap)
        } else if receipt.cum_amount <= self.cum_paid {
            Some(Refusal::AlreadyPaid)
        } else if receipt.cum_amount - self.cum_paid < least {
            Some(Refusal::BelowMinimum)
        } else if self.balance() < RESERVE + least {
            Some(Refusal::NotCovered)
        } else if let Ok(cap) = by_payer {
            pair.1.verify(&cap).is_err().then_some(Refusal::MeterSignature)
        } else {
            Some(Refusal::PayerSignature)
        }
    }

    fn settle(&mut self, pair: &(SignedCap, SignedSettlement), by: Option<Digest>) {
        let expected = self.expected(pair, by.is_some());
        let before = self.balance();
        let least = if by.is_some() && self.close_at != 0 { 1 } else { DEFAULT_MIN_SETTLE };
        let owed = pair.1.settlement().cum_amount.saturating_sub(self.cum_paid);
        let body = settle(&pair.0, &pair.1).unwrap();
        let to = self.world.channel.account;
        let (refused, done) = if let Some(by) = by {
            let body = Some(boc(&body));
            let transfer = Transfer { bounce: true, body, ..Transfer::new(by, to, FOR_FEES) };
            let done = self.internal(&transfer);
            (done[0].exit_code.filter(|code| *code != 0), done)
        } else {
            let message = if pair.0.cap().channel.account == to {
                settle_external(&pair.0, &pair.1).unwrap()
            } else {
                crate::traps::external_to(to, &body)
            };
            match self.world.chain.send_boc(&boc(&message)) {
                Ok(done) => {
                    self.balanced(before, &done);
                    (None, done)
                }
                Err(ChainError::NotAccepted { exit_code }) => (Some(exit_code), Vec::new()),
                Err(error) => panic!("{error}"),
            }
        };
        if let Some(code) = refused {
            let refusal = Refusal::from_exit_code(code).unwrap();
            if refusal == Refusal::NotCovered && expected != Some(Refusal::NotCovered) {
                // Rent made the difference.
                assert!(before < RESERVE + least + MOST_RENT, "{before}");
            } else {
                assert_eq!(Some(refusal), expected);
            }
            return;
        }
        assert_eq!(expected, None, "it was paid");
        let payment = done[0].sent[0].clone();
        assert_eq!(payment.to, PAYEE);
        assert!(payment.value >= least && payment.value <= owed);
        if payment.value < owed {
            // All it had: between what is left without and with the rent.
            let had = before - RESERVE;
            assert!(payment.value <= had && payment.value + MOST_RENT >= had, "{payment:?}");
        }
        self.cum_paid += payment.value;
    }

    fn command(&mut self, by: Digest, body: &chrysalis_receipt::Cell, expected: Option<Refusal>) {
        let (to, body) = (self.world.channel.account, Some(boc(body)));
        let transfer = Transfer { bounce: true, body, ..Transfer::new(by, to, FOR_FEES) };
        let done = self.internal(&transfer);
        let code = expected.map_or(0, Refusal::exit_code);
        assert_eq!(done[0].exit_code, Some(code), "{done:?}");
        assert_eq!(done[0].aborted, expected.is_some(), "{done:?}");
    }

    fn internal(&mut self, transfer: &Transfer) -> Vec<Transaction> {
        let before = self.balance();
        let done = self.world.chain.transfer(transfer).unwrap();
        self.balanced(before, &done);
        done
    }

    /// Not a nanogram appears or is lost, in the channel or anywhere else.
    fn balanced(&self, before: u128, done: &[Transaction]) {
        let out: u128 = done[0].sent.iter().map(|sent| sent.value).sum();
        assert_eq!(before + done[0].received, self.balance() + out + done[0].cost(), "{done:?}");
        let chain = &self.world.chain;
        assert_eq!(chain.issued(), chain.balances().unwrap() + chain.fees());
    }

    fn balance(&self) -> u128 {
        self.world.chain.balance(self.world.channel.account).unwrap()
    }

    /// The payer's way out, which needs nobody.
    fn payer_leaves(mut self) {
        if self.close_at == 0 {
            self.apply(Op::Start { by: PAYER });
        }
        self.world.chain.advance(DEFAULT_CLOSE_DELAY);
        self.apply(Op::Finish { by: PAYER });
        assert!(self.balance() <= RESERVE, "{} was kept from the payer", self.balance());
    }
}

fn lives(cases: u32) {
    let world = World::open(GRAM);
    let config = Config { failure_persistence: None, ..Config::with_cases(cases) };
    let operations = (prop::collection::vec(op(), 1..16), 0u128..3 * GRAM);
    TestRunner::new(config)
        .run(&operations, |(operations, deposit)| {
            let mut model = Model::new(world.clone());
            model.apply(Op::Deposit { value: deposit, deploy: false });
            for op in operations {
                model.apply(op);
            }
            model.payer_leaves();
            Ok(())
        })
        .unwrap();
}

#[test]
fn coins_are_conserved_and_nothing_is_paid_above_a_cap_or_twice() {
    lives(400);
}

/// The same for longer: `scripts/exhaustive`.
#[test]
#[ignore = "a hundred thousand lives take minutes"]
fn coins_are_conserved_in_a_hundred_thousand_lives() {
    lives(100_000);
}

/// More than any rent between two messages of a life, nanogram: twenty cells for forty years.
const MOST_RENT: u128 = 60_000_000;
