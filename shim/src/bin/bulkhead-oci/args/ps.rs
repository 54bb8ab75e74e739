//! `bulkhead-oci ps`.

use clap::Args;

use super::TableOrJson;

/// List the processes of a container
#[derive(Debug, Args)]
#[command(after_help = "\
Pids are those of the container: its processes are none of the host's.

Examples:
  bulkhead-oci ps web
  bulkhead-oci ps --format json web")]
pub(crate) struct PsArgs {
    #[arg(short, long, value_enum, default_value_t, help = "How to print them; json: their pids only")]
    pub format: TableOrJson,

    #[arg(value_name = "CONTAINER-ID")]
    pub id: String,

    /// Taken, and of no effect: the table is always that of `ps -ef`
    #[arg(value_name = "PS-OPTION", trailing_var_arg = true, allow_hyphen_values = true)]
    pub options: Vec<String>,
}
