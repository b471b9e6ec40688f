//! The promises of the README, each end to end: through real sockets, and against a model that knows nothing of how
//! Hallpass keeps them.

mod p2_a_token_is_small;
mod p3_revoked_means_stopped;
mod p8_deny_is_the_default;
