//! The main job, end to end, in one process.

use serde_json::Value;

use crate::support::{TestBroker, Upstream};

#[tokio::test(flavor = "multi_thread")]
async fn a_token_a_call_and_the_end() {
    let upstream = Upstream::echo().await;
    let broker = TestBroker::start().await;
    let secret = "sk-live-0123456789abcdef";
    let (_, token) = broker.with_crm(&upstream.url(), secret).await;

    let answer = broker.call(reqwest::Method::GET, "/crm/v1/contacts/7?q=1", &token).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let text = answer.text().await.unwrap();
    assert!(!text.contains(secret), "{text}");
    assert!(!text.contains(&token), "{text}");
    let seen = upstream.seen();
    assert_eq!(seen[0].headers["x-api-key"], secret);
    assert_eq!(seen[0].uri, "/v1/contacts/7?q=1");
    let outcome = broker.wait_for_record(|record| record["kind"] == "call.outcome").await;
    assert_eq!(outcome["status"], 200);
    assert_eq!(outcome["redactions"], 1);

    broker.admin_ok("POST", "/admin/v1/agents/helpdesk/revoke", Value::Null).await;
    let answer = broker.call(reqwest::Method::GET, "/crm/v1/contacts/7", &token).send().await.unwrap();
    assert_eq!(answer.status(), 401);
    assert_eq!(upstream.seen().len(), 1);
}
