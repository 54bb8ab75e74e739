//! Prints a shell's completion script.

use std::io;

use clap::CommandFactory;

use crate::args::{Cli, CompletionArgs};

pub(crate) fn completion(args: &CompletionArgs, out: &mut impl io::Write) -> io::Result<()> {
    let mut command = Cli::command();
    let name = command.get_name().to_owned();
    // Into memory first: the generator panics where it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    out.write_all(&script)
}
