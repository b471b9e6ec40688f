//! Genuine tokens whose private keys nobody has, and what it takes to verify them. `make.py` beside them made them.

use std::sync::LazyLock;

use hallpass_verify::{Claims, KeySet, RevocationSet, Seconds, TokenVerifier};

pub const ISSUER: &str = "https://broker.example";
pub const AUDIENCE: &str = "https://broker.example/exchange";
/// When the tokens and the list were issued; tokens expire 300 seconds later.
pub const ISSUED: Seconds = 1_000_000;
pub const EXPIRED: Seconds = ISSUED + 300;
pub const JWKS: &str = include_str!("../../crates/hallpass-verify/testdata/jwks.json");
pub const LIST: &str = include_str!("../../crates/hallpass-verify/testdata/revocations.jwt");

/// By the name of their algorithm, as seeds write it.
pub const TOKENS: [(&str, &str); 3] = [
    ("eddsa", include_str!("../../crates/hallpass-verify/testdata/eddsa.jwt")),
    ("es256", include_str!("../../crates/hallpass-verify/testdata/es256.jwt")),
    ("rs256", include_str!("../../crates/hallpass-verify/testdata/rs256.jwt")),
];

pub static KEYS: LazyLock<KeySet> = LazyLock::new(|| KeySet::from_json(JWKS).unwrap());

/// The claims of a genuine token.
pub static CLAIMS: LazyLock<Claims> = LazyLock::new(|| {
    let verifier = TokenVerifier::new(ISSUER, 5, 1);
    verifier
        .verify(
            TOKENS[0].1,
            &KEYS,
            &RevocationSet::default(),
            |aud| aud == AUDIENCE,
            &hallpass_verify::Possession::NONE,
            ISSUED,
        )
        .unwrap()
});

/// What a signature covers: everything before the last dot.
pub fn signed_part(jws: &str) -> &str {
    jws.rsplit_once('.').map_or(jws, |(signed, _)| signed)
}

/// Three lines become a JWS: the header's JSON, the payload's JSON, and a signature: of the genuine token of that
/// name, of the `list`, or as it is. Anything else is taken as it is.
pub fn assemble(text: &str) -> String {
    use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
    let mut lines = text.splitn(3, '\n');
    let (true, Some(header), Some(payload), Some(signature)) =
        (text.starts_with('{'), lines.next(), lines.next(), lines.next())
    else {
        return text.to_owned();
    };
    let genuine = TOKENS.iter().chain(&[("list", LIST)]).find(|(name, _)| *name == signature.trim_end());
    let signature = genuine.and_then(|(_, jws)| jws.rsplit('.').next()).unwrap_or(signature);
    format!("{}.{}.{signature}", BASE64_URL_SAFE_NO_PAD.encode(header), BASE64_URL_SAFE_NO_PAD.encode(payload))
}
