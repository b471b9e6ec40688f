//! Files that are to hold public things only: certificates, certification requests, public keys.
//!
//! What admins name as a CA file is often what their web server reads: certificate and private key in one file. Such a
//! file would be stored, shown and sent in the clear. So nothing of a file is kept but what was asked for, parsed and
//! written anew, and a file with a private key in it is refused whole: whoever gave it should know.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pem::{EncodeConfig, LineEnding, Pem};
use rustls::pki_types::pem::{PemObject, SectionKind};
use serde_json::{Map, Value};
use std::fmt;
use x509_parser::certificate::X509Certificate;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;

/// Why a file is not taken. Nothing of the file is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotPublic {
    /// What is wrong.
    pub problem: &'static str,
    /// What to do.
    pub fix: &'static str,
}

impl fmt::Display for NotPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.problem, self.fix)
    }
}

const PRIVATE_BESIDE_CERTIFICATES: NotPublic = NotPublic {
    problem: "it holds a private key, which would be stored and shown in the clear",
    fix: "name a file with the certificates alone (openssl x509 -in FILE -out ca.pem), and replace that key if others \
          could read it",
};
const NO_CERTIFICATES: NotPublic = NotPublic {
    problem: "it is no PEM file of certificates",
    fix: "name a file with one or more BEGIN CERTIFICATE blocks (openssl x509 -inform DER -in FILE -out ca.pem)",
};
const PRIVATE_BESIDE_REQUEST: NotPublic = NotPublic {
    problem: "it holds a private key, which is for its owner alone",
    fix: "name a file with the certification request alone (openssl req -in FILE -out request.pem)",
};
const NO_REQUEST: NotPublic =
    NotPublic { problem: "it is no certification request in PEM", fix: "make one with openssl req -new -key KEY.pem" };
const PRIVATE_IN_KEY_SET: NotPublic = NotPublic {
    problem: "it holds a private or symmetric key: consider that key lost",
    fix: "make a new key pair and write its public half alone",
};
const NO_KEY_SET: NotPublic = NotPublic {
    problem: "it is no JWKS",
    fix: "write {\"keys\": [{\"kty\": \"EC\", \"crv\": \"P-256\", \"x\": \"…\", \"y\": \"…\"}]} (RFC 7517 section 5)",
};
const EMPTY_KEY_SET: NotPublic = NotPublic { problem: "it holds no key", fix: NO_KEY_SET.fix };

/// Private members of keys (RFC 7518 §6, RFC 8037 §2, and `priv` of the drafts on post-quantum keys).
const PRIVATE_MEMBERS: [&str; 10] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv", "seed"];

/// Public members of keys, each of which may be kept (RFC 7517 §4, RFC 7518 §6).
const PUBLIC_MEMBERS: [&str; 14] =
    ["kty", "use", "key_ops", "alg", "kid", "crv", "x", "y", "n", "e", "pub", "x5t", "x5t#S256", "x5u"];

/// Whether a private key is in this text, whichever program wrote it: PKCS #1, PKCS #8, SEC 1, OpenSSH, OpenPGP (all
/// `BEGIN … PRIVATE KEY`), PuTTY, age, or `openssl rsa -text`. A word about private keys is none.
pub fn holds_private_key(text: &str) -> bool {
    text.lines().any(|line| {
        let line = line.to_lowercase();
        let begun = line.find("begin ").and_then(|at| line.get(at..));
        begun.is_some_and(|rest| rest.contains("private key"))
            || line.contains("private-key:")
            || line.trim_start().starts_with("private-lines:")
            || line.contains("age-secret-key-")
    })
}

/// The certificates of a PEM file, written anew; nothing else of it.
///
/// # Errors
/// A private key in it, whatever is around it; a block that is no certificate; no certificate at all.
pub fn certificates(file: &[u8]) -> Result<String, NotPublic> {
    let text = text(file).ok_or(NO_CERTIFICATES)?;
    if holds_private_key(text) {
        return Err(PRIVATE_BESIDE_CERTIFICATES);
    }
    let found = sections(text, SectionKind::Certificate).ok_or(NO_CERTIFICATES)?;
    if found.is_empty() || !found.iter().all(|der| is_certificate(der)) {
        return Err(NO_CERTIFICATES);
    }
    Ok(written("CERTIFICATE", found))
}

/// What [`certificates`] would have kept of a file that was stored as it came, and whether a private key was in it.
pub fn certificates_of_stored(stored: &str) -> (String, bool) {
    let sections = <(SectionKind, Vec<u8>)>::pem_slice_iter(stored.as_bytes()).map_while(Result::ok);
    let certificates = sections.filter(|(kind, der)| *kind == SectionKind::Certificate && is_certificate(der));
    (written("CERTIFICATE", certificates.map(|(_, der)| der).collect()), holds_private_key(stored))
}

/// The certification request in a PEM file, written anew; nothing else of it.
///
/// # Errors
/// A private key in it, or no request.
pub fn certification_request(file: &[u8]) -> Result<String, NotPublic> {
    let text = text(file).ok_or(NO_REQUEST)?;
    if holds_private_key(text) {
        return Err(PRIVATE_BESIDE_REQUEST);
    }
    let mut found = sections(text, SectionKind::Csr).ok_or(NO_REQUEST)?;
    found.truncate(1);
    if !found.iter().any(|der| X509CertificationRequest::from_der(der).is_ok_and(|(rest, _)| rest.is_empty())) {
        return Err(NO_REQUEST);
    }
    Ok(written("CERTIFICATE REQUEST", found))
}

/// The public members of the keys in a JWKS; nothing else of it.
///
/// # Errors
/// A private or symmetric key anywhere in it; no key.
pub fn key_set(jwks: &Value) -> Result<Value, NotPublic> {
    let kept = keys_of(jwks)?;
    if kept.is_empty() {
        return Err(EMPTY_KEY_SET);
    }
    Ok(Value::Object(Map::from_iter([("keys".to_owned(), Value::Array(kept))])))
}

/// The public keys of a trust domain's bundle (SPIFFE Trust Domain and Bundle §4), with its number and its hint.
///
/// # Errors
/// A private or symmetric key anywhere in it; what is no bundle.
pub fn bundle(file: &[u8]) -> Result<String, NotPublic> {
    let text = text(file).ok_or(NO_KEY_SET)?;
    if holds_private_key(text) {
        return Err(PRIVATE_IN_KEY_SET);
    }
    let bundle: Value = serde_json::from_str(text).map_err(|_| NO_KEY_SET)?;
    let mut kept = Map::from_iter([("keys".to_owned(), Value::Array(keys_of(&bundle)?))]);
    for name in ["spiffe_sequence", "spiffe_refresh_hint"] {
        if let Some(number) = bundle.get(name).filter(|value| value.is_number()) {
            kept.insert(name.to_owned(), number.clone());
        }
    }
    Ok(Value::Object(kept).to_string())
}

/// Whether a private or symmetric key is anywhere in a document: written as a JWK, or as PEM in a text.
pub fn has_private_key(value: &Value) -> bool {
    match value {
        Value::Object(members) => {
            (members.contains_key("kty") && is_private(members)) || members.values().any(has_private_key)
        }
        Value::Array(values) => values.iter().any(has_private_key),
        Value::String(text) => holds_private_key(text),
        _ => false,
    }
}

fn is_private(key: &Map<String, Value>) -> bool {
    PRIVATE_MEMBERS.iter().any(|member| key.contains_key(*member))
}

fn keys_of(jwks: &Value) -> Result<Vec<Value>, NotPublic> {
    let keys = jwks.get("keys").and_then(Value::as_array).map(Vec::as_slice);
    // Said first: whoever wrote one private key where a set belongs has to hear that above all.
    let all = keys.unwrap_or_default();
    if has_private_key(jwks) || all.iter().filter_map(Value::as_object).any(is_private) {
        return Err(PRIVATE_IN_KEY_SET);
    }
    keys.ok_or(NO_KEY_SET)?.iter().map(|key| key.as_object().map(public_half).ok_or(NO_KEY_SET)).collect()
}

fn public_half(key: &Map<String, Value>) -> Value {
    let mut kept: Map<String, Value> = key
        .iter()
        .filter(|(name, value)| {
            let operations = || value.as_array().is_some_and(|all| all.iter().all(Value::is_string));
            PUBLIC_MEMBERS.contains(&name.as_str()) && (value.is_string() || (*name == "key_ops" && operations()))
        })
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    // RFC 7517 §4.7: base64, not base64url. What is no certificate may be anything, so it goes.
    let chain = key.get("x5c").and_then(Value::as_array).into_iter().flatten();
    let chain = chain.filter(|text| {
        text.as_str().and_then(|text| STANDARD.decode(text).ok()).is_some_and(|der| is_certificate(&der))
    });
    let chain: Vec<Value> = chain.cloned().collect();
    if !chain.is_empty() {
        kept.insert("x5c".to_owned(), Value::Array(chain));
    }
    Value::Object(kept)
}

/// UTF-8 without NUL: UTF-16 would hide a key from the search for its words.
fn text(file: &[u8]) -> Option<&str> {
    std::str::from_utf8(file).ok().filter(|text| !text.contains('\0'))
}

/// All sections of one kind. `None`: one of the sections, of whatever kind, is malformed.
fn sections(text: &str, wanted: SectionKind) -> Option<Vec<Vec<u8>>> {
    let sections = <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>().ok()?;
    Some(sections.into_iter().filter(|(kind, _)| *kind == wanted).map(|(_, der)| der).collect())
}

/// One certificate and nothing behind it: whatever a block is called, what is in it decides.
fn is_certificate(der: &[u8]) -> bool {
    X509Certificate::from_der(der).is_ok_and(|(rest, _)| rest.is_empty())
}

fn written(tag: &str, all: Vec<Vec<u8>>) -> String {
    let config = EncodeConfig::new().set_line_ending(LineEnding::LF);
    all.into_iter().map(|der| pem::encode_config(&Pem::new(tag, der), config)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pair() -> (String, String, Vec<u8>, Vec<u8>) {
        let made = rcgen::generate_simple_self_signed(vec!["ca.example".to_owned()]).unwrap();
        let der = made.cert.der().to_vec();
        (made.cert.pem(), made.signing_key.serialize_pem(), der, made.signing_key.serialize_der())
    }

    #[test]
    fn of_a_pem_file_the_certificates_alone_are_kept() {
        let (cert, ..) = pair();
        let (other, ..) = pair();
        let kept = certificates(cert.as_bytes()).unwrap();
        assert!(kept.starts_with("-----BEGIN CERTIFICATE-----\n") && kept.ends_with("-----END CERTIFICATE-----\n"));
        assert_eq!(certificates(kept.as_bytes()).as_ref(), Ok(&kept), "what was kept is kept as it is");
        let both = format!("{kept}{}", certificates(other.as_bytes()).unwrap());
        for around in [
            format!(
                "subject=CN = ca\n api_key: sk-live-canary\n{cert}\npassword=sk-live-canary\n{other}# sk-live-canary"
            ),
            format!("{}{}", cert.replace('\n', "\r\n"), other),
            format!("# a word about a private key\n{cert}{other}"),
            format!("-----BEGIN PUBLIC KEY-----\nc2stbGl2ZS1jYW5hcnk=\n-----END PUBLIC KEY-----\n{cert}{other}"),
        ] {
            assert_eq!(certificates(around.as_bytes()).as_ref(), Ok(&both), "{around}");
        }
    }

    #[test]
    fn p1_a_private_key_is_refused_however_it_is_written() {
        let (cert, key, der, key_der) = pair();
        let body: String = key.lines().filter(|line| !line.starts_with("--")).collect();
        let block = |tag: &str| format!("-----BEGIN {tag}-----\n{body}\n-----END {tag}-----\n");
        let mut private: Vec<String> = vec![key.clone(), key.replace('\n', "\r\n"), key.to_lowercase()];
        for tag in [
            "RSA PRIVATE KEY",
            "EC PRIVATE KEY",
            "DSA PRIVATE KEY",
            "ENCRYPTED PRIVATE KEY",
            "OPENSSH PRIVATE KEY",
            "PGP PRIVATE KEY BLOCK",
            "SSH2 ENCRYPTED PRIVATE KEY",
            "ANY PRIVATE KEY",
        ] {
            private.push(block(tag));
        }
        private.push(format!("  {}", key.replace('\n', "\n  ")));
        private.push(key.lines().next().unwrap().to_owned());
        private.push(format!("---- BEGIN PRIVATE KEY ----\n{body}\n"));
        private.push("AGE-SECRET-KEY-1QQQQ\n".to_owned());
        private.push("PuTTY-User-Key-File-3: ssh-rsa\nPrivate-Lines: 1\nAAAA\n".to_owned());
        private.push("RSA Private-Key: (2048 bit)\nmodulus: 00\n".to_owned());
        for one in private {
            for file in [format!("{cert}{one}"), format!("{one}{cert}"), one.clone()] {
                assert_eq!(certificates(file.as_bytes()), Err(PRIVATE_BESIDE_CERTIFICATES), "{file}");
            }
        }
        // Under another name, with something behind the certificate, in another character set, as DER.
        let named = |der: &[u8]| written("CERTIFICATE", vec![der.to_vec()]);
        let behind = [der.as_slice(), key_der.as_slice()].concat();
        let wide: Vec<u8> = format!("{cert}{key}").encode_utf16().flat_map(u16::to_le_bytes).collect();
        for file in [named(&key_der).into_bytes(), named(&behind).into_bytes(), wide, der, key_der, Vec::new()] {
            assert_eq!(certificates(&file), Err(NO_CERTIFICATES));
        }
    }

    #[test]
    fn what_was_stored_before_is_cleaned() {
        let (cert, key, ..) = pair();
        let kept = certificates(cert.as_bytes()).unwrap();
        assert_eq!(certificates_of_stored(&format!("# x\n{cert}{key}")), (kept.clone(), true));
        assert_eq!(certificates_of_stored(&format!("{key}{cert}")), (kept.clone(), true));
        assert_eq!(certificates_of_stored(&kept), (kept, false));
        assert_eq!(certificates_of_stored(&key), (String::new(), true));
    }

    #[test]
    fn a_certification_request_is_all_that_is_taken_of_its_file() {
        let key = rcgen::KeyPair::generate().unwrap();
        let request = rcgen::CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
        let kept = certification_request(request.as_bytes()).unwrap();
        assert_eq!(certification_request(format!("Certificate Request:\n{request}").as_bytes()), Ok(kept));
        for file in [format!("{request}{}", key.serialize_pem()), format!("{}{request}", key.serialize_pem())] {
            assert_eq!(certification_request(file.as_bytes()), Err(PRIVATE_BESIDE_REQUEST));
        }
        assert_eq!(certification_request(pair().0.as_bytes()), Err(NO_REQUEST));
    }

    #[test]
    fn of_keys_the_public_members_alone_are_kept() {
        let (_, pem, der, key_der) = pair();
        let chain = json!([STANDARD.encode(&der), STANDARD.encode(&key_der), "AAAA", 7]);
        let set = json!({ "keys": [
            { "kty": "EC", "crv": "P-256", "x": "AA", "y": "BB", "kid": "a", "ext": true, "note": "sk-live-canary",
              "x5c": chain, "key_ops": ["verify"], "n": { "hidden": "sk-live-canary" } }],
            "comment": "sk-live-canary" });
        let kept = json!({ "keys": [{ "kty": "EC", "crv": "P-256", "x": "AA", "y": "BB", "kid": "a",
            "key_ops": ["verify"], "x5c": [STANDARD.encode(&der)] }] });
        assert_eq!(key_set(&set), Ok(kept.clone()));
        assert_eq!(key_set(&kept), Ok(kept));

        for member in PRIVATE_MEMBERS {
            for set in [
                json!({ "keys": [{ "kty": "RSA", "n": "AA", "e": "AQAB", member: "AA" }] }),
                json!({ "keys": [{ "kty": "EC" }, { member: "AA" }] }),
                json!({ "keys": [{ "kty": "EC" }], "old": { "kty": "oct", member: "AA" } }),
                json!({ "kty": "EC", member: "AA" }),
            ] {
                assert_eq!(key_set(&set), Err(PRIVATE_IN_KEY_SET), "{set}");
                assert_eq!(bundle(set.to_string().as_bytes()), Err(PRIVATE_IN_KEY_SET), "{set}");
            }
        }
        assert_eq!(key_set(&json!({ "keys": [{ "kty": "EC", "kid": pem }] })), Err(PRIVATE_IN_KEY_SET));
        assert_eq!(key_set(&json!({ "keys": [] })), Err(EMPTY_KEY_SET));
        for bad in [json!([]), json!({ "keys": {} }), json!({ "keys": [7] })] {
            assert_eq!(key_set(&bad), Err(NO_KEY_SET), "{bad}");
        }
    }

    #[test]
    fn a_bundle_keeps_its_number_and_its_hint() {
        let text = r#"{"keys":[{"kty":"EC","use":"jwt-svid","x":"AA","secret":"x"}],"spiffe_sequence":3,
            "spiffe_refresh_hint":60,"spiffe_extra":"x"}"#;
        let kept: Value = serde_json::from_str(&bundle(text.as_bytes()).unwrap()).unwrap();
        let wanted = json!({ "keys": [{ "kty": "EC", "use": "jwt-svid", "x": "AA" }], "spiffe_sequence": 3,
            "spiffe_refresh_hint": 60 });
        assert_eq!(kept, wanted);
        assert_eq!(bundle(b"{\"keys\":[]}").as_deref(), Ok("{\"keys\":[]}"));
        assert_eq!(bundle(b"nonsense"), Err(NO_KEY_SET));
    }
}
