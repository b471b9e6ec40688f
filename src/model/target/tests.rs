//! What is canonical, what is refused, and that nothing of a target is read in two ways.

use super::query::MAX_QUERY;
use super::*;
use proptest::prelude::*;

#[test]
fn ordinary_and_normalised() {
    for (name, input, expected) in [
        ("root", "/", "/"),
        ("plain", "/v1/contacts/42", "/v1/contacts/42"),
        ("trailing slash kept", "/v1/contacts/", "/v1/contacts/"),
        ("no trailing slash made", "/v1/contacts", "/v1/contacts"),
        ("all unreserved", "/AZaz09-._~", "/AZaz09-._~"),
        ("sub-delims, colon, at", "/a!$&'()*+,=:@b", "/a!$&'()*+,=:@b"),
        ("dots within names", "/a.b/.well-known/..a/a../a...b/file.", "/a.b/.well-known/..a/a../a...b/file."),
        ("case of letters kept", "/V1/Contacts", "/V1/Contacts"),
        ("hex upper-cased", "/a%3ab%c3%a9", "/a%3Ab%C3%A9"),
        ("unreserved decoded", "/%61%7e%2D%5f%30/x%2ey", "/a~-_0/x.y"),
        ("reserved stays encoded", "/a%40b%3Ac%2Bd%3F%23%3B%26%3D", "/a%40b%3Ac%2Bd%3F%23%3B%26%3D"),
        ("forbidden stays encoded", "/%20%22%3C%3E%5B%5D%5E%60%7B%7C%7D", "/%20%22%3C%3E%5B%5D%5E%60%7B%7C%7D"),
        ("percent sign as data", "/100%25", "/100%25"),
        ("percent sign before text", "/100%25-of/5%25x0/%25u/%25a", "/100%25-of/5%25x0/%25u/%25a"),
        ("matrix data encoded", "/a%3bb", "/a%3Bb"),
        ("emoji, Persian with a joiner", "/%F0%9F%91%8D/%D9%85%DB%8C%E2%80%8C", "/%F0%9F%91%8D/%D9%85%DB%8C%E2%80%8C"),
        ("encoded slash as it came", "/a%2fb/c%2Fd", "/a%2fb/c%2Fd"),
        ("scoped package", "/@scope%2fname", "/@scope%2fname"),
        ("default virtual host", "/queues/%2F/q", "/queues/%2F/q"),
        ("encoded slashes only", "/%2f%2F", "/%2f%2F"),
        ("dots in names beside an encoded slash", "/a..%2f..b%2F.c", "/a..%2f..b%2F.c"),
        ("what URL libraries leave", "/a|b^c/[0]", "/a|b^c/[0]"),
        ("Japanese question mark", "/%EF%BC%9F", "/%EF%BC%9F"),
        ("longest", &format!("/{}", "a".repeat(MAX_PATH - 1)), &format!("/{}", "a".repeat(MAX_PATH - 1))),
    ] {
        let target = Target::parse(input, None).unwrap_or_else(|why| panic!("{name}: {}", why.code()));
        assert_eq!((target.path(), target.query(), target.path_and_query()), (expected, None, expected), "{name}");
    }
}

#[test]
fn hostile_paths() {
    for (name, input, code) in [
        ("no slash", "a", "target_not_absolute"),
        ("no slash, dots", "../a", "target_not_absolute"),
        ("absolute form", "http://evil/", "target_not_absolute"),
        ("asterisk form", "*", "target_not_absolute"),
        ("userinfo glued on", "@evil/x", "target_not_absolute"),
        ("port glued on", ":80/x", "target_not_absolute"),
        ("too long", &format!("/{}", "a".repeat(MAX_PATH)), "target_path_too_long"),
        ("dot", "/.", "target_dot_segment"),
        ("dot inside", "/a/./b", "target_dot_segment"),
        ("dots", "/..", "target_dot_segment"),
        ("dots inside", "/a/../b", "target_dot_segment"),
        ("dots last", "/a/..", "target_dot_segment"),
        ("dots and slash last", "/a/../", "target_dot_segment"),
        ("dot encoded", "/%2e", "target_dot_segment"),
        ("dots encoded", "/a/%2e%2e/b", "target_dot_segment"),
        ("dots encoded, upper", "/a/%2E%2E/b", "target_dot_segment"),
        ("half encoded", "/a/.%2e/b", "target_dot_segment"),
        ("other half", "/a/%2E./b", "target_dot_segment"),
        ("Tomcat parameter", "/a/..;/b", "target_dot_segment"),
        ("Tomcat parameter named", "/a/..;x=y/b", "target_dot_segment"),
        ("Tomcat parameter, one dot", "/a/.;/b", "target_dot_segment"),
        ("Tomcat, encoded dots", "/a/%2e%2e;/b", "target_dot_segment"),
        ("encoded semicolon", "/a/..%3bx/b", "target_dot_segment"),
        ("encoded semicolon, upper", "/a/.%2e%3B/b", "target_dot_segment"),
        ("Windows trailing space", "/a/..%20/b", "target_dot_segment"),
        ("leading space", "/a/%20../b", "target_dot_segment"),
        ("Windows dots", "/a/.../b", "target_dot_segment"),
        ("many dots", "/a/...../b", "target_dot_segment"),
        ("dots and zero width space", "/a/.%E2%80%8B./b", "target_dot_segment"),
        ("dots and zero width joiner", "/a/..%E2%80%8D/b", "target_dot_segment"),
        ("dots and byte order mark", "/a/%EF%BB%BF../b", "target_dot_segment"),
        ("dots and soft hyphen", "/a/.%C2%AD./b", "target_dot_segment"),
        ("dots, invisible, semicolon", "/a/..%E2%80%8B%3Bx/b", "target_dot_segment"),
        ("dots and tag character", "/a/..%F3%A0%81%81/b", "target_dot_segment"),
        ("bare parameter", "/a;x/b", "target_path_parameter"),
        ("session parameter", "/a;jsessionid=1", "target_path_parameter"),
        ("empty parameter", "/a;", "target_path_parameter"),
        ("only a parameter", "/;/admin", "target_path_parameter"),
        ("network path", "//evil/x", "target_empty_segment"),
        ("only slashes", "//", "target_empty_segment"),
        ("double inside", "/a//b", "target_empty_segment"),
        ("double at the end", "/a//", "target_empty_segment"),
        ("triple", "///", "target_empty_segment"),
        ("backslash", "/a\\b", "target_backslash"),
        ("backslash dots", "/..\\a", "target_backslash"),
        ("backslash host", "/\\evil", "target_backslash"),
        ("encoded backslash", "/a%5cb", "target_backslash"),
        ("encoded backslash, upper", "/a%5Cb", "target_backslash"),
        ("encoded backslash dots", "/..%5c..%5c", "target_backslash"),
        ("encoded slash dots", "/..%2f..%2f", "target_dot_segment"),
        ("encoded slash, then dots", "/a%2F..", "target_dot_segment"),
        ("encoded slash, dots between", "/a%2f..%2fb", "target_dot_segment"),
        ("encoded slash, one dot", "/a%2F.", "target_dot_segment"),
        ("encoded slash, encoded dots", "/a%2f%2e%2E", "target_dot_segment"),
        ("encoded slash, dots first", "/..%2Fb", "target_dot_segment"),
        ("encoded slash, parameter", "/a%2F..%3Bx", "target_dot_segment"),
        ("encoded slash, spaces", "/a%2F..%20%2Fb", "target_dot_segment"),
        ("encoded slash, more dots", "/a%2F.../b", "target_dot_segment"),
        ("encoded slash, invisible", "/a%2F.%E2%80%8B.%2Fb", "target_dot_segment"),
        ("encoded slash, backslash", "/a%2F..%5Cb", "target_backslash"),
        ("encoded slash, encoded twice", "/a%2F%252e%252e", "target_double_encoding"),
        ("encoded slash, NUL", "/a%2F%00", "target_control_character"),
        ("encoded slash, overlong", "/a%2F%c0%ae", "target_not_utf8"),
        ("encoded slash, lookalike", "/a%2F%EF%BC%8E", "target_lookalike"),
        ("all encoded", "/%2e%2e%2f", "target_dot_segment"),
        ("NUL", "/a%00", "target_control_character"),
        ("NUL before suffix", "/a%00.json", "target_control_character"),
        ("tab", "/a%09b", "target_control_character"),
        ("dots and tab", "/..%09/", "target_control_character"),
        ("line feed", "/a%0ab", "target_control_character"),
        ("CR LF header", "/a%0d%0aX-Evil:1", "target_control_character"),
        ("last control", "/a%1f", "target_control_character"),
        ("delete", "/a%7f", "target_control_character"),
        ("C1 next line", "/a%C2%85", "target_control_character"),
        ("C1 first", "/a%C2%80", "target_control_character"),
        ("line separator", "/a%E2%80%A8", "target_control_character"),
        ("paragraph separator", "/a%E2%80%A9", "target_control_character"),
        ("raw NUL", "/a\0", "target_control_character"),
        ("raw tab", "/a\tb", "target_control_character"),
        ("raw tab in dots", "/.\t.", "target_control_character"),
        ("raw line feed", "/a\nb", "target_control_character"),
        ("raw CR LF", "/a HTTP/1.1\r\n", "target_forbidden_character"),
        ("raw CR", "/a\r", "target_control_character"),
        ("raw delete", "/a\x7f", "target_control_character"),
        ("raw space", "/a b", "target_forbidden_character"),
        ("raw quote", "/a\"b", "target_forbidden_character"),
        ("raw less", "/a<b", "target_forbidden_character"),
        ("raw more", "/a>b", "target_forbidden_character"),
        ("raw grave", "/a`b", "target_forbidden_character"),
        ("raw brace", "/{id}", "target_forbidden_character"),
        ("raw closing brace", "/a}", "target_forbidden_character"),
        ("raw UTF-8", "/café", "target_forbidden_character"),
        ("raw fullwidth dots", "/．．/a", "target_forbidden_character"),
        ("raw fullwidth slash", "/a／b", "target_forbidden_character"),
        ("raw byte order mark", "/\u{feff}a", "target_forbidden_character"),
        ("raw question mark", "/a?b", "target_delimiter"),
        ("raw hash", "/a#b", "target_delimiter"),
        ("dots behind hash", "/a#/../b", "target_delimiter"),
        ("lone percent", "/%", "target_percent_encoding"),
        ("percent at the end", "/100%", "target_percent_encoding"),
        ("one digit", "/a%2", "target_percent_encoding"),
        ("one digit, then segment", "/a%2/b", "target_percent_encoding"),
        ("no digits", "/%zz", "target_percent_encoding"),
        ("second is none", "/%2g", "target_percent_encoding"),
        ("sign for a digit", "/%+1", "target_percent_encoding"),
        ("space for a digit", "/% 1", "target_percent_encoding"),
        ("IIS form", "/%u002e%u002e", "target_percent_encoding"),
        ("percent percent", "/%%32%65", "target_percent_encoding"),
        ("half an escape escaped", "/%2%35", "target_percent_encoding"),
        ("fullwidth digits", "/%２ｅ", "target_percent_encoding"),
        ("escape across segments", "/%/2e", "target_percent_encoding"),
        ("double dots", "/%252e%252e/a", "target_double_encoding"),
        ("double slash", "/a%252fb", "target_double_encoding"),
        ("double slash, upper", "/a%252Fb", "target_double_encoding"),
        ("double backslash", "/a%255cb", "target_double_encoding"),
        ("double NUL", "/a%2500", "target_double_encoding"),
        ("triple", "/a%25252e", "target_double_encoding"),
        ("double of anything", "/a%2541", "target_double_encoding"),
        ("digits escaped too", "/%25%32%65%25%32%65", "target_double_encoding"),
        ("first digit escaped", "/%25%32e", "target_double_encoding"),
        ("second digit escaped", "/%252%65", "target_double_encoding"),
        ("IIS form double", "/%25u002e", "target_double_encoding"),
        ("IIS form double, escaped", "/%25%75002e", "target_double_encoding"),
        ("second percent", "/%25%252e", "target_double_encoding"),
        ("overlong dot", "/%c0%ae%c0%ae/a", "target_not_utf8"),
        ("overlong slash", "/a%c0%afb", "target_not_utf8"),
        ("overlong slash, 3 bytes", "/a%e0%80%afb", "target_not_utf8"),
        ("overlong dot, 4 bytes", "/%f0%80%80%ae", "target_not_utf8"),
        ("overlong backslash", "/a%c1%9cb", "target_not_utf8"),
        ("overlong NUL", "/a%c0%80", "target_not_utf8"),
        ("Latin-1", "/caf%e9", "target_not_utf8"),
        ("lone continuation", "/%80", "target_not_utf8"),
        ("cut off", "/%e2%80", "target_not_utf8"),
        ("across segments", "/%c3/%a9", "target_not_utf8"),
        ("surrogate", "/%ed%a0%80", "target_not_utf8"),
        ("beyond Unicode", "/%f4%90%80%80", "target_not_utf8"),
        ("dots with a bad byte", "/..%ff", "target_not_utf8"),
        ("fullwidth full stop", "/%EF%BC%8E%EF%BC%8E/a", "target_lookalike"),
        ("fullwidth solidus", "/..%EF%BC%8Fa", "target_lookalike"),
        ("fullwidth reverse solidus", "/a%ef%bc%bcb", "target_lookalike"),
        ("fullwidth percent", "/%EF%BC%852e", "target_lookalike"),
        ("one dot leader", "/%E2%80%A4%E2%80%A4/a", "target_lookalike"),
        ("two dot leader", "/%E2%80%A5/a", "target_lookalike"),
        ("ellipsis", "/a%E2%80%A6", "target_lookalike"),
        ("small full stop", "/%EF%B9%92", "target_lookalike"),
        ("small reverse solidus", "/%EF%B9%A8", "target_lookalike"),
        ("small percent", "/%EF%B9%AA", "target_lookalike"),
        ("vertical ellipsis form", "/%EF%B8%99", "target_lookalike"),
        ("vertical two dots", "/%EF%B8%B0", "target_lookalike"),
        ("account of", "/%E2%84%80", "target_lookalike"),
        ("care of", "/%E2%84%85", "target_lookalike"),
        ("division slash", "/a%E2%88%95b", "target_lookalike"),
        ("fraction slash", "/a%E2%81%84b", "target_lookalike"),
        ("big solidus", "/a%E2%A7%B8b", "target_lookalike"),
        ("big reverse solidus", "/a%E2%A7%B9b", "target_lookalike"),
        ("set minus", "/a%E2%88%96b", "target_lookalike"),
        ("reverse solidus operator", "/a%E2%A7%B5b", "target_lookalike"),
        ("yen", "/..%C2%A5a", "target_lookalike"),
        ("won", "/..%E2%82%A9a", "target_lookalike"),
    ] {
        let found = Target::parse(input, None);
        assert_eq!(found.map_err(TargetError::code), Err(code), "{name}: {input:?}");
    }
    for byte in (0..=0x1f).chain([0x7f]) {
        for input in [format!("/a%{byte:02x}b"), format!("/a{}b", char::from(byte))] {
            assert_eq!(Target::parse(&input, None), Err(TargetError::ControlCharacter), "{input:?}");
        }
    }
}

#[test]
fn queries() {
    for query in [
        "",
        "a",
        "a=b",
        "a=b&c=d",
        "&&",
        "=",
        "a=b;c=d",
        "x=/?:@!$'()*+,",
        "expand[]=a&f[b][c]=d",
        "%2f%2e%2E%5c%25%32%65%252f",
        "%ff",
        "%09%1b",
        "%0a%0D%0d%0A",
        "query={me%20{name}}|a^b`c`",
        "a\\b=\\..\\",
        "a=../..//",
        "%7e%41%c3%a9",
        &"a".repeat(MAX_QUERY),
    ] {
        let target = Target::parse("/x", Some(query)).unwrap_or_else(|why| panic!("{query}: {why}"));
        assert_eq!(target.query(), Some(query));
        assert_eq!(target.path_and_query(), format!("/x?{query}"));
        assert_eq!(target.path(), "/x");
    }
    for (name, query, code) in [
        ("too long", &*"a".repeat(MAX_QUERY + 1), "target_query_too_long"),
        ("hash", "a#b", "target_delimiter"),
        ("space", "a b", "target_forbidden_character"),
        ("request line", "a HTTP/1.1", "target_forbidden_character"),
        ("double quote", "a=\"b\"", "target_forbidden_character"),
        ("angle", "<script>", "target_forbidden_character"),
        ("closing angle", ">", "target_forbidden_character"),
        ("UTF-8", "a=é", "target_forbidden_character"),
        ("fullwidth ampersand", "a＆b", "target_forbidden_character"),
        ("NUL raw", "\0", "target_control_character"),
        ("CR LF raw", "a\r\nX: y", "target_control_character"),
        ("tab raw", "a\tb", "target_control_character"),
        ("delete raw", "\x7f", "target_control_character"),
        ("NUL", "a=%00", "target_control_character"),
        ("lone percent", "100%", "target_percent_encoding"),
        ("bad digits", "%zz", "target_percent_encoding"),
        ("IIS form", "%u0041", "target_percent_encoding"),
        ("escape across parameters", "%2&f", "target_percent_encoding"),
    ] {
        let found = Target::parse("/x", Some(query));
        assert_eq!(found.map_err(TargetError::code), Err(code), "{name}");
    }
}

#[test]
fn finds_parameters_as_any_server_would() {
    let has = |query| Target::parse("/", Some(query)).expect(query).query_has("api key");
    for query in [
        "api+key=1",
        "api%20key=1",
        "a=b&api+key",
        "a=b;api+key=1",
        "API+KEY=1",
        "%61pi%20Key=1",
        "a&;&api+key=",
        "api+key=1=2",
        "a=b;api%20key&c",
    ] {
        assert!(has(query), "{query}");
    }
    for query in [
        "",
        "a=api+key",
        "api%2bkey=1",
        "api+key2=1",
        "xapi+key=1",
        "api+key%3d1",
        "api%2520key=1",
        "a%26api+key=1",
        "api+key[]=1",
    ] {
        assert!(!has(query), "{query}");
    }
    assert!(!Target::parse("/api+key=1", None).expect("path").query_has("api key"));
}

#[test]
fn takes_the_token() {
    for (query, value, rest) in [
        ("key=t", Some("t"), "/x"),
        ("key=t&a=%2f", Some("t"), "/x?a=%2f"),
        ("a=1&key=t", Some("t"), "/x?a=1"),
        ("a=1&KEY=t&b", Some("t"), "/x?a=1&b"),
        ("a=1&%6bey=%74+%2B%3d=&b", Some("t +=="), "/x?a=1&b"),
        ("key", Some(""), "/x"),
        ("key=", Some(""), "/x"),
        ("key=t&", Some("t"), "/x?"),
        ("&key=t&&", Some("t"), "/x?&&"),
        ("a=b;c&key=t", Some("t"), "/x?a=b;c"),
        ("key=%C3%A9", Some("é"), "/x"),
        ("keys=1&a=key", None, "/x?keys=1&a=key"),
        ("", None, "/x?"),
    ] {
        let mut target = Target::parse("/x", Some(query)).expect(query);
        assert_eq!(
            target.take_query("key").map(|value| value.map(|value| value.to_string())),
            Ok(value.map(str::to_owned)),
            "{query}"
        );
        assert_eq!(target.path_and_query(), rest, "{query}");
        assert!(!target.query_has("key"), "{query}");
    }
    for (query, code) in [
        ("key=1&key=2", "target_repeated_parameter"),
        ("key=1&KEY=2", "target_repeated_parameter"),
        ("key=1&a;k%65y=2", "target_repeated_parameter"),
        ("key=1;key=2", "target_repeated_parameter"),
        ("a=1;key=2", "target_semicolon_parameter"),
        ("key=1;a=2", "target_semicolon_parameter"),
        ("key;a=2", "target_semicolon_parameter"),
        (";key=2", "target_semicolon_parameter"),
        ("key=%ff", "target_not_utf8"),
    ] {
        let mut target = Target::parse("/x", Some(query)).expect(query);
        let before = target.clone();
        assert_eq!(target.take_query("key").map_err(TargetError::code), Err(code), "{query}");
        assert_eq!(target, before, "{query}");
    }
    assert_eq!(Target::parse("/key=1", None).expect("path").take_query("key"), Ok(None));
}

#[test]
fn appends_a_secret() {
    for (query, expected) in [
        (None, "/x?k%5B%5D=%00a%26b%3Dc%20%2B%23%C3%A9%FF-._~"),
        (Some(""), "/x?k%5B%5D=%00a%26b%3Dc%20%2B%23%C3%A9%FF-._~"),
        (Some("a=1"), "/x?a=1&k%5B%5D=%00a%26b%3Dc%20%2B%23%C3%A9%FF-._~"),
    ] {
        let target = Target::parse("/x", query).expect("good");
        let whole = append_parameter(target.path_and_query(), "k[]", b"\0a&b=c +#\xc3\xa9\xff-._~");
        assert_eq!(*whole, expected);
        assert_eq!(target.query(), query);
    }
    let target = Target::parse("/x", None).expect("good");
    let whole = append_parameter(target.path_and_query(), "&&&", &[b'&'; 1000]);
    assert_eq!(whole.capacity(), target.path_and_query().len() + 3 * 1003 + 2, "it never grew");
}

#[test]
fn decoded_path_shows_what_lax_routers_match() {
    let target = |raw| Target::parse(raw, None).expect(raw);
    assert_eq!(target("/things%3AbatchDelete").decoded_path(), "/things:batchDelete");
    assert!(matches!(target("/things/1").decoded_path(), Cow::Borrowed("/things/1")));
}

#[test]
fn what_says_nothing_is_the_base_url_itself() {
    let bare = |query| Target::parse("", query).expect("bare");
    assert_eq!((bare(None).path(), bare(None).path_and_query(), bare(None).is_bare()), ("/", "", true));
    assert_eq!((bare(Some("a=1")).path(), bare(Some("a=1")).path_and_query()), ("/", "?a=1"));
    assert_eq!((bare(Some("a=1")).or_slash().path_and_query(), bare(None).or_slash().path_and_query()), ("/?a=1", "/"));
    let slash = Target::parse("/", None).expect("root");
    assert_eq!((slash.path(), slash.path_and_query(), slash.is_bare()), ("/", "/", false));
    assert_eq!(Target::parse("/a", None).map(Target::or_slash), Target::parse("/a", None));
}

#[test]
fn each_way_to_write_a_character_is_matched_in_one_way() {
    let target = |raw| Target::parse(raw, None).expect(raw);
    for (raw, form) in
        [("/a%2fb", "/a%2Fb"), ("/a|b", "/a%7Cb"), ("/a^[0]", "/a%5E%5B0%5D"), ("/a%7cb%2f", "/a%7Cb%2F")]
    {
        assert_eq!(target(raw).match_path(), form, "{raw}");
    }
    assert!(matches!(target("/a/b%20c").match_path(), Cow::Borrowed("/a/b%20c")));
    assert!(target("/a%2fb").has_encoded_slash() && !target("/a/b").has_encoded_slash());
    assert_eq!(target("/a%2fb%3Ac").decoded_path(), "/a/b:c");
    assert_eq!(target("/a%2fb%3Ac").decoded_path_but_slashes(), "/a%2Fb:c");
    assert_eq!(target("/a%3Ac").decoded_path_but_slashes(), "/a:c");
}

#[test]
fn records_show_names_and_of_values_what_they_may() {
    let shown = |query: &str| {
        let target = Target::parse("/x", Some(query)).expect(query);
        target.with_values(|value| format!("<{}>", String::from_utf8_lossy(value)))
    };
    for (query, wanted) in [
        ("a=1&b=two+words%21", "/x?a=<1>&b=<two words!>"),
        ("", "/x?"),
        ("a=&b", "/x?a=&b"),
        ("uploads&acl", "/x?uploads&acl"),
        ("filter%5Bname%5D=ada&expand[]=x&$top=1", "/x?filter%5Bname%5D=<ada>&expand[]=<x>&$top=<1>"),
        ("ada@example.com", "/x?<ada@example.com>"),
        ("ada%40example.com", "/x?<ada@example.com>"),
        ("ada%40example.com=1", "/x?<ada@example.com=1>"),
        ("a=1;b=2", "/x?a=<1;b=2>"),
        ("=x&&", "/x?=<x>&&"),
        ("a=b=c", "/x?a=<b=c>"),
    ] {
        assert_eq!(shown(query), wanted, "{query}");
    }
    assert_eq!(Target::parse("", Some("a=1")).expect("bare").with_values(|_| String::new()), "?a=");
    assert_eq!(Target::parse("/x", None).expect("none").with_values(|_| String::new()), "/x");
}

#[test]
fn debug_and_errors_hold_no_token() {
    let target = Target::parse("/x", Some("key=hunter2")).expect("good");
    assert_eq!(format!("{target:?}"), r#"Target { path: "/x", query: Some("[11 bytes]") }"#);
    assert_eq!(TargetError::DotSegment.code(), "target_dot_segment");
    assert!(TargetError::PathTooLong.to_string().contains(&MAX_PATH.to_string()));
    assert!(TargetError::QueryTooLong.to_string().contains(&MAX_QUERY.to_string()));
}

/// Pieces that attacks are made of, so that random paths come near the edges.
fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[a-zA-Z0-9._~!$&'()*+,=:@-]{1,4}",
        4 => Just("/".to_owned()),
        4 => "%[0-9a-fA-F]{2}",
        2 => prop::sample::select(vec![
            "%25", "%", ".", "..", "%2e", "%2E", "%2f", "%5c", ";", "%3b", "\\", "?", "#", "%32", "%65", "%c3%a9",
            "%c0%ae",
            "%e2%80%8b", "%ef%bc%8e", "%20", " ", "é", "\u{ff0f}", "%00", "u002e", "{", "&", "=", "key", "+", "|", "^", "[",
        ]).prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

fn check(path: &str, query: Option<&str>) -> Result<(), TestCaseError> {
    let Ok(target) = Target::parse(path, query) else {
        return Ok(());
    };
    if !target.is_bare() {
        prop_assert_eq!(&Target::parse(target.path(), target.query()), &Ok(target.clone()));
    }
    prop_assert_eq!(target.query(), query);
    prop_assert!(target.path().starts_with('/') && !target.path().contains("//"));
    prop_assert!(target.path_and_query().bytes().all(|byte| byte.is_ascii_graphic()));
    let refused = ['\\', ';', '?', '#', '"', '<', '>', '`', '{', '}'];
    prop_assert_eq!(target.path().find(refused), None);
    let lower = target.path().to_lowercase();
    for escape in ["%5c", "%00", "%0a", "%0d", "%7f", "%2e", "%41", "%7e"] {
        prop_assert!(!lower.contains(escape), "{}", escape);
    }
    // Once and twice decoded, by this and by a lax decoder, no dot segment comes out, and no slash but those that the
    // target says it has.
    let slashes = lower.matches("%2f").count();
    prop_assert_eq!(target.has_encoded_slash(), slashes > 0);
    let data = target.decoded_path_but_slashes();
    prop_assert_eq!(data.matches('/').count(), target.path().matches('/').count());
    let decoded = target.decoded_path().into_owned();
    prop_assert_eq!(decoded.contains('\u{fffd}'), lower.contains("%ef%bf%bd"));
    let twice = percent_decode_str(&decoded).decode_utf8_lossy().into_owned();
    for text in [&decoded, &twice] {
        prop_assert_eq!(text.split('/').count(), target.path().split('/').count() + slashes);
        for segment in text.split(['/', '\\']) {
            let bare = segment.split(';').next().unwrap_or_default();
            prop_assert!(!matches!(bare.trim(), "." | ".."), "{}", segment);
        }
    }
    // The http and url crates, that carry it, read it as it is.
    let target = target.or_slash();
    let url = url::Url::parse(&format!("http://h{}", target.path_and_query())).expect("a URL");
    // The URL Standard of 2024 encodes a caret.
    prop_assert_eq!(url.path().replace("%5E", "^"), target.path().replace("%5E", "^"));
    let sent: http::uri::PathAndQuery = target.path_and_query().parse().expect("a request target");
    prop_assert_eq!(sent.as_str(), target.path_and_query());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn never_panics(path in any::<String>(), query in any::<Option<String>>()) {
        check(&path, query.as_deref())?;
        check(&format!("/{path}"), None)?;
    }

    #[test]
    fn canonical_is_canonical(path in hostile(), query in prop::option::of(hostile())) {
        check(&format!("/{path}"), query.as_deref())?;
    }

    #[test]
    fn a_taken_parameter_is_gone(query in hostile()) {
        let Ok(mut target) = Target::parse("/x", Some(&query)) else { return Ok(()) };
        if let Ok(taken) = target.take_query("key") {
            prop_assert!(!target.query_has("key"));
            prop_assert_eq!(taken.is_none(), target.query() == Some(&query));
            check(target.path(), target.query())?;
        }
    }

    #[test]
    fn an_appended_value_comes_back(
        query in prop::option::of(hostile()), name in "[a-z\\[\\]&= ]{1,8}", value in any::<String>(),
    ) {
        let Ok(target) = Target::parse("/x", query.as_deref()) else { return Ok(()) };
        let whole = append_parameter(target.path_and_query(), &name, value.as_bytes());
        let url = url::Url::parse(&format!("http://h{}", *whole)).expect("a URL");
        let last = url.query_pairs().last().expect("a parameter");
        prop_assert_eq!((&*last.0, &*last.1), (&*name, &*value));
    }
}
