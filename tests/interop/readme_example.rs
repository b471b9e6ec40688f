//! The README's example, as it stands there, with the OpenAI SDK itself and a stand-in for its API.

use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, Full};

use super::{SECRET, runtime};
use crate::docs::Page;
use crate::support::upstream::{AnswerBody, Seen};
use crate::support::{Binary, Upstream};

/// What the SDK needs of an answer. The key is in it, as an upstream could repeat it.
fn completion(seen: &Seen) -> Response<AnswerBody> {
    let key = seen.headers["authorization"].to_str().unwrap();
    let status = if key == format!("Bearer {SECRET}") { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
    let answer = serde_json::json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-5",
        "choices": [{
            "index": 0, "finish_reason": "stop",
            "message": { "role": "assistant", "content": format!("Hello, your key is {key}") },
        }],
    });
    let body = Full::from(answer.to_string()).map_err(|never| match never {}).boxed_unsync();
    let answer = Response::builder().status(status).header("content-type", "application/json");
    answer.body(body).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_readmes_example_works_with_the_openai_sdk() {
    let readme = Page::of("README.md");
    let (python, definition) = (readme.script("python"), readme.script("yaml"));
    assert!(python.contains("http://127.0.0.1:8600/exchange/openai/v1") && definition.contains("name: openai"));

    let upstream = Upstream::start(completion).await;
    let mut binary = Binary::init(None);
    let script = binary.dir.path().join("example.py");
    let Some(mut command) = runtime::python(script.to_str().unwrap()) else { return };
    binary.serve(None);
    let base = "    base_url: https://api.openai.com\n";
    assert!(definition.contains(base));
    let there = format!("    base_url: {}\n    allow_private: true\n", upstream.url());
    binary.ok(&["apply", "-f", "-"], &definition.replace(base, &there));
    binary.ok(&["credential", "put", "openai-key"], SECRET);
    let agent = binary.json(&["agent", "register", "novelist", "--role", "writer"], "");

    let token = r#"
import base64, json, openai, os, urllib.request
pair = base64.b64encode(f"{os.environ['CLIENT_ID']}:{os.environ['CLIENT_SECRET']}".encode()).decode()
request = urllib.request.Request(os.environ["BROKER"] + "/oauth2/token", b"grant_type=client_credentials")
request.add_header("Authorization", "Basic " + pair)
token = json.load(urllib.request.urlopen(request))["access_token"]
"#;
    let python = python.replace("http://127.0.0.1:8600", &binary.public);
    std::fs::write(&script, format!("{token}{python}\nprint(answer.choices[0].message.content)\n")).unwrap();
    command.env("BROKER", &binary.public);
    command.env("CLIENT_ID", agent["client_id"].as_str().unwrap());
    command.env("CLIENT_SECRET", agent["client_secret"].as_str().unwrap());
    let said = tokio::task::spawn_blocking(move || runtime::run(&mut command, std::time::Duration::from_secs(120)));
    let said = said.await.unwrap().unwrap();
    assert_eq!(said.trim(), "Hello, your key is Bearer [redacted by hallpass]");
    assert_eq!(upstream.seen()[0].uri.path(), "/v1/chat/completions");
}
