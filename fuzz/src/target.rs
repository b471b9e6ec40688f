//! Request targets and path templates: one reading only, and what was matched is what is sent (P8).

use std::sync::{Arc, LazyLock};

use hallpass::model::{Agent, AgentStatus, Target, Template, append_parameter};
use hallpass::policy::{CompiledUpstream, Denial, classify, decide, parse_manifest, validate_manifest};
use hallpass_verify::Claims;
use http::uri::PathAndQuery;
use percent_encoding::percent_decode_str;

use crate::fixtures::CLAIMS;

/// The operations of an upstream that routes much alike, so that a wrong reading finds a wrong operation.
const UPSTREAM: &str = "
upstreams:
  - name: crm
    base_url: https://crm.example.com
    inject: { kind: bearer, credential: crm-key }
    operations:
      - { id: list, methods: [GET], path: /v1/contacts, scope: contacts.read }
      - { id: one, methods: [GET], path: '/v1/contacts/{id}', scope: contacts.read }
      - { id: me, methods: [GET], path: /v1/contacts/me, scope: contacts.write }
      - { id: batch, methods: [GET], path: '/v1/contacts:batch', scope: contacts.write }
      - { id: wipe, methods: [GET], path: '/v1/{any}/wipe', scope: admin }
      - { id: any, methods: [GET], path: '/v1/{any}', scope: contacts.read }
      - { id: files, methods: [GET], path: '/files/{*rest}', scope: contacts.read }
      - { id: root, methods: [GET], path: /, scope: contacts.read }
";

static SHARED: LazyLock<Arc<Claims>> = LazyLock::new(|| Arc::new(CLAIMS.clone()));

static CRM: LazyLock<Arc<CompiledUpstream>> = LazyLock::new(|| {
    let mut manifest = parse_manifest(UPSTREAM).unwrap();
    validate_manifest(&manifest, &Default::default()).unwrap();
    Arc::new(CompiledUpstream::new(manifest.upstreams.remove(0)).unwrap())
});
static AGENT: LazyLock<Agent> = LazyLock::new(|| Agent {
    id: "ag_one".into(),
    name: "one".into(),
    status: AgentStatus::Active,
    roles: vec![],
    secrets: vec![],
    identity: Default::default(),
    created_at: 0,
});

/// A path with or without a query; with a line before it, that line is a template.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (template, target) = match text.split_once('\n') {
        Some((template, target)) => (Some(template), target),
        None => (None, text),
    };
    let target = parse(target);
    if let Some(target) = &target {
        canonical(target);
        parameters(target);
        decided(target);
    }
    if let Some(Ok(template)) = template.map(Template::parse) {
        routed(&template, target.as_ref());
    }
}

fn parse(text: &str) -> Option<Target> {
    let (path, query) = text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)));
    match Target::parse(path, query) {
        Ok(target) => {
            assert_eq!(target.query(), query, "the query was touched");
            Some(target)
        }
        Err(error) => {
            assert!(!error.code().is_empty() && !error.to_string().is_empty());
            None
        }
    }
}

fn canonical(target: &Target) {
    // What says nothing is the base URL; nobody can be asked for it but with its path.
    let target = &target.clone().or_slash();
    let path = target.path();
    let again = Target::parse(path, target.query()).expect("a canonical target is accepted");
    assert_eq!(again.path_and_query(), target.path_and_query(), "not idempotent");

    // Other parsers see the same two halves, and find nothing to clean.
    let sent = PathAndQuery::try_from(target.path_and_query()).expect("it can be sent");
    assert_eq!((sent.path(), sent.query()), (path, target.query()));
    let url = url::Url::parse(&format!("https://upstream.example{}", target.path_and_query())).expect("a URL");
    // The URL Standard of 2024 encodes a caret.
    assert_eq!(url.path().replace("%5E", "^"), path.replace("%5E", "^"));
    assert_eq!((url.host_str(), url.fragment()), (Some("upstream.example"), None));

    assert!(path.starts_with('/') && !path.contains("//") && path.is_ascii());
    assert!(!path.contains(['\\', ';', '?', '#', ' ']) && !path.bytes().any(|byte| byte.is_ascii_control()));
    for escape in path.match_indices('%').map(|(at, _)| &path[at + 1..at + 3]) {
        let byte = u8::from_str_radix(escape, 16).expect("two hex digits");
        assert!(byte == b'/' || escape.bytes().all(|digit| !digit.is_ascii_lowercase()), "%{escape}");
        assert!(!byte.is_ascii_alphanumeric() && !b"-._~\\".contains(&byte) && !byte.is_ascii_control(), "%{escape}");
    }
    // Whoever decodes once, twice or three times finds no other segments than those that the target says it may have.
    let slashes = path.to_ascii_lowercase().matches("%2f").count();
    assert_eq!(target.has_encoded_slash(), slashes > 0);
    let mut text = path.to_owned();
    for round in 1..=3 {
        text = percent_decode_str(&text).decode_utf8_lossy().into_owned();
        let found = text.matches(['/', '\\']).count();
        assert_eq!(found, path.matches('/').count() + slashes, "round {round}: {text:?}");
        assert!(!text.chars().any(char::is_control), "round {round}: {text:?}");
        for segment in text.split('/') {
            let cut = segment.split(';').next().unwrap_or_default().trim_matches(' ');
            assert!(!matches!(cut, "." | ".." | "..."), "round {round}: {text:?}");
        }
    }
}

fn parameters(target: &Target) {
    const VALUE: &str = "v&=/+ %é;";
    for name in ["key", "Api_Key", "access_token"] {
        let mut without = target.clone();
        let taken = without.take_query(name);
        assert_eq!(without.path(), target.path());
        match taken {
            Ok(Some(_)) => assert!(target.query_has(name) && !without.query_has(name)),
            Ok(None) => assert!(!target.query_has(name) && without == *target),
            Err(_) => assert!(target.query_has(name) && without == *target),
        }
        if !without.query_has(name) {
            let whole = append_parameter(without.path_and_query(), name, VALUE.as_bytes());
            assert!(whole.starts_with(without.path_and_query()));
            // Without a path nothing but a query is left, which is no target by itself.
            if let Some(mut with) = parse(&whole) {
                assert_eq!(with.take_query(name), Ok(Some(VALUE.to_owned())));
                let kept = without.query().filter(|query| !query.is_empty());
                assert_eq!(with.query().filter(|query| !query.is_empty()), kept);
            }
        }
    }
}

/// What is allowed is the same operation as written and as decoded; what no template fits is denied.
fn decided(target: &Target) {
    let operations = &CRM.definition().operations;
    let fits = |path: &str| operations.iter().filter(|one| matches(one.path.as_str(), path)).collect::<Vec<_>>();
    let decoded = target.decoded_path();
    match decide(&SHARED, &AGENT, |_| true, classify(CRM.clone(), "GET".into(), target.clone())) {
        Ok(permit) => {
            assert_eq!(permit.target(), target);
            for path in [&*target.match_path(), &decoded] {
                assert!(fits(path).iter().any(|one| *one.id == *permit.operation().id), "{path}");
                if let Some(literal) = operations.iter().find(|one| one.path.as_str() == path) {
                    assert_eq!(*literal.id, *permit.operation().id, "{path}");
                }
            }
            assert!(CLAIMS.scope.contains(&permit.operation().scope));
        }
        Err(denied) => {
            let (denial, back) = *denied;
            assert_eq!(back.target(), target);
            if denial == Denial::NoOperation {
                let same = decoded == target.match_path();
                assert!(fits(&target.match_path()).is_empty() || !same, "an operation fits {target:?}");
            }
            if denial == Denial::EncodedSlash {
                assert!(target.has_encoded_slash(), "there is none in {target:?}");
            }
        }
    }
    let other = decide(&SHARED, &AGENT, |_| true, classify(CRM.clone(), "get".into(), target.clone()));
    assert!(other.is_err_and(|denied| denied.0 == Denial::NoOperation), "methods are case-sensitive");
    assert!(decide(&SHARED, &AGENT, |_| false, classify(CRM.clone(), "GET".into(), target.clone())).is_err());
}

fn routed(template: &Template, target: Option<&Target>) {
    let text = template.as_str();
    assert_eq!(Template::parse(text).as_ref(), Ok(template));
    let mut router = matchit::Router::new();
    for (n, route) in template.routes().iter().enumerate() {
        let inserted = router.insert(route, ());
        assert!(inserted.is_ok() || n > 0, "the router takes it");
    }
    if !text.contains('{') {
        let literal = Target::parse(text, None).expect("a literal is a canonical path");
        assert_eq!(literal.path(), text);
        assert!(router.at(&literal.match_path()).is_ok());
    }
    if let Some(target) = target.filter(|_| template.routes().len() == 1 + usize::from(template.has_rest())) {
        let path = target.match_path();
        assert_eq!(router.at(&path).is_ok(), matches(&template.routes()[0], &path), "{text} {path}");
    }
}

/// What the documentation says a template matches.
fn matches(template: &str, path: &str) -> bool {
    let (mut wanted, mut given) = (template.split('/'), path.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some(rest), Some(_)) if rest.starts_with("{*") => return true,
            (Some(name), Some(segment)) if name.starts_with('{') && !segment.is_empty() => {}
            (Some(literal), Some(segment)) if literal == segment => {}
            _ => return false,
        }
    }
}
