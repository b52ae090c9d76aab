//! The channel contract as the model knows it, in units of the smallest settlement; and the proof that
//! it is the contract: every action at the model's bounds in every state they lead to, in a real TVM.

use std::collections::{HashSet, VecDeque};

use chrysalis_devchain::Transfer;
use chrysalis_receipt::{PayerKey, Settlement, SignedCap, SignedSettlement, boc};
use chrysalis_ton::{
    DEFAULT_CLOSE_DELAY, DEFAULT_MIN_SETTLE, Refusal, finish_close, settle, start_close,
};
use chrysalis_wire::NetworkId;
use zeroize::Zeroizing;

use crate::{PAYER, STRANGER, World, meter_key, other_meter, payer, state};

/// What a cap or a receipt is signed by and for, and how much it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Signed {
    /// The meter key: which start of the worker it belongs to. The payer's key is one.
    pub(super) epoch: u8,
    pub(super) units: u8,
    /// Signed on a test network, whose contract has the same address.
    pub(super) elsewhere: bool,
    /// Not by who it should be.
    pub(super) forged: bool,
}

impl Signed {
    pub(super) const fn new(epoch: u8, units: u8) -> Self {
        Self { epoch, units, elsewhere: false, forged: false }
    }
}

/// A cap and a receipt brought to the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Pair {
    pub(super) cap: Signed,
    pub(super) receipt: Signed,
}

/// How far a channel is from being over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Phase {
    Open,
    Closing,
    /// The delay is over: whoever asks gives the payer the rest.
    Over,
}

/// The contract's own state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Contract {
    pub(super) phase: Phase,
    /// Paid since it was opened, as it remembers.
    pub(super) counted: u8,
    /// The deposit that is left.
    pub(super) balance: u8,
}

/// Rules of the contract, each of which can be taken away.
#[derive(Clone, Copy, Debug)]
pub(super) struct ContractRules {
    /// Signatures are for one network.
    pub(super) network: bool,
    /// No receipt above its cap.
    pub(super) ceiling: bool,
    /// What was paid is subtracted from what is owed.
    pub(super) cumulative: bool,
    pub(super) payer_signature: bool,
    /// By the key that the cap names.
    pub(super) meter_signature: bool,
    /// Time between a close request and the refund.
    pub(super) delay: bool,
    /// The payer needs nobody to get the rest.
    pub(super) alone: bool,
    /// The contract outlives a refund, and with it what it remembers.
    pub(super) remains: bool,
}

pub(super) const CONTRACT: ContractRules = ContractRules {
    network: true,
    ceiling: true,
    cumulative: true,
    payer_signature: true,
    meter_signature: true,
    delay: true,
    alone: true,
    remains: true,
};

impl Contract {
    pub(super) const fn open(balance: u8) -> Self {
        Self { phase: Phase::Open, counted: 0, balance }
    }

    /// Pays what a pair is worth, in the contract's order of refusals.
    pub(super) fn settle(&mut self, rules: &ContractRules, pair: Pair) -> Result<u8, Refusal> {
        let Pair { cap, receipt } = pair;
        if rules.network && cap.elsewhere {
            return Err(Refusal::CapForAnotherChannel);
        }
        if rules.network && receipt.elsewhere {
            return Err(Refusal::ReceiptForAnotherChannel);
        }
        if rules.ceiling && receipt.units > cap.units {
            return Err(Refusal::AboveCap);
        }
        let before = if rules.cumulative { self.counted } else { 0 };
        let owed = receipt.units.checked_sub(before).filter(|owed| *owed > 0);
        let due = owed.ok_or(Refusal::AlreadyPaid)?.min(self.balance);
        if due == 0 {
            return Err(Refusal::NotCovered);
        }
        if rules.payer_signature && cap.forged {
            return Err(Refusal::PayerSignature);
        }
        if rules.meter_signature && (receipt.forged || receipt.epoch != cap.epoch) {
            return Err(Refusal::MeterSignature);
        }
        self.counted += due;
        self.balance -= due;
        Ok(due)
    }

    pub(super) fn start_close(&mut self, rules: &ContractRules) -> Result<(), Refusal> {
        if self.phase != Phase::Open {
            return Err(Refusal::AlreadyClosing);
        }
        self.phase = if rules.delay { Phase::Closing } else { Phase::Over };
        Ok(())
    }

    /// Gives the payer the rest.
    pub(super) fn finish_close(&mut self) -> Result<u8, Refusal> {
        if self.phase != Phase::Over {
            return Err(Refusal::NotYetClosed);
        }
        Ok(std::mem::take(&mut self.balance))
    }
}

/// The TVM beside the model: a channel whose units are smallest settlements.
#[derive(Clone)]
struct Beside {
    contract: Contract,
    world: World,
}

/// The smallest settlement, so that a unit more or less decides.
const UNIT: u128 = DEFAULT_MIN_SETTLE;
/// For rent and fees; less than a unit.
const SLACK: u128 = UNIT / 2;
/// Brought by each message for its fees. A close request leaves it in the deposit, so it is little.
const BROUGHT: u128 = UNIT / 20;
const DEPOSIT: u8 = 3;
/// Most that a cap or a receipt says here: more than the deposit.
const MOST: u8 = 4;

impl Beside {
    fn open() -> Self {
        let world = World::open(u128::from(DEPOSIT) * UNIT + chrysalis_ton::RESERVE + SLACK);
        Self { contract: Contract::open(DEPOSIT), world }
    }

    fn real(&self, pair: Pair) -> (SignedCap, SignedSettlement) {
        let meter = |epoch| if epoch == 0 { crate::meter() } else { other_meter() };
        let channel = |signed: Signed| {
            let network = if signed.elsewhere { NetworkId::TESTNET } else { NetworkId::MAINNET };
            chrysalis_receipt::ChannelId { network, ..self.world.channel }
        };
        let Pair { cap, receipt } = pair;
        let stranger = PayerKey::from_seed(&Zeroizing::new([0x23; 32]));
        let by = if cap.forged { stranger } else { payer() };
        let key = meter_key(&meter(cap.epoch));
        let signed = by.sign(channel(cap), key, u128::from(cap.units) * UNIT).unwrap();
        let by = if receipt.forged {
            chrysalis_receipt::MeterKey::from_seed(&Zeroizing::new([0x13; 32]))
        } else {
            meter(receipt.epoch)
        };
        let cum_amount = u128::from(receipt.units) * UNIT;
        let settlement = Settlement { channel: channel(receipt), cum_amount, state: state(7) };
        (signed, by.sign_settlement(settlement).unwrap())
    }

    /// One transaction with a body; what was paid to others, or the refusal.
    fn send(
        &mut self,
        from: chrysalis_wire::Digest,
        body: &chrysalis_receipt::Cell,
    ) -> Result<u128, Refusal> {
        let (to, body) = (self.world.channel.account, Some(boc(body)));
        let transfer = Transfer { bounce: true, body, ..Transfer::new(from, to, BROUGHT) };
        let done = self.world.chain.transfer(&transfer).unwrap();
        match done[0].exit_code {
            Some(0) => Ok(done[0].sent.first().map_or(0, |sent| sent.value)),
            Some(code) => Err(Refusal::from_exit_code(code).unwrap()),
            None => panic!("{done:?}"),
        }
    }

    fn settle(&mut self, pair: Pair) {
        let expected = self.contract.settle(&CONTRACT, pair);
        let (cap, settlement) = self.real(pair);
        let body = settle(&cap, &settlement).unwrap();
        // While it closes the contract pays even what is left over of fees, which is no unit of the
        // model; for that it looks at the signatures first.
        let left_over = expected == Err(Refusal::NotCovered) && self.contract.phase != Phase::Open;
        let got = match self.send(STRANGER, &body) {
            Ok(value) if left_over && value < UNIT => Err(Refusal::NotCovered),
            Err(Refusal::PayerSignature | Refusal::MeterSignature) if left_over => {
                Err(Refusal::NotCovered)
            }
            got => got.map(|value| value / UNIT),
        };
        assert_eq!(got, expected.map(u128::from), "{pair:?} in {:?}", self.contract);
    }

    fn close(&mut self) {
        let expected = self.contract.start_close(&CONTRACT);
        let got = self.send(PAYER, &start_close(1).unwrap()).map(drop);
        assert_eq!(got, expected, "{:?}", self.contract);
    }

    fn finish(&mut self) {
        let expected = self.contract.finish_close();
        // Back comes the rest, less fees, with what the message brought.
        let got = self.send(STRANGER, &finish_close(2).unwrap()).map(|value| value / UNIT);
        match (got, expected) {
            (Ok(got), Ok(units)) => {
                // Nor does what was left for fees make a unit.
                assert_eq!(got, u128::from(units), "{:?}", self.contract);
            }
            (got, expected) => assert_eq!(got, expected.map(u128::from), "{:?}", self.contract),
        }
    }

    fn elapse(&mut self) {
        self.world.chain.advance(DEFAULT_CLOSE_DELAY);
        if self.contract.phase == Phase::Closing {
            self.contract.phase = Phase::Over;
        }
    }
}

/// Every pair at the bounds: right, of either key, of another network, and forged.
fn pairs() -> Vec<Pair> {
    let mut pairs = Vec::new();
    for (cap, receipt) in (0..=MOST).flat_map(|cap| (0..=MOST).map(move |r| (cap, r))) {
        for (cap_epoch, receipt_epoch) in [(0, 0), (1, 1), (0, 1), (1, 0)] {
            let (cap, receipt) = (Signed::new(cap_epoch, cap), Signed::new(receipt_epoch, receipt));
            pairs.push(Pair { cap, receipt });
        }
        let (cap, receipt) = (Signed::new(0, cap), Signed::new(0, receipt));
        let other = |signed: Signed| Signed { elsewhere: true, ..signed };
        let forged = |signed: Signed| Signed { forged: true, ..signed };
        for (cap, receipt) in [
            (other(cap), other(receipt)),
            (other(cap), receipt),
            (cap, other(receipt)),
            (forged(cap), receipt),
            (cap, forged(receipt)),
            (forged(cap), forged(receipt)),
        ] {
            pairs.push(Pair { cap, receipt });
        }
    }
    pairs
}

#[test]
fn the_contract_of_the_model_is_the_contract() {
    let mut queue = VecDeque::from([Beside::open()]);
    let mut seen = HashSet::from([queue[0].contract]);
    let (mut checked, pairs) = (0, pairs());
    while let Some(here) = queue.pop_front() {
        let mut next = Vec::new();
        for pair in &pairs {
            let mut after = here.clone();
            after.settle(*pair);
            checked += 1;
            // With less than it owes the contract pays fractions of a unit; enough was seen then.
            if after.contract != here.contract && pair.receipt.units <= DEPOSIT {
                next.push(after);
            }
        }
        let others: [fn(&mut Beside); 3] = [Beside::close, Beside::finish, Beside::elapse];
        for action in others {
            let mut after = here.clone();
            action(&mut after);
            checked += 1;
            next.push(after);
        }
        for after in next {
            if seen.insert(after.contract) {
                queue.push_back(after);
            }
        }
    }
    println!("{} states of the contract, {checked} actions", seen.len());
    assert!(seen.len() >= 12 && checked > 3_000, "{} {checked}", seen.len());
}
