//! What every request passes first, on every listener: who is meant, and whether it can be read in one way only.

use axum::response::Response;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Uri};
use http::{Method, Request, StatusCode, Version};

use crate::error::Error;
use crate::http::authority::{is_host, is_ours, is_same};
use crate::http::extract::{MAX_FORM, REQUEST_ID, RequestId};
use crate::http::problem::{name_for, say_source};
use crate::http::reply::Problem;
use crate::http::{PublicState, accept};
use crate::listen::Connection;
use crate::model::Origin;
use crate::secret::ordered_id;
use crate::world::World;

/// What is kept of a request until its answer goes out.
pub(super) struct Entered {
    /// Which request it is, and from where.
    pub(super) origin: Origin,
    method: Method,
    may_stay_unread: bool,
    problem_name: &'static str,
}

/// A request came.
pub(super) fn enter<B>(world: &World, request: &Request<B>) -> Entered {
    let client = request.extensions().get::<Connection>().and_then(|connection| connection.address);
    let id = ordered_id("rq_", world.now(), world.entropy.as_ref());
    Entered {
        origin: Origin { request: id.into(), client: client.map(|address| address.to_canonical()) },
        method: request.method().clone(),
        may_stay_unread: request.version() < Version::HTTP_2 && may_be_large(request.headers()),
        problem_name: accept::name_of_problem(request.headers()),
    }
}

/// Refuses what could be read in two ways, and brings what is left into origin form. `public`: at the public listener.
pub(super) fn check<B>(public: Option<&PublicState>, request: &mut Request<B>) -> Result<(), Error> {
    unambiguous(request)?;
    in_origin_form(public, request)
}

impl Entered {
    /// The answer goes out; `route` gave it.
    pub(super) fn leave(self, is_public: bool, route: &str, response: &mut Response) {
        let id = &self.origin.request;
        if let Ok(id) = HeaderValue::from_str(id) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        name_for(self.problem_name, response);
        if is_public {
            say_source(response);
        }
        let status = response.status();
        if self.may_stay_unread && status.is_client_error() {
            // RFC 9112 §9.6: what is refused unread ends the connection, and a client that is not told sends its next request on it.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        metrics::counter!("hallpass_http_responses_total", "class" => class(status)).increment(1);
        // The route and not the path: a path may carry what an agent looked for, a query its token.
        tracing::debug!(request_id = &**id, method = %self.method, route, status = status.as_u16(), "answered");
    }
}

/// Whether a body comes that does not fit into what is read at once, as far as its sender says.
fn may_be_large(headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    headers.contains_key(header::TRANSFER_ENCODING) || length.is_some_and(|length| length > MAX_FORM as u64)
}

fn class(status: StatusCode) -> &'static str {
    match status.as_u16() {
        ..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        _ => "5xx",
    }
}

/// What two parsers could read in two ways is refused (P8).
fn unambiguous<B>(request: &Request<B>) -> Result<(), Error> {
    if request.method() == Method::CONNECT || request.method() == Method::TRACE {
        return Err(Error::invalid("method_not_supported", "CONNECT and TRACE are not for this server"));
    }
    if request.uri().authority().is_some() && request.uri().scheme().is_none() {
        // RFC 9112 §3.2.3: `host:port` alone is for CONNECT.
        return Err(Error::invalid("target_authority_form", "write the path, not a host, in the request line"));
    }
    if request.version() == Version::HTTP_11 && !request.headers().contains_key(header::HOST) {
        // RFC 9112 §3.2: a server must refuse it, and likewise a Host that is none.
        return Err(Error::invalid("host_missing", "Host is missing; send the broker's name in it"));
    }
    let is_good =
        |value: &HeaderValue| Authority::try_from(value.as_bytes()).is_ok_and(|authority| is_host(&authority));
    // HTTP/2 says the host in `:authority`, where the same holds.
    let is_named_well = request.uri().authority().is_none_or(is_host);
    if !is_named_well || !request.headers().get_all(header::HOST).iter().all(is_good) {
        return Err(Error::invalid("host_invalid", "Host is no host name; send the broker's name in it"));
    }
    if request.extensions().get::<Connection>().is_some_and(|connection| connection.malformed) {
        return Err(Error::invalid("client_cert_malformed", "the proxy's Client-Cert is not as RFC 9440 writes it"));
    }
    let mut codings = request.headers().get_all(header::TRANSFER_ENCODING).iter();
    if codings
        .next()
        .is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"chunked") || codings.next().is_some())
    {
        // RFC 9112 §6.1: chunked is applied once, and last. What else stands there, somebody reads as another framing.
        return Err(Error::invalid("transfer_encoding", "send Transfer-Encoding once, as chunked, or not at all"));
    }
    for name in [header::HOST, header::CONTENT_LENGTH, header::CONTENT_TYPE] {
        once(request.headers(), &name)?;
    }
    Ok(())
}

pub(super) fn once(headers: &HeaderMap, name: &HeaderName) -> Result<(), Error> {
    if headers.get_all(name).iter().nth(1).is_some() {
        return Err(Error::invalid("duplicate_header", format!("{name} is there twice; send it once")));
    }
    Ok(())
}

/// The request as if it had come in origin form, with the one authority that it names in `Host`.
///
/// RFC 9112 §3.2.2: a server must take a whole URL in the request line, whose authority then counts and not `Host`. It is
/// taken where it names us; for anybody else we would be an open proxy, so that is 421 (RFC 9110 §15.5.20). A `Host` beside
/// it, or beside HTTP/2's `:authority`, that names another server is refused: who stands before us may have gone by the one,
/// and we would go by the other (P8; RFC 9113 §8.3.1 calls it malformed).
fn in_origin_form<B>(public: Option<&PublicState>, request: &mut Request<B>) -> Result<(), Error> {
    let (Some(scheme), Some(authority)) = (request.uri().scheme_str(), request.uri().authority()) else {
        return Ok(());
    };
    let is_http_1 = request.version() < Version::HTTP_2;
    let connection = request.extensions().get::<Connection>().cloned().unwrap_or_default();
    if is_http_1 && !is_ours(public, scheme, authority, &connection) {
        return Err(Error::misdirected(
            "target_not_ours",
            "the URL in the request line names another server; write the path only, or the broker's own address",
        ));
    }
    let host = request.headers().get(header::HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
    if host.is_some_and(|host| !is_same(scheme, authority, &host)) {
        return Err(Error::invalid(
            "host_differs",
            "Host names another server than the request's target does; send the same in both, or the target alone",
        ));
    }
    if is_http_1 {
        let authority = HeaderValue::from_str(authority.as_str()).map_err(Error::internal)?;
        let target = request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        request.headers_mut().insert(header::HOST, authority);
        *request.uri_mut() = Uri::from(target);
    }
    Ok(())
}

/// 404 in the form of all errors.
pub(super) async fn no_such_route(axum::Extension(id): axum::Extension<RequestId>) -> Problem {
    Problem::new(
        Error::not_found("no_such_route", "there is nothing at this path; see the README for the endpoints"),
        &id.0,
    )
}

/// 405 in the form of all errors.
pub(super) async fn no_such_method(axum::Extension(id): axum::Extension<RequestId>) -> Problem {
    Problem::new(Error::method_not_allowed("method_not_allowed", "this path does not take this method"), &id.0)
}
