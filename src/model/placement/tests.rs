use super::*;

#[test]
fn what_was_written_is_written_again() {
    for text in [
        r#""none""#,
        r#"{"kind":"bearer","credential":"k"}"#,
        r#"{"kind":"header","name":"X-Key","credential":"k@2"}"#,
        r#"{"kind":"basic","username":"","credential":"k"}"#,
        r#"[{"kind":"header","name":"X-App","credential":"a"},{"kind":"query","name":"key","credential":"b"}]"#,
        r#"[{"kind":"bearer","credential":"k"}]"#,
    ] {
        let read: Inject = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
    }
    let braces: Inject = serde_json::from_str(r#"{"kind":"none"}"#).unwrap();
    assert_eq!(serde_json::to_string(&braces).unwrap(), r#""none""#);
}

#[test]
fn what_says_nothing_or_two_things_is_a_mistake() {
    for (text, says) in [
        ("[]", "write 'none'"),
        (r#"[{"kind":"none"}]"#, "without a list"),
        (r#"[{"kind":"bearer","credential":"k"},{"kind":"none"}]"#, "without a list"),
        (r#"["none"]"#, "invalid type"),
        (r#"[[{"kind":"bearer","credential":"k"}]]"#, ""),
        (r#"{"kind":"none","credential":"k"}"#, "unknown field"),
        (r#""nothing""#, "or a list of these"),
        ("3", "or a list of these"),
    ] {
        let error = serde_json::from_str::<Inject>(text).unwrap_err().to_string();
        assert!(error.contains(says), "{text}: {error}");
    }
}

#[test]
fn each_credential_is_named() {
    let text =
        r#"[{"kind":"header","name":"X-App","credential":"app@2"},{"kind":"query","name":"key","credential":"b"}]"#;
    let read: Inject = serde_json::from_str(text).unwrap();
    assert_eq!(read.credentials().collect::<Vec<_>>(), ["app", "b"]);
    assert!(read.uses("app") && read.uses("b") && !read.uses("app@2"));
    assert_eq!(read.placements()[0].credential(), Some(("app", Some("2"))));
}
