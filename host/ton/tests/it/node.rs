//! What needs Node.js and the packages of `contracts/package-lock.json`: the compiler, and TON's own
//! virtual machine. `$CHRYSALIS_CONTRACTS_NODE` is where scripts/test installed them; without it these
//! tests say `skipped`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use chrysalis_ton::{CHANNEL_CODE_HASH, REGISTRY_CODE_HASH};
use serde_json::Value;

pub fn contracts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("contracts")
}

/// Runs a script of the contracts' folder and reads the JSON that it prints.
pub fn node(script: &str, argument: &str, input: &str) -> Option<Value> {
    let Some(packages) = std::env::var_os("CHRYSALIS_CONTRACTS_NODE").map(PathBuf::from) else {
        assert!(std::env::var_os("CI").is_none(), "CHRYSALIS_CONTRACTS_NODE is not set");
        println!("skipped: CHRYSALIS_CONTRACTS_NODE is not set; run scripts/test");
        return None;
    };
    let mut child = Command::new("node")
        .arg(contracts().join(script))
        .arg(argument)
        .env("NODE_PATH", packages.join("node_modules"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{script} ended with {}", output.status);
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn the_pinned_compiler_makes_the_committed_code_bit_for_bit() {
    use base64::Engine as _;
    for (name, hash) in [("channel", CHANNEL_CODE_HASH), ("registry", REGISTRY_CODE_HASH)] {
        let Some(compiled) = node("compile.cjs", &format!("{name}.tolk"), "") else { return };
        assert_eq!(compiled["hash"].as_str().unwrap(), hash.to_string());
        let code = compiled["code"].as_str().unwrap();
        let code = base64::engine::general_purpose::STANDARD.decode(code).unwrap();
        assert_eq!(code, std::fs::read(contracts().join(format!("{name}.boc"))).unwrap());
    }
}
