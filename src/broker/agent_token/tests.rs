use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;

fn upstream(inject: &str, more: &str) -> CompiledUpstream {
    let operation = r#"{ "id": "a", "methods": ["GET"], "path": "/a", "scope": "a" }"#;
    let text = format!(
        r#"{{ "name": "crm", "base_url": "https://a.example", "inject": {inject}, "operations": [{operation}] {more} }}"#
    );
    CompiledUpstream::new(serde_json::from_str(&text).unwrap()).unwrap()
}

/// What counts, where tokens of ours begin with `our`; and what is left of the headers.
fn taken(upstream: &CompiledUpstream, pairs: &[(&str, &str)], query: Option<&str>) -> (String, Vec<String>) {
    let pair = |(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    let mut headers: HeaderMap = pairs.iter().map(pair).collect();
    let mut target = Target::parse("/a", query).unwrap();
    let found = take(&mut headers, Some(&mut target), Some(upstream), |text| text.starts_with("our"));
    let text = |one: &AgentToken| format!("{} in {}", *one.text, one.place);
    let found = match found {
        Err(error) => error.code.to_owned(),
        Ok(Found::Nothing) => "nothing".to_owned(),
        Ok(Found::Token(one)) => text(&one) + if one.by_proof() { " by proof" } else { "" },
        Ok(Found::Differ(all)) => all.iter().map(text).collect::<Vec<_>>().join(", "),
    };
    let mut left: Vec<String> = headers.keys().map(|name| name.to_string()).collect();
    left.extend(target.query().map(|query| format!("?{query}")));
    (found, left)
}

const HEADER: &str = r#"{ "kind": "header", "name": "X-Crm-Key", "prefix": "Key ", "credential": "c" }"#;

#[test]
fn each_place_of_the_upstreams_own_keys_is_one_for_the_token() {
    let both = r#"[{ "kind": "header", "name": "X-App", "credential": "a" },
        { "kind": "header", "name": "Authorization", "prefix": "Token ", "credential": "b" },
        { "kind": "query", "name": "key", "credential": "c" }, { "kind": "query", "name": "app", "credential": "c" }]"#;
    let crm = upstream(both, "");
    for (pairs, query, wanted) in [
        (&[("x-app", "our")][..], None, "our in x-app"),
        (&[("authorization", "Token our"), ("x-app", "placeholder")], None, "our in Authorization"),
        (&[("authorization", "Token x"), ("x-app", "y")], Some("key=our&app=z"), "our in the query parameter 'key'"),
        (&[("x-app", "y")], Some("key=z&app=our"), "our in the query parameter 'app'"),
        (&[("x-app", "our1")], Some("app=our2"), "our1 in x-app, our2 in the query parameter 'app'"),
    ] {
        let (found, left) = taken(&crm, pairs, query);
        assert_eq!((found.as_str(), left), (wanted, Vec::<String>::new()), "{pairs:?} {query:?}");
    }
}

#[test]
fn one_token_of_ours_is_the_token_however_often_it_is_there() {
    let crm = upstream(HEADER, "");
    let user = format!("Basic {}", STANDARD.encode("our:"));
    let both = format!("Basic {}", STANDARD.encode("our:our"));
    let password = format!("Basic {}", STANDARD.encode("agent:our"));
    for (pairs, wanted) in [
        (&[("authorization", "Bearer our")][..], "our in Authorization"),
        (&[("authorization", "bEARER  our")], "our in Authorization"),
        (&[("authorization", "DPoP our")], "our in Authorization by proof"),
        (&[("authorization", &user)], "our in Authorization"),
        (&[("authorization", &both)], "our in Authorization"),
        (&[("authorization", &password)], "our in Authorization"),
        (&[("x-crm-key", "our")], "our in x-crm-key"),
        (&[("x-crm-key", "kEY our")], "our in x-crm-key"),
        (&[("x-crm-key", "Bearer our")], "our in x-crm-key"),
        (&[("x-crm-key", "Key Bearer  our")], "our in x-crm-key"),
        (&[("x-crm-key", "Bearer x")], "Bearer x in x-crm-key"),
        // A header may be there twice: what is in it counts as if it stood in two.
        (&[("x-crm-key", "our"), ("x-crm-key", "our")], "our in x-crm-key"),
        (&[("x-crm-key", ""), ("x-crm-key", "our")], "our in x-crm-key"),
        (&[("x-crm-key", "our"), ("x-crm-key", "placeholder")], "our in x-crm-key"),
        (&[("x-crm-key", "x"), ("x-crm-key", "y")], "x in x-crm-key"),
        (&[("authorization", "Bearer our"), ("authorization", "Bearer our")], "our in Authorization"),
        (&[("authorization", ""), ("authorization", "Bearer our")], "our in Authorization"),
        (&[("authorization", "Basic eDp5"), ("authorization", "Bearer our")], "our in Authorization"),
        (&[("authorization", "Bearer our"), ("authorization", "DPoP our")], "our in Authorization by proof"),
        (&[("authorization", "Bearer our"), ("x-api-key", "our"), ("x-api-key", "x")], "our in Authorization"),
        (&[("authorization", "Bearer our"), ("x-access-token", "Bearer our")], "our in Authorization"),
        (&[("x-api-key", "our")], "nothing"),
        (&[("authorization", "Bearer our"), ("x-crm-key", "our")], "our in Authorization"),
        (&[("x-crm-key", "our"), ("authorization", "DPoP our")], "our in Authorization by proof"),
        (&[("authorization", "Bearer our"), ("x-crm-key", "")], "our in Authorization"),
        (&[("authorization", ""), ("x-crm-key", "our")], "our in x-crm-key"),
        (&[("authorization", "Bearer"), ("x-crm-key", "our")], "our in x-crm-key"),
        (&[("authorization", "Bearer x"), ("x-crm-key", "our")], "our in x-crm-key"),
        (&[("authorization", "Bearer our"), ("x-crm-key", "placeholder")], "our in Authorization"),
        (&[("authorization", "Bearer our"), ("x-api-key", "our")], "our in Authorization"),
        (&[("authorization", "Bearer x"), ("private-token", "our")], "x in Authorization"),
        // None is ours: the first is what is refused.
        (&[("authorization", "Bearer x"), ("x-crm-key", "y")], "x in Authorization"),
        (&[("x-crm-key", " ")], "nothing"),
        (&[("authorization", "token our")], "nothing"),
    ] {
        assert_eq!(taken(&crm, pairs, None), (wanted.to_owned(), Vec::new()), "{pairs:?}");
    }
    // A key that is not ours in a header that is no place of this upstream is not looked at, here.
    let (found, left) = taken(&crm, &[("authorization", "Bearer our"), ("x-api-key", "placeholder")], None);
    assert_eq!((found.as_str(), left), ("our in Authorization", vec!["x-api-key".to_owned()]));
}

#[test]
fn a_token_in_authorization_alone_is_told_from_one_that_clients_send_along() {
    let crm = upstream(HEADER, "");
    let query = upstream(r#"{ "kind": "query", "name": "key", "credential": "c" }"#, "");
    let password = format!("Basic {}", STANDARD.encode("agent:our"));
    let is_alone = |upstream: &CompiledUpstream, pairs: &[(&str, &str)], query: Option<&str>| {
        let pair = |(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        let mut headers: HeaderMap = pairs.iter().map(pair).collect();
        let mut target = Target::parse("/a", query).unwrap();
        let ours = |text: &str| text.starts_with("our");
        match take(&mut headers, Some(&mut target), Some(upstream), ours) {
            Ok(Found::Token(token)) => token.only_in_authorization(&headers),
            _ => panic!("no token: {pairs:?}"),
        }
    };
    for value in ["Bearer our", "DPoP our", &*password] {
        let alone = ("authorization", value);
        assert!(is_alone(&crm, &[alone], None) && is_alone(&crm, &[alone, ("x-crm-key", "placeholder")], None));
        assert!(is_alone(&crm, &[alone, alone, ("x-team", "red")], None));
        // The last two are left out of what is sent. A client that follows a redirect sends them all the same.
        for beside in [
            ("x-crm-key", "our"),
            ("x-api-key", "our"),
            ("x-api-key", "Bearer our"),
            ("x-team", "our"),
            ("cookie", "a=our"),
        ] {
            assert!(!is_alone(&crm, &[alone, beside], None), "{value} {beside:?}");
        }
        assert!(!is_alone(&query, &[alone], Some("key=our")) && is_alone(&query, &[alone], Some("a=b")), "{value}");
    }
    assert!(!is_alone(&crm, &[("x-crm-key", "our")], None) && !is_alone(&query, &[], Some("key=our")));
    assert!(!is_alone(&crm, &[("authorization", "Bearer placeholder"), ("x-crm-key", "our")], None));
}

#[test]
fn two_tokens_of_ours_that_differ_are_both_named() {
    let crm = upstream(HEADER, "");
    let halves = format!("Basic {}", STANDARD.encode("our-1:our-2"));
    for (pairs, wanted) in [
        (
            &[("authorization", "Bearer our-1"), ("x-crm-key", "our-2")][..],
            "our-1 in Authorization, our-2 in x-crm-key",
        ),
        (&[("x-crm-key", "our-1"), ("authorization", "DPoP our-2")], "our-2 in Authorization, our-1 in x-crm-key"),
        (&[("authorization", "Bearer our-1"), ("api-key", "our-2")], "our-1 in Authorization, our-2 in api-key"),
        (&[("authorization", &halves)], "our-2 in Authorization, our-1 in Authorization"),
        (&[("x-crm-key", "our-1"), ("x-crm-key", "our-2")], "our-1 in x-crm-key, our-2 in x-crm-key"),
        (
            &[("authorization", "Bearer our-1"), ("authorization", "Bearer our-2")],
            "our-1 in Authorization, our-2 in Authorization",
        ),
        (
            &[("authorization", "Bearer our-1"), ("x-api-key", "our-1"), ("x-api-key", "Token our-2")],
            "our-1 in Authorization, our-2 in x-api-key",
        ),
    ] {
        assert_eq!(taken(&crm, pairs, None).0, wanted, "{pairs:?}");
    }
}

#[test]
fn a_parameter_is_taken_out_whatever_it_holds() {
    let crm = upstream(r#"{ "kind": "query", "name": "key", "credential": "c" }"#, "");
    let bearer = &[("authorization", "Bearer our")][..];
    for (pairs, query, wanted, left) in [
        (&[][..], "key=our&a=1", "our in the query parameter 'key'", "?a=1"),
        (bearer, "key=our&a=1", "our in Authorization", "?a=1"),
        (bearer, "key=mine&a=1", "our in Authorization", "?a=1"),
        (bearer, "key=&a=1", "our in Authorization", "?a=1"),
        (bearer, "a=1&KEY=our-2", "our in Authorization, our-2 in the query parameter 'key'", "?a=1"),
    ] {
        assert_eq!(taken(&crm, pairs, Some(query)), (wanted.to_owned(), vec![left.to_owned()]), "{query}");
    }
    for query in ["key=our&key=our", "key=our&key=x"] {
        assert_eq!(taken(&crm, &[], Some(query)).0, "target_repeated_parameter", "{query}");
    }
}

#[test]
fn further_schemes_are_those_that_the_upstream_names() {
    let github = upstream(r#"{ "kind": "bearer", "credential": "c" }"#, r#", "authorization_schemes": ["token"]"#);
    for value in ["token our", "Token our", "TOKEN  our", "Bearer our"] {
        assert_eq!(taken(&github, &[("authorization", value)], None).0, "our in Authorization", "{value}");
    }
    assert_eq!(taken(&github, &[("authorization", "tokens our")], None).0, "nothing");
    let raw = upstream(r#"{ "kind": "header", "name": "Authorization", "prefix": "Token ", "credential": "c" }"#, "");
    for value in ["Token our", "tOKEN our", "our", "Bearer our"] {
        assert_eq!(taken(&raw, &[("authorization", value)], None).0, "our in Authorization", "{value}");
    }
}
