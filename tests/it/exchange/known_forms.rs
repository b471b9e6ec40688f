//! What an upstream knows is not always what was stored: HTTP trims, parsers strip and decode. None of it reaches the
//! agent (P1), and `credential put` asks before it stores such a value.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use data_encoding::HEXLOWER;
use http::StatusCode;
use reqwest::Method;
use serde_json::json;

use super::{HEADER, document, outcome};
use crate::support::upstream::text;
use crate::support::{TestBroker, Upstream};

const KEY: &str = "sk-live-abcdefghij";

/// What an upstream makes of the value that it received.
type Understood = fn(&[u8]) -> Vec<u8>;

/// An upstream that answers with what it received as a key after it did this to it.
async fn echo_of(understood: Understood) -> Upstream {
    Upstream::start(move |seen| {
        let header = seen.headers.get("x-api-key").or_else(|| seen.headers.get("authorization"));
        let known = understood(header.map(|value| value.as_bytes()).unwrap_or_default());
        let known = String::from_utf8_lossy(&known).into_owned();
        let mut answer = text(
            StatusCode::OK,
            &json!({ "key": known, "hex": HEXLOWER.encode(known.as_bytes()), "b64": STANDARD.encode(&known) })
                .to_string(),
        );
        if let Ok(value) = http::HeaderValue::from_str(&known) {
            answer.headers_mut().insert("x-key", value);
        }
        answer
    })
    .await
}

fn as_it_comes(value: &[u8]) -> Vec<u8> {
    value.to_vec()
}

fn without_quotes(value: &[u8]) -> Vec<u8> {
    String::from_utf8_lossy(value).replace(['"', '\''], "").into_bytes()
}

fn last_word(value: &[u8]) -> Vec<u8> {
    value.rsplit(|byte| b" \t=:,".contains(byte)).find(|word| word.len() >= 8).unwrap_or_default().to_vec()
}

fn only_ascii(value: &[u8]) -> Vec<u8> {
    value.iter().copied().filter(u8::is_ascii_graphic).collect()
}

/// As WSGI and servlets read header values.
fn as_latin1(value: &[u8]) -> Vec<u8> {
    value.iter().map(|byte| char::from(*byte)).collect::<String>().into_bytes()
}

fn pair_of_basic(value: &[u8]) -> Vec<u8> {
    let word = value.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    STANDARD.decode(word).map(|pair| pair.split(|byte| *byte == b':').next_back().unwrap().to_vec()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_what_an_upstream_makes_of_a_stored_value_is_redacted_too() {
    let ready_made = format!("Basic {}", STANDARD.encode(format!("user:{KEY}")));
    let cases: [(&str, String, Understood); 15] = [
        ("a blank behind", format!("{KEY} "), as_it_comes),
        ("a blank before", format!("  {KEY}"), as_it_comes),
        ("a mark before", format!("\u{feff}{KEY}"), only_ascii),
        ("zero width", "sk-live\u{200b}-abcdefghij".to_owned(), only_ascii),
        ("no-break space", format!("{KEY}\u{a0}"), only_ascii),
        ("soft hyphen", format!("{KEY}\u{ad}"), only_ascii),
        ("quotes", format!("\"{KEY}\""), without_quotes),
        ("a quote", format!("{KEY}'"), without_quotes),
        ("a scheme", format!("Bearer {KEY}"), last_word),
        ("a scheme of its own", format!("MyVendorKey {KEY}"), last_word),
        ("a name", format!("KEY={KEY}"), last_word),
        ("an exported name", format!("export KEY={KEY}"), last_word),
        ("a header", format!("X-Api-Key: {KEY}"), last_word),
        ("Latin-1", format!("{KEY}-\u{fc}\u{df}"), as_latin1),
        ("a pair in base64", ready_made, pair_of_basic),
    ];
    let broker = TestBroker::start().await;
    for (n, (name, stored, understood)) in cases.into_iter().enumerate() {
        let upstream = echo_of(understood).await;
        broker.apply(&document(&upstream.url(), HEADER, "")).await;
        let value = STANDARD.encode(&stored);
        let (status, refused) =
            broker.admin("POST", "/admin/v1/credentials/crm-key", json!({ "value_base64": value })).await;
        assert_eq!(status, 400, "{name}: {refused}");
        let told = refused.to_string();
        assert!(told.contains("--as-is") && told.contains("as_is") && !told.contains("abcdefghij"), "{name}: {told}");
        let input = json!({ "value_base64": value, "as_is": true });
        broker.admin_ok("POST", "/admin/v1/credentials/crm-key", input).await;
        let agent = broker.register(&format!("agent-{n}"), &["support"]).await;
        let token = broker.token(&agent).await;
        let answer = broker.call(Method::GET, "/crm/a", &token).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{name}");
        let head = format!("{:?}", answer.headers());
        let body = answer.text().await.unwrap();
        for leak in [
            "abcdefgh".to_owned(),
            HEXLOWER.encode(b"live-abcdef"),
            STANDARD.encode(KEY)[..12].to_owned(),
            STANDARD.encode(&stored)[8..20].to_owned(),
        ] {
            assert!(!body.contains(&leak) && !head.contains(&leak), "{name}: {leak} in {body} {head}");
        }
        assert!(outcome(&broker, n).await["redactions"].as_u64().unwrap() >= 3, "{name}: {body}");
        assert!(!upstream.seen().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_what_is_trimmed_from_a_password_in_basic_is_redacted_too() {
    let broker = TestBroker::start().await;
    let upstream = echo_of(|value| {
        let pair = pair_of_basic(value);
        String::from_utf8_lossy(&pair).trim().as_bytes().to_vec()
    })
    .await;
    broker.apply(&document(&upstream.url(), "{ kind: basic, username: broker, credential: crm-key }", "")).await;
    broker.put_credential("crm-key", &format!(" {KEY} ")).await;
    let agent = broker.register("helpdesk", &["support"]).await;
    let token = broker.token(&agent).await;
    let body = broker.call(Method::GET, "/crm/a", &token).send().await.unwrap().text().await.unwrap();
    assert!(!body.contains("abcdefgh") && !body.contains(&STANDARD.encode(KEY)[..12]), "{body}");
    assert_eq!(outcome(&broker, 0).await["redactions"], 4, "{body}");
}
