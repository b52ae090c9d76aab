//! The sandbox on the machine that runs the tests: a real process goes through the second stage,
//! becomes a probe and tries what a worker must not be able to do. Needs root, to give it up, and
//! the landlock of Linux 6.12; says so where it is skipped.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use chrysalis_init::sandbox::{Plan, enter};
use common::{build_probe, said};
use tempfile::TempDir;

/// Set for the process that goes through the second stage.
const CHILD: &str = "CHRYSALIS_SANDBOX_CHILD";
const PORT: u16 = 28_443;
/// Landlock ABI 6: what `chrysalis_init::sandbox` asks for.
const LANDLOCK_SINCE: (u32, u32) = (6, 12);

/// A directory with what PID 1 hands over.
struct World {
    dir: TempDir,
}

impl World {
    fn get() -> Option<&'static Self> {
        static WORLD: OnceLock<World> = OnceLock::new();
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root can give everything up");
            return None;
        }
        if kernel() < LANDLOCK_SINCE {
            println!("skipped: this kernel's landlock is older than the one of an image");
            return None;
        }
        Some(WORLD.get_or_init(|| {
            let world = Self { dir: tempfile::tempdir().unwrap() };
            let mode = |path: &Path, mode| {
                fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            };
            mode(world.dir.path(), 0o755);
            build_probe(world.dir.path());
            fs::create_dir(world.path("run")).unwrap();
            for file in ["run/manifest", "run/collateral", "run/rtmr3", "model", "other"] {
                fs::write(world.path(file), "x").unwrap();
                mode(&world.path(file), 0o644);
            }
            fs::create_dir_all(world.path("root/lib")).unwrap();
            fs::write(world.path("root/hello"), "x").unwrap();
            symlink("../hello", world.path("root/lib/hello")).unwrap();
            // Whoever the file system lets write is still refused.
            mode(&world.path("root"), 0o777);
            mode(&world.path("root/hello"), 0o666);
            fs::write(world.path("run/open"), "x").unwrap();
            mode(&world.path("run/open"), 0o666);
            world
        }))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs the probe with `args` in the sandbox, in a process of its own.
    fn run(&self, args: &str) -> Output {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "second_stage", "--nocapture"])
            .env(CHILD, format!("{}\n{args}", self.dir.path().display()))
            .output()
            .unwrap()
    }
}

/// Version of the running kernel.
fn kernel() -> (u32, u32) {
    let uname = rustix::system::uname();
    let release = uname.release().to_str().unwrap();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse().ok());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

/// Not a test by itself: the process that [`World::run`] starts becomes the probe here.
#[test]
fn second_stage() {
    let Ok(told) = std::env::var(CHILD) else { return };
    let (dir, args) = told.split_once('\n').unwrap();
    let mut plan = plan(Path::new(dir), args);
    match args {
        "case:no-register" => plan.register.set_file_name("gone"),
        "case:open-register" => {
            plan.register.set_file_name("open");
            plan.devices.push(plan.register.clone());
        }
        "case:no-program" => plan.program.set_file_name("gone"),
        "case:no-input" => plan.readable.push("/gone".into()),
        _ => {}
    }
    println!("refused: {}", enter(&plan));
}

fn plan(dir: &Path, args: &str) -> Plan {
    Plan {
        program: dir.join("worker"),
        args: args.split(' ').map(Into::into).collect(),
        readable: vec![dir.join("run"), dir.join("model")],
        trees: vec![dir.join("root")],
        devices: Vec::new(),
        register: dir.join("run/rtmr3"),
        port: PORT,
        // Raising a limit takes more than the root of a container has.
        locks_memory: false,
        quotes_over_vsock: false,
    }
}

fn report(world: &World) -> String {
    let path = |name: &str| world.path(name).display().to_string();
    let (manifest, collateral) = (path("run/manifest"), path("run/collateral"));
    let (model, register, root) = (path("model"), path("run/rtmr3"), path("root"));
    let output = world.run(&format!(
        "--manifest {manifest} --bundle {model} --collateral {collateral} \
         --register {register} --root {root} --listen 127.0.0.1:{PORT}"
    ));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{:?}\n{text}", output.status);
    assert_eq!(said(&text, "end"), "reached");
    text
}

#[test]
fn a_worker_reads_its_inputs_and_writes_nothing() {
    let Some(world) = World::get() else { return };
    let text = report(world);
    for input in ["--manifest", "--bundle", "--collateral"] {
        assert_eq!(said(&text, &format!("read {input}")), "ok");
        assert_eq!(said(&text, &format!("write {input}")), "refused 13");
    }
    for read in ["root", "root link"] {
        assert_eq!(said(&text, read), "x");
    }
    for write in ["write root", "create root"] {
        assert_eq!(said(&text, write), "refused 13");
    }
    assert_eq!(said(&text, "write register"), "refused 13");
    assert_eq!(said(&text, "create"), "refused 13");
    for other in ["/proc/1/environ", "/proc/self/status", "/etc/passwd"] {
        assert_eq!(said(&text, &format!("read {other}")), "refused 13");
    }
}

#[test]
fn a_worker_is_another_user_without_environment_and_has_threads() {
    let Some(world) = World::get() else { return };
    let text = report(world);
    assert_eq!(said(&text, "user"), "1000");
    assert_eq!(said(&text, "environment"), "0");
    assert_eq!(said(&text, "threads"), "4");
}

#[test]
fn a_worker_binds_its_port_and_no_other() {
    let Some(world) = World::get() else { return };
    let text = report(world);
    assert_eq!(said(&text, "bind-own"), "ok");
    assert_eq!(said(&text, "bind-other"), "refused 13");
}

#[test]
fn a_call_that_is_not_listed_ends_the_worker() {
    let Some(world) = World::get() else { return };
    for attempt in ["udp", "spawn", "connect", "mkdir", "executable-memory"] {
        let output = world.run(attempt);
        assert_eq!(output.status.signal(), Some(libc::SIGSYS), "{attempt}: {output:?}");
    }
}

#[test]
fn refuses_to_become_a_worker_that_could_write_the_register() {
    let Some(world) = World::get() else { return };
    for (case, refusal) in [
        ("case:open-register", "the runtime register can be written to"),
        ("case:no-register", "the runtime register is not where it should be"),
        ("case:no-program", "find what the worker may reach"),
        ("case:no-input", "find what the worker may reach"),
    ] {
        let output = world.run(case);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(refusal), "{case}: {text}");
        assert!(!text.contains("probe:"), "{case}: the worker ran");
    }
}
