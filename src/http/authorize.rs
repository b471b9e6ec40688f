//! `/oauth2/authorize`: there to be named in the metadata, for libraries that take none without it.

use axum::Extension;

use crate::error::Error;
use crate::http::extract::RequestId;
use crate::http::reply::Problem;

/// Refuses everything, and redirects nowhere: no `redirect_uri` is registered, and one that is not must not be followed
/// (RFC 6749 §4.1.2.1).
pub(super) async fn authorize(Extension(RequestId(id)): Extension<RequestId>) -> Problem {
    let advice = "nobody is asked for consent here; an agent gets its token at the token endpoint";
    Problem::new(Error::invalid("unsupported_response_type", advice), &id)
}
