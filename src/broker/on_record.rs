//! What records and logs show of a target. Values in a query may be about people, and a record is kept for years.

use std::sync::Arc;

use data_encoding::BASE64URL_NOPAD;

use crate::model::{Event, QueryValues, Target};
use crate::policy::CompiledUpstream;
use crate::secret::SecretBytes;
use crate::vault::query_value_mac;

/// Bytes of a MAC that are shown: 128 bits, which nobody finds a second value for.
const SHOWN: usize = 16;

/// Fills in where a call goes, as its upstream's definition lets a record show it.
pub(super) fn fill(event: &mut Event, key: &SecretBytes, upstream: &CompiledUpstream, target: &Target) {
    event.target = Some(text(key, upstream, target));
    if target.has_encoded_slash() {
        event.target_decoded = Some(target.decoded_path().into());
    }
}

fn text(key: &SecretBytes, upstream: &CompiledUpstream, target: &Target) -> Arc<str> {
    match upstream.definition().audit.query_values {
        QueryValues::Keep => target.path_and_query().into(),
        QueryValues::Drop => target.with_values(|_| "[dropped]".to_owned()).into(),
        QueryValues::Hash => target.with_values(|value| hashed(key, upstream.name(), value)).into(),
    }
}

/// The same for the same value, of one upstream.
fn hashed(key: &SecretBytes, upstream: &str, value: &[u8]) -> String {
    let mac = query_value_mac(key, upstream, value);
    format!("[hmac-sha-256:{}]", BASE64URL_NOPAD.encode(mac.get(..SHOWN).unwrap_or_default()))
}
