//! `Name: PrefixSECRET`

use crate::credential::placement::{Draft, Place};
use crate::error::Result;
use crate::policy::Header;
use crate::secret::SecretBytes;

impl Place for Header {
    fn place(&self, secret: &SecretBytes, draft: &mut Draft<'_>) -> Result<()> {
        draft.set_header(self.name.clone(), &[self.prefix.as_bytes(), secret.expose()])
    }
}
