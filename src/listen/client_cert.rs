//! What a TLS-terminating proxy says of its client: `Client-Cert`, `Client-Cert-Chain` (RFC 9440), `X-Forwarded-For`.
//!
//! Whoever may say these things may be anybody. So only listed addresses are heard. From everybody else the headers are taken
//! away before anything looks at the request (RFC 9440 §4).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;
use rustls::pki_types::CertificateDer;

use crate::listen::Connection;

const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
const CLIENT_CERT_CHAIN: HeaderName = HeaderName::from_static("client-cert-chain");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// What is known of the other end for one request: the connection's own, or what a trusted proxy says instead. The
/// headers are gone afterwards.
pub(super) fn of_request(connection: &Connection, headers: &mut HeaderMap, trusted: &[IpNet]) -> Connection {
    let is_trusted =
        connection.address.is_some_and(|peer| trusted.iter().any(|network| network.contains(&peer.to_canonical())));
    let seen = if is_trusted {
        let certificates = certificates(headers);
        // The proxy's own certificate is the proxy's: it never counts as an agent's.
        Connection {
            address: forwarded_for(headers, trusted).or(connection.address),
            local: connection.local,
            gives_way: connection.gives_way,
            malformed: certificates.is_err(),
            certificates: certificates.unwrap_or_default(),
        }
    } else {
        connection.clone()
    };
    headers.remove(CLIENT_CERT);
    headers.remove(CLIENT_CERT_CHAIN);
    seen
}

/// What cannot be read as RFC 9440 §2 writes it. The request is refused: it is not one without a certificate.
#[derive(Debug, PartialEq, Eq)]
struct Malformed;

type Chain = Option<Arc<[CertificateDer<'static>]>>;

fn certificates(headers: &HeaderMap) -> Result<Chain, Malformed> {
    let mut own = headers.get_all(CLIENT_CERT).iter();
    let (first, second) = (own.next(), own.next());
    let further = headers.get_all(CLIENT_CERT_CHAIN);
    let Some(first) = first else {
        // §2.3: a chain comes with the certificate that it belongs to.
        return if further.iter().next().is_none() { Ok(None) } else { Err(Malformed) };
    };
    if second.is_some() {
        return Err(Malformed);
    }
    let mut chain = vec![byte_sequence(text(first)?)?];
    // A list may be spread over several lines (RFC 9110 §5.3).
    for line in further {
        for member in text(line)?.split(',') {
            chain.push(byte_sequence(member)?);
        }
    }
    Ok(Some(chain.into()))
}

fn text(value: &HeaderValue) -> Result<&str, Malformed> {
    value.to_str().map_err(|_| Malformed)
}

/// `:base64:` (RFC 9651 §3.3.5), without parameters: §2.2 defines none.
fn byte_sequence(text: &str) -> Result<CertificateDer<'static>, Malformed> {
    let inside = text.trim_matches([' ', '\t']).strip_prefix(':').and_then(|rest| rest.strip_suffix(':'));
    let der = inside.and_then(|base64| STANDARD.decode(base64).ok()).filter(|der| !der.is_empty());
    der.map(CertificateDer::from).ok_or(Malformed)
}

/// The last address that is not a trusted proxy's own: what stands before it, the client may have made up. Where all are
/// in the trusted networks (agents beside their proxy), the last one: the proxy that is connected wrote that itself.
///
/// `Forwarded` (RFC 7239) is not heard: a proxy that writes one of the two hands on what a client wrote into the other.
fn forwarded_for(headers: &HeaderMap, trusted: &[IpNet]) -> Option<IpAddr> {
    let mut last = None;
    for line in headers.get_all(FORWARDED_FOR).iter().rev() {
        // What stands before something that cannot be read is nobody's word.
        for one in line.to_str().ok().map(|line| line.rsplit(',')).into_iter().flatten() {
            let Some(address) = node(one.trim()) else { return last };
            if !trusted.iter().any(|network| network.contains(&address)) {
                return Some(address);
            }
            last.get_or_insert(address);
        }
    }
    last
}

/// An address as proxies write it: some in brackets, some with the port (RFC 7239 §6).
fn node(text: &str) -> Option<IpAddr> {
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address =
        bare.parse::<IpAddr>().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|with_port| with_port.ip()));
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines.iter().map(|(k, v)| (HeaderName::from_static(k), HeaderValue::from_str(v).unwrap())).collect()
    }

    fn from(peer: &str) -> Connection {
        let own = Arc::from(vec![CertificateDer::from(vec![9])]);
        Connection { address: Some(peer.parse().unwrap()), certificates: Some(own), ..Connection::default() }
    }

    fn trusted() -> Vec<IpNet> {
        vec!["10.0.0.0/8".parse().unwrap()]
    }

    #[test]
    fn rfc9440_s2_2_a_byte_sequence_is_read_strictly() {
        for (text, is_good) in [
            (":AQID:", true),
            ("", false),
            ("AQID", false),
            (":AQID", false),
            ("::", false),
            (":AQ-_:", false),
            (":AQI:", false),
            (":AQID:;a=1", false),
            (":AQID:, :AQID:", false),
            ("\"AQID\"", false),
            (":%41QID:", false),
        ] {
            let mut lines = headers(&[("client-cert", text)]);
            let seen = of_request(&from("10.1.1.1"), &mut lines, &trusted());
            assert_eq!((seen.malformed, seen.certificates.is_some()), (!is_good, is_good), "{text}");
            assert!(lines.is_empty(), "{text}");
        }
    }

    #[test]
    fn rfc9440_s2_3_a_chain_follows_its_certificate() {
        let mut lines = headers(&[
            ("client-cert", ":AQ==:"),
            ("client-cert-chain", ":Ag==:, :Aw==:"),
            ("client-cert-chain", ":BA==:"),
        ]);
        let seen = of_request(&from("10.1.1.1"), &mut lines, &trusted()).certificates.unwrap();
        assert_eq!(seen.iter().map(|one| one.as_ref().to_vec()).collect::<Vec<_>>(), [[1], [2], [3], [4]]);
        for wrong in [&[("client-cert-chain", ":Ag==:")][..], &[("client-cert", ":AQ==:"), ("client-cert", ":AQ==:")]] {
            assert!(of_request(&from("10.1.1.1"), &mut headers(wrong), &trusted()).malformed, "{wrong:?}");
        }
    }

    #[test]
    fn rfc9440_s4_a_stranger_is_not_heard_and_a_proxy_is_nobody_itself() {
        let mut lines = headers(&[("client-cert", ":AQ==:"), ("client-cert-chain", ":Ag==:")]);
        let seen = of_request(&from("192.0.2.1"), &mut lines, &trusted());
        assert_eq!(seen.certificates.unwrap()[0].as_ref(), [9]);
        assert!(lines.is_empty());
        assert!(of_request(&from("10.1.1.1"), &mut HeaderMap::new(), &trusted()).certificates.is_none());
        assert!(of_request(&from("::ffff:10.1.1.1"), &mut HeaderMap::new(), &trusted()).certificates.is_none());
    }

    #[test]
    fn the_last_address_that_no_proxy_has_is_the_clients() {
        for (lines, address) in [
            (&[][..], "10.1.1.1"),
            (&[("x-forwarded-for", "203.0.113.9")][..], "203.0.113.9"),
            (&[("x-forwarded-for", "1.2.3.4, 203.0.113.9, 10.2.2.2")][..], "203.0.113.9"),
            (&[("x-forwarded-for", "1.2.3.4"), ("x-forwarded-for", "203.0.113.9")][..], "203.0.113.9"),
            (&[("x-forwarded-for", "1.2.3.4, unknown")][..], "10.1.1.1"),
            (&[("x-forwarded-for", "1.2.3.4, unknown, 10.2.2.2")][..], "10.2.2.2"),
            (&[("x-forwarded-for", "1.2.3.4, ")][..], "10.1.1.1"),
            // Agents in the proxy's own network.
            (&[("x-forwarded-for", "10.3.3.3")][..], "10.3.3.3"),
            (&[("x-forwarded-for", "10.9.9.9, 10.3.3.3")][..], "10.3.3.3"),
            // With a port, in brackets, mapped.
            (&[("x-forwarded-for", "203.0.113.9:50312")][..], "203.0.113.9"),
            (&[("x-forwarded-for", "[2001:db8::9]:50312")][..], "2001:db8::9"),
            (&[("x-forwarded-for", "[2001:db8::9]")][..], "2001:db8::9"),
            (&[("x-forwarded-for", "2001:db8::9")][..], "2001:db8::9"),
            (&[("x-forwarded-for", "::ffff:203.0.113.9, 10.2.2.2:80")][..], "203.0.113.9"),
            (&[("forwarded", "for=203.0.113.9")][..], "10.1.1.1"),
        ] {
            let seen = of_request(&from("10.1.1.1"), &mut headers(lines), &trusted());
            assert_eq!(seen.address, Some(address.parse().unwrap()), "{lines:?}");
        }
        let seen = of_request(&from("192.0.2.1"), &mut headers(&[("x-forwarded-for", "1.2.3.4")]), &trusted());
        assert_eq!(seen.address, Some("192.0.2.1".parse().unwrap()));
    }
}
