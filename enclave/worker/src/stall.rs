//! A stream that gives up on a peer which takes nothing. Without it a reader that stops reading
//! holds its connection, and the memory behind it, for as long as it likes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// Writing fails with [`io::ErrorKind::TimedOut`] once no byte could be written for `limit`.
pub struct Impatient<S> {
    stream: S,
    limit: Duration,
    /// Runs while a write waits.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> Impatient<S> {
    /// Wraps a stream.
    pub const fn new(stream: S, limit: Duration) -> Self {
        Self { stream, limit, waiting: None }
    }

    fn bounded<T>(
        &mut self,
        cx: &mut Context<'_>,
        progress: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if progress.is_ready() {
            self.waiting = None;
            return progress;
        }
        let limit = self.limit;
        let timer = self.waiting.get_or_insert_with(|| Box::pin(sleep(limit)));
        timer.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
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
        self.bounded(cx, progress)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let progress = Pin::new(&mut self.stream).poll_flush(cx);
        self.bounded(cx, progress)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let progress = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.bounded(cx, progress)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn gives_up_on_a_peer_that_takes_nothing() {
        let limit = Duration::from_millis(50);
        let (near, _far) = duplex(4);
        let begun = Instant::now();
        let written = Impatient::new(near, limit).write_all(b"longer than the pipe").await;
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() >= limit, "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn waits_for_a_peer_that_takes_a_little_now_and_then() {
        let limit = Duration::from_secs(1);
        let (near, mut far) = duplex(4);
        let begun = Instant::now();
        let slow = tokio::spawn(async move {
            let mut got = [0; 20];
            for byte in &mut got {
                sleep(Duration::from_millis(80)).await;
                *byte = far.read_u8().await.unwrap();
            }
            got
        });
        Impatient::new(near, limit).write_all(b"longer than the pipe").await.unwrap();
        assert!(begun.elapsed() > limit, "each wait is bounded, not their sum");
        assert_eq!(&slow.await.unwrap(), b"longer than the pipe");
    }
}
