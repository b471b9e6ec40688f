//! Documents and decisions, each case with the one thing that is wrong in it.

use std::sync::Arc;

use hallpass_verify::{Claims, KeySet, Possession, RevocationSet, TokenVerifier};

use super::*;
use crate::model::{Manifest, Target};

/// A genuine token for `crm:contacts.read crm:contacts.write`, whose private key nobody has.
const TOKEN: &str = include_str!("../../crates/hallpass-verify/testdata/eddsa.jwt");
const JWKS: &str = include_str!("../../crates/hallpass-verify/testdata/jwks.json");

const OPERATIONS: &str = r#"
      - { id: list, methods: [GET, HEAD], path: /v1/contacts, scope: contacts.read }
      - { id: one, methods: [GET], path: "/v1/contacts/{id}", scope: contacts.read }
      - { id: add, methods: [POST], path: /v1/contacts, scope: contacts.write }
      - { id: clear, methods: [GET], path: "/v1/contacts:clear", scope: contacts.write }
      - { id: any, methods: [GET], path: "/v1/{any}", scope: contacts.read }
      - { id: wipe, methods: [DELETE], path: "/{*all}", scope: admin }
"#;

fn document(base: &str, inject: &str, operations: &str, more: &str) -> String {
    format!(
        "upstreams:\n  - name: crm\n    base_url: {base}\n    inject: {inject}\n    {more}\n    operations: {operations}\n"
    )
}

fn upstream(base: &str, inject: &str, more: &str) -> Result<CompiledUpstream, Vec<String>> {
    compiled(&document(base, inject, OPERATIONS, more), &Known::default()).map(|mut all| all.remove(0))
}

/// The upstreams, or the fields that have mistakes.
fn compiled(yaml: &str, known: &Known) -> Result<Vec<CompiledUpstream>, Vec<String>> {
    let manifest = parse_manifest(yaml).unwrap_or_else(|mistake| panic!("{mistake}\n{yaml}"));
    match validate_manifest(&manifest, known) {
        Ok(()) => Ok(manifest.upstreams.into_iter().map(|one| CompiledUpstream::new(one).unwrap()).collect()),
        Err(mistakes) => Err(mistakes.into_iter().map(|one| one.at).collect()),
    }
}

fn wrong(yaml: &str, known: &Known) -> Vec<String> {
    compiled(yaml, known).err().unwrap_or_default()
}

const BEARER: &str = "{ kind: bearer, credential: crm-key }";
const BASE: &str = "https://crm.example.com";

fn crm() -> Arc<CompiledUpstream> {
    Arc::new(upstream(BASE, BEARER, "").unwrap())
}

fn claims() -> Arc<Claims> {
    let verifier = TokenVerifier::new("https://broker.example", 5, 1);
    let keys = KeySet::from_json(JWKS).unwrap();
    Arc::new(verifier.verify(TOKEN, &keys, &RevocationSet::default(), |_| true, &Possession::NONE, 1_000_000).unwrap())
}

fn agent(status: AgentStatus) -> Agent {
    Agent {
        id: "ag_one".into(),
        name: "helpdesk".into(),
        status,
        roles: vec![],
        secrets: vec![],
        identity: Default::default(),
        created_at: 0,
    }
}

fn ask(method: &str, path: &str, roles_give: &[&str]) -> Result<Permit, Denial> {
    let target = Target::parse(path, None).unwrap();
    let candidate = classify(crm(), method.into(), target);
    let answer = decide(&claims(), &agent(AgentStatus::Active), |scope| roles_give.contains(&scope), candidate);
    answer.map_err(|denied| {
        let (denial, candidate) = *denied;
        assert_eq!(candidate.target().path(), path, "the target comes back");
        denial
    })
}

const ALL: [&str; 3] = ["crm:contacts.read", "crm:contacts.write", "crm:admin"];

#[test]
fn a_permit_says_what_was_asked_and_by_whom() {
    let permit = ask("GET", "/v1/contacts/7", &ALL).unwrap();
    assert_eq!((&*permit.operation().id, &*permit.operation().scope), ("one", "crm:contacts.read"));
    assert_eq!((&**permit.method(), permit.target().path()), ("GET", "/v1/contacts/7"));
    assert_eq!((&**permit.agent_name(), &**permit.upstream().name()), ("helpdesk", "crm"));
    assert_eq!((permit.claims().jti.as_str(), permit.upstream().definition().name.as_str()), ("tk_one", "crm"));
}

#[test]
fn p8_deny_is_the_default() {
    for (method, path) in
        [("PUT", "/v1/contacts"), ("get", "/v1/contacts"), ("GET", "/v2"), ("GET", "/v1/contacts/7/x")]
    {
        assert_eq!(ask(method, path, &ALL).unwrap_err(), Denial::NoOperation, "{method} {path}");
    }
    let missing = |scope: &str| Denial::MissingScope(scope.into());
    assert_eq!(ask("DELETE", "/x", &ALL).unwrap_err(), missing("crm:admin"), "the token does not have it");
    let read = ["crm:contacts.read"];
    assert_eq!(ask("POST", "/v1/contacts", &read).unwrap_err(), missing("crm:contacts.write"), "a role was narrowed");
    assert!(ask("POST", "/v1/contacts", &ALL).is_ok());
    for status in [AgentStatus::Suspended, AgentStatus::Revoked] {
        let target = Target::parse("/v1/contacts", None).unwrap();
        let answer = decide(&claims(), &agent(status), |_| true, classify(crm(), "GET".into(), target));
        assert_eq!(answer.unwrap_err().0, Denial::AgentNotActive);
    }
    let codes = [Denial::AgentNotActive, Denial::NoOperation, missing("x")].map(|denial| denial.code());
    assert_eq!(codes, ["agent_not_active", "operation_not_allowed", "insufficient_scope"]);
}

#[test]
fn p8_what_is_another_operation_once_decoded_is_refused() {
    assert_eq!(&*ask("GET", "/v1/contacts:clear", &ALL).unwrap().operation().id, "clear");
    assert_eq!(ask("GET", "/v1/contacts%3Aclear", &ALL).unwrap_err(), Denial::NoOperation);
    // An escape that changes nothing is just an escape.
    assert_eq!(&*ask("GET", "/v1/contacts/a%20b", &ALL).unwrap().operation().id, "one");
    assert_eq!(&*ask("GET", "/v1/a%3Ab", &ALL).unwrap().operation().id, "any");
}

#[test]
fn p8_an_encoded_slash_takes_what_it_may_be_read_as() {
    let operations = r#"
      - { id: project, methods: [GET], path: "/projects/{id}", scope: contacts.read, encoded_slash: true }
      - { id: notes, methods: [GET], path: "/projects/{id}/notes", scope: contacts.write }
      - { id: keys, methods: [GET], path: "/projects/{id}/keys", scope: admin }
      - { id: plain, methods: [GET], path: "/plain/{id}", scope: contacts.read }
      - { id: file, methods: [GET], path: "/files/{*rest}", scope: contacts.read }
      - { id: deep, methods: [GET], path: "/files/deep/{id}", scope: contacts.read }
      - { id: cafe, methods: [GET], path: "/caf%C3%A9/{id}", scope: contacts.read }
"#;
    let upstream = Arc::new(compiled(&document(BASE, BEARER, operations, ""), &Known::default()).unwrap().remove(0));
    let ask = |method: &str, path: &str, roles: &[&str]| {
        let target = Target::parse(path, None).unwrap();
        let candidate = classify(upstream.clone(), method.into(), target);
        let answer = decide(&claims(), &agent(AgentStatus::Active), |scope| roles.contains(&scope), candidate);
        answer.map(|permit| permit.operation().id.to_string()).map_err(|denied| denied.0)
    };
    let read = ["crm:contacts.read"];
    assert_eq!(ask("GET", "/projects/a%2Fb", &read).unwrap(), "project");
    assert_eq!(ask("HEAD", "/projects/a%2fb%2Fc", &read).unwrap(), "project");
    let missing = |scope: &str| Denial::MissingScope(scope.into());
    assert_eq!(ask("GET", "/projects/1%2fnotes", &read).unwrap_err(), missing("crm:contacts.write"));
    assert_eq!(ask("GET", "/projects/1%2Fnotes", &ALL).unwrap(), "project");
    assert_eq!(ask("GET", "/projects/1%2Fkeys", &ALL).unwrap_err(), missing("crm:admin"), "the token lacks it");
    assert_eq!(ask("GET", "/projects/1%2F2/keys", &ALL).unwrap_err(), Denial::EncodedSlash);
    assert_eq!(ask("GET", "/plain/a%2Fb", &ALL).unwrap_err(), Denial::EncodedSlash);
    assert_eq!(ask("GET", "/files/a%2Fb%2f", &ALL).unwrap(), "file");
    assert_eq!(ask("GET", "/files/", &ALL).unwrap(), "file");
    assert_eq!(ask("GET", "/files/deep%2Fb", &ALL).unwrap_err(), Denial::NoOperation, "another operation, decoded");
    assert_eq!(ask("GET", "/caf%c3%a9/1", &ALL).unwrap(), "cafe", "a literal that is encoded fits itself");
    assert_eq!(ask("GET", "/plain/a|b", &ALL).unwrap(), "plain");
    assert_eq!(Denial::EncodedSlash.code(), "target_encoded_slash");
}

#[test]
fn base_urls() {
    for (url, tls, host, port, authority, prefix) in [
        (BASE, true, "crm.example.com", 443, "crm.example.com", ""),
        ("http://crm.example.com/", false, "crm.example.com", 80, "crm.example.com", ""),
        ("https://crm.example.com:8443/api/v2/", true, "crm.example.com", 8443, "crm.example.com:8443", "/api/v2"),
        ("http://127.0.0.1:9000", false, "127.0.0.1", 9000, "127.0.0.1:9000", ""),
        ("http://[::1]:9000/x", false, "::1", 9000, "[::1]:9000", "/x"),
    ] {
        let upstream = upstream(&format!("'{url}'"), BEARER, "").unwrap_or_else(|at| panic!("{url}: {at:?}"));
        let BaseUrl { tls: t, host: h, port: p, authority: a, prefix: x, ends_with_slash } = upstream.base();
        assert_eq!(*ends_with_slash, prefix.is_empty() || url.ends_with('/'), "{url}");
        assert_eq!((*t, h.as_str(), *p, a.as_str(), x.as_str()), (tls, host, port, authority, prefix), "{url}");
    }
    for url in [
        "crm.example.com",
        "ftp://crm.example.com",
        "https://",
        "https://user@crm.example.com",
        "https://user:secret@crm.example.com",
        "https://:secret@crm.example.com",
        "https://crm.example.com?x=1",
        "https://crm.example.com#x",
        "https://crm.example.com/a/../b",
        "https://crm.example.com/a//b",
        "https://crm.example.com/%7Ea",
        "https://crm.example.com/a%2fb",
        "https://crm.example.com/a%2Fb",
        "https://crm.example.com/a b",
        "https://crm.example.com/a;b",
        "http://2130706433",
        "http://127.1",
        "http://169.254.169.254",
        "http://[::ffff:169.254.169.254]",
        "http://[fe80::1]",
        // The URL parser takes them, but no request can be written to them, and no name in DNS has them.
        "https://crm.exa}ple.com",
        "https://crm~1.example.com",
        "https://{tenant}.example.com",
        "https://crm!.example.com:8443/v1",
    ] {
        assert_eq!(upstream(&format!("'{url}'"), BEARER, "").unwrap_err(), ["upstreams[0].base_url"], "{url}");
    }
    // Somebody put a secret where everybody sees it: they are told that, and where it goes.
    for url in ["https://user@crm.example.com", "https://:secret@crm.example.com"] {
        let manifest = parse_manifest(&document(url, BEARER, OPERATIONS, "")).unwrap();
        let mistakes = validate_manifest(&manifest, &Known::default()).unwrap_err();
        assert!(mistakes[0].fix.contains("hallpass credential put"), "{url}: {:?}", mistakes[0]);
    }
}

#[test]
fn injections() {
    for good in [
        "{ kind: bearer, credential: k@1 }",
        "{ kind: header, name: X-Api-Key, credential: k }",
        "{ kind: header, name: Authorization, prefix: 'Token ~', credential: k }",
        "{ kind: basic, username: 'a b', credential: k }",
        "{ kind: query, name: aZ0-_.~, credential: k }",
    ] {
        assert!(upstream(BASE, good, "").is_ok(), "{good}");
    }
    for (bad, field) in [
        ("{ kind: bearer, credential: K }", "credential"),
        ("{ kind: bearer, credential: k@0 }", "credential"),
        ("{ kind: header, name: X-Key, credential: k@x }", "credential"),
        ("{ kind: basic, credential: k@-1 }", "credential"),
        ("{ kind: query, name: q, credential: k@ }", "credential"),
        ("{ kind: header, name: 'X Key', credential: k }", "name"),
        ("{ kind: header, name: '', credential: k }", "name"),
        ("{ kind: header, name: Host, credential: k }", "name"),
        ("{ kind: header, name: CONTENT-length, credential: k }", "name"),
        ("{ kind: header, name: X-Key, prefix: \"a\\nb\", credential: k }", "prefix"),
        ("{ kind: header, name: X-Key, prefix: \"a\\x7f\", credential: k }", "prefix"),
        ("{ kind: basic, username: 'a:b', credential: k }", "username"),
        ("{ kind: basic, username: \"a\\tb\", credential: k }", "username"),
        ("{ kind: query, name: '', credential: k }", "name"),
        ("{ kind: query, name: 'a b', credential: k }", "name"),
        ("{ kind: query, name: 'a&b', credential: k }", "name"),
    ] {
        let at = upstream(BASE, bad, "").unwrap_err();
        // '@' with nothing behind it is no version, and `k@` no name.
        assert!(!at.is_empty() && at.iter().all(|at| *at == format!("upstreams[0].inject.{field}")), "{bad}: {at:?}");
    }
}

#[test]
fn each_of_several_placements_has_a_place_of_its_own() {
    for good in [
        "[{ kind: bearer, credential: k }]",
        "[{ kind: header, name: X-App, credential: a }, { kind: header, name: X-Key, credential: a@2 }]",
        "[{ kind: bearer, credential: k }, { kind: query, name: authorization, credential: k }]",
        "[{ kind: query, name: app, credential: a }, { kind: query, name: key, credential: b }]",
    ] {
        assert!(upstream(BASE, good, "").is_ok(), "{good}");
    }
    for (bad, at) in [
        ("[{ kind: bearer, credential: k }, { kind: basic, credential: l }]", "inject[1]"),
        ("[{ kind: header, name: Authorization, credential: k }, { kind: bearer, credential: k }]", "inject[1]"),
        ("[{ kind: header, name: X-A, credential: k }, { kind: header, name: x-a, credential: l }]", "inject[1]"),
        ("[{ kind: query, name: key, credential: k }, { kind: query, name: KEY, credential: l }]", "inject[1]"),
        ("[{ kind: bearer, credential: k }, { kind: query, name: 'a b', credential: l }]", "inject[1].name"),
        ("[{ kind: bearer, credential: K }, { kind: query, name: a, credential: l }]", "inject[0].credential"),
    ] {
        assert_eq!(upstream(BASE, bad, "").unwrap_err(), [format!("upstreams[0].{at}")], "{bad}");
    }
    let second = "[{ kind: query, name: key, credential: a }, { kind: header, name: X-Key, credential: b }]";
    for more in ["headers: [X-Key]", "set_headers: { X-Key: a }"] {
        assert_eq!(upstream(BASE, second, more).unwrap_err().len(), 1, "{more}: it carries a secret");
    }
    let both = upstream(BASE, second, "").unwrap();
    assert_eq!(both.headers().of(&http::HeaderName::from_static("x-key")), Passing::Never);
    assert_eq!(both.need(), Need::Head);
}

#[test]
fn timeouts_limits_and_cas() {
    for good in
        ["timeouts: { connect_seconds: 1, idle_seconds: 3600 }", "limits: { max_request_bytes: 1 }", "ca_file: x"]
    {
        assert!(upstream(BASE, BEARER, good).is_ok(), "{good}");
    }
    for (bad, field) in [
        ("timeouts: { connect_seconds: 0 }", "timeouts.connect_seconds"),
        ("timeouts: { response_seconds: 3601 }", "timeouts.response_seconds"),
        ("limits: { max_request_bytes: 0 }", "limits.max_request_bytes"),
        ("limits: { max_response_bytes: 0 }", "limits.max_response_bytes"),
    ] {
        assert_eq!(upstream(BASE, BEARER, bad).unwrap_err(), [format!("upstreams[0].{field}")]);
    }
    assert_eq!(upstream("http://a.example", BEARER, "ca_file: x").unwrap_err(), ["upstreams[0].ca_file"]);
}

#[test]
fn operations() {
    let at = |operations: &str| wrong(&document(BASE, BEARER, operations, ""), &Known::default());
    assert_eq!(at("[]"), ["upstreams[0].operations"]);
    let one = |id: &str, methods: &str, path: &str, scope: &str| {
        format!("{{ id: '{id}', methods: {methods}, path: '{path}', scope: '{scope}' }}")
    };
    for (operation, field) in [
        (one("A", "[GET]", "/", "s"), "id"),
        (one("a", "[]", "/", "s"), "methods"),
        (one("a", "[get]", "/", "s"), "methods"),
        (one("a", "[Get]", "/", "s"), "methods"),
        (one("a", "['G T']", "/", "s"), "methods"),
        (one("a", "[CONNECT]", "/", "s"), "methods"),
        (one("a", "[TRACE]", "/", "s"), "methods"),
        (one("a", "[GET, GET]", "/", "s"), "path"),
        (one("a", "[GET]", "/", ""), "scope"),
        (one("a", "[GET]", "/", "a:b"), "scope"),
        (one("a", "[GET]", "/", "a b"), "scope"),
    ] {
        assert_eq!(at(&format!("[{operation}]")), [format!("upstreams[0].operations[0].{field}")], "{operation}");
    }
    let pair = |second: &str| at(&format!("[{}, {second}]", one("a", "[GET]", "/{x}", "s")));
    assert_eq!(pair(&one("a", "[PUT]", "/", "s")), ["upstreams[0].operations[1].id"]);
    assert_eq!(pair(&one("b", "[GET]", "/{y}", "s")), ["upstreams[0].operations[1].path"]);
    assert_eq!(pair(&one("b", "[PUT, PURGE]", "/{y}", "s")), [""; 0]);
    assert_eq!(crm().scopes().collect::<std::collections::BTreeSet<_>>(), ALL.into());
}

#[test]
fn names_are_there_once_and_scopes_and_roles_must_be_there_at_all() {
    let known = Known {
        scopes: [("old".to_owned(), ["old:s".to_owned()].into())].into(),
        apis: [("old".to_owned(), true), ("api".to_owned(), false)].into(),
        roles: ["reader".to_owned()].into(),
        audiences: [("api".to_owned(), "https://api.example".to_owned())].into(),
        ..Known::default()
    };
    let op = "operations: [{ id: a, methods: [GET], path: /, scope: s }]";
    let up = |name: &str| format!("{{ name: {name}, base_url: {BASE}, inject: {BEARER}, {op} }}");
    let resource = |name: &str, audience: &str, scope: &str| {
        format!("resources: [{{ name: '{name}', audience: '{audience}', scopes: ['{scope}'] }}]")
    };
    for (yaml, at) in [
        (format!("upstreams: [{}, {}]", up("a"), up("b")), ""),
        (format!("upstreams: [{}]", up("old")), ""),
        (format!("upstreams: [{}, {}]", up("a"), up("a")), "upstreams[1].name"),
        (format!("upstreams: [{}]", up("api")), "upstreams[0].name"),
        (format!("upstreams: [{}]", up("hallpass")), "upstreams[0].name"),
        (format!("upstreams: [{}]", up("A")), "upstreams[0].name"),
        (format!("upstreams: [{}]\n{}", up("a"), resource("a", "https://x.example", "s")), "resources[0].name"),
        (resource("r", "https://r.example/x?y", "orders.read"), ""),
        (resource("api", "https://api.example", "s"), ""),
        (resource("old", "https://r.example", "s"), "resources[0].name"),
        (resource("R", "https://r.example", "s"), "resources[0].name"),
        (resource("hallpass", "https://r.example", "s"), "resources[0].name"),
        (resource("r", "https://api.example", "s"), "resources[0].audience"),
        (resource("r", "https://r.example/#x", "s"), "resources[0].audience"),
        (resource("r", "urn:orders", "s"), "resources[0].audience"),
        (resource("r", "orders", "s"), "resources[0].audience"),
        (resource("r", "https://r.example", ""), "resources[0].scopes[0]"),
        (resource("r", "https://r.example", "a:b"), "resources[0].scopes[0]"),
        (resource("r", "https://r.example", "a b"), "resources[0].scopes[0]"),
        ("roles: [{ name: a, scopes: ['old:s', 'hallpass:introspect'] }, { name: b, scopes: [] }]".into(), ""),
        (format!("upstreams: [{}]\nroles: [{{ name: a, scopes: ['a:s'] }}]", up("a")), ""),
        (resource("r", "https://r.example", "s") + "\nroles: [{ name: a, scopes: ['r:s'] }]", ""),
        ("roles: [{ name: a, scopes: ['old:t'] }]".into(), "roles[0].scopes[0]"),
        ("roles: [{ name: A, scopes: [] }]".into(), "roles[0].name"),
        ("roles: [{ name: a, scopes: [] }, { name: a, scopes: [] }]".into(), "roles[1].name"),
        ("agents: [{ name: a, roles: [reader] }, { name: b, roles: [] }]".into(), ""),
        ("roles: [{ name: new, scopes: [] }]\nagents: [{ name: a, roles: [new] }]".into(), ""),
        ("agents: [{ name: a, roles: [reader, writer] }]".into(), "agents[0].roles[1]"),
        ("agents: [{ name: -a, roles: [] }]".into(), "agents[0].name"),
        ("agents: [{ name: a, roles: [] }, { name: a, roles: [] }]".into(), "agents[1].name"),
    ] {
        assert_eq!(wrong(&yaml, &known).join(" "), at, "{yaml}");
    }
    // A definition with a mistake still has its scopes: one mistake is one mistake.
    let yaml = format!("upstreams: [{}]\nroles: [{{ name: a, scopes: ['a:s'] }}]", up("a").replace("https", "ftp"));
    assert_eq!(wrong(&yaml, &known), ["upstreams[0].base_url"]);
}

#[test]
fn a_mistake_says_where_what_and_what_to_do() {
    let manifest = parse_manifest("agents: [{ name: a, roles: [] }, { name: a, roles: [nope] }]").unwrap();
    let mistakes = validate_manifest(&manifest, &Known::default()).unwrap_err();
    let told: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "agents[1].name: 'a' is there twice; leave one of them out, or rename it",
            "agents[1].roles[0]: there is no role 'nope'; declare it under roles",
        ]
    );
}

#[test]
fn a_document_is_read_up_to_4_mib_and_not_beyond() {
    let mib = 1024 * 1024;
    let sized = |len: usize| format!("roles: []\n#{}", " ".repeat(len - 11));
    assert_eq!(parse_manifest(&sized(4 * mib)), Ok(Manifest::default()));
    assert!(parse_manifest(&sized(4 * mib + 1)).unwrap_err().problem.contains("larger"));
    for bad in ["", " \n", "roles: 7", "roles: []\nroles: []", "nope: []", "- a"] {
        assert_eq!(parse_manifest(bad).unwrap_err().at, "document", "{bad:?}");
    }
}
