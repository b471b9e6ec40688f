//! Kubernetes sets variables for each service of a namespace in every container there ("service links"). For a service whose
//! name begins with `hallpass` they bear our prefix, and are no settings.

use std::net::{IpAddr, SocketAddr};

use super::keys::VARIABLE_PREFIX;

/// Whether name and value are those of a service link. Both must fit: a setting of ours with a slip in its name must be found.
pub(super) fn is_service_link(name: &str, value: &str) -> bool {
    let Some(rest) = name.strip_prefix(VARIABLE_PREFIX.trim_end_matches('_')) else { return false };
    // Two of them stand in the settings of our tables.
    if rest.contains("__") {
        return false;
    }
    if rest.ends_with("_SERVICE_HOST") {
        return is_address(value);
    }
    if let Some((_, port_name)) = rest.rsplit_once("_SERVICE_PORT") {
        return (port_name.is_empty() || port_name.starts_with('_')) && is_port(value);
    }
    if rest.ends_with("_PORT") && is_url(value) {
        return true;
    }
    let Some((number, last)) = rest.rsplit_once("_PORT_").and_then(|(_, tail)| of_port(tail)) else { return false };
    is_port(number)
        && match last {
            "" => is_url(value),
            "PROTO" => is_protocol(value),
            "PORT" => value == number,
            "ADDR" => is_address(value),
            _ => false,
        }
}

/// `8600_TCP`, `8600_TCP_ADDR`: the number, and what stands behind the protocol.
fn of_port(tail: &str) -> Option<(&str, &str)> {
    let (number, tail) = tail.split_once('_')?;
    let (protocol, last) = tail.split_once('_').unwrap_or((tail, ""));
    is_protocol(&protocol.to_ascii_lowercase()).then_some((number, last))
}

fn is_protocol(text: &str) -> bool {
    matches!(text, "tcp" | "udp" | "sctp")
}

fn is_address(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok_and(|port| port > 0)
}

fn is_url(text: &str) -> bool {
    text.split_once("://").is_some_and(|(protocol, place)| {
        is_protocol(protocol) && (place.parse::<SocketAddr>().is_ok() || is_bare_ipv6(place))
    })
}

/// Older versions write an IPv6 address without brackets.
fn is_bare_ipv6(place: &str) -> bool {
    place.rsplit_once(':').is_some_and(|(address, port)| is_address(address) && is_port(port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_links_are_known_by_name_and_value() {
        for (name, value) in [
            ("HALLPASS_PORT", "tcp://10.0.0.1:8600"),
            ("HALLPASS_SERVICE_HOST", "10.0.0.1"),
            ("HALLPASS_SERVICE_HOST", "fd00::1"),
            ("HALLPASS_SERVICE_PORT", "8600"),
            ("HALLPASS_SERVICE_PORT_HTTP", "8600"),
            ("HALLPASS_SERVICE_PORT_OPS_METRICS", "8601"),
            ("HALLPASS_PORT_8600_TCP", "tcp://10.0.0.1:8600"),
            ("HALLPASS_PORT_8600_TCP", "tcp://[fd00::1]:8600"),
            ("HALLPASS_PORT_8600_TCP_PROTO", "tcp"),
            ("HALLPASS_PORT_8600_TCP_PORT", "8600"),
            ("HALLPASS_PORT_8600_TCP_ADDR", "10.0.0.1"),
            ("HALLPASS_PORT_53_UDP_ADDR", "10.0.0.1"),
            ("HALLPASS_ADMIN_SERVICE_PORT", "8602"),
            ("HALLPASS_ADMIN_PORT_8602_TCP_ADDR", "10.0.0.2"),
            ("HALLPASS_PORT_PORT", "tcp://10.0.0.1:8600"),
            ("HALLPASS2_PORT", "tcp://10.0.0.1:8600"),
            ("HALLPASS_MY_TEAM_1_SERVICE_HOST", "10.0.0.1"),
        ] {
            assert!(is_service_link(name, value), "{name}={value}");
        }
        for (name, value) in [
            ("HALLPASS_PORT", "8600"),
            ("HALLPASS_PORT", "tcp://hallpass:8600"),
            ("HALLPASS_PORT", "http://10.0.0.1:8600"),
            ("HALLPASS_SERVICE_HOST", "0.0.0.0:8600"),
            ("HALLPASS_SERVICE_PORT", "0"),
            ("HALLPASS_SERVICE_PORTS", "8600"),
            ("HALLPASS_LISTEN_PUBLIC", "127.0.0.1:8600"),
            ("HALLPASS_LISTEN__PORT", "tcp://10.0.0.1:8600"),
            ("HALLPASS_LISTEN__SERVICE_HOST", "10.0.0.1"),
            ("HALLPASS_PORT_8600_TCP_PORT", "8601"),
            ("HALLPASS_PORT_8600_ICMP", "tcp://10.0.0.1:8600"),
            ("HALLPASS_TOKENS_LIFETIME_SECONDS", "60"),
            ("OTHER_PORT", "tcp://10.0.0.1:8600"),
        ] {
            assert!(!is_service_link(name, value), "{name}={value}");
        }
    }
}
