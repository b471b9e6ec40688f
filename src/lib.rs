//! Hallpass: a credential broker and short-lived token issuer for AI agents.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod app;
pub mod audit;
pub mod broker;
pub mod cli;
pub mod config;
pub mod error;
pub mod http;
pub mod issue;
pub mod keyring;
pub mod model;
pub mod policy;
pub mod registry;
pub mod secret;
pub mod store;
pub mod vault;
pub mod world;
