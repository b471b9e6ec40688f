use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::policy::{Basic, Bearer, Header, Query};

fn secret(bytes: &[u8]) -> SecretBytes {
    SecretBytes::new(bytes.to_vec())
}

/// What a call of `/a?b=c` becomes.
fn placed(form: &Form, bytes: &[u8]) -> Result<(String, HeaderMap), &'static str> {
    let target = Target::parse("/a", Some("b=c")).unwrap();
    let mut draft = Draft::new(HeaderMap::new(), &target);
    form.place(&secret(bytes), &mut draft).map_err(|error| error.code)?;
    Ok((draft.path_and_query().to_owned(), draft.into_headers()))
}

fn header(name: &'static str, prefix: &str) -> Form {
    Form::Header(Header { name: HeaderName::from_static(name), prefix: prefix.into() })
}

fn query(name: &str) -> Form {
    Form::Query(Query { name: name.into() })
}

#[test]
fn each_kind_writes_its_place_and_no_other() {
    let basic = Form::Basic(Basic { username: "user".into() });
    for (form, name, value) in [
        (Form::Bearer(Bearer), "authorization", "Bearer s3cret".to_owned()),
        (basic, "authorization", format!("Basic {}", STANDARD.encode("user:s3cret"))),
        (header("x-key", "Key "), "x-key", "Key s3cret".to_owned()),
        (header("x-key", ""), "x-key", "s3cret".to_owned()),
    ] {
        let (target, headers) = placed(&form, b"s3cret").unwrap();
        assert_eq!((target.as_str(), headers.len()), ("/a?b=c", 1), "{form:?}");
        assert_eq!(headers[name], value, "{form:?}");
        assert!(headers[name].is_sensitive(), "{form:?}");
    }
    let (target, headers) = placed(&query("key"), b"s&cret/+").unwrap();
    assert_eq!((target.as_str(), headers.len()), ("/a?b=c&key=s%26cret%2F%2B", 0));
}

#[test]
fn several_stand_side_by_side() {
    let target = Target::parse("/a", None).unwrap();
    let mut draft = Draft::new(HeaderMap::new(), &target);
    for (form, bytes) in [(query("app"), "one"), (header("x-key", ""), "two"), (query("key"), "three")] {
        form.place(&secret(bytes.as_bytes()), &mut draft).unwrap();
    }
    assert_eq!(draft.path_and_query(), "/a?app=one&key=three");
    assert_eq!(draft.into_headers()["x-key"], "two");
}

#[test]
fn a_header_value_holds_nothing_that_ends_it() {
    let (_, headers) = placed(&Form::Bearer(Bearer), b"caf\xc3\xa9").unwrap();
    assert_eq!(headers["authorization"].as_bytes(), b"Bearer caf\xc3\xa9");
    for bad in [&b"a\r\nx-admin: 1"[..], b"a\n", b"\0"] {
        assert_eq!(placed(&Form::Bearer(Bearer), bad).unwrap_err(), "credential_unusable");
        assert_eq!(placed(&header("x-key", ""), bad).unwrap_err(), "credential_unusable");
    }
}

#[test]
fn a_parameter_of_the_agents_own_is_not_sent_beside_ours() {
    for name in ["b", "B"] {
        assert_eq!(placed(&query(name), b"s3cret").unwrap_err(), "parameter_not_allowed");
    }
}
