//! The registry in a real TVM: m of n owners, additions that wait, denials that do not.

use std::collections::BTreeMap;

use chrysalis_devchain::{DevChain, Transaction, Transfer};
use chrysalis_receipt::{Cell, CellBuilder, boc};
use chrysalis_ton::{
    Action, EntryKind, MIN_ACTIVATION_DELAY, Order, Owners, RegistryConfig, RegistryRefusal,
    apply_order,
};
use chrysalis_wire::{Digest, NetworkId};
use ed25519_dalek::{Signer as _, SigningKey};
use proptest::prelude::*;

use crate::{GRAM, NOW, PAYER, STRANGER, World};

pub const DELAY: u32 = MIN_ACTIVATION_DELAY;
const ID: Digest = Digest([0x41; 32]);
pub const YES: Digest = Digest([1; 32]);
pub const NO: Digest = Digest([0; 32]);

#[derive(Clone)]
pub struct Registry {
    pub chain: DevChain,
    pub account: Digest,
}

/// The keys of owners `from..from + 3`.
fn keys(from: u8) -> Vec<SigningKey> {
    (from..from + 3).map(|n| SigningKey::from_bytes(&[n; 32])).collect()
}

pub fn owners(from: u8) -> Owners {
    let keys: Vec<[u8; 32]> = keys(from).iter().map(|k| k.verifying_key().to_bytes()).collect();
    Owners::new(2, &keys).unwrap()
}

/// The message that deploys the registry of the owners 1, 2 and 3.
pub fn deploy() -> Transfer {
    let config = RegistryConfig::new(owners(1), DELAY).unwrap();
    let init = Some(boc(&config.state_init().unwrap()));
    Transfer { init, ..Transfer::new(PAYER, config.account().unwrap(), GRAM) }
}

impl Registry {
    fn open() -> Self {
        let mut chain = World::wallets(NetworkId::MAINNET);
        let deploy = deploy();
        assert!(chain.transfer(&deploy).unwrap()[0].succeeded());
        Self { chain, account: deploy.to }
    }

    fn version(&self) -> u32 {
        let state = self.chain.get(self.account, "registry_state", &[]).unwrap();
        crate::small(state[0]).try_into().unwrap()
    }

    pub fn order(&self, action: Action) -> Order {
        Order {
            network: NetworkId::MAINNET,
            registry: self.account,
            version: self.version(),
            valid_until: self.chain.now() + 60,
            action,
        }
    }

    pub fn set(&self, kind: EntryKind, value: Digest) -> Order {
        self.order(Action::Set { kind, id: ID, value })
    }

    /// The message with which anybody brings an order.
    pub fn message(&self, order: &Cell, signatures: &BTreeMap<u8, [u8; 64]>) -> Transfer {
        let body = Some(boc(&apply_order(order.clone(), signatures, 1).unwrap()));
        Transfer { bounce: true, body, ..Transfer::new(STRANGER, self.account, GRAM / 10) }
    }

    fn bring(&mut self, order: &Cell, signatures: &BTreeMap<u8, [u8; 64]>) -> Vec<Transaction> {
        let message = self.message(order, signatures);
        self.chain.transfer(&message).unwrap()
    }

    /// Brings an order that owners 0 and 2 of those from `from` signed.
    fn apply_by(&mut self, from: u8, order: &Order) -> Option<RegistryRefusal> {
        let order = order.cell().unwrap();
        let done = self.bring(&order, &signed(&order, from, &[0, 2]));
        refusal(&done)
    }

    fn apply(&mut self, order: &Order) -> Option<RegistryRefusal> {
        self.apply_by(1, order)
    }

    /// What holds now.
    fn value(&self, kind: EntryKind) -> Digest {
        self.lookup(kind).0
    }

    fn lookup(&self, kind: EntryKind) -> (Digest, Digest, u32) {
        let mut number = Digest([0; 32]);
        number.0[31] = kind as u8;
        let values = self.chain.get(self.account, "lookup", &[number, ID]).unwrap();
        let [value, next, from] = values[..] else { panic!("{values:?}") };
        (value, next, crate::small(from).try_into().unwrap())
    }
}

/// Signatures of some of the owners `from..from + 3`.
pub fn signed(order: &Cell, from: u8, who: &[u8]) -> BTreeMap<u8, [u8; 64]> {
    let keys = keys(from);
    who.iter().map(|n| (*n, keys[usize::from(*n)].sign(&order.hash().0).to_bytes())).collect()
}

fn refusal(done: &[Transaction]) -> Option<RegistryRefusal> {
    let code = done[0].exit_code.unwrap();
    assert_eq!(done[0].aborted, code != 0, "{done:?}");
    (code != 0).then(|| RegistryRefusal::from_exit_code(code).unwrap())
}

#[test]
fn an_addition_waits_for_the_delay_and_everybody_sees_it_coming() {
    for kind in [EntryKind::Image, EntryKind::Model, EntryKind::Proxy, EntryKind::Parameter] {
        let mut registry = Registry::open();
        let order = registry.set(kind, YES);
        assert_eq!(registry.apply(&order), None);
        assert_eq!(registry.lookup(kind), (NO, YES, NOW + DELAY));
        registry.chain.advance(DELAY - 1);
        assert_eq!(registry.value(kind), NO);
        registry.chain.advance(1);
        assert_eq!(registry.lookup(kind), (YES, NO, 0));
    }
}

#[test]
fn a_denial_holds_at_once_and_calls_off_what_was_coming() {
    for kind in [EntryKind::Image, EntryKind::Model, EntryKind::Proxy] {
        let mut registry = Registry::open();
        let order = registry.set(kind, YES);
        registry.apply(&order);
        registry.chain.advance(DELAY);
        assert_eq!(registry.value(kind), YES);
        let order = registry.set(kind, NO);
        assert_eq!(registry.apply(&order), None);
        assert_eq!(registry.lookup(kind), (NO, NO, 0));

        let order = registry.set(kind, YES);
        registry.apply(&order);
        let order = registry.set(kind, NO);
        registry.apply(&order);
        registry.chain.advance(DELAY);
        assert_eq!(registry.value(kind), NO, "it never came into force");
    }
}

#[test]
fn a_platform_is_denied_at_once_and_trusted_again_after_the_delay() {
    let mut registry = Registry::open();
    let order = registry.set(EntryKind::Platform, YES);
    assert_eq!(registry.apply(&order), None);
    assert_eq!(registry.value(EntryKind::Platform), YES);
    let order = registry.set(EntryKind::Platform, NO);
    registry.apply(&order);
    assert_eq!(registry.value(EntryKind::Platform), YES);
    registry.chain.advance(DELAY);
    assert_eq!(registry.value(EntryKind::Platform), NO);
}

#[test]
fn the_least_tcb_number_rises_at_once_and_falls_after_the_delay() {
    let number = |n: u8| {
        let mut value = [0; 32];
        value[31] = n;
        Digest(value)
    };
    let mut registry = Registry::open();
    let order = registry.set(EntryKind::MinTcb, number(17));
    registry.apply(&order);
    assert_eq!(registry.value(EntryKind::MinTcb), number(17));
    let order = registry.set(EntryKind::MinTcb, number(16));
    registry.apply(&order);
    assert_eq!(registry.lookup(EntryKind::MinTcb), (number(17), number(16), NOW + DELAY));
    registry.chain.advance(DELAY);
    assert_eq!(registry.value(EntryKind::MinTcb), number(16));
}

#[test]
fn another_addition_starts_the_delay_again() {
    let mut registry = Registry::open();
    let order = registry.set(EntryKind::Image, YES);
    registry.apply(&order);
    registry.chain.advance(DELAY - 1);
    let order = registry.set(EntryKind::Image, Digest([2; 32]));
    registry.apply(&order);
    registry.chain.advance(DELAY - 1);
    assert_eq!(registry.value(EntryKind::Image), NO);
    registry.chain.advance(1);
    assert_eq!(registry.value(EntryKind::Image), Digest([2; 32]));
}

#[test]
fn other_owners_take_over_after_the_delay_and_the_old_ones_lose_their_say() {
    let mut registry = Registry::open();
    let order = registry.order(Action::SetOwners(owners(10)));
    assert_eq!(registry.apply(&order), None);
    let order = registry.set(EntryKind::Image, YES);
    assert_eq!(registry.clone().apply_by(10, &order), Some(RegistryRefusal::OwnerSignature));
    assert_eq!(registry.clone().apply_by(1, &order), None);
    registry.chain.advance(DELAY);
    let order = registry.set(EntryKind::Image, YES);
    assert_eq!(registry.apply_by(1, &order), Some(RegistryRefusal::OwnerSignature));
    assert_eq!(registry.apply_by(10, &order), None);
}

#[test]
fn refuses_an_order_for_another_network_or_registry() {
    let mut registry = Registry::open();
    let order = registry.set(EntryKind::Image, YES);
    for other in [
        Order { network: NetworkId::TESTNET, ..order.clone() },
        Order { registry: Digest([1; 32]), ..order },
    ] {
        assert_eq!(registry.apply(&other), Some(RegistryRefusal::OrderForAnotherRegistry));
    }
}

#[test]
fn refuses_an_order_that_was_carried_out_or_comes_too_early() {
    let mut registry = Registry::open();
    let order = registry.set(EntryKind::Image, YES);
    registry.apply(&order);
    assert_eq!(registry.apply(&order), Some(RegistryRefusal::OrderOutOfTurn));
    let early = Order { version: registry.version() + 1, ..order };
    assert_eq!(registry.apply(&early), Some(RegistryRefusal::OrderOutOfTurn));
    assert_eq!(registry.version(), 1);
}

#[test]
fn refuses_an_order_one_second_after_its_time() {
    let mut registry = Registry::open();
    let order = registry.set(EntryKind::Image, YES);
    registry.chain.advance(60);
    assert_eq!(registry.clone().apply(&order), None);
    registry.chain.advance(1);
    assert_eq!(registry.apply(&order), Some(RegistryRefusal::OrderExpired));
}

#[test]
fn refuses_one_owner_fewer_than_the_threshold() {
    let mut registry = Registry::open();
    let order = registry.set(EntryKind::Image, YES).cell().unwrap();
    for who in [&[][..], &[0], &[1], &[2]] {
        let done = registry.bring(&order, &signed(&order, 1, who));
        assert_eq!(refusal(&done), Some(RegistryRefusal::TooFewOwners));
    }
    for who in [&[0, 1][..], &[1, 2], &[0, 1, 2]] {
        let done = registry.clone().bring(&order, &signed(&order, 1, who));
        assert_eq!(refusal(&done), None);
    }
}

#[test]
fn refuses_one_signature_under_two_numbers() {
    let mut registry = Registry::open();
    let order = registry.set(EntryKind::Image, YES).cell().unwrap();
    let mut signatures = signed(&order, 1, &[0]);
    signatures.insert(1, signatures[&0]);
    let done = registry.bring(&order, &signatures);
    assert_eq!(refusal(&done), Some(RegistryRefusal::OwnerSignature));
}

#[test]
fn refuses_a_signature_of_nobody() {
    let mut registry = Registry::open();
    let order = registry.set(EntryKind::Image, YES).cell().unwrap();
    let mut signatures = signed(&order, 1, &[0, 1, 2]);
    signatures.insert(3, signatures[&0]);
    let done = registry.bring(&order, &signatures);
    assert_eq!(refusal(&done), Some(RegistryRefusal::NotAnOwner));
}

#[test]
fn refuses_an_order_that_was_changed_after_it_was_signed() {
    let mut registry = Registry::open();
    let order = registry.set(EntryKind::Image, YES).cell().unwrap();
    let other = registry.set(EntryKind::Model, YES).cell().unwrap();
    let done = registry.bring(&other, &signed(&order, 1, &[0, 2]));
    assert_eq!(refusal(&done), Some(RegistryRefusal::OwnerSignature));
}

#[test]
fn refuses_kinds_that_it_does_not_keep() {
    let mut registry = Registry::open();
    for kind in [0, 7, 255] {
        let order = raw_order(&registry, |b| {
            b.bytes(b"SETV").unwrap().uint(kind, 8).unwrap();
            b.bytes(&ID.0).unwrap().bytes(&YES.0).unwrap();
        });
        let done = registry.bring(&order, &signed(&order, 1, &[0, 2]));
        assert_eq!(refusal(&done), Some(RegistryRefusal::UnknownKind));
    }
}

#[test]
fn refuses_owners_that_are_none() {
    let mut registry = Registry::open();
    for threshold in [0, 1] {
        let order = raw_order(&registry, |b| {
            let mut none = CellBuilder::new();
            none.uint(threshold, 8).unwrap().bit(false).unwrap();
            b.bytes(b"SOWN").unwrap().reference(none.build().unwrap()).unwrap();
        });
        let done = registry.bring(&order, &signed(&order, 1, &[0, 2]));
        assert_eq!(refusal(&done), Some(RegistryRefusal::NoOwners));
    }
}

#[test]
fn refuses_what_is_no_order_and_messages_it_does_not_know() {
    let mut registry = Registry::open();
    let mut b = CellBuilder::new();
    b.bytes(b"ORD2").unwrap().bytes(&[0; 60]).unwrap();
    let order = b.build().unwrap();
    let done = registry.bring(&order, &signed(&order, 1, &[0, 2]));
    assert_eq!(refusal(&done), Some(RegistryRefusal::NotAnOrder));

    let mut b = CellBuilder::new();
    b.bytes(b"REG2").unwrap().uint(1, 64).unwrap();
    let body = Some(boc(&b.build().unwrap()));
    let transfer =
        Transfer { bounce: true, body, ..Transfer::new(STRANGER, registry.account, GRAM / 10) };
    let done = registry.chain.transfer(&transfer).unwrap();
    assert_eq!(refusal(&done), Some(RegistryRefusal::UnknownMessage));
}

/// An order for the registry as it is, with any action.
fn raw_order(registry: &Registry, action: impl FnOnce(&mut CellBuilder)) -> Cell {
    let mut b = CellBuilder::new();
    b.bytes(b"ORD1").unwrap().int32(NetworkId::MAINNET.0).unwrap();
    b.bytes(&registry.account.0).unwrap().uint(registry.version().into(), 32).unwrap();
    b.uint((registry.chain.now() + 60).into(), 32).unwrap();
    action(&mut b);
    b.build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    /// Whatever the owners order and however time goes: nothing is accepted before its delay, and
    /// what was denied is denied.
    #[test]
    fn trust_is_never_extended_early(
        orders in prop::collection::vec((any::<bool>(), 0u32..2 * DELAY), 1..8),
    ) {
        let mut registry = Registry::open();
        let mut accepted_from: Option<u32> = None;
        for (accept, wait) in orders {
            let order = registry.set(EntryKind::Image, if accept { YES } else { NO });
            prop_assert_eq!(registry.apply(&order), None);
            let now = registry.chain.now();
            let holds = accepted_from.is_some_and(|from| now >= from);
            accepted_from = match (accept, holds) {
                (false, _) => None,
                (true, true) => accepted_from,
                (true, false) => Some(now + DELAY),
            };
            registry.chain.advance(wait);
            let expected = accepted_from.is_some_and(|from| registry.chain.now() >= from);
            prop_assert_eq!(registry.value(EntryKind::Image), if expected { YES } else { NO });
        }
    }
}
