//! A throw-away PostgreSQL for tests: one cluster per test process, one fresh database per caller; and clusters for
//! tests that stop and start theirs.
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
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Once, OnceLock};

/// When this is set, a missing PostgreSQL fails the tests that need it instead of skipping them.
const REQUIRE: &str = "HALLPASS_TEST_REQUIRE_POSTGRES";

/// The account that PostgreSQL runs under when the tests run as root: it refuses to be root.
const UNPRIVILEGED: &str = "postgres";

/// A PostgreSQL server with a folder of its own.
pub(crate) struct Cluster {
    root: bool,
    bin: PathBuf,
    dir: PathBuf,
    port: u16,
}

/// The URL of a fresh, empty database; `None`, said loudly, where PostgreSQL is not installed.
///
/// # Panics
/// If `HALLPASS_TEST_REQUIRE_POSTGRES` is set and there is no PostgreSQL, and if there is one that does not work.
pub(crate) fn postgres_url() -> Option<String> {
    static CLUSTER: OnceLock<Result<Option<Cluster>, String>> = OnceLock::new();
    static DATABASES: AtomicUsize = AtomicUsize::new(0);

    match CLUSTER.get_or_init(|| installed().map(Cluster::new).transpose()) {
        Ok(Some(cluster)) => Some(cluster.create_database(DATABASES.fetch_add(1, Ordering::Relaxed))),
        Ok(None) if is_required() => panic!("{REQUIRE} is set, but no PostgreSQL server binaries were found"),
        Ok(None) => None,
        Err(why) => panic!("PostgreSQL is installed, but a test cluster did not start: {why}"),
    }
}

impl Cluster {
    /// One that the caller may stop and start; the others do not notice. `None`, said loudly, where PostgreSQL is not
    /// installed.
    pub(crate) fn own() -> Option<Self> {
        let bin = installed();
        assert!(bin.is_some() || !is_required(), "{REQUIRE} is set, but no PostgreSQL server binaries were found");
        Some(Self::new(bin?).unwrap_or_else(|why| panic!("a cluster of one's own did not start: {why}")))
    }

    pub(crate) fn create_database(&self, n: usize) -> String {
        let (port, name) = (self.port.to_string(), format!("t_{n}"));
        let mut createdb = Command::new(self.bin.join("createdb"));
        createdb.args(["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-T", "template0", &name]);
        run(&mut createdb).expect("a fresh database");
        format!("postgres://postgres@127.0.0.1:{port}/{name}")
    }

    /// Stops the server; `mode` is `fast`, or `immediate` for a crash.
    pub(crate) fn stop(&self, mode: &str) {
        run(self.pg_ctl("stop").args(["-w", "-m", mode])).expect("the server stops");
    }

    /// Sends a signal to the server and all its processes: `-STOP` lets connections stand open and answers nothing.
    pub(crate) fn signal(&self, name: &str) {
        let file = fs::read_to_string(self.dir.join("data/postmaster.pid")).expect("the server runs");
        let postmaster = file.lines().next().expect("its number").to_owned();
        let children = run(Command::new("ps").args(["-o", "pid=", "--ppid", &postmaster])).unwrap_or_default();
        run(Command::new("kill").arg(name).arg(&postmaster)).expect("the server gets its signal");
        for child in children.split_whitespace() {
            // A process of a connection may have ended since it was listed.
            if let Err(why) = run(Command::new("kill").arg(name).arg(child)) {
                assert!(why.contains("No such process"), "{why}");
            }
        }
    }

    /// Starts it again, on the same port.
    pub(crate) fn start(&self) -> Result<(), String> {
        let log = self.dir.join(format!("log-{}", self.port));
        let started = run(self.pg_ctl("start").arg("-w").arg("-l").arg(&log));
        started.map(drop).map_err(|why| format!("{why}\n{}", fs::read_to_string(&log).unwrap_or_default()))
    }

    fn pg_ctl(&self, what: &str) -> Command {
        let mut command = as_server(self.root, &self.bin.join("pg_ctl"));
        command.arg(what).arg("-D").arg(self.dir.join("data"));
        command
    }

    fn new(bin: PathBuf) -> Result<Self, String> {
        let dir = tempfile::Builder::new().prefix("hallpass-pg-").tempdir().map_err(|e| e.to_string())?;
        let root = run(Command::new("id").arg("-u"))?.trim() == "0";
        if root {
            run(Command::new("chown").arg(UNPRIVILEGED).arg(dir.path()))?;
        }
        let mut cluster = Self { root, bin, dir: dir.keep(), port: 0 };
        watch(root, &cluster.bin, &cluster.dir)?;
        let data = cluster.dir.join("data");
        let mut initdb = as_server(root, &cluster.bin.join("initdb"));
        initdb.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D"]).arg(&data);
        run(&mut initdb)?;

        let mut last = String::new();
        for _ in 0..5 {
            // Between closing this socket and PostgreSQL's binding another process may take the port: then try the next.
            let free = TcpListener::bind("127.0.0.1:0").and_then(|s| s.local_addr());
            cluster.port = free.map_err(|e| e.to_string())?.port();
            configure(&data, &cluster.dir, cluster.port).map_err(|e| e.to_string())?;
            match cluster.start() {
                Ok(()) => return Ok(cluster),
                Err(why) => last = why,
            }
        }
        Err(last)
    }
}

fn is_required() -> bool {
    std::env::var_os(REQUIRE).is_some_and(|v| !v.is_empty() && v != "0")
}

/// The server's programs; where there are none and none are required, that is said loudly, once.
fn installed() -> Option<PathBuf> {
    static SAID: Once = Once::new();
    let found = find_binaries();
    if found.is_none() && !is_required() {
        SAID.call_once(say_loudly);
    }
    found
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
