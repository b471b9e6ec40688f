use super::*;

fn known(secret: &[u8]) -> Vec<Vec<u8>> {
    Known::of(secret, 8).iter().filter(|(_, of)| *of == As::Anything).map(|(one, _)| one.to_vec()).collect()
}

#[test]
fn an_ordinary_key_is_one_form() {
    for secret in ["sk-live-abcdefghij", "ghp16C7e42F292c6912E7710c838347Ae178B4a", "xoxb-1234-5678.abc"] {
        assert_eq!(Known::of(secret.as_bytes(), 8).all.len(), 1, "{secret}");
    }
    let forms = known(b"AbCd/efgh+ijklmnop==");
    assert_eq!(forms, [&b"AbCd/efgh+ijklmnop=="[..], b"AbCd_efgh-ijklmnop", b"AbCd/efgh+ijklmnop"]);
}

#[test]
fn what_a_transport_or_a_parser_takes_away() {
    let key = "sk-live-abcdefghij";
    for stored in [
        "sk-live-abcdefghij ",
        " \tsk-live-abcdefghij\t ",
        "\u{feff}sk-live-abcdefghij",
        "sk-live-abcdefghij\u{200b}\u{a0}",
        "\u{ad}sk-live-abcdefghij\u{2060}",
        "\"sk-live-abcdefghij\"",
        "'sk-live-abcdefghij'",
        "\"sk-live-abcdefghij\",",
        "sk-live-abcdefghij'",
        "\u{201c}sk-live-abcdefghij\u{201d}",
        "<sk-live-abcdefghij>",
        "Bearer sk-live-abcdefghij",
        "bearer  sk-live-abcdefghij",
        "token\u{a0}sk-live-abcdefghij",
        "Token token=\"sk-live-abcdefghij\"",
        "GenieKey sk-live-abcdefghij",
        "API_KEY=sk-live-abcdefghij",
        "export API_KEY=\"sk-live-abcdefghij\"",
        "$env:API_KEY = 'sk-live-abcdefghij'",
        "\"api_key\": \"sk-live-abcdefghij\",",
        "X-Api-Key: sk-live-abcdefghij",
        "x-api-key:sk-live-abcdefghij",
        "Authorization: Bearer sk-live-abcdefghij",
        "user:sk-live-abcdefghij",
        "sk-live-abcdefghij:",
        "session=sk-live-abcdefghij; csrf=12345678",
        "a, sk-live-abcdefghij",
        "sk%2Dlive-abcdefghij",
        "sk-live\u{200b}-abcdefghij",
        "sk-live -abcdefghij",
        "c2stbGl2ZS1hYmNkZWZnaGlqOg==",
        "dXNlcjpzay1saXZlLWFiY2RlZmdoaWo",
        "Basic dXNlcjpzay1saXZlLWFiY2RlZmdoaWo=",
        "Authorization: Basic dXNlcjpzay1saXZlLWFiY2RlZmdoaWo=",
        "sk-live-abcdefghij # prod",
        "sk-live-abcdefghij  (prod)",
        "sk-live-abcdefghij another-key-12345",
        "another-key-12345 sk-live-abcdefghij",
        "sk-live-abcdefghij#prod",
        "sk-live-abcdefghij.",
        "sk-live-abcdefghij=",
        "=sk-live-abcdefghij",
        "(sk-live-abcdefghij)",
        "[sk-live-abcdefghij]",
        "{sk-live-abcdefghij}",
        "**sk-live-abcdefghij**",
        "__sk-live-abcdefghij__",
        "sk-live-abcdefghij\\n",
        "$'sk-live-abcdefghij'",
        "{\"api_key\":\"sk-live-abcdefghij\"}",
        "{ \"api_key\" : \"sk-live-abcdefghij\" }",
        "https://user:sk-live-abcdefghij@api.example.com/v1",
        "https://sk-live-abcdefghij@api.example.com/v1",
        "c2stbGl2ZS1hYmNkZWZnaGlq",
    ] {
        assert!(known(stored.as_bytes()).iter().any(|one| one == key.as_bytes()), "{stored:?}");
    }
    assert!(known(b"\xa0sk-live-abcdefghij\xa0").contains(&key.into()), "Latin-1");
}

#[test]
fn what_is_in_base64_is_found_in_its_other_spellings_and_decoded() {
    let stored = b"q+/AbCd0123456789+8=";
    for wanted in [&b"q-_AbCd0123456789-8"[..], b"q+/AbCd0123456789+8"] {
        assert!(known(stored).iter().any(|one| one == wanted), "{}", String::from_utf8_lossy(wanted));
    }
    let bytes = STANDARD.decode(&stored[..]).unwrap();
    assert!(Known::of(stored, 8).iter().any(|(one, of)| of == As::Hex && one == bytes));
}

#[test]
fn words_of_a_passphrase_and_names_are_not_secrets_by_themselves() {
    let forms = known(b"correct horse battery staple");
    assert!(!forms.iter().any(|one| one == b"correct" || one == b"battery"), "{forms:?}");
    let forms = known(b"correct42 horse4711 battery99");
    assert!(!forms.iter().any(|one| one == b"correct42" || one == b"horse4711"), "{forms:?}");
    let forms = known(b"admin2024:password-of-it");
    assert!(!forms.iter().any(|one| one == b"admin2024"), "{forms:?}");
    let forms = known(b"https://hooks.example/services/T0123456/B0123456/x");
    assert!(!forms.iter().any(|one| one == b"T0123456"), "{forms:?}");
}

#[test]
fn what_becomes_of_other_characters() {
    let forms = known("schl\u{fc}ssel-\u{20ac}".as_bytes());
    for wanted in [
        &b"schl\xfcssel-?"[..],
        b"schl\xfcssel-\x80",
        "schl\u{c3}\u{bc}ssel-\u{e2}\u{82}\u{ac}".as_bytes(),
        "schl\u{c3}\u{bc}ssel-\u{e2}\u{201a}\u{ac}".as_bytes(),
        "schlu\u{308}ssel-\u{20ac}".as_bytes(),
        b"schl?ssel-?",
        b"schl??ssel-???",
        b"schlssel-",
    ] {
        assert!(forms.iter().any(|one| one == wanted), "{}", String::from_utf8_lossy(wanted));
    }
    let forms = known(b"schl\xfcssel-of-some-length");
    assert!(forms.iter().any(|one| one == "schl\u{fc}ssel-of-some-length".as_bytes()));
    assert!(forms.iter().any(|one| one == "schl\u{fffd}ssel-of-some-length".as_bytes()));
    assert!(forms.iter().any(|one| one == b"ssel-of-some-length"));
}

#[test]
fn nothing_is_shorter_than_what_can_be_told_from_chance_and_there_is_an_end() {
    assert_eq!(known(b"Bearer short "), [&b"Bearer short "[..], b"Bearer short", b"Bearershort"]);
    assert_eq!(known(b"short"), Vec::<Vec<u8>>::new());
    let many = "name-of-it=value-of-it;\u{fc}, ".repeat(500);
    assert!(Known::of(many.as_bytes(), 8).all.len() <= MOST);
}

#[test]
fn utf7_and_wide_characters_are_spelled_out_where_they_differ() {
    let all = |secret: &str| {
        let known = Known::of(secret.as_bytes(), 8);
        known.iter().filter(|(_, of)| *of != As::Anything).map(|(one, _)| one.to_vec()).collect::<Vec<_>>()
    };
    assert_eq!(all("sk_live_abcdef"), [b"sk+AF8-live+AF8-abcdef"]);
    assert_eq!(all("sk-live+~abcdef"), [&b"sk-live+-+AH4-abcdef"[..]]);
    let forms = all("schl\u{fc}ssel-\u{20ac}");
    for wanted in [&b"schl+APw-ssel-+IKw"[..], b"schl+APw-ssel-+IKw-", b"s\0c\0h\0l\0\xfc\0s\0s\0e\0l\0-\0\xac\x20"] {
        assert!(forms.iter().any(|one| one == wanted), "{}", String::from_utf8_lossy(wanted));
    }
    assert_eq!(forms.iter().filter(|one| one.contains(&0)).count(), 4);
    assert!(all("sk-live.abcdef").is_empty());
}

#[test]
fn digits_are_found_in_either_case_and_without_hyphens() {
    let known = Known::of(b"550E8400-e29b-41d4-a716-446655440000", 8);
    let all: Vec<_> = known.iter().collect();
    assert!(all.contains(&(&b"550e8400-e29b-41d4-a716-446655440000"[..], As::Anything)));
    assert!(all.contains(&(&b"550E8400-E29B-41D4-A716-446655440000"[..], As::Anything)));
    assert!(all.iter().any(|(one, of)| *of == As::Hex && one.starts_with(&[0x55, 0x0e, 0x84])));
}

#[test]
fn a_value_of_all_kinds_of_characters_is_looked_for_whole() {
    let known = Known::of("Zq81vK%7/+\"\\ >>>???Zq81vK\u{fc}\u{20ac}\u{1f600}=&;'<x0Lm42".as_bytes(), 8);
    assert!(known.is_whole(), "{}", known.all.len());
}
