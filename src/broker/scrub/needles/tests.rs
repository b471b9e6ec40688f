use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine as _};

use super::super::REDACTED;
use super::*;

const SECRET: &[u8] = b"sk-live/4\"eC39+HqLyj WDarjtT1zdp7dc";

fn scrubbed(secret: &[u8], value: &[u8]) -> Option<String> {
    Needles::new(&[secret]).scrub_value(value).map(|out| String::from_utf8_lossy(&out).into_owned())
}

fn gone(secret: &[u8], value: &str) {
    let all = [b"a: ", value.as_bytes(), b", b"].concat();
    assert_eq!(scrubbed(secret, &all).as_deref(), Some("a: [redacted by hallpass], b"), "{value}");
    assert_eq!(scrubbed(secret, value.as_bytes()).as_deref(), Some("[redacted by hallpass]"), "{value}");
}

#[test]
fn text_in_any_mixture_of_encodings() {
    gone(SECRET, std::str::from_utf8(SECRET).unwrap());
    gone(SECRET, r#"sk-live\/4\"eC39+HqLyj WDarjtT1zdp7dc"#);
    gone(SECRET, "sk-live%2f4%22eC39%2BHqLyj+WDarjtT1zdp7dc");
    gone(SECRET, r"\u0073k%2dlive\u002F4\u0022eC39+HqLyj%20WDarjtT1zdp7d\u0063");
    gone("grüße-😀-паролъ".as_bytes(), r"gr\u00fc\u00DFe-\ud83D\uDe00-%D0%BFа\u0440олъ");
    gone(b"tab\tnew\nline\rfeed\x0cback\x08", r"tab\tnew\nline\rfeed\fback\b");
    gone(b"\xff\xfe\x00\x01binary", r"\u00ff%fe%00\u0001binary");
}

#[test]
fn hex_in_any_case() {
    gone(b"\x01\xabsecret\xff", "01aB736563726574Ff");
}

#[test]
fn base64_at_each_offset_with_its_boundary_characters() {
    for (before, after) in [("", ""), ("a", "b"), ("ab", "c"), ("user:", ""), ("admin:", "!"), ("x", "yz")] {
        let plain = [before.as_bytes(), SECRET, after.as_bytes()].concat();
        for text in [BASE64_STANDARD.encode(&plain), BASE64_URL_SAFE_NO_PAD.encode(&plain)] {
            let shown = scrubbed(SECRET, text.as_bytes()).expect("found");
            let (head, tail) = shown.split_once("[redacted by hallpass]").expect("redacted");
            assert!(head.len() * 6 <= before.len() * 8, "{shown}");
            assert!(tail.trim_end_matches('=').len() * 6 / 8 <= after.len(), "{shown}");
        }
    }
    gone(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff", r"//_%2F\/\u002f%5f__\u005F//");
}

#[test]
fn in_ebcdic_as_it_is() {
    for (secret, ebcdic) in [
        (&b"*k-Live_01"[..], &b"\x5c\x92\x60\xd3\x89\xa5\x85\x6d\xf0\xf1"[..]),
        (b"!k-Live[01", b"\x5a\x92\x60\xd3\x89\xa5\x85\xba\xf0\xf1"),
        (b"!k-Live[01", b"\x4f\x92\x60\xd3\x89\xa5\x85\x4a\xf0\xf1"),
        (b"k-Live-\xfc01", b"\x92\x60\xd3\x89\xa5\x85\x60\xdc\xf0\xf1"),
        // A page with Katakana.
        (b"$k-Live_01", b"\xe0\x73\x60\xd3\x71\xb5\x66\x6d\xf0\xf1"),
    ] {
        for before in [&b""[..], b"\x40\x40", &[0x4c; 300]] {
            let data = [before, ebcdic, &[0x6e; 200]].concat();
            let found = Needles::new(&[secret]).find(&data, 0, data.len()).expect("found");
            assert_eq!((found.range, found.mark), (before.len()..before.len() + 10, Mark::Ebcdic));
        }
    }
}

#[test]
fn leaves_other_texts_alone() {
    for value in ["", "sk-live", "sk-live/4\"eC39+HqLyj WDarjtT1zdp7d", "%", "\\", "\\u00", "c2stbGl2ZS"] {
        assert_eq!(scrubbed(SECRET, value.as_bytes()), None, "{value}");
    }
    // Nobody escapes the digits of hex.
    for value in ["7365637265%3742d31", r"7365637265\u003742d31", "73656372657%342d31"] {
        assert_eq!(scrubbed(b"secret-1", value.as_bytes()), None, "{value}");
    }
    gone(b"secret-1", "7365637265742d31");
    // A plus is a space only as it is.
    gone(b"secret 1", "secret+1");
    assert_eq!(scrubbed(b"secret 1", b"secret%2B1"), None);
    assert!(Needles::new(&[b"", b""]).is_empty());
    assert_eq!(Needles::new(&[]).scrub_value(b"anything"), None);
}

#[test]
fn a_secret_may_begin_with_an_escape_or_with_what_has_a_short_one() {
    gone(b"%41-secret", "%41-secret");
    gone(b"%41-secret", "%2541-secret");
    gone(br"\u0041-secret", r"\u0041-secret");
    gone(b"\nline-secret", r"\nline-secret");
    gone(b"\x01", "\x01");
    assert_eq!(scrubbed(b"%41-secret", b"A-secret"), None);
}

#[test]
fn names_are_searched_in_any_case() {
    let needles = Needles::new(&[b"Sk-4eC39", b"other-secret"]);
    for name in ["sk-4ec39", "x-sk-4ec39-y", "x-OTHER-secret", "x-%53k-4ec39", "536b2d3465433339", "x-u2stngvdmzk"] {
        assert!(needles.in_name(name.as_bytes()), "{name}");
    }
    for name in ["", "content-type", "sk-4ec3", "x-k-4ec39"] {
        assert!(!needles.in_name(name.as_bytes()), "{name}");
    }
}

#[test]
fn several_secrets_and_several_places() {
    let needles = Needles::new(&[b"first-secret", b"", b"first-secret-longer"]);
    let out = needles.scrub_value(b"first-secretfirst-secret-longer 66697273742d736563726574.").unwrap();
    assert_eq!(out, [REDACTED, REDACTED, b" ", REDACTED, b"."].concat());
}

#[test]
fn ambiguous_secrets_are_found_and_cost_no_more_than_the_budget() {
    gone(br"50%25%25\\\\u005c", r"50%25%25\\\\u005c");
    gone(br"50%25%25\\\\u005c", r"50%2525%2525\\\\\\\\u005c");
    // The upstream knows the secret and answers with what has the most readings.
    let secret = b"%25".repeat(60);
    let needles = Needles::new(&[&secret]);
    let value = b"%25".repeat(20_000);
    let _ = needles.scrub_value(&value);
    assert_eq!(scrubbed(&secret, &secret).as_deref(), Some("[redacted by hallpass]"));
    // What is left of the budget does not decide what is left of the secret.
    for backslashes in [40, 70, 74, 80, 100, 150] {
        let secret = [&[b'\\'; 150][..backslashes], b"the-real-4eC39HqLyj"].concat();
        assert_eq!(scrubbed(&secret, &secret).as_deref(), Some("[redacted by hallpass]"), "{backslashes}");
    }
}

#[test]
fn what_is_shorter_than_the_secret_is_none_whatever_follows_on_the_next_line() {
    let secret = [b'\\'; 101];
    let short = [&[b'\\'; 99][..], b"\n"].concat();
    assert_eq!(scrubbed(&secret, &short), None);
    assert_eq!(scrubbed(&secret, &[&short[..], &[b'.'; 50]].concat()), None);
}

#[test]
fn debug_tells_nothing() {
    assert_eq!(format!("{:?}", Needles::new(&[SECRET])), "Needles(redacted)");
}
