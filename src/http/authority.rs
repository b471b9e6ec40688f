//! Whom a request means: whether the server that it names is this one (RFC 9110 §7.4).

use std::net::IpAddr;

use http::uri::Authority;
use url::Url;

use crate::http::{PublicState, public_hosts};
use crate::listen::Connection;

/// Whether `authority` names this listener: by the address that the connection came to, or, at the public listener (`public`), by the
/// issuer's name or an upstream's public host. What a request says of itself, in `Host` or `X-Forwarded-Host`, is no evidence of that.
///
/// The scheme says which port is meant where none is written. That it is `https` on a connection without TLS proves
/// nothing: a proxy before us may have ended the TLS.
pub(super) fn is_ours(
    public: Option<&PublicState>,
    scheme: &str,
    authority: &Authority,
    connection: &Connection,
) -> bool {
    // RFC 9110 §7.4: nothing else than HTTP is spoken here.
    usual_port(scheme).is_some() && is_named(public, scheme, authority, connection)
}

fn is_named(public: Option<&PublicState>, scheme: &str, authority: &Authority, connection: &Connection) -> bool {
    is_own_address(scheme, authority, connection)
        || public.is_some_and(|state| {
            is_issuer(&state.issuer_url, authority) || public_hosts::at(state, authority).is_some()
        })
}

/// Whether two authorities name the same server: case does not matter, nor whether the scheme's usual port is written.
pub(super) fn is_same(scheme: &str, one: &Authority, other: &Authority) -> bool {
    let port = |authority: &Authority| authority.port_u16().or_else(|| usual_port(scheme));
    one.host().eq_ignore_ascii_case(other.host()) && port(one) == port(other)
}

/// Whether it is a host and, perhaps, a port, and nothing else. The parser leaves a port that is no number to whoever asks for
/// it, and then says that there is none.
pub(super) fn is_host(authority: &Authority) -> bool {
    match authority.as_str().strip_prefix(authority.host()) {
        Some("" | ":") => true,
        Some(port) => port.starts_with(':') && authority.port_u16().is_some(),
        None => false,
    }
}

fn is_own_address(scheme: &str, authority: &Authority, connection: &Connection) -> bool {
    let Some(local) = connection.local else { return false };
    let ip = local.ip().to_canonical();
    let host = authority.host();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let is_host = match bare.parse::<IpAddr>() {
        Ok(named) => named.to_canonical() == ip,
        // RFC 6761 §6.3: the one name that means this machine everywhere.
        Err(_) => ip.is_loopback() && host.eq_ignore_ascii_case("localhost"),
    };
    is_host && authority.port_u16().or_else(|| usual_port(scheme)) == Some(local.port())
}

fn is_issuer(issuer: &str, authority: &Authority) -> bool {
    let Ok(issuer) = Url::parse(issuer) else { return false };
    let is_port = match authority.port_u16() {
        Some(port) => issuer.port_or_known_default() == Some(port),
        // None written in either: the issuer's scheme says which is meant, whatever a proxy wrote for it.
        None => issuer.port().is_none(),
    };
    is_port && issuer.host_str().is_some_and(|host| host.eq_ignore_ascii_case(authority.host()))
}

fn usual_port(scheme: &str) -> Option<u16> {
    match scheme {
        _ if scheme.eq_ignore_ascii_case("http") => Some(80),
        _ if scheme.eq_ignore_ascii_case("https") => Some(443),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority(text: &str) -> Authority {
        text.parse().unwrap()
    }

    #[test]
    fn rfc9110_s4_2_3_the_same_server_has_many_spellings() {
        let same = |scheme, one, other| is_same(scheme, &authority(one), &authority(other));
        assert!(same("http", "b", "B") && same("http", "b", "b:80") && same("https", "b:443", "b"));
        assert!(same("http", "[::1]:8600", "[::1]:8600"));
        assert!(!same("http", "b", "b:443") && !same("https", "b", "b:80") && !same("http", "b", "b."));
        assert!(!same("http", "b", "c") && !same("http", "b:8600", "b:8601"));
    }

    #[test]
    fn rfc3986_s3_2_a_host_has_at_most_a_port_beside_it() {
        for good in ["b", "b:80", "b:", "[::1]", "[::1]:80", "127.0.0.1:8600"] {
            assert!(is_host(&authority(good)), "{good}");
        }
        for bad in ["a@b", "a:c@b:80", "b:80x", "b:99999", "b:x", "b:80.evil"] {
            assert!(Authority::try_from(bad).is_err() || !is_host(&authority(bad)), "{bad}");
        }
    }

    #[test]
    fn the_issuer_is_asked_for_by_its_own_name_and_port() {
        for (issuer, good, bad) in [
            (
                "https://hp.example.com/a",
                &["hp.example.com", "HP.example.com:443"][..],
                &["hp.example.com:80", "x"][..],
            ),
            ("http://127.0.0.1:8600", &["127.0.0.1:8600"], &["127.0.0.1", "127.0.0.1:8601", "127.1:8600"]),
            ("http://[::1]:8600", &["[::1]:8600"], &["[::2]:8600", "[::1]"]),
        ] {
            assert!(good.iter().all(|one| is_issuer(issuer, &authority(one))), "{issuer}");
            assert!(!bad.iter().any(|one| is_issuer(issuer, &authority(one))), "{issuer}");
        }
    }

    #[test]
    fn the_address_that_the_connection_came_to_is_ours_and_no_other() {
        let at = |local: &str| Connection { local: Some(local.parse().unwrap()), ..Connection::default() };
        let own = |local: &str, scheme, named| is_own_address(scheme, &authority(named), &at(local));
        assert!(own("127.0.0.1:8600", "http", "127.0.0.1:8600") && own("127.0.0.1:8600", "http", "LOCALHOST:8600"));
        assert!(own("[::1]:8600", "http", "localhost:8600") && own("10.0.0.5:443", "https", "10.0.0.5"));
        // A socket for both families gives IPv4 addresses in the form of IPv6 (RFC 4291 §2.5.5.2).
        assert!(own("[::ffff:10.0.0.5]:80", "http", "10.0.0.5"));
        assert!(!own("10.0.0.5:8600", "http", "localhost:8600") && !own("10.0.0.5:8600", "http", "10.0.0.6:8600"));
        assert!(!own("127.0.0.1:8600", "http", "127.0.0.1:8601") && !own("127.0.0.1:8600", "http", "127.0.0.1"));
        assert!(!is_own_address("http", &authority("127.0.0.1"), &Connection::default()));
    }
}
