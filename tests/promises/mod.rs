//! The promises of the README, one module each, kept end to end: the program or its real listeners, real upstreams, real
//! databases, and models that know nothing of how Hallpass keeps them. What is said more finely of one part is beside it,
//! in the other modules of this binary.

mod p1_the_agent_never_sees_an_upstream_secret;
mod p2_a_token_is_small;
mod p3_revoked_means_stopped;
mod p4_no_record_no_call;
mod p6_a_stolen_database_is_no_use;
mod p7_the_broker_dials_only_what_a_definition_names;
mod p8_deny_is_the_default;
mod p9_kill_9_loses_nothing_acknowledged;
