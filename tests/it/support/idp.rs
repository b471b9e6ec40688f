//! Somebody else's issuer: keys that sign, and a server with its discovery document, its JWKS and a SPIFFE bundle.

use std::sync::{Arc, Mutex, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair};
use rsa::pkcs8::EncodePrivateKey as _;
use serde_json::{Value, json};

use super::Upstream;
use super::upstream::text;

/// A key pair with its id.
pub(crate) struct Signer {
    pub(crate) kid: String,
    alg: &'static str,
    key: Key,
}

enum Key {
    Ed(Ed25519KeyPair),
    Ec(EcdsaKeyPair),
    Rsa(Arc<RsaKeyPair>),
}

impl Signer {
    /// `alg`: EdDSA, ES256, ES384, PS256, RS256 or RS512. RSA keys are all one: making it takes a while.
    pub(crate) fn new(alg: &'static str, kid: &str) -> Self {
        let random = SystemRandom::new();
        let ec = |how| {
            let pkcs8 = EcdsaKeyPair::generate_pkcs8(how, &random).unwrap();
            Key::Ec(EcdsaKeyPair::from_pkcs8(how, pkcs8.as_ref(), &random).unwrap())
        };
        let key = match alg {
            "EdDSA" => {
                let pkcs8 = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
                Key::Ed(Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap())
            }
            "ES256" => ec(&signature::ECDSA_P256_SHA256_FIXED_SIGNING),
            "ES384" => ec(&signature::ECDSA_P384_SHA384_FIXED_SIGNING),
            _ => Key::Rsa(rsa_key()),
        };
        Self { kid: kid.to_owned(), alg, key }
    }

    /// The public half, without `alg`, as Azure publishes it.
    pub(crate) fn jwk(&self) -> Value {
        let half = |bytes: &[u8], from: usize, to: usize| BASE64URL.encode(&bytes[from..to]);
        match &self.key {
            Key::Ed(key) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "kid": self.kid, "x": BASE64URL.encode(key.public_key()) })
            }
            Key::Ec(key) => {
                let (point, size) = (key.public_key().as_ref(), if self.alg == "ES384" { 48 } else { 32 });
                let (x, y) = (half(point, 1, 1 + size), half(point, 1 + size, 1 + 2 * size));
                json!({ "kty": "EC", "crv": if size == 48 { "P-384" } else { "P-256" }, "kid": self.kid, "x": x, "y": y })
            }
            Key::Rsa(key) => {
                let public = ring::rsa::PublicKeyComponents::<Vec<u8>>::from(key.public());
                let (n, e) = (BASE64URL.encode(public.n), BASE64URL.encode(public.e));
                json!({ "kty": "RSA", "kid": self.kid, "n": n, "e": e })
            }
        }
    }

    /// The public half as a set of one.
    pub(crate) fn jwks(&self) -> Value {
        json!({ "keys": [self.jwk()] })
    }

    /// A JWT with the plain header.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        self.sign_with(json!({ "typ": "JWT", "alg": self.alg, "kid": self.kid }), claims)
    }

    /// A JWT with this header, signed by the key's own algorithm whatever the header says.
    pub(crate) fn sign_with(&self, header: Value, claims: &Value) -> String {
        let message = format!("{}.{}", BASE64URL.encode(header.to_string()), BASE64URL.encode(claims.to_string()));
        let (random, bytes) = (SystemRandom::new(), message.as_bytes());
        let signature = match &self.key {
            Key::Ed(key) => key.sign(bytes).as_ref().to_vec(),
            Key::Ec(key) => key.sign(&random, bytes).unwrap().as_ref().to_vec(),
            Key::Rsa(key) => {
                let how: &dyn signature::RsaEncoding = match self.alg {
                    "PS256" => &signature::RSA_PSS_SHA256,
                    "RS512" => &signature::RSA_PKCS1_SHA512,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                let mut out = vec![0; key.public().modulus_len()];
                key.sign(how, &random, bytes, &mut out).unwrap();
                out
            }
        };
        format!("{message}.{}", BASE64URL.encode(signature))
    }
}

fn rsa_key() -> Arc<RsaKeyPair> {
    static KEY: OnceLock<Arc<RsaKeyPair>> = OnceLock::new();
    let make = || {
        let key = rsa::RsaPrivateKey::new(&mut Random, 2048).unwrap().to_pkcs8_der().unwrap();
        Arc::new(RsaKeyPair::from_pkcs8(key.as_bytes()).unwrap())
    };
    KEY.get_or_init(make).clone()
}

struct Random;

impl rsa::rand_core::RngCore for Random {
    fn next_u32(&mut self) -> u32 {
        rsa::rand_core::impls::next_u32_via_fill(self)
    }

    fn next_u64(&mut self) -> u64 {
        rsa::rand_core::impls::next_u64_via_fill(self)
    }

    fn fill_bytes(&mut self, out: &mut [u8]) {
        SystemRandom::new().fill(out).unwrap();
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), rsa::rand_core::Error> {
        self.fill_bytes(out);
        Ok(())
    }
}

impl rsa::rand_core::CryptoRng for Random {}

/// What the server does.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Mode {
    /// What it should.
    Good,
    /// Answers 500.
    Down,
    /// Answers with a head and then nothing.
    Hang,
    /// A JWKS of 10 MB.
    Huge,
    /// Sends elsewhere.
    Redirect(String),
    /// Its discovery document is where RFC 8414 wants it, and not where OpenID Connect does.
    Rfc8414,
    /// Its discovery document names this issuer.
    Names(String),
    /// Its discovery document names this place for the keys.
    KeysAt(String),
    /// Its discovery document names this issuer, and this place for the keys.
    NamesKeysAt(String, String),
}

struct Now {
    mode: Mode,
    jwks: Value,
}

/// The server.
pub(crate) struct Idp {
    pub(crate) upstream: Upstream,
    now: Arc<Mutex<Now>>,
}

impl Idp {
    /// With this JWKS.
    pub(crate) async fn start(jwks: Value) -> Self {
        let now = Arc::new(Mutex::new(Now { mode: Mode::Good, jwks }));
        let own = now.clone();
        let upstream = Upstream::start(move |seen| {
            let now = own.lock().unwrap();
            let host = seen.headers["host"].to_str().unwrap();
            let issuer = format!("http://{host}");
            let place = match now.mode {
                Mode::Rfc8414 => "/.well-known/oauth-authorization-server",
                _ => "/.well-known/openid-configuration",
            };
            let is_discovery = seen.uri.path() == place;
            if !is_discovery && !["/jwks", "/bundle"].contains(&seen.uri.path()) {
                return text(StatusCode::NOT_FOUND, "");
            }
            match &now.mode {
                Mode::Down => text(StatusCode::INTERNAL_SERVER_ERROR, "down"),
                Mode::Hang if !is_discovery => {
                    let body = StreamBody::new(futures_util::stream::pending::<Result<_, std::io::Error>>());
                    Response::new(body.boxed_unsync())
                }
                Mode::Redirect(to) => {
                    let mut answer = text(StatusCode::FOUND, "");
                    answer.headers_mut().insert("location", to.parse().unwrap());
                    answer
                }
                Mode::Huge if !is_discovery => {
                    let mut jwks = now.jwks.clone();
                    jwks["padding"] = "x".repeat(10_000_000).into();
                    text(StatusCode::OK, &jwks.to_string())
                }
                mode if is_discovery => {
                    let (issuer, keys) = match mode {
                        Mode::Names(other) => (other.clone(), format!("http://{host}/jwks")),
                        Mode::KeysAt(other) => (issuer, other.clone()),
                        Mode::NamesKeysAt(other, keys) => (other.clone(), keys.clone()),
                        _ => (issuer, format!("http://{host}/jwks")),
                    };
                    // As Kubernetes and GitHub Actions write it: without an authorization endpoint.
                    text(StatusCode::OK, &json!({ "issuer": issuer, "jwks_uri": keys }).to_string())
                }
                _ => text(StatusCode::OK, &now.jwks.to_string()),
            }
        })
        .await;
        Self { upstream, now }
    }

    /// Its issuer identifier.
    pub(crate) fn issuer(&self) -> String {
        self.upstream.url()
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.now.lock().unwrap().mode = mode;
    }

    /// New keys instead of the old.
    pub(crate) fn rotate(&self, jwks: Value) {
        self.now.lock().unwrap().jwks = jwks;
    }

    /// How often its keys were asked for.
    pub(crate) fn fetches(&self) -> usize {
        self.upstream.seen().iter().filter(|seen| ["/jwks", "/bundle"].contains(&seen.uri.path())).count()
    }
}
