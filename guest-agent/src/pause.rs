//! The process that keeps a PID namespace for containers that share it: its PID 1, which reaps their orphans and does nothing
//! else, as the pause container of Kubernetes does, whose name it goes by.
//!
//! It is the agent's binary under another name. The containers see it, and as root they may look into it where they have
//! the capability to: so it gives up all that it could show, the agent's files first. Signals from within the namespace
//! mean nothing to it (pid_namespaces(7)).

use std::convert::Infallible;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{Gid, Uid, chdir, pivot_root};
use rustix::thread::{UnshareFlags, set_name, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::helper::protocol::{Answer, HelperEnd};

/// The argument that makes this binary the maker of a namespace.
pub const MAKER: &str = "make-pid-namespace";

/// What the containers see it as, as with Kubernetes.
const NAME: &str = "/pause";

/// Whoever has no other user, as the pause container has it.
const NOBODY: u32 = 65535;

/// Next to none is ended later for want of memory: with it go all in the namespace. As the kubelet has it.
const OOM_SCORE: &str = "-998";

/// Whether this process was started under the pause's name.
pub fn is_asked_for() -> bool {
    std::env::args_os().next().is_some_and(|name| name == NAME)
}

/// Makes the namespace with a pause in it, tells the agent its pid, and stays until the agent has taken note.
pub fn make() -> ExitCode {
    let answered = HelperEnd::on_stdin().and_then(|agent| {
        agent.answer(&match start() {
            Ok(pid) => Answer::Launched { pid },
            Err(error) => Answer::Failed { message: error.to_string() },
        })
    });
    if answered.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Gives the pid of a pause that has confined itself.
fn start() -> io::Result<i32> {
    // SAFETY: what is unshared is no table of descriptors that another thread could count on.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWPID)? };
    let mut pause = Command::new("/proc/self/exe")
        .arg0(NAME)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut complaint = String::new();
    if let Some(said) = &mut pause.stdout {
        said.read_to_string(&mut complaint)?;
    }
    if !complaint.is_empty() {
        return Err(io::Error::other(complaint));
    }
    i32::try_from(pause.id()).map_err(io::Error::other)
}

/// Runs as PID 1 of the namespace. Its standard output takes a complaint, and is closed once there is none.
pub fn main() -> ExitCode {
    let Err(error) = keep();
    let _ = io::stdout().write_all(error.to_string().as_bytes());
    ExitCode::FAILURE
}

fn keep() -> io::Result<Infallible> {
    // Of children whose end their parent ignores, nothing is left to be reaped (wait(2)).
    // SAFETY: SIG_IGN is a valid disposition.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    confine()?;
    rustix::stdio::dup2_stdout(io::stdin())?;
    loop {
        std::thread::park();
    }
}

fn confine() -> io::Result<()> {
    set_name(c"pause")?;
    fs::write("/proc/self/oom_score_adj", OOM_SCORE)?;
    enter_empty_root()?;
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    set_thread_groups(&[])?;
    set_thread_res_gid(group, group, group)?;
    // The capabilities go with it (capabilities(7)).
    set_thread_res_uid(user, user, user)?;
    Ok(())
}

/// Leaves no mount of the agent's in this process's namespace: one that is copied there could not be unmounted elsewhere.
fn enter_empty_root() -> io::Result<()> {
    // SAFETY: as above.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS)? };
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("tmpfs", "/run", "tmpfs", flags, None)?;
    chdir("/run")?;
    pivot_root(".", ".")?;
    // The old root is on top of the new one (pivot_root(2)).
    unmount(".", UnmountFlags::DETACH)?;
    chdir("/")?;
    Ok(())
}
