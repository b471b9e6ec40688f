//! The leave to open credentials.

use std::marker::PhantomData;

use crate::audit::Recorded;
use crate::vault::MayOpenCredentials;

/// For as long as something recorded is at hand: a secret leaves only for what is in the log (P4).
pub(super) struct Leave<'r>(PhantomData<&'r ()>);

impl<'r> Leave<'r> {
    pub(super) fn by<T>(_recorded: &'r Recorded<T>) -> Self {
        Self(PhantomData)
    }
}

impl MayOpenCredentials for Leave<'_> {}
