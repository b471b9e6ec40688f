//! Node and Python with the libraries of the lock files, installed once; and how a client is run.

use std::fs;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

/// When this is set, a missing runtime fails the tests that need it instead of skipping them.
const REQUIRE: &str = "HALLPASS_TEST_REQUIRE_INTEROP";

/// A slow mirror and a cold cache fit into it; a network that swallows everything does not hold the suite up for ever.
const TO_INSTALL: Duration = Duration::from_secs(300);

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// `target/interop`.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("interop")
}

/// A script of `tests/interop/node`, or an example; `None`, said loudly, where Node or its modules are not to be had.
pub(super) fn node(script: &str) -> Option<Command> {
    static MODULES: OnceLock<Option<(PathBuf, u32)>> = OnceLock::new();
    let (modules, major) = MODULES.get_or_init(|| settled("node and npm", install_node())).as_ref()?;
    let mut command = Command::new("node");
    if *major < 20 {
        // Debian 12 has Node 18, where the libraries' `crypto` is behind a flag.
        command.arg("--experimental-global-webcrypto");
    }
    command.arg(modules.join(script));
    Some(command)
}

/// A script, by its path in this repository; `None`, said loudly, where Python or its packages are not to be had.
pub(super) fn python(script: &str) -> Option<Command> {
    static PACKAGES: OnceLock<Option<PathBuf>> = OnceLock::new();
    let program = PACKAGES.get_or_init(|| settled(PYTHON, install_python("python"))).as_ref()?;
    let mut command = Command::new(program.join("python"));
    command.arg(Path::new(ROOT).join(script)).env("PYTHONDONTWRITEBYTECODE", "1");
    Some(command)
}

/// The program `schemathesis`; `None`, said loudly, where it is not to be had.
pub(super) fn schemathesis() -> Option<Command> {
    static PACKAGES: OnceLock<Option<PathBuf>> = OnceLock::new();
    let programs = PACKAGES.get_or_init(|| settled(PYTHON, install_python("schemathesis"))).as_ref()?;
    Some(Command::new(programs.join("schemathesis")))
}

const PYTHON: &str = "python3 and its venv module";

fn install_node() -> Result<(PathBuf, u32), String> {
    let major = run(Command::new("node").args(["-p", "process.versions.node.split('.')[0]"]), TO_INSTALL)?;
    let major: u32 = major.trim().parse().map_err(|_| format!("node says that it is version {major}"))?;
    if major < 18 {
        return Err(format!("node {major} is too old: 18 or newer"));
    }
    let (ours, folder) = (Path::new(ROOT).join("tests/interop/node"), folder().join("node"));
    once(&folder, &ours.join("package-lock.json"), || {
        for name in ["package.json", "package-lock.json"] {
            fs::copy(ours.join(name), folder.join(name)).map_err(|error| error.to_string())?;
        }
        // `ci` installs what the lock file says, and nothing whose hash is another one. No package runs a script.
        let arguments = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
        run(Command::new("npm").args(arguments).current_dir(&folder), TO_INSTALL).map(drop)
    })?;
    // Modules are looked for beside the file that imports them.
    let places = ["tests/interop/node", "tests/interop/clients", "examples"];
    let scripts = places.into_iter().flat_map(|place| fs::read_dir(Path::new(ROOT).join(place)).unwrap());
    for script in scripts.map(|entry| entry.unwrap().path()) {
        if script.extension().is_some_and(|ending| ending == "mjs" || ending == "mts") {
            fs::copy(&script, folder.join(script.file_name().unwrap())).map_err(|error| error.to_string())?;
        }
    }
    // Its types hold, and Node of any age runs what comes out.
    let compiler = folder.join("node_modules/typescript/bin/tsc");
    let arguments = ["--strict", "--module", "nodenext", "--target", "es2022", "agent.mts"];
    run(Command::new("node").arg(compiler).args(arguments).current_dir(&folder), TO_INSTALL)?;
    Ok((folder, major))
}

/// The packages of one lock file, in an environment of their own; where their programs are.
fn install_python(name: &str) -> Result<PathBuf, String> {
    let requirements = Path::new(ROOT).join("tests/interop").join(name).join("requirements.txt");
    let folder = folder().join(name);
    let programs = folder.join("bin");
    once(&folder, &requirements, || {
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder), TO_INSTALL)?;
        let arguments = ["-m", "pip", "--disable-pip-version-check", "install", "--require-hashes"];
        let mut pip = Command::new(programs.join("python"));
        run(pip.args(arguments).args(["--only-binary", ":all:", "-r"]).arg(&requirements), TO_INSTALL).map(drop)
    })?;
    Ok(programs)
}

/// Fills a folder unless it was filled from this very lock file before.
fn once(folder: &Path, lock: &Path, fill: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    let (stamp, lock) = (folder.join("installed"), fs::read(lock).unwrap());
    if fs::read(&stamp).is_ok_and(|installed| installed == lock) {
        return Ok(());
    }
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(|error| error.to_string())?;
    }
    fs::create_dir_all(folder).map_err(|error| error.to_string())?;
    fill()?;
    fs::write(stamp, lock).map_err(|error| error.to_string())
}

fn settled<T>(what: &str, installed: Result<T, String>) -> Option<T> {
    installed.map_err(|why| not_here(&format!("{what} ({why})"))).ok()
}

/// Whether a program is installed.
pub(super) fn is_there(program: &str, argument: &str) -> bool {
    run(Command::new(program).arg(argument), Duration::from_secs(30)).is_ok()
}

/// Says loudly that something is missing.
///
/// # Panics
/// If `HALLPASS_TEST_REQUIRE_INTEROP` is set.
pub(super) fn not_here(what: &str) {
    let is_required = std::env::var_os(REQUIRE).is_some_and(|value| !value.is_empty() && value != "0");
    assert!(!is_required, "{REQUIRE} is set, and this is not to be had: {what}");
    let line = "#".repeat(100);
    let text = format!("\n{line}\n## NOT TO BE HAD: {what}. Clients that need it were not tried.\n{line}\n");
    drop(std::io::stderr().lock().write_all(text.as_bytes()));
}

/// Runs a program to its end, with all that it starts; what it printed, or why it failed.
pub(super) fn run(command: &mut Command, limit: Duration) -> Result<String, String> {
    let name = format!("{command:?}");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let child = command.spawn().map_err(|error| format!("{name}: {error}"))?;
    let group = format!("-{}", child.id());
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || tell.send(child.wait_with_output()));
    let Ok(output) = told.recv_timeout(limit) else {
        drop(Command::new("kill").args(["-KILL", "--", &group]).status());
        return Err(format!("{name} took longer than {} seconds", limit.as_secs()));
    };
    let output = output.map_err(|error| format!("{name}: {error}"))?;
    let (said, complaint) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(said.into_owned()) } else { Err(format!("{name} failed:\n{said}\n{complaint}")) }
}
