//! After the story: lines that can be pasted, against the broker that stays up.

use std::ffi::OsString;
use std::path::Path;

use serde_json::Value;

use crate::cli::quickstart::stage::Stage;
use crate::cli::quickstart::tell::Teller;
use crate::cli::{Failure, Outcome};
use crate::manage::agents::{Register, Registered};

/// Registers a fresh agent, as the story's one is revoked, and prints what can be done with it.
pub(super) async fn on(stage: &Stage, teller: &mut Teller) -> Outcome {
    let new = Register { name: "playground".into(), roles: vec!["reader".into()], ..Register::default() };
    let agent: Registered = stage.admin.post("/admin/v1/agents", &new).await?;
    let (id, secret) = agent.client();
    let issuer = stage.running.issuer.as_str();
    let (hallpass, config) = (program()?, quoted(&stage.config_file));
    let lines = [
        (
            "A token for the agent 'playground', kept in a shell variable:",
            format!(
                "TOKEN=$(curl -s -u '{}:{}' -d grant_type=client_credentials {issuer}/oauth2/token | sed 's/.*\"access_token\":\"\\([^\"]*\\)\".*/\\1/')",
                id, secret,
            ),
        ),
        (
            "A call through the broker:",
            format!("curl -i -H \"Authorization: Bearer $TOKEN\" {issuer}/exchange/crm/v1/contacts"),
        ),
        (
            "A call that is refused:",
            format!("curl -i -X DELETE -H \"Authorization: Bearer $TOKEN\" {issuer}/exchange/crm/v1/contacts/1"),
        ),
        ("Watch the audit log (in another terminal):", format!("{hallpass} audit tail -f --config {config}")),
        ("Revoke the agent; then try the call again:", format!("{hallpass} agent revoke playground --config {config}")),
        ("Verify the audit log:", format!("{hallpass} audit verify --config {config}")),
    ];
    teller.step("play", "Now you: paste these lines");
    for (what, line) in &lines {
        teller.line(&format!("   {what}"));
        teller.line(&format!("      {line}"));
    }
    teller.keep("commands", lines.iter().map(|(_, line)| Value::from(line.as_str())).collect());
    teller.keep("folder", stage.folder().display().to_string().into());
    teller.end();
    teller.line(&format!("\nThe broker is up until Ctrl-C; then {} is removed.", stage.folder().display()));
    Ok(())
}

/// How the reader can call this program: by name if that is how they did, else by its path.
fn program() -> Result<String, Failure> {
    let by_name = std::env::args_os().next().is_some_and(|name: OsString| !name.to_string_lossy().contains('/'));
    if by_name { Ok("hallpass".to_owned()) } else { Ok(quoted(&std::env::current_exe()?)) }
}

/// A path as one word of a shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+');
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_whatever_is_in_it() {
        assert_eq!(quoted(Path::new("/tmp/a-b_c.toml")), "/tmp/a-b_c.toml");
        assert_eq!(quoted(Path::new("/tmp/it's $HOME/x")), r"'/tmp/it'\''s $HOME/x'");
    }
}
