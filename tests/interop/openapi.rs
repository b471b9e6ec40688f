//! Schemathesis against the OpenAPI document of the admin API: it makes requests from the document, good and bad ones, and
//! checks that each answer is one that the document describes.

use std::time::Duration;

use super::login::write;
use super::{SECRET, runtime};
use crate::certificates::{Ca, uri};
use crate::support::Binary;
use crate::support::real::crm_document;

/// A few hundred requests for each operation take about a minute.
const LIMIT: Duration = Duration::from_secs(600);

/// Every answer is one that the document declares, by its status, its media type and its schema, and none is a 5xx.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
                      response_schema_conformance";

/// A broker whose admin listener takes the certificates of owners. Nobody logs in: a login would end by `POST /logout`.
#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_no_server_error_and_no_answer_that_the_document_does_not_declare() {
    let Some(mut schemathesis) = runtime::schemathesis() else { return };
    let mut binary = Binary::init(None);
    let file = |name: &str| binary.dir.path().join(name);
    let (ca, own) = (Ca::new("Example Admin CA"), rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]));
    let (own, owner) = (own.unwrap(), ca.holder(|params| params.subject_alt_names = vec![uri("urn:example:owner")]));
    let files = [
        ("own.crt", own.cert.pem()),
        ("own.key", own.signing_key.serialize_pem()),
        ("ca.crt", ca.pem.clone()),
        ("owner.pem", format!("{}{}", owner.pem, owner.key)),
    ];
    for (name, text) in &files {
        write(&file(name), text);
    }
    let path = |name: &str| file(name).display().to_string();
    let settings = [
        ("LISTEN", "127.0.0.1:0".to_owned()),
        ("CERT_FILE", path("own.crt")),
        ("KEY_FILE", path("own.key")),
        ("CLIENT_CA_FILE", path("ca.crt")),
        ("OWNERS", "cert.san_uri=urn:example:owner".to_owned()),
    ];
    let (ca_file, owner_file) = (file("own.crt"), file("owner.pem"));
    for (name, value) in &settings {
        binary.set(&format!("HALLPASS_ADMIN__{name}"), value);
    }
    binary.serve(None);
    binary.ok(&["apply", "-f", "-"], &crm_document("http://127.0.0.1:1"));
    binary.ok(&["credential", "put", "crm-key"], SECRET);
    binary.ok(&["agent", "register", "helpdesk", "--role", "support"], "");
    schemathesis.current_dir(binary.dir.path()).arg("run");
    schemathesis.arg(format!("{}/admin/v1/openapi.json", binary.remote_admin)).args(["--checks", CHECKS]);
    schemathesis.arg("--tls-verify").arg(ca_file).arg("--request-cert").arg(owner_file);
    // The same requests each time: a fault that is found is found again.
    schemathesis.args(["--seed", "8600", "--max-examples", "40", "--continue-on-failure", "--warnings", "off"]);
    schemathesis.args(["--request-timeout", "20", "--generation-database", "none"]);
    let said = tokio::task::spawn_blocking(move || {
        let mut said = runtime::run(&mut schemathesis, LIMIT);
        // Each request is a connection, and one address may have so many at once: where every core is busy elsewhere, those that
        // were closed are still counted. That is no answer, so it is asked again; an answer that is wrong stays wrong.
        for _ in 0..2 {
            match &said {
                Err(why) if why.contains("Network Error") && !why.contains("= FAILURES =") => {
                    said = runtime::run(&mut schemathesis, LIMIT);
                }
                _ => break,
            }
        }
        said
    });
    let said = said.await.unwrap();
    let said = said.unwrap_or_else(|why| panic!("{why}\nThe broker said:\n{}", binary.serve_log()));
    assert!(!said.contains(SECRET), "{said}");
    // It is told where a run did nothing: then no check could fail.
    assert!(said.contains("No issues found"), "{said}");
    binary.ok(&["audit", "verify"], "");
}
