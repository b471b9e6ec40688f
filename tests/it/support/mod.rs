//! The harness: real brokers on real sockets and databases, real upstreams, the real binary.
//!
//! [`TestBroker`] runs a broker in this process (its clock and its resolver can be replaced); [`Binary`] runs the
//! program itself. [`Upstream`] is an HTTP server that does what a closure says and remembers what it saw.
#![allow(dead_code, unused_imports, reason = "each module uses its part of the harness")]

pub(crate) mod admin;
pub(crate) mod binary;
pub(crate) mod broker;
pub(crate) mod clock;
pub(crate) mod database;
pub(crate) mod idp;
pub(crate) mod load;
pub(crate) mod log;
pub(crate) mod postgres;
pub(crate) mod proof;
pub(crate) mod real;
pub(crate) mod upstream;

pub(crate) use binary::Binary;
pub(crate) use broker::{Engine, TestBroker};
pub(crate) use clock::TestClock;
pub(crate) use upstream::{Seen, Upstream};
