//! `docs/identity.md` says what is so: what it shows works as pasted, after the tutorial, on both engines.

use crate::docs::tutorial_until;
use crate::readme::{blocks, check_tools, section, walk};
use crate::support::Engine;
use crate::support::postgres::postgres_url;

/// The tutorial before `headline`, with what its `init` is on this engine.
fn before(headline: &str, engine: Engine) -> Option<String> {
    let script = tutorial_until(headline);
    let init = "hallpass init --dir .\n";
    assert!(script.contains(init));
    Some(match engine {
        Engine::Sqlite => script,
        Engine::Postgres => {
            script.replace(init, &format!("hallpass init --dir . --database-url {}\n", postgres_url()?))
        }
    })
}

/// The lines to paste of one section of the page.
fn page(headline: &str, language: &str) -> String {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/identity.md")).unwrap();
    let lines = blocks(section(&page, headline), language);
    assert!(!lines.is_empty(), "{headline}");
    lines
}

fn has_all(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "'{part}' is missing in:\n{said}");
    }
}

fn without_tls(engine: Engine) {
    if !check_tools(&["bash", "curl", "python3", "openssl"]) {
        return;
    }
    let Some(begin) = before("The end", engine) else { return };
    let assertion = page("Without a shared secret: signed assertions and workload identity", "bash");
    let dpop = page("Tokens that are bound to a key: DPoP", "sh");
    let exchange = page("Acting on behalf of somebody", "sh");
    let script = format!(
        r#"{begin}
echo; echo "== assertion"
{assertion}
echo; echo "== dpop"
CLIENT_ID=$ID CLIENT_SECRET=$SECRET
{dpop}
echo; echo "== exchange"
cat > agents.yaml <<'END'
agents:
  - {{ name: planner, roles: [support] }}
  - {{ name: worker, roles: [support], identity: {{ may_act_for: [planner] }} }}
END
hallpass apply -f agents.yaml
secret_of() {{ hallpass agent rotate-secret "$1" --json | field client_secret; }}
id_of() {{ hallpass agent show "$1" --json | field client_id; }}
HALLPASS=http://127.0.0.1:8600
WORKER_ID=$(id_of worker) WORKER_SECRET=$(secret_of worker)
PLANNERS_TOKEN=$(curl -s -u "$(id_of planner):$(secret_of planner)" -d grant_type=client_credentials $HALLPASS/oauth2/token | field access_token)
{exchange}
echo
hallpass session list --tree
"#
    );
    let said = walk(&script);
    let (rest, exchange) = said.split_once("== exchange").unwrap();
    let (rest, dpop) = rest.split_once("== dpop").unwrap();
    let (_, assertion) = rest.split_once("== assertion").unwrap();
    has_all(assertion, &["\"access_token\":\"", "\"scope\":\"crm:contacts.read\""]);
    has_all(dpop, &["your key is [redacted by hallpass]", "\"status\":401"]);
    has_all(exchange, &["\"issued_token_type\":\"urn:ietf:params:oauth:token-type:access_token\"", "`- "]);
}

/// The broker's own certificate authority, over TLS.
fn with_tls(engine: Engine) {
    if !check_tools(&["bash", "curl", "python3", "openssl"]) {
        return;
    }
    let Some(begin) = before("The agent", engine) else { return };
    let tls = r#"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
  -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout keys/tls.key -out keys/tls.crt 2> tls.log
chmod 600 keys/tls.key
export HALLPASS_TLS__CERT_FILE="$PWD/keys/tls.crt" HALLPASS_TLS__KEY_FILE="$PWD/keys/tls.key"
"#;
    let serve = "hallpass serve > serve.log";
    assert!(begin.contains(serve));
    let begin = begin.replace(serve, &format!("{tls}{serve}"));
    let said = walk(&format!("{begin}\necho; echo '== page'\n{}", page("Client certificates", "sh")));
    let (_, said) = said.split_once("== page").unwrap();
    has_all(said, &["\"access_token\":\"", "\"token_type\":\"Bearer\"", "-----BEGIN CERTIFICATE-----"]);
}

#[test]
fn assertions_dpop_and_exchange_work_as_shown_on_sqlite() {
    without_tls(Engine::Sqlite);
}

#[test]
fn assertions_dpop_and_exchange_work_as_shown_on_postgresql() {
    without_tls(Engine::Postgres);
}

#[test]
fn certificates_work_as_shown_on_sqlite() {
    with_tls(Engine::Sqlite);
}

#[test]
fn certificates_work_as_shown_on_postgresql() {
    with_tls(Engine::Postgres);
}
