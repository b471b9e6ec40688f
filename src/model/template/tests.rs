//! Good templates, bad ones with what they say, and what each stands for.

use super::*;

#[test]
fn good_templates() {
    for text in [
        "/",
        "/v1",
        "/v1/",
        "/v1/contacts/{id}",
        "/{a}/{b}",
        "/{a}/x/{b}/",
        "/files/{*rest}",
        "/{*rest}",
        "/v1/things:batchDelete",
        "/~me/a%20b",
        "/caf%C3%A9",
        "/v1/{contact_id2}",
        "/{_}",
        "/a*b",
        "/$metadata",
        "/Users(1)",
        "/x%3By",
        "/%7Bid%7D",
        "/queues/%2F/{name}",
        "/a%2fb",
        "/x%2A",
    ] {
        let template = Template::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
        assert_eq!(template.as_str(), text);
        assert_eq!(template.to_string(), text);
        matchit::Router::new().insert(template.as_str(), ()).unwrap_or_else(|why| panic!("{text}: {why}"));
    }
}

#[test]
fn bad_templates_say_what_to_do() {
    for (text, hint) in [
        ("", "begin with a slash"),
        ("v1/contacts", "\"/v1/contacts\""),
        ("/v1?x=1", "query"),
        ("/v1//x", "empty segment"),
        ("//v1", "empty segment"),
        ("/{id", "whole segment"),
        ("/id}", "whole segment"),
        ("/x{id}", "whole segment"),
        ("/{id}.json", "whole segment"),
        ("/{a}{b}", "no good name"),
        ("/{a}-{b}", "no good name"),
        ("/{{id}}", "no good name"),
        ("/{}", "no good name"),
        ("/{*}", "no good name"),
        ("/{1}", "no good name"),
        ("/{a-b}", "no good name"),
        ("/{é}", "no good name"),
        ("/{**r}", "no good name"),
        ("/{*rest}/x", "move it to the end"),
        ("/{*rest}/", "move it to the end"),
        ("/{id}/x/{id}", "twice"),
        ("/{id}/{*id}", "twice"),
        ("/a/../b", "dot segment"),
        ("/a/%2e", "dot segment"),
        ("/a;b", "semicolon"),
        ("/a b", "percent-encode"),
        ("/café", "percent-encode"),
        ("/a\\b", "backslash"),
        ("/a#b", "bare ? or #"),
        ("/%zz", "%25"),
        ("/%252e", "encoded twice"),
        ("/%7Eme", "write \"~me\""),
        ("/caf%c3%a9", "write \"caf%C3%A9\""),
    ] {
        let why = Template::parse(text).expect_err(text);
        assert!(why.contains(hint), "{text}: {why}");
    }
}

#[test]
fn a_template_is_as_long_as_a_path_may_be_and_no_longer() {
    let longest = "/a".repeat(MAX_PATH / 2);
    assert_eq!(Template::parse(&longest).map(|template| template.as_str().len()), Ok(MAX_PATH));
    for longer in [format!("{longest}/"), format!("{longest}/{{id}}"), format!("/{}", "a".repeat(MAX_PATH))] {
        assert!(Template::parse(&longer).unwrap_err().contains("shorten it"));
    }
}

#[test]
fn serde_is_a_checked_string() {
    let template: Template = serde_json::from_str(r#""/v1/{id}""#).expect("good");
    assert_eq!(serde_json::to_string(&template).expect("string"), r#""/v1/{id}""#);
    let why = serde_json::from_str::<Template>(r#""/v1/x{id}""#).expect_err("bad").to_string();
    assert!(why.contains("whole segment"), "{why}");
}

#[test]
fn matches_canonical_targets() {
    let mut router = matchit::Router::new();
    for text in ["/v1/contacts", "/v1/contacts/{id}", "/v1/contacts/me", "/files/{*rest}"] {
        router.insert(Template::parse(text).expect(text).as_str(), text).expect(text);
    }
    let at = |raw| router.at(Target::parse(raw, None).expect(raw).path()).ok().map(|found| *found.value);
    assert_eq!(at("/v1/contacts"), Some("/v1/contacts"));
    assert_eq!(at("/v1/contacts/"), None);
    assert_eq!(at("/v1/contacts/7"), Some("/v1/contacts/{id}"));
    assert_eq!(at("/v1/contacts/%6de"), Some("/v1/contacts/me"));
    assert_eq!(at("/v1/contacts/7/x"), None);
    assert_eq!(at("/files/a/b/c"), Some("/files/{*rest}"));
    assert_eq!(at("/files/"), None, "the empty rest is a route of its own");
}

#[test]
fn a_template_stands_for_each_way_to_read_it() {
    for (text, routes) in [
        ("/v1/{id}", &["/v1/{id}"][..]),
        ("/", &["/"]),
        ("/files/{*rest}", &["/files/{*rest}", "/files/"]),
        ("/{*rest}", &["/{*rest}", "/"]),
        ("/a%3Ab/{*rest}", &["/a%3Ab/{*rest}", "/a:b/{*rest}", "/a%3Ab/", "/a:b/"]),
        ("/caf%C3%A9", &["/caf%C3%A9", "/café"]),
        ("/queues/%2f/{name}", &["/queues/%2F/{name}"]),
        ("/%7Bid%7D", &["/%7Bid%7D", "/{{id}}"]),
        ("/x%7B*y/{*rest}", &["/x%7B*y/{*rest}", "/x{{*y/{*rest}", "/x%7B*y/", "/x{{*y/"]),
    ] {
        let template = Template::parse(text).expect(text);
        assert_eq!(template.routes(), routes, "{text}");
        for route in template.routes() {
            matchit::Router::new().insert(route.as_str(), ()).unwrap_or_else(|why| panic!("{route}: {why}"));
        }
    }
}

#[test]
fn what_other_programs_write_is_told_in_the_right_spelling() {
    for (text, right) in [
        ("/v1/<id>", "/v1/{id}"),
        ("/v1/<int:id>/x", "/v1/{id}/x"),
        ("/v1/<path:rest>", "/v1/{*rest}"),
        ("/v1/{id:int}", "/v1/{id}"),
        ("/v1/{id:[0-9]+}", "/v1/{id}"),
        ("/v1/{id?}", "/v1/{id}"),
        ("/v1/{{id}}", "/v1/{id}"),
        ("/v1/${id}", "/v1/{id}"),
        ("/v1/{contact-id}", "/v1/{contact_id}"),
        ("/v1/{}", "/v1/{id}"),
        ("/v1/{*}", "/v1/{*rest}"),
        ("/v1/{**path}", "/v1/{*path}"),
        ("/v1/{rest:path}", "/v1/{*rest}"),
        ("/v1/{rest:.*}", "/v1/{*rest}"),
        ("/v1/{rest...}", "/v1/{*rest}"),
        ("/v1/{+rest}", "/v1/{*rest}"),
        ("/v1/{name=**}", "/v1/{*name}"),
        ("v1/contacts", "/v1/contacts"),
        ("GET /v1/contacts", "/v1/contacts"),
        ("https://crm.example.com/v1/{id}?x=1", "/v1/{id}"),
        ("https://crm.example.com", "/"),
        ("/v1/contacts?limit=10", "/v1/contacts"),
        ("/v1/contacts#top", "/v1/contacts"),
        ("/v1//contacts/", "/v1/contacts/"),
    ] {
        let why = Template::parse(text).expect_err(text);
        assert!(why.ends_with(&format!("; write {right:?}")), "{text}: {why}");
        assert!(Template::parse(right).is_ok() && misspelled(right).is_none());
    }
    for (text, right) in [
        ("/v1/*", "/v1/{*rest}"),
        ("/**", "/{*rest}"),
        ("/*", "/{*rest}"),
        ("/v1/.*", "/v1/{*rest}"),
        ("/v1/:id", "/v1/{id}"),
        ("/v1/:id/", "/v1/{id}/"),
        ("/:a/x/:b", "/{a}/x/{b}"),
        ("/v1/:path*", "/v1/{*path}"),
        ("/v1/*path", "/v1/{*path}"),
        ("/v1/*/notes", "/v1/{id}/notes"),
        ("/v1/[id]", "/v1/{id}"),
        ("/v1/[...slug]", "/v1/{*slug}"),
        ("/v1/[[...slug]]", "/v1/{*slug}"),
    ] {
        assert!(Template::parse(text).is_ok(), "{text} was stored by earlier versions");
        let (problem, fix) = misspelled(text).expect(text);
        assert!(fix.starts_with(&format!("write {right:?}")), "{text}: {problem}; {fix}");
    }
    for text in ["/v1/contacts*", "/*.json", "/a|b", "/^v1$"] {
        let (_, fix) = misspelled(text).expect(text);
        assert!(fix.contains("{name}") && fix.contains("write it as %"), "{text}: {fix}");
    }
    for text in ["/a*b", "/v1/things:batch", "/$metadata", "/Users(1)", "/x%2A", "/x%3Aid", "/v1/{id}", "/{*rest}", "/"]
    {
        assert_eq!(misspelled(text), None, "{text}");
    }
}
