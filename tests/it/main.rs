//! All integration tests, in one binary: they boot real brokers, on real sockets and real databases.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods)]
#![allow(missing_docs)]

mod attacks;
mod audit_log;
mod cli;
mod denials;
mod discovery;
mod dpop;
mod exchange;
mod floors;
mod forge;
#[path = "../hostile/mod.rs"]
mod hostile;
#[path = "../interop/mod.rs"]
mod interop;
mod ledger;
mod limits;
#[path = "../promises/mod.rs"]
mod promises;
mod quickstart;
mod readme;
mod smoke;
mod storage;
mod support;
mod token_endpoint;
mod verify_crate;
