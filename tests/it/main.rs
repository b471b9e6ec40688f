//! All integration tests, in one binary: they boot real brokers, on real sockets and real databases.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods)]
#![allow(missing_docs)]

mod audit_log;
mod cli;
mod crash;
mod floors;
mod smoke;
mod storage;
mod support;
