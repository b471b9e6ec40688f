//! The settings: every mistake told, no secret shown, and what is accepted is within its limits.

use std::fs;
use std::time::Duration;

use hallpass::config::{Overrides, load};
use url::Url;

/// In every value that is never to be shown.
const CANARY: &str = "canary-7f3a9c";

/// `hallpass.toml`, then, after a line of `---`, variables of the environment, one a line.
pub fn run(data: &[u8]) {
    thread_local! {
        static FOLDER: tempfile::TempDir = tempfile::tempdir().unwrap();
    }
    let (file, environment) = match data.windows(5).position(|window| window == b"\n---\n") {
        Some(end) => (&data[..end], &data[end + 5..]),
        None => (data, &[][..]),
    };
    // Relative paths lead into an empty folder; others to files of this machine, which are none of our business.
    if ["\"/", "'/", "=/", "\n/", "..", "\\u", "\\U", "\\x"].iter().any(|way| holds(data, way.as_bytes())) {
        return;
    }
    let environment = String::from_utf8_lossy(environment);
    let mut environment: Vec<(String, String)> = environment
        .lines()
        .filter_map(|line| line.split_once('='))
        .filter(|(name, _)| !name.ends_with("_FILE"))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    for (name, value) in &mut environment {
        if matches!(name.as_str(), "HALLPASS_DATABASE__URL" | "HALLPASS_VAULT__MASTER_KEY_ENV") {
            value.push_str(CANARY);
        }
    }
    let config = FOLDER.with(|folder| {
        let path = folder.path().join("hallpass.toml");
        fs::write(&path, file).unwrap();
        load(Some(&path), environment.into_iter(), Overrides::default())
    });
    let config = match config {
        Ok(config) => config,
        Err(mistakes) => {
            assert!(!mistakes.is_empty());
            for mistake in mistakes {
                assert!(!mistake.to_string().contains(CANARY), "{mistake}");
            }
            return;
        }
    };
    assert!(!format!("{config:?}").contains(CANARY) || format!("{:?}", config.vault).contains(CANARY));
    let tokens = &config.tokens;
    assert!(!tokens.lifetime.is_zero() && tokens.lifetime <= Duration::from_secs(900), "P2");
    assert!(!config.revocations.max_age.is_zero() && tokens.session <= tokens.session_max);
    if let Some(issuer) = &config.issuer {
        let url = Url::parse(issuer).expect("a URL");
        assert_eq!(url.as_str().trim_end_matches('/'), issuer, "one spelling");
        assert!(url.query().is_none() && url.fragment().is_none() && url.username().is_empty());
        let loopback = match url.host().expect("a host") {
            url::Host::Domain(name) => name == "localhost" || name.ends_with(".localhost"),
            url::Host::Ipv4(ip) => ip.is_loopback(),
            url::Host::Ipv6(ip) => ip.is_loopback(),
        };
        assert!(url.scheme() == "https" || config.insecure_http || loopback, "{issuer}");
    }
}

fn holds(data: &[u8], what: &[u8]) -> bool {
    data.windows(what.len()).any(|window| window == what)
}
