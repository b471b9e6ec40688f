//! Secrets are types: no `Display`, no `Serialize`, a `Debug` that tells nothing, memory wiped on drop.

use std::fmt;

use data_encoding::{BASE32_NOPAD, BASE32HEX_NOPAD, Encoding, Specification};
use ring::hmac;
use secrecy::{ExposeSecret, SecretBox};
use zeroize::Zeroizing;

use crate::world::{Entropy, Millis};

/// Secret bytes: an upstream's key, a master key, a data key. Wiped when dropped.
pub struct SecretBytes(SecretBox<Vec<u8>>);

impl SecretBytes {
    /// Takes the bytes over; the caller keeps no copy.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(SecretBox::new(Box::new(bytes)))
    }

    /// The bytes themselves. Each call of this is a place where a secret can leak: keep them few.
    pub fn expose(&self) -> &[u8] {
        self.0.expose_secret()
    }

    /// Length in bytes; of a secret this is not one.
    pub fn len(&self) -> usize {
        self.expose().len()
    }

    /// Whether there is nothing inside.
    pub fn is_empty(&self) -> bool {
        self.expose().is_empty()
    }
}

impl Clone for SecretBytes {
    fn clone(&self) -> Self {
        Self::new(self.expose().to_vec())
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes(redacted)")
    }
}

/// What a client secret starts with, so that secret scanners and people recognise a leaked one.
pub const CLIENT_SECRET_PREFIX: &str = "hp_cs_";

/// An agent's client secret: `hp_cs_` ‖ base32(32 random bytes ‖ 4 bytes of checksum), lower case.
///
/// 256 random bits need no slow hash: the database keeps HMAC-SHA-256 of it.
pub struct ClientSecret(Zeroizing<String>);

impl ClientSecret {
    /// What a broker answered, as it came.
    pub fn given(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// A new random secret.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        Self(random_secret(CLIENT_SECRET_PREFIX, entropy))
    }

    /// Whether `text` has the form and the checksum of a client secret. A typing error is told from a wrong
    /// secret without touching anything secret, so nonsense costs us no HMAC and no look-up.
    pub fn is_well_formed(text: &str) -> bool {
        let Some(body) = text.strip_prefix(CLIENT_SECRET_PREFIX) else { return false };
        let Ok(bytes) = lower_base32().decode(body.as_bytes()) else { return false };
        let bytes = Zeroizing::new(bytes);
        match bytes.split_at_checked(32) {
            Some((random, sum)) => checksum(random) == sum,
            None => false,
        }
    }

    /// The text, to be shown once.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientSecret(redacted)")
    }
}

/// What an admin's token starts with.
pub const ADMIN_TOKEN_PREFIX: &str = "hp_ad_";

/// The token of an admin's login, of the same make as a [`ClientSecret`].
pub struct AdminToken(Zeroizing<String>);

impl AdminToken {
    /// What a broker answered, as it came.
    pub fn given(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// A new random token.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        Self(random_secret(ADMIN_TOKEN_PREFIX, entropy))
    }

    /// The text, to be handed out once.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken(redacted)")
    }
}

/// `prefix` ‖ base32(32 random bytes ‖ 4 bytes of checksum), lower case.
fn random_secret(prefix: &str, entropy: &dyn Entropy) -> Zeroizing<String> {
    let mut bytes = Zeroizing::new([0_u8; 36]);
    if let Some(random) = bytes.get_mut(..32) {
        entropy.fill(random);
    }
    let sum = checksum(bytes.get(..32).unwrap_or_default());
    if let Some(tail) = bytes.get_mut(32..) {
        tail.copy_from_slice(&sum);
    }
    let mut text = String::with_capacity(prefix.len() + 58);
    text.push_str(prefix);
    lower_base32().encode_append(bytes.as_slice(), &mut text);
    Zeroizing::new(text)
}

/// HMAC-SHA-256(key, client id ‖ 0 ‖ client secret), RFC 2104: what the database keeps of a client secret.
///
/// Bound to its row: a writer of the database who copies an agent's digest to another agent cannot then come as that
/// one. No well-formed secret has a NUL in it, so no two pairs read alike.
pub fn client_secret_digest(key: &SecretBytes, client_id: &str, secret: &str) -> [u8; 32] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key.expose()));
    context.update(client_id.as_bytes());
    context.update(&[0]);
    context.update(secret.as_bytes());
    let mut out = [0; 32];
    out.copy_from_slice(context.sign().as_ref());
    out
}

/// A random identifier: `prefix` ‖ base32 of 16 random bytes, lower case (128 bits, opaque).
pub fn random_id(prefix: &str, entropy: &dyn Entropy) -> String {
    let mut bytes = [0_u8; 16];
    entropy.fill(&mut bytes);
    let mut text = String::with_capacity(prefix.len() + 26);
    text.push_str(prefix);
    lower_base32().encode_append(&bytes, &mut text);
    text
}

/// A time-ordered identifier: `prefix` ‖ base32hex(48 bits of unix milliseconds ‖ 80 random bits), lower case.
///
/// For keys of growing tables: a random key dirties a page of the index for each row. The alphabet is that of RFC 4648 §7,
/// whose letters sort as their values do.
pub fn ordered_id(prefix: &str, now: Millis, entropy: &dyn Entropy) -> String {
    let mut bytes = [0_u8; 16];
    if let Some(random) = bytes.get_mut(6..) {
        entropy.fill(random);
    }
    if let (Some(time), Some(millis)) = (bytes.get_mut(..6), now.to_be_bytes().get(2..)) {
        time.copy_from_slice(millis);
    }
    let mut text = String::with_capacity(prefix.len() + 26);
    text.push_str(prefix);
    lower_base32hex().encode_append(&bytes, &mut text);
    text
}

/// When an [`ordered_id`] was made; `None`: the text is none.
pub fn made_at(prefix: &str, id: &str) -> Option<Millis> {
    let body = id.strip_prefix(prefix).filter(|body| body.len() == 26)?;
    let bytes = lower_base32hex().decode(body.as_bytes()).ok()?;
    Some(bytes.iter().take(6).fold(0, |time, byte| time << 8 | Millis::from(*byte)))
}

fn checksum(bytes: &[u8]) -> [u8; 4] {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    let mut out = [0; 4];
    for (to, from) in out.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    out
}

fn lower_base32() -> &'static Encoding {
    static ENCODING: std::sync::OnceLock<Encoding> = std::sync::OnceLock::new();
    ENCODING.get_or_init(|| {
        let mut spec = Specification::new();
        spec.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
        // The specification is a constant and valid; upper case is the fallback that cannot be reached.
        spec.encoding().unwrap_or(BASE32_NOPAD)
    })
}

fn lower_base32hex() -> &'static Encoding {
    static ENCODING: std::sync::OnceLock<Encoding> = std::sync::OnceLock::new();
    ENCODING.get_or_init(|| {
        let mut spec = Specification::new();
        spec.symbols.push_str("0123456789abcdefghijklmnopqrstuv");
        // As above.
        spec.encoding().unwrap_or(BASE32HEX_NOPAD)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::world::SystemEntropy;

    #[test]
    fn a_client_secret_is_recognisable_and_carries_a_checksum() {
        let secret = ClientSecret::generate(&SystemEntropy);
        assert!(secret.expose().starts_with("hp_cs_"));
        assert!(ClientSecret::is_well_formed(secret.expose()));
        let mut wrong = secret.expose().to_owned();
        let last = wrong.pop().unwrap();
        wrong.push(if last == 'a' { 'b' } else { 'a' });
        assert!(!ClientSecret::is_well_formed(&wrong));
        assert!(!ClientSecret::is_well_formed("hp_cs_"));
        assert!(!ClientSecret::is_well_formed("hp_cs_ü"));
    }

    #[test]
    fn a_digest_is_bound_to_its_agent_and_its_key() {
        let digest = |key: u8, id, secret| client_secret_digest(&SecretBytes::new(vec![key; 32]), id, secret);
        assert_eq!(digest(1, "ag_a", "hp_cs_x"), digest(1, "ag_a", "hp_cs_x"));
        for other in [digest(1, "ag_b", "hp_cs_x"), digest(2, "ag_a", "hp_cs_x"), digest(1, "ag_a", "hp_cs_y")] {
            assert_ne!(digest(1, "ag_a", "hp_cs_x"), other);
        }
        assert_ne!(digest(1, "ag_a", "b"), digest(1, "ag_", "ab"), "where the id ends counts");
    }

    #[test]
    fn ordered_ids_sort_by_time_and_are_never_the_same() {
        let at = |now| ordered_id("se_", now, &SystemEntropy);
        let times = [0, 1, 31, 32, 999, 1_000, 1_764_500_000_000, 1_764_500_000_001, (1 << 48) - 1];
        let ids: Vec<String> = times.iter().map(|now| at(*now)).collect();
        assert!(ids.is_sorted(), "{ids:?}");
        assert!(ids.iter().all(|id| id.len() == 29), "{ids:?}");
        assert!(times.iter().zip(&ids).all(|(time, id)| made_at("se_", id) == Some(*time)), "{ids:?}");
        for bad in ["", "se_", "se_nope", &ids[0][..28], &format!("{}0", ids[0]), &ids[8].to_uppercase(), "tk_0"] {
            assert_eq!(made_at("se_", bad), None, "{bad}");
        }
        let same: std::collections::BTreeSet<_> = (0..1000).map(|_| at(5)).collect();
        assert_eq!(same.len(), 1000);
    }

    #[test]
    fn debug_says_nothing() {
        let shown = format!("{:?} {:?}", SecretBytes::new(b"canary".to_vec()), ClientSecret::generate(&SystemEntropy));
        assert_eq!(shown, "SecretBytes(redacted) ClientSecret(redacted)");
    }
}
