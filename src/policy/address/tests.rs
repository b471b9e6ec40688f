use super::*;

#[derive(Debug, PartialEq)]
enum Is {
    Open,
    Private,
    Never,
}
use Is::{Never, Open, Private};

fn is(text: &str) -> Is {
    let ip: IpAddr = text.parse().expect(text);
    match (check(ip, false), check(ip, true)) {
        (Ok(()), Ok(())) => Open,
        (Err(AddressRefusal::Private(_)), Ok(())) => Private,
        (Err(AddressRefusal::Never(one)), Err(AddressRefusal::Never(two))) if one == two => Never,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn edges_of_v4_ranges() {
    for (text, expected) in [
        ("0.0.0.0", Never),
        ("0.0.0.1", Never),
        ("0.255.255.255", Never),
        ("1.0.0.0", Open),
        ("9.255.255.255", Open),
        ("10.0.0.0", Private),
        ("10.255.255.255", Private),
        ("11.0.0.0", Open),
        ("100.63.255.255", Open),
        ("100.64.0.0", Private),
        ("100.127.255.255", Private),
        ("100.128.0.0", Open),
        ("100.100.100.199", Private),
        ("100.100.100.200", Never),
        ("100.100.100.201", Private),
        ("126.255.255.255", Open),
        ("127.0.0.0", Private),
        ("127.0.0.1", Private),
        ("127.255.255.255", Private),
        ("128.0.0.0", Open),
        ("168.63.129.15", Open),
        ("168.63.129.16", Never),
        ("168.63.129.17", Open),
        ("169.253.255.255", Open),
        ("169.254.0.0", Never),
        ("169.254.169.254", Never),
        ("169.254.170.2", Never),
        ("169.254.170.23", Never),
        ("169.254.255.255", Never),
        ("169.255.0.0", Open),
        ("172.15.255.255", Open),
        ("172.16.0.0", Private),
        ("172.31.255.255", Private),
        ("172.32.0.0", Open),
        ("191.255.255.255", Open),
        ("192.0.0.0", Never),
        ("192.0.0.192", Never),
        ("192.0.0.255", Never),
        ("192.0.1.0", Open),
        ("192.0.1.255", Open),
        ("192.0.2.0", Never),
        ("192.0.2.255", Never),
        ("192.0.3.0", Open),
        ("192.88.98.255", Open),
        ("192.88.99.0", Never),
        ("192.88.99.255", Never),
        ("192.88.100.0", Open),
        ("192.167.255.255", Open),
        ("192.168.0.0", Private),
        ("192.168.255.255", Private),
        ("192.169.0.0", Open),
        ("198.17.255.255", Open),
        ("198.18.0.0", Never),
        ("198.19.255.255", Never),
        ("198.20.0.0", Open),
        ("198.51.99.255", Open),
        ("198.51.100.0", Never),
        ("198.51.100.255", Never),
        ("198.51.101.0", Open),
        ("203.0.112.255", Open),
        ("203.0.113.0", Never),
        ("203.0.113.255", Never),
        ("203.0.114.0", Open),
        ("223.255.255.255", Open),
        ("224.0.0.0", Never),
        ("239.255.255.255", Never),
        ("240.0.0.0", Never),
        ("255.255.255.254", Never),
        ("255.255.255.255", Never),
        ("8.8.8.8", Open),
    ] {
        assert_eq!(is(text), expected, "{text}");
    }
}

#[test]
fn edges_of_v6_ranges() {
    for (text, expected) in [
        ("::", Never),
        ("::1", Private),
        ("::2", Never),
        ("fd00:ec1:ffff:ffff:ffff:ffff:ffff:ffff", Private),
        ("fd00:ec2::", Never),
        ("fd00:ec2::254", Never),
        ("fd00:ec2::23", Never),
        ("fd00:ec2:ffff:ffff:ffff:ffff:ffff:ffff", Never),
        ("fd00:ec3::", Private),
        ("fd20:ce::253", Private),
        ("fd20:ce::254", Never),
        ("fd20:ce::255", Private),
        ("fd00:c1::a9fe:a9fe", Never),
        ("fd00:42::42", Never),
        ("fd00:42::43", Private),
        ("fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Never),
        ("fc00::", Private),
        ("fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Private),
        ("fe00::", Never),
        ("fe7f:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Never),
        ("fe80::", Never),
        ("fe80::a9fe:a9fe", Never),
        ("febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Never),
        ("fec0::", Never),
        ("feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Never),
        ("ff00::", Never),
        ("ff02::1", Never),
        ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Never),
        ("64:ff9b:1::", Never),
        ("64:ff9b:1::8.8.8.8", Never),
        ("64:ff9b:1:ffff:ffff:ffff:ffff:ffff", Never),
        ("64:ff9b:2::", Never),
        ("100::", Never),
        ("100::ffff:ffff:ffff:ffff", Never),
        ("100:0:0:1::", Never),
        ("100:0:0:2::", Never),
        ("1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Never),
        ("2000::", Open),
        ("2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Open),
        ("2001::", Never),
        ("2001:0:ffff:ffff:ffff:ffff:ffff:ffff", Never),
        ("2001:2::", Never),
        ("2001:2:0:ffff:ffff:ffff:ffff:ffff", Never),
        ("2001:10::", Never),
        ("2001:1f:ffff::", Never),
        ("2001:20::", Never),
        ("2001:2f:ffff::", Never),
        ("2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", Never),
        ("2001:200::", Open),
        ("2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", Open),
        ("2001:db8::", Never),
        ("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", Never),
        ("2001:db9::", Open),
        ("2001:4860:4860::8888", Open),
        ("2606:4700:4700::1111", Open),
        ("3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Open),
        ("3fff::", Never),
        ("3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", Never),
        ("3fff:1000::", Open),
        ("3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Open),
        ("4000::", Never),
        ("5f00::", Never),
    ] {
        assert_eq!(is(text), expected, "{text}");
    }
}

#[test]
fn an_embedded_v4_is_judged_by_itself() {
    for (inner, expected) in [
        ("8.8.8.8", Open),
        ("127.0.0.1", Private),
        ("10.1.2.3", Private),
        ("192.168.0.1", Private),
        ("100.64.0.1", Private),
        ("169.254.169.254", Never),
        ("100.100.100.200", Never),
        ("168.63.129.16", Never),
        ("0.0.0.0", Never),
        ("224.0.0.1", Never),
        ("255.255.255.255", Never),
        ("192.0.2.1", Never),
        ("198.18.0.1", Never),
    ] {
        let ip: Ipv4Addr = inner.parse().expect(inner);
        let [a, b, c, d] = ip.octets();
        let pair = format!("{a:02x}{b:02x}:{c:02x}{d:02x}");
        for text in [
            format!("::ffff:{inner}"),
            format!("::ffff:{pair}"),
            format!("::ffff:0:{inner}"),
            format!("64:ff9b::{inner}"),
            format!("2002:{pair}::"),
            format!("2002:{pair}:1:2:3:4:5"),
            format!("2a00:1::5efe:{inner}"),
            format!("2a00::200:5efe:{inner}"),
        ] {
            assert_eq!(is(&text), expected, "{text}");
            assert_eq!(
                check(text.parse().expect(&text), false),
                check(IpAddr::V4(ip), false),
                "{text}: the inner reason"
            );
        }
        // `::` and `::1` have rules of their own.
        if inner != "0.0.0.0" {
            assert_eq!(is(&format!("::{inner}")), expected, "::{inner}");
        }
    }
    assert_eq!(is("fd00::5efe:169.254.169.254"), Never, "ISATAP in a private range");
    assert_eq!(is("fd00::5efe:8.8.8.8"), Private);
    // One bit beside the prefixes is no embedding, and outside of 2000::/3.
    for text in ["::fffe:8.8.8.8", "::1:0:808:808", "64:ff9b::1:808:808", "::1:ffff:808:808"] {
        assert_eq!(is(text), Never, "{text}");
    }
}

#[test]
fn refusals_name_the_range() {
    let why = |text: &str| check(text.parse().expect(text), false).expect_err(text);
    assert!(why("169.254.169.254").range().contains("metadata"));
    assert!(why("::ffff:169.254.169.254").range().contains("metadata"));
    assert!(why("255.255.255.255").range().contains("broadcast"));
    assert!(why("2001:0:1::").range().contains("Teredo"));
    assert!(why("10.0.0.1").to_string().contains("allow_private: true"));
    assert_eq!(why("10.0.0.1").code(), "address_private");
    assert_eq!(why("fe80::1").code(), "address_never_allowed");
    assert!(!why("fe80::1").to_string().contains("allow_private"));
}

#[test]
fn tables_are_well_formed() {
    for (net, bits, range) in NEVER_V4.iter().chain(PRIVATE_V4) {
        assert!(net.to_bits().trailing_zeros() >= 32 - bits, "{range}");
        let named = if *bits == 32 { net.to_string() } else { format!("{net}/{bits}") };
        assert!(range.contains(&named), "{range}");
    }
    for (net, bits, range) in NEVER_V6.iter().chain(PRIVATE_V6) {
        assert!(net.to_bits().trailing_zeros() >= 128 - bits, "{range}");
        let named = if *bits == 128 { net.to_string() } else { format!("{net}/{bits}") };
        assert!(range.contains(&named), "{range}");
    }
}

#[test]
fn hosts_that_are_what_they_seem() {
    for url in [
        "https://api.example.com",
        "https://API.Example.COM/v1",
        "HTTPS://api.example.com:8443/v1?x#y",
        "http://127.0.0.1:8080/",
        "http://[::1]:80/",
        "http://[2001:DB8::A]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]/",
        "http://xn--bcher-kva.example/",
        "http://localhost",
        "http://under_score.example",
        "http://example.com./",
        "http://1.2.3.4.example/",
        "http://0x7f.example/",
        "http://3com",
    ] {
        let written = host_as_written(url).unwrap_or_else(|| panic!("{url}"));
        let parsed = url::Url::parse(url).expect(url);
        assert_eq!(host_is_canonical(written, &parsed.host().expect(url)), Ok(()), "{url}");
    }
}

#[test]
fn hosts_that_the_parser_rewrites() {
    for (name, written, hint) in [
        ("decimal", "2130706433", "write \"127.0.0.1\""),
        ("octal", "0177.0.0.1", "write \"127.0.0.1\""),
        ("octal, all", "0177.0.0.01", "write \"127.0.0.1\""),
        ("octal in one", "017700000001", "write \"127.0.0.1\""),
        ("hex", "0x7f.0.0.1", "write \"127.0.0.1\""),
        ("hex in one", "0x7f000001", "write \"127.0.0.1\""),
        ("hex, upper", "0X7F000001", "write \"127.0.0.1\""),
        ("empty hex", "127.0.0.0x", "write \"127.0.0.0\""),
        ("short", "127.1", "write \"127.0.0.1\""),
        ("three parts", "127.0.1", "write \"127.0.0.1\""),
        ("zero", "0", "write \"0.0.0.0\""),
        ("metadata in decimal", "2852039166", "write \"169.254.169.254\""),
        ("metadata in hex", "0xa9fea9fe", "write \"169.254.169.254\""),
        ("leading zeros", "127.000.000.001", "write \"127.0.0.1\""),
        ("trailing dot", "127.0.0.1.", "write \"127.0.0.1\""),
        ("trailing dot, decimal", "2130706433.", "write \"127.0.0.1\""),
        ("percent", "%31%32%37.0.0.1", "write \"127.0.0.1\""),
        ("percent, dot", "127%2e0.0.1", "write \"127.0.0.1\""),
        ("percent, name", "ex%61mple.com", "write \"example.com\""),
        ("fullwidth", "ｅｘａｍｐｌｅ.com", "write \"example.com\""),
        ("fullwidth digits", "１２７.0.0.1", "write \"127.0.0.1\""),
        ("circled digits", "①②⑦.0.0.1", "write \"127.0.0.1\""),
        ("ideographic dot", "127。0。0。1", "write \"127.0.0.1\""),
        ("halfwidth dot", "example｡com", "write \"example.com\""),
        ("soft hyphen", "exam\u{ad}ple.com", "write \"example.com\""),
        ("zero width", "exam\u{200b}ple.com", "write \"example.com\""),
        ("Unicode", "bücher.example", "write \"xn--bcher-kva.example\""),
        ("sharp s", "fa\u{df}.example", "write \"xn--fa-hia.example\""),
        ("Kelvin", "\u{212a}.example", "write \"k.example\""),
        ("IPv6 in full", "[0:0:0:0:0:0:0:1]", "write \"[::1]\""),
        ("IPv6 with zeros", "[::0001]", "write \"[::1]\""),
        ("IPv6, not shortest", "[2001:db8:0::1]", "write \"[2001:db8::1]\""),
        ("compatible with dots", "[::0.0.0.1]", "write \"[::1]\""),
    ] {
        let parsed = Host::parse(written).unwrap_or_else(|why| panic!("{name}: {why}"));
        let why = host_is_canonical(written, &parsed).expect_err(name);
        assert!(why.contains(hint), "{name}: {why}");
    }
    // What only a URL of another scheme can hold.
    for written in ["2130706433", "0x7f.1", "127.1", "127.0.0.1.", "example.0"] {
        let why = host_is_canonical(written, &Host::Domain(written)).expect_err(written);
        assert!(why.contains("four parts"), "{why}");
    }
    let why = host_is_canonical("a.exa}ple", &Host::Domain("a.exa}ple")).expect_err("no name in DNS");
    assert!(why.contains("'}'") && why.contains("write letters"), "{why}");
    assert_eq!(host_is_canonical("a_b-1.example", &Host::Domain("a_b-1.example")), Ok(()));
    assert!(host_is_canonical("evil.example", &Host::Domain("good.example")).is_err());
    assert!(host_is_canonical("::1", &Host::<&str>::Ipv6(Ipv6Addr::LOCALHOST)).is_err(), "a URL has brackets");
}

#[test]
fn urls_that_are_not_plain() {
    for url in [
        "",
        "example.com",
        "https:example.com",
        "https:/example.com",
        "https:///example.com",
        "https:\\\\example.com",
        "https://\\example.com",
        "https://a@example.com",
        "https://good.example\\@evil.example",
        "https://a:b@example.com",
        "https://exam\tple.com",
        "https://exam\nple.com",
        "https:// example.com",
        " https://example.com",
        "https://",
        "https://:80",
        "ftp://example.com",
        "ht\ttps://example.com",
        "https://x[::1]",
        "https://::1]/",
    ] {
        assert_eq!(host_as_written(url), None, "{url:?}");
    }
    assert_eq!(host_as_written("https://[::1]:8443/x"), Some("[::1]"));
    assert_eq!(host_as_written("https://h:1/@x\\"), Some("h"));
}
