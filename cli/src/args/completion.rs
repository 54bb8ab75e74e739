//! `bulkhead completion`.

use clap::Args;
use clap_complete::Shell;

/// Print a shell's completion script
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bulkhead completion bash > /etc/bash_completion.d/bulkhead
  bulkhead completion zsh > \"${fpath[1]}/_bulkhead\"")]
pub(crate) struct CompletionArgs {
    pub shell: Shell,
}
