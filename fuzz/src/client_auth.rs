//! Who presents itself at the token endpoint: one reading, or none (RFC 6749 §2.3, §3.2; RFC 7617).

use std::borrow::Cow;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use hallpass::http::fuzzing::client_credentials;
use http::HeaderValue;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use url::form_urlencoded;

type Presented = Result<Option<(String, String)>, ()>;

/// The first line is `Authorization` (empty: none; `b:` before it: what follows is to be base64 encoded), the rest the
/// form.
pub fn run(data: &[u8]) {
    let (authorization, body) = match data.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&data[..end], &data[end + 1..]),
        None => (data, &[][..]),
    };
    let authorization = match authorization.strip_prefix(b"b:") {
        Some(plain) => Cow::Owned(format!("Basic {}", BASE64_STANDARD.encode(plain)).into_bytes()),
        None => Cow::Borrowed(authorization),
    };
    let header = HeaderValue::from_bytes(&authorization).ok().filter(|value| !value.is_empty());
    let presented = ask(header.clone(), body);
    let Ok(Some((id, secret))) = &presented else { return };

    // Another decoder sees the same parameters.
    let form: Vec<_> = form_urlencoded::parse(body).filter(|(_, value)| !value.is_empty()).collect();
    let all = |name: &str| form.iter().filter(|(key, _)| key == name).map(|(_, value)| &**value).collect::<Vec<_>>();
    if header.is_none() {
        assert_eq!((all("client_id"), all("client_secret")), (vec![id.as_str()], vec![secret.as_str()]));
    } else {
        assert!(all("client_secret").is_empty(), "two methods in one request");
        assert!(all("client_id").iter().all(|one| one == id));
        let (scheme, rest) = authorization.split_at(6);
        assert!(scheme.eq_ignore_ascii_case(b"basic "));
        let pair = BASE64_STANDARD.decode(rest.trim_ascii()).unwrap();
        let pair = String::from_utf8(pair).unwrap();
        let (raw_id, raw_secret) = pair.split_once(':').unwrap();
        assert_eq!((&*plain(raw_id), &*plain(raw_secret)), (id.as_str(), secret.as_str()));
    }

    // Written canonically, by either method, it is the same client.
    let (id_text, secret_text) = (encoded(id), encoded(secret));
    let basic = BASE64_STANDARD.encode(format!("{id_text}:{secret_text}"));
    let basic = HeaderValue::try_from(format!("bASIC {basic}")).unwrap();
    assert_eq!(ask(Some(basic.clone()), b"grant_type=client_credentials"), presented);
    let form = format!("client_secret={secret_text}&client_id={id_text}");
    if !id.is_empty() && !secret.is_empty() {
        assert_eq!(ask(None, form.as_bytes()), presented);
        assert_eq!(ask(Some(basic), form.as_bytes()), Err(()), "two methods in one request");
        let twice = format!("{form}&client_secret=x");
        assert_eq!(ask(None, twice.as_bytes()), Err(()), "a parameter twice");
    }
}

fn ask(header: Option<HeaderValue>, body: &[u8]) -> Presented {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    }
    let answer = RUNTIME.with(|runtime| runtime.block_on(client_credentials(header, body.to_vec())));
    answer.map(|presented| presented.map(|(id, secret)| (id, secret.to_string())))
}

/// One value, as another form decoder reads it.
fn plain(text: &str) -> String {
    let escaped = text.replace('&', "%26").replace('=', "%3D");
    let pair = format!("v={escaped}");
    form_urlencoded::parse(pair.as_bytes()).next().unwrap().1.into_owned()
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}
