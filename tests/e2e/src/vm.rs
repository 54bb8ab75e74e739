//! A VM without containers: `bulkhead-vmm` spoken to by its own contract, and a guest made of busybox and a
//! script.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vmm_api::{
    CONTROL_FD, ControlSocket, Disk, End, EndReason, Event, FdIndex, Identity, Launch, Message, Reply,
    Request, RequestId, Resume,
};

/// Longer than anything takes that works.
const LIMIT: Duration = Duration::from_secs(120);

const NOBODY: Identity = Identity { uid: 65534, gid: 65534 };

const COMMAND_LINE: &str =
    "console=ttyS0 quiet reboot=k panic=-1 tsc=reliable no_timer_check random.trust_cpu=on";

/// A VM to be started.
pub struct Plan {
    pub kernel: PathBuf,
    pub command_line: String,
    pub vcpus: u8,
    /// How many it may come to have, if not as many.
    pub most_vcpus: Option<u8>,
    pub memory: u64,
    /// Serial and file of disks there from the start.
    pub disks: Vec<(&'static str, File)>,
    /// Guest memory is a file, so that the VM can be saved.
    pub in_file: bool,
    initramfs: File,
}

/// A VM that was saved.
pub struct Saved {
    pub vcpus: u8,
    pub memory_size: u64,
    pub state: File,
    pub memory: File,
}

/// A VMM process and our end of its control socket.
pub struct Vm {
    child: Child,
    control: ControlSocket,
    requests: RequestId,
    memory_file: Option<File>,
    vcpus: u8,
    memory_size: u64,
}

/// How it ended: what it told, and the process's status.
#[derive(Debug)]
pub struct Ended {
    pub end: End,
    pub status: ExitStatus,
}

impl Plan {
    /// A guest whose PID 1 is a busybox shell that runs `script`, with /proc, /sys and /dev mounted.
    pub fn running(script: &str) -> Self {
        Self {
            kernel: part("vmlinux"),
            command_line: COMMAND_LINE.to_owned(),
            vcpus: 1,
            most_vcpus: None,
            memory: 256 << 20,
            disks: Vec::new(),
            in_file: false,
            initramfs: initramfs(script),
        }
    }

    pub fn with_arguments(mut self, arguments: &str) -> Self {
        self.command_line = format!("{} {arguments}", self.command_line);
        self
    }

    /// Starts the VMM and sends the launch description.
    pub fn start(self) -> Vm {
        let mut vm = Vm::spawn();
        let kvm = File::options().read(true).write(true).open("/dev/kvm").expect("/dev/kvm");
        let kernel = File::open(&self.kernel).expect("a kernel");
        let mut descriptors = vec![kvm.as_fd(), kernel.as_fd(), self.initramfs.as_fd()];
        let mut disks = Vec::new();
        for (serial, file) in &self.disks {
            disks.push(disk(serial, descriptors.len()));
            descriptors.push(file.as_fd());
        }
        let memory_file = self.in_file.then(|| tempfile::tempfile().expect("a file"));
        let memory_index = memory_file.as_ref().map(|file| {
            descriptors.push(file.as_fd());
            index(descriptors.len() - 1)
        });
        let launch = Launch {
            kvm: FdIndex(0),
            kernel: FdIndex(1),
            initramfs: FdIndex(2),
            command_line: self.command_line,
            vcpus: self.vcpus,
            most_vcpus: self.most_vcpus.unwrap_or(self.vcpus),
            memory: self.memory,
            disks,
            memory_file: memory_index,
            identity: Some(NOBODY),
        };
        vm.send(Request::Launch(launch), &descriptors);
        vm.memory_file = memory_file;
        (vm.vcpus, vm.memory_size) = (self.vcpus, self.memory);
        vm
    }
}

impl Saved {
    /// Lets it go on.
    pub fn resume(&self) -> Vm {
        self.resume_with(&[])
    }

    /// Lets it go on, with disks by their serials.
    pub fn resume_with(&self, disks: &[(&str, &File)]) -> Vm {
        let mut vm = Vm::spawn();
        let kvm = File::options().read(true).write(true).open("/dev/kvm").expect("/dev/kvm");
        let mut descriptors = vec![kvm.as_fd(), self.state.as_fd(), self.memory.as_fd()];
        let mut described = Vec::new();
        for (serial, file) in disks {
            described.push(disk(serial, descriptors.len()));
            descriptors.push(file.as_fd());
        }
        let resume = Resume {
            kvm: FdIndex(0),
            vcpus: self.vcpus,
            memory_size: self.memory_size,
            state: FdIndex(1),
            memory: FdIndex(2),
            disks: described,
            listen: Vec::new(),
            ahead: Vec::new(),
            log_writes: false,
            identity: Some(NOBODY),
        };
        vm.send(Request::Resume(resume), &descriptors);
        (vm.vcpus, vm.memory_size) = (self.vcpus, self.memory_size);
        vm
    }

    /// The first message of one that does not.
    pub fn refusal(&self) -> String {
        match self.resume().ended().reason() {
            EndReason::Launch { message } => message.clone(),
            other => panic!("{other:?}"),
        }
    }
}

impl Vm {
    /// Starts a VMM that has yet to be told what to launch.
    pub fn spawn() -> Self {
        let (control, theirs) = ControlSocket::pair().expect("a socket pair");
        let theirs = OwnedFd::from(theirs);
        let inherited = theirs.as_raw_fd();
        let mut command = Command::new(part("bulkhead-vmm"));
        // SAFETY: dup2 and fcntl are async-signal-safe.
        unsafe {
            command.pre_exec(move || {
                if inherited == CONTROL_FD {
                    let flags = rustix::io::FdFlags::empty();
                    return Ok(rustix::io::fcntl_setfd(BorrowedFd::borrow_raw(inherited), flags)?);
                }
                let mut place = std::mem::ManuallyDrop::new(std::os::fd::FromRawFd::from_raw_fd(CONTROL_FD));
                Ok(rustix::io::dup2(BorrowedFd::borrow_raw(inherited), &mut place)?)
            });
        }
        Self {
            child: command.spawn().expect("bulkhead-vmm"),
            control,
            requests: 0,
            memory_file: None,
            vcpus: 0,
            memory_size: 0,
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a request and leaves its reply unread.
    pub fn send(&mut self, request: Request, descriptors: &[BorrowedFd<'_>]) {
        self.requests += 1;
        self.control.send(&(self.requests, request), descriptors).expect("the control socket");
    }

    /// The reply to the last request. A failure comes in its own words; so does an end.
    pub fn reply(&self) -> Result<Reply, String> {
        loop {
            match self.message() {
                (Message::Reply { request, result }, _) if request == self.requests => {
                    return result.map_err(|failure| failure.message);
                }
                (Message::Event(Event::Ended(end)), _) => return Err(end.reason.to_string()),
                _ => {}
            }
        }
    }

    pub fn ask(&mut self, request: Request) -> Result<Reply, String> {
        self.send(request, &[]);
        self.reply()
    }

    pub fn add_disk(&mut self, serial: &str, file: &File) -> Result<Reply, String> {
        self.send(Request::AddDisk(disk(serial, 0)), &[file.as_fd()]);
        self.reply()
    }

    /// Saves the VM, which is at its end then.
    pub fn save(mut self) -> Saved {
        let state = tempfile::tempfile().expect("a file");
        assert_eq!(self.save_to(&state), Ok(Reply::Saved));
        assert_eq!(self.ask(Request::Stop), Ok(Reply::Stopping));
        let memory = self.memory_file.take().expect("a VM whose memory is a file");
        Saved { state, memory, vcpus: self.vcpus, memory_size: self.memory_size }
    }

    pub fn save_to(&mut self, state: &File) -> Result<Reply, String> {
        self.send(Request::Save { state: FdIndex(0) }, &[state.as_fd()]);
        self.reply()
    }

    /// Takes a snapshot of a VM that is held, which runs on.
    pub fn snapshot(&mut self) -> Saved {
        let [state, memory] = [(); 2].map(|()| tempfile::tempfile().expect("a file"));
        assert_eq!(self.snapshot_to(&state, &memory), Ok(Reply::Saved));
        Saved { state, memory, vcpus: self.vcpus, memory_size: self.memory_size }
    }

    pub fn snapshot_to(&mut self, state: &File, memory: &File) -> Result<Reply, String> {
        let request = Request::Snapshot { state: FdIndex(0), memory: FdIndex(1) };
        self.send(request, &[state.as_fd(), memory.as_fd()]);
        self.reply()
    }

    /// Waits until the guest has printed this.
    pub fn wait_for(&mut self, text: &str) {
        let start = Instant::now();
        loop {
            let Ok(Reply::Console { tail }) = self.ask(Request::Console) else {
                panic!("ended before {text:?}")
            };
            if tail.contains(text) {
                return;
            }
            assert!(start.elapsed() < LIMIT, "no {text:?} in:\n{tail}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits for the VM's own end.
    pub fn ended(self) -> Ended {
        let end = loop {
            if let (Message::Event(Event::Ended(end)), _) = self.message() {
                break end;
            }
        };
        Ended { end, status: self.abandon() }
    }

    /// Closes the control socket, as a supervisor does that dies, and waits for the process.
    pub fn abandon(mut self) -> ExitStatus {
        let (ours, _) = ControlSocket::pair().expect("a socket pair");
        drop(std::mem::replace(&mut self.control, ours));
        self.child.wait().expect("its status")
    }

    fn message(&self) -> (Message, Vec<OwnedFd>) {
        let mut ready = [PollFd::new(&self.control, PollFlags::IN)];
        let limit = Timespec { tv_sec: LIMIT.as_secs() as i64, tv_nsec: 0 };
        assert_eq!(poll(&mut ready, Some(&limit)).expect("poll"), 1, "no message within {LIMIT:?}");
        self.control.receive().expect("a message")
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        // Gone already, mostly.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// The reason, once the process's status is seen to agree with it.
    pub fn reason(&self) -> &EndReason {
        assert_eq!(self.status.code(), Some(self.end.reason.exit_code() as i32), "{self:?}");
        &self.end.reason
    }
}

fn index(descriptor: usize) -> FdIndex {
    FdIndex(u8::try_from(descriptor).expect("few"))
}

fn disk(serial: &str, descriptor: usize) -> Disk {
    Disk {
        serial: serial.to_owned(),
        files: vec![index(descriptor)],
        read_only: false,
        device: vmm_api::DiskDevice::Block,
    }
}

/// A disk image without a name, with `text` at its start.
pub fn disk_image(text: &str, bytes: u64) -> File {
    let mut file = tempfile::tempfile().expect("a file");
    file.set_len(bytes).expect("its size");
    file.write_all(text.as_bytes()).expect("its text");
    file
}

/// A part of the installed Bulkhead: they lie in ../lib/bulkhead of its binary.
fn part(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").expect("PATH");
    let bulkhead = std::env::split_paths(&path)
        .map(|directory| directory.join("bulkhead"))
        .find(|candidate| candidate.is_file())
        .expect("bulkhead on PATH");
    bulkhead.parent().and_then(|bin| bin.parent()).expect("a prefix").join("lib/bulkhead").join(name)
}

/// busybox and a script in the newc format (Linux Documentation/driver-api/early-userspace/buffer-format.rst).
fn initramfs(script: &str) -> File {
    let init = format!(
        "#!/bin/busybox sh\n/bin/busybox --install -s /bin\nexport PATH=/bin\n\
         mount -t proc proc /proc\nmount -t sysfs sys /sys\nmount -t devtmpfs dev /dev\n{script}\n"
    );
    let busybox = fs::read("/bin/busybox").expect("Debian's busybox-static");
    let mut archive = Vec::new();
    for directory in ["bin", "proc", "sys", "dev"] {
        entry(&mut archive, directory, 0o040_755, &[]);
    }
    entry(&mut archive, "bin/busybox", 0o100_755, &busybox);
    entry(&mut archive, "init", 0o100_755, init.as_bytes());
    entry(&mut archive, "TRAILER!!!", 0, &[]);
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(&archive).expect("its content");
    std::io::Seek::rewind(&mut file).expect("its start");
    file
}

fn entry(archive: &mut Vec<u8>, name: &str, mode: u32, content: &[u8]) {
    let header = [0, mode, 0, 0, 1, 0, content.len() as u32, 0, 0, 0, 0, name.len() as u32 + 1, 0];
    archive.extend(b"070701");
    for field in header {
        archive.extend(format!("{field:08x}").bytes());
    }
    archive.extend(name.as_bytes());
    archive.push(0);
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend(content);
    archive.resize(archive.len().next_multiple_of(4), 0);
}

/// A line of /proc/PID/status.
pub fn status_line(pid: u32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
    line.trim_start_matches(':').trim().to_owned()
}

/// The process's threads by name, each with a line of its status.
pub fn threads(pid: u32, line: &str) -> Vec<(String, String)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("a process");
    let mut threads: Vec<_> = tasks
        .map(|task| {
            let status = fs::read_to_string(task.expect("a task").path().join("status")).expect("a thread");
            let value = |name: &str| {
                let found = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
                found.expect("a line").trim().to_owned()
            };
            (value("Name"), value(line))
        })
        .collect();
    threads.sort();
    threads
}

/// How many entries a directory of the process's own root has.
pub fn root_entries(pid: u32) -> usize {
    let root: &OsStr = OsStr::new("root");
    fs::read_dir(PathBuf::from(format!("/proc/{pid}")).join(root)).expect("its root").count()
}
