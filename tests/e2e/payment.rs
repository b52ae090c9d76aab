//! Money from end to end: a worker that is paid, a client with a budget, the ledger of each, and the
//! contract in a real TVM that pays what the payee's ledger says.

use std::path::{Path, PathBuf};

use chrysalis_devchain::{DevChain, Transfer};
use chrysalis_ledger::{Channel, LedgerView, Side};
use chrysalis_receipt::boc;
use chrysalis_tests::{Ran, Running, World, chrysalis};
use chrysalis_ton::{ChannelConfig, settle_external};
use chrysalis_wire::{Digest, NetworkId};

const GRAM: u128 = 1_000_000_000;
const PAYER: Digest = Digest([8; 32]);
const PAYEE: Digest = Digest([7; 32]);
const PINS: &str = "paid-pins.toml";

/// A manifest that asks for money: a milligram for a prompt token, ten for one of the answer, so that
/// three answers are worth a settlement.
fn manifest(world: &World) -> PathBuf {
    let path = world.path("paid.toml");
    chrysalis([
        "manifest".as_ref(),
        "init".as_ref(),
        "--bundle".as_ref(),
        world.path("model.chrysalis").as_os_str(),
        "--network".as_ref(),
        "sim".as_ref(),
        "--payee".as_ref(),
        format!("0:{PAYEE}").as_ref(),
        "--price-prompt".as_ref(),
        "1000000000000".as_ref(),
        "--price-cached".as_ref(),
        "1000000000000".as_ref(),
        "--price-completion".as_ref(),
        "10000000000000".as_ref(),
        "--out".as_ref(),
        path.as_os_str(),
    ])
    .expect_code(0);
    world.measure(&path, PINS);
    path
}

fn ask(world: &World, worker: &Running, pay: &[&str]) -> Ran {
    let mut args = vec!["ask".to_owned(), "--worker".into(), worker.address.clone()];
    args.extend(world.trust_with(PINS));
    args.extend(["--state", worker.state.path().to_str().unwrap()].map(str::to_owned));
    args.extend(["--format", "json", "--max-tokens", "6"].map(str::to_owned));
    args.extend(pay.iter().map(|s| (*s).to_owned()));
    args.push("Say hello.".into());
    chrysalis(args)
}

fn amount(ran: &Ran) -> u128 {
    let path = ran.json()["receipt"].as_str().unwrap().to_owned();
    let stored: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    stored["receipt"]["head"]["amount"].as_str().unwrap().parse().unwrap()
}

fn only_channel(path: &Path, side: Side) -> Channel {
    let mut channels = LedgerView::open(path, side).unwrap().channels().unwrap();
    assert_eq!(channels.len(), 1);
    channels.remove(0)
}

#[test]
fn what_was_answered_is_paid_by_the_contract_to_the_nanogram_and_within_the_budget() {
    let Some(world) = World::get() else { return };
    let (worker, ran) = Running::try_start(world, &manifest(world), &world.path("model.chrysalis"));
    ran.expect_code(0);
    let worker = worker.unwrap();
    second_is_refused(world, &worker);

    let unpaid = ask(world, &worker, &[]).expect_code(10);
    assert!(unpaid.stderr.contains("E-PAYMENT"), "{}", unpaid.stderr);

    let key = worker.state.path().join("payer.key");
    let (key, account) = (key.to_str().unwrap(), format!("0:{PAYER}"));
    let pay = |limit: &'static str| {
        ["--payer-key", key, "--payer-account", account.as_str(), "--pay-limit", limit]
    };
    // A whole context at these prices is 4.2 GRAM; the budget of this one is below that.
    let poor = ask(world, &worker, &pay("1000000000")).expect_code(10);
    assert!(poor.stderr.contains("E-BUDGET"), "{}", poor.stderr);

    let asked: Vec<_> =
        (0..3).map(|_| ask(world, &worker, &pay("20000000000")).expect_code(0)).collect();
    let owed: u128 = asked.iter().map(amount).sum();
    let payments = only_channel(&worker.state.path().join("payments.redb"), Side::Payer);
    assert_eq!((payments.receipted, payments.earned, payments.requests), (owed, owed, 3));
    assert!(payments.covered <= 20 * GRAM);

    // The worker tells its owner the last of it while it stops.
    chrysalis(["down".as_ref(), "--state".as_ref(), worker.state.path().as_os_str()])
        .expect_code(0);
    let earnings = only_channel(&worker.state.path().join("earnings.redb"), Side::Payee);
    assert_eq!((earnings.earned, earnings.requests), (owed, 3));
    let claim = earnings.claim.unwrap();
    histories_hold(world, &worker, &asked);

    let mut chain = DevChain::new(NetworkId::INSECURE_SIM, 1_795_000_000).unwrap();
    for wallet in [PAYER, PAYEE] {
        chain.issue(wallet, 100 * GRAM).unwrap();
    }
    let config = ChannelConfig::from_terms(claim.terms());
    let channel = config.id(NetworkId::INSECURE_SIM).unwrap().account;
    assert_eq!(channel, claim.channel().account);
    let init = Some(boc(&config.state_init().unwrap()));
    let deploy = Transfer { init, ..Transfer::new(PAYER, channel, 20 * GRAM) };
    assert!(chain.transfer(&deploy).unwrap()[0].succeeded());
    let (payee, deposit) = (chain.balance(PAYEE).unwrap(), chain.balance(channel).unwrap());
    let message = boc(&settle_external(claim.cap(), claim.settlement()).unwrap());
    let done = chain.send_boc(&message).unwrap();
    assert!(done[0].succeeded(), "{done:?}");
    assert_eq!(chain.balance(PAYEE).unwrap(), payee + owed);
    let fees = deposit - owed - chain.balance(channel).unwrap();
    assert!(fees > 0 && fees <= 800_000, "{fees} nanogram of fees");
    assert_eq!(chain.balances().unwrap() + chain.fees(), chain.issued());
    assert!(chain.send_boc(&message).is_err(), "it is paid once");
}

/// A channel would pay for one of two workers that are paid alike.
fn second_is_refused(world: &World, first: &Running) {
    let (second, ran) =
        Running::try_start(world, &world.path("paid.toml"), &world.path("model.chrysalis"));
    let refused = ran.expect_code(10);
    let first = first.state.path().to_str().unwrap();
    assert!(second.is_none() && refused.stderr.contains(first), "{}", refused.stderr);
    assert!(refused.stderr.contains("E-PAID-ELSEWHERE"), "{}", refused.stderr);
}

/// What payer and payee kept, written as histories: both are accepted, the payer's whole, and one that
/// was changed is refused with the entry that breaks. One receipt is proved to be in the sum.
fn histories_hold(world: &World, worker: &Running, asked: &[Ran]) {
    let state = |name: &str| worker.state.path().join(name).to_str().unwrap().to_owned();
    let history = |ledger: &str, out: &str| {
        chrysalis(["receipt", "history", "--ledger", &state(ledger), "--out", &state(out)])
            .expect_code(0);
        chrysalis(["receipt", "chain", &state(out)]).expect_code(0).stdout
    };
    let payers = history("payments.redb", "payer.json");
    assert!(payers.contains("HOLDS") && payers.contains("3 requests cost"), "{payers}");
    let payees = history("earnings.redb", "payee.json");
    assert!(payees.contains("3 requests cost") && !payees.contains("FAIL"), "{payees}");

    let text = std::fs::read(state("payer.json")).unwrap();
    let mut changed: serde_json::Value = serde_json::from_slice(&text).unwrap();
    changed["meters"][0]["settlements"][1]["cum_amount"] = "1".into();
    std::fs::write(state("changed.json"), changed.to_string()).unwrap();
    let refused = chrysalis(["receipt", "chain", &state("changed.json")]).expect_code(10);
    assert!(refused.stderr.contains("settlement 1 of meter 0"), "{}", refused.stderr);

    let receipts: Vec<_> =
        asked.iter().map(|ran| ran.json()["receipt"].as_str().unwrap().to_owned()).collect();
    let (from, out) = (state("payer.json"), state("counted.json"));
    let prove = ["receipt", "prove", &receipts[1], "--history", &from, "--out", &out];
    chrysalis(prove).expect_code(0);
    let verify = |receipt: &str| {
        let mut args = vec!["receipt".to_owned(), "verify".into(), receipt.to_owned()];
        args.extend(world.trust_with(PINS));
        args.extend(["--proof".to_owned(), out.clone()]);
        chrysalis(args)
    };
    let shown = verify(&receipts[1]).expect_code(0).stdout;
    assert!(shown.contains("is number 2 of 3 that its meter counted"), "{shown}");
    let other = verify(&receipts[0]).expect_code(10);
    assert!(other.stderr.contains("E-RECEIPT-NOT-COUNTED"), "{}", other.stderr);
}
