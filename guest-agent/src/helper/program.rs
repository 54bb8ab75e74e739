//! Finds and executes the program of a process, inside the container and as its user.
//!
//! This is libcontainer's executor: it runs in the new process. Before the process counts as made it gives up its
//! privileges and looks the program up, so that a mistyped command fails at once; it executes it when the gate opens.
//! What fails goes to the report pipe, which a successful execve(2) closes.

use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use libcontainer::oci_spec::runtime::{Process, Spec};
use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};
use rustix::fs::{Access, AtFlags, CWD, FileType, accessat, stat};
use rustix::io::Errno;
use rustix::termios::{Winsize, tcsetwinsize};

use super::privileges::Privileges;
use super::protocol::{ProgramCause, Report, Size};
use crate::{error_chain, init};

/// Where programs are looked for when the environment has no PATH, as Docker has it.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[derive(Clone)]
pub(super) struct Program {
    pub(super) report: Rc<OwnedFd>,
    pub(super) gate: Option<Rc<OwnedFd>>,
    /// Whether [`crate::init`] runs the program.
    pub(super) below_init: bool,
    pub(super) terminal_size: Option<Size>,
    pub(super) privileges: Privileges,
}

impl Executor for Program {
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        self.settle(process(spec)).map_err(|report| {
            report.send(self.report.as_fd());
            ExecutorValidationError::ArgValidationError(report.message)
        })
    }

    /// Leaves the environment alone: `exec` passes on the one of the spec, in its order.
    fn setup_envs(&self, _: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        Ok(())
    }

    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let report = self.become_program(process(spec));
        report.send(self.report.as_fd());
        Err(ExecutorError::Other(report.message))
    }
}

impl Program {
    /// Gives up what the program is not to have, and sees that it is there for who is left.
    fn settle(&self, process: Option<&Process>) -> Result<(), Report> {
        let no_new_privileges = process.and_then(Process::no_new_privileges).unwrap_or(false);
        self.privileges.give_up(no_new_privileges).map_err(|error| other(error_chain::describe(&error)))?;
        find(process).map(drop)
    }

    /// Returns only if the program could not be executed.
    fn become_program(&self, process: Option<&Process>) -> Report {
        let found = match find(process) {
            Ok(found) => found,
            Err(report) => return report,
        };
        if let Some(size) = self.terminal_size {
            // A process without a size of its terminal is a process nonetheless.
            let _ = tcsetwinsize(std::io::stdin(), winsize(size));
        }
        if let Some(gate) = &self.gate
            && !matches!(rustix::io::read(gate, &mut [0]), Ok(1))
        {
            return other("the process was not let go");
        }
        let found = if self.below_init { found.below_init() } else { found };
        let error = found.execute();
        found.cannot_execute(error)
    }
}

struct Found {
    name: String,
    path: CString,
    args: Vec<CString>,
    env: Vec<CString>,
}

impl Found {
    /// The init that runs this.
    fn below_init(self) -> Self {
        let first = [init::PATH.to_owned(), c"--".to_owned()];
        Self { path: init::PATH.to_owned(), args: first.into_iter().chain(self.args).collect(), ..self }
    }

    fn execute(&self) -> Errno {
        let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
            strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
        };
        let args = pointers(&self.args);
        let env = pointers(&self.env);
        // SAFETY: SIG_DFL is a valid disposition. Rust's runtime ignores SIGPIPE, which execve(2) would hand on.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        // SAFETY: path is a C string; args and env are arrays of pointers to C strings, each ended by a null
        // pointer, and all of them outlive the call.
        unsafe { libc::execve(self.path.as_ptr(), args.as_ptr(), env.as_ptr()) };
        Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
    }

    fn cannot_execute(&self, error: Errno) -> Report {
        // ENOENT for a file that was found means its interpreter is missing.
        let cause = match error {
            Errno::NOENT | Errno::NOTDIR => ProgramCause::NotFound,
            Errno::ACCESS | Errno::NOEXEC | Errno::ISDIR | Errno::PERM | Errno::LOOP | Errno::LIBBAD => {
                ProgramCause::NotExecutable
            }
            _ => ProgramCause::Other,
        };
        Report { cause, message: format!("cannot execute {:?}: {error}", self.name) }
    }
}

fn process(spec: &Spec) -> Option<&Process> {
    spec.process().as_ref()
}

fn find(process: Option<&Process>) -> Result<Found, Report> {
    let args = process.and_then(|process| process.args().as_deref()).unwrap_or_default();
    let env = process.and_then(|process| process.env().as_deref()).unwrap_or_default();
    let Some(name) = args.first().filter(|name| !name.is_empty()) else {
        return Err(Report { cause: ProgramCause::NotFound, message: "no command was given".to_owned() });
    };
    let search_path = env.iter().find_map(|variable| variable.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    let path = look_up(name, search_path)?;
    let path = c_string(path.to_string_lossy().as_ref())?;
    let args = args.iter().map(|arg| c_string(arg)).collect::<Result<_, _>>()?;
    let env = env.iter().map(|variable| c_string(variable)).collect::<Result<_, _>>()?;
    Ok(Found { name: name.clone(), path, args, env })
}

/// The file that executing `name` would take: a name with a slash is a path, any other is searched for.
fn look_up(name: &str, search_path: &str) -> Result<PathBuf, Report> {
    if name.contains('/') {
        return match check(Path::new(name)) {
            Ok(()) => Ok(name.into()),
            Err(Errno::NOENT | Errno::NOTDIR) => {
                Err(not_found(format!("{name:?}: no such file or directory")))
            }
            Err(error) => Err(not_executable(format!("{name:?}: {}", words(error)))),
        };
    }
    let mut refused = None;
    for dir in search_path.split(':') {
        let dir = if dir.is_empty() { "." } else { dir };
        let candidate = Path::new(dir).join(name);
        match check(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::ISDIR) => {}
            Err(error) => refused = refused.or(Some((candidate, error))),
        }
    }
    match refused {
        Some((candidate, error)) => Err(not_executable(format!("{candidate:?}: {}", words(error)))),
        None => Err(not_found(format!("{name:?}: executable file not found in $PATH"))),
    }
}

/// Whether this process may execute the file.
fn check(path: &Path) -> Result<(), Errno> {
    if FileType::from_raw_mode(stat(path)?.st_mode) == FileType::Directory {
        return Err(Errno::ISDIR);
    }
    match accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS) {
        // A seccomp profile older than faccessat2(2) says EPERM or ENOSYS; execve(2) will know.
        Ok(()) | Err(Errno::PERM | Errno::NOSYS) => Ok(()),
        Err(error) => Err(error),
    }
}

fn words(error: Errno) -> String {
    match error {
        Errno::ACCESS => "permission denied".to_owned(),
        Errno::ISDIR => "is a directory".to_owned(),
        error => error.to_string(),
    }
}

fn not_found(message: String) -> Report {
    Report { cause: ProgramCause::NotFound, message }
}

fn not_executable(message: String) -> Report {
    Report { cause: ProgramCause::NotExecutable, message }
}

fn other(message: impl Into<String>) -> Report {
    Report { cause: ProgramCause::Other, message: message.into() }
}

fn c_string(string: &str) -> Result<CString, Report> {
    CString::new(string).map_err(|_| other(format!("{string:?} contains a NUL byte")))
}

fn winsize(size: Size) -> Winsize {
    Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    struct Dirs {
        temp: tempfile::TempDir,
    }

    impl Dirs {
        fn new() -> Self {
            Self { temp: tempfile::tempdir().unwrap() }
        }

        fn file(&self, path: &str, mode: u32) -> PathBuf {
            let path = self.temp.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        }

        fn search_path(&self, dirs: &[&str]) -> String {
            dirs.iter()
                .map(|dir| self.temp.path().join(dir).display().to_string())
                .collect::<Vec<_>>()
                .join(":")
        }
    }

    #[test]
    fn the_first_executable_on_the_path_is_taken() {
        let dirs = Dirs::new();
        dirs.file("a/tool", 0o644);
        fs::create_dir_all(dirs.temp.path().join("b/tool")).unwrap();
        let wanted = dirs.file("c/tool", 0o755);
        dirs.file("d/tool", 0o755);
        assert_eq!(look_up("tool", &dirs.search_path(&["none", "a", "b", "c", "d"])).unwrap(), wanted);
    }

    #[test]
    fn what_is_only_there_without_permission_is_not_executable() {
        let dirs = Dirs::new();
        dirs.file("a/tool", 0o644);
        let report = look_up("tool", &dirs.search_path(&["a", "none"])).unwrap_err();
        assert_eq!(report.cause, ProgramCause::NotExecutable);
    }

    #[test]
    fn what_is_nowhere_or_only_a_directory_on_the_path_is_not_found() {
        let dirs = Dirs::new();
        fs::create_dir_all(dirs.temp.path().join("a/tool")).unwrap();
        let report = look_up("tool", &dirs.search_path(&["a"])).unwrap_err();
        assert_eq!(report.cause, ProgramCause::NotFound);
    }

    #[test]
    fn a_name_with_a_slash_is_a_path() {
        let dirs = Dirs::new();
        let plain = dirs.file("a/tool", 0o644);
        let cause = |path: &Path| look_up(&path.display().to_string(), "/nowhere").unwrap_err().cause;
        assert_eq!(cause(&plain), ProgramCause::NotExecutable);
        assert_eq!(cause(plain.parent().unwrap()), ProgramCause::NotExecutable);
        assert_eq!(cause(&dirs.temp.path().join("a/none")), ProgramCause::NotFound);
        assert_eq!(cause(&plain.join("below")), ProgramCause::NotFound);
    }
}
