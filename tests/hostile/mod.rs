//! Peers that mean harm, on every side: what they take is bounded, others go on being served, and nothing is smuggled.

mod clients;
mod frames;
mod good_client;
mod http2;
mod machine;
mod refusals;
mod smuggling;
mod smuggling_answers;
mod smuggling_http2;
mod upstreams;
