//! One machine for all, as if each had its own: what makes the good client wait is then the broker's own doing, and not
//! that its attackers, and its upstreams, use the same cores.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::process::Command;
use std::task::{Context, Poll};
use std::thread::yield_now;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// How a thread stands where the machine's cores do not suffice for all. With the same standing for all (without
/// optimisation, beside other tests), one of several busy threads waits for milliseconds until the kernel takes its turn.
pub(super) enum Standing {
    /// Attackers, and the upstreams that are theirs, take what the broker and the good client leave.
    Attacker,
    /// The good client and its upstream are there when they have something to do. Needs root.
    Good,
}

impl Standing {
    /// Of this thread from now on, and of those that it starts.
    pub(super) fn take(self) {
        if cfg!(debug_assertions) {
            return;
        }
        let policy = match self {
            Self::Attacker => ["--idle", "--pid", "0"],
            Self::Good => ["--rr", "--pid", "1"],
        };
        let thread = std::fs::read_link("/proc/thread-self").unwrap();
        let status = Command::new("chrt").args(policy).arg(thread.file_name().unwrap()).status().unwrap();
        assert!(status.success(), "chrt {policy:?}; run the strict form as root");
    }
}

/// A connection of an attacker's, or of an upstream's that is theirs. It hands the kernel little at once, which does not stop
/// in the middle of a write; and it gives the core up after each piece. Linux takes that from an idle thread when another one
/// wakes, but then gives it back for as long as 4 ms whenever the other one has had its share.
pub(super) struct Stream(TcpStream);

impl Stream {
    pub(super) fn new(stream: TcpStream) -> Self {
        rustix::net::sockopt::set_socket_send_buffer_size(&stream, 16 * 1024).unwrap();
        Self(stream)
    }
}

/// A connection of an attacker's.
pub(super) async fn connect(address: SocketAddr) -> Stream {
    Stream::new(TcpStream::connect(address).await.unwrap())
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.0).poll_read(cx, buf);
        yield_now();
        read
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.0).poll_write(cx, buf);
        yield_now();
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Runs the test `body`, whose tasks are the attackers'.
pub(super) fn attacked(body: impl AsyncFnOnce() + Send) {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.enable_all().on_thread_start(|| Standing::Attacker.take()).build().unwrap();
    // A thread that ends with the test: its standing is of no use to others.
    let ended = std::thread::scope(|scope| scope.spawn(|| runtime.block_on(body())).join());
    if let Err(panic) = ended {
        std::panic::resume_unwind(panic);
    }
}
