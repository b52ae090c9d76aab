//! A client that others wrote: TON's own library, `@ton/ton`, over JSON-RPC. `$CHRYSALIS_DEVCHAIN_NODE`
//! is where scripts/test installed it; without it this test says `skipped`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::client::Server;
use crate::{Clock, GRAM, NETWORK, node};

#[test]
fn tons_own_library_deploys_a_wallet_pays_and_reads_it_back() {
    let Some(packages) = std::env::var_os("CHRYSALIS_DEVCHAIN_NODE").map(PathBuf::from) else {
        assert!(std::env::var_os("CI").is_none(), "CHRYSALIS_DEVCHAIN_NODE is not set");
        println!("skipped: CHRYSALIS_DEVCHAIN_NODE is not set; run scripts/test");
        return;
    };
    let server = Server::start(node(&Clock::start()));
    let base = format!("http://{}", server.address);
    let seen = run(&packages, &json!({ "base": base, "network": NETWORK.0 }));
    for (name, expected) in [
        ("faucet", json!(200)),
        ("before", json!("uninitialized")),
        ("after", json!("active")),
        ("deployed", json!(true)),
        ("seqno", json!(2)),
        ("key", json!(true)),
        ("paid", json!((2 * GRAM).to_string())),
        ("nothing", json!(-13)),
    ] {
        assert_eq!(seen[name], expected, "{name}: {seen}");
    }
    assert!(seen["notice"].as_str().unwrap().contains("no consensus network"));
    assert_eq!(seen["replayed"]["status"], 500);
    assert!(seen["replayed"]["error"].as_str().unwrap().contains("exitcode=133"));
    // Two orders, and the coins from the faucet; each says which one was before it.
    let listed = seen["transactions"].as_array().unwrap();
    let comments: Vec<_> = listed.iter().map(|t| t["comment"].clone()).collect();
    assert_eq!(comments, [json!("second"), json!("first"), Value::Null], "{seen}");
    for pair in listed.windows(2) {
        assert_eq!(pair[0]["prev"], pair[1]["lt"]);
    }
    // The estimate was of the first order, whose comment is three letters longer.
    let spent = 3 * GRAM - seen["balance"].as_str().unwrap().parse::<u128>().unwrap();
    let estimated = u128::from(seen["estimated"].as_u64().unwrap());
    assert!(estimated > spent / 3 && estimated < spent, "{estimated} {spent}");
}

fn run(packages: &Path, input: &Value) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/node/client.cjs");
    let mut child = Command::new("node")
        .arg(script)
        .env("NODE_PATH", packages.join("node_modules"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the client ended with {}", output.status);
    serde_json::from_slice(&output.stdout).unwrap()
}
