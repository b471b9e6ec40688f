use std::sync::Mutex;

use data_encoding::HEXLOWER as HEX;
use proptest::prelude::*;

use super::*;
use crate::world::SystemEntropy;

/// Bytes that count up, so that what is made from them can be written down.
struct Counting(Mutex<u8>);

impl Counting {
    fn from(first: u8) -> Self {
        Self(Mutex::new(first))
    }
}

impl Entropy for Counting {
    fn fill(&self, out: &mut [u8]) {
        let mut next = self.0.lock().unwrap();
        for byte in out {
            *byte = *next;
            *next = next.wrapping_add(1);
        }
    }
}

const LABEL: Label<'_, OwnPurpose> = Label { purpose: OwnPurpose::VerifyKey, id: "cred_1", version: 1 };

/// Here nothing was recorded, and nothing leaves.
struct Tests;

impl MayOpenCredentials for Tests {}

fn master() -> MasterKey {
    MasterKey::generate(&SystemEntropy).unwrap()
}

fn vault() -> Vault {
    Vault::new(master(), Vec::new())
}

fn secret(text: &str) -> SecretBytes {
    SecretBytes::new(text.into())
}

fn sealed(vault: &Vault, label: Label<'_, OwnPurpose>, text: &str) -> Sealed {
    vault.seal(&SystemEntropy, label, &secret(text)).unwrap()
}

fn tampered(what: Part) -> OpenError {
    OpenError::Tampered { what }
}

#[test]
fn a_master_key_survives_its_text_form() {
    let key = master();
    let text = key.to_text();
    assert_eq!(text.len(), MASTER_KEY_PREFIX.len() + 58);
    for file in [text.to_string(), format!("{}\n", *text), format!("{}\r\n", *text)] {
        let read = MasterKey::parse(&file).unwrap();
        assert_eq!(read.id(), key.id());
        assert_eq!(*read.to_text(), *text);
    }
}

#[test]
fn a_broken_master_key_says_what_is_wrong_and_not_what_it_is() {
    let text = MasterKey::generate(&Counting::from(0)).unwrap().to_text().to_string();
    let swapped = {
        let mut bytes = text.clone().into_bytes();
        bytes[20] = if bytes[20] == b'a' { b'b' } else { b'a' };
        String::from_utf8(bytes).unwrap()
    };
    let odd = format!("{}0{}", &text[..30], &text[31..]);
    let cases = [
        (String::new(), MasterKeyError::Empty),
        ("\n".into(), MasterKeyError::Empty),
        (text.replace("hp_mk_", "hp_cs_"), MasterKeyError::Prefix),
        (text[..60].into(), MasterKeyError::Length { found: 54 }),
        (format!("{text}\n{text}"), MasterKeyError::Length { found: 123 }),
        (odd, MasterKeyError::Character { position: 24 }),
        (text.to_uppercase().replace("HP_MK_", "hp_mk_"), MasterKeyError::Character { position: 0 }),
        (swapped, MasterKeyError::Checksum),
    ];
    for (file, expected) in cases {
        let error = MasterKey::parse(&file).unwrap_err();
        assert_eq!(error, expected);
        assert!(!error.to_string().contains(&text[6..14]), "{error}");
    }
}

#[test]
fn what_is_sealed_opens() {
    let vault = vault();
    for text in ["", "s", "sk-live-canary", &"long".repeat(5_000)] {
        let sealed = sealed(&vault, LABEL, text);
        assert_eq!(vault.open(LABEL, &sealed).unwrap().expose(), text.as_bytes());
        assert_eq!(sealed.master().unwrap(), vault.current_id());
        assert_eq!(sealed.wrapped_key.len(), 69);
        assert_eq!(sealed.ciphertext.len(), 29 + text.len());
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    let vault = vault();
    let good = sealed(&vault, LABEL, "canary");
    for i in 0..good.wrapped_key.len() * 8 {
        let mut bad = good.clone();
        bad.wrapped_key[i / 8] ^= 1 << (i % 8);
        let error = vault.open(LABEL, &bad).unwrap_err();
        match i / 8 {
            0 => assert_eq!(error, OpenError::Malformed),
            1..9 => assert!(matches!(error, OpenError::UnknownMaster(_))),
            _ => assert_eq!(error, tampered(Part::DataKey)),
        }
    }
    for i in 0..good.ciphertext.len() * 8 {
        let mut bad = good.clone();
        bad.ciphertext[i / 8] ^= 1 << (i % 8);
        let expected = if i < 8 { OpenError::Malformed } else { tampered(Part::Value) };
        assert_eq!(vault.open(LABEL, &bad).unwrap_err(), expected);
    }
}

#[test]
fn every_truncation_is_refused() {
    let vault = vault();
    let good = sealed(&vault, LABEL, "canary");
    for len in 0..good.wrapped_key.len() {
        let bad = Sealed { wrapped_key: good.wrapped_key[..len].to_vec(), ..good.clone() };
        assert_eq!(vault.open(LABEL, &bad).unwrap_err(), OpenError::Malformed);
    }
    for len in 0..good.ciphertext.len() {
        let bad = Sealed { ciphertext: good.ciphertext[..len].to_vec(), ..good.clone() };
        let expected = if len < 29 { OpenError::Malformed } else { tampered(Part::Value) };
        assert_eq!(vault.open(LABEL, &bad).unwrap_err(), expected);
    }
}

#[test]
fn moved_ciphertext_does_not_open() {
    let vault = vault();
    let other_label = Label { id: "cred_2", ..LABEL };
    let (one, two) = (sealed(&vault, LABEL, "one"), sealed(&vault, other_label, "two"));
    let swapped_values = Sealed { ciphertext: two.ciphertext.clone(), ..one.clone() };
    assert_eq!(vault.open(LABEL, &swapped_values).unwrap_err(), tampered(Part::Value));
    let swapped_keys = Sealed { wrapped_key: two.wrapped_key.clone(), ..one.clone() };
    assert_eq!(vault.open(LABEL, &swapped_keys).unwrap_err(), tampered(Part::DataKey));
    assert_eq!(vault.open(LABEL, &two).unwrap_err(), tampered(Part::DataKey));
    for label in [
        other_label,
        Label { version: 2, ..LABEL },
        Label { purpose: OwnPurpose::SigningKey, ..LABEL },
        Label { purpose: OwnPurpose::ClientSecretHmac, ..LABEL },
        Label { purpose: OwnPurpose::AuditHead, ..LABEL },
        Label { id: "", ..LABEL },
    ] {
        assert_eq!(vault.open(label, &one).unwrap_err(), tampered(Part::DataKey));
    }
}

/// A credential's row does not open as something of the broker's own, which anybody may open, and the other way round.
#[test]
fn a_credential_opens_as_nothing_else() {
    let vault = vault();
    let label = Label { purpose: Purpose::Credential, id: "cred_1", version: 1 };
    let sealed = vault.seal(&SystemEntropy, label, &secret("canary")).unwrap();
    let own = [
        OwnPurpose::SigningKey,
        OwnPurpose::VerifyKey,
        OwnPurpose::ClientSecretHmac,
        OwnPurpose::AuditHead,
        OwnPurpose::DpopNonce,
        OwnPurpose::ClientCa,
    ];
    for purpose in own {
        let label = Label { purpose, id: "cred_1", version: 1 };
        assert_eq!(vault.open(label, &sealed).unwrap_err(), tampered(Part::DataKey));
        let own = self::sealed(&vault, label, "ours");
        assert_eq!(vault.open_credential(&Tests, "cred_1", 1, &own).unwrap_err(), tampered(Part::DataKey));
    }
}

#[test]
fn a_rewrap_moves_a_value_to_the_new_master_key_without_touching_it() {
    let (old, new) = (master(), master());
    let (old_text, new_text) = (old.to_text(), new.to_text());
    let (old_id, new_id) = (old.id(), new.id());
    let parse = |text: &str| MasterKey::parse(text).unwrap();
    let only_old = Vault::new(old, Vec::new());
    let only_new = Vault::new(new, Vec::new());
    let both = Vault::new(parse(&new_text), vec![parse(&old_text)]);

    let before = sealed(&only_old, LABEL, "canary");
    assert_eq!(both.open(LABEL, &before).unwrap().expose(), b"canary");
    assert_eq!(only_new.open(LABEL, &before).unwrap_err(), OpenError::UnknownMaster(old_id));

    let wrapped_key = both.rewrap(&SystemEntropy, LABEL, &before).unwrap().unwrap();
    let after = Sealed { wrapped_key, ciphertext: before.ciphertext.clone() };
    assert_eq!(only_new.open(LABEL, &after).unwrap().expose(), b"canary");
    assert_eq!(only_old.open(LABEL, &after).unwrap_err(), OpenError::UnknownMaster(new_id));
    assert!(both.rewrap(&SystemEntropy, LABEL, &after).unwrap().is_none());

    let moved = both.rewrap(&SystemEntropy, Label { version: 2, ..LABEL }, &before).unwrap_err();
    assert_eq!(moved.code, "vault_tampered");
    let unknown = only_new.rewrap(&SystemEntropy, LABEL, &before).unwrap_err();
    assert_eq!(unknown.code, "vault_unknown_master");
}

#[test]
fn an_unknown_master_key_is_named() {
    let error = vault().open(LABEL, &sealed(&vault(), LABEL, "canary")).unwrap_err();
    let OpenError::UnknownMaster(id) = error else { panic!("{error}") };
    assert!(error.to_string().contains(&id.to_string()));
    assert_eq!(id.to_string().len(), 16);
}

#[test]
fn an_altered_value_is_told_by_its_column() {
    assert!(tampered(Part::DataKey).to_string().starts_with("the wrapped data key was altered"));
    assert!(tampered(Part::Value).to_string().starts_with("the ciphertext was altered"));
}

#[test]
fn sealing_twice_shares_nothing() {
    let vault = vault();
    let (one, two) = (sealed(&vault, LABEL, "same"), sealed(&vault, LABEL, "same"));
    assert_ne!(one.wrapped_key[9..21], two.wrapped_key[9..21]);
    assert_ne!(one.wrapped_key[21..], two.wrapped_key[21..]);
    assert_ne!(one.ciphertext[1..13], two.ciphertext[1..13]);
    assert_ne!(one.ciphertext[13..], two.ciphertext[13..]);
}

#[test]
fn debug_shows_nothing() {
    let key = MasterKey::generate(&Counting::from(0)).unwrap();
    let text = key.to_text();
    let vault = Vault::new(key, vec![MasterKey::generate(&Counting::from(0)).unwrap()]);
    let sealed = vault.seal(&Counting::from(7), LABEL, &secret("canary")).unwrap();
    let shown = format!("{vault:?} {sealed:?}");
    assert_eq!(
        shown,
        "Vault { current: MasterKey(326291955d640499, redacted), previous: [MasterKey(326291955d640499, redacted)] } \
         Sealed(under 326291955d640499, 35 bytes)"
    );
    assert!(!shown.contains(&text[6..12]));
}

/// The format's fixed points, computed independently with Python's `cryptography`: a change that breaks them makes
/// every stored secret unreadable.
#[test]
fn known_values_open() {
    const MASTER: &str = "hp_mk_aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dypwgdonfe";
    const WRAPPED: &str = "01326291955d6404996c6d6e6f7071727374757677b765eaf3b854b06ebb7a0b968bcbf2a6174f08c1e552c9fcf8d4eb2335\
        b8707a8f5451de76786ca1df09ec6ac587d030";
    const CIPHERTEXT: &str = "01606162636465666768696a6bdf43246666faf1d470136fe71f38b8f3be20e4413d32bea848";
    let key = MasterKey::parse(MASTER).unwrap();
    assert_eq!(*key.to_text(), MASTER);
    assert_eq!(key.to_text(), MasterKey::generate(&Counting::from(0)).unwrap().to_text());
    assert_eq!(key.id().to_string(), "326291955d640499");
    let vault = Vault::new(key, Vec::new());
    let label = Label { purpose: Purpose::Credential, id: "crm-key", version: 3 };
    let known = Sealed {
        wrapped_key: HEX.decode(WRAPPED.as_bytes()).unwrap(),
        ciphertext: HEX.decode(CIPHERTEXT.as_bytes()).unwrap(),
    };
    let columns = Sealed { wrapped_key: known.wrapped_key.clone(), ciphertext: known.ciphertext.clone() };
    assert_eq!(vault.open_credential(&Tests, "crm-key", 3, &columns).unwrap().expose(), b"sk-canary");
    let moved = vault.open_credential(&Tests, "crm-key", 4, &columns).unwrap_err();
    assert_eq!(moved, tampered(Part::DataKey));
    assert_eq!(vault.seal(&Counting::from(64), label, &secret("sk-canary")).unwrap(), known);
}

#[test]
fn the_purposes_keep_their_texts() {
    let all = [
        (Purpose::Credential, "credential"),
        (Purpose::SigningKey, "signing-key"),
        (Purpose::VerifyKey, "verify-key"),
        (Purpose::ClientSecretHmac, "client-secret-hmac"),
        (Purpose::AuditHead, "audit-head"),
        (Purpose::ClientCa, "client-ca"),
    ];
    assert!(all.iter().all(|(purpose, text)| purpose.as_str() == *text));
}

#[test]
fn a_head_mac_is_bound_to_key_and_data() {
    let key = SecretBytes::new((0..32).collect());
    let mac = head_mac(&key, b"head");
    assert_eq!(HEX.encode(&mac), "d650973ead449c7c26c417d3547e7556dad1cc55520ae62832f5df8d7898e07c");
    assert!(head_mac_verify(&key, b"head", &mac));
    assert!(!head_mac_verify(&key, b"heae", &mac));
    assert!(!head_mac_verify(&SecretBytes::new(vec![0; 32]), b"head", &mac));
    assert!(!head_mac_verify(&key, b"head", &mac[..31]));
    assert!(!head_mac_verify(&key, b"head", &[]));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        wrapped_key in proptest::collection::vec(any::<u8>(), 0..100),
        ciphertext in proptest::collection::vec(any::<u8>(), 0..100),
        well_formed in any::<bool>(),
    ) {
        let vault = Vault::new(MasterKey::generate(&Counting::from(0)).unwrap(), Vec::new());
        let mut bad = Sealed { wrapped_key, ciphertext };
        if well_formed {
            bad.wrapped_key.resize(69, 0);
            bad.wrapped_key[0] = 1;
            bad.wrapped_key[1..9].copy_from_slice(&vault.current_id().0);
        }
        prop_assert!(vault.open(LABEL, &bad).is_err());
        let _ = (bad.master(), format!("{bad:?}"));
        prop_assert!(vault.rewrap(&SystemEntropy, LABEL, &bad).map_or(true, |rewrapped| rewrapped.is_none()));
    }

    #[test]
    fn no_text_makes_the_master_key_parser_panic(text in "(hp_mk_)?\\PC{0,70}") {
        prop_assert!(MasterKey::parse(&text).is_err());
    }

    #[test]
    fn any_value_opens_under_its_own_label_only(
        value in proptest::collection::vec(any::<u8>(), 0..300),
        ids in ("[a-z]{0,9}", "[a-z]{0,9}"),
        versions in any::<(u32, u32)>(),
    ) {
        let vault = Vault::new(MasterKey::generate(&Counting::from(0)).unwrap(), Vec::new());
        let label = Label { purpose: OwnPurpose::ClientCa, id: &ids.0, version: versions.0 };
        let other = Label { purpose: OwnPurpose::ClientCa, id: &ids.1, version: versions.1 };
        let sealed = vault.seal(&SystemEntropy, label, &SecretBytes::new(value.clone())).unwrap();
        let opened = vault.open(label, &sealed).unwrap();
        prop_assert_eq!(opened.expose(), value.as_slice());
        prop_assert_eq!(vault.open(other, &sealed).is_ok(), label == other);
    }
}
