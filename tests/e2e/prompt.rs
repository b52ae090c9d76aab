//! The main job: a sealed prompt, the model's answer, a verified receipt.

use std::fs;

use chrysalis_tests::{Running, World, chrysalis};
use serde_json::Value;

#[test]
fn answers_a_sealed_prompt_and_the_receipt_verifies_offline() {
    let Some(world) = World::get() else { return };
    let worker = Running::start(world);
    let prompt = "What is a prime number?";
    let ran =
        worker.ask(world, &["--max-tokens", "24", "--temperature", "0"], prompt).expect_code(0);
    let receipts = fs::read_dir(worker.state.path().join("receipts")).unwrap();
    let receipt = receipts.map(|e| e.unwrap().path()).next().expect("the receipt is kept");
    assert!(ran.stdout.contains("prime number"), "the model answered: {}", ran.stdout);
    assert!(ran.stderr.contains("R-REPORT-DATA"), "the transcript names the rules");
    assert!(ran.stderr.contains("INSECURE-SIM"), "simulation is named");

    let mut verify = vec!["receipt".to_owned(), "verify".into(), receipt.display().to_string()];
    verify.extend(world.trust());
    chrysalis(verify.clone()).expect_code(0);

    // One changed figure, and it verifies no more.
    let mut stored: Value = serde_json::from_slice(&fs::read(&receipt).unwrap()).unwrap();
    let amount = find_mut(&mut stored, "amount").expect("a receipt names its amount");
    *amount = Value::String("1".into());
    fs::write(&receipt, serde_json::to_vec(&stored).unwrap()).unwrap();
    let refused = chrysalis(verify);
    assert!([10, 30].contains(&refused.code), "a changed receipt is refused: {refused:?}");
}

#[test]
fn the_same_seed_gives_the_same_answer_and_another_seed_may_not() {
    let Some(world) = World::get() else { return };
    let worker = Running::start(world);
    let ask = |seed: &str| {
        let extra = ["--max-tokens", "16", "--temperature", "1.0", "--seed", seed];
        worker.ask(world, &extra, "Tell me something about the sea.").expect_code(0).stdout
    };
    let first = ask("7");
    assert_eq!(first, ask("7"));
    let others: Vec<String> = ["8", "9", "10"].iter().map(|s| ask(s)).collect();
    assert!(others.iter().any(|other| *other != first), "seeds have no effect");
}

#[test]
fn several_requests_at_once_are_all_answered() {
    let Some(world) = World::get() else { return };
    let worker = Running::start(world);
    std::thread::scope(|scope| {
        let asks: Vec<_> = (1..=3)
            .map(|n| {
                let worker = &worker;
                scope.spawn(move || {
                    worker.ask(world, &["--max-tokens", "8"], &format!("Count to {n}."))
                })
            })
            .collect();
        for ask in asks {
            let ran = ask.join().unwrap().expect_code(0);
            assert!(!ran.stdout.trim().is_empty());
        }
    });
}

/// The first value under `key`, anywhere.
fn find_mut<'a>(value: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    match value {
        Value::Object(map) => {
            if map.contains_key(key) {
                return map.get_mut(key);
            }
            map.values_mut().find_map(|v| find_mut(v, key))
        }
        Value::Array(items) => items.iter_mut().find_map(|v| find_mut(v, key)),
        _ => None,
    }
}
