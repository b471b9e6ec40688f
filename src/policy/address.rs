//! Which addresses the broker dials, against server-side request forgery (CWE-918, P7).
//!
//! A name that an upstream's definition gives may resolve to anything: to the metadata service that hands out the cloud
//! account, to the broker's own admin port. Every resolved address passes [`check`], and that very address is dialled.
//! Ranges are those of the IANA special-purpose registries (RFC 6890, kept up to date at
//! `iana.org/assignments/iana-ipv4-special-registry` and `iana-ipv6-special-registry`), of the multicast registries,
//! and the addresses that clouds document for their metadata services.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::Host;

/// Why an address is not dialled; the text names the range and where it is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddressRefusal {
    /// Never dialled, whatever the upstream's definition says.
    Never(&'static str),
    /// A loopback or private range, dialled only where the upstream's definition has `allow_private: true`.
    Private(&'static str),
}

impl AddressRefusal {
    /// A stable code that programs may match on.
    pub fn code(self) -> &'static str {
        match self {
            Self::Never(_) => "address_never_allowed",
            Self::Private(_) => "address_private",
        }
    }

    /// The range and its source.
    pub fn range(self) -> &'static str {
        match self {
            Self::Never(range) | Self::Private(range) => range,
        }
    }
}

impl fmt::Display for AddressRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never(range) => {
                write!(f, "the upstream's address is {range}, which is never dialled; give it a routable one")
            }
            Self::Private(range) => write!(
                f,
                "the upstream's address is {range}; if that is meant, set allow_private: true in its definition"
            ),
        }
    }
}

impl std::error::Error for AddressRefusal {}

/// Whether this address may be dialled. An IPv6 address that carries an IPv4 one is judged by the one inside, since
/// that is where a translator or tunnel delivers: `::ffff:169.254.169.254` is the metadata service too.
pub fn check(ip: IpAddr, allow_private: bool) -> Result<(), AddressRefusal> {
    match judge(ip) {
        Some(AddressRefusal::Private(_)) if allow_private => Ok(()),
        Some(refusal) => Err(refusal),
        None => Ok(()),
    }
}

fn judge(ip: IpAddr) -> Option<AddressRefusal> {
    let ip = match ip {
        IpAddr::V4(ip) => return judge_v4(ip),
        IpAddr::V6(ip) => ip,
    };
    let prefix = |net: Ipv6Addr| (net.to_bits() ^ ip.to_bits()).leading_zeros();
    if let Some(range) = find(NEVER_V6, prefix) {
        return Some(AddressRefusal::Never(range));
    }
    let inner = embedded_v4(ip);
    match (find(PRIVATE_V6, prefix), inner.and_then(judge_v4)) {
        (_, Some(never @ AddressRefusal::Never(_))) => Some(never),
        (Some(range), _) => Some(AddressRefusal::Private(range)),
        (None, refusal) if inner.is_some() => refusal,
        // IANA IPv6 address space: only 2000::/3 is given out, and what is not given out is not a place to dial.
        _ if ip.to_bits() >> 125 != 1 => {
            Some(AddressRefusal::Never("outside of 2000::/3, global unicast (RFC 4291 §2.4)"))
        }
        _ => None,
    }
}

fn judge_v4(ip: Ipv4Addr) -> Option<AddressRefusal> {
    let prefix = |net: Ipv4Addr| (net.to_bits() ^ ip.to_bits()).leading_zeros();
    let never = find(NEVER_V4, prefix).map(AddressRefusal::Never);
    never.or_else(|| find(PRIVATE_V4, prefix).map(AddressRefusal::Private))
}

/// The first range whose whole prefix the address shares; `prefix` tells how many bits it shares with a range's first
/// one.
fn find<A: Copy>(ranges: &[Range<A>], prefix: impl Fn(A) -> u32) -> Option<&'static str> {
    ranges.iter().find(|(net, bits, _)| prefix(*net) >= *bits).map(|(_, _, text)| *text)
}

/// The IPv4 address within an IPv6 one. A network's own NAT64 prefix (RFC 6052 §2.2) cannot be known from the address.
fn embedded_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = ip.segments();
    let join = |high: u16, low: u16| Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match [a, b, c, d, e, f] {
        _ if ip.is_loopback() => None,
        // Mapped (RFC 4291 §2.5.5.2), compatible (§2.5.5.1, deprecated).
        [0, 0, 0, 0, 0, 0xffff | 0] => join(g, h),
        // Translated by SIIT (RFC 2765 §2.1, obsolete), NAT64 (RFC 6052 §2.1).
        [0, 0, 0, 0, 0xffff, 0] | [0x64, 0xff9b, 0, 0, 0, 0] => join(g, h),
        // 6to4 (RFC 3056 §2).
        [0x2002, high, low, ..] => join(high, low),
        // ISATAP (RFC 5214 §6.1), with the universal bit or without.
        [_, _, _, _, 0 | 0x200, 0x5efe] => join(g, h),
        _ => None,
    }
}

/// A range: its first address, the length of its prefix, and what it is with its source.
type Range<A> = (A, u32, &'static str);

macro_rules! ranges {
    ($ip:ident: $([$($part:literal),*] / $bits:literal, $text:literal;)*) => {
        &[$(($ip::new($($part),*), $bits, $text)),*]
    };
}

/// The first match names the reason, so single addresses come before the ranges that they are in.
const NEVER_V4: &[Range<Ipv4Addr>] = ranges! { Ipv4Addr:
    [169, 254, 169, 254] / 32, "169.254.169.254, cloud metadata (AWS, Azure, Google Cloud, OpenStack and others)";
    [169, 254, 170, 2] / 32, "169.254.170.2, container credentials (AWS ECS)";
    [169, 254, 170, 23] / 32, "169.254.170.23, pod credentials (AWS EKS)";
    [100, 100, 100, 200] / 32, "100.100.100.200, cloud metadata (Alibaba Cloud)";
    [168, 63, 129, 16] / 32, "168.63.129.16, the platform's wire server (Azure)";
    [192, 0, 0, 192] / 32, "192.0.0.192, cloud metadata (Oracle Cloud)";
    [0, 0, 0, 0] / 8, "in 0.0.0.0/8, \"this network\" (RFC 791 §3.2)";
    [169, 254, 0, 0] / 16, "in 169.254.0.0/16, link-local (RFC 3927)";
    [192, 0, 0, 0] / 24, "in 192.0.0.0/24, IETF protocol assignments (RFC 6890 §2.1)";
    [192, 0, 2, 0] / 24, "in 192.0.2.0/24, documentation (RFC 5737)";
    [192, 88, 99, 0] / 24, "in 192.88.99.0/24, 6to4 relay anycast, deprecated (RFC 7526)";
    [198, 18, 0, 0] / 15, "in 198.18.0.0/15, benchmarking (RFC 2544)";
    [198, 51, 100, 0] / 24, "in 198.51.100.0/24, documentation (RFC 5737)";
    [203, 0, 113, 0] / 24, "in 203.0.113.0/24, documentation (RFC 5737)";
    [224, 0, 0, 0] / 4, "in 224.0.0.0/4, multicast (RFC 5771)";
    [255, 255, 255, 255] / 32, "255.255.255.255, limited broadcast (RFC 919 §7)";
    [240, 0, 0, 0] / 4, "in 240.0.0.0/4, reserved (RFC 1112 §4)";
};

const PRIVATE_V4: &[Range<Ipv4Addr>] = ranges! { Ipv4Addr:
    [10, 0, 0, 0] / 8, "in 10.0.0.0/8, private (RFC 1918)";
    [172, 16, 0, 0] / 12, "in 172.16.0.0/12, private (RFC 1918)";
    [192, 168, 0, 0] / 16, "in 192.168.0.0/16, private (RFC 1918)";
    [127, 0, 0, 0] / 8, "in 127.0.0.0/8, loopback (RFC 1122 §3.2.1.3)";
    [100, 64, 0, 0] / 10, "in 100.64.0.0/10, shared by carriers and overlays (RFC 6598)";
};

const NEVER_V6: &[Range<Ipv6Addr>] = ranges! { Ipv6Addr:
    [0, 0, 0, 0, 0, 0, 0, 0] / 128, "::, unspecified (RFC 4291 §2.5.2)";
    [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0] / 32, "in fd00:ec2::/32, metadata and credentials (AWS, fd00:ec2::254)";
    [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254] / 128, "fd20:ce::254, cloud metadata (Google Cloud)";
    [0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe] / 128, "fd00:c1::a9fe:a9fe, cloud metadata (Oracle Cloud)";
    [0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42] / 128, "fd00:42::42, cloud metadata (Scaleway)";
    [0xfe80, 0, 0, 0, 0, 0, 0, 0] / 10, "in fe80::/10, link-local (RFC 4291 §2.5.6)";
    [0xfec0, 0, 0, 0, 0, 0, 0, 0] / 10, "in fec0::/10, site-local, deprecated (RFC 3879)";
    [0xff00, 0, 0, 0, 0, 0, 0, 0] / 8, "in ff00::/8, multicast (RFC 4291 §2.7)";
    [0x64, 0xff9b, 1, 0, 0, 0, 0, 0] / 48, "in 64:ff9b:1::/48, local translation (RFC 8215)";
    [0x100, 0, 0, 0, 0, 0, 0, 0] / 64, "in 100::/64, discard only (RFC 6666)";
    [0x100, 0, 0, 1, 0, 0, 0, 0] / 64, "in 100:0:0:1::/64, dummy prefix (RFC 9780)";
    [0x2001, 0, 0, 0, 0, 0, 0, 0] / 32, "in 2001::/32, Teredo (RFC 4380)";
    [0x2001, 2, 0, 0, 0, 0, 0, 0] / 48, "in 2001:2::/48, benchmarking (RFC 5180)";
    [0x2001, 0x10, 0, 0, 0, 0, 0, 0] / 28, "in 2001:10::/28, ORCHID, deprecated (RFC 4843)";
    [0x2001, 0x20, 0, 0, 0, 0, 0, 0] / 28, "in 2001:20::/28, ORCHIDv2 (RFC 7343)";
    [0x2001, 0, 0, 0, 0, 0, 0, 0] / 23, "in 2001::/23, IETF protocol assignments (RFC 2928)";
    [0x2001, 0xdb8, 0, 0, 0, 0, 0, 0] / 32, "in 2001:db8::/32, documentation (RFC 3849)";
    [0x3fff, 0, 0, 0, 0, 0, 0, 0] / 20, "in 3fff::/20, documentation (RFC 9637)";
    [0x5f00, 0, 0, 0, 0, 0, 0, 0] / 16, "in 5f00::/16, segment routing (RFC 9602)";
};

const PRIVATE_V6: &[Range<Ipv6Addr>] = ranges! { Ipv6Addr:
    [0, 0, 0, 0, 0, 0, 0, 1] / 128, "::1, loopback (RFC 4291 §2.5.3)";
    [0xfc00, 0, 0, 0, 0, 0, 0, 0] / 7, "in fc00::/7, unique local (RFC 4193)";
};

/// The host in a base URL as it was written: with the brackets of an IPv6 address, without port. `None` where the URL
/// is not plainly `http(s)://host[:port]…`, for instance with a user name or with something that URL parsers overlook
/// (WHATWG URL §4.4 drops tabs and line ends, and reads `https:\host`, `https:host` and `https:///host` as
/// `https://host`).
pub fn host_as_written(base_url: &str) -> Option<&str> {
    let (scheme, rest) = base_url.split_once("://")?;
    if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return None;
    }
    let authority = rest.split(['/', '?', '#']).next()?;
    if authority.contains(['@', '\\']) || authority.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return None;
    }
    let host = match authority.find(']') {
        Some(end) if authority.starts_with('[') => authority.get(..=end)?,
        Some(_) => return None,
        None => authority.split(':').next()?,
    };
    Some(host).filter(|host| !host.is_empty())
}

/// Refuses a host that the URL parser (WHATWG URL §3.5) rewrites: who reads `http://2130706433/` in a definition, or
/// searches it for `127.`, must not be fooled. Only letter case may differ. Refuses also what the parser lets pass and no
/// host is called. `written` comes from [`host_as_written`]; the error says how to write it.
pub fn host_is_canonical<S: AsRef<str>>(written: &str, parsed: &Host<S>) -> Result<(), String> {
    let canonical = parsed.to_string();
    let same = match parsed {
        Host::Domain(_) => written.eq_ignore_ascii_case(&canonical),
        Host::Ipv4(_) => written == canonical,
        // RFC 5952 §5 also allows the last 32 bits in decimal, as std writes them.
        Host::Ipv6(ip) => written.eq_ignore_ascii_case(&canonical) || written.eq_ignore_ascii_case(&format!("[{ip}]")),
    };
    if !same {
        return Err(format!("the host {written:?} is only another way to write {canonical:?}; write {canonical:?}"));
    }
    let Host::Domain(name) = parsed else { return Ok(()) };
    let name = name.as_ref();
    // Only a URL without `http(s)` gets such a name past the parser, but a resolver takes it for an address.
    let last = name.strip_suffix('.').unwrap_or(name).rsplit('.').next().unwrap_or_default();
    let hex = last.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("0x"));
    if hex || (!last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit())) {
        return Err(format!(
            "the host {written:?} ends in a number but is no IPv4 address; write all four parts in decimal"
        ));
    }
    match strange_in_host(name) {
        Some(strange) => Err(format!(
            "the host {written:?} holds {strange:?}, which no name in DNS does; write letters, digits, '-', '_' and '.'"
        )),
        None => Ok(()),
    }
}

/// The first character that does not belong into the name of a host (RFC 1123 §2.1, and `_`, which is in use). The URL parser
/// (WHATWG URL §3.5) lets `{`, `}`, `~` and others pass; a request to such a host cannot even be written (RFC 3986 §3.2.2).
pub(super) fn strange_in_host(name: &str) -> Option<char> {
    name.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_' | '.'))
}

#[cfg(test)]
mod tests;
