//! Who is let in to administrate: by the socket's peer credentials, a login's token, or a certificate; and what for.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State as AxumState};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::Method;
use percent_encoding::percent_decode_str;

use crate::audit::omitted_note;
use crate::error::Error;
use crate::http::State;
use crate::http::extract::{RequestId, bearer, origin};
use crate::http::reply::Problem;
use crate::issue::{AdminIdentity, NO_ROLE, NotAdmin};
use crate::listen::Connection;
use crate::manage::Admin;
use crate::model::{AdminRole, Event, EventKind};

/// Put into each request by the unix listener: who is at the other end of the socket, by its peer credentials. Where it is
/// missing, the request says who sends it.
#[derive(Debug, Clone)]
pub(in crate::http) struct Peer(pub(in crate::http) AdminIdentity);

/// Lets admins of the row's role through, and with GET all admins; tells the handler who it is.
pub(in crate::http) async fn only_admins(
    AxumState((state, role)): AxumState<(State, AdminRole)>,
    mut request: Request,
    next: Next,
) -> Response {
    let id = request.extensions().get::<RequestId>().map_or_else(|| Arc::from("?"), |id| id.0.clone());
    let identity = match identity(&state, &request) {
        Ok(identity) => identity,
        Err(reason) => {
            record(&state, refusal(&state, None, reason, &request)).await;
            return Problem::new(unauthenticated(reason), &id).into_response();
        }
    };
    let needed = if matches!(*request.method(), Method::GET | Method::HEAD) { AdminRole::Viewer } else { role };
    if identity.role < needed {
        record(&state, refusal(&state, Some(&identity), "role_too_low", &request)).await;
        let text = format!("this takes the admin role {needed}, and yours is {}; ask an owner for it", identity.role);
        return Problem::new(Error::forbidden("role_too_low", text), &id).into_response();
    }
    if percent_decode_str(request.uri().path()).decode_utf8().is_err() {
        let text = "the path holds a name that is no UTF-8; names are written as they were given";
        return Problem::new(Error::invalid("bad_path", text), &id).into_response();
    }
    let origin = origin(request.extensions());
    request.extensions_mut().insert(Admin::new(state.manager.clone(), identity.name, origin));
    next.run(request).await
}

/// Who sends this. What was presented and is not good ends the attempt: a token that is over is not made up for by a
/// certificate.
fn identity(state: &State, request: &Request) -> Result<AdminIdentity, &'static str> {
    if let Some(Peer(identity)) = request.extensions().get::<Peer>() {
        return Ok(identity.clone());
    }
    if request.headers().contains_key(http::header::AUTHORIZATION) {
        let token = bearer(request.headers()).ok_or("admin_token_malformed")?;
        return state.admins.by_token(token).ok_or("admin_token_unknown");
    }
    let connection = request.extensions().get::<Connection>();
    let chain = connection.and_then(|connection| connection.certificates.as_ref()).ok_or("nothing_presented")?;
    state.admins.by_certificate(chain).map_err(|why| match why {
        NotAdmin::Refused(reason) => reason,
        NotAdmin::NoRole(_) => NO_ROLE,
        NotAdmin::Unavailable => "issuer_keys_unavailable",
    })
}

fn unauthenticated(reason: &'static str) -> Error {
    let text = match reason {
        "nothing_presented" => "log in with 'hallpass login', or show an admin's certificate",
        "admin_token_unknown" => "this login is over, or is none; log in again with 'hallpass login'",
        NO_ROLE => "this certificate is good, but nobody gave its name an admin role ([admin] in the settings)",
        _ => "what was presented is no admin's; the audit log says why",
    };
    Error::unauthenticated("not_admin", text)
}

/// The record of a refusal; so many a minute are kept: of strangers for each reason, of an admin for each of them.
fn refusal(state: &State, who: Option<&AdminIdentity>, reason: &'static str, request: &Request) -> Option<Event> {
    metrics::counter!("hallpass_admin_refused_total", "reason" => reason).increment(1);
    let left_out = state.admin_refusals.may_record(who.map_or(reason, |who| &who.name), state.world.now())?;
    let mut event = Event::new(EventKind::Admin);
    event.decision = Some("deny");
    event.reason = Some(reason.into());
    event.admin = who.map(|who| who.name.clone());
    event.method = Some(request.method().as_str().into());
    event.action = request.extensions().get::<MatchedPath>().map(|path| path.as_str().into());
    event.object = omitted_note(left_out).map(Arc::from);
    event.came_by(&origin(request.extensions()));
    Some(event)
}

/// Records that somebody was refused, if that is recorded.
pub(super) async fn record(state: &State, refusal: Option<Event>) {
    let Some(event) = refusal else { return };
    let reason = event.reason.clone();
    if let Err(error) = state.ledger.refusal(event).await {
        tracing::error!(%error, ?reason, "a refused admin could not be recorded; they are refused all the same");
    }
}
