//! Logging in and out, for admins who come over the network (`hallpass login`).

use std::sync::Arc;

use axum::Extension;
use axum::extract::State as AxumState;
use axum::response::Response;
use http::HeaderMap;

use crate::audit::omitted_note;
use crate::error::Error;
use crate::http::State;
use crate::http::admin::door::record;
use crate::http::admin::{Input, answer};
use crate::http::extract::{RequestId, bearer};
use crate::http::reply::{Problem, no_store};
use crate::issue::{NO_ROLE, NotAdmin};
use crate::manage::login::{IdToken, LoggedIn, LoggedOut, LoginSettings};
use crate::manage::{Admin, unrecorded};
use crate::model::{Event, EventKind, Origin};

/// Where to log in: what the CLI needs for the device flow (RFC 8628). None of it is secret.
pub(in crate::http) async fn settings(
    AxumState(state): AxumState<State>,
    Extension(RequestId(id)): Extension<RequestId>,
) -> Result<Response, Problem> {
    let none = "this broker takes no logins (admin.issuer is not set); show an admin's certificate instead";
    let settings = state.admins.login_settings();
    let settings = settings.ok_or_else(|| Problem::new(Error::not_found("login_not_configured", none), &id))?;
    let (issuer, client_id) = (settings.issuer.issuer.clone(), settings.client_id.clone());
    Ok(answer(&id, Ok::<_, Error>(LoginSettings { issuer, client_id, scope: settings.scope.clone() })))
}

/// Bodies above this are refused: an ID token is no longer than [`hallpass_verify::MAX_FOREIGN_BYTES`], and what strangers
/// send is held in memory until all of it is there.
const MAX_LOGIN: usize = 32 * 1024;

/// Opens a login for the person whom an ID token names. It is in the audit log before it is answered.
pub(in crate::http) async fn log_in(
    AxumState(state): AxumState<State>,
    Extension(RequestId(id)): Extension<RequestId>,
    Extension(origin): Extension<Origin>,
    Input(input): Input<IdToken, MAX_LOGIN>,
) -> Result<Response, Problem> {
    let mut event = Event::new(EventKind::Admin);
    event.action = Some("login".into());
    event.came_by(&origin);
    let login = match state.admins.log_in(&input.id_token).await {
        Ok(login) => login,
        Err(why) => {
            record(&state, refusal(&state, event, &why)).await;
            return Err(Problem::new(client_message(&why), &id));
        }
    };
    event.admin = Some(login.identity.name.clone());
    event.object = Some(login.identity.role.as_str().into());
    if let Err(error) = state.ledger.commit(vec![event], Vec::new()).await {
        state.admins.log_out(login.token.expose());
        return Err(Problem::new(unrecorded(error), &id));
    }
    metrics::counter!("hallpass_admin_logins_total").increment(1);
    let (name, role) = (login.identity.name.to_string(), login.identity.role);
    let opened = LoggedIn { token: login.token, name, role, expires_at: login.expires_at };
    let mut answer = answer(&id, Ok::<_, Error>(opened));
    no_store(answer.headers_mut());
    Ok(answer)
}

/// Ends the login whose token this came with.
pub(in crate::http) async fn log_out(AxumState(state): AxumState<State>, admin: Admin, headers: HeaderMap) -> Response {
    let event = admin.event("logout", "login");
    // First: whoever logs out is out, even where that cannot be recorded.
    let was_in = bearer(&headers).is_some_and(|token| state.admins.log_out(token));
    let recorded = state.ledger.commit(vec![event], Vec::new()).await.map_err(unrecorded);
    answer(admin.request(), recorded.map(|()| LoggedOut { logged_out: was_in }))
}

/// The record of a refused login; so many a minute are kept of each reason.
fn refusal(state: &State, mut event: Event, why: &NotAdmin) -> Option<Event> {
    let reason = match why {
        NotAdmin::Refused(reason) => *reason,
        NotAdmin::NoRole(name) => {
            event.admin = Some(name.clone());
            NO_ROLE
        }
        NotAdmin::Unavailable => return None,
    };
    metrics::counter!("hallpass_admin_refused_total", "reason" => reason).increment(1);
    let left_out = state.admin_refusals.may_record(reason, state.world.now())?;
    event.decision = Some("deny");
    event.reason = Some(reason.into());
    event.object = omitted_note(left_out).map(Arc::from);
    Some(event)
}

fn client_message(why: &NotAdmin) -> Error {
    match why {
        NotAdmin::Unavailable => {
            Error::unavailable("issuer_unavailable", "the issuer's keys cannot be had now; try again in a moment")
        }
        NotAdmin::Refused("login_not_configured") => {
            Error::not_found("login_not_configured", "this broker takes no logins; admin.issuer is not set")
        }
        NotAdmin::NoRole(_) => {
            Error::forbidden(NO_ROLE, "you are known, but nobody gave you an admin role here; ask an owner")
        }
        NotAdmin::Refused("too_many_logins") => Error::unavailable(
            "too_many_logins",
            "you logged in too often; wait a few minutes, or use a login that you have",
        ),
        NotAdmin::Refused("id_token_used_before" | "id_token_too_old" | "id_token_from_before_the_start") => {
            Error::unauthenticated("login_refused", "this ID token is used or too old; run 'hallpass login' again")
        }
        NotAdmin::Refused(_) => {
            Error::unauthenticated("login_refused", "this ID token is not good here; the audit log says why")
        }
    }
}
