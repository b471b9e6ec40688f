use super::*;

fn upstream() -> CompiledUpstream {
    let definition = r#"{ "name": "crm", "base_url": "https://crm.example.com/api", "operations": [
        { "id": "list", "methods": ["GET", "HEAD"], "path": "/v1/contacts", "scope": "read" },
        { "id": "add", "methods": ["POST"], "path": "/v1/contacts", "scope": "write" },
        { "id": "get", "methods": ["GET"], "path": "/v1/contacts/{id}", "scope": "read" },
        { "id": "notes", "methods": ["GET"], "path": "/v1/contacts/{id}/notes/", "scope": "read" },
        { "id": "files", "methods": ["GET"], "path": "/files/{*rest}", "scope": "read" },
        { "id": "drop", "methods": ["DELETE"], "path": "/v1/secret-things", "scope": "admin" }
    ], "inject": { "kind": "bearer", "credential": "key" } }"#;
    CompiledUpstream::new(serde_json::from_str(definition).unwrap()).unwrap()
}

#[test]
fn each_kind_of_mistake_has_its_sentence_and_says_what_to_write() {
    let upstream = upstream();
    let view = View::new(&upstream, |scope: &str| scope != "crm:admin");
    for (method, path, wanted) in [
        ("DELETE", "/v1/contacts", "this path takes GET, HEAD, POST, and not DELETE"),
        ("get", "/v1/contacts", "methods are in upper case; send GET"),
        ("GET", "/v1/contacts/", "ends with a slash, and the operation's does not; write /exchange/crm/v1/contacts"),
        ("GET", "/v1/contacts/7/notes", "ends with a slash; write /exchange/crm/v1/contacts/7/notes/"),
        (
            "GET",
            "/exchange/crm/v1/contacts",
            "'/exchange/crm' is too much in the path; write /exchange/crm/v1/contacts",
        ),
        ("GET", "/crm/v1/contacts/7", "'/crm' is too much in the path; write /exchange/crm/v1/contacts/7"),
        ("GET", "/api/files/a/b", "'/api' is too much in the path; write /exchange/crm/files/a/b"),
        ("GET", "/contacts", "'/v1' is missing in the path; write /exchange/crm/v1/contacts"),
        ("GET", "/contacts/7", "'/v1' is missing in the path; write /exchange/crm/v1/contacts/7"),
        ("GET", "/V1/Contacts", "the case of letters counts in a path; write /exchange/crm/v1/contacts"),
        ("GET", "/v1/contact", "the nearest is GET /exchange/crm/v1/contacts;"),
        ("POST", "/v1/contactz", "the nearest is POST /exchange/crm/v1/contacts;"),
        ("GET", "/v1/contcats/7", "the nearest is GET /exchange/crm/v1/contacts/{id};"),
        ("PUT", "/v1/contact", "the nearest is GET, HEAD /exchange/crm/v1/contacts;"),
        ("GET", "/zzzz/zzzz", "no operation of this upstream has this method and path; ask the admin"),
        ("GET", "/", "the nearest is GET /exchange/crm/v1/contacts;"),
        ("POST", "", "the nearest is POST /exchange/crm/v1/contacts;"),
    ] {
        let hint = view.hint(method, path);
        assert!(hint.sentence.contains(wanted), "{method} {path}: {}", hint.sentence);
        let is_method = method != "GET" && path == "/v1/contacts";
        assert_eq!(!hint.allow.is_empty(), is_method, "{method} {path}: {hint:?}");
    }
    assert_eq!(view.hint("DELETE", "/v1/contacts").allow, ["GET", "HEAD", "POST"]);
}

#[test]
fn what_the_caller_may_not_call_is_not_told() {
    let upstream = upstream();
    let view = View::new(&upstream, |scope: &str| scope == "crm:read");
    for (method, path) in [
        ("GET", "/v1/secret-things"),
        ("DELETE", "/v1/secret-things/"),
        ("DELETE", "/secret-things"),
        ("X", "/v1/secret"),
    ] {
        let hint = view.hint(method, path);
        assert!(!hint.sentence.contains("DELETE /") && !hint.sentence.contains("secret"), "{hint:?}");
        assert_eq!(hint.allow, Vec::<String>::new(), "{method} {path}");
    }
    assert_eq!(view.hint("DELETE", "/v1/contacts").allow, ["GET", "HEAD"], "POST is another scope's");
    let nothing = View::new(&upstream, |_: &str| false);
    assert!(!nothing.is_reached());
    assert_eq!(nothing.hint("POST", "/v1/contacts"), nothing.hint("POST", "/v1/nothing"));
}

#[test]
fn a_long_path_is_not_compared_letter_by_letter() {
    let upstream = upstream();
    let view = View::new(&upstream, |_: &str| true);
    let long = format!("/v1/contactz/{}", "a".repeat(4000));
    assert!(
        view.hint("GET", &long).sentence.starts_with("no operation of this upstream has this method and path; ask")
    );
}

#[test]
fn a_name_is_near_whatever_its_case() {
    let names = ["crm", "github", "billing"];
    for (asked, wanted) in [("CRM", Some("crm")), ("gihtub", Some("github")), ("biling", Some("billing")), ("x", None)]
    {
        assert_eq!(nearest_name(asked, names.into_iter()), wanted, "{asked}");
    }
}
