//! A program with all its children: the one room of the agent that makes Unix's calls about processes.
//!
//! It knows no trial: it starts, listens, asks to end, and kills.

use std::ffi::OsString;
use std::io::{ErrorKind, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitId, WaitIdOptions, getrlimit, kill_process, kill_process_group, setrlimit,
    setsid, waitid,
};

/// Files that a program and each of its children may hold open.
const OPEN_FILES_MAX: u64 = 4_096;
/// Bytes that one read takes.
const CHUNK_BYTES: usize = 64 * 1024;
/// Reads of what a program left in its pipes when it ended; more than a pipe holds.
const LAST_READS_MAX: usize = 32;
/// How often the session is searched for members that were made while it was killed.
const SWEEPS_MAX: usize = 16;

/// What to start, and within which bounds.
#[derive(Debug, Clone)]
pub struct Launch {
    pub program: PathBuf,
    pub arguments: Vec<String>,
    /// All of it: nothing of the agent's own environment is handed on.
    pub environment: Vec<(&'static str, OsString)>,
    pub folder: PathBuf,
    /// Address space of the program, and of each of its children.
    pub memory_bytes: Option<u64>,
}

/// Which of the two a program wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    Output,
    Errors,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
    /// Somebody else took note of its end: whoever started the agent has it ignore its children's.
    Unseen,
}

impl Exit {
    /// Whether the kernel, or somebody else, killed it without a word.
    pub fn is_kill(self) -> bool {
        self == Self::Signal(Signal::KILL.as_raw())
    }
}

/// A running program, in a session of its own. When it is dropped, nothing of the session is left.
#[derive(Debug)]
pub struct Process {
    child: Child,
    session: Pid,
}

impl Process {
    /// Must be called by a thread that lives as long as the program may: the program dies with it, by SIGKILL.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(launch: &Launch) -> std::io::Result<Self> {
        let mut command = Command::new(&launch.program);
        command
            .args(&launch.arguments)
            .env_clear()
            .envs(launch.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&launch.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        confine(&mut command, limits(launch.memory_bytes));
        let child = command.spawn()?;
        let session = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a child has a positive number");
        let process = Self { child, session };
        if let Some(pipe) = &process.child.stdout {
            ioctl_fionbio(pipe, true)?;
        }
        if let Some(pipe) = &process.child.stderr {
            ioctl_fionbio(pipe, true)?;
        }
        Ok(process)
    }

    /// Waits until there is something to read, or the program closed its pipes, or so much time has passed.
    pub fn wait_for_output(&self, at_most: Duration) {
        let timeout = Timespec { tv_sec: at_most.as_secs().cast_signed(), tv_nsec: at_most.subsec_nanos().into() };
        let output = self.child.stdout.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN));
        let errors = self.child.stderr.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN));
        let mut pipes: Vec<PollFd> = output.into_iter().chain(errors).collect();
        // An interrupted wait is a short one: the caller looks and comes back.
        let _interrupted = poll(&mut pipes, Some(&timeout));
    }

    /// Hands over what is there to be read, a chunk of each pipe at most. False when there was nothing.
    pub fn read(&mut self, mut each: impl FnMut(Channel, &[u8])) -> bool {
        let output = read_chunk(&mut self.child.stdout, |bytes| each(Channel::Output, bytes));
        let errors = read_chunk(&mut self.child.stderr, |bytes| each(Channel::Errors, bytes));
        output || errors
    }

    /// How the program ended, once it has. Its number stays taken, so that its session can be killed safely.
    pub fn exit(&self) -> Option<Exit> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let status = match waitid(WaitId::Pid(self.session), options) {
            Ok(status) => status?,
            Err(Errno::INTR) => return None,
            Err(_) => return Some(Exit::Unseen),
        };
        let code = status.exit_status().map(Exit::Code);
        code.or_else(|| status.terminating_signal().map(Exit::Signal))
    }

    /// Asks all of the session to end: SIGTERM.
    pub fn terminate(&self) {
        self.signal_all(Signal::TERM);
    }

    /// Ends all of the session: SIGKILL.
    pub fn kill(&self) {
        for _ in 0..SWEEPS_MAX {
            if self.signal_all(Signal::KILL) == 0 {
                return;
            }
        }
    }

    /// What the program had written when it ended. Call it after [`kill`](Self::kill).
    pub fn read_rest(&mut self, mut each: impl FnMut(Channel, &[u8])) {
        for _ in 0..LAST_READS_MAX {
            if !self.read(&mut each) {
                return;
            }
        }
    }

    /// Signals the program's group, and those of the session that are in groups of their own; how many these are.
    fn signal_all(&self, signal: Signal) -> usize {
        // Whoever has ended by itself needs no signal.
        let _ended_already = kill_process_group(self.session, signal);
        let others = members_elsewhere(self.session);
        for pid in &others {
            let _ended_already = kill_process(*pid, signal);
        }
        others.len()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        // Nobody else waits for it, and it was killed.
        let _gone = self.child.wait();
    }
}

/// None: the pipe had nothing, or is closed.
fn read_chunk<R: Read>(pipe: &mut Option<R>, each: impl FnOnce(&[u8])) -> bool {
    let Some(reader) = pipe else { return false };
    let mut chunk = [0; CHUNK_BYTES];
    match reader.read(&mut chunk) {
        Ok(0) => {
            *pipe = None;
            false
        }
        Ok(count) => {
            each(&chunk[..count]);
            true
        }
        Err(error) => {
            if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) {
                *pipe = None;
            }
            false
        }
    }
}

fn limits(memory_bytes: Option<u64>) -> Vec<(Resource, Rlimit)> {
    let at_most = |resource: Resource, wanted: u64| {
        let limit = Some(getrlimit(resource).maximum.map_or(wanted, |hard| hard.min(wanted)));
        (resource, Rlimit { current: limit, maximum: limit })
    };
    let memory = memory_bytes.map(|bytes| at_most(Resource::As, bytes));
    [at_most(Resource::Core, 0), at_most(Resource::Nofile, OPEN_FILES_MAX)].into_iter().chain(memory).collect()
}

#[allow(unsafe_code, reason = "the one way to run code between fork and exec")]
fn confine(command: &mut Command, limits: Vec<(Resource, Rlimit)>) {
    let agent = rustix::process::getpid();
    // SAFETY: only system calls that are safe between fork and exec; nothing is allocated.
    unsafe {
        command.pre_exec(move || {
            setsid()?;
            die_with_agent(agent)?;
            for (resource, limit) in &limits {
                setrlimit(*resource, *limit)?;
            }
            Ok(())
        });
    }
}

/// However the agent dies, the program does too. Its children are not told; they lose their output and their parent.
#[cfg(target_os = "linux")]
fn die_with_agent(agent: Pid) -> std::io::Result<()> {
    use rustix::process::{getppid, set_parent_process_death_signal};
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have died before it was asked.
    if getppid() == Some(agent) { Ok(()) } else { Err(ErrorKind::Interrupted.into()) }
}

#[cfg(not(target_os = "linux"))]
fn die_with_agent(_: Pid) -> std::io::Result<()> {
    Ok(())
}

/// Live processes of a session outside of its first group, as `timeout` and shells with job control make them. Where the
/// system does not list its processes, none.
fn members_elsewhere(session: Pid) -> Vec<Pid> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers
        .filter(|number: &i32| is_member_elsewhere(*number, session.as_raw_pid()))
        .filter_map(Pid::from_raw)
        .collect()
}

fn is_member_elsewhere(number: i32, session: i32) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(number.to_string()).join("stat"));
    stat.is_ok_and(|stat| {
        // The name, in parentheses, may hold anything; after it: state, parent, group, session.
        let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        let mut fields = after_name.split(' ');
        let state = fields.next();
        let mut number_at = |skipped: usize| fields.nth(skipped).and_then(|text| text.parse::<i32>().ok());
        let (group, member_of) = (number_at(1), number_at(0));
        state != Some("Z") && member_of == Some(session) && group != Some(session)
    })
}
