//! A door for `fuzz/` to what reads hostile bytes here and is private. Behind the feature `fuzzing`, off by default.

use std::time::Duration;

use axum::body::Body;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use zeroize::Zeroizing;

use crate::http::extract::{Form, presented};
use crate::issue::Presented;

/// A `client_id` and its `client_secret`.
pub type Credentials = (String, Zeroizing<String>);

/// Whom `POST /oauth2/token` would take the sender of this for: `None` for nobody.
///
/// # Errors
/// The request is refused unread.
pub async fn client_credentials(authorization: Option<HeaderValue>, body: Vec<u8>) -> Result<Option<Credentials>, ()> {
    let mut request = http::Request::new(Body::from(body));
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    if let Some(value) = authorization {
        request.headers_mut().insert(AUTHORIZATION, value);
    }
    let (parts, form) = Form::read(request, Duration::from_secs(60)).await.map_err(drop)?;
    match presented(&parts.headers, &form, false).map_err(drop)? {
        Presented::Nothing | Presented::Assertion { .. } | Presented::Grant { .. } | Presented::Certificate { .. } => {
            Ok(None)
        }
        Presented::Secret { id, secret } => Ok(Some((id, secret))),
    }
}
