//! Errors → HTTP: here, and only here.

use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use hallpass_verify::{DPOP_ALGORITHMS, DpopRefusal, ProofRefusal, Refusal, RevokedBy};
use http::header::{ALLOW, CACHE_CONTROL, HeaderValue, PRAGMA, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};

use crate::broker::CallError;
use crate::error::{Error, Kind};
use crate::http::problem::problem;
use crate::issue::{MAX_SESSIONS_OF_AN_AGENT, TokenError};
use crate::model::AgentStatus;

/// RFC 9457 problem details, with a stable `code` and the request id.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    message: String,
    request_id: Arc<str>,
    /// One per scheme that could help (RFC 9110 §11.6.1), each a header of its own: wget, Java and Python's urllib read the
    /// first word of each header, and no further.
    challenges: Vec<String>,
    /// The methods that the path takes (RFC 9110 §10.2.1).
    allow: Vec<String>,
    /// Further members.
    more: Map<String, Value>,
}

impl Problem {
    /// Of an error; what only the log may know goes to the log.
    pub fn new(error: Error, request_id: &Arc<str>) -> Self {
        let status = status(error.kind);
        if let Some(detail) = &error.detail {
            if status.is_server_error() {
                tracing::warn!(request_id = &**request_id, code = error.code, detail, "request failed");
            } else {
                tracing::debug!(request_id = &**request_id, code = error.code, detail, "request refused");
            }
        }
        Self {
            status,
            code: error.code,
            message: error.message,
            request_id: request_id.clone(),
            challenges: Vec::new(),
            allow: Vec::new(),
            more: Map::new(),
        }
    }

    /// The same with further members.
    pub fn with(mut self, more: Map<String, Value>) -> Self {
        self.more = more;
        self
    }

    /// Tells an OAuth library where to go from here (RFC 9728 §5.1), if this is a challenge.
    pub fn with_resource_metadata(mut self, url: &str) -> Self {
        self.challenges.iter_mut().for_each(|one| one.push_str(&format!(r#", resource_metadata="{url}""#)));
        self
    }

    /// Asks for a password, before anything else, if this is a 401: git, wget, `curl --anyauth`, Java's Authenticator and
    /// Python's urllib send theirs only then, and the last raises where another scheme comes first. The same for every path:
    /// a stranger does not learn from it which upstreams there are.
    pub fn with_password_place(mut self) -> Self {
        if self.status == StatusCode::UNAUTHORIZED {
            self.challenges.insert(0, PASSWORD.to_owned());
        }
        self
    }

    /// Says which of several values this is about.
    pub fn about(mut self, place: Option<String>) -> Self {
        if let Some(place) = place {
            self.message.push_str(&format!(" (the token in {place})"));
        }
        self
    }

    /// A brokered call that was not made, or not answered; its token came under `scheme`.
    pub fn of_call(error: CallError, scheme: &str, request_id: &Arc<str>) -> Self {
        match error {
            CallError::Other(error) => Self::new(error, request_id),
            CallError::Token(refusal) => Self::of_token(refusal, request_id),
            CallError::ProofReplayed => Self::of_proof(ProofRefusal::Replayed.into(), "", request_id),
            CallError::NotBound => Self {
                status: StatusCode::UNAUTHORIZED,
                code: "token_binding_required",
                message: "this upstream takes only tokens that are bound to a key; send a DPoP proof when you ask for \
                          the token, or use a client certificate"
                    .into(),
                request_id: request_id.clone(),
                challenges: vec![challenge_of("DPoP", "invalid_token", "the token is not bound to a key")],
                allow: Vec::new(),
                more: Map::new(),
            },
            CallError::NoOperation(hint) => {
                let mut problem = Self::new(Error::forbidden("operation_not_allowed", hint.sentence), request_id);
                problem.allow = hint.allow;
                problem
            }
            CallError::MissingScope(scope) => Self {
                status: StatusCode::FORBIDDEN,
                code: "insufficient_scope",
                message: format!(
                    "this call takes the scope '{scope}'; ask for a token with it, or ask the admin for a role that gives it"
                ),
                request_id: request_id.clone(),
                // RFC 6750 §3.1, and RFC 9449 §7.1 for the other scheme
                challenges: vec![format!(r#"{scheme} realm="hallpass", error="insufficient_scope", scope="{scope}""#)],
                allow: Vec::new(),
                more: Map::new(),
            },
        }
    }

    /// A token that is not good (RFC 6750 §3.1 `invalid_token`). One that is bound to a key and came as a bearer token
    /// is told how it should have come (RFC 9449 §7.2).
    pub fn of_token(refusal: Refusal, request_id: &Arc<str>) -> Self {
        let mut challenges = vec![bearer_challenge(refusal)];
        let mut advice = advice(refusal);
        if refusal == Refusal::Bound {
            challenges.push(format!(r#"DPoP algs="{}""#, DPOP_ALGORITHMS.join(" ")));
            advice = "send it as 'Authorization: DPoP …' with a proof, or over TLS with the client certificate that it \
                      was issued to";
        }
        Self {
            status: StatusCode::UNAUTHORIZED,
            code: refusal.code(),
            message: format!("{refusal}; {advice}"),
            request_id: request_id.clone(),
            challenges,
            allow: Vec::new(),
            more: Map::new(),
        }
    }

    /// A call that came as `Authorization: DPoP` and whose token or proof is not good (RFC 9449 §7.1, §9). `url` is what
    /// `htu` should be.
    pub fn of_proof(refusal: DpopRefusal, url: &str, request_id: &Arc<str>) -> Self {
        let request_id = request_id.clone();
        let (code, challenges, allow) = (refusal.code(), vec![dpop_challenge(refusal)], Vec::new());
        let message = match refusal {
            DpopRefusal::Proof(ProofRefusal::TooMany) => {
                let (status, code) = (StatusCode::SERVICE_UNAVAILABLE, "too_many_proofs");
                let (challenges, more) = (Vec::new(), Map::new());
                return Self { status, code, message: refusal.to_string(), request_id, challenges, allow, more };
            }
            DpopRefusal::Proof(ProofRefusal::WrongUrl) => format!("{refusal}; it must be {url}"),
            DpopRefusal::Proof(_) => refusal.to_string(),
            DpopRefusal::Token(Refusal::NotBound) => {
                format!("{refusal}; send it as 'Authorization: Bearer …', or ask for one with a DPoP proof")
            }
            DpopRefusal::Token(refusal) => format!("{refusal}; {}", advice(refusal)),
        };
        Self { status: StatusCode::UNAUTHORIZED, code, message, request_id, challenges, allow, more: Map::new() }
    }

    /// No token at all: challenges without an error code (RFC 6750 §3.1, RFC 9449 §7.1). That of DPoP is for those who speak
    /// it; everybody else finds it in the metadata. Its first letter in the last header makes wget 1.21 compute a Digest.
    pub fn no_token(speaks_dpop: bool, request_id: &Arc<str>) -> Self {
        let mut challenges = vec![r#"Bearer realm="hallpass""#.to_owned()];
        if speaks_dpop {
            challenges.push(format!(r#"DPoP realm="hallpass", algs="{}""#, DPOP_ALGORITHMS.join(" ")));
        }
        Self {
            status: StatusCode::UNAUTHORIZED,
            code: "token_missing",
            message: "send your Hallpass token as 'Authorization: Bearer …', as the password of Basic, or where the upstream's own \
                      key would go"
                .into(),
            request_id: request_id.clone(),
            challenges,
            allow: Vec::new(),
            more: Map::new(),
        }
    }
}

/// RFC 7617 §2.
const PASSWORD: &str = r#"Basic realm="hallpass", charset="UTF-8""#;

/// What helps whose token is not good.
fn advice(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Suspended => "no token of it is good until an admin resumes it ('hallpass agent resume')",
        Refusal::Revoked(RevokedBy::Agent) => "its agent is revoked for good: an admin has to register a new one",
        Refusal::Revoked(RevokedBy::Session) => "get a new one at the token endpoint, in a new session",
        _ => "get a new one at the token endpoint",
    }
}

fn bearer_challenge(refusal: Refusal) -> String {
    challenge_of("Bearer", "invalid_token", &refusal.to_string())
}

/// RFC 9449 §7.1.
fn dpop_challenge(refusal: DpopRefusal) -> String {
    let error = match refusal {
        DpopRefusal::Token(_) => "invalid_token",
        DpopRefusal::Proof(refusal) => refusal.code(),
    };
    challenge_of("DPoP", error, &refusal.to_string())
}

fn challenge_of(scheme: &str, error: &str, description: &str) -> String {
    let mut text = format!(r#"{scheme} realm="hallpass", error="{error}", error_description="{description}""#);
    if scheme == "DPoP" {
        text.push_str(&format!(r#", algs="{}""#, DPOP_ALGORITHMS.join(" ")));
    }
    text
}

fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::Invalid => StatusCode::BAD_REQUEST,
        Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Kind::Misdirected => StatusCode::MISDIRECTED_REQUEST,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::NotImplemented => StatusCode::NOT_IMPLEMENTED,
        Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::BadGateway => StatusCode::BAD_GATEWAY,
        Kind::GatewayTimeout => StatusCode::GATEWAY_TIMEOUT,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = problem(self.status, self.code, &self.message, &self.request_id, self.more);
        let headers = response.headers_mut();
        self.challenges.iter().for_each(|one| challenge(headers, Some(one)));
        if let Some(allow) = HeaderValue::from_str(&self.allow.join(", ")).ok().filter(|_| !self.allow.is_empty()) {
            headers.insert(ALLOW, allow);
        }
        response
    }
}

/// RFC 6749 §5.2: what the token, introspection and revocation endpoints answer.
#[derive(Debug)]
pub struct OAuthError {
    error: TokenError,
    request_id: Arc<str>,
    bearer: Option<BearerError>,
}

/// Why a bearer was turned away at an endpoint that also takes clients (RFC 6750 §3.1).
#[derive(Debug)]
enum BearerError {
    Token(Refusal),
    Proof(DpopRefusal),
    Scope(&'static str),
}

impl OAuthError {
    /// Of an error.
    pub fn new(error: TokenError, request_id: &Arc<str>) -> Self {
        Self { error, request_id: request_id.clone(), bearer: None }
    }

    /// A bearer token that was presented instead of client authentication and is not good.
    pub fn of_bearer(refusal: Refusal, request_id: &Arc<str>) -> Self {
        let bearer = Some(BearerError::Token(refusal));
        Self { error: TokenError::InvalidClient, request_id: request_id.clone(), bearer }
    }

    /// As [`Self::of_bearer`], of a token that came with a DPoP proof.
    pub fn of_proof(refusal: DpopRefusal, request_id: &Arc<str>) -> Self {
        let error = match refusal {
            DpopRefusal::Proof(refusal @ ProofRefusal::TooMany) => TokenError::Proof(refusal),
            _ => TokenError::InvalidClient,
        };
        let bearer = (error == TokenError::InvalidClient).then_some(BearerError::Proof(refusal));
        Self { error, request_id: request_id.clone(), bearer }
    }

    /// A good bearer token without the scope that this takes.
    pub fn of_scope(scope: &'static str, request_id: &Arc<str>) -> Self {
        let error = TokenError::UnauthorizedClient(format!("this takes a token with the scope {scope}"));
        Self { error, request_id: request_id.clone(), bearer: Some(BearerError::Scope(scope)) }
    }
}

impl IntoResponse for OAuthError {
    fn into_response(self) -> Response {
        let description = match &self.error {
            TokenError::InvalidRequest(text)
            | TokenError::UnauthorizedClient(text)
            | TokenError::InvalidGrant(text)
            | TokenError::InvalidScope(text)
            | TokenError::InvalidTarget(text) => text.clone(),
            TokenError::InvalidClient => match self.bearer {
                Some(BearerError::Token(refusal) | BearerError::Proof(DpopRefusal::Token(refusal))) => {
                    format!("{refusal}; {}", advice(refusal))
                }
                Some(BearerError::Proof(refusal)) => refusal.to_string(),
                _ => "client authentication failed: check client_id, and its secret, assertion or certificate".into(),
            },
            TokenError::BadAssertion(text) => (*text).to_owned(),
            TokenError::Stopped { status: AgentStatus::Suspended, .. } => {
                "this agent is suspended: it gets no token until an admin resumes it ('hallpass agent resume')".into()
            }
            TokenError::Stopped { .. } => "this agent is revoked for good: an admin has to register a new one".into(),
            TokenError::TooManySessions(_) => format!(
                "this agent has {MAX_SESSIONS_OF_AN_AGENT} sessions, and none of them is like the one that is asked for; pass \
                 session_id to go on in one of them, or wait as Retry-After says: then the first of them ends"
            ),
            TokenError::AssertionsFull => {
                "too many client assertions are in use: let them end soon after they are made, \
                                           and try again as Retry-After says"
                    .into()
            }
            TokenError::Proof(refusal) => refusal.to_string(),
            TokenError::Slowed(_) => "too many secrets were wrong: wait as Retry-After says, then try again".into(),
            TokenError::UnsupportedGrantType => {
                "the grant types are in the metadata; this one is not among them".into()
            }
            TokenError::Unavailable => {
                "nothing can be recorded now, so nothing is issued; try again in a moment".into()
            }
            TokenError::Internal(detail) => {
                tracing::error!(request_id = &*self.request_id, detail, "token request failed");
                "Hallpass failed inside; the operator finds the reason in its log under this request id".into()
            }
        };
        let status = match &self.error {
            _ if matches!(self.bearer, Some(BearerError::Scope(_))) => StatusCode::FORBIDDEN,
            TokenError::InvalidClient | TokenError::BadAssertion(_) | TokenError::Slowed(_) => StatusCode::UNAUTHORIZED,
            TokenError::Unavailable | TokenError::AssertionsFull | TokenError::Proof(ProofRefusal::TooMany) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            TokenError::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
            TokenError::TooManySessions(_) => StatusCode::TOO_MANY_REQUESTS,
            TokenError::Stopped { by_grant: false, .. } => StatusCode::UNAUTHORIZED,
            _ => StatusCode::BAD_REQUEST,
        };
        let code = match self.bearer {
            Some(BearerError::Token(_) | BearerError::Proof(DpopRefusal::Token(_))) => "invalid_token",
            Some(BearerError::Proof(DpopRefusal::Proof(refusal))) => refusal.code(),
            Some(BearerError::Scope(_)) => "insufficient_scope",
            None => self.error.code(),
        };
        let reason = if self.bearer.is_some() { code } else { self.error.reason() };
        let body = json!({
            "error": code,
            "error_description": printable(&description),
            "code": reason,
            "request_id": &*self.request_id,
        });
        let mut response = (status, Json(body)).into_response();
        no_store(response.headers_mut());
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.error == TokenError::AssertionsFull {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("60"));
        }
        if let TokenError::Slowed(seconds) | TokenError::TooManySessions(seconds) = self.error {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        let text = match self.bearer {
            Some(BearerError::Token(refusal)) => Some(bearer_challenge(refusal)),
            Some(BearerError::Proof(refusal)) => Some(dpop_challenge(refusal)),
            Some(BearerError::Scope(scope)) => {
                Some(format!(r#"Bearer realm="hallpass", error="insufficient_scope", scope="{scope}""#))
            }
            // §5.2: the scheme that the client used, or could have used.
            None => (status == StatusCode::UNAUTHORIZED).then(|| PASSWORD.to_owned()),
        };
        challenge(response.headers_mut(), text.as_deref());
        response
    }
}

/// RFC 6749 §5.2 allows %x20-21 / %x23-5B / %x5D-7E in `error_description`.
fn printable(text: &str) -> String {
    text.chars().map(|c| if matches!(c, ' ' | '!' | '#'..='[' | ']'..='~') { c } else { '\'' }).collect()
}

/// RFC 6749 §5.1: an answer with a token in it is kept by nobody on the way.
pub(super) fn no_store(headers: &mut HeaderMap) {
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
}

fn challenge(headers: &mut HeaderMap, text: Option<&str>) {
    if let Some(value) = text.and_then(|text| HeaderValue::from_str(text).ok()) {
        headers.append(WWW_AUTHENTICATE, value);
    }
}
