//! The table of the admin API. The router and the OpenAPI document are made from it.

use utoipa::openapi::path::HttpMethod;

use crate::http::admin::operation::{
    Operation, asking, by_hand, delete, get, of_one, of_one_asking, of_one_taking, plain, post, taking,
};
use crate::http::admin::{login, openapi};
use crate::http::routes::{Access, Route, of_admins};
use crate::manage::definitions;
use crate::manage::login::{IdToken, LoggedIn, LoggedOut, LoginSettings};
use crate::manage::{
    agents, apply, audit, certificates, credentials, held, keys, rewrap, sessions, status, tokens, upstreams,
};
use crate::model::AdminRole::{Approver, Operator, Owner, Viewer};
use crate::model::{Resource, Role, TrustDomain, TrustedIssuer};

/// All operations. A GET is for every admin.
#[rustfmt::skip]
pub(super) fn operations() -> Vec<Operation> {
    vec![
        get("/admin/v1/openapi.json", "describe", "This document", by_hand(openapi::document)),
        get("/admin/v1/status", "status", "What the broker is doing", plain(status::status)),
        post("/admin/v1/apply", Operator, "apply", "Make the definitions and agents what a document says", taking(apply::apply)).or(&[409, 503]),

        get("/admin/v1/agents", "listAgents", "All agents", plain(agents::list)),
        post("/admin/v1/agents", Operator, "registerAgent", "Register an agent", taking(agents::register)).or(&[409, 503]),
        get("/admin/v1/agents/{name}", "showAgent", "One agent, by its name or client id", of_one(agents::show)).or(&[404]),
        delete("/admin/v1/agents/{name}", Operator, "removeAgent", "Remove an agent: stopped for good, and forgotten", of_one(agents::remove)).or(&[404, 409, 503]),
        post("/admin/v1/agents/{name}/suspend", Approver, "suspendAgent", "Stop an agent until it is resumed", of_one_taking(agents::suspend)).or(&[404, 409, 503]),
        post("/admin/v1/agents/{name}/resume", Operator, "resumeAgent", "Let a suspended agent ask for new tokens again", of_one(agents::resume)).or(&[404, 409, 503]),
        post("/admin/v1/agents/{name}/revoke", Operator, "revokeAgent", "Stop an agent for good", of_one_taking(agents::revoke)).or(&[404, 409, 503]),
        post("/admin/v1/agents/{name}/rotate-secret", Operator, "rotateSecret", "Give an agent a new client secret; the old one stays valid for a while", of_one_taking(agents::rotate_secret)).or(&[404, 409, 503]),
        post("/admin/v1/held/{id}/confirm", Operator, "confirmSecret", "Say that a new secret was shown: it comes into force", of_one(held::confirm)).or(&[404, 409, 503]),
        post("/admin/v1/agents/{name}/certificate", Operator, "issueCertificate", "Issue a certificate of 24 hours, by this broker's own CA", of_one_taking(certificates::issue)).or(&[404, 409, 503]),
        get("/admin/v1/client-ca", "showClientCa", "The certificate of this broker's own CA", plain(certificates::authority)),

        get("/admin/v1/sessions", "listSessions", "The sessions that have not ended", asking(sessions::list)).or(&[404]),
        get("/admin/v1/sessions/{id}", "showSession", "One session", of_one(sessions::show)).or(&[404]),
        post("/admin/v1/sessions/{id}/revoke", Approver, "revokeSession", "End a session and all below it", of_one_taking(sessions::revoke)).or(&[404, 409, 503]),
        post("/admin/v1/subjects/revoke", Approver, "revokeSubject", "End all that acts on behalf of a subject", taking(sessions::revoke_subject)).or(&[404, 409, 503]),
        post("/admin/v1/tokens/inspect", Viewer, "inspectToken", "What a token says, and whether it is valid", taking(tokens::inspect)),
        post("/admin/v1/tokens/revoke", Approver, "revokeToken", "Refuse one token from now on", taking(tokens::revoke)).or(&[404, 409, 503]),

        get("/admin/v1/upstreams", "listUpstreams", "All upstreams", plain(upstreams::list)),
        get("/admin/v1/upstreams/{name}", "showUpstream", "One upstream, as it was declared", of_one(upstreams::show)).or(&[404]),
        delete("/admin/v1/upstreams/{name}", Operator, "removeUpstream", "Remove an upstream: calls to it are refused from now on", of_one(upstreams::remove)).or(&[404, 409, 503]),
        post("/admin/v1/upstreams/{name}/test", Operator, "testUpstream", "Look an upstream up, connect and check its TLS; sends no request", of_one(upstreams::test)).or(&[404]),
        get("/admin/v1/roles", "listRoles", "All roles", plain(definitions::list::<Role>)),
        get("/admin/v1/roles/{name}", "showRole", "One role, and who holds it", of_one(definitions::show::<Role>)).or(&[404]),
        delete("/admin/v1/roles/{name}", Operator, "removeRole", "Remove a role; it is taken from those who hold it", of_one(definitions::remove::<Role>)).or(&[404, 409, 503]),
        get("/admin/v1/resources", "listResources", "All resources", plain(definitions::list::<Resource>)),
        get("/admin/v1/resources/{name}", "showResource", "One resource", of_one(definitions::show::<Resource>)).or(&[404]),
        delete("/admin/v1/resources/{name}", Operator, "removeResource", "Remove a resource", of_one(definitions::remove::<Resource>)).or(&[404, 409, 503]),
        get("/admin/v1/issuers", "listIssuers", "All issuers of foreign tokens", plain(definitions::list::<TrustedIssuer>)),
        get("/admin/v1/issuers/{name}", "showIssuer", "One issuer", of_one(definitions::show::<TrustedIssuer>)).or(&[404]),
        delete("/admin/v1/issuers/{name}", Operator, "removeIssuer", "Remove an issuer", of_one(definitions::remove::<TrustedIssuer>)).or(&[404, 409, 503]),
        get("/admin/v1/trust-domains", "listTrustDomains", "All SPIFFE trust domains", plain(definitions::list::<TrustDomain>)),
        get("/admin/v1/trust-domains/{name}", "showTrustDomain", "One trust domain", of_one(definitions::show::<TrustDomain>)).or(&[404]),
        delete("/admin/v1/trust-domains/{name}", Operator, "removeTrustDomain", "Remove a trust domain", of_one(definitions::remove::<TrustDomain>)).or(&[404, 409, 503]),

        get("/admin/v1/credentials", "listCredentials", "All credentials; never their values", plain(credentials::list)),
        post("/admin/v1/credentials/{name}", Operator, "putCredential", "Store a credential, or a new version of it", of_one_taking(credentials::put)).or(&[404, 409, 413, 503]),
        delete("/admin/v1/credentials/{name}", Operator, "removeCredential", "Delete a credential with all its versions", of_one_asking(credentials::remove)).or(&[404, 409, 503]),
        post("/admin/v1/credentials/{name}/revoke", Operator, "revokeCredential", "Refuse every call that needs a credential from now on", of_one_taking(credentials::revoke)).or(&[404, 409, 503]),
        post("/admin/v1/rewrap", Owner, "rewrap", "Put everything under a new master key", taking(rewrap::rewrap)).or(&[409, 503]),
        get("/admin/v1/keys", "listKeys", "The signing keys", plain(keys::list)),
        post("/admin/v1/keys/rotate", Owner, "rotateKeys", "Sign with the next key from now on", plain(keys::rotate)).or(&[409, 503]),
        post("/admin/v1/keys/{kid}/retire", Owner, "retireKey", "Remove a key at once: every token that it signed is refused", of_one_taking(keys::retire)).or(&[404, 409, 503]),

        get("/admin/v1/audit", "listAuditNodes", "The nodes that keep a log", plain(audit::nodes)).or(&[503]),
        get("/admin/v1/audit/{node}/records", "readAuditRecords", "The next records of a node's log", of_one_asking(audit::records)).or(&[503]),
        get("/admin/v1/audit/{node}/search", "searchAudit", "The next records of a node's log that fit", of_one_asking(audit::search)).or(&[503]),
        get("/admin/v1/audit/{node}/checkpoints", "listCheckpoints", "The signed checkpoints of a node's log", of_one(audit::checkpoints)).or(&[503]),
        get("/admin/v1/audit/keys", "listAuditKeys", "Every public key that this broker has had", plain(audit::keys)).or(&[503]),
        post("/admin/v1/audit/checkpoint", Viewer, "makeCheckpoint", "Sign the end of the log as it is now", plain(audit::checkpoint)).or(&[409, 503]),

        get("/admin/v1/login", "loginSettings", "Where to log in", by_hand(login::settings).gives::<LoginSettings>()).or(&[404]).open().remote(),
        post("/admin/v1/login", Viewer, "logIn", "Log in by an ID token", by_hand(login::log_in).takes::<IdToken>().gives::<LoggedIn>()).or(&[404, 503]).open().remote(),
        post("/admin/v1/logout", Viewer, "logOut", "End the login whose token this comes with", by_hand(login::log_out).gives::<LoggedOut>()).or(&[409, 503]).remote(),
    ]
}

/// The rows of the route table: one for each path, with the role that it takes to change something there.
pub(in crate::http) fn rows() -> Vec<Route> {
    let mut paths: Vec<Operation> = Vec::new();
    for operation in operations() {
        match paths.iter_mut().find(|one| one.path == operation.path) {
            Some(one) => {
                one.handler = std::mem::take(&mut one.handler).merge(operation.handler);
                if operation.method != HttpMethod::Get && operation.access != Access::Open {
                    one.access = operation.access;
                }
            }
            None => paths.push(operation),
        }
    }
    paths.into_iter().map(|one| of_admins(one.listener, one.path, one.access, one.handler)).collect()
}
