//! Asks a QEMU to end its guest: power button first, then the plug. What it answers is not
//! believed and not needed.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

/// Presses the power button, waits, and quits. Ends early when QEMU does.
pub(super) async fn stop(mut monitor: UnixStream, patience: Duration) {
    let powerdown = b"{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"system_powerdown\"}\n";
    if monitor.write_all(powerdown).await.is_err() {
        return;
    }
    // Reading is only to notice the end, and so that QEMU never waits for us.
    if timeout(patience, drain(&mut monitor)).await.is_ok() {
        return;
    }
    let _ = monitor.write_all(b"{\"execute\":\"quit\"}\n").await;
    let _ = timeout(patience.min(QUIT_GRACE), drain(&mut monitor)).await;
    sleep(Duration::from_millis(1)).await;
}

/// How long QEMU may take to quit.
const QUIT_GRACE: Duration = Duration::from_secs(2);

async fn drain(monitor: &mut UnixStream) {
    let mut buffer = [0u8; 4096];
    while matches!(monitor.read(&mut buffer).await, Ok(got) if got > 0) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncBufReadExt;
    use tokio::io::BufReader;

    async fn lines(patience: Duration, close_after: usize) -> Vec<String> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let task = tokio::spawn(stop(ours, patience));
        let mut input = BufReader::new(theirs).lines();
        let mut seen = Vec::new();
        while let Ok(Some(line)) = input.next_line().await {
            seen.push(line);
            if seen.len() == close_after {
                break;
            }
        }
        drop(input);
        timeout(Duration::from_secs(30), task).await.unwrap().unwrap();
        seen
    }

    #[tokio::test]
    async fn presses_the_button_and_pulls_the_plug_of_a_guest_that_ignores_it() {
        let seen = lines(Duration::from_millis(50), usize::MAX).await;
        let verbs = ["qmp_capabilities", "system_powerdown", "quit"];
        assert_eq!(seen.len(), verbs.len(), "{seen:?}");
        for (line, verb) in seen.iter().zip(verbs) {
            assert!(line.contains(verb), "{line}");
        }
    }

    #[tokio::test]
    async fn says_no_more_to_a_qemu_that_ended() {
        assert_eq!(lines(Duration::from_secs(20), 2).await.len(), 2);
    }
}
