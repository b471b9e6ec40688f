//! Sealed values: what was altered, moved or made up does not open (P6), and no text is two keys.

use std::sync::LazyLock;

use hallpass::secret::{ClientSecret, SecretBytes};
use hallpass::vault::{Label, MasterKey, OwnPurpose, Sealed, Vault};
use hallpass::world::Entropy;

/// Not random at all: a finding must be the same finding tomorrow.
struct Fixed(u8);

impl Entropy for Fixed {
    fn fill(&self, out: &mut [u8]) {
        (0_u8..).zip(out.iter_mut()).for_each(|(n, byte)| *byte = self.0.wrapping_add(n.wrapping_mul(29)));
    }
}

const LABEL: Label<'_, OwnPurpose> = Label { purpose: OwnPurpose::ClientCa, id: "cr_one", version: 3 };
const VALUE: &[u8] = b"sk-live-of-the-crm";

static VAULT: LazyLock<Vault> = LazyLock::new(|| {
    Vault::new(MasterKey::generate(&Fixed(1)).unwrap(), vec![MasterKey::generate(&Fixed(2)).unwrap()])
});
static GENUINE: LazyLock<Sealed> =
    LazyLock::new(|| VAULT.seal(&Fixed(3), LABEL, &SecretBytes::new(VALUE.to_vec())).unwrap());

/// The first byte says what the rest is.
pub fn run(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    match kind {
        b'm' => mutated(rest),
        b'l' => relabelled(rest),
        b'k' => master_key(rest),
        b'c' => client_secret(rest),
        _ => made_up(rest),
    }
}

/// Edits of the genuine value: pairs of a place and a byte to XOR; a place beyond the end cuts off or adds.
fn mutated(edits: &[u8]) {
    let mut sealed = GENUINE.clone();
    for edit in edits.chunks_exact(2) {
        let (place, change) = (usize::from(edit[0]), edit[1]);
        let (key, value) = (sealed.wrapped_key.len(), sealed.ciphertext.len());
        if place < key {
            sealed.wrapped_key[place] ^= change;
        } else if place < key + value {
            sealed.ciphertext[place - key] ^= change;
        } else {
            match place % 4 {
                0 => drop(sealed.wrapped_key.pop()),
                1 => drop(sealed.ciphertext.pop()),
                2 => sealed.wrapped_key.push(change),
                _ => sealed.ciphertext.push(change),
            }
        }
    }
    check(&sealed, sealed == *GENUINE);
}

/// The genuine value under another label.
fn relabelled(data: &[u8]) {
    let purposes = [
        OwnPurpose::ClientCa,
        OwnPurpose::SigningKey,
        OwnPurpose::VerifyKey,
        OwnPurpose::ClientSecretHmac,
        OwnPurpose::AuditHead,
    ];
    let [purpose, version, id @ ..] = data else { return };
    let Ok(id) = std::str::from_utf8(id) else { return };
    let label = Label { purpose: purposes[usize::from(*purpose) % 5], id, version: u32::from(*version) };
    assert_eq!(VAULT.open(label, &GENUINE).is_ok(), label == LABEL, "it opens for another row");
}

/// A `wrapped_key` of its usual length or less, and a ciphertext.
fn made_up(data: &[u8]) {
    let (key, value) = data.split_at(data.len().min(GENUINE.wrapped_key.len()));
    let sealed = Sealed { wrapped_key: key.to_vec(), ciphertext: value.to_vec() };
    check(&sealed, sealed == *GENUINE);
}

fn check(sealed: &Sealed, genuine: bool) {
    let opened = VAULT.open(LABEL, sealed);
    assert_eq!(opened.is_ok(), genuine, "{opened:?}");
    assert!(opened.is_err() || opened.is_ok_and(|value| value.expose() == VALUE));
    // A rewrap reads the key alone.
    let mine = sealed.wrapped_key == GENUINE.wrapped_key;
    let rewrapped = VAULT.rewrap(&Fixed(4), LABEL, sealed);
    assert!(!mine || rewrapped.is_ok_and(|new| new.is_none()), "the genuine key needs no rewrap");
    let _ = (sealed.master(), format!("{sealed:?}"));
}

fn master_key(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    match MasterKey::parse(text) {
        Ok(key) => assert_eq!(*key.to_text(), text.trim_ascii_end(), "one key, two texts"),
        Err(error) => drop(error.to_string()),
    }
}

fn client_secret(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    if ClientSecret::is_well_formed(text) {
        assert!(text.len() == 64 && text.starts_with("hp_cs_") && !text.bytes().any(|b| b.is_ascii_uppercase()));
    }
}
