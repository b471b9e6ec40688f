//! The master key: 32 random bytes outside the database, and what is derived from them.

use std::fmt;

use data_encoding::BASE32_NOPAD_NOCASE as BASE32;
use ring::aead::{self, LessSafeKey, UnboundKey};
use ring::{digest, hkdf};
use zeroize::Zeroizing;

use crate::secret::SecretBytes;
use crate::world::Entropy;

/// What a master key's text starts with, so that secret scanners and people recognise a leaked one.
pub const MASTER_KEY_PREFIX: &str = "hp_mk_";

const KEY_LEN: usize = 32;
const CHECKSUM_LEN: usize = 4;
const BODY_LEN: usize = 58; // base32 of KEY_LEN + CHECKSUM_LEN bytes

const SALT: &[u8] = b"hallpass master v1";
const ID_LABEL: &[u8] = b"hallpass master id v1";
const KEK_LABEL: &[u8] = b"hallpass kek v1";

/// The key that opens everything else: never in the database, so that a stolen database is no use.
///
/// The sub-keys are derived once and kept ready, so that opening a credential costs two AES-GCM calls. ring does not
/// wipe its prepared keys: the process's memory is as precious as the key file, which is why there are no core dumps.
pub struct MasterKey {
    bytes: SecretBytes,
    id: MasterId,
    kek: LessSafeKey,
}

impl MasterKey {
    /// A new random master key.
    pub fn generate(entropy: &dyn Entropy) -> Result<Self, MasterKeyError> {
        let mut bytes = Zeroizing::new([0; KEY_LEN]);
        entropy.fill(bytes.as_mut_slice());
        Self::from_bytes(&bytes)
    }

    /// Reads [`MasterKey::to_text`]'s form; white space at the end (the file's newline) is ignored.
    ///
    /// The errors say what is wrong and never repeat any of the text.
    pub fn parse(text: &str) -> Result<Self, MasterKeyError> {
        let text = text.trim_ascii_end();
        if text.is_empty() {
            return Err(MasterKeyError::Empty);
        }
        let body = text.strip_prefix(MASTER_KEY_PREFIX).ok_or(MasterKeyError::Prefix)?.as_bytes();
        if body.len() != BODY_LEN {
            return Err(MasterKeyError::Length { found: body.len() });
        }
        // One key has one text: upper case is refused, although the encoding could read it.
        if let Some(position) = body.iter().position(u8::is_ascii_uppercase) {
            return Err(MasterKeyError::Character { position });
        }
        let decoded = BASE32.decode(body).map_err(|e| MasterKeyError::Character { position: e.position })?;
        let decoded = Zeroizing::new(decoded);
        let (bytes, sum) = decoded.split_first_chunk::<KEY_LEN>().ok_or(MasterKeyError::Checksum)?;
        if checksum(bytes) != sum {
            return Err(MasterKeyError::Checksum);
        }
        Self::from_bytes(bytes)
    }

    /// The key as one line without its newline: `hp_mk_` ‖ base32(key ‖ first 4 bytes of SHA-256(key)), lower case.
    ///
    /// The checksum tells a typing error or a cut-off file from a wrong key.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_LEN + CHECKSUM_LEN));
        bytes.extend_from_slice(self.bytes.expose());
        bytes.extend_from_slice(&checksum(self.bytes.expose()));
        let mut text = Zeroizing::new(String::with_capacity(MASTER_KEY_PREFIX.len() + BODY_LEN));
        text.push_str(MASTER_KEY_PREFIX);
        BASE32.encode_append(&bytes, &mut text);
        text.make_ascii_lowercase(); // the prefix is lower case already
        text
    }

    /// The public fingerprint: names the key in the database, in logs and in error messages.
    pub fn id(&self) -> MasterId {
        self.id
    }

    /// The key that wraps data keys.
    pub(super) fn kek(&self) -> &LessSafeKey {
        &self.kek
    }

    fn from_bytes(bytes: &[u8; KEY_LEN]) -> Result<Self, MasterKeyError> {
        let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, SALT).extract(bytes);
        let id = derive_id(&prk).map_err(|_| MasterKeyError::Derive)?;
        let kek = derive_kek(&prk).map_err(|_| MasterKeyError::Derive)?;
        Ok(Self { bytes: SecretBytes::new(bytes.to_vec()), id, kek })
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({}, redacted)", self.id)
    }
}

/// `HKDF-SHA-256(salt = "hallpass master v1", master, info = "hallpass master id v1", 8)`, RFC 5869.
fn derive_id(prk: &hkdf::Prk) -> Result<MasterId, ring::error::Unspecified> {
    let mut id = [0; MasterId::LEN];
    prk.expand(&[ID_LABEL], IdLen)?.fill(&mut id)?;
    Ok(MasterId(id))
}

/// `HKDF-SHA-256(salt = "hallpass master v1", master, info = "hallpass kek v1", 32)`, RFC 5869.
fn derive_kek(prk: &hkdf::Prk) -> Result<LessSafeKey, ring::error::Unspecified> {
    Ok(LessSafeKey::new(UnboundKey::from(prk.expand(&[KEK_LABEL], &aead::AES_256_GCM)?)))
}

struct IdLen;

impl hkdf::KeyType for IdLen {
    fn len(&self) -> usize {
        MasterId::LEN
    }
}

fn checksum(key: &[u8]) -> [u8; CHECKSUM_LEN] {
    let digest = digest::digest(&digest::SHA256, key);
    digest.as_ref().first_chunk().copied().unwrap_or_default()
}

/// A master key's public fingerprint: eight bytes that are derived from it and tell nothing about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MasterId(pub [u8; Self::LEN]);

impl MasterId {
    /// Its length in bytes.
    pub const LEN: usize = 8;
}

impl fmt::Display for MasterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Why a text is no master key; never shows any of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MasterKeyError {
    /// Nothing there.
    #[error("the master key is empty; `hallpass init` writes one")]
    Empty,
    /// Something else than a master key.
    #[error(
        "this is no master key: it does not begin with {MASTER_KEY_PREFIX}; give the file that `hallpass init` wrote"
    )]
    Prefix,
    /// Cut off, or two lines.
    #[error(
        "the master key has {found} characters after {MASTER_KEY_PREFIX} instead of {BODY_LEN}; restore it from its backup"
    )]
    Length {
        /// How many there are.
        found: usize,
    },
    /// A character that does not belong to the alphabet.
    #[error("the master key has a character other than a-z and 2-7 at position {position} after {MASTER_KEY_PREFIX}")]
    Character {
        /// Where, counted in bytes from 0 after the prefix.
        position: usize,
    },
    /// A typing error.
    #[error("the master key's checksum does not match: a character was mistyped; restore it from its backup")]
    Checksum,
    /// The library refused; cannot happen with these lengths.
    #[error("the sub-keys could not be derived from the master key")]
    Derive,
}
