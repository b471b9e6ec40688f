//! `Authorization: Basic base64(username:SECRET)` (RFC 7617 §2)

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use zeroize::Zeroizing;

use crate::credential::placement::{Draft, Place};
use crate::error::Result;
use crate::policy::Basic;
use crate::secret::SecretBytes;

impl Place for Basic {
    fn place(&self, secret: &SecretBytes, draft: &mut Draft<'_>) -> Result<()> {
        let mut pair = Zeroizing::new(Vec::with_capacity(self.username.len() + 1 + secret.len()));
        pair.extend_from_slice(self.username.as_bytes());
        pair.push(b':');
        pair.extend_from_slice(secret.expose());
        let encoded = Zeroizing::new(STANDARD.encode(pair.as_slice()));
        draft.set_header(AUTHORIZATION, &[b"Basic ", encoded.as_bytes()])
    }
}
