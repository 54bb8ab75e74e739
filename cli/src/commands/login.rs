//! Logs in to a registry.

use std::io::{self, BufRead, Read, Write};

use images::registry::{ConfigurationError, Credential, LoginError, Registries, Stored};

use crate::args::LoginArgs;
use crate::terminal::{self, NoEcho};

/// The longest password that is taken, in bytes: tokens are long, but not that long.
const MAX_PASSWORD: u64 = 64 * 1024;

#[derive(Debug, thiserror::Error)]
pub(crate) enum LoginCommandError {
    #[error("there is no terminal to ask for the {0} at: give --username and --password-stdin")]
    NoTerminal(&'static str),
    #[error("the {0} is empty")]
    Empty(&'static str),
    #[error("cannot ask at the terminal")]
    Terminal(#[source] io::Error),
    #[error("cannot read the password from standard input")]
    Stdin(#[source] io::Error),
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    #[error(transparent)]
    Login(#[from] LoginError),
    #[error("cannot print the outcome")]
    Print(#[source] io::Error),
}

pub(crate) fn login(args: &LoginArgs, out: &mut dyn Write) -> Result<(), LoginCommandError> {
    let user = match &args.username {
        Some(user) => user.clone(),
        None => ask("username", true)?,
    };
    if user.is_empty() {
        return Err(LoginCommandError::Empty("username"));
    }
    let password = match &args.password {
        Some(password) => {
            eprintln!("WARNING! Using --password is insecure: others see it. Use --password-stdin.");
            password.clone()
        }
        None if args.password_stdin => from_stdin()?,
        None => ask("password", false)?,
    };
    if password.is_empty() {
        return Err(LoginCommandError::Empty("password"));
    }
    let credential = Credential::Password { user, password };
    let stored = Registries::from_environment()?.login(&args.server, &credential)?;
    if let Stored::File(path) = stored {
        eprintln!(
            "The password is kept unencrypted in {}; a credential helper would be safer.",
            path.display()
        );
    }
    writeln!(out, "Login Succeeded").map_err(LoginCommandError::Print)
}

/// A line typed at the terminal.
fn ask(what: &'static str, echo: bool) -> Result<String, LoginCommandError> {
    if !terminal::stdin_is_terminal() {
        return Err(LoginCommandError::NoTerminal(what));
    }
    let typed = || {
        eprint!(
            "{}{}: ",
            what.get(..1).unwrap_or_default().to_uppercase(),
            what.get(1..).unwrap_or_default()
        );
        let hidden = (!echo).then(NoEcho::enter).transpose()?;
        let mut line = String::new();
        io::stdin().lock().take(MAX_PASSWORD).read_line(&mut line)?;
        if hidden.is_some() {
            eprintln!();
        }
        Ok(line)
    };
    let line: String = typed().map_err(LoginCommandError::Terminal)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// All of standard input, without the line's end that `echo` puts behind it.
fn from_stdin() -> Result<String, LoginCommandError> {
    let mut password = String::new();
    io::stdin().lock().take(MAX_PASSWORD).read_to_string(&mut password).map_err(LoginCommandError::Stdin)?;
    Ok(password.trim_end_matches(['\r', '\n']).to_owned())
}
