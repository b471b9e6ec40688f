//! Host names of upstreams at the public listener, for SDKs that take a host and no path.

use std::collections::BTreeMap;

use url::{Host, Url};

use crate::model::Manifest;
use crate::policy::address::host_is_canonical;
use crate::policy::manifest::{Known, Mistake};

/// More names than this are a mistake.
const MAX_HOSTS: usize = 32;

/// One entry of `public_hosts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicHost {
    /// In lower case, without a dot at its end.
    pub name: String,
    /// Without one, it is reached at the issuer's port, or at its scheme's.
    pub port: Option<u16>,
}

impl PublicHost {
    /// Reads `name` or `name:port`.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub fn parse(text: &str) -> Result<Self, (String, String)> {
        const FORM: &str = "write a host name, with ':PORT' if it is reached at another port than the issuer";
        let shown = text.escape_debug();
        let wrong = |problem: &str| (format!("'{shown}' {problem}"), FORM.to_owned());
        if text.contains(['/', '@', '?', '#', '*']) {
            return Err(wrong("is more than a host name, or holds a wildcard"));
        }
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) if !name.contains(':') => (name, Some(port)),
            Some(_) => return Err(wrong("is an IP address; only names can be told from the broker's own address")),
            None => (text, None),
        };
        let port = match port {
            None => None,
            Some(digits) => {
                let number = digits.parse::<u16>().ok().filter(|number| *number > 0 && number.to_string() == digits);
                Some(number.ok_or_else(|| wrong("has no port from 1 to 65535 after the colon"))?)
            }
        };
        if name.is_empty() {
            return Err(wrong("holds no name"));
        }
        // As an HTTP client reads it: `127.1`, `0x7f000001` and `2130706433` are addresses.
        match Host::parse(name) {
            Ok(Host::Ipv4(_) | Host::Ipv6(_)) => {
                Err(wrong("is an IP address; only names can be told from the broker's own address"))
            }
            Ok(parsed @ Host::Domain(_)) => {
                let canonical = parsed.to_string();
                if canonical != name {
                    return Err((format!("'{shown}' is not the usual spelling"), format!("write '{canonical}'")));
                }
                host_is_canonical(name, &parsed).map_err(|problem| (problem, FORM.to_owned()))?;
                if let Some(problem) = not_a_host_name(name) {
                    return Err(wrong(problem));
                }
                Ok(Self { name: name.to_owned(), port })
            }
            Err(error) => Err(wrong(&format!("is no host name: {error}"))),
        }
    }

    /// Whether some request could be meant for both.
    pub fn overlaps(&self, other: &Self) -> bool {
        let same_port = match (self.port, other.port) {
            (Some(one), Some(other)) => one == other,
            _ => true,
        };
        self.name == other.name && same_port
    }

    /// The port by which a request for `asked` reaches this, if one does; `asked` is what stood in the request.
    ///
    /// Without a port of its own, an entry has two: the issuer's, and that of the issuer's scheme, for a broker behind a
    /// proxy. What is written into links is one of these, never another one that a sender thought of.
    pub fn port_for(&self, issuer: &Url, asked: Option<u16>) -> Option<u16> {
        let default = if issuer.scheme() == "https" { 443 } else { 80 };
        let asked = asked.unwrap_or(default);
        let fits = match self.port {
            Some(port) => asked == port,
            None => asked == default || Some(asked) == issuer.port_or_known_default(),
        };
        fits.then_some(asked)
    }

    /// `scheme://name[:port]`, as clients know it.
    pub fn origin(&self, issuer: &Url, port: u16) -> String {
        let scheme = issuer.scheme();
        match (scheme, port) {
            ("https", 443) | ("http", 80) => format!("{scheme}://{}", self.name),
            _ => format!("{scheme}://{}:{port}", self.name),
        }
    }
}

/// RFC 1123 §2.1, RFC 1035 §2.3.4. No underscores: no certificate is made for such a name.
fn not_a_host_name(name: &str) -> Option<&'static str> {
    let is_label = |label: &str| {
        let plain = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        plain && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    if name.ends_with('.') {
        Some("ends with a dot; leave it out")
    } else if name.len() > 253 {
        Some("is longer than 253 characters")
    } else if !name.split('.').all(is_label) {
        Some("is no host name: each part has 1 to 63 letters, digits and '-', and no '-' at its ends")
    } else {
        None
    }
}

/// Checks the entries of one definition by themselves.
pub(super) fn check(
    entries: &[String],
    base_host: Option<&str>,
    note: &mut impl FnMut(String, String, &str),
) -> Vec<PublicHost> {
    let mut hosts: Vec<PublicHost> = Vec::new();
    if entries.len() > MAX_HOSTS {
        note("public_hosts".into(), format!("more than {MAX_HOSTS} host names"), "leave some of them out");
    }
    for (n, entry) in entries.iter().enumerate() {
        let at = format!("public_hosts[{n}]");
        match PublicHost::parse(entry) {
            Err((problem, fix)) => note(at, problem, &fix),
            Ok(host) if base_host.is_some_and(|base| is_same_name(base, &host.name)) => {
                let problem = format!("'{}' is the upstream's own host", host.name);
                note(at, problem, "write a name that leads to the broker wherever it is looked up");
            }
            Ok(host) => {
                if hosts.iter().any(|other| other.overlaps(&host)) {
                    note(at, format!("'{entry}' is there twice"), "write each host name once");
                }
                hosts.push(host);
            }
        }
    }
    hosts
}

/// Checks the entries of a document against each other, against the other upstreams, and against the broker's own name.
pub(super) fn check_all(manifest: &Manifest, known: &Known, mistakes: &mut Vec<Mistake>) {
    if known.public_hosts.is_empty() && manifest.upstreams.iter().all(|upstream| upstream.public_hosts.is_empty()) {
        return;
    }
    let parsed = |entries: &[String]| entries.iter().filter_map(|one| PublicHost::parse(one).ok()).collect::<Vec<_>>();
    let host_of = |url: &str| Url::parse(url).ok().and_then(|url| url.host().map(|host| host.to_string()));
    let mut taken: BTreeMap<&str, Vec<PublicHost>> = BTreeMap::new();
    let mut bases: BTreeMap<&str, String> = BTreeMap::new();
    taken.extend(known.public_hosts.iter().map(|(name, hosts)| (name.as_str(), hosts.clone())));
    bases.extend(known.base_hosts.iter().map(|(name, host)| (name.as_str(), host.clone())));
    for upstream in &manifest.upstreams {
        // What the document says of an upstream replaces what was known of it.
        taken.insert(&upstream.name, parsed(&upstream.public_hosts));
        bases.extend(host_of(&upstream.base_url).map(|host| (upstream.name.as_str(), host)));
    }
    let own = known.issuer.as_deref().and_then(host_of);
    for (n, upstream) in manifest.upstreams.iter().enumerate() {
        let mut mistake = |field: String, problem: String, fix: &str| {
            mistakes.push(Mistake { at: format!("upstreams[{n}].{field}"), problem, fix: fix.to_owned() });
        };
        for (m, entry) in upstream.public_hosts.iter().enumerate() {
            let Ok(host) = PublicHost::parse(entry) else { continue };
            let at = format!("public_hosts[{m}]");
            if own.as_deref().is_some_and(|own| is_same_name(own, &host.name)) {
                mistake(
                    at,
                    format!("'{entry}' is the broker's own host"),
                    "write another name that leads to the broker",
                );
                continue;
            }
            let others = taken.iter().filter(|(name, _)| **name != upstream.name);
            if let Some((other, _)) = others.clone().find(|(_, hosts)| hosts.iter().any(|one| one.overlaps(&host))) {
                mistake(
                    at,
                    format!("upstream '{other}' has '{entry}' already"),
                    "give each upstream its own host name",
                );
                continue;
            }
            let mut others = bases.iter().filter(|(name, _)| **name != upstream.name);
            if let Some((other, _)) = others.find(|(_, base)| is_same_name(base, &host.name)) {
                let problem = format!("'{entry}' is the host of upstream '{other}' itself");
                mistake(at, problem, "write a name that leads to the broker wherever it is looked up");
            }
        }
        let base = bases.get(upstream.name.as_str());
        let clash = taken
            .iter()
            .filter(|(name, _)| **name != upstream.name && !is_in(manifest, name))
            .find(|(_, hosts)| hosts.iter().any(|host| base.is_some_and(|base| is_same_name(base, &host.name))));
        if let Some((other, _)) = clash {
            let problem = format!("its host is a public host of upstream '{other}': the broker would call itself");
            mistake("base_url".into(), problem, "take that name out of the other upstream's public_hosts first");
        }
    }
}

fn is_in(manifest: &Manifest, name: &str) -> bool {
    manifest.upstreams.iter().any(|upstream| upstream.name == name)
}

/// A dot at the end is the same name (RFC 1034 §3.1).
fn is_same_name(one: &str, other: &str) -> bool {
    one.strip_suffix('.').unwrap_or(one).eq_ignore_ascii_case(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{parse_manifest, validate_manifest};

    #[test]
    fn host_names_and_what_only_looks_like_one() {
        for (text, name, port) in [
            ("stripe.hallpass.example.com", "stripe.hallpass.example.com", None),
            ("stripe.hallpass.example.com:8443", "stripe.hallpass.example.com", Some(8443)),
            ("stripe", "stripe", None),
            ("localhost:8600", "localhost", Some(8600)),
            ("xn--bcher-kva.example", "xn--bcher-kva.example", None),
        ] {
            assert_eq!(PublicHost::parse(text), Ok(PublicHost { name: name.into(), port }), "{text}");
        }
        for (text, says) in [
            ("", "no name"),
            (":80", "no name"),
            ("https://a.example", "more than a host name"),
            ("a.example/v1", "more than a host name"),
            ("u@a.example", "more than a host name"),
            ("*.a.example", "wildcard"),
            ("a.example:", "no port"),
            ("a.example:0", "no port"),
            ("a.example:080", "no port"),
            ("a.example:65536", "no port"),
            ("a.example:+80", "no port"),
            ("127.0.0.1", "IP address"),
            ("127.0.0.1:8600", "IP address"),
            ("127.1", "IP address"),
            ("0x7f000001", "IP address"),
            ("2130706433", "IP address"),
            ("0177.0.0.1", "IP address"),
            ("[::1]", "IP address"),
            ("[::1]:80", "IP address"),
            ("::1", "IP address"),
            ("a.1", "no host name"),
            ("Stripe.example", "usual spelling"),
            ("b\u{fc}cher.example", "usual spelling"),
            ("%61.example", "usual spelling"),
            ("a.example.", "dot"),
            ("a..example", "no host name"),
            ("-a.example", "no host name"),
            ("a-.example", "no host name"),
            ("a_b.example", "no host name"),
            ("a b.example", "no host name"),
            ("a\n.example", "no host name"),
        ] {
            let (problem, fix) = PublicHost::parse(text).expect_err(text);
            assert!(problem.contains(says) && !fix.is_empty(), "{text:?}: {problem}");
        }
        assert!(PublicHost::parse(&format!("{}.example", "a".repeat(64))).is_err());
        assert!(PublicHost::parse(&vec!["a".repeat(60); 5].join(".")).is_err());
    }

    #[test]
    fn an_entry_without_a_port_is_at_the_issuers_and_at_the_schemes() {
        let at = |entry: &str, issuer: &str, asked| {
            let (host, issuer) = (PublicHost::parse(entry).unwrap(), Url::parse(issuer).unwrap());
            host.port_for(&issuer, asked).map(|port| host.origin(&issuer, port))
        };
        let https = "https://hallpass.example.com";
        for asked in [None, Some(443)] {
            assert_eq!(at("a.example", https, asked).as_deref(), Some("https://a.example"));
            assert_eq!(at("a.example:443", https, asked).as_deref(), Some("https://a.example"));
            assert_eq!(at("a.example:8443", https, asked), None);
        }
        assert_eq!((at("a.example", https, Some(80)), at("a.example", https, Some(8600))), (None, None));
        assert_eq!(at("a.example:8443", https, Some(8443)).as_deref(), Some("https://a.example:8443"));
        let http = "http://127.0.0.1:8600";
        assert_eq!(at("a.example", http, Some(8600)).as_deref(), Some("http://a.example:8600"));
        assert_eq!(at("a.example", http, None).as_deref(), Some("http://a.example"));
        assert_eq!(at("a.example", http, Some(8601)), None);
    }

    /// Where the mistakes are in a document with one upstream for each pair of base URL and public hosts, beside
    /// upstream `known` with the public host `known.example:8443` at `https://base.example`.
    fn mistakes(upstreams: &[(&str, &str, &str)]) -> Vec<String> {
        let mut known = Known { issuer: Some("https://hallpass.example.com:8443".into()), ..Known::default() };
        known.apis.insert("known".into(), true);
        known.public_hosts.insert("known".into(), vec![PublicHost::parse("known.example:8443").unwrap()]);
        known.base_hosts.insert("known".into(), "base.example".into());
        let mut document = "upstreams:\n".to_owned();
        for (name, base, hosts) in upstreams {
            document.push_str(&format!(
                "  - {{ name: {name}, base_url: \"{base}\", public_hosts: [{hosts}], inject: {{ kind: bearer, credential: k }}, \
                 operations: [{{ id: a, methods: [GET], path: /a, scope: a }}] }}\n"
            ));
        }
        let manifest = parse_manifest(&document).unwrap();
        let found = validate_manifest(&manifest, &known).err().unwrap_or_default();
        found.into_iter().map(|one| one.at).collect()
    }

    #[test]
    fn each_name_leads_to_one_upstream_and_never_to_two() {
        let none: [&str; 0] = [];
        assert_eq!(
            mistakes(&[("a", "https://a.up", "a.example, b.example"), ("b", "https://b.up", "c.example")]),
            none
        );
        assert_eq!(mistakes(&[("a", "https://a.up", "'known.example:8444', 'known.example:443'")]), none);
        // What is known of an upstream is replaced by what the document says.
        assert_eq!(mistakes(&[("known", "https://b.up", "known.example"), ("a", "https://base.example", "")]), none);
        let first = "upstreams[0].public_hosts[0]";
        for hosts in ["known.example", "'known.example:8443'", "hallpass.example.com", "'hallpass.example.com:1'"] {
            assert_eq!(mistakes(&[("a", "https://a.up", hosts)]), [first], "{hosts}");
        }
        for hosts in ["a.up", "'a.up:8443'", "base.example"] {
            assert_eq!(mistakes(&[("a", "https://a.up", hosts)]), [first], "{hosts}");
        }
        assert_eq!(
            mistakes(&[
                ("a", "https://a.up", "x.example, y.example"),
                ("b", "https://b.up", "z.example, 'y.example:1'")
            ]),
            ["upstreams[0].public_hosts[1]", "upstreams[1].public_hosts[1]"]
        );
        assert_eq!(mistakes(&[("a", "https://a.up", "x.example, 'x.example:1'")]), ["upstreams[0].public_hosts[1]"]);
        assert_eq!(mistakes(&[("a", "https://known.example/v1", "")]), ["upstreams[0].base_url"]);
        assert_eq!(mistakes(&[("a", "https://a.up", "127.0.0.1, Up.example")]).len(), 2);
        assert_eq!(mistakes(&[("a", "https://a.up", &vec!["a.example"; 33].join(", "))]).len(), 33);
    }
}
