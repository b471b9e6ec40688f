//! The bare signing route: what is left of a token request when nobody is authenticated and nothing is recorded.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, anyhow};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::serve::ListenerExt as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::ValueEnum;
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    UnparsedPublicKey,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// How tokens are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Algorithm {
    /// Ed25519
    #[value(name = "EdDSA")]
    EdDsa,
    /// ECDSA with P-256
    #[value(name = "ES256")]
    Es256,
}

impl Algorithm {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::EdDsa, Self::Es256];

    /// As JWS calls it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Es256 => "ES256",
        }
    }
}

enum Key {
    Ed(Ed25519KeyPair),
    Ec(EcdsaKeyPair),
}

/// A key made for this run, and what is signed with it.
pub(crate) struct Mint {
    key: Key,
    random: SystemRandom,
    header: String,
}

/// A signed token, and where its parts are.
#[derive(Debug)]
pub(crate) struct TokenText {
    /// The whole of it.
    pub(crate) text: String,
    /// How much of it is signed.
    pub(crate) signed: usize,
    /// The signature, decoded.
    pub(crate) signature: Vec<u8>,
}

impl Mint {
    /// With a new key. `typ` goes into the header.
    pub(crate) fn new(algorithm: Algorithm, typ: &str) -> Result<Self> {
        let random = SystemRandom::new();
        let key = match algorithm {
            Algorithm::EdDsa => {
                let document = Ed25519KeyPair::generate_pkcs8(&random).map_err(|_| anyhow!("no Ed25519 key"))?;
                Key::Ed(Ed25519KeyPair::from_pkcs8(document.as_ref()).map_err(|_| anyhow!("no Ed25519 key"))?)
            }
            Algorithm::Es256 => {
                let kind = &ECDSA_P256_SHA256_FIXED_SIGNING;
                let document = EcdsaKeyPair::generate_pkcs8(kind, &random).map_err(|_| anyhow!("no P-256 key"))?;
                Key::Ec(
                    EcdsaKeyPair::from_pkcs8(kind, document.as_ref(), &random).map_err(|_| anyhow!("no P-256 key"))?,
                )
            }
        };
        let mut mint = Self { key, random, header: String::new() };
        mint.set_typ(algorithm, typ);
        Ok(mint)
    }

    /// Another `typ`, under the same key.
    pub(crate) fn set_typ(&mut self, algorithm: Algorithm, typ: &str) {
        let header = json!({ "alg": algorithm.as_str(), "kid": "bench", "typ": typ });
        self.header = URL_SAFE_NO_PAD.encode(header.to_string());
    }

    /// A JWS in compact form.
    pub(crate) fn sign(&self, claims: &Value) -> Result<TokenText> {
        let mut text = self.header.clone();
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(claims.to_string(), &mut text);
        let signature = match &self.key {
            Key::Ed(key) => key.sign(text.as_bytes()).as_ref().to_vec(),
            Key::Ec(key) => {
                let signed = key.sign(&self.random, text.as_bytes()).map_err(|_| anyhow!("no signature"))?;
                signed.as_ref().to_vec()
            }
        };
        let signed = text.len();
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(&signature, &mut text);
        Ok(TokenText { text, signed, signature })
    }

    /// The public half, as ring takes it.
    pub(crate) fn public(&self) -> UnparsedPublicKey<Vec<u8>> {
        match &self.key {
            Key::Ed(key) => UnparsedPublicKey::new(&ED25519, key.public_key().as_ref().to_vec()),
            Key::Ec(key) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.public_key().as_ref().to_vec()),
        }
    }

    /// The public half, as a JWKS document.
    pub(crate) fn jwks(&self) -> String {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let key = match &self.key {
            Key::Ed(key) => json!({ "kty": "OKP", "crv": "Ed25519", "x": encode(key.public_key().as_ref()),
                                    "kid": "bench", "alg": "EdDSA", "use": "sig" }),
            Key::Ec(key) => {
                // SEC 1: 4, then x and y.
                let point = key.public_key().as_ref();
                let (x, y) = point[1..].split_at(32);
                json!({ "kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y),
                        "kid": "bench", "alg": "ES256", "use": "sig" })
            }
        };
        json!({ "keys": [key] }).to_string()
    }

    /// Claims as an access token of the broker has them (RFC 9068).
    pub(crate) fn claims(&self) -> Result<Value> {
        let mut id = [0_u8; 16];
        self.random.fill(&mut id).map_err(|_| anyhow!("no randomness"))?;
        let id = URL_SAFE_NO_PAD.encode(id);
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        Ok(json!({
            "iss": ISSUER, "sub": "ag_bench", "client_id": "ag_bench", "aud": AUDIENCE,
            "exp": now + 300, "iat": now, "jti": id, "scope": "crm:contacts.read crm:contacts.write", "sid": id,
        }))
    }
}

/// `iss` of the tokens made here.
pub(crate) const ISSUER: &str = "http://127.0.0.1:8600";

/// `aud` of the tokens made here.
pub(crate) const AUDIENCE: &str = "http://127.0.0.1:8600/exchange";

pub(super) async fn serve(listener: TcpListener, algorithm: Algorithm) -> Result<()> {
    let mint = Arc::new(Mint::new(algorithm, "at+jwt")?);
    let router = axum::Router::new().route("/oauth2/token", post(token)).with_state(mint);
    let listener = listener.tap_io(|stream| _ = stream.set_nodelay(true));
    axum::serve(listener, router).await?;
    Ok(())
}

async fn token(State(mint): State<Arc<Mint>>) -> Response {
    match mint.claims().and_then(|claims| mint.sign(&claims)) {
        Ok(token) => {
            Json(json!({ "access_token": token.text, "token_type": "Bearer", "expires_in": 300 })).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
