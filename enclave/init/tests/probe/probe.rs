//! Stands in for the worker in tests of PID 1: tries everything a worker must not be able to do and
//! prints, one line each, whether the kernel refused. Compiled by the tests with `rustc` alone,
//! statically, as the worker is.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    // Calls that end the process are tried one a run.
    match std::env::args().nth(1).as_deref() {
        Some("udp") => drop(UdpSocket::bind("127.0.0.1:0")),
        Some("spawn") => drop(Command::new(&args[0]).spawn()),
        Some("connect") => drop(TcpStream::connect("127.0.0.1:9")),
        Some("mkdir") => drop(fs::create_dir("/run/chrysalis/x")),
        Some("executable-memory") => executable_memory(),
        _ => report(&args),
    }
}

fn report(args: &[String]) {
    let value =
        |flag: &str| args.iter().position(|a| a == flag).and_then(|at| args.get(at + 1)).cloned();
    say("args", &args[1..].join(" "));
    say("environment", &std::env::vars_os().count().to_string());
    let port = value("--listen").and_then(|a| a.rsplit(':').next()?.parse().ok()).unwrap_or(0u16);
    say("bind-own", &outcome(TcpListener::bind(("127.0.0.1", port)).map(drop)));
    say("bind-other", &outcome(TcpListener::bind(("127.0.0.1", port ^ 1)).map(drop)));
    for flag in ["--manifest", "--bundle", "--collateral"] {
        let path = value(flag).unwrap_or_default();
        say(&format!("read {flag}"), &outcome(fs::read(&path).map(drop)));
        let write = OpenOptions::new().write(true).open(&path);
        say(&format!("write {flag}"), &outcome(write.map(drop)));
    }
    for path in EXTRA_READS {
        say(&format!("read {path}"), &outcome(fs::read(path).map(drop)));
    }
    let root = value("--root").unwrap_or_else(|| "/chrysalis/root".into());
    let in_root = |name: &str| Path::new(&root).join(name);
    for (what, name) in [("root", "hello"), ("root link", "lib/hello")] {
        let text = fs::read_to_string(in_root(name)).map(|text| text.trim_end().to_owned());
        say(what, &text.unwrap_or_else(|e| format!("refused {}", e.raw_os_error().unwrap_or(-1))));
    }
    say("write root", &outcome(OpenOptions::new().write(true).open(in_root("hello")).map(drop)));
    say("create root", &outcome(fs::write(in_root("x"), "x")));
    say("read root copy", &outcome(fs::read(in_root("copy")).map(drop)));
    let register = value("--register").unwrap_or_else(|| "/run/chrysalis/rtmr3".into());
    say("write register", &outcome(OpenOptions::new().write(true).open(&register).map(drop)));
    let hex = |bytes: Vec<u8>| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    say("register", &fs::read(&register).map_or_else(|e| e.to_string(), hex));
    say("user", &user().to_string());
    let create = OpenOptions::new().write(true).create_new(true).mode(0o600).open("/tmp/x-probe");
    say("create", &outcome(create.map(drop)));
    let threads =
        (0..4).map(|_| std::thread::spawn(|| 1)).filter_map(|t| t.join().ok()).sum::<i32>();
    say("threads", &threads.to_string());
    say("end", "reached");
}

/// The user the kernel started this program as, from the auxiliary vector: no system call.
fn user() -> u64 {
    unsafe extern "C" {
        safe fn getauxval(kind: u64) -> u64;
    }
    const AT_UID: u64 = 11;
    getauxval(AT_UID)
}

const EXTRA_READS: [&str; 4] = ["/init", "/proc/1/environ", "/proc/self/status", "/etc/passwd"];

fn outcome(result: io::Result<()>) -> String {
    match result {
        Ok(()) => "ok".into(),
        Err(e) => format!("refused {}", e.raw_os_error().unwrap_or(-1)),
    }
}

/// Changes a page of this program from data to code.
fn executable_memory() {
    unsafe extern "C" {
        fn mprotect(at: *mut u8, len: usize, protection: i32) -> i32;
    }
    let page = vec![0u8; 8192];
    let at = page.as_ptr().wrapping_add(page.as_ptr().align_offset(4096)).cast_mut();
    // SAFETY: the page belongs to `page`, which lives to the end; it is never executed.
    let done = unsafe { mprotect(at, 4096, 5) };
    say("executable-memory", &done.to_string());
}

fn say(what: &str, how: &str) {
    drop(writeln!(io::stdout(), "probe: {what}: {how}"));
}
