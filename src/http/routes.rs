//! The route table; the rows of the admin API come from `admin/table.rs`. A route without its rows in the denial table fails
//! the test suite.

use axum::Router;
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};

use crate::http::{
    ListenerService, OpsState, PublicState, State, admin, authorize, certificate, discovery, front, introspect, lost,
    ops, resource, revocations, revoke, token,
};
use crate::listen::Authenticated;
use crate::model::AdminRole;

/// Which listener a route is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    /// Agents and gateways.
    Public,
    /// Admins: on the unix socket (root and the server's own user), and on the admin listener.
    Admin,
    /// Admins on the admin listener alone: what only those need who come over the network.
    RemoteAdmin,
    /// Health and metrics.
    Ops,
}

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anybody: nothing secret is behind it.
    Open,
    /// An agent that authenticates as an OAuth client.
    Client,
    /// A client, or the bearer of a token with the scope for it.
    ClientOrBearer,
    /// The bearer of a good token.
    Bearer,
    /// An admin: with GET any, otherwise one of this role or above.
    Admin(AdminRole),
}

/// One row of the table.
#[derive(Debug)]
pub struct Route {
    /// On which listener.
    pub listener: Listener,
    /// In axum's syntax.
    pub path: &'static str,
    /// For whom.
    pub access: Access,
    handler: Handler,
}

/// What answers, with the state of its listener.
#[derive(Debug)]
enum Handler {
    Public(MethodRouter<PublicState>),
    Admin(MethodRouter<State>),
    Ops(MethodRouter<OpsState>),
    /// [`crate::http::exchange`], which no router stands before. Its rows are here so that the table is whole.
    Exchange,
}

fn public(path: &'static str, access: Access, handler: MethodRouter<PublicState>) -> Route {
    Route { listener: Listener::Public, path, access, handler: Handler::Public(handler) }
}

fn exchange(path: &'static str) -> Route {
    Route { listener: Listener::Public, path, access: Access::Bearer, handler: Handler::Exchange }
}

/// A row of the admin API.
pub(super) fn of_admins(listener: Listener, path: &'static str, access: Access, handler: MethodRouter<State>) -> Route {
    Route { listener, path, access, handler: Handler::Admin(handler) }
}

fn ops(path: &'static str, handler: MethodRouter<OpsState>) -> Route {
    Route { listener: Listener::Ops, path, access: Access::Open, handler: Handler::Ops(handler) }
}

/// All routes.
#[rustfmt::skip]
pub fn table() -> Vec<Route> {
    use Access::{Client, ClientOrBearer, Open};
    let mut rows = vec![
        public("/oauth2/token",                           Client,         post(token::token)),
        public("/oauth2/authorize",                       Open,           get(authorize::authorize).post(authorize::authorize)),
        public("/oauth2/introspect",                      ClientOrBearer, post(introspect::introspect)),
        public("/oauth2/revoke",                          Client,         post(revoke::revoke)),
        public("/oauth2/certificate",                     Client,         post(certificate::renew)),
        public("/.well-known/oauth-authorization-server", Open,           get(discovery::metadata)),
        public("/.well-known/jwks.json",                  Open,           get(discovery::jwks)),
        public("/.well-known/oauth-protected-resource",   Open,           get(resource::metadata)),
        public("/.well-known/oauth-protected-resource/{*path}", Open, get(resource::metadata_at)),
        exchange("/exchange/{upstream}"),
        exchange("/exchange/{upstream}/"),
        exchange("/exchange/{upstream}/{*path}"),
        public("/revocations",                            Open,           get(revocations::revocations)),

        ops("/healthz", get(ops::healthz)),
        ops("/readyz", get(ops::readyz)),
        ops("/metrics", get(ops::metrics)),
    ];
    rows.extend(admin::table::rows());
    rows
}

/// Marks the answer of a route that nobody gets 2xx from who did not show who they are.
async fn authenticated_if_successful(mut answer: Response) -> Response {
    if answer.status().is_success() {
        answer.extensions_mut().insert(Authenticated);
    }
    answer
}

/// What the public listener serves.
pub fn public_service(state: PublicState) -> ListenerService {
    let rows = table().into_iter().filter_map(|row| match row.handler {
        Handler::Public(handler) => Some((row.path, row.access, handler)),
        Handler::Exchange | Handler::Admin(_) | Handler::Ops(_) => None,
    });
    let router = rows.fold(Router::new(), |router, (path, access, handler)| {
        let handler = match access {
            Access::Client | Access::ClientOrBearer => handler.layer(map_response(authenticated_if_successful)),
            Access::Bearer | Access::Open | Access::Admin(_) => handler,
        };
        router.route(path, handler)
    });
    let router = router.fallback(lost::no_such_route).method_not_allowed_fallback(front::no_such_method);
    ListenerService::new(state.world.clone(), Some(state.clone()), router.with_state(state))
}

/// What admins are served: on the unix socket, or over the network with what only those need who come by it. Nobody reaches an
/// admin's route who is not one, of the role that its row names.
pub fn admin_service(state: State, is_remote: bool) -> ListenerService {
    let is_here = |row: &Route| row.listener == Listener::Admin || is_remote;
    let rows = table().into_iter().filter(is_here).filter_map(|row| match row.handler {
        Handler::Admin(handler) => Some((row.path, row.access, handler)),
        Handler::Public(_) | Handler::Exchange | Handler::Ops(_) => None,
    });
    let router = rows.fold(Router::new(), |router, (path, access, handler)| {
        let handler = match access {
            Access::Admin(role) => {
                let handler = handler.layer(from_fn_with_state((state.clone(), role), admin::door::only_admins));
                handler.layer(map_response(authenticated_if_successful))
            }
            Access::Open | Access::Client | Access::ClientOrBearer | Access::Bearer => handler,
        };
        router.route(path, handler)
    });
    let router = router.fallback(front::no_such_route).method_not_allowed_fallback(front::no_such_method);
    ListenerService::new(state.world.clone(), None, router.with_state(state))
}

/// Health and metrics.
pub fn ops_service(state: OpsState) -> ListenerService {
    let rows = table().into_iter().filter_map(|row| match row.handler {
        Handler::Ops(handler) => Some((row.path, handler)),
        Handler::Public(_) | Handler::Exchange | Handler::Admin(_) => None,
    });
    let router = rows.fold(Router::new(), |router, (path, handler)| router.route(path, handler));
    let router = router.fallback(front::no_such_route).method_not_allowed_fallback(front::no_such_method);
    ListenerService::new(state.world.clone(), None, router.with_state(state))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::any;
    use http::{Request, StatusCode};
    use tower::ServiceExt as _;

    use super::*;
    use crate::http::exchange::is_path;

    #[tokio::test]
    async fn the_exchange_endpoint_has_the_paths_that_its_rows_say() {
        let rows = table().into_iter().filter(|row| matches!(row.handler, Handler::Exchange));
        let by_rows = rows.fold(Router::new(), |router, row| router.route(row.path, any(|| async {})));
        for path in [
            "/exchange/crm",
            "/exchange/crm/",
            "/exchange/crm/a",
            "/exchange/crm//",
            "/exchange/crm//a",
            "/exchange/crm/a/",
            "/exchange/%2f",
            "/exchange/%ff/%ff",
            "/exchange/.",
            "/exchange/../a",
            "/exchange",
            "/exchange/",
            "/exchange//",
            "/exchange//a",
            "/exchange///",
            "/Exchange/crm",
            "/exchangecrm",
            "/exchange%2Fcrm",
            "//exchange/crm",
            "/a",
            "/",
        ] {
            let request = Request::builder().uri(path).body(Body::empty()).unwrap();
            let is_row = by_rows.clone().oneshot(request).await.unwrap().status() == StatusCode::OK;
            assert_eq!(is_path(path), is_row, "{path}");
        }
    }
}
