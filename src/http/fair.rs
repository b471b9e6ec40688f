//! No connection keeps a worker thread for itself.
//!
//! One poll of an HTTP/2 connection goes on for as long as there are frames to read. Frames that ask for next to nothing
//! (PING, SETTINGS, WINDOW_UPDATE) cost their sender less than us: a few connections that are flooded with them would keep
//! every worker busy for seconds at a time, and everybody else waiting.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http::strangers::Standing;
use crate::yield_queue::{ByteBudget, YieldQueue};

/// Bytes that a connection may read before others get their turn: a few hundred of the smallest frames.
const TURN: usize = 4 * 1024;

/// A stream that gives way after each [`TURN`] of what it reads.
pub(super) struct Fair<T> {
    inner: T,
    standing: Standing,
    /// Among those who are known. Strangers have turns of their own: a line of them is as long as they like.
    among_known: ByteBudget,
    among_strangers: ByteBudget,
}

impl<T> Fair<T> {
    pub(super) fn new(inner: T, turns: &YieldQueue, standing: &Standing) -> Self {
        let (among_known, among_strangers) = (turns.budget(TURN), standing.turns().budget(TURN));
        Self { inner, standing: standing.clone(), among_known, among_strangers }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Fair<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let turn = if this.standing.is_known() { &mut this.among_known } else { &mut this.among_strangers };
        ready!(turn.poll_ready(cx));
        let before = buf.filled().len();
        let read = Pin::new(&mut this.inner).poll_read(cx, buf);
        turn.spend(buf.filled().len() - before);
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Fair<T> {
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
    use crate::http::strangers::Strangers;

    #[tokio::test]
    async fn a_connection_whose_bytes_are_always_there_gives_way_after_each_turn() {
        let standing = Strangers::new(&crate::supervise::Supervisor::new()).standing();
        let sent = [0; 4 * TURN];
        // Only what is read counts, and the other direction is not used.
        let mut stream = Fair::new(
            tokio::io::join(&sent[..], tokio::io::sink()),
            &YieldQueue::start(&crate::supervise::Supervisor::new()),
            &standing,
        );
        let (mut bytes, mut ways) = (0, 0);
        while bytes < sent.len() {
            let mut frame = [0; TURN / 8];
            let mut frame = ReadBuf::new(&mut frame);
            let read = poll_fn(|cx| {
                let read = Pin::new(&mut stream).poll_read(cx, &mut frame);
                ways += usize::from(read.is_pending());
                read
            });
            read.await.unwrap();
            bytes += frame.filled().len();
        }
        assert_eq!(ways, 3);
    }
}
