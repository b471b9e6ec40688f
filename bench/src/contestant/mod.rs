//! What the broker is measured against, and what it is measured with; each its own process.

mod proxy;
mod signer;
mod upstream;

use std::net::SocketAddr;

use anyhow::Result;
use clap::Subcommand;
use tokio::net::TcpListener;

pub(crate) use signer::{AUDIENCE, Algorithm, ISSUER, Mint, TokenText};
pub(crate) use upstream::{ANSWER_BYTES, TRANSFER_BYTES};

/// Which one this process is.
#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    /// The API: 1 KiB answers, and 64 MiB to take and to give
    Upstream,
    /// axum + hyper-util, one header added, nothing else
    Proxy {
        /// Where the API is
        upstream: SocketAddr,
    },
    /// axum, one signature for each request, nothing else
    Signer {
        /// With what
        algorithm: Algorithm,
    },
}

impl Role {
    /// Listens on any free port of loopback, says where, and serves until it is killed.
    pub(crate) fn play(self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            println!("{}", listener.local_addr()?);
            match self {
                Self::Upstream => upstream::serve(listener).await,
                Self::Proxy { upstream } => proxy::serve(listener, upstream).await,
                Self::Signer { algorithm } => signer::serve(listener, algorithm).await,
            }
        })
    }
}
