//! A throw-away PostgreSQL for tests: one cluster per test process, one fresh database per caller.
//!
//! The cluster lives in a temporary folder, listens on 127.0.0.1 only, keeps `fsync` on as in production, and is
//! stopped and deleted by a watchdog once the test process is gone, however it went.
#![allow(clippy::expect_used, clippy::panic, reason = "a helper of tests: a panic is how it fails them")]

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// When this is set, a missing PostgreSQL fails the tests that need it instead of skipping them.
const REQUIRE: &str = "HALLPASS_TEST_REQUIRE_POSTGRES";

/// The account that PostgreSQL runs under when the tests run as root: it refuses to be root.
const UNPRIVILEGED: &str = "postgres";

struct Cluster {
    bin: PathBuf,
    port: u16,
}

/// The URL of a fresh, empty database; `None`, said loudly, where PostgreSQL is not installed.
///
/// # Panics
/// If `HALLPASS_TEST_REQUIRE_POSTGRES` is set and there is no PostgreSQL, and if there is one that does not work.
pub(crate) fn postgres_url() -> Option<String> {
    static CLUSTER: OnceLock<Result<Option<Cluster>, String>> = OnceLock::new();
    static DATABASES: AtomicUsize = AtomicUsize::new(0);

    let required = std::env::var_os(REQUIRE).is_some_and(|v| !v.is_empty() && v != "0");
    let cluster = CLUSTER.get_or_init(|| {
        let Some(bin) = find_binaries() else {
            if !required {
                say_loudly();
            }
            return Ok(None);
        };
        start(bin).map(Some)
    });
    match cluster {
        Ok(Some(cluster)) => Some(cluster.create_database(DATABASES.fetch_add(1, Ordering::Relaxed))),
        Ok(None) if required => panic!("{REQUIRE} is set, but no PostgreSQL server binaries were found"),
        Ok(None) => None,
        Err(why) => panic!("PostgreSQL is installed, but a test cluster did not start: {why}"),
    }
}

impl Cluster {
    fn create_database(&self, n: usize) -> String {
        let (port, name) = (self.port.to_string(), format!("t_{n}"));
        let mut createdb = Command::new(self.bin.join("createdb"));
        createdb.args(["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-T", "template0", &name]);
        run(&mut createdb).expect("a fresh database");
        format!("postgres://postgres@127.0.0.1:{port}/{name}")
    }
}

fn start(bin: PathBuf) -> Result<Cluster, String> {
    let dir = tempfile::Builder::new().prefix("hallpass-pg-").tempdir().map_err(|e| e.to_string())?;
    let root = run(Command::new("id").arg("-u"))?.trim() == "0";
    if root {
        run(Command::new("chown").arg(UNPRIVILEGED).arg(dir.path()))?;
    }
    let dir = dir.keep();
    watch(root, &bin, &dir)?;
    let data = dir.join("data");
    let mut initdb = as_server(root, &bin.join("initdb"));
    initdb.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D"]).arg(&data);
    run(&mut initdb)?;

    let mut last = String::new();
    for _ in 0..5 {
        // Between closing this socket and PostgreSQL's binding another process may take the port: then try the next.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|s| s.local_addr()).map_err(|e| e.to_string())?.port();
        configure(&data, &dir, port).map_err(|e| e.to_string())?;
        let log = dir.join(format!("log-{port}"));
        let mut pg_ctl = as_server(root, &bin.join("pg_ctl"));
        pg_ctl.arg("start").arg("-w").arg("-D").arg(&data).arg("-l").arg(&log);
        match run(&mut pg_ctl) {
            Ok(_) => return Ok(Cluster { bin, port }),
            Err(why) => last = format!("{why}\n{}", fs::read_to_string(&log).unwrap_or_default()),
        }
    }
    Err(last)
}

/// Appends to `postgresql.conf`, where the last word counts, rather than quoting options through two shells.
fn configure(data: &Path, sockets: &Path, port: u16) -> std::io::Result<()> {
    // A socket path has room for about 100 bytes; in a deeper folder TCP alone must do, and all tests use TCP.
    let sockets = sockets.to_str().filter(|s| s.len() < 80).unwrap_or("").replace('\'', "''");
    let mut conf = fs::OpenOptions::new().append(true).open(data.join("postgresql.conf"))?;
    write!(
        conf,
        "\nlisten_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{sockets}'\n\
         max_connections = 200\nfsync = on\n"
    )
}

/// Stops the cluster and deletes its folder when this process is gone: statics are never dropped, and a test run may
/// be killed. The watchdog has its own process group, so that Ctrl-C does not take it along, and holds none of our
/// pipes, so that nobody waits for it.
fn watch(root: bool, bin: &Path, dir: &Path) -> Result<(), String> {
    const SCRIPT: &str = r#"
        (
            while kill -0 "$1" 2>/dev/null; do sleep 1; done
            if [ "$2" = root ]; then
                su "$5" -s /bin/sh -c '"$0" "$@"' -- "$3/pg_ctl" stop -m immediate -D "$4/data"
            else
                "$3/pg_ctl" stop -m immediate -D "$4/data"
            fi
            rm -rf "$4"
        ) &
    "#;
    let who = if root { "root" } else { "self" };
    let mut sh = Command::new("sh");
    sh.args(["-c", SCRIPT, "watchdog", &std::process::id().to_string(), who]).arg(bin).arg(dir).arg(UNPRIVILEGED);
    sh.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let status = sh.current_dir("/").status().map_err(|e| e.to_string())?;
    status.success().then_some(()).ok_or_else(|| format!("the watchdog did not start: {status}"))
}

/// A command that runs as whoever may run the server.
fn as_server(root: bool, program: &Path) -> Command {
    if !root {
        return Command::new(program);
    }
    let mut su = Command::new("su");
    su.args([UNPRIVILEGED, "-s", "/bin/sh", "-c", r#""$0" "$@""#, "--"]).arg(program);
    su
}

/// Runs a command to its end and returns what it wrote; on failure says which command and what it complained of.
fn run(command: &mut Command) -> Result<String, String> {
    for name in ["PGDATA", "PGHOST", "PGHOSTADDR", "PGPORT", "PGUSER", "PGDATABASE", "PGOPTIONS", "PGSERVICE"] {
        command.env_remove(name);
    }
    let command = command.env("LC_ALL", "C").stdin(Stdio::null()).current_dir("/");
    let out = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    if out.status.success() {
        return Ok(String::from_utf8_lossy(&out.stdout).into_owned());
    }
    Err(format!("{command:?}: {}\n{}", out.status, String::from_utf8_lossy(&out.stderr)))
}

/// The newest PostgreSQL under Debian's folder, else the one on `PATH`.
fn find_binaries() -> Option<PathBuf> {
    let complete = |dir: &PathBuf| ["initdb", "pg_ctl", "createdb"].iter().all(|name| dir.join(name).is_file());
    let mut debian: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, dir)| complete(dir))
        .collect();
    debian.sort();
    debian.pop().map(|(_, dir)| dir).or_else(|| std::env::split_paths(&std::env::var_os("PATH")?).find(complete))
}

/// Straight to standard error: what the print macros write is captured, and shown for failing tests only.
fn say_loudly() {
    let line = "#".repeat(100);
    let text = format!(
        "\n{line}\n## POSTGRESQL IS NOT INSTALLED: the storage tests run on SQLite only. Install Debian's `postgresql`,\n\
         ## or set {REQUIRE}=1 to fail here instead.\n{line}\n"
    );
    drop(std::io::stderr().lock().write_all(text.as_bytes()));
}
