//! A chain that outlives its process, and the clock it follows.

use std::fs;
use std::path::Path;

use chrysalis_devchain::{BLOCK_SECONDS, ChainError, FAUCET, MAX_STATE_BYTES, Node, Range};
use chrysalis_wire::NetworkId;

use crate::{Clock, GRAM, NETWORK, NOW, Owner, PAYEE, node};

const ALL: Range = Range { from_lt: None, after_lt: 0, limit: usize::MAX };

fn open(clock: &Clock, dir: &Path) -> Result<Node, ChainError> {
    Node::open(NETWORK, clock.read(), Some(dir))
}

/// A directory that ends with the test.
struct Dir(std::path::PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("devchain-{name}-{}", std::process::id()));
        drop(fs::remove_dir_all(&dir));
        Self(dir)
    }

    fn state(&self) -> std::path::PathBuf {
        self.0.join("devchain.json")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

#[test]
fn a_chain_goes_on_where_it_ended() {
    let (clock, dir) = (Clock::start(), Dir::new("goes-on"));
    let owner = Owner::new(1);
    let node = open(&clock, &dir.0).unwrap();
    node.faucet(owner.account, 5 * GRAM).unwrap();
    node.send(&owner.pays(0, PAYEE, GRAM)).unwrap();
    node.advance(1_000).unwrap();
    let seen = |node: &Node| {
        let history = node.transactions(owner.account, ALL);
        (node.head(), node.account(owner.account).unwrap(), node.account(PAYEE), history)
    };
    let before = seen(&node);
    drop(node);
    let node = open(&clock, &dir.0).unwrap();
    assert_eq!(seen(&node), before);
    let (_, done) = node.send(&owner.pays(1, PAYEE, GRAM)).unwrap();
    assert!(done[0].lt > before.3[0].lt && done[0].succeeded());
}

#[test]
fn the_history_of_an_account_is_a_chain_of_hashes() {
    let node = node(&Clock::start());
    let owner = Owner::new(1);
    for round in 0..3 {
        node.faucet(owner.account, 5 * GRAM).unwrap();
        node.send(&owner.pays(round, PAYEE, 1)).unwrap();
    }
    let history = node.transactions(owner.account, ALL);
    assert_eq!(history.len(), 6);
    let account = node.account(owner.account).unwrap();
    assert_eq!((account.last_lt, account.last_hash), (history[0].lt, history[0].hash()));
    for pair in history.windows(2) {
        let newer = tycho_types::boc::Boc::decode(pair[0].boc()).unwrap();
        let newer = newer.parse::<tycho_types::models::Transaction>().unwrap();
        assert_eq!((newer.prev_trans_lt, newer.prev_trans_hash.0), (pair[1].lt, pair[1].hash().0));
    }
    assert!(node.transactions(FAUCET, ALL).is_empty(), "the faucet is no contract");
}

#[test]
fn refuses_a_second_process_on_the_same_state() {
    let (clock, dir) = (Clock::start(), Dir::new("second"));
    let first = open(&clock, &dir.0).unwrap();
    assert_eq!(open(&clock, &dir.0).unwrap_err(), ChainError::InUse);
    drop(first);
    open(&clock, &dir.0).unwrap();
}

#[test]
fn refuses_a_state_that_was_edited_cut_or_is_of_another_network() {
    let (clock, dir) = (Clock::start(), Dir::new("edited"));
    let node = open(&clock, &dir.0).unwrap();
    node.faucet(PAYEE, 5 * GRAM).unwrap();
    drop(node);
    let other = Node::open(NetworkId::TESTNET, clock.read(), Some(&dir.0)).unwrap_err();
    assert!(matches!(other, ChainError::Snapshot { .. }), "{other}");
    let good = fs::read_to_string(dir.state()).unwrap();
    let issued = format!("\"issued\":\"{}\"", 5 * GRAM);
    assert!(good.contains(&issued));
    for bad in [
        good.replace(&issued, "\"issued\":\"7\""),
        good.replace("devchain-state/v1", "devchain-state/v2"),
        good.replacen("\"seqno\"", "\"seqn\"", 1),
        good[..good.len() / 2].to_owned(),
        String::new(),
    ] {
        fs::write(dir.state(), &bad).unwrap();
        let refused = open(&clock, &dir.0).unwrap_err();
        assert_eq!(refused.code(), "E-CHAIN-STATE", "{bad}");
    }
    fs::write(dir.state(), good).unwrap();
    open(&clock, &dir.0).unwrap();
}

#[test]
fn refuses_a_state_one_byte_over_the_limit() {
    let (clock, dir) = (Clock::start(), Dir::new("large"));
    fs::create_dir_all(&dir.0).unwrap();
    let detail = |size| {
        fs::File::create(dir.state()).unwrap().set_len(size).unwrap();
        open(&clock, &dir.0).unwrap_err().to_string()
    };
    assert!(detail(MAX_STATE_BYTES + 1).contains("over"));
    assert!(!detail(MAX_STATE_BYTES).contains("over"));
}

#[test]
fn a_change_that_cannot_be_kept_does_not_happen() {
    let (clock, dir) = (Clock::start(), Dir::new("gone"));
    let node = open(&clock, &dir.0).unwrap();
    node.faucet(PAYEE, GRAM).unwrap();
    fs::remove_dir_all(&dir.0).unwrap();
    assert_eq!(node.faucet(PAYEE, GRAM).unwrap_err().code(), "E-CHAIN-STORE");
    assert_eq!(node.account(PAYEE).unwrap().balance, GRAM);
}

#[test]
fn blocks_come_with_messages_and_with_time_and_no_clock_takes_them_back() {
    let clock = Clock::start();
    let node = node(&clock);
    let first = node.head().seqno;
    node.faucet(PAYEE, 1).unwrap();
    assert_eq!(node.head().seqno, first + 1);
    clock.set(NOW + 3 * BLOCK_SECONDS - 1);
    assert_eq!(node.head().seqno, first + 3);
    clock.set(NOW + 3 * BLOCK_SECONDS);
    assert_eq!(node.head().seqno, first + 4);
    clock.set(NOW - 1_000);
    assert_eq!((node.head().seqno, node.head().now), (first + 4, NOW + 3 * BLOCK_SECONDS));
}
