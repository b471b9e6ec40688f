//! Credentials: a *source* gives material, a *placement* puts it into a request. Sources are in `source/`, placements in
//! `placement/`, one file for each kind.
//!
//! This is the one room that opens a stored secret, and only for something that is [`Recorded`] (P4): [`Leave`] is made of
//! nothing else, and the vault opens a credential only by one. Sealing needs no leave, and a rewrap never sees a value.

mod chosen;
mod leave;
mod placement;
mod source;

pub use chosen::{Chosen, Opened, Withdrawn};
pub use placement::Draft;
