//! A canary prompt must not be found anywhere on the host's side.

use std::process::Command;

use chrysalis_tests::{Running, World, chrysalis, files_under, status};

#[test]
fn no_prompt_byte_reaches_the_hosts_files_or_the_console() {
    let Some(world) = World::get() else { return };
    let worker = Running::start(world);
    let canary = "xylophone-quartz-7319-canary";
    let client = tempfile::TempDir::new().unwrap();
    let mut args = vec!["ask".to_owned(), "--worker".into(), worker.address.clone()];
    args.extend(world.trust());
    args.extend(["--max-tokens".into(), "8".into(), "--state".into()]);
    args.extend([client.path().display().to_string(), format!("Repeat: {canary}")]);
    chrysalis(args).expect_code(0);

    // The client's own store holds the receipt, and even that not the prompt.
    let files = files_under(worker.state.path());
    assert!(!files.is_empty(), "the loader keeps a console log: the check must check something");
    for (path, bytes) in files.into_iter().chain(files_under(client.path())) {
        let found = bytes.windows(canary.len()).any(|w| w == canary.as_bytes());
        assert!(!found, "{} contains the prompt", path.display());
    }
    let logs = chrysalis(["logs".as_ref(), "--state".as_ref(), worker.state.path().as_os_str()]);
    assert!(logs.stdout.contains("ready"), "the log is there: {}", logs.stdout);
    assert!(!logs.stdout.contains(canary));
}

#[test]
fn the_relay_never_holds_the_prompt_in_its_memory() {
    let Some(world) = World::get() else { return };
    let worker = Running::start(world);
    let canary = "obsidian-marmalade-2846-canary";
    worker.ask(world, &["--max-tokens", "8"], &format!("Repeat: {canary}")).expect_code(0);
    let loader = status(worker.state.path())["supervisor"]
        .as_i64()
        .expect("status names the loader's process");
    let script = r"
import re, sys
pid, needle, seen = sys.argv[1], sys.argv[2].encode(), 0
with open(f'/proc/{pid}/maps') as maps, open(f'/proc/{pid}/mem', 'rb', 0) as mem:
    for line in maps:
        span = re.match(r'([0-9a-f]+)-([0-9a-f]+) (r)', line)
        if not span: continue
        start, end = int(span[1], 16), int(span[2], 16)
        try:
            mem.seek(start)
            data = mem.read(end - start)
        except (OSError, ValueError, OverflowError):
            continue
        seen += len(data)
        if needle in data: sys.exit(3)
sys.exit(0 if seen > 1_000_000 else 4)
";
    let scan =
        Command::new("python3").args(["-c", script, &loader.to_string(), canary]).status().unwrap();
    assert_eq!(
        scan.code(),
        Some(0),
        "3: the prompt is in the loader's memory, 4: nothing was read"
    );
}
