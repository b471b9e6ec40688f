//! `[admin]`.

use super::Dir;
use crate::config::Config;
use crate::model::AdminRole;

/// With a certificate and its key, and a CA, beside.
fn load(text: &str) -> Result<Config, Vec<String>> {
    let dir = Dir::new();
    for name in ["a.crt", "ca.crt"] {
        dir.write(name, "", 0o644);
    }
    dir.write("a.key", "", 0o600);
    dir.load(text, &[])
}

const WHOLE: &str = r#"
[admin]
listen = "127.0.0.1:8602"
cert_file = "a.crt"
key_file = "a.key"
issuer = "https://login.example.com/"
client_id = "hallpass-cli"
client_ca_file = "ca.crt"
viewers = "groups=CN=auditors,OU=it; cert.subject_dn=CN=eve,O=Example"
owners = "sub=root-1;"
"#;

#[test]
fn the_whole_of_it_is_read() {
    let admin = load(WHOLE).unwrap().admin.unwrap();
    assert_eq!(admin.listen, "127.0.0.1:8602".parse().unwrap());
    let login = admin.login.unwrap();
    assert_eq!(
        (&*login.issuer, &*login.client_id, login.lifetime.as_secs()),
        ("https://login.example.com/", "hallpass-cli", 3600)
    );
    assert_eq!((&*login.scope, &*login.name_claim, login.allow_private), ("openid email profile", "email", false));
    let grants: Vec<_> = admin.grants.iter().map(|grant| (grant.role, &*grant.name, &*grant.value)).collect();
    // The greatest role first: the first that somebody has counts.
    let wanted = [
        (AdminRole::Owner, "sub", "root-1"),
        (AdminRole::Viewer, "groups", "CN=auditors,OU=it"),
        (AdminRole::Viewer, "cert.subject_dn", "CN=eve,O=Example"),
    ];
    assert_eq!(grants, wanted);
}

#[test]
fn without_a_listener_there_is_none() {
    assert!(load("").unwrap().admin.is_none());
}

#[test]
fn the_certificate_of_the_public_listener_serves_too() {
    let text = WHOLE.replace("cert_file = \"a.crt\"\nkey_file = \"a.key\"\n", "");
    let text = format!("{text}[tls]\ncert_file = \"a.crt\"\nkey_file = \"a.key\"\n");
    assert!(load(&text).unwrap().admin.unwrap().tls.cert_file.ends_with("a.crt"));
}

#[test]
fn what_lets_nobody_in_or_anybody_is_a_mistake() {
    let without = |line: &str| WHOLE.lines().filter(|one| !one.starts_with(line)).collect::<Vec<_>>().join("\n");
    let with = |from: &str, to: &str| WHOLE.replace(from, to);
    for (text, wanted) in [
        (without("listen"), "is missing beside admin.issuer; set the address"),
        (with("8602", "8600"), "is taken by the listener 127.0.0.1:8600"),
        (without("key_file"), "is missing beside admin.cert_file"),
        (without("c").replace("key_file = \"a.key\"\n", ""), "has no certificate"),
        (without("client_id"), "is missing beside admin.issuer"),
        (without("issuer"), "is missing beside admin.client_id"),
        (with("https://login", "http://login"), "is no https URL of an issuer"),
        (with("https://login", "https://user@login"), "is no https URL of an issuer"),
        (without("client_ca_file"), "is about certificates, and admin.client_ca_file is not set"),
        (without("viewers").replace("owners = \"sub=root-1;\"", ""), "nobody would have a role there"),
        (with("sub=root-1", "root-1"), "has no ="),
        (with("sub=root-1", "sub="), "has nothing on one side of its ="),
        (with("cert.subject_dn", "cert.cn"), "names nothing of a certificate"),
        (with("cert.subject_dn", "Cert.subject_dn"), "names nothing of a certificate"),
        (with("CN=eve,O=Example", "eve"), "is no distinguished name"),
        (with("sub=root-1;", " ; "), "names nobody"),
        (with("sub=root-1;", "sub=root-1\"\nlogin_seconds = \"9"), "login_seconds"),
    ] {
        let mistakes = load(&text).unwrap_err();
        assert!(mistakes.iter().any(|mistake| mistake.contains(wanted)), "{wanted}: {mistakes:#?}");
    }
    let none =
        "[admin]\nlisten = \"127.0.0.1:8602\"\ncert_file = \"a.crt\"\nkey_file = \"a.key\"\nowners = \"sub=1\"\n";
    let mistakes = load(none).unwrap_err();
    assert!(mistakes.iter().any(|mistake| mistake.contains("nobody could prove who they are there")), "{mistakes:#?}");
}
