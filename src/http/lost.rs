//! Paths that lead nowhere, at the public listener: what to write instead, for callers with a good token. A stranger learns
//! nothing that is not in the documentation.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State as AxumState};
use axum::response::{IntoResponse, Response};
use hallpass_verify::Claims;
use http::request::Parts as RequestParts;

use crate::error::Error;
use crate::http::PublicState;
use crate::http::extract::RequestId;
use crate::http::front;
use crate::http::reply::Problem;
use crate::listen::{Authenticated, Connection};
use crate::model::AgentStatus;
use crate::policy::{CompiledUpstream, View, nearest_name};
use crate::registry::Definitions;

/// 404 in the form of all errors, with advice for those who may have it.
pub(super) async fn no_such_route(
    AxumState(state): AxumState<PublicState>,
    Extension(RequestId(id)): Extension<RequestId>,
    request: Request,
) -> Response {
    let (mut parts, _) = request.into_parts();
    let Some(claims) = who(&state, &mut parts) else {
        return front::no_such_route(Extension(RequestId(id))).await.into_response();
    };
    let advice = advice(&state, &claims, parts.uri.path())
        .unwrap_or_else(|| "there is nothing at this path; brokered calls go to /exchange/UPSTREAM/PATH".to_owned());
    let mut response = Problem::new(Error::not_found("no_such_route", advice), &id).into_response();
    response.extensions_mut().insert(Authenticated);
    response
}

/// Whose good token this is, if it is one. A bad token is nobody's here: the answer is then the one for strangers.
fn who(state: &PublicState, parts: &mut RequestParts) -> Option<Claims> {
    let url = format!("{}{}", state.issuer_url, parts.uri.path());
    let certificate = parts.extensions.get::<Connection>().and_then(Connection::thumbprint);
    state.broker.whose(&mut parts.headers, &parts.method, &url, certificate, &state.dpop)
}

/// What the caller may call, upstream by upstream.
struct Reached {
    definitions: Arc<Definitions>,
    agent: Arc<crate::model::Agent>,
    claims: Claims,
}

impl Reached {
    fn of(state: &PublicState, claims: &Claims) -> Option<Self> {
        let agent = state.registry.agent(&claims.client_id).filter(|agent| agent.status == AgentStatus::Active)?;
        Some(Self { definitions: state.registry.definitions(), agent, claims: claims.clone() })
    }

    fn may(&self, scope: &str) -> bool {
        self.claims.scope.contains(scope) && self.definitions.gives(&self.agent, scope)
    }

    fn names(&self) -> Vec<&str> {
        let upstreams = self.definitions.upstreams();
        let reached = upstreams.filter(|one| View::new(one, |scope: &str| self.may(scope)).is_reached());
        reached.map(|one| &**one.name()).collect()
    }

    /// Where this path would lead, if it stood behind an upstream's name, by an operation that names a part of it.
    fn address_of(&self, path: &str) -> Option<String> {
        self.definitions.upstreams().find_map(|one| {
            let view = View::new(one, |scope: &str| self.may(scope));
            view.takes_by_name(path).then(|| view.address(path))
        })
    }

    /// As [`Self::address_of`], where there is one upstream only: an operation that takes every path does not say which
    /// upstream was meant.
    fn only_address_of(&self, path: &str) -> Option<String> {
        let is_reached = |one: &&Arc<CompiledUpstream>| View::new(one, |scope: &str| self.may(scope)).is_reached();
        let mut reached = self.definitions.upstreams().filter(is_reached);
        let (Some(only), None) = (reached.next(), reached.next()) else { return None };
        let view = View::new(only, |scope: &str| self.may(scope));
        (!view.methods(path).is_empty()).then(|| view.address(path))
    }

    /// The upstream whose name is most like this one.
    fn nearest(&self, name: &str) -> Option<&str> {
        nearest_name(name, self.names().into_iter())
    }
}

fn advice(state: &PublicState, claims: &Claims, path: &str) -> Option<String> {
    let reached = Reached::of(state, claims)?;
    if path.contains("//") {
        return Some("the path has two slashes in a row; write one".to_owned());
    }
    let mut segments = path.split('/').skip(1);
    let (first, second) = (segments.next().unwrap_or_default(), segments.next());
    let names = reached.names();
    if first != "exchange" && first.eq_ignore_ascii_case("exchange") {
        return Some("write /exchange in lower case".to_owned());
    }
    if path == "/" || (first == "exchange" && second.is_none_or(str::is_empty)) {
        let names = if names.is_empty() { "none yet".to_owned() } else { names.join(", ") };
        return Some(format!("say which upstream, as in /exchange/UPSTREAM/PATH; yours: {names}"));
    }
    if names.contains(&first) {
        return Some(format!("'/exchange' is missing in front; write /exchange{path}"));
    }
    let missing = |what: String| format!("'/exchange/UPSTREAM' is missing in front; {what}");
    if let Some(address) = reached.address_of(path) {
        return Some(missing(format!("write {address}")));
    }
    if let Some(near) = reached.nearest(first) {
        return Some(missing(format!("the nearest upstream is '{near}'")));
    }
    reached.only_address_of(path).map(|address| missing(format!("write {address}")))
}

/// What to say of a name that no upstream has; `below` is what stood behind `/exchange/`.
pub(super) fn no_such_upstream(state: &PublicState, claims: &Claims, below: &str) -> Error {
    let reached = Reached::of(state, claims);
    let asked = below.split('/').next().unwrap_or_default();
    let advice = reached.and_then(|reached| {
        let (path, near) = (format!("/{below}"), reached.nearest(asked));
        let by_name = || near.map(|near| format!("there is no upstream of this name; the nearest is '{near}'"));
        let without = |address: String| {
            format!("there is no upstream of this name, and the path looks like one without it; write {address}")
        };
        // A name in another case is that name, whatever paths there are.
        if near.is_some_and(|near| near.eq_ignore_ascii_case(asked)) {
            return by_name();
        }
        let address = reached.address_of(&path).map(without);
        address.or_else(by_name).or_else(|| reached.only_address_of(&path).map(without))
    });
    let general = || "there is no upstream of this name; see the paths that the admin gave you".to_owned();
    Error::not_found("upstream_unknown", advice.unwrap_or_else(general))
}
