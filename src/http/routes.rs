//! The whole route table. A route that is added here without its rows in the denial table fails the test suite.

use axum::Router;
use axum::routing::{MethodRouter, any, delete, get, post};

use crate::http::{
    State, admin, authorize, certificate, discovery, exchange, extract, introspect, ops, resource, revocations, revoke,
    token,
};

/// Which listener a route is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    /// Agents and gateways.
    Public,
    /// Unix socket: root and the server's own user.
    Admin,
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
    /// Root and the server's own user.
    LocalAdmin,
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
    handler: MethodRouter<State>,
}

fn row(listener: Listener, path: &'static str, access: Access, handler: MethodRouter<State>) -> Route {
    Route { listener, path, access, handler }
}

/// All routes.
#[rustfmt::skip]
pub fn table() -> Vec<Route> {
    use Access::{Bearer, Client, ClientOrBearer, LocalAdmin, Open};
    use Listener::{Admin, Ops, Public};
    vec![
        row(Public, "/oauth2/token",                           Client,         post(token::token)),
        row(Public, "/oauth2/authorize",                       Open,           get(authorize::authorize).post(authorize::authorize)),
        row(Public, "/oauth2/introspect",                      ClientOrBearer, post(introspect::introspect)),
        row(Public, "/oauth2/revoke",                          Client,         post(revoke::revoke)),
        row(Public, "/oauth2/certificate",                     Client,         post(certificate::renew)),
        row(Public, "/.well-known/oauth-authorization-server", Open,           get(discovery::metadata)),
        row(Public, "/.well-known/jwks.json",                  Open,           get(discovery::jwks)),
        row(Public, "/.well-known/oauth-protected-resource",   Open,           get(resource::metadata)),
        row(Public, "/.well-known/oauth-protected-resource/{*path}", Open, get(resource::metadata_at)),
        row(Public, "/exchange/{upstream}",                    Bearer,         any(exchange::exchange)),
        row(Public, "/exchange/{upstream}/",                   Bearer,         any(exchange::exchange)),
        row(Public, "/exchange/{upstream}/{*path}",            Bearer,         any(exchange::exchange)),
        row(Public, "/revocations",                            Open,           get(revocations::revocations)),

        row(Admin, "/admin/v1/status",                         LocalAdmin, get(admin::status::status)),
        row(Admin, "/admin/v1/apply",                          LocalAdmin, post(admin::apply::apply)),
        row(Admin, "/admin/v1/agents",                         LocalAdmin, get(admin::agents::list).post(admin::agents::register)),
        row(Admin, "/admin/v1/agents/{name}",                  LocalAdmin, get(admin::agents::show)),
        row(Admin, "/admin/v1/agents/{name}/suspend",          LocalAdmin, post(admin::agents::suspend)),
        row(Admin, "/admin/v1/agents/{name}/resume",           LocalAdmin, post(admin::agents::resume)),
        row(Admin, "/admin/v1/agents/{name}/revoke",           LocalAdmin, post(admin::agents::revoke)),
        row(Admin, "/admin/v1/agents/{name}/rotate-secret",    LocalAdmin, post(admin::agents::rotate_secret)),
        row(Admin, "/admin/v1/agents/{name}/certificate",      LocalAdmin, post(admin::certificates::issue)),
        row(Admin, "/admin/v1/client-ca",                      LocalAdmin, get(admin::certificates::authority)),
        row(Admin, "/admin/v1/sessions",                       LocalAdmin, get(admin::sessions::list)),
        row(Admin, "/admin/v1/sessions/{id}",                  LocalAdmin, get(admin::sessions::show)),
        row(Admin, "/admin/v1/sessions/{id}/revoke",           LocalAdmin, post(admin::sessions::revoke)),
        row(Admin, "/admin/v1/subjects/revoke",                LocalAdmin, post(admin::sessions::revoke_subject)),
        row(Admin, "/admin/v1/tokens/inspect",                 LocalAdmin, post(admin::tokens::inspect)),
        row(Admin, "/admin/v1/tokens/revoke",                  LocalAdmin, post(admin::tokens::revoke)),
        row(Admin, "/admin/v1/upstreams",                      LocalAdmin, get(admin::upstreams::list)),
        row(Admin, "/admin/v1/upstreams/{name}",               LocalAdmin, get(admin::upstreams::show).merge(delete(admin::upstreams::remove))),
        row(Admin, "/admin/v1/upstreams/{name}/test",          LocalAdmin, post(admin::upstreams::test)),
        row(Admin, "/admin/v1/roles",                          LocalAdmin, get(admin::roles::list)),
        row(Admin, "/admin/v1/roles/{name}",                   LocalAdmin, get(admin::roles::show)),
        row(Admin, "/admin/v1/credentials",                    LocalAdmin, get(admin::credentials::list)),
        row(Admin, "/admin/v1/credentials/{name}",             LocalAdmin, post(admin::credentials::put).merge(delete(admin::credentials::remove))),
        row(Admin, "/admin/v1/credentials/{name}/revoke",      LocalAdmin, post(admin::credentials::revoke)),
        row(Admin, "/admin/v1/rewrap",                         LocalAdmin, post(admin::rewrap::rewrap)),
        row(Admin, "/admin/v1/keys",                           LocalAdmin, get(admin::keys::list)),
        row(Admin, "/admin/v1/keys/rotate",                    LocalAdmin, post(admin::keys::rotate)),
        row(Admin, "/admin/v1/keys/{kid}/retire",              LocalAdmin, post(admin::keys::retire)),
        row(Admin, "/admin/v1/audit/checkpoint",               LocalAdmin, post(admin::status::checkpoint)),

        row(Ops, "/healthz",                                   Open, get(ops::healthz)),
        row(Ops, "/readyz",                                    Open, get(ops::readyz)),
        row(Ops, "/metrics",                                   Open, get(ops::metrics)),
    ]
}

/// The router of one listener. Every answer carries a request id; ambiguous requests are refused before any handler.
pub fn router(listener: Listener, state: State) -> Router {
    let rows = table().into_iter().filter(|row| row.listener == listener);
    let router = rows.fold(Router::new(), |router, row| router.route(row.path, row.handler));
    router
        .fallback(extract::no_such_route)
        .method_not_allowed_fallback(extract::no_such_method)
        .layer(axum::middleware::from_fn_with_state(state.clone(), extract::front_door))
        .with_state(state)
}
