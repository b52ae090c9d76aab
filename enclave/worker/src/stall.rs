//! A stream that gives up on a peer which takes too little. Without it a reader that stops reading, or
//! reads a byte now and then, holds its connection, and the memory behind it, for as long as it likes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// Writing fails with [`io::ErrorKind::TimedOut`] once less than `least` bytes could be written in `limit`
/// although there were more.
pub struct Impatient<S> {
    stream: S,
    limit: Duration,
    least: usize,
    /// From when a write first waited until enough was taken.
    waiting: Option<Waiting>,
}

struct Waiting {
    timer: Pin<Box<Sleep>>,
    taken: usize,
    /// Whether the last write waits still.
    blocked: bool,
}

impl<S> Impatient<S> {
    /// Wraps a stream.
    pub const fn new(stream: S, limit: Duration, least: usize) -> Self {
        Self { stream, limit, least, waiting: None }
    }

    /// Counts what a write brought.
    fn wrote(
        &mut self,
        cx: &mut Context<'_>,
        progress: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let Poll::Ready(written) = progress else { return self.wait(cx).map(Err) };
        if let Some(waiting) = &mut self.waiting {
            waiting.blocked = false;
            waiting.taken = waiting.taken.saturating_add(*written.as_ref().unwrap_or(&0));
            if waiting.taken >= self.least {
                self.waiting = None;
            }
        }
        Poll::Ready(written)
    }

    /// Resolves when the peer has had its time.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        // Time that went by while nothing was there to be written is not the peer's.
        let is_old = |w: &Waiting| !w.blocked && w.timer.deadline() <= Instant::now();
        if self.waiting.as_ref().is_some_and(is_old) {
            self.waiting = None;
        }
        let limit = self.limit;
        let start = || Waiting { timer: Box::pin(sleep(limit)), taken: 0, blocked: true };
        let waiting = self.waiting.get_or_insert_with(start);
        waiting.blocked = true;
        ready!(waiting.timer.as_mut().poll(cx));
        Poll::Ready(io::ErrorKind::TimedOut.into())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    /// Reading has bounds of its own, in the parts that know what they wait for.
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(cx, progress)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let progress = Pin::new(&mut self.stream).poll_flush(cx);
        if progress.is_ready() { progress } else { self.wait(cx).map(Err) }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let progress = Pin::new(&mut self.stream).poll_shutdown(cx);
        if progress.is_ready() { progress } else { self.wait(cx).map(Err) }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    /// Takes a byte of `far` every 80 ms, and returns what it got.
    async fn slowly(mut far: DuplexStream, bytes: usize) -> Vec<u8> {
        let mut got = Vec::new();
        while got.len() < bytes {
            sleep(Duration::from_millis(80)).await;
            let Ok(byte) = far.read_u8().await else { break };
            got.push(byte);
        }
        got
    }

    #[tokio::test]
    async fn gives_up_on_a_peer_that_takes_nothing() {
        let limit = Duration::from_millis(50);
        let (near, _far) = duplex(4);
        let begun = Instant::now();
        let written = Impatient::new(near, limit, 1).write_all(b"longer than the pipe").await;
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() >= limit, "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn waits_for_a_peer_that_takes_enough() {
        let limit = Duration::from_secs(1);
        let (near, far) = duplex(4);
        let begun = Instant::now();
        let slow = tokio::spawn(slowly(far, 20));
        Impatient::new(near, limit, 4).write_all(b"longer than the pipe").await.unwrap();
        assert!(begun.elapsed() > limit, "each wait is bounded, not their sum");
        assert_eq!(slow.await.unwrap(), b"longer than the pipe");
    }

    #[tokio::test]
    async fn gives_up_on_a_peer_that_takes_a_little_now_and_then() {
        let limit = Duration::from_millis(500);
        let (near, far) = duplex(4);
        let slow = tokio::spawn(slowly(far, 1000));
        let begun = Instant::now();
        let written = Impatient::new(near, limit, 100).write_all(&[7; 1000]).await;
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() < 10 * limit, "{:?}", begun.elapsed());
        slow.abort();
    }

    #[tokio::test]
    async fn does_not_count_the_time_in_which_there_was_nothing_to_write() {
        let limit = Duration::from_millis(400);
        let (near, far) = duplex(4);
        let mut near = Impatient::new(near, limit, 100);
        let slow = tokio::spawn(slowly(far, 12));
        near.write_all(b"12345").await.unwrap();
        sleep(2 * limit).await;
        near.write_all(b"6789abc").await.unwrap();
        assert_eq!(slow.await.unwrap(), b"123456789abc");
    }
}
