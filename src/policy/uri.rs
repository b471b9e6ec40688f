//! When two URIs are one (RFC 3986 §6.2.2, §6.2.3): what a client's URL library makes of an audience is that audience.

use url::{Host, Url};

/// A URI with an authority in the one form that all its equivalent spellings have: scheme and host in lower case, no
/// default port, `/` for the empty path, and percent-encoding only where it is needed, in upper case.
///
/// `None`: it is no absolute URI with a host, or has a fragment (RFC 8707 §2) or a user in it, or characters that no URI
/// has. The library that parses would let some of these pass, as browsers do (blanks, backslashes, `0x7f.1` for
/// `127.0.0.1`): that is more than the RFC calls equivalent.
pub fn canonical(text: &str) -> Option<String> {
    let is_of_uri = |b: u8| b.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&b);
    let encoded = text
        .split('%')
        .skip(1)
        .all(|rest| rest.get(..2).is_some_and(|hex| hex.bytes().all(|digit| digit.is_ascii_hexdigit())));
    // Dot segments stay what they are: ambiguous.
    let has_dots =
        text.to_ascii_lowercase().replace("%2e", ".").split(['/', '?', '#']).any(|part| matches!(part, "." | ".."));
    if !text.bytes().all(is_of_uri) || !encoded || has_dots {
        return None;
    }
    let url = Url::parse(text).ok()?;
    if url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() {
        return None;
    }
    let host = match url.host()? {
        Host::Ipv4(ip) => Some(ip.to_string()).filter(|ip| text.contains(ip.as_str()))?,
        Host::Ipv6(ip) => format!("[{ip}]"),
        Host::Domain(name) => name.to_ascii_lowercase(),
    };
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let path = match url.path() {
        "" => "/".to_owned(),
        path => least_encoded(path),
    };
    let query = url.query().map(|query| format!("?{}", least_encoded(query))).unwrap_or_default();
    Some(format!("{}://{host}{port}{path}{query}", url.scheme()))
}

/// RFC 3986 §6.2.2.1, §6.2.2.2: unreserved characters as they are, hex digits in upper case.
fn least_encoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (hex, rest) = part.split_at_checked(2).unwrap_or((part, ""));
        match u8::from_str_radix(hex, 16).map(char::from) {
            Ok(c) if c.is_ascii_alphanumeric() || "-._~".contains(c) => out.push(c),
            _ => {
                out.push('%');
                out.push_str(&hex.to_ascii_uppercase());
            }
        }
        out.push_str(rest);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::canonical;

    #[test]
    fn rfc3986_s6_2_equivalent_spellings_are_one_and_others_are_not() {
        let same = |a: &str, b: &str| canonical(a).is_some() && canonical(a) == canonical(b);
        for (a, b) in [
            ("https://orders.example.com", "https://orders.example.com/"),
            ("https://orders.example.com", "HTTPS://Orders.Example.COM:443"),
            ("http://a.example:80/x", "http://a.example/x"),
            ("http://a.example:/x", "http://a.example/x"),
            ("https://a.example/%7euser/%3a", "https://a.example/~user/%3A"),
            ("https://[2001:DB8::0:1]/", "https://[2001:db8::1]"),
            ("https://127.0.0.1:8443", "https://127.0.0.1:8443/"),
            ("api://Orders", "API://orders/"),
        ] {
            assert!(same(a, b), "{a} {b}: {:?} {:?}", canonical(a), canonical(b));
        }
        for (a, b) in [
            ("https://a.example/x", "https://a.example/x/"),
            ("https://a.example/x", "https://a.example/X"),
            ("https://a.example", "http://a.example"),
            ("https://a.example", "https://a.example:8443"),
            ("https://a.example", "https://a.example."),
            ("https://a.example", "https://a.example/?"),
            ("https://a.example/a%2Fb", "https://a.example/a/b"),
            ("https://a.example/?a=1", "https://a.example/?a=2"),
        ] {
            assert!(canonical(a).is_some() && canonical(b).is_some() && !same(a, b), "{a} {b}");
        }
        for bad in [
            "",
            "orders",
            "urn:example:orders",
            "https://a.example/#",
            "https://u@a.example/",
            "https://a.example\\x",
            " https://a.example",
            "https://a.example/\n",
            "https://ä.example",
            "https://a.example/%",
            "https://a.example/%zz",
            "https://0x7f.1/",
            "https://127.1/",
            "https://a.example/x/../y",
            "https://a.example/%2e%2E/x",
            "https://a.example/.",
        ] {
            assert_eq!(canonical(bad), None, "{bad}");
        }
    }
}
