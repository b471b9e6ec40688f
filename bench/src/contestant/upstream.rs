//! The API behind the proxies: as little work as an HTTP server can do.

use std::convert::Infallible;

use anyhow::Result;
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// Bytes of an ordinary answer.
pub(crate) const ANSWER_BYTES: usize = 1024;

/// Bytes of a download or an upload.
pub(crate) const TRANSFER_BYTES: usize = 64 * 1024 * 1024;

/// Bytes that the download is given out in.
const PIECE_BYTES: usize = 64 * 1024;

type Body = BoxBody<Bytes, Infallible>;

pub(super) async fn serve(listener: TcpListener) -> Result<()> {
    let answer = Bytes::from(json_text(ANSWER_BYTES));
    let piece = Bytes::from(json_text(PIECE_BYTES));
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (answer, piece) = (answer.clone(), piece.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| reply(request, answer.clone(), piece.clone()));
            // A client that goes away is no matter here.
            _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn reply(request: Request<Incoming>, answer: Bytes, piece: Bytes) -> Result<Response<Body>, hyper::Error> {
    let is_download = request.method() == Method::GET && request.uri().path().ends_with("/source");
    let mut body = request.into_body();
    while let Some(frame) = body.frame().await {
        frame?;
    }
    let body = if is_download { download(piece) } else { Full::new(answer).boxed() };
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if is_download {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(TRANSFER_BYTES));
    }
    Ok(response)
}

fn download(piece: Bytes) -> Body {
    let pieces = (0..TRANSFER_BYTES / PIECE_BYTES).map(move |_| Ok(Frame::data(piece.clone())));
    StreamBody::new(futures_util::stream::iter(pieces)).boxed()
}

/// JSON as APIs send it, with escapes in it, so that whoever searches it has something to look at.
fn json_text(bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 128);
    let mut n = 0_u64;
    while text.len() < bytes {
        // A number that looks random and is the same in every run (splitmix64's constants).
        n += 1;
        let odd = (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (n << 17)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        text.push_str(&format!(
            r#"{{"id":{n},"key":"{odd:016x}","name":"Ada \u00e9 Lovelace","url":"https:\/\/example.com\/c\/{n}"}},"#
        ));
    }
    text.truncate(bytes);
    text
}
