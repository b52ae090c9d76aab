//! Deposits from end to end: a worker whose owner vouches for what she sees on a chain, a payer whose
//! channel is not there, is there, is used up, is topped up, and closes.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use chrysalis_tests::{Killed, Ran, Running, World, bin, chrysalis};

const PAYEE: &str = "0:0707070707070707070707070707070707070707070707070707070707070707";
const PINS: &str = "funded-pins.toml";

/// A local chain, its URL, and a payer's wallet with coins on it.
struct Chain {
    _process: Killed,
    url: String,
    wallet: String,
    account: String,
}

impl Chain {
    fn start(dir: &Path) -> Self {
        let mut child = Command::new(bin("chrysalis"))
            .args(["devchain", "--listen", "127.0.0.1:0", "--format", "json", "--state"])
            .arg(dir.join("chain"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut text = String::new();
        while !text.ends_with("}\n") {
            text += &format!("{}\n", lines.next().unwrap().unwrap());
        }
        let started: serde_json::Value = serde_json::from_str(&text).unwrap();
        let url = started["base_url"].as_str().unwrap().to_owned();
        let wallet = dir.join("payer.wallet").to_str().unwrap().to_owned();
        let made = ["devchain", "wallet", "--format", "json", "--out", &wallet];
        let made = chrysalis(made).expect_code(0).json();
        let account = format!("0:{}", made["account"].as_str().unwrap());
        chrysalis(["devchain", "faucet", &account, "30", "--chain", &url]).expect_code(0);
        Self { _process: Killed(child), url, wallet, account }
    }

    fn channel(&self, words: &[&str]) -> serde_json::Value {
        let mut args = vec!["channel"];
        args.extend(words);
        args.extend(["--dev-wallet", &self.wallet, "--chain", &self.url, "--format", "json"]);
        chrysalis(args).expect_code(0).json()
    }
}

fn manifest(world: &World, funding_key: &str) -> std::path::PathBuf {
    let path = world.path("funded.toml");
    let bundle = world.path("model.chrysalis");
    let (bundle, out) = (bundle.to_str().unwrap(), path.to_str().unwrap());
    let mut args = vec!["manifest", "init", "--bundle", bundle, "--network", "sim"];
    // A number of its own: workers of this account run in other tests.
    args.extend([
        "--payee",
        PAYEE,
        "--worker",
        "1",
        "--funding-key-file",
        funding_key,
        "--out",
        out,
    ]);
    args.extend(["--price-prompt", "1000000000000", "--price-cached", "1000000000000"]);
    args.extend(["--price-completion", "10000000000000"]);
    let written = chrysalis(args).expect_code(0);
    assert!(written.stdout.contains("as vouched for by"), "{}", written.stdout);
    world.measure(&path, PINS);
    path
}

fn ask(world: &World, worker: &Running, key: &str, account: &str) -> Ran {
    let mut args = vec!["ask".to_owned(), "--worker".into(), worker.address.clone()];
    args.extend(world.trust_with(PINS));
    args.extend(["--state", worker.state.path().to_str().unwrap()].map(str::to_owned));
    args.extend(["--max-tokens", "6", "--pay-limit", "500000000000"].map(str::to_owned));
    args.extend(["--payer-key", key, "--payer-account", account].map(str::to_owned));
    args.push("Say hello.".into());
    chrysalis(args)
}

#[test]
fn a_channel_is_served_as_far_as_its_deposit_is_seen_and_no_further() {
    let Some(world) = World::get() else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let chain = Chain::start(dir.path());
    let (funding, key) = (path("funding.key"), path("payer.key"));
    let manifest = manifest(world, &funding);
    let vouching = ["--funding-key-file", &funding, "--chain", &chain.url].map(str::to_owned);
    let bundle = world.path("model.chrysalis");
    let (worker, ran) = Running::try_start_with(world, &manifest, &bundle, &vouching);
    ran.expect_code(0);
    let worker = worker.unwrap();
    let ask = || ask(world, &worker, &key, &chain.account);

    // A cap for 20 GRAM on a channel that nobody deployed.
    let refused = ask().expect_code(10);
    for words in ["E-PAYMENT-FUNDING", "waiting: ", "to cover 0 in all", "next:     deploy"] {
        assert!(refused.stderr.contains(words), "{words}: {}", refused.stderr);
    }

    // A whole context is 4.16 GRAM at these prices, an answer about a tenth of one.
    let payer_key = ["--payer-key-file", &key];
    let to = ["--payee", PAYEE, "--worker", "1"];
    let mut deploy = vec!["deploy", payer_key[0], payer_key[1], "--deposit", "4.2"];
    deploy.extend(to);
    let channel = chain.channel(&deploy)["address"].as_str().unwrap().to_owned();
    ask().expect_code(0);
    let refused = ask().expect_code(10);
    assert!(refused.stderr.contains("top it up"), "{}", refused.stderr);

    chain.channel(&["topup", &channel, "9"]);
    ask().expect_code(0);
    ask().expect_code(0);

    chain.channel(&["close", &channel]);
    // The owner's host looks twice a minute.
    let deadline = Instant::now() + Duration::from_secs(45);
    let refused = loop {
        let asked = ask();
        if asked.code != 0 {
            break asked.expect_code(10);
        }
        assert!(Instant::now() < deadline, "a channel that closes is served on");
        std::thread::sleep(Duration::from_secs(3));
    };
    assert!(refused.stderr.contains("to cover 0 in all"), "{}", refused.stderr);
}

#[test]
fn up_refuses_a_funding_key_that_the_manifest_does_not_name() {
    let Some(world) = World::get() else { return };
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("other.key");
    std::fs::write(&key, format!("{}\n", "ab".repeat(32))).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let extra = ["--funding-key-file".to_owned(), key.to_str().unwrap().to_owned()];
    let (manifest, bundle) = (world.path("worker.toml"), world.path("model.chrysalis"));
    let (worker, ran) = Running::try_start_with(world, &manifest, &bundle, &extra);
    let refused = ran.expect_code(64);
    assert!(worker.is_none() && refused.stderr.contains("E-FUNDING-KEY"), "{}", refused.stderr);
}
