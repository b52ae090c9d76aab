//! The supervisor with real processes: a shell script stands in for the worker, a socket of the
//! test for its listener. Trusts nothing; every test has its own state directory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Duration;

use chrysalis_loader::{LoaderError, Phase, StateDir, Status, SupervisorEvent, status};
use chrysalis_wire::BootStage;
use common::{READY, Rig, quick};

#[tokio::test]
async fn becomes_ready_and_stops_on_request() {
    let rig = Rig::new(&format!("{READY}\nwhile :; do /bin/sleep 0.1; done"));
    let mut run = rig.start(quick());
    run.until(|e| matches!(e, SupervisorEvent::Ready { insecure_sim: true, .. })).await;
    let Status::Up(state) = status(&rig.state()).unwrap() else { panic!("not up") };
    assert_eq!((state.phase, state.restarts), (Phase::Ready, 0));
    assert_eq!(run.stop().await, Ok(()));
    assert_eq!(rig.last_run().phase, Phase::Stopped);
}

#[tokio::test]
async fn shows_every_boot_stage_in_order() {
    let rig = Rig::new(&format!("{READY}\nexec /bin/sleep 60"));
    let mut run = rig.start(quick());
    let events = run.until(|e| matches!(e, SupervisorEvent::Ready { .. })).await;
    let stages: Vec<BootStage> = events.iter().filter_map(common::stage_done).collect();
    assert_eq!(stages, [BootStage::Manifest, BootStage::Keys, BootStage::Listen, BootStage::Ready]);
    run.stop().await.unwrap();
}

#[tokio::test]
async fn progress_is_thinned_but_its_end_is_shown() {
    let rig = Rig::new(&format!(
        r#"i=0; while [ $i -lt 300 ]; do i=$((i+1))
echo "{{\"event\":\"stage\",\"stage\":\"model\",\"state\":\"progress\",\"done\":$i,\"total\":300}}"; done
{}
exec /bin/sleep 60"#,
        READY.replace("\"done\":1,", "\"done\":0,")
    ));
    let mut run = rig.start(quick());
    let events = run.until(|e| matches!(e, SupervisorEvent::Ready { .. })).await;
    let shown: Vec<u64> = events.iter().filter_map(common::progress_done).collect();
    assert!(shown.len() < 50 && shown.contains(&300), "{shown:?}");
    run.stop().await.unwrap();
}

#[tokio::test]
async fn a_refusal_at_boot_is_final_and_keeps_its_code() {
    let rig = Rig::new(
        r#"echo '{"event":"stage","stage":"model","state":"refused","code":"E-CHUNK-HASH"}'; exit 10"#,
    );
    let run = rig.start(quick());
    let refused = LoaderError::Refused { stage: BootStage::Model, code: "E-CHUNK-HASH".to_owned() };
    assert_eq!(run.ended().await, Err(refused));
    let last = rig.last_run();
    assert_eq!((last.phase, last.restarts), (Phase::Refused, 0));
    assert_eq!(last.refusal.as_deref(), Some("E-CHUNK-HASH"));
}

#[tokio::test]
async fn a_worker_that_refuses_and_does_not_end_is_killed() {
    let rig = Rig::new(
        r#"trap '' TERM
echo '{"event":"stage","stage":"keys","state":"refused","code":"E-X"}'
while :; do /bin/sleep 1; done"#,
    );
    let run = rig.start(quick());
    assert!(matches!(run.ended().await, Err(LoaderError::Refused { .. })));
    assert_eq!(rig.last_run().last_exit.as_deref(), Some("signal 9"));
}

#[tokio::test]
async fn a_worker_that_never_gets_ready_is_given_up_after_growing_delays() {
    let rig = Rig::new("exit 3");
    let mut run = rig.start(quick());
    let events = run.until(|e| matches!(e, SupervisorEvent::Failed { .. })).await;
    let delays: Vec<u64> = events
        .iter()
        .filter_map(|e| match e {
            SupervisorEvent::WorkerEnded { restart_in_ms, .. } => Some(*restart_in_ms),
            _ => None,
        })
        .collect();
    assert_eq!(delays, [20, 40]);
    let crashed = LoaderError::Crashed { attempts: 3, status: "exit code 3".to_owned() };
    assert_eq!(run.ended().await, Err(crashed));
}

#[tokio::test]
async fn a_worker_that_crashes_after_being_ready_is_started_again() {
    let rig = Rig::new(&format!("{READY}\n/bin/sleep 0.2\nkill -9 $$"));
    let mut run = rig.start(quick());
    run.until(|e| matches!(e, SupervisorEvent::Ready { .. })).await;
    let restarted = || rig.last_run().restarts >= 4;
    common::eventually("four restarts", restarted).await;
    // More than the attempts a worker has to get ready: a worker that was ready is not given up.
    assert!(rig.last_run().restarts >= quick().boot_attempts);
    assert_eq!(rig.last_run().last_exit.as_deref(), Some("signal 9"));
    assert_eq!(run.stop().await, Ok(()));
}

#[tokio::test]
async fn a_silent_boot_is_ended() {
    let rig = Rig::new("exec /bin/sleep 600");
    let timing = chrysalis_loader::Timing {
        boot_stall: Duration::from_millis(50),
        boot_attempts: 1,
        ..quick()
    };
    assert!(matches!(
        rig.start(timing).ended().await,
        Err(LoaderError::Crashed { attempts: 1, status }) if status.contains("no sign of life")
    ));
}

#[tokio::test]
async fn waiting_for_a_grant_is_an_outcome_and_not_a_stall() {
    let rig = Rig::new(
        r#"echo '{"event":"stage","stage":"grant","state":"started"}'; exec /bin/sleep 600"#,
    );
    let timing = chrysalis_loader::Timing { boot_stall: Duration::from_millis(50), ..quick() };
    let mut run = rig.start(timing);
    run.until(|e| matches!(e, SupervisorEvent::WaitingForGrant { .. })).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(rig.last_run().phase, Phase::WaitingForGrant);
    run.stop().await.unwrap();
}

#[tokio::test]
async fn stop_kills_a_worker_that_ignores_it_and_everything_it_started() {
    let rig = Rig::new(&format!(
        "trap '' TERM\n/bin/sleep 987 &\necho $! > {{dir}}/child\n{READY}\nwhile :; do /bin/sleep 1; done"
    ));
    let mut run = rig.start(quick());
    run.until(|e| matches!(e, SupervisorEvent::Ready { .. })).await;
    assert_eq!(run.stop().await, Ok(()));
    assert_eq!(rig.last_run().last_exit.as_deref(), Some("signal 9"));
    let child = std::fs::read_to_string(rig.dir().join("child")).unwrap();
    let stat = format!("/proc/{}/stat", child.trim());
    let gone = || {
        std::fs::read_to_string(&stat).is_ok_and(|s| s.contains(") Z"))
            || !std::path::Path::new(&stat).exists()
    };
    common::eventually("the worker's child is gone", gone).await;
}

#[tokio::test]
async fn a_second_supervisor_is_refused_naming_the_first() {
    let rig = Rig::new(&format!("{READY}\nexec /bin/sleep 60"));
    let mut run = rig.start(quick());
    run.until(|e| matches!(e, SupervisorEvent::Ready { .. })).await;
    let listen = rig.last_run().listen;
    let pid = std::process::id();
    let refused = LoaderError::AlreadyRunning { pid, listen };
    assert_eq!(rig.start(quick()).ended().await, Err(refused));
    assert_eq!(run.stop().await, Ok(()));
}

#[tokio::test]
async fn junk_and_over_long_lines_are_counted_and_never_written_down() {
    let long = "y".repeat(5000);
    let rig = Rig::new(&format!(
        "echo 'my secret prompt'\necho {long}\necho '{{\"event\":\"stopping\",\"x\":\"my secret\"}}'\n{READY}\nexec /bin/sleep 60"
    ));
    let mut run = rig.start(quick());
    run.until(|e| matches!(e, SupervisorEvent::Ready { .. })).await;
    run.stop().await.unwrap();
    assert_eq!(rig.last_run().dropped_lines, 3);
    for file in ["console.log", "loader.log", "run.json"] {
        let text = std::fs::read_to_string(rig.state().join(file)).unwrap();
        assert!(!text.contains("secret") && !text.contains("yyyy"), "{file} holds console junk");
    }
}

#[tokio::test]
async fn the_worker_has_no_environment_no_input_and_no_directory() {
    // `env` of an empty environment prints what the shell itself exports: nothing but PWD.
    let rig =
        Rig::new("/usr/bin/env > {dir}/env\n/bin/pwd > {dir}/pwd\n/bin/cat > {dir}/stdin\nexit 3");
    let timing = chrysalis_loader::Timing { boot_attempts: 1, ..quick() };
    let _ = rig.start(timing).ended().await;
    let read = |name: &str| std::fs::read_to_string(rig.dir().join(name)).unwrap();
    let own =
        |line: &&str| !["PWD=", "OLDPWD=", "SHLVL=", "_="].iter().any(|p| line.starts_with(p));
    assert_eq!(read("env").lines().filter(own).count(), 0, "{}", read("env"));
    assert_eq!((read("pwd").trim(), read("stdin").as_str()), ("/", ""));
}

#[tokio::test]
async fn only_the_end_of_the_workers_error_output_is_kept_and_it_is_escaped() {
    let rig = Rig::new(
        "i=0; while [ $i -lt 400 ]; do echo 'early words of the worker' >&2; i=$((i+1)); done\nprintf 'panicked at x.rs:7\\033[2J' >&2\nexit 3",
    );
    let timing = chrysalis_loader::Timing { boot_attempts: 1, ..quick() };
    let _ = rig.start(timing).ended().await;
    let log = std::fs::read_to_string(rig.state().join("loader.log")).unwrap();
    assert!(log.contains("panicked at x.rs:7\\x1b[2J"));
    assert!(log.len() < 4096 + 1024, "{} bytes", log.len());
}

#[tokio::test]
async fn an_address_off_the_machine_is_refused() {
    let rig = Rig::new(
        r#"echo '{"event":"listening","address":"10.0.0.1:80","insecure_sim":true}'; exec /bin/sleep 60"#,
    );
    let refused = LoaderError::NotLoopback { address: "10.0.0.1:80".to_owned() };
    assert_eq!(rig.start(quick()).ended().await, Err(refused));
    assert_eq!(rig.last_run().phase, Phase::Failed);
}

#[tokio::test]
async fn a_public_address_in_use_is_refused_before_a_worker_runs() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let rig = Rig::new("echo started > {dir}/started");
    let rig = rig.listening_on(taken.local_addr().unwrap());
    assert!(matches!(rig.start(quick()).ended().await, Err(LoaderError::Listen { .. })));
    assert!(!rig.dir().join("started").exists());
}

#[tokio::test]
async fn a_worker_left_behind_by_a_killed_supervisor_is_ended_first() {
    let rig = Rig::new(&format!("{READY}\nexec /bin/sleep 60"));
    let mut first = rig.start(quick());
    first.until(|e| matches!(e, SupervisorEvent::Ready { .. })).await;
    let mut stale = rig.last_run();
    first.stop().await.unwrap();
    // What a supervisor that was killed leaves: its run file, no lock, a live worker.
    let mut orphan = common::orphan();
    stale.worker = Some(common::process_id(orphan.id()));
    StateDir::create(&rig.state()).unwrap().write_run(&stale).unwrap();
    assert!(matches!(status(&rig.state()).unwrap(), Status::Stale { worker_alive: true, .. }));
    let mut second = rig.start(quick());
    second.until(|e| matches!(e, SupervisorEvent::Ready { .. })).await;
    assert!(!orphan.wait().unwrap().success());
    second.stop().await.unwrap();
}
