//! The envelope: what a sealed value looks like in its two columns, and how each is bound to its row.
//!
//! ```text
//! wrapped_key = 1 ‖ master id (8) ‖ nonce (12) ‖ AES-256-GCM(KEK, nonce, data key, "wrap" ‖ purpose ‖ id ‖ version)
//! ciphertext  = 1 ‖ nonce (12) ‖ AES-256-GCM(data key, nonce, value, purpose ‖ id ‖ version)
//! ```
//! In the associated data each text is preceded by its length (8 bytes, big-endian) and the version is 4 bytes,
//! big-endian, so that no two labels encode alike. Nonces are random: a data key seals one value, and a KEK may wrap
//! 2³² data keys (NIST SP 800-38D §8.3), which is more credential versions than a broker sees in its life.

use std::fmt;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::error::Unspecified;
use zeroize::Zeroizing;

use super::master::{MasterId, MasterKey};
use crate::model::Sealed;
use crate::secret::SecretBytes;
use crate::world::Entropy;

const FORMAT: u8 = 1;
const KEY_LEN: usize = 32;
const TAG_LEN: usize = 16;
const WRAPPED_LEN: usize = 1 + MasterId::LEN + NONCE_LEN + KEY_LEN + TAG_LEN;

/// What a sealed value is for. It is bound into the ciphertext: a signing key's row does not open as a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// An upstream's secret.
    Credential,
    /// The private half of a token signing key.
    SigningKey,
    /// The public half: no secret, but nobody may slip in one of their own.
    VerifyKey,
    /// The HMAC key under which client secrets are kept.
    ClientSecretHmac,
    /// The MAC key over the audit chain's head.
    AuditHead,
    /// The key that DPoP nonces are derived from.
    DpopNonce,
    /// The key and the certificate of the authority that issues agents' certificates.
    ClientCa,
}

impl Purpose {
    /// The text that is bound into ciphertexts: never change one.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Credential => "credential",
            Self::SigningKey => "signing-key",
            Self::VerifyKey => "verify-key",
            Self::ClientSecretHmac => "client-secret-hmac",
            Self::AuditHead => "audit-head",
            Self::DpopNonce => "dpop-nonce",
            Self::ClientCa => "client-ca",
        }
    }
}

/// What a sealed value of the broker's own is for: every [`Purpose`] but a credential. [`Vault::open`] takes no other, so that
/// no room opens an upstream's secret by the way.
///
/// [`Vault::open`]: crate::vault::Vault::open
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnPurpose {
    /// [`Purpose::SigningKey`]
    SigningKey,
    /// [`Purpose::VerifyKey`]
    VerifyKey,
    /// [`Purpose::ClientSecretHmac`]
    ClientSecretHmac,
    /// [`Purpose::AuditHead`]
    AuditHead,
    /// [`Purpose::DpopNonce`]
    DpopNonce,
    /// [`Purpose::ClientCa`]
    ClientCa,
}

impl From<OwnPurpose> for Purpose {
    fn from(own: OwnPurpose) -> Self {
        match own {
            OwnPurpose::SigningKey => Self::SigningKey,
            OwnPurpose::VerifyKey => Self::VerifyKey,
            OwnPurpose::ClientSecretHmac => Self::ClientSecretHmac,
            OwnPurpose::AuditHead => Self::AuditHead,
            OwnPurpose::DpopNonce => Self::DpopNonce,
            OwnPurpose::ClientCa => Self::ClientCa,
        }
    }
}

/// Whose ciphertext it is. Opening asks for the same label, so ciphertext moved to another row does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label<'a, P = Purpose> {
    /// What for.
    pub purpose: P,
    /// The row's id.
    pub id: &'a str,
    /// The row's version. Seal each version once: two values under one label can be put in each other's place.
    pub version: u32,
}

impl<'a> From<Label<'a, OwnPurpose>> for Label<'a> {
    fn from(own: Label<'a, OwnPurpose>) -> Self {
        Self { purpose: own.purpose.into(), id: own.id, version: own.version }
    }
}

impl Label<'_> {
    fn value_aad(&self) -> Vec<u8> {
        let mut aad = Vec::with_capacity(64);
        self.append_to(&mut aad);
        aad
    }

    fn wrap_aad(&self) -> Vec<u8> {
        let mut aad = Vec::with_capacity(64);
        append_text(&mut aad, "wrap");
        self.append_to(&mut aad);
        aad
    }

    fn append_to(&self, aad: &mut Vec<u8>) {
        append_text(aad, self.purpose.as_str());
        append_text(aad, self.id);
        aad.extend_from_slice(&self.version.to_be_bytes());
    }
}

fn append_text(aad: &mut Vec<u8>, text: &str) {
    aad.extend_from_slice(&(text.len() as u64).to_be_bytes());
    aad.extend_from_slice(text.as_bytes());
}

impl Sealed {
    /// The master key that it was sealed or last rewrapped under.
    pub fn master(&self) -> Result<MasterId, OpenError> {
        Ok(WrappedKey::parse(&self.wrapped_key)?.master)
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.master() {
            Ok(master) => write!(f, "Sealed(under {master}, {} bytes)", self.ciphertext.len()),
            Err(_) => f.write_str("Sealed(malformed)"),
        }
    }
}

/// One of the two columns of a sealed value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// `wrapped_key`.
    DataKey,
    /// `ciphertext`.
    Value,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DataKey => "wrapped data key",
            Self::Value => "ciphertext",
        })
    }
}

/// Why a sealed value does not open, and what to do about it; says nothing secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not the format above.
    #[error(
        "the sealed value is cut off or of an unknown format; restore the row from a backup, or upgrade if a newer \
         Hallpass wrote it"
    )]
    Malformed,
    /// Sealed under a master key that is not at hand.
    #[error(
        "sealed under master key {0}, which this broker does not have; configure that key as a previous master key, \
         then run `hallpass credential rewrap`"
    )]
    UnknownMaster(MasterId),
    /// The tag does not match: altered, or taken from another row, version or purpose.
    #[error(
        "the {what} was altered or belongs to another row; restore the row from a backup, or store the secret anew"
    )]
    Tampered {
        /// Which column.
        what: Part,
    },
}

/// `wrapped_key`, taken apart but not opened.
pub(super) struct WrappedKey<'a> {
    pub(super) master: MasterId,
    nonce: [u8; NONCE_LEN],
    sealed: &'a [u8; KEY_LEN + TAG_LEN],
}

impl<'a> WrappedKey<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, OpenError> {
        let bytes: &[u8; WRAPPED_LEN] = bytes.try_into().map_err(|_| OpenError::Malformed)?;
        let rest = bytes.strip_prefix(&[FORMAT]).ok_or(OpenError::Malformed)?;
        let (master, rest) = rest.split_first_chunk().ok_or(OpenError::Malformed)?;
        let (nonce, rest) = rest.split_first_chunk().ok_or(OpenError::Malformed)?;
        let sealed = rest.first_chunk().ok_or(OpenError::Malformed)?;
        Ok(Self { master: MasterId(*master), nonce: *nonce, sealed })
    }

    /// `AES-256-GCM-Open(KEK, nonce, sealed, "wrap" ‖ purpose ‖ id ‖ version)`, NIST SP 800-38D.
    pub(super) fn open(&self, master: &MasterKey, label: &Label<'_>) -> Result<DataKey, OpenError> {
        let tampered = OpenError::Tampered { what: Part::DataKey };
        let mut buffer = Zeroizing::new(*self.sealed);
        let nonce = Nonce::assume_unique_for_key(self.nonce);
        let opened = master
            .kek()
            .open_in_place(nonce, Aad::from(label.wrap_aad()), buffer.as_mut_slice())
            .map_err(|Unspecified| tampered)?;
        let mut key = Zeroizing::new([0; KEY_LEN]);
        key.copy_from_slice(opened.first_chunk::<KEY_LEN>().ok_or(tampered)?);
        Ok(DataKey(key))
    }
}

/// The key of one sealed value.
pub(super) struct DataKey(Zeroizing<[u8; KEY_LEN]>);

impl DataKey {
    /// A new random data key.
    pub(super) fn generate(entropy: &dyn Entropy) -> Self {
        let mut key = Zeroizing::new([0; KEY_LEN]);
        entropy.fill(key.as_mut_slice());
        Self(key)
    }

    /// `1 ‖ master id ‖ nonce ‖ AES-256-GCM(KEK, nonce, self, "wrap" ‖ purpose ‖ id ‖ version)`, NIST SP 800-38D.
    pub(super) fn wrap(
        &self,
        entropy: &dyn Entropy,
        master: &MasterKey,
        label: &Label<'_>,
    ) -> Result<Vec<u8>, Unspecified> {
        let mut header = vec![FORMAT];
        header.extend_from_slice(&master.id().0);
        seal(entropy, master.kek(), header, label.wrap_aad(), self.0.as_slice())
    }

    /// `1 ‖ nonce ‖ AES-256-GCM(self, nonce, value, purpose ‖ id ‖ version)`, NIST SP 800-38D.
    pub(super) fn seal(
        &self,
        entropy: &dyn Entropy,
        label: &Label<'_>,
        value: &SecretBytes,
    ) -> Result<Vec<u8>, Unspecified> {
        seal(entropy, &self.prepare()?, vec![FORMAT], label.value_aad(), value.expose())
    }

    /// Opens what [`DataKey::seal`] made.
    pub(super) fn open(&self, label: &Label<'_>, ciphertext: &[u8]) -> Result<SecretBytes, OpenError> {
        let tampered = OpenError::Tampered { what: Part::Value };
        let rest = ciphertext.strip_prefix(&[FORMAT]).ok_or(OpenError::Malformed)?;
        let (nonce, sealed) = rest.split_first_chunk().ok_or(OpenError::Malformed)?;
        if sealed.len() < TAG_LEN {
            return Err(OpenError::Malformed);
        }
        let mut buffer = Zeroizing::new(sealed.to_vec());
        let key = self.prepare().map_err(|Unspecified| tampered)?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let len =
            key.open_in_place(nonce, Aad::from(label.value_aad()), &mut buffer).map_err(|Unspecified| tampered)?.len();
        buffer.truncate(len);
        // The buffer itself changes hands, so no copy of the value stays behind.
        Ok(SecretBytes::new(std::mem::take(&mut *buffer)))
    }

    fn prepare(&self) -> Result<LessSafeKey, Unspecified> {
        Ok(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, self.0.as_slice())?))
    }
}

/// `header ‖ nonce ‖ AES-256-GCM(key, nonce, plaintext, aad)` with a random nonce, NIST SP 800-38D §8.2.2.
fn seal(
    entropy: &dyn Entropy,
    key: &LessSafeKey,
    header: Vec<u8>,
    aad: Vec<u8>,
    plaintext: &[u8],
) -> Result<Vec<u8>, Unspecified> {
    let mut nonce = [0; NONCE_LEN];
    entropy.fill(&mut nonce);
    let mut buffer = Zeroizing::new(plaintext.to_vec());
    let nonce_used = Nonce::assume_unique_for_key(nonce);
    let tag = key.seal_in_place_separate_tag(nonce_used, Aad::from(aad), &mut buffer)?;
    let mut out = header;
    out.reserve_exact(NONCE_LEN + buffer.len() + TAG_LEN);
    out.extend_from_slice(&nonce);
    out.extend_from_slice(&buffer);
    out.extend_from_slice(tag.as_ref());
    Ok(out)
}
