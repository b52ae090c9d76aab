//! `up` with scripted supervisors: what it makes of every kind of report.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use chrysalis_loader::{LoaderError, StateDir, SupervisorCommand, SupervisorEvent, Up, up};
use common::Rig;

fn supervisor(script: &str) -> SupervisorCommand {
    SupervisorCommand { program: "/bin/sh".into(), arguments: vec!["-c".into(), script.into()] }
}

#[test]
fn hands_the_launch_over_and_returns_when_ready() {
    let rig = Rig::new("");
    let out = rig.dir().join("launch");
    let script = format!(
        r#"/bin/cat > {}; echo '{{"report":"ready","listen":"127.0.0.1:5","insecure_sim":true}}'"#,
        out.display()
    );
    let listen = "127.0.0.1:5".parse().unwrap();
    assert_eq!(
        up(rig.launch(), &supervisor(&script), |_| ()),
        Ok(Up::Ready { listen, insecure_sim: true })
    );
    let handed = std::fs::read(out).unwrap();
    assert_eq!(&chrysalis_loader::Launch::read(handed.as_slice()).unwrap(), rig.launch());
}

#[test]
fn surfaces_the_refusal_of_the_worker() {
    let rig = Rig::new("");
    let script = r#"echo '{"report":"worker-started","pid":1,"attempt":1}'
echo '{"report":"failed","error":{"error":"refused","stage":"model","code":"E-CHUNK-HASH"}}'"#;
    let mut seen = 0;
    let refused = up(rig.launch(), &supervisor(script), |_: &SupervisorEvent| seen += 1);
    assert!(matches!(refused, Err(LoaderError::Refused { code, .. }) if code == "E-CHUNK-HASH"));
    assert_eq!(seen, 2);
}

#[test]
fn a_supervisor_that_ends_without_a_report_is_an_error() {
    let rig = Rig::new("");
    let lost = LoaderError::SupervisorLost { status: "exit code 7".to_owned() };
    assert_eq!(up(rig.launch(), &supervisor("exec >&-; exit 7"), |_| ()), Err(lost));
}

#[test]
fn a_supervisor_that_cannot_be_started_is_an_error() {
    let rig = Rig::new("");
    let command = SupervisorCommand { program: "/nonexistent".into(), arguments: vec![] };
    assert!(matches!(up(rig.launch(), &command, |_| ()), Err(LoaderError::Spawn { .. })));
}

#[test]
fn a_second_up_is_refused_naming_the_running_one() {
    let rig = Rig::new("");
    let state = StateDir::create(&rig.state()).unwrap();
    let _lock = state.lock().unwrap();
    let refused = up(rig.launch(), &supervisor("echo started > started"), |_| ());
    assert!(matches!(
        refused,
        Err(LoaderError::AlreadyRunning { pid, .. }) if pid == std::process::id()
    ));
}
