//! The main job: a sealed prompt, the model's answer, a verified receipt.

use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};

use chrysalis_tests::{Ran, Running, World, bin, chrysalis};
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
    let verified = chrysalis(verify.clone()).expect_code(0);
    assert!(verified.stdout.contains("SKIP  request"), "no word is kept: {}", verified.stdout);

    // One part of it, for somebody who has nothing but that file and pins.
    let proof = worker.state.path().join("model.proof").display().to_string();
    let file = receipt.display().to_string();
    let prove = ["receipt", "prove", &file, "--child", "model", "--out", &proof];
    chrysalis(prove).expect_code(0);
    let again = chrysalis(prove).expect_code(10);
    assert!(again.stderr.contains("error[E-EXISTS]"), "nothing is written over: {}", again.stderr);
    let mut check = vec!["receipt".to_owned(), "verify".into(), proof.clone()];
    check.extend(world.trust());
    let shown = chrysalis(check).expect_code(0);
    for said in
        ["PASS  model", "PASS  measurement", "HOLDS (INSECURE-SIM", "was answered by the model"]
    {
        assert!(shown.stdout.contains(said), "{said}: {}", shown.stdout);
    }
    assert!(!shown.stdout.contains("completion tokens"), "nothing else: {}", shown.stdout);
    let shown = chrysalis(["receipt", "show", &proof]).expect_code(0);
    assert!(shown.stdout.contains("model root") && !shown.stdout.contains("request commitment"));

    // One changed figure, and it verifies no more.
    let mut stored: Value = serde_json::from_slice(&fs::read(&receipt).unwrap()).unwrap();
    let amount = find_mut(&mut stored, "amount").expect("a receipt names its amount");
    *amount = Value::String("1".into());
    fs::write(&receipt, serde_json::to_vec(&stored).unwrap()).unwrap();
    let refused = chrysalis(verify);
    assert!([10, 30].contains(&refused.code), "a changed receipt is refused: {refused:?}");
}

#[test]
fn words_kept_on_request_prove_the_whole_receipt_offline() {
    let Some(world) = World::get() else { return };
    let worker = Running::start(world);
    let extra = ["--max-tokens", "8", "--temperature", "0", "--keep-transcript"];
    worker.ask(world, &extra, "What is a prime number?").expect_code(0);
    let listed = chrysalis([
        "receipt".as_ref(),
        "list".as_ref(),
        "--state".as_ref(),
        worker.state.path().as_os_str(),
    ]);
    let receipt = listed.expect_code(0).stdout.trim().to_owned();
    let mut verify = vec!["receipt".to_owned(), "verify".into(), receipt.clone()];
    verify.extend(world.trust());
    let verified = chrysalis(verify.clone()).expect_code(0);
    for id in ["request", "response", "sampling", "tokens", "finish"] {
        assert!(verified.stdout.contains(&format!("PASS  {id}")), "{}", verified.stdout);
    }
    assert!(!verified.stdout.contains("SKIP"), "{}", verified.stdout);

    // One changed word, and it is not what was said.
    let transcript = receipt.replace(".json", ".transcript");
    let text = fs::read_to_string(&transcript).unwrap();
    fs::write(&transcript, text.replace("prime number?", "prime lumber?")).unwrap();
    let refused = chrysalis(verify).expect_code(10);
    assert!(refused.stdout.contains("FAIL  request"), "{}", refused.stdout);
}

#[test]
fn an_interrupted_question_says_that_its_answer_is_incomplete() {
    let Some(world) = World::get() else { return };
    let worker = Running::start(world);
    let mut args = vec!["ask".to_owned(), "--worker".into(), worker.address.clone()];
    args.extend(world.trust());
    args.extend(["--max-tokens".into(), "400".into(), "--state".into()]);
    args.extend([worker.state.path().display().to_string(), "Write a very long story.".into()]);
    let mut child = Command::new(bin("chrysalis"))
        .args(&args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 1];
    child.stdout.as_mut().unwrap().read_exact(&mut first).expect("the answer begins");
    assert!(
        Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success()
    );
    let ran: Ran = child.wait_with_output().unwrap().into();
    let ran = ran.expect_code(1);
    assert!(ran.stderr.contains("INCOMPLETE"), "{}", ran.stderr);
    assert!(ran.stderr.contains("error[E-INTERRUPTED]"), "{}", ran.stderr);
    worker.ask(world, &["--max-tokens", "4"], "Hello").expect_code(0);
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
