//! What a key looks like. Definitions are shown to whoever may read them, so a key in one is a key in the open.

/// Beginnings that vendors give their keys, so that scanners find them; each with whose it is.
const PREFIXES: [(&str, &str); 40] = [
    ("sk-", "an API key (sk-…)"),
    ("sk_live_", "a Stripe key"),
    ("sk_test_", "a Stripe key"),
    ("rk_live_", "a Stripe key"),
    ("rk_test_", "a Stripe key"),
    ("whsec_", "a webhook secret"),
    ("ghp_", "a GitHub token"),
    ("gho_", "a GitHub token"),
    ("ghu_", "a GitHub token"),
    ("ghs_", "a GitHub token"),
    ("ghr_", "a GitHub token"),
    ("github_pat_", "a GitHub token"),
    ("glpat-", "a GitLab token"),
    ("gldt-", "a GitLab token"),
    ("glptt-", "a GitLab token"),
    ("glrt-", "a GitLab token"),
    ("glcbt-", "a GitLab token"),
    ("xoxb-", "a Slack token"),
    ("xoxp-", "a Slack token"),
    ("xoxa-", "a Slack token"),
    ("xoxe-", "a Slack token"),
    ("xoxs-", "a Slack token"),
    ("xapp-", "a Slack token"),
    ("npm_", "an npm token"),
    ("pypi-", "a PyPI token"),
    ("SG.", "a SendGrid key"),
    ("AIza", "a Google API key"),
    ("ya29.", "a Google access token"),
    ("GOCSPX-", "a Google client secret"),
    ("hf_", "a Hugging Face token"),
    ("dop_v1_", "a DigitalOcean token"),
    ("shpat_", "a Shopify token"),
    ("shpss_", "a Shopify secret"),
    ("lin_api_", "a Linear key"),
    ("hvs.", "a Vault token"),
    ("dapi", "a Databricks token"),
    ("gsk_", "a Groq key"),
    ("xai-", "an xAI key"),
    ("nvapi-", "an NVIDIA key"),
    ("AGE-SECRET-KEY-", "an age key"),
];

/// Fewer characters behind a beginning are a word (`sk-SK` is a language), not a key.
const MIN_REST: usize = 12;

/// Authentication schemes: what follows one of them is a credential.
const SCHEMES: [&str; 9] =
    ["bearer", "basic", "token", "digest", "negotiate", "ntlm", "dpop", "apikey", "aws4-hmac-sha256"];

/// What kind of a key a text looks like, if it does.
pub(super) fn looks_like_key(text: &str) -> Option<&'static str> {
    let text = text.trim();
    if let Some((scheme, rest)) = text.split_once(' ')
        && SCHEMES.contains(&scheme.to_ascii_lowercase().as_str())
        && !rest.trim().is_empty()
    {
        return Some("a credential behind its scheme");
    }
    if text.contains("-----BEGIN ") {
        return Some("a PEM file");
    }
    // A key in a list, in quotes or behind its name is a key still.
    let words = text.split(|c: char| c.is_whitespace() || matches!(c, ',' | ';' | '=' | ':' | '"' | '\'' | '<' | '>'));
    words.into_iter().find_map(word_like_key)
}

fn word_like_key(word: &str) -> Option<&'static str> {
    let is_token = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let rest_is_key = |rest: &str| rest.len() >= MIN_REST && rest.chars().all(is_token);
    let by_prefix = PREFIXES.iter().find(|(prefix, _)| word.strip_prefix(prefix).is_some_and(rest_is_key));
    if let Some((_, whose)) = by_prefix {
        return Some(whose);
    }
    // AWS: four letters that say what it is, and sixteen of base32.
    let aws = word.len() == 20 && ["AKIA", "ASIA", "AROA", "ABIA", "ACCA"].iter().any(|kind| word.starts_with(kind));
    if aws && word.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit()) {
        return Some("an AWS access key");
    }
    if is_mixed_base64(word) {
        return Some("a secret key in base64");
    }
    if is_pair_in_base64(word) {
        return Some("a user and a password in base64");
    }
    // JOSE: three (or, encrypted, five) parts, of which the first is a JSON object in base64.
    let parts = word.split('.').count();
    if word.starts_with("eyJ") && matches!(parts, 3 | 5) && word.chars().all(is_token) {
        return Some("a JWT");
    }
    None
}

/// As long as a key, and of all that base64 has: an AWS secret key, a webhook's secret. A path has no digits and capitals
/// within its words; an id in hex, or a UUID, is no secret by its looks.
fn is_mixed_base64(word: &str) -> bool {
    let body = word.trim_end_matches('=');
    let has = |is: fn(&u8) -> bool| body.bytes().filter(is).count();
    body.len() >= 32
        && body.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/".contains(&byte))
        && has(u8::is_ascii_uppercase) >= 4
        && has(u8::is_ascii_lowercase) >= 4
        && has(u8::is_ascii_digit) >= 1
        && has(|byte| b"+/".contains(byte)) <= body.len() / 8
}

/// What Basic credentials are (RFC 7617), without their scheme word.
fn is_pair_in_base64(word: &str) -> bool {
    use base64::Engine as _;
    let decoded = base64::engine::general_purpose::STANDARD_NO_PAD.decode(word.trim_end_matches('='));
    decoded.is_ok_and(|text| {
        let colon = text.iter().position(|byte| *byte == b':');
        text.len() >= 8
            && colon.is_some_and(|at| at > 0 && at + 1 < text.len())
            && text.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ')
    })
}
