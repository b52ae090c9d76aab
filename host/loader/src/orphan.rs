//! Finds and ends a worker whose supervisor was killed. A process number alone is never enough to
//! send a signal: it may belong to somebody else by now.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::state::ProcessId;

/// The identity of a running process, or `None` if it is not running.
pub(crate) fn identify(pid: u32) -> Option<ProcessId> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    start_ticks(&stat).map(|start_ticks| ProcessId { pid, start_ticks })
}

/// Whether this very process still runs.
pub(crate) fn is_alive(process: ProcessId) -> bool {
    identify(process.pid) == Some(process)
}

/// Ends a worker and its process group: asks, waits up to `grace`, then kills. Returns whether
/// there was anything to end.
pub(crate) fn end(process: ProcessId, grace: Duration) -> bool {
    let Some(pid) = group(process) else { return false };
    let _ = kill_process_group(pid, Signal::TERM);
    let deadline = Instant::now() + grace;
    while is_alive(process) {
        if Instant::now() >= deadline {
            let _ = kill_process_group(pid, Signal::KILL);
            return true;
        }
        std::thread::sleep(POLL);
    }
    true
}

fn group(process: ProcessId) -> Option<Pid> {
    // A worker leads its own group, so its process id is the group's id.
    is_alive(process).then(|| i32::try_from(process.pid).ok().and_then(Pid::from_raw)).flatten()
}

/// Field 22 of `/proc/PID/stat`, `None` for a zombie. The name in field 2 may contain anything,
/// so fields are counted from its last closing parenthesis.
fn start_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(START_TIME_FIELD - STATE_FIELD - 1)?.parse().ok()
}

/// Numbers of fields in `/proc/PID/stat`, proc(5).
const STATE_FIELD: usize = 3;
const START_TIME_FIELD: usize = 22;

/// How often a process that was asked to end is looked at.
const POLL: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    #[test]
    fn reads_the_start_time_past_a_hostile_name() {
        let tail: String = (4..=30).map(|n| format!(" {n}")).collect();
        assert_eq!(start_ticks(&format!("7 (a) R b) S{tail}")), Some(22));
        assert_eq!(start_ticks(&format!("7 (a) Z{tail}")), None);
        assert_eq!(start_ticks("7 (a"), None);
    }

    #[test]
    fn ends_an_orphan() {
        let mut child = Command::new("/bin/sleep").arg("600").process_group(0).spawn().unwrap();
        let process = identify(child.id()).unwrap();
        assert!(end(process, Duration::from_secs(5)));
        assert!(!child.wait().unwrap().success());
        assert!(!is_alive(process));
    }

    #[test]
    fn leaves_a_process_alone_whose_number_was_reused() {
        let mut child = Command::new("/bin/sleep").arg("600").process_group(0).spawn().unwrap();
        let process = identify(child.id()).unwrap();
        let other = ProcessId { start_ticks: process.start_ticks + 1, ..process };
        assert!(!end(other, Duration::ZERO));
        assert!(is_alive(process));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
