//! `?name=SECRET`

use crate::credential::placement::{Draft, Place};
use crate::error::Result;
use crate::policy::Query;
use crate::secret::SecretBytes;

impl Place for Query {
    fn place(&self, secret: &SecretBytes, draft: &mut Draft<'_>) -> Result<()> {
        draft.add_parameter(&self.name, secret.expose())
    }
}
