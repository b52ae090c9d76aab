//! `chrysalis devchain` and `chrysalis channel`, as a user meets them: a local chain, a wallet on it, and
//! a channel from the first coin to the refund.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use common::World;
use serde_json::Value;

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
