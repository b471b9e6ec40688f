//! Contestants as processes: started, asked by the kernel what they used, and stopped.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// What the kernel counts in, `USER_HZ`: 100 a second on Linux wherever we run.
const TICKS_PER_SECOND: f64 = 100.0;

/// A contestant that runs. It ends with this value.
#[derive(Debug)]
pub(crate) struct Contestant {
    /// As the table calls it.
    pub(crate) name: String,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    child: Child,
}

impl Contestant {
    /// A subcommand of this very program, which prints the address that it listens on.
    pub(crate) fn own(arguments: &[&str]) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("contestant")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let address = first_line(&mut child)?.trim().parse().context("the contestant said no address")?;
        Ok(Self { name: arguments.join(" "), address, child })
    }

    /// A process that listens at `address`, or will in a moment.
    pub(crate) fn listening(name: &str, address: SocketAddr, child: Child) -> Result<Self> {
        let mut contestant = Self { name: name.to_owned(), address, child };
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = contestant.child.try_wait()? {
                bail!("{name} ended before it listened: {status}");
            }
            if start.elapsed() > Duration::from_secs(20) {
                bail!("{name} does not listen at {address}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(contestant)
    }

    /// Another name for the table.
    pub(crate) fn named(mut self, name: &str) -> Self {
        self.name = name.to_owned();
        self
    }

    /// Processor seconds that it and its worker processes have used so far.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        let mut ticks = ticks_of(self.child.id())?;
        for worker in children_of(self.child.id())? {
            ticks += ticks_of(worker)?;
        }
        Ok(ticks as f64 / TICKS_PER_SECOND)
    }

    /// Resident memory of the process, MiB.
    pub(crate) fn resident_mib(&self) -> Result<f64> {
        status_mib(self.child.id(), "VmRSS:")
    }

    /// The most resident memory that it ever had, MiB.
    pub(crate) fn peak_mib(&self) -> Result<f64> {
        status_mib(self.child.id(), "VmHWM:")
    }

    /// The process, for `perf`.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Contestant {
    fn drop(&mut self) {
        let pid = self.child.id().to_string();
        // SIGTERM first: nginx takes its workers along, and the broker writes what waits.
        let told = Command::new("kill").args(["-TERM", &pid]).status().is_ok_and(|status| status.success());
        let start = Instant::now();
        while told && start.elapsed() < Duration::from_secs(30) {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        if self.child.kill().is_ok() {
            _ = self.child.wait();
        }
    }
}

/// The first line that a child prints; the pipe stays open behind it.
pub(crate) fn first_line(child: &mut Child) -> Result<String> {
    let out = child.stdout.take().context("the child has no output")?;
    let mut reader = BufReader::new(out);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    // Whoever prints again into a closed pipe dies of it.
    std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
    Ok(line)
}

/// nginx with `proxy_pass` and one static header, or `None` where it is not installed.
pub(crate) fn nginx(
    folder: &Path,
    upstream: SocketAddr,
    header: (&str, &str),
    workers: usize,
) -> Result<Option<Contestant>> {
    let Some(program) = find_program("nginx") else { return Ok(None) };
    let folder = folder.join("nginx");
    std::fs::create_dir_all(&folder)?;
    let address = free_address()?;
    let at = folder.display();
    let user = if is_root() { "user root;" } else { "" };
    let (name, value) = header;
    let configuration = format!(
        r#"daemon off; worker_processes {workers}; {user}
pid {at}/nginx.pid; error_log {at}/error.log crit;
events {{ worker_connections 4096; }}
http {{
    access_log off; client_max_body_size 0; keepalive_requests 1000000000;
    client_body_temp_path {at}/body; proxy_temp_path {at}/proxy;
    fastcgi_temp_path {at}/fastcgi; uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;
    upstream api {{ server {upstream}; keepalive 1024; keepalive_requests 1000000000; }}
    server {{
        listen {address} backlog=2048;
        location / {{
            proxy_pass http://api; proxy_http_version 1.1;
            proxy_set_header Connection ""; proxy_set_header {name} {value};
        }}
    }}
}}
"#
    );
    let file = folder.join("nginx.conf");
    std::fs::write(&file, configuration)?;
    let child = Command::new(program)
        .arg("-c")
        .arg(&file)
        .arg("-p")
        .arg(&folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    Ok(Some(Contestant::listening("nginx", address, child)?))
}

/// What runs npm's oidc-provider; this folder's own file, so that the program can be moved.
const OIDC_PROVIDER: &str = include_str!("../oidc-provider.mjs");

/// How long npm may take to fetch it, seconds.
const NPM_PATIENCE: &str = "120";

/// npm's oidc-provider with one client, or why there is none. It is fetched into `folder` the first time.
pub(crate) fn oidc_provider(folder: &Path, algorithm: &str, client: (&str, &str)) -> Result<Contestant, String> {
    let node = find_program("node").ok_or("node is not installed")?;
    let npm = find_program("npm").ok_or("npm is not installed")?;
    let said = |error: std::io::Error| error.to_string();
    if !folder.join("node_modules").exists() {
        std::fs::create_dir_all(folder).map_err(said)?;
        std::fs::write(folder.join("package.json"), "{ \"private\": true }").map_err(said)?;
        std::fs::write(folder.join("oidc-provider.mjs"), OIDC_PROVIDER).map_err(said)?;
        let output = Command::new("timeout")
            .arg(NPM_PATIENCE)
            .arg(npm)
            .args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "oidc-provider@9"])
            .current_dir(folder)
            .stdin(Stdio::null())
            .output()
            .map_err(said)?;
        if !output.status.success() {
            // So that the next one does not take half of it for the whole.
            _ = std::fs::remove_dir_all(folder);
            return Err(format!("npm could not install oidc-provider ({})", output.status));
        }
    }
    let mut child = Command::new(node)
        .args(["oidc-provider.mjs", algorithm, client.0, client.1])
        .current_dir(folder)
        .env("NODE_ENV", "production")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(said)?;
    let address = first_line(&mut child).ok().and_then(|line| line.trim().parse().ok());
    let address = address.ok_or("oidc-provider did not start")?;
    Contestant::listening("oidc-provider", address, child).map_err(|error| error.to_string())
}

/// An address on loopback that is free now.
pub(crate) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Where a program is; Debian keeps some that everybody may run where only root looks.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// Processor seconds of all children of this process that have ended and were waited for.
pub(crate) fn ended_children_cpu_seconds() -> Result<f64> {
    let fields = stat_fields("self")?;
    let number = |n: usize| fields.get(n).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    Ok((number(13) + number(14)) as f64 / TICKS_PER_SECOND)
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

fn ticks_of(pid: u32) -> Result<u64> {
    let fields = stat_fields(&pid.to_string())?;
    let number = |n: usize| fields.get(n).and_then(|text| text.parse::<u64>().ok()).context("an odd /proc/PID/stat");
    Ok(number(11)? + number(12)?)
}

/// The fields of `/proc/PID/stat` behind the program's name, which may hold anything.
fn stat_fields(pid: &str) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("the contestant is gone")?;
    let (_, rest) = text.rsplit_once(')').context("an odd /proc/PID/stat")?;
    Ok(rest.split_ascii_whitespace().map(str::to_owned).collect())
}

fn children_of(pid: u32) -> Result<Vec<u32>> {
    let file = format!("/proc/{pid}/task/{pid}/children");
    let text = std::fs::read_to_string(file).unwrap_or_default();
    Ok(text.split_ascii_whitespace().filter_map(|child| child.parse().ok()).collect())
}

fn status_mib(pid: u32, key: &str) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).context("the contestant is gone")?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)).context("an odd /proc/PID/status")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").trim().parse()?;
    Ok(kib / 1024.0)
}
