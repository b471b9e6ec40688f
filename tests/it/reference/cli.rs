//! `docs/cli.md`, from clap's tree of commands.

use clap::{Arg, Command};

use super::{MADE, code, head, page_is, row, sentence};

const HEAD: &str = "\
The command `hallpass` is both the broker (`hallpass serve`) and its administration. `hallpass COMMAND --help` shows the
same text as this page.

A command that talks to a broker finds it in this order: `--server` or `--config` on the command line; the environment
(`HALLPASS_SERVER`, `HALLPASS_CONFIG`); `hallpass.toml` in the current folder, or the broker of the last `hallpass login`.
Where both of the last are there, the command asks you to name one.

Secrets are read from standard input, a file or a prompt, never from the command line. An environment variable that is set
to nothing counts as not set.

## Exit codes

| code | meaning |
|---|---|
| 0 | done |
| 1 | refused or failed |
| 2 | usage: the command line is wrong |
| 3 | the broker cannot be reached |

";

#[test]
fn every_command_and_option_is_on_its_page() {
    let mut command = hallpass::cli::command();
    command.build();
    let mut page = format!("# Commands\n\n{MADE}\n\n{HEAD}## Options of every command\n\n");
    page.push_str(&options(command.get_arguments().filter(|arg| arg.is_global_set())));
    for one in command.get_subcommands() {
        add(&mut page, one, "hallpass", 2);
    }
    page_is("cli.md", &page);
}

fn add(page: &mut String, command: &Command, parent: &str, rank: usize) {
    if command.get_name() == "help" || command.is_hide_set() {
        return;
    }
    let name = format!("{parent} {}", command.get_name());
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    page.push_str(&format!("\n{} {name}\n\n{}\n", "#".repeat(rank), sentence(&about)));
    let inner: Vec<_> = command.get_subcommands().filter(|one| one.get_name() != "help").collect();
    if inner.is_empty() {
        let usage = command.clone().render_usage().to_string();
        page.push_str(&format!("\n```text\n{}\n```\n", usage.trim_start_matches("Usage: ")));
    }
    let own = command.get_arguments().filter(|arg| !arg.is_global_set() && !arg.is_hide_set());
    let own: Vec<_> = own.filter(|arg| !["help", "version"].contains(&arg.get_id().as_str())).collect();
    if !own.is_empty() {
        page.push_str(&format!("\n{}", options(own.into_iter())));
    }
    if let Some(more) = command.get_after_help() {
        page.push_str(&format!("\n```text\n{more}\n```\n"));
    }
    for one in inner {
        add(page, one, &name, rank + 1);
    }
}

fn options<'a>(arguments: impl Iterator<Item = &'a Arg>) -> String {
    let mut table = head(&["option", "meaning"]);
    for argument in arguments {
        let mut meaning = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let values: Vec<_> = argument.get_possible_values().iter().map(|value| code(value.get_name())).collect();
        if !values.is_empty() && argument.get_action().takes_values() {
            meaning.push_str(&format!(": {}", values.join(", ")));
        }
        let mut meaning = sentence(&meaning);
        let defaults: Vec<_> = argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
        if !defaults.is_empty() && argument.get_action().takes_values() {
            meaning.push_str(&format!(" Default: {}.", code(&defaults.join(" "))));
        }
        if let Some(variable) = argument.get_env() {
            meaning.push_str(&format!(" Environment: {}.", code(&variable.to_string_lossy())));
        }
        table.push_str(&row(&[&code(&written(argument)), &meaning]));
    }
    table
}

/// `-f, --file <FILE>`
fn written(argument: &Arg) -> String {
    let short = argument.get_short().map(|letter| format!("-{letter}"));
    let long = argument.get_long().map(|name| format!("--{name}"));
    let names: Vec<_> = short.into_iter().chain(long).collect();
    let values = argument.get_value_names().unwrap_or_default();
    let values: Vec<_> = values.iter().map(|name| format!("<{name}>")).collect();
    let takes_value = argument.get_action().takes_values();
    match (names.is_empty(), takes_value) {
        (true, _) => values.join(" "),
        (false, true) => format!("{} {}", names.join(", "), values.join(" ")),
        (false, false) => names.join(", "),
    }
}

#[test]
fn completions_know_the_commands_and_are_good_scripts() {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let made = Command::new(env!("CARGO_BIN_EXE_hallpass")).args(["completions", shell]).output().unwrap();
        assert!(made.status.success(), "{shell}");
        let script = String::from_utf8(made.stdout).unwrap();
        for word in ["quickstart", "rotate-secret", "checkpoint", "dry-run", "server-ca"] {
            assert!(script.contains(word), "{shell} does not know {word}");
        }
        // As the shell itself sees it, where it is installed.
        let check = ["bash", "zsh", "fish"].contains(&shell) && Command::new(shell).arg("--version").output().is_ok();
        if check {
            let mut run = Command::new(shell).arg("-n").stdin(Stdio::piped()).spawn().unwrap();
            run.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
            assert!(run.wait().unwrap().success(), "{shell} does not take its script");
        }
    }
    let unknown = Command::new(env!("CARGO_BIN_EXE_hallpass")).args(["completions", "tcsh"]).output().unwrap();
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("bash"), "it says which shells there are");
}

/// What a person gets who types `hallpass agent rot` and the Tab key.
#[test]
fn bash_completes_a_subcommand() {
    use std::process::Command;
    if !crate::readme::check_tools(&["bash"]) {
        return;
    }
    let line = r#"source <("$HALLPASS" completions bash)
        COMP_WORDS=(hallpass agent rot); COMP_CWORD=2; _hallpass hallpass rot agent; printf '%s\n' "${COMPREPLY[@]}""#;
    let run =
        Command::new("bash").arg("-c").arg(line).env("HALLPASS", env!("CARGO_BIN_EXE_hallpass")).output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&run.stdout).trim(),
        "rotate-secret",
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
}
