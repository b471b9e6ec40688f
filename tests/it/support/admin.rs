//! The admin API, over its unix socket.

use std::path::Path;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;

/// Nobody is there, or was gone before it had answered.
pub(crate) type Gone = Box<dyn std::error::Error + Send + Sync>;

/// One request: status and JSON.
pub(crate) async fn admin(socket: &Path, method: &str, path: &str, body: &Value) -> Result<(u16, Value), Gone> {
    let stream = tokio::net::UnixStream::connect(socket).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
    let request = http::Request::builder().method(method).uri(path).header("host", "hallpass").body(Full::new(body))?;
    let answer = sender.send_request(request).await?;
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await?.to_bytes();
    Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
}
