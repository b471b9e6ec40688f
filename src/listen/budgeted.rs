//! A byte budget for what a connection reads.
//!
//! One poll of an HTTP/2 connection goes on for as long as there are frames to read. Frames that ask for next to nothing
//! (PING, SETTINGS, WINDOW_UPDATE) cost their sender less than us. A few connections that are flooded with them would keep
//! every worker thread busy for seconds at a time, and everybody else waiting.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::listen::untrusted::Trust;
use crate::yield_queue::{ByteBudget, YieldQueue};

/// Bytes that a connection may read before other tasks run: a few hundred of the smallest frames.
const BUDGET: usize = 4 * 1024;

/// A stream that gives way after each [`BUDGET`] of what it reads.
pub(super) struct BudgetedStream<T> {
    inner: T,
    trust: Trust,
    trusted: ByteBudget,
    untrusted: ByteBudget,
}

impl<T> BudgetedStream<T> {
    /// `yields`: the queue of trusted connections.
    pub(super) fn new(inner: T, yields: &YieldQueue, trust: &Trust) -> Self {
        let untrusted = trust.untrusted_queue().unwrap_or(yields).budget(BUDGET);
        Self { inner, trust: trust.clone(), trusted: yields.budget(BUDGET), untrusted }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for BudgetedStream<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let budget = if this.trust.is_trusted() { &mut this.trusted } else { &mut this.untrusted };
        ready!(budget.poll_ready(cx));
        let before = buf.filled().len();
        let read = Pin::new(&mut this.inner).poll_read(cx, buf);
        budget.spend(buf.filled().len() - before);
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for BudgetedStream<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;
    use crate::listen::UntrustedLimiter;
    use crate::supervise::Supervisor;

    #[tokio::test]
    async fn a_connection_whose_bytes_are_always_there_gives_way_after_each_budget() {
        let supervisor = Supervisor::new();
        for is_limited in [true, false] {
            let trust = UntrustedLimiter::new(is_limited, &supervisor).connection();
            let sent = [0; 4 * BUDGET];
            // Only what is read counts, and the other direction is not used.
            let stream = tokio::io::join(&sent[..], tokio::io::sink());
            let stream = BudgetedStream::new(stream, &YieldQueue::start(&supervisor), &trust);
            assert_eq!(ways(stream, sent.len()).await, 3);
        }
    }

    /// How often the stream gave way until so many bytes were read.
    async fn ways(mut stream: impl AsyncRead + Unpin, all: usize) -> usize {
        let (mut bytes, mut ways) = (0, 0);
        while bytes < all {
            let mut frame = [0; BUDGET / 8];
            let mut frame = ReadBuf::new(&mut frame);
            let read = poll_fn(|cx| {
                let read = Pin::new(&mut stream).poll_read(cx, &mut frame);
                ways += usize::from(read.is_pending());
                read
            });
            read.await.unwrap();
            bytes += frame.filled().len();
        }
        ways
    }
}
