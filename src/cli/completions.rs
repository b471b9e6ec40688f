//! `hallpass completions SHELL`.

use clap::Args;
use clap_complete::Shell;

use crate::cli::{Context, Outcome, command};

/// Print a script that completes commands and options in a shell.
#[derive(Debug, Args)]
#[command(after_help = HOW)]
pub(super) struct Completions {
    /// For which shell
    shell: Shell,
}

const HOW: &str = "\
For bash, in ~/.bashrc:  source <(hallpass completions bash)
For zsh:                 hallpass completions zsh > DIR/_hallpass, where DIR is in $fpath
For fish:                hallpass completions fish > ~/.config/fish/completions/hallpass.fish";

impl Completions {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command(), "hallpass", &mut script);
        context.output.painted(String::from_utf8_lossy(&script).trim_end());
        Ok(())
    }
}
