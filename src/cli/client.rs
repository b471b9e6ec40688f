//! Talking to the broker's admin socket.

use std::path::PathBuf;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use crate::cli::Failure;

/// The admin API of one broker.
#[derive(Debug)]
pub(super) struct AdminClient {
    socket: PathBuf,
}

impl AdminClient {
    pub(super) fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.send(Method::GET, path, None).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.send(Method::POST, path, Some(body)).await
    }

    pub(super) async fn delete(&self, path: &str) -> Result<Value, Failure> {
        self.send(Method::DELETE, path, None).await
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let unreachable = |error: &dyn std::fmt::Display| {
            let socket = self.socket.display();
            Failure::Unreachable(format!(
                "no broker answers at {socket} ({error}); is 'hallpass serve' running with this configuration?"
            ))
        };
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| match error.kind() {
            std::io::ErrorKind::PermissionDenied => Failure::Failed(format!(
                "{}: only root and the server's own user may use the admin socket",
                self.socket.display()
            )),
            _ => unreachable(&error),
        })?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(&error))?;
        let driver = tokio::spawn(connection);
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "hallpass")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| Failure::Usage(format!("this name cannot be sent: {error}")))?;
        let answer = sender.send_request(request).await.map_err(|error| unreachable(&error))?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(|error| unreachable(&error))?.to_bytes();
        driver.abort();
        let value: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        if status.is_success() { Ok(value) } else { Err(refused(&value, status)) }
    }
}

fn refused(problem: &Value, status: http::StatusCode) -> Failure {
    let text = |key: &str| problem.get(key).and_then(Value::as_str).unwrap_or_default();
    let mut message = match text("detail") {
        "" => format!("the broker answered {status}"),
        detail => detail.to_owned(),
    };
    for mistake in problem.get("mistakes").and_then(Value::as_array).into_iter().flatten() {
        let part = |key: &str| mistake.get(key).and_then(Value::as_str).unwrap_or_default();
        message.push_str(&format!("\n  {}: {}; {}", part("at"), part("problem"), part("fix")));
    }
    if status.is_server_error() {
        message.push_str(&format!(" [{} {}]", text("code"), text("request_id")));
    }
    Failure::Failed(message)
}

/// A name as one segment of a path.
pub(super) fn segment(name: &str) -> String {
    percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC).to_string()
}
