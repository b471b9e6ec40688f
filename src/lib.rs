//! Hallpass: a credential broker and short-lived token issuer for AI agents.
//!
//! This page is the map. Imports go downward only; `tests/it/floors.rs` fails on an edge that is not listed there.
//!
//! | floor | rooms |
//! |---|---|
//! | top | [`app`] wires everything together; `main` calls [`cli`] |
//! | doors | [`http`]: routes and handlers, axum lives only here · [`cli`]: the commands (never each other) |
//! | admins | [`manage`]: what an admin does, one file per noun: typed inputs and outputs, no HTTP |
//! | work | [`issue`]: a token request, taking back, who an admin is · [`broker`]: a brokered call (never each other) |
//! | trust | [`trust`]: who others are: fetches and keeps their keys · [`credential`]: a source × a placement, the one room that opens a stored secret |
//! | memory | [`audit`]: hash chain and group commit · [`registry`]: what hot paths read instead of SQL |
//! | disk, wire | [`store`]: all SQL, for both engines · [`outbound`]: dialling, with every address checked · [`listen`]: accept, TLS, HTTP/1.1 and HTTP/2, drain |
//! | pure | [`policy`]: `classify()` → `Candidate`, `decide()` → `Permit` · [`vault`]: envelope encryption · [`keyring`]: signing keys · [`config`] · [`catalog`]: ready definitions |
//! | ground | [`secret`] · [`world`]: clock and entropy · [`error`] · [`model`]: plain types · [`supervise`]: essential tasks · [`yield_queue`]: fair shares of the threads |
//! | below | `hallpass_verify`: what a gateway embeds, too |
//!
//! **A token request**: `http/token.rs` → [`issue`] (authenticate → narrow → mint) → [`registry`] → [`keyring`] →
//! [`audit`] → `http/reply.rs`
//!
//! **A brokered call**: `http/exchange.rs` → `broker/ask.rs` → `hallpass_verify` → `broker/call.rs`: classify ([`policy`]) → admit →
//! decide ([`policy`]) → intent ([`audit`]) → (attempt: `inject.rs` with [`credential`] and [`vault`] → `dial.rs`) → `answer.rs` with
//! `scrub/`. `Broker::make` there is the one place that turns an error into a record.
//!
//! **An admin's request**: [`listen`] (the unix socket, or TLS) → `http/admin/door.rs` (who it is, and whether the route's
//! role is theirs) → `http/admin/table.rs` (which function does it) → a file for each noun in [`manage`] → [`audit`]
//!
//! Types make the first two lines one-way: `Unverified → Claims` (only the verifier builds it) `→ Candidate → Permit` (only
//! `policy::decide`) `→ Recorded<Permit>` (only [`audit`], once the intent is durable) `→ Injected` (only `broker/inject.rs`), and
//! `dial::send` takes only that. [`credential`] opens a secret for something `Recorded` and nothing else: the vault asks for
//! a leave that only that room can make, and of no other thing.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod app;
pub mod audit;
pub mod broker;
pub mod catalog;
pub mod cli;
pub mod config;
pub mod credential;
pub mod error;
pub mod http;
pub mod issue;
pub mod keyring;
pub mod listen;
pub mod manage;
pub mod model;
pub mod outbound;
pub mod policy;
pub mod registry;
pub mod secret;
pub mod store;
pub mod supervise;
pub mod trust;
pub mod vault;
pub mod world;
pub mod yield_queue;
