//! What was declared and made can be looked at, kept as a document, and removed; and the log says what was there.

use serde_json::{Value, json};

use crate::support::real::crm_document;
use crate::support::{Binary, Upstream};

/// A broker that serves, with the upstream `crm`, the role `support`, and more of each kind.
async fn scene() -> (Binary, Upstream) {
    let upstream = Upstream::echo().await;
    let mut binary = Binary::init(None);
    binary.serve(None);
    binary.ok(&["apply", "-f", "-"], &crm_document(&upstream.url()));
    binary.ok(&["credential", "put", "crm-key"], "sk-live-0123456789abcdef");
    let more = r#"
resources: [ { name: orders, audience: "https://orders.example.com", scopes: [orders.read] } ]
roles: [ { name: buyer, scopes: ["orders:orders.read"] } ]
issuers: [ { name: k8s, issuer: "https://k8s.example.com" } ]
trust_domains: [ { name: prod.example.com, bundle_endpoint: "https://bundles.example.com/prod" } ]
"#;
    binary.ok(&["apply", "-f", "-"], more);
    (binary, upstream)
}

/// The records of what admins did, the last one last.
fn admin_records(binary: &Binary) -> Vec<Value> {
    let log = binary.ok(&["audit", "export"], "");
    let records = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    records.filter(|record| record["kind"] == "admin").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_is_listed_shown_as_yaml_removed_and_applied_again() {
    let (binary, _upstream) = scene().await;
    for (noun, section, name) in [
        ("upstream", "upstreams", "crm"),
        ("role", "roles", "buyer"),
        ("resource", "resources", "orders"),
        ("issuer", "issuers", "k8s"),
        ("trust-domain", "trust_domains", "prod.example.com"),
    ] {
        let list = binary.json(&[noun, "list"], "");
        assert!(list[section].as_array().unwrap().iter().any(|one| one["name"] == name), "{noun}: {list}");
        let yaml = binary.ok(&[noun, "show", name, "-o", "yaml"], "");
        assert!(yaml.starts_with(&format!("{section}:")), "{yaml}");
        assert_eq!(binary.json(&["apply", "-f", "-"], &yaml)["changes"], json!([]), "{yaml}");
        let removed = binary.json(&[noun, "remove", name], "");
        assert_eq!(removed["removed"], true, "{noun}");
        let again = binary.run(&[noun, "remove", name], "");
        let said = String::from_utf8_lossy(&again.stderr);
        assert!(again.status.code() == Some(1) && said.contains(&format!("hallpass {noun} list")), "{said}");
        let record = admin_records(&binary).pop().unwrap();
        assert_eq!((&record["action"], &record["object"]), (&json!(format!("{noun} remove")), &json!(name)));
        assert_eq!((&record["before"]["name"], record.get("after")), (&json!(name), None), "{record}");
        let applied = binary.json(&["apply", "-f", "-"], &yaml);
        assert_eq!(applied["changes"][0]["change"], "create", "{applied}");
        let record = admin_records(&binary).pop().unwrap();
        assert_eq!((&record["after"]["name"], record.get("before")), (&json!(name), None), "{record}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_is_removed_is_taken_from_who_holds_it() {
    let (binary, _upstream) = scene().await;
    binary.ok(&["agent", "register", "helpdesk", "--role", "support", "--role", "buyer"], "");
    let yaml = binary.ok(&["role", "show", "support", "-o", "yaml"], "");
    let said = binary.ok(&["role", "remove", "support"], "");
    assert!(said.contains("taken from: helpdesk"), "{said}");
    assert_eq!(binary.json(&["agent", "show", "helpdesk"], "")["roles"], json!(["buyer"]));
    // Another role of this name gives nobody anything by itself.
    binary.ok(&["apply", "-f", "-"], &yaml);
    assert_eq!(binary.json(&["agent", "show", "helpdesk"], "")["roles"], json!(["buyer"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_removed_is_stopped_and_its_name_is_free() {
    let (binary, _upstream) = scene().await;
    let old = binary.json(&["agent", "register", "helpdesk", "--role", "support"], "");
    let text = |key: &str| old[key].as_str().unwrap().to_owned();
    let http = crate::support::broker::client();
    let token = async || {
        let request = http.post(format!("{}/oauth2/token", binary.public));
        let request = request.basic_auth(text("client_id"), Some(text("client_secret")));
        request.form(&[("grant_type", "client_credentials")]).send().await.unwrap()
    };
    let issued: Value = token().await.json().await.unwrap();
    let call = async || {
        let request = http.get(format!("{}/exchange/crm/v1/contacts", binary.public));
        request.bearer_auth(issued["access_token"].as_str().unwrap()).send().await.unwrap().status().as_u16()
    };
    assert_eq!(call().await, 200);
    binary.ok(&["agent", "remove", "helpdesk"], "");
    assert_eq!((call().await, token().await.status().as_u16()), (401, 401));
    let record = admin_records(&binary).pop().unwrap();
    assert_eq!((&record["action"], &record["before"]["name"]), (&json!("agent remove"), &json!("helpdesk")));
    assert!(!binary.ok(&["agent", "list"], "").contains("helpdesk"));
    let new = binary.json(&["agent", "register", "helpdesk", "--role", "support"], "");
    assert_ne!(new["client_id"], old["client_id"]);
    assert_eq!((call().await, token().await.status().as_u16()), (401, 401), "the name's new holder is another agent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_is_in_use_goes_only_when_somebody_insists() {
    let (binary, _upstream) = scene().await;
    let refused = binary.run(&["credential", "remove", "crm-key"], "");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        refused.status.code() == Some(1) && said.contains("in use by upstream crm") && said.contains("--yes"),
        "{said}"
    );
    assert!(binary.ok(&["credential", "list"], "").contains("crm-key"));
    binary.ok(&["credential", "remove", "crm-key", "--yes"], "");
    assert!(!binary.ok(&["credential", "list"], "").contains("crm-key"));
    // One that nobody uses goes at once.
    binary.ok(&["credential", "put", "spare"], "sk-live-fedcba9876543210");
    binary.ok(&["credential", "remove", "spare"], "");
}

#[tokio::test(flavor = "multi_thread")]
async fn prune_removes_what_a_section_does_not_name_and_nothing_else() {
    let (binary, upstream) = scene().await;
    binary.ok(&["agent", "register", "helpdesk", "--role", "support", "--role", "buyer"], "");
    let document = crm_document(&upstream.url());
    let changes = |answer: &Value| {
        let all = answer["changes"].as_array().unwrap().iter();
        all.map(|one| format!("{} {} {}", one["change"], one["kind"], one["name"]).replace('"', "")).collect::<Vec<_>>()
    };
    // Without the option what is not named stays.
    assert_eq!(changes(&binary.json(&["apply", "-f", "-"], &document)), [""; 0]);
    let dry = binary.json(&["apply", "--prune", "--dry-run", "-f", "-"], &document);
    assert_eq!((changes(&dry), &dry["applied"]), (vec!["remove role buyer".to_owned()], &json!(false)));
    assert!(binary.ok(&["role", "list"], "").contains("buyer"), "a dry run changes nothing");
    let done = binary.json(&["apply", "--prune", "-f", "-"], &document);
    assert_eq!(changes(&done), ["remove role buyer"]);
    assert_eq!(binary.json(&["agent", "show", "helpdesk"], "")["roles"], json!(["support"]));
    // The document has no section of resources, issuers and trust domains; an empty one is a section.
    for (noun, section) in [("resource", "resources"), ("issuer", "issuers"), ("trust-domain", "trust_domains")] {
        assert_eq!(binary.json(&[noun, "list"], "")[section].as_array().unwrap().len(), 1, "{noun}");
        let done = binary.json(&["apply", "--prune", "-f", "-"], &format!("{section}: []"));
        assert_eq!(changes(&done).len(), 1, "{done}");
        assert_eq!(binary.json(&[noun, "list"], "")[section], json!([]), "{noun}");
    }
    // What would refer to something that goes is a mistake, and nothing is changed.
    let broken = "upstreams: []\nroles: [ { name: support, scopes: [\"crm:any\"] } ]";
    let refused = binary.run(&["apply", "--prune", "-f", "-"], broken);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(1) && said.contains("crm:any"), "{said}");
    assert!(binary.ok(&["upstream", "list"], "").contains("crm"));
}
