//! From which address a request came stands in the record of every kind that a request leaves.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Engine, TestBroker, Upstream};
use hallpass::app::Surroundings;

/// A broker behind a proxy on this machine.
async fn behind_a_proxy() -> TestBroker {
    let proxies = ("HALLPASS_LISTEN__TRUSTED_PROXIES", "127.0.0.0/8");
    TestBroker::start_with(Engine::Sqlite, Surroundings::default(), &[proxies]).await.unwrap()
}

/// The addresses of the records of this kind, those of another reason apart.
fn clients(records: &[Value], kind: &str, reason: Option<&str>) -> Vec<Value> {
    let fits = |one: &&Value| one["kind"] == kind && reason.is_none_or(|reason| one["reason"] == reason);
    records.iter().filter(fits).map(|one| one["client"].clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_calls_refusals_and_revocations_say_it_and_behind_a_listed_proxy_it_is_the_real_one() {
    for is_behind in [true, false] {
        let broker = if is_behind { behind_a_proxy().await } else { TestBroker::start().await };
        // Without a listed proxy this is what anybody can write.
        let expected = json!(if is_behind { "203.0.113.7" } else { "127.0.0.1" });
        let seen = |request: reqwest::RequestBuilder| request.header("x-forwarded-for", "198.51.100.9, 203.0.113.7");
        let upstream = Upstream::echo().await;
        let (agent, token) = broker.with_crm(&upstream.url(), "sk-live-abcdefghij").await;
        let oauth = |path: &str, secret: &str, form: &[(&str, &str)]| {
            let request = broker.http.post(broker.url(path)).basic_auth(&agent.client_id, Some(secret));
            seen(request).form(form).send()
        };
        let grant = [("grant_type", "client_credentials")];
        let issued: Value = oauth("/oauth2/token", &agent.client_secret, &grant).await.unwrap().json().await.unwrap();
        let wrong = oauth("/oauth2/token", "not-the-secret", &grant).await.unwrap();
        assert_eq!(wrong.status(), 401);
        let scope = [grant[0], ("scope", "crm:nothing")];
        assert_eq!(oauth("/oauth2/token", &agent.client_secret, &scope).await.unwrap().status(), 400);

        for (path, status) in [("/crm/v1/contacts", 200), ("/crm/nowhere", 403)] {
            assert_eq!(seen(broker.call(Method::GET, path, &token)).send().await.unwrap().status(), status, "{path}");
        }
        let revoked = issued["access_token"].as_str().unwrap();
        let answer = oauth("/oauth2/revoke", &agent.client_secret, &[("token", revoked)]).await.unwrap();
        assert_eq!(answer.status(), 200);
        let late = seen(broker.call(Method::GET, "/crm/v1/contacts", revoked)).send().await.unwrap();
        assert_eq!(late.status(), 401);

        broker.wait_for_record(|one| one["kind"] == "call.outcome").await;
        broker.wait_for_record(|one| one["reason"] == "token_revoked").await;
        let records = broker.records().await;
        assert_eq!(&clients(&records, "token.issued", None)[1..], std::slice::from_ref(&expected));
        for (kind, reason) in [
            ("token.refused", Some("client_secret_malformed")),
            ("token.refused", Some("invalid_scope")),
            ("call.intent", None),
            ("call.outcome", None),
            ("call.refused", Some("operation_not_allowed")),
            ("call.refused", Some("token_revoked")),
            ("revocation", None),
        ] {
            let found = clients(&records, kind, reason);
            assert_eq!(found, std::slice::from_ref(&expected), "{kind} {reason:?}: {records:#?}");
        }
        // Over the socket there is no address, and what the broker does by itself came from nowhere.
        assert!(clients(&records, "admin", None).iter().chain(&clients(&records, "broker", None)).all(Value::is_null));
    }
}
