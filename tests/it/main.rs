//! All integration tests, in one binary: they boot real brokers, on real sockets and real databases.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods)]
#![allow(missing_docs, clippy::print_stdout)]

mod assertions;
mod attacks;
mod audit_log;
mod audit_readers;
mod catalog;
mod certificates;
mod cli;
mod cli_tokens;
mod client_address;
mod delegation;
mod delegation_property;
mod denials;
mod discovery;
mod docs;
mod dpop;
mod elsewhere;
mod exchange;
mod federation;
mod floors;
mod forge;
#[path = "../hostile/mod.rs"]
mod hostile;
mod identity_page;
#[path = "../interop/mod.rs"]
mod interop;
mod ledger;
mod limits;
mod mtls;
mod old_layout;
mod operating;
mod outbound_proxy;
#[path = "../promises/mod.rs"]
mod promises;
mod public_files;
mod quickstart;
mod readme;
mod reference;
mod remote_admin;
mod search;
mod smoke;
mod storage;
mod support;
mod token_endpoint;
mod verify_crate;
mod way_back;
