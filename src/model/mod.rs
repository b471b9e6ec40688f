//! Plain types: what the broker knows, without a word of how it is stored, sent or decided.

mod admin;
mod agent;
mod audit;
pub mod authorization;
mod change;
mod credential;
mod distinguished_name;
mod headers;
mod identity;
mod injection;
mod names;
pub mod public;
mod revocation;
mod segment;
mod session;
mod target;
mod template;
mod upstream;

pub use admin::AdminRole;
pub use agent::{Agent, AgentStatus, StoredSecret};
pub use audit::{AuditRow, CallFacts, Event, EventKind, Head, Origin};
pub use change::{Change, DefinitionKind, Guard, OnceOnly, Rewrapped, StoredKey, UsedAssertion, UsedProof};
pub use credential::{Credential, CredentialVersion, SealedColumns};
pub use distinguished_name::DistinguishedName;
pub use headers::HeaderRule;
pub use identity::{AuthMethod, Delegation, Identity, TrustDomain, TrustedIssuer};
pub use injection::Injection;
pub use names::{INTROSPECT_SCOPE, check_label, check_name};
pub use revocation::{Revocation, RevocationKind, subject_key};
pub use segment::{Records, Segment, append_record};
pub use session::Session;
pub use target::{Target, TargetError};
pub use template::{Template, misspelled};
pub use upstream::{ByName, CallRecords, Limits, Operation, QueryValues, Resource, Role, Timeouts, Upstream};
