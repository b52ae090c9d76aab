//! The same messages in `@ton/sandbox`, TON's own virtual machine and executor: the same exit codes,
//! gas, fees and payments, to the nanogram.

use chrysalis_devchain::{ChainError, Transaction, Transfer, config};
use chrysalis_receipt::{ChannelId, PayerKey, Settlement, boc};
use chrysalis_ton::{
    Action, DEFAULT_CLOSE_DELAY, EntryKind, Order, Refusal, coop_close, finish_close, settle,
    settle_external, start_close, top_up,
};
use chrysalis_wire::{Digest, NetworkId};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::node::node;
use crate::registry::{self, Registry};
use crate::{
    FOR_FEES, GRAM, PAYEE, PAYER, STRANGER, World, meter, meter_key, other_meter, payer, state,
};

/// A world that writes down every message and what came of it.
struct Recorder {
    world: World,
    steps: Vec<Value>,
    results: Vec<Value>,
}

impl Recorder {
    /// Before anything was deployed.
    fn new() -> Self {
        let mut world = World::open(GRAM);
        world.chain = World::wallets(NetworkId::MAINNET);
        Self { world, steps: Vec::new(), results: Vec::new() }
    }

    fn external(&mut self, cap: &chrysalis_receipt::SignedCap, cum: u128) {
        let message = boc(&settle_external(cap, &self.world.settlement(cum)).unwrap());
        self.record_external(&message);
    }

    fn record_external(&mut self, message: &[u8]) {
        self.steps.push(json!({
            "now": self.world.chain.now(),
            "external": hex::encode(message),
        }));
        let result = self.world.chain.send_boc(message);
        self.results.push(summary(result));
    }

    fn transfer(&mut self, transfer: &Transfer) {
        let hex = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(hex::encode);
        self.steps.push(json!({
            "now": self.world.chain.now(),
            "from": transfer.from.to_string(),
            "to": transfer.to.to_string(),
            "value": transfer.value.to_string(),
            "bounce": transfer.bounce,
            "init": hex(&transfer.init),
            "body": hex(&transfer.body),
        }));
        let result = self.world.chain.transfer(transfer);
        self.results.push(summary(result));
    }

    fn send(&mut self, from: Digest, value: u128, body: &chrysalis_receipt::Cell) {
        let to = self.world.channel.account;
        let body = Some(boc(body));
        self.transfer(&Transfer { bounce: true, body, ..Transfer::new(from, to, value) });
    }

    fn deploy(&mut self, deposit: u128) {
        let init = Some(boc(&self.world.config.state_init().unwrap()));
        let to = self.world.channel.account;
        self.transfer(&Transfer { init, ..Transfer::new(PAYER, to, deposit) });
    }

    fn deposit(&mut self, value: u128) {
        self.transfer(&Transfer::new(PAYER, self.world.channel.account, value));
    }
}

fn summary(result: Result<Vec<Transaction>, ChainError>) -> Value {
    let done = match result {
        Ok(done) => done,
        Err(ChainError::NotAccepted { exit_code }) => return json!({ "refused": exit_code }),
        Err(error) => panic!("{error}"),
    };
    let tx = &done[0];
    let sent: Vec<Value> =
        tx.sent.iter().map(|s| json!([s.to.to_string(), s.value.to_string(), s.bounced])).collect();
    json!({
        "exit": tx.exit_code,
        "action": tx.action_code,
        "gas": tx.gas,
        "cost": tx.cost().to_string(),
        "aborted": tx.aborted,
        "sent": sent,
    })
}

fn prices() -> Value {
    json!({
        "gas": config::GAS_PRICE,
        "gasCredit": config::GAS_CREDIT,
        "flatGasLimit": config::FLAT_GAS_LIMIT,
        "flatGasPrice": config::FLAT_GAS_PRICE,
        "messageLump": config::MESSAGE_LUMP_PRICE,
        "messageBit": config::MESSAGE_BIT_PRICE,
        "messageCell": config::MESSAGE_CELL_PRICE,
        "storageCell": config::STORAGE_CELL_PRICE,
    })
}

/// Everything a channel can meet, in one life of one channel.
fn scenario() -> Recorder {
    let mut r = Recorder::new();
    r.deploy(3 * GRAM);
    r.send(STRANGER, GRAM, &top_up(1).unwrap());
    r.deposit(GRAM / 10);

    let cap = r.world.cap(2 * GRAM);
    r.external(&cap, 1);
    r.external(&cap, GRAM);
    r.external(&cap, GRAM);
    r.external(&cap, 2 * GRAM + 1);
    let settled = r.world.settlement(3 * GRAM / 2);
    r.send(STRANGER, FOR_FEES, &settle(&cap, &settled).unwrap());
    r.send(STRANGER, FOR_FEES, &settle(&cap, &settled).unwrap());
    for value in [200_000, 520_000, 530_000, 580_000] {
        r.send(STRANGER, value, &settle(&cap, &r.world.settlement(2 * GRAM)).unwrap());
    }

    let channel = r.world.channel;
    for other in [
        ChannelId { network: NetworkId::TESTNET, ..channel },
        ChannelId { account: Digest([1; 32]), ..channel },
    ] {
        let sign = |channel, meter| payer().sign(channel, meter_key(meter), 2 * GRAM).unwrap();
        let receipt = |channel| {
            let settlement = Settlement { channel, cum_amount: 2 * GRAM, state: state(7) };
            meter().sign_settlement(settlement).unwrap()
        };
        for (cap, receipt) in [
            (sign(other, &meter()), receipt(channel)),
            (sign(channel, &meter()), receipt(other)),
            (sign(channel, &other_meter()), receipt(channel)),
        ] {
            let body = settle(&cap, &receipt).unwrap();
            let message = crate::traps::external_to(channel.account, &body);
            r.record_external(&boc(&message));
            r.send(STRANGER, FOR_FEES, &body);
        }
    }

    let forged = PayerKey::from_seed(&Zeroizing::new([0x23; 32]));
    let forged = forged.sign(channel, meter_key(&meter()), 2 * GRAM).unwrap();
    r.external(&forged, 2 * GRAM);
    r.send(STRANGER, FOR_FEES, &settle(&forged, &r.world.settlement(2 * GRAM)).unwrap());

    r.send(PAYEE, FOR_FEES, &start_close(1).unwrap());
    r.send(PAYER, FOR_FEES, &finish_close(1).unwrap());
    r.send(PAYER, FOR_FEES, &coop_close(1).unwrap());
    r.send(PAYER, FOR_FEES, &start_close(2).unwrap());
    r.send(PAYER, FOR_FEES, &start_close(3).unwrap());
    r.world.chain.advance(DEFAULT_CLOSE_DELAY - 1);
    r.send(PAYER, FOR_FEES, &finish_close(4).unwrap());
    r.world.chain.advance(1);
    r.send(PAYEE, FOR_FEES, &settle(&cap, &r.world.settlement(3 * GRAM / 2 + 5)).unwrap());
    r.external(&cap, 2 * GRAM);
    r.send(PAYER, FOR_FEES, &finish_close(5).unwrap());
    r.external(&r.world.cap(9 * GRAM), 9 * GRAM);
    r.world.chain.advance(365 * 86_400);
    r.deploy(GRAM);
    r.external(&cap, 2 * GRAM);
    r.external(&r.world.cap(9 * GRAM), 9 * GRAM);
    r.send(PAYEE, FOR_FEES, &coop_close(6).unwrap());
    r.send(STRANGER, FOR_FEES, &finish_close(7).unwrap());
    r.send(STRANGER, FOR_FEES, &settled.cell().clone());
    r
}

#[test]
fn the_scenario_meets_every_refusal_that_a_typed_message_can_meet() {
    let results = scenario().results;
    for refusal in Refusal::ALL {
        // Cells that are no cap or no receipt cannot be built from types.
        if refusal == Refusal::NotACapOrReceipt {
            continue;
        }
        let code = refusal.exit_code();
        assert!(
            results.iter().any(|r| r["refused"] == code || r["exit"] == code),
            "{refusal:?} does not occur"
        );
    }
    let paid = results.iter().filter(|r| r["exit"] == 0).count();
    assert!(paid >= 12, "{paid} messages were accepted");
}

/// Orders to a registry, good and bad.
fn registry_scenario() -> Recorder {
    let mut r = Recorder::new();
    let deploy = registry::deploy();
    let account = deploy.to;
    r.transfer(&deploy);
    let now = |r: &Recorder| Registry { chain: r.world.chain.clone(), account };
    let bring = |r: &mut Recorder, order: &Order, from: u8, who: &[u8]| {
        let order = order.cell().unwrap();
        let message = now(r).message(&order, &registry::signed(&order, from, who));
        r.transfer(&message);
    };
    for kind in [EntryKind::Image, EntryKind::Platform, EntryKind::MinTcb, EntryKind::Parameter] {
        for value in [registry::YES, registry::NO] {
            let order = now(&r).set(kind, value);
            bring(&mut r, &order, 1, &[0, 2]);
            bring(&mut r, &order, 1, &[0, 2]);
            r.world.chain.advance(registry::DELAY / 2 + 1);
        }
    }
    let order = now(&r).set(EntryKind::Model, registry::YES);
    for who in [&[][..], &[1]] {
        bring(&mut r, &order, 1, who);
    }
    bring(&mut r, &order, 10, &[0, 1]);
    bring(&mut r, &Order { network: NetworkId::TESTNET, ..order.clone() }, 1, &[0, 1]);
    bring(&mut r, &Order { valid_until: 1, ..order.clone() }, 1, &[0, 1]);
    bring(&mut r, &order, 1, &[0, 1, 2]);
    let order = now(&r).order(Action::SetOwners(registry::owners(10)));
    bring(&mut r, &order, 1, &[1, 2]);
    r.world.chain.advance(registry::DELAY);
    let order = now(&r).set(EntryKind::Model, registry::NO);
    bring(&mut r, &order, 1, &[0, 1]);
    bring(&mut r, &order, 10, &[0, 1]);
    r
}

#[test]
fn two_virtual_machines_agree_on_exit_codes_gas_fees_and_payments() {
    for recorded in [scenario(), registry_scenario()] {
        let input = json!({ "prices": prices(), "steps": recorded.steps }).to_string();
        let Some(theirs) = node("sandbox.cjs", "", &input) else { return };
        let theirs = theirs.as_array().unwrap();
        assert_eq!(theirs.len(), recorded.results.len());
        for (index, (ours, theirs)) in recorded.results.iter().zip(theirs).enumerate() {
            assert_eq!(ours, theirs, "step {index}: {}", recorded.steps[index]);
        }
        println!("{} messages, twice the same", theirs.len());
    }
}
