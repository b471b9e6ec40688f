//! The whole route table. A route that is added here without its rows in the denial table fails the test suite.

use axum::Router;
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::Response;
use axum::routing::{MethodRouter, any, delete, get, post};

use crate::http::admin::definitions::{self, Issuers, Resources, Roles, TrustDomains};
use crate::http::{
    State, admin, authorize, certificate, discovery, exchange, front, introspect, lost, ops, resource, revocations,
    revoke, token,
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
    handler: MethodRouter<State>,
}

fn row(listener: Listener, path: &'static str, access: Access, handler: MethodRouter<State>) -> Route {
    Route { listener, path, access, handler }
}

/// All routes.
#[rustfmt::skip]
pub fn table() -> Vec<Route> {
    use Access::{Admin, Bearer, Client, ClientOrBearer, Open};
    use AdminRole::{Approver, Operator, Owner, Viewer};
    use Listener::{Ops, Public, RemoteAdmin};
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

        row(Listener::Admin, "/admin/v1/status",                         Admin(Viewer),   get(admin::status::status)),
        row(Listener::Admin, "/admin/v1/apply",                          Admin(Operator), post(admin::apply::apply)),
        row(Listener::Admin, "/admin/v1/agents",                         Admin(Operator), get(admin::agents::list).post(admin::agents::register)),
        row(Listener::Admin, "/admin/v1/agents/{name}",                  Admin(Operator), get(admin::agents::show).merge(delete(admin::agents::remove))),
        row(Listener::Admin, "/admin/v1/agents/{name}/suspend",          Admin(Approver), post(admin::agents::suspend)),
        row(Listener::Admin, "/admin/v1/agents/{name}/resume",           Admin(Operator), post(admin::agents::resume)),
        row(Listener::Admin, "/admin/v1/agents/{name}/revoke",           Admin(Operator), post(admin::agents::revoke)),
        row(Listener::Admin, "/admin/v1/agents/{name}/rotate-secret",    Admin(Operator), post(admin::agents::rotate_secret)),
        row(Listener::Admin, "/admin/v1/held/{id}/confirm",              Admin(Operator), post(admin::held::confirm)),
        row(Listener::Admin, "/admin/v1/agents/{name}/certificate",      Admin(Operator), post(admin::certificates::issue)),
        row(Listener::Admin, "/admin/v1/client-ca",                      Admin(Viewer),   get(admin::certificates::authority)),
        row(Listener::Admin, "/admin/v1/sessions",                       Admin(Viewer),   get(admin::sessions::list)),
        row(Listener::Admin, "/admin/v1/sessions/{id}",                  Admin(Viewer),   get(admin::sessions::show)),
        row(Listener::Admin, "/admin/v1/sessions/{id}/revoke",           Admin(Approver), post(admin::sessions::revoke)),
        row(Listener::Admin, "/admin/v1/subjects/revoke",                Admin(Approver), post(admin::sessions::revoke_subject)),
        row(Listener::Admin, "/admin/v1/tokens/inspect",                 Admin(Viewer),   post(admin::tokens::inspect)),
        row(Listener::Admin, "/admin/v1/tokens/revoke",                  Admin(Approver), post(admin::tokens::revoke)),
        row(Listener::Admin, "/admin/v1/upstreams",                      Admin(Viewer),   get(admin::upstreams::list)),
        row(Listener::Admin, "/admin/v1/upstreams/{name}",               Admin(Operator), get(admin::upstreams::show).merge(delete(admin::upstreams::remove))),
        row(Listener::Admin, "/admin/v1/upstreams/{name}/test",          Admin(Operator), post(admin::upstreams::test)),
        row(Listener::Admin, "/admin/v1/roles",                          Admin(Viewer),   get(definitions::list::<Roles>)),
        row(Listener::Admin, "/admin/v1/roles/{name}",                   Admin(Operator), get(definitions::show::<Roles>).merge(delete(definitions::remove::<Roles>))),
        row(Listener::Admin, "/admin/v1/resources",                      Admin(Viewer),   get(definitions::list::<Resources>)),
        row(Listener::Admin, "/admin/v1/resources/{name}",               Admin(Operator), get(definitions::show::<Resources>).merge(delete(definitions::remove::<Resources>))),
        row(Listener::Admin, "/admin/v1/issuers",                        Admin(Viewer),   get(definitions::list::<Issuers>)),
        row(Listener::Admin, "/admin/v1/issuers/{name}",                 Admin(Operator), get(definitions::show::<Issuers>).merge(delete(definitions::remove::<Issuers>))),
        row(Listener::Admin, "/admin/v1/trust-domains",                  Admin(Viewer),   get(definitions::list::<TrustDomains>)),
        row(Listener::Admin, "/admin/v1/trust-domains/{name}",           Admin(Operator), get(definitions::show::<TrustDomains>).merge(delete(definitions::remove::<TrustDomains>))),
        row(Listener::Admin, "/admin/v1/credentials",                    Admin(Viewer),   get(admin::credentials::list)),
        row(Listener::Admin, "/admin/v1/credentials/{name}",             Admin(Operator), post(admin::credentials::put).merge(delete(admin::credentials::remove))),
        row(Listener::Admin, "/admin/v1/credentials/{name}/revoke",      Admin(Operator), post(admin::credentials::revoke)),
        row(Listener::Admin, "/admin/v1/rewrap",                         Admin(Owner),    post(admin::rewrap::rewrap)),
        row(Listener::Admin, "/admin/v1/keys",                           Admin(Viewer),   get(admin::keys::list)),
        row(Listener::Admin, "/admin/v1/keys/rotate",                    Admin(Owner),    post(admin::keys::rotate)),
        row(Listener::Admin, "/admin/v1/keys/{kid}/retire",              Admin(Owner),    post(admin::keys::retire)),
        row(Listener::Admin, "/admin/v1/audit",                          Admin(Viewer),   get(admin::audit::nodes)),
        row(Listener::Admin, "/admin/v1/audit/{node}/records",           Admin(Viewer),   get(admin::audit::records)),
        row(Listener::Admin, "/admin/v1/audit/{node}/checkpoints",       Admin(Viewer),   get(admin::audit::checkpoints)),
        row(Listener::Admin, "/admin/v1/audit/keys",                     Admin(Viewer),   get(admin::audit::keys)),
        row(Listener::Admin, "/admin/v1/audit/checkpoint",               Admin(Viewer),   post(admin::status::checkpoint)),

        row(RemoteAdmin, "/admin/v1/login",                              Open,            get(admin::login::settings).post(admin::login::log_in)),
        row(RemoteAdmin, "/admin/v1/logout",                             Admin(Viewer),   post(admin::login::log_out)),

        row(Ops, "/healthz",                                   Open, get(ops::healthz)),
        row(Ops, "/readyz",                                    Open, get(ops::readyz)),
        row(Ops, "/metrics",                                   Open, get(ops::metrics)),
    ]
}

/// Marks the answer of a route that nobody gets 2xx from who did not show who they are.
async fn authenticated_if_successful(mut answer: Response) -> Response {
    if answer.status().is_success() {
        answer.extensions_mut().insert(Authenticated);
    }
    answer
}

/// The router of one listener. Every answer carries a request id; ambiguous requests are refused before any handler, and
/// nobody reaches an admin's route who is not one, of the role that its row names.
pub fn router(listener: Listener, state: State) -> Router {
    let is_here =
        |row: &Route| row.listener == listener || (listener, row.listener) == (Listener::RemoteAdmin, Listener::Admin);
    let rows = table().into_iter().filter(is_here);
    let router = rows.fold(Router::new(), |router, row| {
        let handler = match row.access {
            Access::Admin(role) => {
                let handler = row.handler.layer(from_fn_with_state((state.clone(), role), admin::door::only_admins));
                handler.layer(map_response(authenticated_if_successful))
            }
            Access::Client | Access::ClientOrBearer => row.handler.layer(map_response(authenticated_if_successful)),
            // The exchange says it itself: a 404 with a good token is an answer to somebody authenticated, too.
            Access::Bearer | Access::Open => row.handler,
        };
        router.route(row.path, handler)
    });
    let router = match listener {
        Listener::Public => router.fallback(lost::no_such_route),
        _ => router.fallback(front::no_such_route),
    };
    let router = router.method_not_allowed_fallback(front::no_such_method);
    router.layer(from_fn_with_state((state.clone(), listener), front::front_door)).with_state(state)
}
