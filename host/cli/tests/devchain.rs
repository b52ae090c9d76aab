//! `chrysalis devchain`, `channel`, `watch` and `earnings`, as a user meets them: a local chain, a wallet
//! on it, a channel from the first coin to the refund, and a payee who is paid without a key.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use chrysalis_ledger::{Entry, Ledger, Question, Side};
use chrysalis_receipt::{
    Claim, MeterKey, MeterPublicKey, MeterState, PayerKey, PayerPublicKey, Settlement,
};
use chrysalis_ton::ChannelConfig;
use chrysalis_wire::{Digest, NetworkId, UnixTime};
use common::World;
use serde_json::{Value, json};
use zeroize::Zeroizing;

/// A payer's public key, and a payee.
const PAYER_KEY: &str = "2152f8d19b791d24453242e15f2eab6cb7cffa7b6a5ed30097960e069881db12";
const PAYEE: &str = "0:0707070707070707070707070707070707070707070707070707070707070707";

/// A running `chrysalis devchain`.
struct Chain {
    child: Child,
    started: Value,
}

impl Chain {
    fn start(world: &World) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_chrysalis"))
            .args(["devchain", "--listen", "127.0.0.1:0", "--format", "json", "--state"])
            .arg(world.path("chain"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut text = String::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        while !text.ends_with("}\n") {
            text += &format!("{}\n", lines.next().unwrap().unwrap());
        }
        Self { child, started: serde_json::from_str(&text).unwrap() }
    }

    fn url(&self) -> &str {
        self.started["base_url"].as_str().unwrap()
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn json(world: &World, line: &str) -> Value {
    serde_json::from_str(&world.run(&format!("{line} --format json")).success().stdout()).unwrap()
}

#[test]
fn a_channel_lives_from_the_first_coin_to_the_refund() {
    let world = World::new();
    let chain = Chain::start(&world);
    let url = chain.url().to_owned();
    assert!(chain.started["notice"].as_str().unwrap().contains("no consensus network"));
    let wallet = json(&world, "devchain wallet --out @wallet.key");
    let address = wallet["address"].as_str().unwrap();
    world.run(&format!("devchain faucet {address} 10 --chain {url}")).success();

    let deploy = json(
        &world,
        &format!(
            "channel deploy --payee {PAYEE} --payer-key {PAYER_KEY} --deposit 2 \
             --dev-wallet @wallet.key --chain {url}"
        ),
    );
    assert_eq!((&deploy["sent"], &deploy["nano"]), (&true.into(), &"2000000000".into()));
    let channel = deploy["address"].as_str().unwrap().to_owned();
    let show = || json(&world, &format!("channel show {channel} --chain {url}"));
    let open = show();
    assert_eq!((&open["close_at"], &open["paid_nano"]), (&Value::Null, &"0".into()));

    let signing = format!("--dev-wallet @wallet.key --chain {url}");
    world.run(&format!("channel topup {channel} 1.5 {signing}")).success();
    let balance: u128 = show()["balance_nano"].as_str().unwrap().parse().unwrap();
    assert!(balance > 3_499_000_000 && balance < 3_500_000_000, "{balance}");
    // Too early, and so nothing but fees is lost.
    world.run(&format!("channel close {channel} --step finish {signing}")).success();
    assert_eq!(show()["close_at"], Value::Null);
    world.run(&format!("channel close {channel} {signing}")).success();
    assert!(show()["close_at"].is_u64());
    world.run(&format!("devchain advance 86400 --chain {url}")).success();
    world.run(&format!("channel close {channel} --step finish {signing}")).success();
    let left: u128 = show()["balance_nano"].as_str().unwrap().parse().unwrap();
    assert!(left <= 5_000_000, "{left}");

    // The chain is kept, and goes on.
    drop(chain);
    let chain = Chain::start(&world);
    let text = world.run(&format!("channel show {channel} --chain {}", chain.url())).success();
    assert!(text.stdout().contains("closing") && text.stdout().contains("GRAM"));
}

#[test]
fn without_a_dev_wallet_it_makes_a_link_and_sends_nothing() {
    let world = World::new();
    let line = format!(
        "channel deploy --payer {PAYEE} --payee {} --payer-key {PAYER_KEY} --deposit 2 --network mainnet",
        PAYEE.replace("07", "08")
    );
    let made = json(&world, &line);
    assert_eq!(made["sent"], false);
    let (address, link) = (made["address"].as_str().unwrap(), made["link"].as_str().unwrap());
    assert!(link.starts_with(&format!("ton://transfer/{address}?amount=2000000000&init=")));
    assert!(address.starts_with("EQ"));
    let text = world.run(&line).success();
    assert!(text.stdout().contains(link) && text.stdout().contains("2.0000 GRAM"));
    let close = json(&world, &format!("channel close {address} --network mainnet"));
    assert!(close["link"].as_str().unwrap().contains("&bin="));
}

#[test]
fn refuses_a_dev_wallet_on_the_main_network_and_settings_that_hurt() {
    let world = World::new();
    world.run("devchain wallet --out @wallet.key").success();
    let deploy = format!("channel deploy --payee {PAYEE} --payer-key {PAYER_KEY} --deposit 1");
    for (line, exit, code) in [
        (
            format!("{deploy} --dev-wallet @wallet.key --network mainnet"),
            10,
            "E-DEV-WALLET-NETWORK",
        ),
        (
            "devchain wallet --out @other.key --network mainnet".to_owned(),
            10,
            "E-DEV-WALLET-NETWORK",
        ),
        ("devchain --listen 0.0.0.0:0".to_owned(), 10, "E-CHAIN-NOT-LOOPBACK"),
        (format!("{deploy} --payer {PAYEE}"), 64, "E-CHANNEL-PARTIES"),
        (format!("{deploy} --dev-wallet @wallet.key --close-delay 60"), 64, "E-TON-SETTING"),
        (format!("channel show {PAYEE} --chain http://ton.example"), 64, "E-CHAIN-URL-PLAIN"),
        (format!("channel show {PAYEE} --chain http://127.0.0.1:1"), 1, "E-CHAIN-UNREACHABLE"),
        (format!("channel topup {PAYEE} 1.0000000001"), 64, "E-USAGE"),
        ("channel show EQnonsense".to_owned(), 64, "E-USAGE"),
    ] {
        let run = world.run(&line).exits(exit);
        assert!(run.stderr().contains(code), "{line}: {}", run.stderr());
    }
}

const NANO: u128 = 1_250_000_000;

/// A claim as a worker makes it, in a channel of `payer`'s with the settings of the tests.
fn claim(payer: Digest, payee: Digest, cum_amount: u128) -> Claim {
    let network = NetworkId::INSECURE_SIM;
    let caps = PayerKey::from_seed(&Zeroizing::new([0x22; 32]));
    let meter = MeterKey::from_seed(&Zeroizing::new([0x11; 32]));
    let key = PayerPublicKey::parse(&caps.public()).unwrap();
    let config = ChannelConfig::new(key, payer, payee, 1).unwrap();
    let channel = config.id(network).unwrap();
    let meter_key = MeterPublicKey::parse(&meter.public()).unwrap();
    let cap = caps.sign(channel, meter_key, 2 * NANO).unwrap();
    let state = MeterState {
        blind: [1; 16],
        count: 3,
        cum_units: 30,
        issued_at: UnixTime(1_795_000_000),
        prev: Digest([0; 32]),
        log_root: Digest([0; 32]),
    };
    let settlement = Settlement { channel, cum_amount, state };
    let settlement = meter.sign_settlement(settlement).unwrap();
    Claim::new(config.terms().unwrap(), cap, settlement).unwrap()
}

/// A channel with a deposit, and a ledger by which it owes `nano`; and how its payer signs.
fn owing(world: &World, url: &str, nano: u128) -> (String, String) {
    let wallet = json(world, "devchain wallet --out @wallet.key");
    let (address, account) =
        (wallet["address"].as_str().unwrap(), wallet["account"].as_str().unwrap());
    world.run(&format!("devchain faucet {address} 10 --chain {url}")).success();
    let payer_key = Digest(PayerKey::from_seed(&Zeroizing::new([0x22; 32])).public());
    let signing = format!("--dev-wallet @wallet.key --chain {url}");
    let deploy =
        format!("channel deploy --payee {PAYEE} --payer-key {payer_key} --deposit 2 {signing}");
    let channel = json(world, &deploy)["address"].as_str().unwrap().to_owned();
    let claim = claim(account.parse().unwrap(), Digest([7; 32]), nano);
    let ledger = Ledger::open(&world.path("earnings.redb"), Side::Payee).unwrap();
    ledger.record(&Entry::Claim(&claim), UnixTime(1_795_000_000)).unwrap();
    (channel, signing)
}

#[test]
fn a_payee_is_paid_by_whoever_watches_and_sees_what_she_earned() {
    let world = World::new();
    let chain = Chain::start(&world);
    let url = chain.url().to_owned();
    let wallet = json(&world, "devchain wallet --out @wallet.key");
    let (address, account) =
        (wallet["address"].as_str().unwrap(), wallet["account"].as_str().unwrap());
    world.run(&format!("devchain faucet {address} 10 --chain {url}")).success();
    let claim = claim(account.parse().unwrap(), Digest([7; 32]), NANO);
    let payer_key = Digest(PayerKey::from_seed(&Zeroizing::new([0x22; 32])).public());
    let deploy = format!(
        "channel deploy --payee {PAYEE} --payer-key {payer_key} --deposit 2 \
         --dev-wallet @wallet.key --chain {url}"
    );
    let channel = json(&world, &deploy)["address"].as_str().unwrap().to_owned();

    // The worker's supervisor has it open, and goes on.
    let ledger = Ledger::open(&world.path("earnings.redb"), Side::Payee).unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    ledger.record(&Entry::Claim(&claim), UnixTime(now.as_secs())).unwrap();
    let earnings = || json(&world, "earnings --ledger @earnings.redb");
    let before = earnings();
    assert_eq!(before["total"]["earned_nano"], "1250000000");
    assert_eq!(
        (&before["unsettled_nano"], &before["covered_nano"]),
        (&"1250000000".into(), &"1250000000".into())
    );
    assert_eq!(before["next"]["fee_ppm"], "561");

    let watch = format!("watch --once --ledger @earnings.redb --chain {url}");
    let line = |text: String| serde_json::from_str::<Value>(text.lines().next().unwrap()).unwrap();
    let round = line(world.run(&format!("{watch} --format json")).success().stdout());
    assert_eq!(
        (&round["channel"], &round["owed_nano"]),
        (&channel.as_str().into(), &"1250000000".into())
    );
    assert!(round["what"].as_str().unwrap().ends_with(": sent"), "{round}");
    let shown = json(&world, &format!("channel show {channel} --chain {url}"));
    assert_eq!(shown["paid_nano"], "1250000000");

    // The next look takes it down; bringing the claim again pays nothing.
    let text = world.run(&watch).success().stdout();
    assert!(text.contains("it paid everything"), "{text}");
    let after = earnings();
    assert_eq!(
        (&after["today"]["settled_nano"], &after["next"]),
        (&"1250000000".into(), &Value::Null)
    );
    assert_eq!((&after["total"]["requests"], &after["unsettled_nano"]), (&3.into(), &"0".into()));
    let fees: u64 = after["total"]["fees_nano"].as_str().unwrap().parse().unwrap();
    assert!(fees > 300_000 && fees < 800_000, "{fees}");
    let text = world.run("earnings --ledger @earnings.redb").success().stdout();
    assert!(text.contains("earned 1.2500 GRAM, settled 1.2500 GRAM"), "{text}");
    let text = world.run("earnings --nano --ledger @earnings.redb").success().stdout();
    assert!(text.contains("earned 1250000000 nanogram"), "{text}");
    drop(ledger);
}

#[test]
fn a_stop_is_shown_with_its_proof_and_lifted_only_when_that_is_asked() {
    let world = World::new();
    let claim = claim(Digest([8; 32]), Digest([7; 32]), NANO);
    let channel = claim.channel();
    let ledger = Ledger::open(&world.path("payments.redb"), Side::Payer).unwrap();
    let at = UnixTime(1_795_000_000);
    let asked = Question { receipted: NANO, at };
    ledger.record(&Entry::Overcharge { claim: &claim, accounted: NANO, asked }, at).unwrap();
    let stopped = "channel stopped --ledger @payments.redb";
    world.run(&format!("{stopped} --lift")).exits(10).says("E-LEDGER-IN-USE");
    drop(ledger);
    for _ in 0..2 {
        let shown = json(&world, stopped);
        assert_eq!(shown["accounted_nano"], NANO.to_string());
        assert_eq!(shown["claimed_nano"], claim.cum_amount().to_string());
        assert_eq!(shown["claim"], hex::encode(claim.encode()));
    }
    let text = world.run(&format!("{stopped} --lift")).success().stdout();
    assert!(text.contains("Lifted"), "{text}");
    world.run(stopped).exits(10).says("E-NOT-STOPPED");
    world.run("channel stopped --ledger @earnings.redb").exits(64).says("E-LEDGER-OPEN");
    let ledger = Ledger::open(&world.path("payments.redb"), Side::Payer).unwrap();
    let view = ledger.view();
    assert_eq!(view.memory(channel).unwrap().unwrap().overcharge, None);
    assert_eq!(view.channel(channel).unwrap().unwrap().earned, claim.cum_amount());
}

#[test]
fn less_than_the_smallest_settlement_is_brought_by_a_wallet_once_its_payer_closes() {
    let world = World::new();
    let chain = Chain::start(&world);
    let url = chain.url().to_owned();
    let (channel, signing) = owing(&world, &url, NANO / 100);

    let settle = format!("channel settle --ledger @earnings.redb {signing}");
    world.run(&settle).exits(10).says("E-SETTLE-LITTLE");
    world.run(&format!("channel close {channel} {signing}")).success();
    // What closes is told of at every look, also by servers of which one is away. There is one chain here:
    // a second name stands for a second server, which no name given twice does.
    let second = url.replace("127.0.0.1", "localhost");
    let watch = |second: &str| {
        format!(
            "watch --once --ledger @earnings.redb --chain {url} --also {second} \
             --also http://127.0.0.1:9/api/v2"
        )
    };
    world.run(&watch(&url)).exits(64).says("E-CHAIN-TWICE");
    let watch = watch(&second);
    let told = world.run(&format!("{watch} --format json")).success().stdout();
    let told: Value = serde_json::from_str(told.lines().next().unwrap()).unwrap();
    assert_eq!((&told["shown_by"], &told["asked"]), (&2.into(), &3.into()), "{told}");
    assert_eq!(told["unanswered"].as_array().unwrap().len(), 1);

    let link = format!("channel settle --ledger @earnings.redb --chain {url}");
    let made = json(&world, &link);
    assert_eq!(made["sent"], false);
    assert!(made["link"].as_str().unwrap().contains("&bin="));
    let sent = world.run(&settle).success();
    assert!(sent.stderr().contains("0.0125 GRAM would be paid"), "{}", sent.stderr());
    let shown = json(&world, &format!("channel show {channel} --chain {url}"));
    assert_eq!(shown["paid_nano"], "12500000");
    world.run(&settle).exits(10).says("E-SETTLE-NOTHING");
    world.run(&watch).success();
    let earned = json(&world, "earnings --ledger @earnings.redb");
    assert_eq!(earned["total"]["settled_nano"], "12500000");
}

/// A chain server that says whatever is asked for was paid and closed long ago, and takes every message
/// without sending it on. Says how many messages it kept.
fn liar() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/api/v2", listener.local_addr().unwrap());
    let kept = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&kept);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut line, mut length) = (String::new(), 0);
            while reader.read_line(&mut line).unwrap() > 2 {
                let head = line.to_ascii_lowercase();
                if let Some(text) = head.strip_prefix("content-length:") {
                    length = text.trim().parse().unwrap();
                }
                line.clear();
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let asked: Value = serde_json::from_slice(&body).unwrap();
            let paid = json!([["num", format!("{:#x}", 2 * NANO)], ["num", "0x0"], ["num", "0x0"]]);
            let result = if asked["method"] == "runGetMethod" {
                json!({ "gas_used": 1, "exit_code": 0, "stack": paid })
            } else {
                counter.fetch_add(1, Ordering::Relaxed);
                json!({ "@type": "ok" })
            };
            let said =
                json!({ "ok": true, "result": result, "id": "1", "jsonrpc": "2.0" }).to_string();
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
            drop(write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{said}", said.len()));
        }
    });
    (url, kept)
}

/// The watcher as it runs for months: a server that lies, one that takes connections and says nothing, and
/// an honest one. The payer has asked to close, and keeps quiet about what is owed.
#[test]
fn one_honest_server_is_enough_to_be_paid_beside_one_that_lies_and_one_that_is_silent() {
    let world = World::new();
    let chain = Chain::start(&world);
    let url = chain.url().to_owned();
    let (channel, signing) = owing(&world, &url, NANO);
    world.run(&format!("channel close {channel} {signing}")).success();

    let (lying, kept) = liar();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silence = format!("http://{}/api/v2", silent.local_addr().unwrap());
    let mut watch = Command::new(env!("CARGO_BIN_EXE_chrysalis"))
        .args(["watch", "--format", "json", "--settle-at", "100", "--ledger"])
        .arg(world.path("earnings.redb"))
        .args(["--chain", &lying, "--also", &silence, "--also", &url])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let told: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    let paid =
        || json(&world, &format!("channel show {channel} --chain {url}"))["paid_nano"].to_string();
    assert_eq!(paid(), "\"1250000000\"", "{told}");
    assert_eq!(told["channel"], channel);
    assert!(told["what"].as_str().unwrap().contains("sent"), "{told}");
    assert_eq!((&told["asked"], told["unanswered"].as_array().unwrap().len()), (&3.into(), 1));
    assert!(kept.load(Ordering::Relaxed) > 0, "the claim went to every server that answers");

    // It goes on, ends when it is asked to, and whoever looks again brings nothing twice.
    assert!(watch.try_wait().unwrap().is_none(), "it ended");
    let asked = Command::new("kill").arg(watch.id().to_string()).status().unwrap();
    assert!(asked.success());
    assert!(watch.wait().unwrap().success());
    let again = format!("watch --once --ledger @earnings.redb --chain {lying} --also {url}");
    world.run(&again).success();
    assert_eq!(paid(), "\"1250000000\"");
}

/// A link is made and nothing is sent: the payee's wallet would.
#[test]
fn a_channel_is_given_back_only_where_all_servers_that_are_asked_say_the_same() {
    let world = World::new();
    let chain = Chain::start(&world);
    let url = chain.url().to_owned();
    let (channel, _) = owing(&world, &url, NANO);
    let agree = |also: &str| {
        let ledger = "--step agree --ledger @earnings.redb";
        world.run(&format!("channel close {channel} {ledger} --chain {url} {also}"))
    };
    agree("").exits(10).says("E-CHANNEL-OWED");
    for _ in 0..2 {
        world.run(&format!("watch --once --ledger @earnings.redb --chain {url}")).success();
    }
    let run = agree("").success();
    assert!(run.stderr().contains("is the word of"), "{}", run.stderr());
    let second = url.replace("127.0.0.1", "localhost");
    let run = agree(&format!("--also {second}")).success();
    assert!(!run.stderr().contains("is the word of"), "{}", run.stderr());
    agree(&format!("--also {url}")).exits(64).says("E-CHAIN-TWICE");
    let (lying, _) = liar();
    let run = agree(&format!("--also {second} --also {lying}")).exits(10);
    for said in
        ["E-CHAIN-DISAGREE", "says 1250000000 nanogram paid", "says 2500000000 nanogram paid"]
    {
        assert!(run.stderr().contains(said), "{}", run.stderr());
    }
    let run = agree("--also http://127.0.0.1:9/api/v2").exits(10);
    assert!(run.stderr().contains("says no answer (E-CHAIN-UNREACHABLE)"), "{}", run.stderr());
}

#[test]
fn refuses_to_watch_a_ledger_that_is_not_there_or_at_settings_that_hurt() {
    let world = World::new();
    drop(Ledger::open(&world.path("earnings.redb"), Side::Payee).unwrap());
    drop(Ledger::open(&world.path("payments.redb"), Side::Payer).unwrap());
    for (line, exit, code) in [
        ("watch --ledger @none.redb", 64, "E-LEDGER-OPEN"),
        ("earnings --ledger @none.redb", 64, "E-LEDGER-OPEN"),
        ("earnings --ledger @payments.redb", 10, "E-LEDGER-SIDE"),
        ("watch --ledger @earnings.redb --max-fee 0", 64, "E-WATCH-FEE-SHARE"),
        ("watch --ledger @earnings.redb --settle-after 0", 64, "E-WATCH-SETTLE-AFTER"),
        ("watch --ledger @earnings.redb --also http://ton.example", 64, "E-CHAIN-URL-PLAIN"),
    ] {
        let run = world.run(line).exits(exit);
        assert!(run.stderr().contains(code), "{line}: {}", run.stderr());
    }
    assert!(!world.path("none.redb").exists());
}
