//! A proxy on the way out, where a network has no other way: connections go through it by CONNECT (RFC 9110 §9.3.6).
//!
//! P7 holds for what is named. An address in a definition is checked as ever. A name is looked up here, too, where that
//! works, and each address is checked; but the proxy gets the name, and dials what it finds. TLS proves who answers.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{HOST, HeaderValue, PROXY_AUTHORIZATION};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::Empty;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use crate::outbound::{DialError, Resolve};

/// Names that lead nowhere outside of a network. Where the look-up fails, the proxy must not be asked for them.
const LOCAL_NAMES: &[&str] = &["localhost", "local", "internal", "intranet", "lan", "home.arpa"];

/// Names looked up as before, and the proxy that connections go through.
pub struct Proxied {
    names: Arc<dyn Resolve>,
    matcher: Matcher,
}

impl fmt::Debug for Proxied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The matcher's own text would show the proxy's password.
        f.write_str("Proxied")
    }
}

impl Proxied {
    /// By `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`.
    pub fn by_environment(names: Arc<dyn Resolve>) -> Self {
        Self { names, matcher: Matcher::from_env() }
    }

    /// By this URL, but for the hosts, domains and networks in `no_proxy`.
    pub fn new(names: Arc<dyn Resolve>, url: &str, no_proxy: &str) -> Self {
        Self { names, matcher: Matcher::builder().all(url.to_owned()).no(no_proxy.to_owned()).build() }
    }
}

impl Resolve for Proxied {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        self.names.resolve(host, port)
    }

    fn hop(&self, tls: bool, host: &str, port: u16) -> Option<Hop> {
        // What is on this machine is reached from here.
        if is_here(host) {
            return None;
        }
        let scheme = if tls { "https" } else { "http" };
        let place = Uri::builder().scheme(scheme).authority(authority(host, port)).path_and_query("/").build().ok()?;
        let found = self.matcher.intercept(&place)?;
        let authorization = found.basic_auth().cloned().map(|mut value| {
            value.set_sensitive(true);
            value
        });
        Some(Hop { proxy: found.uri().clone(), authorization })
    }
}

/// The proxy that a connection goes through.
pub struct Hop {
    proxy: Uri,
    authorization: Option<HeaderValue>,
}

impl fmt::Debug for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hop")
    }
}

impl Hop {
    /// A connection to `host` through the proxy.
    pub(super) async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, DialError> {
        let failed = |why: String| DialError::Proxy(why);
        if self.proxy.scheme_str() != Some("http") {
            return Err(failed("only a proxy of the form http://HOST:PORT is spoken to".into()));
        }
        let proxy_host = self.proxy.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let proxy_port = self.proxy.port_u16().unwrap_or(80);
        let stream = TcpStream::connect((proxy_host, proxy_port)).await;
        let stream = stream.map_err(|error| failed(format!("it cannot be reached: {error}")))?;
        stream.set_nodelay(true).map_err(|error| failed(error.to_string()))?;
        let broken = |error: hyper::Error| DialError::Proxy(format!("it does not speak HTTP as expected: {error}"));
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await.map_err(broken)?;
        // Dropped wherever this ends without a connection, so that none is left behind.
        let driver = AbortOnDropHandle::new(tokio::spawn(connection.with_upgrades()));
        let target = authority(host, port);
        let mut request = Request::builder().method(Method::CONNECT).uri(&target).header(HOST, &target);
        if let Some(authorization) = &self.authorization {
            request = request.header(PROXY_AUTHORIZATION, authorization);
        }
        let request = request.body(Empty::new()).map_err(|error| failed(error.to_string()))?;
        let answer = sender.send_request(request).await.map_err(broken)?;
        match answer.status() {
            status if status.is_success() => {}
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                return Err(failed(
                    "it wants a user and a password (407); give its URL with both by outbound.proxy_file".into(),
                ));
            }
            status => {
                return Err(failed(format!("it answered {status} to CONNECT {target}")));
            }
        }
        let upgraded = hyper::upgrade::on(answer).await.map_err(broken)?;
        let parts = upgraded.downcast::<TokioIo<TcpStream>>();
        let parts = parts.map_err(|_| failed("the connection cannot be taken over".into()))?;
        if !parts.read_buf.is_empty() {
            return Err(failed("it spoke before the connection was used".into()));
        }
        drop(driver);
        Ok(parts.io.into_inner())
    }
}

/// Whether a host is this machine: `localhost` and all names below it (RFC 6761 §6.3), and loopback addresses.
fn is_here(host: &str) -> bool {
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Whether a name can only be meant for a network's inside.
pub(super) fn is_local_name(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    !host.contains('.') || LOCAL_NAMES.iter().any(|end| host == *end || host.ends_with(&format!(".{end}")))
}

fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbound::SystemResolver;

    #[test]
    fn what_is_here_and_what_is_excepted_goes_without_the_proxy() {
        let proxied = Proxied::new(
            Arc::new(SystemResolver),
            "http://user:word@proxy.example.com:3128",
            "10.0.0.0/8, .corp.example.com",
        );
        let goes = |host: &str| proxied.hop(true, host, 443).is_some();
        for through in ["api.example.com", "192.0.2.1", "2001:db8::1", "corp.example.org"] {
            assert!(goes(through), "{through}");
        }
        for direct in [
            "localhost",
            "LOCALHOST",
            "localhost.",
            "app.localhost",
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "10.1.2.3",
            "api.corp.example.com",
        ] {
            assert!(!goes(direct), "{direct}");
        }
        let hop = proxied.hop(true, "api.example.com", 443).unwrap();
        assert_eq!(hop.authorization.as_ref().unwrap(), "Basic dXNlcjp3b3Jk");
        assert!(!format!("{hop:?} {proxied:?} {:?}", hop.authorization).contains("word"), "no password in a log");
    }

    #[test]
    fn a_name_of_the_inside_is_known() {
        for name in
            ["db", "localhost", "printer.local", "metadata.google.internal", "x.home.arpa", "METADATA.GOOGLE.INTERNAL."]
        {
            assert!(is_local_name(name), "{name}");
        }
        for name in ["api.example.com", "local.example.com", "internal.dev"] {
            assert!(!is_local_name(name), "{name}");
        }
    }
}
