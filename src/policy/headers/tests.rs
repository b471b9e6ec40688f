use super::*;

fn upstream(more: &str) -> Upstream {
    let yaml = format!(
        "name: crm\nbase_url: https://crm.example.com\ninject: {{ kind: header, name: X-Key, credential: k }}\n{more}\noperations: []\n"
    );
    serde_saphyr::from_str(&yaml).unwrap()
}

fn compile(more: &str) -> (HeaderPass, Vec<String>) {
    let mut mistakes = Vec::new();
    let mut note = |at: String, problem: String, fix: &str| mistakes.push(format!("{at}: {problem}; {fix}"));
    let definition = upstream(more);
    let placements = crate::policy::placement::compile(&definition.inject, &mut note);
    let pass = HeaderPass::compile(&definition, &placements, &mut note);
    (pass, mistakes)
}

fn of(pass: &HeaderPass, name: &str) -> Passing {
    pass.of(&HeaderName::from_bytes(name.as_bytes()).unwrap())
}

/// Headers that some server takes for the word of whoever it trusts.
const OF_OTHERS: [&str; 46] = [
    "Sudo",
    "es-security-runas-user",
    "X-Remote-User",
    "Remote-User",
    "X-Remote-Group",
    "X-WebAuth-User",
    "X-WebAuth-Groups",
    "X-MS-Client-Principal",
    "X-MS-Client-Principal-Name",
    "X-MS-Token-AAD-Access-Token",
    "X-SSL-Client-Cert",
    "X-SSL-Client-S-DN",
    "SSL-Client-Verify",
    "X-Client-Cert",
    "X-Auth-Request-Email",
    "X-Authenticated-User",
    "X-Authentik-Username",
    "X-Goog-Authenticated-User-Email",
    "X-Goog-IAP-JWT-Assertion",
    "X-Goog-User-Project",
    "X-Amzn-Oidc-Identity",
    "Cf-Access-Jwt-Assertion",
    "Cf-Access-Authenticated-User-Email",
    "X-Consumer-Username",
    "X-Credential-Identifier-Secret",
    "X-Scope-OrgID",
    "X-Grafana-Org-Id",
    "On-Behalf-Of",
    "X-On-Behalf-Of",
    "Impersonate-User",
    "X-Impersonate",
    "Act-As-User",
    "Stripe-Account",
    "Stripe-Context",
    "Anthropic-Workspace-Id",
    "X-Api-Key",
    "Api-Key",
    "Private-Token",
    "Job-Token",
    "X-Goog-Api-Key",
    "X-Amz-Security-Token",
    "Ocp-Apim-Subscription-Key",
    "X-Vault-Token",
    "DD-API-KEY",
    "X-Auth-Token",
    "npm-otp",
];

/// Headers that no definition can let through.
const NEVER: [&str; 34] = [
    "Host",
    "Content-Length",
    "Transfer-Encoding",
    "Connection",
    "Keep-Alive",
    "TE",
    "Trailer",
    "Upgrade",
    "HTTP2-Settings",
    "Expect",
    "Proxy",
    "Proxy-Authorization",
    "Proxy-Connection",
    "Authorization",
    "Cookie",
    "Cookie2",
    "DPoP",
    "Client-Cert",
    "X-Forwarded-For",
    "X-Forwarded-Client-Cert",
    "X-Forwarded",
    "Forwarded",
    "Via",
    "X-Real-IP",
    "X-Original-URL",
    "X-Rewrite-URL",
    "X-HTTP-Method-Override",
    "X-Method-Override",
    "X-Hallpass-Source",
    "Accept-Encoding",
    "Accept-Charset",
    "Grpc-Accept-Encoding",
    "Sec-WebSocket-Key",
    "X_Team",
];

#[test]
fn nothing_that_speaks_for_somebody_is_standard_nor_is_it_all() {
    let (standard, none) = compile("");
    let (all, still_none) = compile("headers: all");
    assert_eq!((none, still_none), (vec![], vec![]));
    for name in OF_OTHERS {
        assert_eq!((of(&standard, name), of(&all, name)), (Passing::Unlisted, Passing::Unlisted), "{name}");
    }
    for name in NEVER.iter().chain(&["Range", "If-Range", "Request-Range", "X-Ms-Range", "X-Key"]) {
        assert_eq!((of(&standard, name), of(&all, name)), (Passing::Never, Passing::Never), "{name}");
    }
    for name in ["X-Team", "X-Partition-Key", "SOAPAction", "X-Custom"] {
        assert_eq!((of(&standard, name), of(&all, name)), (Passing::Unlisted, Passing::Pass), "{name}");
    }
    for name in names::STANDARD.iter().copied().chain(["X-Stainless-Lang", "Mcp-Param-Region", "x-amz-meta-a"]) {
        assert_eq!((of(&standard, name), of(&all, name)), (Passing::Pass, Passing::Pass), "{name}");
    }
}

#[test]
fn no_name_is_in_two_lists() {
    for name in names::STANDARD {
        assert!(!names::NEVER.contains(name) && !names::RANGES.contains(name) && !is_never(name), "{name}");
        assert!(*name == name.to_ascii_lowercase());
    }
}

#[test]
fn a_listed_name_passes_beside_the_standard_ones_and_only_here() {
    let (pass, mistakes) = compile("headers: [Sudo, X-Team, Stripe-Account, X-Api-Key]");
    assert_eq!(mistakes, Vec::<String>::new());
    for name in ["sudo", "SUDO", "x-team", "stripe-account", "x-api-key", "accept", "x-stainless-os"] {
        assert_eq!(of(&pass, name), Passing::Pass, "{name}");
    }
    for name in ["es-security-runas-user", "x-teams", "x-key"] {
        assert_ne!(of(&pass, name), Passing::Pass, "{name}");
    }
    assert_eq!(of(&compile("").0, "sudo"), Passing::Unlisted);
}

#[test]
fn what_never_travels_cannot_be_listed() {
    for name in NEVER {
        let (pass, mistakes) = compile(&format!("headers: [{name}]"));
        assert_eq!((mistakes.len(), of(&pass, name)), (1, Passing::Never), "{name}: {mistakes:?}");
        assert!(mistakes[0].starts_with("headers[0]: "), "{mistakes:?}");
    }
    for (bad, says) in [
        ("'X-*'", "pattern"),
        ("'*'", "pattern"),
        ("'a b'", "no header name"),
        ("''", "no header name"),
        ("'a:b'", "no header name"),
        ("all", "without brackets"),
        ("standard", "rule of its own"),
        ("range", "allow_range: true"),
        ("request-range", "allow_range: true"),
        ("x-KEY", "carries this upstream's secret"),
    ] {
        let (_, mistakes) = compile(&format!("headers: [X-Team, {bad}]"));
        assert!(mistakes.len() == 1 && mistakes[0].contains(says), "{bad}: {mistakes:?}");
        assert!(mistakes[0].starts_with("headers[1]: "), "{mistakes:?}");
    }
    let (pass, _) = compile("allow_range: true");
    assert!(names::RANGES.iter().all(|name| of(&pass, name) == Passing::Pass));
}

#[test]
fn a_rule_is_written_as_it_is_read() {
    for (yaml, json) in [("", None), ("headers: all", Some(r#""all""#)), ("headers: [X-A, b]", Some(r#"["X-A","b"]"#))]
    {
        let shown = serde_json::to_value(upstream(yaml)).unwrap();
        assert_eq!(shown.get("headers").map(ToString::to_string).as_deref(), json);
        assert_eq!(serde_json::from_value::<Upstream>(shown).unwrap(), upstream(yaml));
    }
    assert_eq!(upstream("headers: standard"), upstream(""));
    for bad in ["headers: none", "headers: true", "headers: { a: b }", "headers: 3", "headers: [3.5, [a]]"] {
        let yaml = format!("name: a\nbase_url: b\ninject: {{ kind: bearer, credential: k }}\n{bad}\noperations: []\n");
        let error = serde_saphyr::from_str::<Upstream>(&yaml).unwrap_err().to_string();
        assert!(bad.contains('[') || error.contains("'standard', 'all', or a list"), "{bad}: {error}");
    }
}

#[test]
fn constants_win_and_hold_no_secret() {
    let (pass, mistakes) = compile("set_headers: { X-Team: blue, OpenAI-Organization: org-1, Sudo: bot, Accept: a/b }");
    assert_eq!(mistakes, Vec::<String>::new());
    let set: Vec<_> = pass.constants().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    assert_eq!(set, [("accept", "a/b"), ("openai-organization", "org-1"), ("sudo", "bot"), ("x-team", "blue")]);
    assert!(set.iter().all(|(name, _)| of(&pass, name) == Passing::Never), "the agent's own goes");
    for name in
        NEVER.iter().chain(&["X-Key", "x-api-key", "Private-Token", "X-Auth-Token", "Ocp-Apim-Subscription-Key"])
    {
        let (pass, mistakes) = compile(&format!("set_headers: {{ {name}: '1' }}"));
        assert!(mistakes.len() == 1 && pass.constants().is_empty(), "{name}: {mistakes:?}");
    }
    for value in ["", " a", "a ", "a\\nb", "caf\u{e9}", "\\0"] {
        let (_, mistakes) = compile(&format!("set_headers: {{ X-Team: \"{value}\" }}"));
        assert!(mistakes.len() == 1, "{value:?}: {mistakes:?}");
    }
    assert_eq!(compile("set_headers: { X-Team: a, x-team: b }").1.len(), 1);
    assert_eq!(compile("set_headers: { 'a b': a }").1.len(), 1);
}

#[test]
fn what_looks_like_a_key_is_refused_wherever_in_the_value_it_stands() {
    for key in [
        "sk-proj-0123456789abcdef",
        "sk_live_0123456789abcdef",
        "ghp_0123456789abcdef0123",
        "github_pat_0123456789abcdef",
        "glpat-0123456789abcdef",
        "xoxb-0123456789-abcdef",
        "AKIAIOSFODNN7EXAMPLE",
        "AIzaSyA0123456789abcdef",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln",
        "npm_0123456789abcdef0123",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "dXNlcjpwYXNzd29yZA==",
        "Bearer x",
        "basic dTpw",
        "Token token=a",
    ] {
        for value in [key.to_owned(), format!("key={key}"), format!("a, \"{key}\""), format!(" {key} ")] {
            if !key.contains(' ') || value.trim() == key {
                assert!(shapes::looks_like_key(&value).is_some(), "{value}");
                assert_eq!(compile(&format!("set_headers: {{ X-Team: '{value}' }}")).1.len(), 1, "{value}");
            }
        }
    }
    for plain in [
        "2024-06-01",
        "sk-SK,sk;q=0.9",
        "assistants=v2",
        "prompt-caching-2024-07-31",
        "acct_1032D82eZvKYlo2C",
        "a.b.c",
        "token",
        "4f3c2b1a9e8d7c6b5a4f3e2d1c0b9a88",
        "550e8400-e29b-41d4-a716-446655440000",
        "application/vnd.github+json",
        "projects/Example/locations/Europe/services/Orders",
    ] {
        assert_eq!(shapes::looks_like_key(plain), None, "{plain}");
    }
}
