//! `Authorization: Bearer SECRET` (RFC 6750 §2.1)

use http::header::AUTHORIZATION;

use crate::credential::placement::{Draft, Place};
use crate::error::Result;
use crate::policy::Bearer;
use crate::secret::SecretBytes;

impl Place for Bearer {
    fn place(&self, secret: &SecretBytes, draft: &mut Draft<'_>) -> Result<()> {
        draft.set_header(AUTHORIZATION, &[b"Bearer ", secret.expose()])
    }
}
