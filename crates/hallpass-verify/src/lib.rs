//! What a gateway embeds to verify Hallpass tokens by itself, without asking the broker on each request.
//!
//! ```text
//! token text ─ Unverified::parse ─ TokenVerifier::verify ─► Claims      (the proof: only the verifier builds one)
//!                                       ▲         ▲
//!                             KeySet (JWKS)   RevocationList (GET /revocations)
//! ```
//!
//! [`Gateway`] puts the parts together and fails closed: without a fresh revocation list nothing is accepted. The
//! broker uses the same [`TokenVerifier`] with its own, live keys and revocations. Time is always an argument.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod claims;
mod crypto;
mod dpop;
mod foreign;
mod gateway;
mod jwk;
mod jwks;
mod jws;
mod possession;
mod revocation;
mod scope;
#[cfg(test)]
mod tests;

pub use claims::{AccessToken, Actor, Audience, Claims, MAX_ACTORS, SubjectId};
pub use crypto::install_crypto;
pub use dpop::{
    DPOP_ALGORITHMS, Dpop, DpopNonces, DpopRefusal, DpopRequest, DpopSettings, Proof, ProofRefusal, ProvenKey,
    SpentProof,
};
pub use foreign::{
    ForeignAlgorithm, ForeignClaims, ForeignKeys, ForeignToken, KeyProblem, KeyUse, MAX_FOREIGN_BYTES, MAX_FOREIGN_KEYS,
};
pub use gateway::{Gateway, GatewaySettings};
pub use jwks::{KeySet, KeySetError};
pub use jws::{MAX_TOKEN_BYTES, Refusal, TokenVerifier, Unverified};
pub use possession::{CertificateThumbprint, Confirmation, KeyThumbprint, Possession};
pub use revocation::{
    AgentCut, REVOCATIONS_TYP, RevocationClaims, RevocationEntry, RevocationList, RevocationSet, RevokedBy,
};
pub use scope::{InvalidScope, ScopeSet};

/// Unix time in seconds: JWT's NumericDate (RFC 7519 §2).
pub type Seconds = i64;
