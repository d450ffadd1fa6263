//! What /proc says of processes. A process that has ended meanwhile is absent. What cannot be read is
//! an error.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::libc;

/// `PF_KTHREAD` and `PF_EXITING` of linux/sched.h, in field 9 of stat.
const KERNEL_THREAD: u64 = 0x0020_0000;
const EXITING: u64 = 0x4;

/// /proc could not be read, so nobody knows what was left behind.
#[derive(Debug)]
pub struct Unreadable {
    path: PathBuf,
    source: io::Error,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Unreadable { path, source } = self;
        write!(
            f,
            "cannot look for leaks: read {}: {source}",
            path.display()
        )
    }
}

impl std::error::Error for Unreadable {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl Unreadable {
    pub(super) fn new(path: impl Into<PathBuf>, source: io::Error) -> Unreadable {
        Unreadable {
            path: path.into(),
            source,
        }
    }

    /// The path that could not be read.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// One process, or one thread. The kernel reuses a number, but not a number together with a start
/// time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Identity {
    /// When it started, in clock ticks since boot. It is the first field, so that older ones sort
    /// first.
    pub(super) start: u64,
    pub(crate) pid: u32,
}

/// What stat says of a process or a thread.
#[derive(Clone, Debug)]
pub(super) struct Stat {
    pub(super) identity: Identity,
    pub(super) comm: String,
    pub(super) state: u8,
    pub(super) ppid: u32,
    pub(super) group: u32,
    pub(super) session: u32,
    flags: u64,
    /// Where the arguments and the environment are in its memory. An exec changes these addresses,
    /// which are random. The last one is 0 in the middle of an exec, and if this process may not know
    /// it.
    pub(super) memory: [u64; 4],
}

impl Stat {
    pub(super) fn pid(&self) -> u32 {
        self.identity.pid
    }

    pub(super) fn is_zombie(&self) -> bool {
        matches!(self.state, b'Z' | b'X')
    }

    pub(super) fn is_stopped(&self) -> bool {
        matches!(self.state, b'T' | b't')
    }

    /// Whether it is in the kernel's exit, or a zombie. The kernel sets this before it tells a thread
    /// that joins.
    pub(super) fn is_exiting(&self) -> bool {
        self.flags & EXITING != 0 || self.is_zombie()
    }

    pub(super) fn is_kernel_thread(&self) -> bool {
        self.flags & KERNEL_THREAD != 0
    }

    fn parse(text: &str) -> Option<Stat> {
        // The name may hold blanks and brackets: it ends at the last closing bracket.
        let (pid, rest) = text.split_once(" (")?;
        let (comm, rest) = rest.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let id = |at: usize| fields.get(at)?.parse::<i32>().ok().map(i32::unsigned_abs);
        Some(Stat {
            identity: Identity {
                start: fields.get(19)?.parse().ok()?,
                pid: pid.parse().ok()?,
            },
            comm: comm.to_owned(),
            state: *fields.first()?.as_bytes().first()?,
            ppid: id(1)?,
            group: id(2)?,
            session: id(3)?,
            flags: fields.get(6)?.parse().ok()?,
            memory: {
                let mut memory = [0; 4];
                for (field, place) in fields.get(45..49)?.iter().zip(&mut memory) {
                    *place = field.parse().ok()?;
                }
                memory
            },
        })
    }
}

/// What a process was started with. Empty for a zombie, for a kernel thread, and in the middle of an
/// exec.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) args: Vec<u8>,
    pub(super) environment: Vec<u8>,
    /// Whether this process may not read its environment, since it is another user's process.
    pub(super) is_hidden: bool,
}

impl Image {
    pub(super) fn args(&self) -> impl Iterator<Item = &[u8]> {
        self.args
            .strip_suffix(b"\0")
            .unwrap_or(&self.args)
            .split(|byte| *byte == 0)
    }

    pub(super) fn variable(&self, name: &str) -> Option<String> {
        self.environment.split(|byte| *byte == 0).find_map(|entry| {
            let value = entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
            Some(String::from_utf8_lossy(value).into_owned())
        })
    }
}

/// The contents of a file in /proc; `None` if the process has ended.
fn read(path: &str) -> Result<Option<Vec<u8>>, Unreadable> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(Unreadable::new(path, error)),
    }
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

fn read_stat(path: &str) -> Result<Option<Stat>, Unreadable> {
    let Some(bytes) = read(path)? else {
        return Ok(None);
    };
    match Stat::parse(&String::from_utf8_lossy(&bytes)) {
        Some(stat) => Ok(Some(stat)),
        None => Err(Unreadable::new(
            path,
            io::Error::new(io::ErrorKind::InvalidData, "not the fields of proc(5)"),
        )),
    }
}

pub(super) fn stat(pid: u32) -> Result<Option<Stat>, Unreadable> {
    read_stat(&format!("/proc/{pid}/stat"))
}

/// This process, as /proc has it. An error if /proc is of another pid namespace, or is not there.
pub(super) fn this_process() -> Result<Stat, Unreadable> {
    let path = "/proc/self/stat";
    match read_stat(path)? {
        Some(stat) if stat.pid() == std::process::id() => Ok(stat),
        Some(_) => Err(Unreadable::new(
            path,
            io::Error::other("/proc is of another pid namespace"),
        )),
        None => Err(Unreadable::new(
            path,
            io::Error::from(io::ErrorKind::NotFound),
        )),
    }
}

/// Every process that /proc shows.
pub(super) fn table() -> Result<BTreeMap<u32, Stat>, Unreadable> {
    this_process()?;
    let mut table = BTreeMap::new();
    for pid in numbers("/proc")? {
        if let Some(stat) = stat(pid)? {
            table.insert(pid, stat);
        }
    }
    Ok(table)
}

/// The numbers among the names in a directory.
pub(super) fn numbers(directory: &str) -> Result<Vec<u32>, Unreadable> {
    let failed = |error| Unreadable::new(directory, error);
    let mut numbers = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    Ok(numbers)
}

/// What a process was started with; `None` if it has ended. The environment of another user's process
/// cannot be read, and is taken for empty.
pub(super) fn image(pid: u32) -> Result<Option<Image>, Unreadable> {
    let Some(args) = read(&format!("/proc/{pid}/cmdline"))? else {
        return Ok(None);
    };
    let path = format!("/proc/{pid}/environ");
    let (environment, is_hidden) = match fs::read(&path) {
        Ok(bytes) => (bytes, false),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => (Vec::new(), true),
        Err(error) if is_gone(&error) => return Ok(None),
        Err(error) => return Err(Unreadable::new(path, error)),
    };
    Ok(Some(Image {
        args,
        environment,
        is_hidden,
    }))
}

/// Whether SIGKILL was sent to the process and is still pending. Also true if the process is gone.
pub(super) fn is_killed(pid: u32) -> Result<bool, Unreadable> {
    let Some(status) = read(&format!("/proc/{pid}/status"))? else {
        return Ok(true);
    };
    let status = String::from_utf8_lossy(&status);
    Ok(status.lines().any(|line| {
        let pending = line
            .strip_prefix("SigPnd:")
            .or_else(|| line.strip_prefix("ShdPnd:"));
        pending
            .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
            .is_some_and(|mask| mask & 1 << (libc::SIGKILL - 1) != 0)
    }))
}

/// Whether the number is that of a thread which is not the first of its process. No listing of /proc
/// shows such a thread.
pub(super) fn is_thread(pid: u32) -> Result<bool, Unreadable> {
    let status = read(&format!("/proc/{pid}/status"))?.unwrap_or_default();
    let status = String::from_utf8_lossy(&status);
    let process = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
    Ok(process.is_some_and(|process| process.trim().parse() != Ok(pid)))
}

/// The children that one thread of this process forked, or was given by a thread that ended.
pub(super) fn children(thread: u32) -> Result<BTreeSet<u32>, Unreadable> {
    let path = format!("/proc/self/task/{thread}/children");
    let text = fs::read_to_string(&path).map_err(|error| Unreadable::new(path, error))?;
    Ok(text
        .split_ascii_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect())
}

/// The children of the other threads of this process.
pub(super) fn children_of_others(thread: u32) -> Result<BTreeSet<u32>, Unreadable> {
    let mut all = BTreeSet::new();
    for other in numbers("/proc/self/task")? {
        if other == thread {
            continue;
        }
        match children(other) {
            Ok(children) => all.extend(children),
            Err(error) if is_gone(&error.source) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// The threads of this process that are not ending.
pub(super) fn threads() -> Result<BTreeMap<Identity, String>, Unreadable> {
    let mut threads = BTreeMap::new();
    for thread in numbers("/proc/self/task")? {
        if let Some(stat) = read_stat(&format!("/proc/self/task/{thread}/stat"))?
            && !stat.is_exiting()
        {
            threads.insert(stat.identity, stat.comm);
        }
    }
    Ok(threads)
}
