//! What operators do to a broker, and what it tells them: signals, health, an output or a log that cannot be written, a
//! database that is away.

mod away;
mod errors;
mod health;
mod outputs;
mod signals;
mod unwritable_log;

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::support::Binary;
use crate::support::real::until;

/// `hallpass serve` as a shell starts it, at addresses that are known before.
struct Shell {
    child: Child,
    public: String,
    ops: String,
    http: reqwest::Client,
}

impl Drop for Shell {
    fn drop(&mut self) {
        _ = self.child.kill().is_ok();
        _ = self.child.wait().is_ok();
    }
}

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

impl Shell {
    /// `rest` stands behind the command: redirections, a pipe.
    async fn serve(broker: &Binary, rest: &str) -> Self {
        let (public, ops) = (free_address(), free_address());
        let line = format!("exec {} serve --listen {public} {rest}", env!("CARGO_BIN_EXE_hallpass"));
        let mut command = Command::new("bash");
        command.args(["-c", &line]).env("HALLPASS_CONFIG", broker.config()).env("HALLPASS_LISTEN__OPS", &ops);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let mut shell = Self { child, public, ops, http: crate::support::broker::client() };
        until("it serves", 30, async || {
            assert!(shell.child.try_wait().unwrap().is_none(), "{rest}: it ended");
            shell.get("/healthz").await.is_some_and(|(status, _)| status == 200)
        })
        .await;
        shell
    }

    /// Status and JSON of the ops listener; none where nobody answers.
    async fn get(&self, path: &str) -> Option<(u16, Value)> {
        let answer = self.http.get(format!("http://{}{path}", self.ops)).send().await.ok()?;
        let status = answer.status().as_u16();
        Some((status, answer.json().await.ok()?))
    }

    /// SIGTERM; the exit code.
    async fn terminate(&mut self) -> Option<i32> {
        let status = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
        for _ in 0..600 {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("it does not end")
    }
}
