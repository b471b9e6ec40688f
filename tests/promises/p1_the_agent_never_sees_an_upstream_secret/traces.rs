//! What a broker leaves behind: what its commands print, its listeners answer, its process shows, its database and its
//! log hold.

use std::path::{Path, PathBuf};

use super::AGENT;
use super::searcher::{Searcher, files};
use crate::support::database;
use crate::support::real::{Real, said};

/// The first piece of PostgreSQL's write-ahead log that can hold anything of this test: the cluster is shared.
pub(super) struct Since(Option<String>);

impl Since {
    pub(super) async fn now(real: &Real) -> Self {
        if real.database.starts_with("sqlite:") { Self(None) } else { Self(Some(wal(real).await)) }
    }
}

async fn wal(real: &Real) -> String {
    one(real, "SELECT pg_walfile_name(pg_current_wal_insert_lsn())").await
}

async fn one(real: &Real, sql: &str) -> String {
    database::texts(&real.database, sql).await.remove(0)
}

fn clean(searcher: &Searcher, what: &str, bytes: &[u8]) {
    assert_eq!(searcher.find(bytes), None, "{what}: {}", String::from_utf8_lossy(bytes));
}

/// Every command that shows something, for people and as JSON; and those that are refused what they were given.
pub(super) fn of_commands(real: &Real, searcher: &Searcher) {
    for line in [
        "status",
        "credential list",
        "upstream list",
        "upstream show header",
        "upstream show query",
        "upstream test query",
        "upstream test gone",
        "role list",
        "agent list",
        "session list",
        "key list",
        "audit tail -n 100000",
        "audit export",
        "audit verify",
    ] {
        let mut words: Vec<&str> = line.split(' ').collect();
        for json in [false, true] {
            if json {
                words.push("--json");
            }
            let (code, text) = said(&real.binary.run(&words, ""));
            assert!(code == 0 || line == "upstream test gone", "{line}: {text}");
            assert!(!text.is_empty(), "{line} said nothing");
            clean(searcher, line, text.as_bytes());
        }
    }
    let export = real.binary.ok(&["audit", "export"], "");
    assert!(export.contains(AGENT) && export.contains("\"redactions\":1"), "not the log of these calls");
    // A control character makes a value unfit; whoever says so must not repeat it.
    let unfit = format!("{}\n{}", super::canary("header"), super::canary("query"));
    for words in [&["credential", "put", "unfit"][..], &["credential", "rotate", "header", "--json"]] {
        let (code, text) = said(&real.binary.run(words, &unfit));
        assert_eq!(code, 1, "{text}");
        clean(searcher, "a refused value", text.as_bytes());
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("value");
    std::fs::write(&file, &unfit).unwrap();
    let (code, text) =
        said(&real.binary.run(&["credential", "put", "unfit", "--from-file", file.to_str().unwrap()], ""));
    assert_eq!(code, 1, "{text}");
    clean(searcher, "a refused file", text.as_bytes());
}

/// Metrics, health, and what anybody may read at the public listener.
pub(super) async fn of_listeners(real: &Real, searcher: &Searcher) {
    let (public, ops) = (&real.binary.public, &real.binary.ops);
    for url in [
        format!("{ops}/metrics"),
        format!("{ops}/healthz"),
        format!("{ops}/readyz"),
        format!("{public}/.well-known/jwks.json"),
        format!("{public}/.well-known/oauth-authorization-server"),
        format!("{public}/revocations"),
        format!("{public}/exchange/header/a"),
    ] {
        let answer = real.http.get(&url).send().await.unwrap();
        let text = format!("{:?}\n{}", answer.headers().clone(), answer.text().await.unwrap());
        assert!(!url.ends_with("/metrics") || text.contains("hallpass_calls_total"), "{text}");
        clean(searcher, &url, text.as_bytes());
    }
}

/// What other users of the machine can see of the process, and that it dies without a core dump.
pub(super) fn of_the_process(real: &Real, searcher: &Searcher) {
    let proc = PathBuf::from(format!("/proc/{}", real.binary.pid()));
    let command = std::fs::read(proc.join("cmdline")).unwrap();
    assert!(command.windows(5).any(|word| word == b"serve"));
    clean(searcher, "cmdline", &command);
    // A process that must not be dumped shows its environment to root alone.
    if let Ok(environment) = std::fs::read(proc.join("environ")) {
        assert!(environment.windows(8).any(|word| word == b"HALLPASS"));
        clean(searcher, "environ", &environment);
    }
    let limits = std::fs::read_to_string(proc.join("limits")).unwrap();
    let core: Vec<&str> =
        limits.lines().find(|line| line.starts_with("Max core file size")).unwrap().split_whitespace().collect();
    assert_eq!(core[4..6], ["0", "0"], "{limits}");
}

/// The broker's whole folder, with its log, and every page of its database.
pub(super) async fn of_storage(real: &Real, searcher: &Searcher, since: &Since) {
    let folder = real.binary.dir.path();
    let log = std::fs::read_to_string(real.binary.log_file()).unwrap();
    for word in ["upstream_protocol", "upstream_connect", "upstream_encoding"] {
        assert!(log.contains(word), "{word}: the log does not tell what happened");
    }
    log.lines().for_each(|line| clean(searcher, "the log", line.as_bytes()));
    assert_eq!(searcher.find_in_folder(folder).0, None);
    let Some(since) = &since.0 else {
        // The database and what it has not yet moved into place.
        assert_eq!(Searcher::new([AGENT]).find_in_folder(&folder.join("data")).0.unwrap().1, "as it is");
        return;
    };
    database::execute(&real.database, "CHECKPOINT").await;
    let cluster = PathBuf::from(one(real, "SELECT setting FROM pg_settings WHERE name = 'data_directory'").await);
    let oid = one(real, "SELECT oid::text FROM pg_database WHERE datname = current_database()").await;
    let pages = cluster.join("base").join(oid);
    assert_eq!(searcher.find_in_folder(&pages).0, None);
    assert_eq!(Searcher::new([AGENT]).find_in_folder(&pages).0.unwrap().1, "as it is");

    let last = wal(real).await;
    let within = |file: &Path| {
        let name = file.file_name().unwrap().to_str().unwrap();
        name.len() == 24 && name >= since.as_str() && name <= last.as_str()
    };
    let agent = Searcher::new([AGENT]);
    let mut seen = false;
    for file in files(&cluster.join("pg_wal")).iter().filter(|file| within(file)) {
        let bytes = std::fs::read(file).unwrap();
        assert_eq!(searcher.find(&bytes), None, "{}", file.display());
        seen = seen || agent.find(&bytes).is_some();
    }
    assert!(seen, "the write-ahead log from {since} to {last} is not that of this test");
    // What PostgreSQL says of statements that failed.
    for file in std::fs::read_dir(cluster.parent().unwrap()).unwrap() {
        let file = file.unwrap().path();
        if file.is_file() {
            clean(searcher, &file.display().to_string(), &std::fs::read(&file).unwrap());
        }
    }
}
