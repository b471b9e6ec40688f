//! The bare proxy: what is left of a brokered call when nothing is checked, recorded, opened or searched.

use std::net::SocketAddr;

use anyhow::Result;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{HOST, HeaderName, HeaderValue};
use axum::http::uri::{Authority, Scheme};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use axum::serve::ListenerExt as _;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;

use crate::broker::{API_KEY, API_KEY_HEADER};

#[derive(Clone)]
struct Forward {
    client: Client<HttpConnector, Body>,
    upstream: Authority,
}

pub(super) async fn serve(listener: TcpListener, upstream: SocketAddr) -> Result<()> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client = Client::builder(TokioExecutor::new()).build(connector);
    let state = Forward { client, upstream: Authority::try_from(upstream.to_string())? };
    let router = axum::Router::new().fallback(forward).with_state(state);
    let listener = listener.tap_io(|stream| _ = stream.set_nodelay(true));
    axum::serve(listener, router).await?;
    Ok(())
}

async fn forward(State(state): State<Forward>, mut request: Request) -> Response {
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(state.upstream);
    let Ok(uri) = Uri::from_parts(parts) else { return StatusCode::BAD_REQUEST.into_response() };
    *request.uri_mut() = uri;
    request.headers_mut().remove(HOST);
    request.headers_mut().insert(HeaderName::from_static(API_KEY_HEADER), HeaderValue::from_static(API_KEY));
    match state.client.request(request).await {
        Ok(response) => response.into_response(),
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}
