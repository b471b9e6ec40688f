//! The catalog, through the program: listed, shown, and applied to a broker.

use serde_json::{Value, json};

use crate::support::real::{Real, said};
use crate::support::{Binary, Engine};

/// It ends with this code and says these words.
#[track_caller]
fn says(binary: &Binary, code: i32, arguments: &[&str], words: &[&str]) {
    let (found, text) = said(&binary.run(arguments, ""));
    assert_eq!(found, code, "{arguments:?}: {text}");
    for word in words {
        assert!(text.contains(word), "{arguments:?} does not say '{word}': {text}");
    }
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect()
}

/// The folder has a broker, and none runs.
#[test]
fn the_catalog_needs_no_broker() {
    let binary = Binary::init(None);
    let all = binary.json(&["upstream", "catalog"], "");
    assert!(names(&all["catalog"]).len() >= 60, "{all}");
    let found = binary.json(&["upstream", "catalog", "Issues", "jira"], "");
    assert_eq!(names(&found["catalog"]), ["jira"]);
    assert_eq!(found["catalog"][0]["variables"][0]["name"], "site");
    let github = &binary.json(&["upstream", "catalog", "github"], "")["catalog"][0];
    assert_eq!(
        (&github["title"], &github["provider"], &github["needs"]),
        (&json!("GitHub"), &json!("github"), &json!([]))
    );
    says(&binary, 0, &["upstream", "catalog"], &["NAME", "OPERATIONS", "NEEDS", "PROVIDER", "github", "stripe"]);
    says(&binary, 0, &["upstream", "catalog", "no-such-thing"], &["nothing in the catalog"]);

    says(
        &binary,
        0,
        &["upstream", "catalog", "--show", "twilio"],
        &["# Key:", "# Source: https://", "{{account_sid}}"],
    );
    let shown = binary.json(&["upstream", "catalog", "--show", "github"], "");
    assert_eq!((&shown["name"], &shown["upstreams"][0]["name"]), (&json!("github"), &json!("github")));
    says(&binary, 1, &["upstream", "catalog", "--show", "githb"], &["no 'githb'", "did you mean 'github'?"]);
    says(&binary, 2, &["upstream", "catalog", "x", "--show", "github"], &["cannot be used with"]);
}

#[test]
fn what_is_asked_of_the_catalog_wrongly_is_refused_without_a_broker() {
    let binary = Binary::init(None);
    let apply = |more: &[&'static str]| [&["apply", "--from-catalog"], more].concat();
    says(&binary, 1, &apply(&["nothing-like-it"]), &["the catalog has no 'nothing-like-it'"]);
    says(&binary, 2, &apply(&["jira"]), &["--set site=VALUE, for example acme", "--set email=VALUE"]);
    let email = ["--set", "email=ada@example.com"];
    for bad in ["site=attacker.example", "site=acme/", "site=a@b", "site=", "site={{email}}", "site=a b"] {
        says(
            &binary,
            2,
            &apply(&["jira", "--set", bad, email[0], email[1]]),
            &["variable 'site'", "one part of a host name"],
        );
    }
    says(&binary, 2, &apply(&["jira", "--set", "sity=acme"]), &["no variable 'sity'", "site, email"]);
    says(&binary, 2, &apply(&["jira", "--set", "site=a", "--set", "site=b"]), &["--set site stands twice"]);
    says(&binary, 2, &apply(&["github", "--set", "host"]), &["NAME=VALUE"]);
    says(&binary, 2, &apply(&["github", "--name", "Not a name"]), &["is no upstream name"]);
    // With --prune, every other upstream would go.
    says(&binary, 2, &apply(&["github", "--prune"]), &["cannot be used with"]);
    says(&binary, 2, &apply(&["github", "-f", "x.yaml"]), &["cannot be used with"]);
    for more in [["--set", "a=b"], ["--name", "a"], ["--credential", "a"]] {
        says(&binary, 2, &[&["apply", "-f", "x.yaml"], &more[..]].concat(), &["cannot be used with", more[0]]);
    }
    says(&binary, 2, &["apply"], &["--file", "--from-catalog"]);
    says(&binary, 3, &apply(&["github"]), &["no broker answers"]);
}

/// What takes a placement that is not there is listed with it, and refused with a sentence.
#[test]
fn what_cannot_be_served_yet_says_what_it_waits_for() {
    let binary = Binary::init(None);
    let all = binary.json(&["upstream", "catalog"], "");
    let waiting = all["catalog"].as_array().unwrap().iter().filter(|one| one["needs"] != json!([]));
    for one in waiting {
        let name = one["name"].as_str().unwrap();
        let need = one["needs"][0].as_str().unwrap();
        says(&binary, 1, &["apply", "--from-catalog", name], &["cannot be applied by this version", need]);
        says(&binary, 0, &["upstream", "catalog", "--show", name], &["This version cannot serve it"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_is_applied_once() {
    let mut real = Real::init(Engine::Sqlite).unwrap();
    real.binary.serve(None);
    let upstreams = |real: &Real| real.binary.json(&["upstream", "list"], "")["upstreams"].clone();
    let apply = ["apply", "--from-catalog", "github"];

    says(&real.binary, 0, &[&apply[..], &["--dry-run"]].concat(), &["create upstream 'github'", "nothing was changed"]);
    assert_eq!(upstreams(&real), json!([]), "a dry run changes nothing");

    let next = "next: hallpass credential put github-token";
    says(&real.binary, 0, &apply, &["create upstream 'github'", "create role 'github-reader'", next, "github-writer"]);
    assert_eq!(names(&upstreams(&real)), ["github"]);
    says(&real.binary, 0, &apply, &["nothing to change", next]);

    real.binary.ok(&["credential", "put", "github-token"], "ghp_0123456789abcdefghij0123456789abcdef");
    let (code, text) = said(&real.binary.run(&apply, ""));
    assert!(code == 0 && text.contains("nothing to change") && !text.contains("next:"), "{text}");
    assert_eq!(real.binary.json(&apply, "")["changes"], json!([]));

    // A second account beside the first.
    let second = [&apply[..], &["--name", "github-work", "--credential", "work-token"]].concat();
    says(&real.binary, 0, &second, &["create upstream 'github-work'", "next: hallpass credential put work-token"]);
    assert_eq!(names(&upstreams(&real)), ["github", "github-work"]);
    let role = real.binary.json(&["role", "show", "github-work-reader"], "");
    assert!(role["scopes"].as_array().unwrap().contains(&json!("github-work:repo.read")), "{role}");

    let jira = ["apply", "--from-catalog", "jira", "--set", "site=acme", "--set", "email=ada@example.com"];
    says(&real.binary, 0, &jira, &["create upstream 'jira'", "next: hallpass credential put jira-token"]);
    let shown = real.binary.json(&["upstream", "show", "jira"], "");
    assert_eq!(
        (&shown["base_url"], &shown["inject"]["username"]),
        (&json!("https://acme.atlassian.net"), &json!("ada@example.com"))
    );

    // What an admin made of what is shown is theirs.
    let written = real.binary.ok(&["upstream", "catalog", "--show", "stripe"], "");
    let (code, text) = said(&real.binary.run(&["apply", "-f", "-"], &written));
    assert!(code == 0 && text.contains("create upstream 'stripe'"), "{text}");
    says(&real.binary, 0, &["apply", "--from-catalog", "stripe"], &["nothing to change"]);

    let agent = real.binary.json(&["agent", "register", "reader", "--role", "github-reader"], "");
    assert!(agent["client_id"].is_string(), "{agent}");
}
