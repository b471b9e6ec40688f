//! **P6 A stolen database is no use** without the master key: it opens no secret and mints no token, and ciphertext that was
//! moved to another row does not open.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD as BASE64URL};
use data_encoding::{HEXLOWER, HEXUPPER};
use hallpass::app::{open_store, open_vault};
use hallpass::audit::HEAD_SECRET;
use hallpass::config::{self, Overrides};
use hallpass::issue::CLIENT_SECRET_KEY;
use hallpass::model::Sealed;
use hallpass::secret::SecretBytes;
use hallpass::store::Access;
use hallpass::vault::{Label, MayOpenCredentials, OpenError, OwnPurpose, Part, Vault};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

use crate::forge::payload;
use crate::support::database::{blob, bytes, everything, execute, on_both_engines, texts};
use crate::support::real::{Client, Real, said, until};
use crate::support::{Engine, Upstream, log};

on_both_engines!(
    without_the_master_key_nothing_opens_and_nothing_starts,
    what_was_moved_or_altered_does_not_open,
    a_public_key_that_was_slipped_in_mints_nothing,
    a_client_secret_is_good_for_its_own_agent_only,
);

const CRM_OLD: &str = "sk-live-canary-crm-old-Zq81";
const CRM_NEW: &str = "sk-live-canary-crm-new-Vx37";
const ERP: &str = "sk-live-canary-erp-Kp52";

/// Here nothing leaves: what the thief may do is tried.
struct Tests;

impl MayOpenCredentials for Tests {}

/// A broker with two upstreams, three sealed versions of two credentials and two agents, that has worked.
struct House {
    real: Real,
    upstream: Upstream,
    agent: Client,
    other: Client,
    token: String,
}

impl House {
    async fn new(engine: Engine) -> Option<Self> {
        let upstream = Upstream::echo().await;
        let mut real = Real::init(engine)?;
        real.binary.serve(None);
        let one = |name: &str| {
            format!(
                "  - name: {name}\n    base_url: {}\n    allow_private: true\n    \
                 inject: {{ kind: header, name: X-Api-Key, credential: {name}-key }}\n    \
                 operations: [ {{ id: any, methods: [GET], path: \"/any/{{*rest}}\", scope: any }} ]\n",
                upstream.url()
            )
        };
        let roles = "roles: [ { name: support, scopes: [\"crm:any\", \"erp:any\"] } ]\n";
        real.binary.ok(&["apply", "-f", "-"], &format!("upstreams:\n{}{}{roles}", one("crm"), one("erp")));
        real.binary.ok(&["credential", "put", "crm-key"], CRM_OLD);
        real.binary.ok(&["credential", "rotate", "crm-key"], CRM_NEW);
        real.binary.ok(&["credential", "put", "erp-key"], ERP);
        let (agent, other) = (real.register("helpdesk"), real.register("other"));
        let token = real.token(&agent).await;
        let house = Self { real, upstream, agent, other, token };
        house.works().await;
        Some(house)
    }

    /// Both upstreams are called, each with its own secret.
    async fn works(&self) {
        for (name, secret) in [("crm", CRM_NEW), ("erp", ERP)] {
            assert_eq!(self.real.call_status(&format!("/{name}/any/fine"), &self.token).await, 200);
            assert_eq!(self.upstream.seen().last().unwrap().headers["x-api-key"], secret);
        }
    }

    fn url(&self) -> &str {
        &self.real.database
    }

    /// What `serve` ends with, if it does not stay up.
    fn refused_start(real: &Real) -> String {
        let (code, text) = said(&real.binary.run(&["serve", "--listen", "127.0.0.1:0"], ""));
        assert_eq!(code, 1, "{text}");
        text
    }
}

/// Another place with a master key of its own, where the stolen database is; its folder, for a search of the files.
async fn steal(engine: Engine, house: &House) -> (Real, PathBuf) {
    let mut thief = Real::init_at(None);
    let data = thief.binary.dir.path().join("stolen");
    let files = match engine {
        Engine::Sqlite => {
            crate::support::real::copy_folder(&house.real.binary.dir.path().join("data"), &data);
            thief.database = format!("sqlite:{}", data.join("hallpass.db").display());
            data
        }
        Engine::Postgres => {
            let (server, name) = house.url().rsplit_once('/').unwrap();
            let admin = format!("{server}/postgres");
            execute(&admin, &format!("CREATE DATABASE {name}_stolen TEMPLATE {name};\nCHECKPOINT")).await;
            thief.database = format!("{server}/{name}_stolen");
            let place = "SELECT current_setting('data_directory') || '/base/' || oid FROM pg_database";
            let place = texts(&admin, &format!("{place} WHERE datname = '{name}_stolen'")).await.remove(0);
            PathBuf::from(place)
        }
    };
    let database = thief.database.clone();
    thief.binary.set("HALLPASS_DATABASE__URL", &database);
    (thief, files)
}

async fn without_the_master_key_nothing_opens_and_nothing_starts(engine: Engine) {
    let Some(mut house) = House::new(engine).await else { return };
    assert!(house.real.binary.terminate().success());
    let (thief, files) = steal(engine, &house).await;
    let before = everything(&thief.database).await;
    assert!(before.len() > 20, "{before:?}");

    // With another master key, and with none.
    let text = House::refused_start(&thief);
    let words = "the database does not open with this master key: sealed under master key";
    assert!(text.contains(words) && text.contains("which this broker does not have"), "{text}");
    let theirs = vault_of(&thief.binary.config());
    std::fs::remove_dir_all(thief.binary.dir.path().join("keys")).unwrap();
    let text = House::refused_start(&thief);
    assert!(text.contains("the master key file") && text.contains("cannot be read"), "{text}");
    assert_eq!(everything(&thief.database).await, before, "and the database is as it was");

    // Row by row, also if the thief writes the id of their own key over the one that is there.
    let ours = vault_of(&house.real.binary.config());
    let config = config::load(Some(&house.real.binary.config()), std::iter::empty(), Overrides::default()).unwrap();
    let store = open_store(&config, Access::Serve).await.unwrap();
    let all = store.load(0).await.unwrap();
    store.close().await;
    let mut canaries: Vec<Vec<u8>> = Vec::new();
    let mut check = |columns: &Sealed, open: &dyn Fn(&Vault, &Sealed) -> Result<SecretBytes, OpenError>| {
        let mut sealed = columns.clone();
        canaries.push(open(&ours, &sealed).unwrap().expose().to_vec());
        assert_eq!(open(&theirs, &sealed).unwrap_err(), OpenError::UnknownMaster(ours.current_id()));
        sealed.wrapped_key[1..9].copy_from_slice(&theirs.current_id().0);
        assert_eq!(open(&theirs, &sealed).unwrap_err(), OpenError::Tampered { what: Part::DataKey });
    };
    let mut count = 0;
    for one in &all.credentials {
        for version in &one.versions {
            count += 1;
            check(&version.sealed, &|vault, sealed| vault.open_credential(&Tests, &one.id, version.version, sealed));
        }
    }
    let mut rows: Vec<(Label<'_, OwnPurpose>, &Sealed)> = Vec::new();
    for key in &all.keys {
        let label = Label { purpose: OwnPurpose::SigningKey, id: &key.kid, version: 1 };
        rows.extend(key.sealed.as_ref().map(|sealed| (label, sealed)));
    }
    for (id, purpose) in [(CLIENT_SECRET_KEY, OwnPurpose::ClientSecretHmac), (HEAD_SECRET, OwnPurpose::AuditHead)] {
        rows.push((Label { purpose, id, version: 1 }, &all.broker_secrets[id]));
    }
    for (label, columns) in &rows {
        check(columns, &|vault, sealed| {
            let (wrapped_key, ciphertext) = (sealed.wrapped_key.clone(), sealed.ciphertext.clone());
            vault.open(*label, &Sealed { wrapped_key, ciphertext })
        });
    }
    assert_eq!((count, rows.len()), (3, 2 + 2), "three versions, two keys, two secrets of the broker");

    // And nothing lies there in the clear: not in the rows, and not in the files.
    for secret in [CRM_OLD, CRM_NEW, ERP] {
        assert!(canaries.contains(&secret.as_bytes().to_vec()), "{secret} is among what was opened");
    }
    let text = std::fs::read_to_string(house.real.binary.dir.path().join("keys/master.key")).unwrap();
    canaries.push(text.trim().as_bytes().to_vec());
    for client in [&house.agent, &house.other] {
        canaries.push(client.1.as_bytes().to_vec());
    }
    canaries.push(house.token.as_bytes().to_vec());
    let needles = canaries.iter().flat_map(|canary| {
        let encoded = [STANDARD_NO_PAD.encode(canary), BASE64URL.encode(canary)];
        let hex = [HEXLOWER.encode(canary), HEXUPPER.encode(canary)];
        std::iter::once(canary.clone()).chain(encoded.into_iter().chain(hex).map(String::into_bytes))
    });
    let needles = Search::new(needles);
    for row in &before {
        assert!(!needles.finds_any(row.as_bytes()), "{row}");
    }
    let known = Search::new([house.agent.0.clone().into_bytes()]);
    let (mut searched, mut found) = (0, 0);
    for entry in std::fs::read_dir(&files).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let content = std::fs::read(&path).unwrap();
            assert!(!needles.finds_any(&content), "{}", path.display());
            searched += 1;
            found += usize::from(known.finds_any(&content));
        }
    }
    assert!(searched > 0 && found > 0, "the search sees what is there: {searched} files, {found} with the agent's id");
}

/// A search for many things at once, quick enough for megabytes without optimisation.
struct Search {
    needles: Vec<Vec<u8>>,
    /// By the first two bytes, whether it is worth a look.
    begins: Vec<bool>,
}

impl Search {
    fn new(needles: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let needles: Vec<Vec<u8>> = needles.into_iter().collect();
        let mut begins = vec![false; 65_536];
        for needle in &needles {
            assert!(needle.len() >= 8, "{needle:?}");
            begins[usize::from(u16::from_be_bytes([needle[0], needle[1]]))] = true;
        }
        Self { needles, begins }
    }

    fn finds_any(&self, content: &[u8]) -> bool {
        let here = |at: usize| self.needles.iter().any(|needle| content[at..].starts_with(needle));
        (1..content.len())
            .any(|i| self.begins[usize::from(u16::from_be_bytes([content[i - 1], content[i]]))] && here(i - 1))
    }
}

fn vault_of(config: &Path) -> Vault {
    let config = config::load(Some(config), std::iter::empty(), Overrides::default()).unwrap();
    open_vault(&config).unwrap().0
}

/// A table and a row of it.
#[derive(Clone, Copy)]
struct Row<'a>(&'static str, &'a str);

impl Row<'_> {
    async fn get(self, url: &str, column: &str) -> Vec<u8> {
        bytes(url, &format!("SELECT {column} FROM {} WHERE {}", self.0, self.1)).await
    }

    async fn set(self, url: &str, column: &str, to: &[u8]) {
        let sql = format!("UPDATE {} SET {column} = {} WHERE {}", self.0, blob(url, to), self.1);
        assert_eq!(execute(url, &sql).await, 1);
    }

    async fn swap(self, url: &str, other: Row<'_>, column: &str) {
        let (mine, theirs) = (self.get(url, column).await, other.get(url, column).await);
        assert_ne!(mine, theirs);
        self.set(url, column, &theirs).await;
        other.set(url, column, &mine).await;
    }
}

const VALUE: &str = "the ciphertext was altered or belongs to another row";
const DATA_KEY: &str = "the wrapped data key was altered or belongs to another row";
const MALFORMED: &str = "the sealed value is cut off or of an unknown format";
const UNKNOWN: &str = "which this broker does not have";
const BOTH: [&str; 2] = ["wrapped_key", "ciphertext"];
const SEALED_TABLES: [&str; 3] = ["credential_versions", "signing_keys", "broker_secrets"];

impl House {
    /// The rows as they are now, to come back to.
    async fn save(&self) {
        for table in SEALED_TABLES {
            execute(self.url(), &format!("CREATE TABLE saved_{table} AS SELECT * FROM {table}")).await;
        }
    }

    async fn restore(&self) {
        for table in SEALED_TABLES {
            let sql = format!("DELETE FROM {table};\nINSERT INTO {table} SELECT * FROM saved_{table}");
            execute(self.url(), &sql).await;
        }
    }

    /// The broker starts; a call of each of these upstreams is refused, for this reason, and nothing is sent.
    async fn calls_are_refused(&mut self, case: &str, upstreams: &[&str], code: &str, words: &str) {
        let before = self.upstream.seen().len();
        self.real.binary.serve(None);
        for name in upstreams {
            let log_before = std::fs::read_to_string(self.real.binary.log_file()).unwrap().len();
            let target = format!("/any/{}", case.replace(' ', "-"));
            let answer = self.real.call(&format!("/{name}{target}"), &self.token).await.unwrap();
            let (status, answer) = (answer.status(), answer.json::<Value>().await.unwrap());
            assert_eq!((status.as_u16(), &answer["code"]), (500, &code.into()), "{case}: {answer}");
            assert!(!answer["detail"].as_str().unwrap().contains("row"), "the agent learns no more: {answer}");
            let log = std::fs::read_to_string(self.real.binary.log_file()).unwrap();
            assert!(log[log_before..].contains(words), "{case}: {}", &log[log_before..]);
            let words = [
                "\"kind\":\"call.outcome\"".to_owned(),
                format!("\"reason\":\"{code}\""),
                format!("\"upstream\":\"{name}\""),
                format!("\"target\":\"{target}\""),
            ];
            let words = words.each_ref().map(String::as_str);
            until("the outcome is recorded", 10, async || log::count(self.url(), &words).await == 1).await;
        }
        assert_eq!(self.upstream.seen().len(), before, "{case}: nothing was sent");
        self.real.binary.kill();
        self.restore().await;
    }

    async fn start_is_refused(&self, case: &str, words: &str) {
        let text = Self::refused_start(&self.real);
        assert!(text.contains(words), "{case}: {text}");
        self.restore().await;
    }
}

async fn what_was_moved_or_altered_does_not_open(engine: Engine) {
    let Some(mut house) = House::new(engine).await else { return };
    house.real.binary.kill();
    house.save().await;
    let url = house.url().to_owned();
    let url = url.as_str();
    let id = |name: &str| format!("SELECT id FROM credentials WHERE name = '{name}'");
    let (crm, erp) = (texts(url, &id("crm-key")).await.remove(0), texts(url, &id("erp-key")).await.remove(0));
    let version = |id: &str, n: u32| format!("credential_id = '{id}' AND version = {n}");
    let (old, new, erp) = (version(&crm, 1), version(&crm, 2), version(&erp, 1));
    let [old, new, erp] = [&old, &new, &erp].map(|row| Row("credential_versions", row));
    let (active, next) = (Row("signing_keys", "state = 'active'"), Row("signing_keys", "state = 'next'"));
    let (hmac, head) = (format!("id = '{CLIENT_SECRET_KEY}'"), format!("id = '{HEAD_SECRET}'"));
    let (hmac, head) = (Row("broker_secrets", &hmac), Row("broker_secrets", &head));

    // Moved.
    new.swap(url, erp, "ciphertext").await;
    house.calls_are_refused("ciphertexts of two credentials", &["crm", "erp"], "vault_tampered", VALUE).await;
    new.swap(url, erp, "wrapped_key").await;
    house.calls_are_refused("data keys of two credentials", &["crm", "erp"], "vault_tampered", DATA_KEY).await;
    for column in BOTH {
        new.swap(url, erp, column).await;
    }
    house.calls_are_refused("two credentials", &["crm", "erp"], "vault_tampered", DATA_KEY).await;
    for column in BOTH {
        old.swap(url, new, column).await;
    }
    house.calls_are_refused("two versions of one", &["crm"], "vault_tampered", DATA_KEY).await;
    old.swap(url, new, "ciphertext").await;
    house.calls_are_refused("ciphertexts of two versions", &["crm"], "vault_tampered", VALUE).await;
    new.set(url, "ciphertext", &active.get(url, "ciphertext").await).await;
    house.calls_are_refused("ciphertext of a signing key", &["crm"], "vault_tampered", VALUE).await;
    for column in BOTH {
        new.set(url, column, &active.get(url, column).await).await;
    }
    house.calls_are_refused("a signing key", &["crm"], "vault_tampered", DATA_KEY).await;
    for column in BOTH {
        active.set(url, column, &new.get(url, column).await).await;
    }
    house.start_is_refused("a credential as signing key", DATA_KEY).await;
    active.swap(url, next, "ciphertext").await;
    house.start_is_refused("ciphertexts of two signing keys", VALUE).await;
    for column in BOTH {
        active.swap(url, next, column).await;
    }
    house.start_is_refused("two signing keys", DATA_KEY).await;
    for column in BOTH {
        hmac.swap(url, head, column).await;
    }
    house.start_is_refused("two secrets of the broker", DATA_KEY).await;

    // Altered: one bit of each part, and one byte less.
    let parts = [
        ("wrapped_key", 0, "vault_malformed", MALFORMED, "format of the data key"),
        ("wrapped_key", 1, "vault_unknown_master", UNKNOWN, "master id"),
        ("wrapped_key", 9, "vault_tampered", DATA_KEY, "nonce of the data key"),
        ("wrapped_key", 21, "vault_tampered", DATA_KEY, "wrapped data key"),
        ("wrapped_key", 68, "vault_tampered", DATA_KEY, "tag of the data key"),
        ("ciphertext", 0, "vault_malformed", MALFORMED, "format"),
        ("ciphertext", 1, "vault_tampered", VALUE, "nonce"),
        ("ciphertext", 13, "vault_tampered", VALUE, "ciphertext"),
        ("ciphertext", 13 + CRM_NEW.len(), "vault_tampered", VALUE, "tag"),
    ];
    for (column, at, code, words, case) in parts {
        let mut altered = new.get(url, column).await;
        altered[at] ^= 1;
        new.set(url, column, &altered).await;
        house.calls_are_refused(case, &["crm"], code, words).await;
    }
    for (column, code, words) in
        [("wrapped_key", "vault_malformed", MALFORMED), ("ciphertext", "vault_tampered", VALUE)]
    {
        let mut cut = new.get(url, column).await;
        cut.pop();
        new.set(url, column, &cut).await;
        house.calls_are_refused(&format!("{column} cut off"), &["crm"], code, words).await;
    }
    for (row, case) in [(active, "active key"), (hmac, "client-secret key"), (head, "audit-head key")] {
        for (column, words) in [("wrapped_key", DATA_KEY), ("ciphertext", VALUE)] {
            let mut altered = row.get(url, column).await;
            *altered.last_mut().unwrap() ^= 0x80;
            row.set(url, column, &altered).await;
            house.start_is_refused(case, words).await;
        }
    }

    house.real.binary.serve(None);
    house.works().await;
    assert!(house.real.binary.terminate().success());
    assert_eq!(house.real.verify(&[]).0, 0);
}

/// Whoever can write the database puts the public half of a key of their own beside ours, and in the place of ours.
async fn a_public_key_that_was_slipped_in_mints_nothing(engine: Engine) {
    let Some(mut house) = House::new(engine).await else { return };
    house.real.binary.kill();
    house.save().await;
    let url = house.url().to_owned();
    let random = ring::rand::SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
    let kid = texts(&url, "SELECT kid FROM signing_keys WHERE state = 'active'").await.remove(0);
    let [x, y] = [1..33, 33..65].map(|part| BASE64URL.encode(&key.public_key().as_ref()[part]));
    let jwk = |kid: &str| {
        json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": kid, "alg": "ES256", "use": "sig" }).to_string()
    };
    let forged = |kid: &str| {
        let header = BASE64URL.encode(json!({ "typ": "at+jwt", "alg": "ES256", "kid": kid }).to_string());
        let message = format!("{header}.{}", BASE64URL.encode(payload(&house.token).to_string()));
        format!("{message}.{}", BASE64URL.encode(key.sign(&random, message.as_bytes()).unwrap()))
    };

    let token = forged(&kid);
    execute(&url, &format!("UPDATE signing_keys SET public_jwk = '{}' WHERE kid = '{kid}'", jwk(&kid))).await;
    house.real.binary.serve(None);
    let before = house.upstream.seen().len();
    assert_eq!(house.real.call_status("/crm/any/forged", &token).await, 401);
    assert_eq!(house.upstream.seen().len(), before);
    let jwks = house.real.http.get(format!("{}/.well-known/jwks.json", house.real.binary.public)).send().await;
    let jwks = jwks.unwrap().text().await.unwrap();
    assert!(jwks.contains(&kid) && !jwks.contains(&x), "{jwks}");
    house.works().await;
    house.real.binary.kill();
    house.restore().await;

    for (sealed, words) in [("NULL, NULL", "has no sealed half"), ("wrapped_key, ciphertext", DATA_KEY)] {
        let columns = "algorithm, 'retiring', created_at, activated_at, created_at, gone_at, revoked";
        let sql = format!(
            "INSERT INTO signing_keys SELECT 'slipped-in', {columns}, '{}', {sealed} FROM signing_keys WHERE kid = '{kid}'",
            jwk("slipped-in")
        );
        assert_eq!(execute(&url, &sql).await, 1);
        house.start_is_refused("a key beside ours", words).await;
    }
}

/// The row of one agent's secret, copied to another agent, does not let the first one in as the second.
async fn a_client_secret_is_good_for_its_own_agent_only(engine: Engine) {
    let Some(mut house) = House::new(engine).await else { return };
    house.real.binary.kill();
    let (agent, other) = (house.agent.clone(), house.other.clone());
    let copy = format!(
        "INSERT INTO client_secrets SELECT '{}', digest, created_at, expires_at FROM client_secrets WHERE agent_id = '{}'",
        other.0, agent.0
    );
    assert_eq!(execute(house.url(), &copy).await, 1);
    house.real.binary.serve(None);
    let (status, answer) = house.real.token_request(&Client(other.0.clone(), agent.1.clone()), &[]).await.unwrap();
    assert_eq!((status, &answer["error"]), (401, &"invalid_client".into()), "{answer}");
    let claimed = format!("claimed:{}", other.0);
    let words = ["\"token.refused\"", "\"reason\":\"wrong_client_secret\"", &claimed];
    assert_eq!(log::count(house.url(), &words).await, 1);
    for client in [agent, other] {
        house.real.token(&client).await;
    }
}
