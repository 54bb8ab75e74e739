//! Prints the manual page, for packages to install.

use std::io;

use clap::CommandFactory;
use clap_mangen::Man;

use crate::args::Cli;

/// One page: the program, then each command's options.
pub(crate) fn man(out: &mut impl io::Write) -> io::Result<()> {
    let command = Cli::command().flatten_help(true);
    Man::new(command.clone()).render(out)?;
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let name = format!("bulkhead {}", verb.get_name());
        writeln!(out, ".SH \"{}\"", name.to_uppercase())?;
        let verb = Man::new(verb.clone().bin_name(name));
        verb.render_description_section(out)?;
        verb.render_options_section(out)?;
    }
    Ok(())
}
