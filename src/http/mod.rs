//! Routes and handlers. axum is used here and nowhere else.

mod accept;
mod admin;
mod authority;
mod authorize;
mod certificate;
mod discovery;
mod dpop;
mod exchange;
mod extract;
mod front;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod introspect;
mod lost;
mod ops;
mod problem;
mod public_hosts;
pub mod reply;
mod resource;
mod revocations;
mod revoke;
pub mod routes;
mod serve;
mod service;
mod state;
mod token;

pub use revocations::SignedLists;
pub use serve::{Listeners, Secured, States, serve};
pub use service::ListenerService;
pub use state::{OpsParts, OpsState, Parts, PublicParts, PublicState, State};
