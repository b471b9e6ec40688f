//! `htu`: which URL a proof is for (RFC 9449 §4.2), compared after RFC 3986 §6.2.2 and §6.2.3.

/// The URL without query and fragment, scheme and host in lower case, without a default port, escapes in one spelling;
/// `None` if it is no http or https URL. Dot segments stay: the broker routes by the path as it came.
pub(crate) fn canonical(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let default_port = match scheme.as_str() {
        "https" => "443",
        "http" => "80",
        _ => return None,
    };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    // RFC 9110 §4.2.4: user information in an http URL is an attempt to deceive somebody.
    if authority.is_empty() || authority.contains('@') || !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    let authority = authority.to_ascii_lowercase();
    let authority = match authority.rsplit_once(':') {
        // The colons of an IPv6 address are inside its brackets.
        Some((host, port)) if port.is_empty() || port == default_port => host,
        _ => &authority,
    };
    Some(format!("{scheme}://{authority}{}", escapes(path)?))
}

/// Escapes of unreserved characters decoded, the others in upper case (RFC 3986 §6.2.2.1, §6.2.2.2).
fn escapes(path: &str) -> Option<String> {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let hex = after.get(..2).filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        let byte = u8::from_str_radix(hex, 16).ok()?;
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push_str(&hex.to_ascii_uppercase());
        }
        rest = after.get(2..)?;
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc9449_s4_3_urls_are_compared_after_normalisation() {
        let same = |a: &str, b: &str| canonical(a).is_some() && canonical(a) == canonical(b);
        let url = "https://hp.example.com/exchange/crm/v1/contacts";
        for good in [
            "https://hp.example.com/exchange/crm/v1/contacts?q=1",
            "https://hp.example.com/exchange/crm/v1/contacts#x",
            "HTTPS://HP.example.com:443/exchange/crm/v1/contacts",
            "https://hp.example.com:/exchange/crm/v1/contacts",
            "https://hp.example.com/exchange/crm/%761/contacts",
        ] {
            assert!(same(good, url), "{good}");
        }
        for bad in [
            "http://hp.example.com/exchange/crm/v1/contacts",
            "https://hp.example.com:8443/exchange/crm/v1/contacts",
            "https://other.example.com/exchange/crm/v1/contacts",
            "https://hp.example.com/exchange/crm/v1/Contacts",
            "https://hp.example.com/exchange/crm/v1/contacts/",
            "https://hp.example.com/exchange/crm/v1%2Fcontacts",
            "https://hp.example.com/exchange/crm/v2/../v1/contacts",
            "https://me@hp.example.com/exchange/crm/v1/contacts",
            "https://hp.example.com/exchange/crm/v1/contacts%",
            "https://hp.example.com/exchange/crm/v1/contacts%+1",
            "/exchange/crm/v1/contacts",
            "ftp://hp.example.com/exchange/crm/v1/contacts",
            "https:///exchange/crm/v1/contacts",
            "",
        ] {
            assert!(!same(bad, url), "{bad}");
        }
        assert!(same("http://127.0.0.1:8600", "http://127.0.0.1:8600/"));
        assert!(same("http://[::1]:80/a%2f", "http://[::1]/a%2F"));
        assert!(!same("http://[::1]/", "http://[::1]:8600/"));
        // None at all: two of these are not the same either.
        for none in
            ["https:///a", "https://", "https://me@hp.example.com/", "https://hp.example.com/a b", "https://hä/"]
        {
            assert_eq!(canonical(none), None, "{none}");
        }
    }
}
