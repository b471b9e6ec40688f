//! The program itself: `init`, `serve`, and every other command, as a user runs them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A broker's folder, and the server process while it runs.
pub(crate) struct Binary {
    pub(crate) dir: TempDir,
    pub(crate) public: String,
    pub(crate) ops: String,
    /// The admin listener's URL, where there is one.
    pub(crate) remote_admin: String,
    server: Option<Child>,
    environment: Vec<(String, String)>,
}

impl Drop for Binary {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Binary {
    /// `hallpass init` in a fresh folder; with a URL on PostgreSQL.
    pub(crate) fn init(database_url: Option<&str>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_hallpass"));
        command.args(["init", "--dir"]).arg(dir.path());
        if let Some(url) = database_url {
            command.args(["--database-url", url]);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self {
            dir,
            public: String::new(),
            ops: String::new(),
            remote_admin: String::new(),
            server: None,
            environment: Vec::new(),
        }
    }

    /// A setting as an environment variable, for every command from now on.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.dir.path().join("hallpass.toml")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hallpass"));
        command.env("HALLPASS_CONFIG", self.config());
        // Whoever runs the tests may be logged in somewhere.
        command.env("XDG_CONFIG_HOME", self.dir.path()).env_remove("HALLPASS_SERVER");
        command.envs(self.environment.iter().map(|(k, v)| (k.as_str(), v.as_str())));
        command
    }

    /// `hallpass serve`, on free ports unless `listen` says otherwise; returns once it is ready.
    pub(crate) fn serve(&mut self, listen: Option<&str>) {
        let mut child = self.spawn(listen);
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line)
            .unwrap_or_else(|_| panic!("not ready: {}", std::fs::read_to_string(self.log_file()).unwrap()));
        self.public = ready["public"].as_str().unwrap().to_owned();
        self.ops = ready["ops"].as_str().unwrap().to_owned();
        self.remote_admin = ready["remote_admin"].as_str().unwrap_or_default().to_owned();
        self.server = Some(child);
    }

    /// `hallpass serve`, killed after so long, ready or not.
    pub(crate) fn serve_for(&mut self, time: std::time::Duration) {
        self.server = Some(self.spawn(None));
        std::thread::sleep(time);
        self.kill();
    }

    fn spawn(&self, listen: Option<&str>) -> Child {
        let log = std::fs::File::options().create(true).append(true).open(self.log_file()).unwrap();
        self.command()
            .args(["serve", "--json", "--listen", listen.unwrap_or("127.0.0.1:0")])
            .stdout(Stdio::piped())
            .stderr(Stdio::from(log))
            .spawn()
            .unwrap()
    }

    /// The admin socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("data/admin.sock")
    }

    /// What `serve` wrote to standard error so far.
    pub(crate) fn log_file(&self) -> PathBuf {
        self.dir.path().join("serve.log")
    }

    pub(crate) fn serve_log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.server.as_ref().unwrap().id()
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            _ = server.kill().is_ok();
            server.wait().unwrap();
        }
    }

    /// SIGTERM, and waits for the end.
    pub(crate) fn terminate(&mut self) -> std::process::ExitStatus {
        let mut server = self.server.take().unwrap();
        let status = Command::new("kill").args(["-TERM", &server.id().to_string()]).status().unwrap();
        assert!(status.success());
        server.wait().unwrap()
    }

    /// Waits for the end that somebody has asked for.
    pub(crate) fn wait(&mut self) -> std::process::ExitStatus {
        self.server.take().unwrap().wait().unwrap()
    }

    /// Any command, with this on standard input.
    pub(crate) fn run(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = self
            .command()
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that reads no input may be gone before it is written.
        _ = child.stdin.take().unwrap().write_all(input.as_bytes()).is_ok();
        child.wait_with_output().unwrap()
    }

    /// Any command that must succeed: what it printed.
    pub(crate) fn ok(&self, arguments: &[&str], input: &str) -> String {
        let output = self.run(arguments, input);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Any command with `--json` that must succeed.
    pub(crate) fn json(&self, arguments: &[&str], input: &str) -> Value {
        let mut all = arguments.to_vec();
        all.push("--json");
        serde_json::from_str(&self.ok(&all, input)).unwrap()
    }
}
