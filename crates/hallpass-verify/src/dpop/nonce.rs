//! Server nonces that nobody has to store: `base64url(HMAC-SHA-256(key, label ‖ step)[..16])`, RFC 2104.
//!
//! A step is a minute of unix time. Every node that has the key makes and takes the same nonces, also after a restart.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;

use crate::Seconds;

/// How long one nonce is handed out.
const STEP: Seconds = 60;

/// Nonces of this many steps before and after the present one are taken: a client keeps the one that it was given last,
/// and nodes' clocks differ.
const AROUND: i64 = 2;

const LABEL: &[u8] = b"hallpass dpop nonce v1";

/// Makes and recognises nonces (RFC 9449 §8, §9).
#[derive(Clone)]
pub struct DpopNonces {
    key: hmac::Key,
}

impl DpopNonces {
    /// With a random secret of 32 bytes.
    pub fn new(secret: &[u8; 32]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, secret) }
    }

    /// The nonce to hand out now.
    pub fn current(&self, now: Seconds) -> String {
        self.of_step(now.div_euclid(STEP))
    }

    /// Whether it was handed out lately. It is no secret from the client that shows it: to make one takes the key.
    pub fn accepts(&self, nonce: &str, now: Seconds) -> bool {
        let step = now.div_euclid(STEP);
        (step - AROUND..=step + AROUND).any(|step| self.of_step(step) == nonce)
    }

    fn of_step(&self, step: i64) -> String {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(LABEL);
        context.update(&step.to_be_bytes());
        let tag = context.sign();
        URL_SAFE_NO_PAD.encode(tag.as_ref().get(..16).unwrap_or_default())
    }
}

impl fmt::Debug for DpopNonces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DpopNonces(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_good_for_two_steps_and_for_whoever_has_the_key() {
        let (ours, theirs) = (DpopNonces::new(&[1; 32]), DpopNonces::new(&[2; 32]));
        let now = 1_800_000_000;
        let nonce = ours.current(now);
        assert_eq!(nonce.len(), 22);
        for (later, good) in [(0, true), (120, true), (179, true), (180, false), (-120, true), (-121, false)] {
            assert_eq!(ours.accepts(&nonce, now + later), good, "{later}");
        }
        assert!(DpopNonces::new(&[1; 32]).accepts(&nonce, now));
        assert!(!theirs.accepts(&nonce, now));
        assert!(!ours.accepts("", now));
        assert_eq!(format!("{ours:?}"), "DpopNonces(redacted)");
    }
}
