//! Which children this process has, by the thread that forked them.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::{Arc, Mutex, PoisonError};

use nix::libc;
use nix::unistd::{Pid, gettid};

use crate::pidfd::{ended_status, is_own_lack, open_pidfd};

use super::mark::{self, Mark};
use super::sight::Sight;

/// The threads that run a sim, and the harness's own threads. The children of a sim's thread are its sim's.
static SIM_THREADS: Mutex<Vec<(Pid, Option<Arc<Sight>>)>> = Mutex::new(Vec::new());

/// Marks this thread as a sim's, or as the harness's own, until it is dropped.
#[derive(Debug)]
pub(crate) struct SimThread {
    thread: Pid,
    mark: Option<Arc<Mark>>,
}

impl SimThread {
    /// Enters this thread. `sight` is what others can see of its sim; `None` if the thread is the harness's own, and
    /// forks nothing.
    pub(crate) fn enter(sight: Option<Arc<Sight>>) -> SimThread {
        let mark = if sight.is_some() {
            Mark::take().map(Arc::new)
        } else {
            // A sim's thread may have started this one, which then has inherited its mark.
            mark::clear();
            None
        };
        SimThread::register(sight, mark)
    }

    /// Enters this thread, which only waits for the harness's threads, and forks nothing until this is dropped.
    #[cfg(feature = "properties")]
    pub(crate) fn wait() -> SimThread {
        SimThread::register(None, None)
    }

    fn register(sight: Option<Arc<Sight>>, mark: Option<Arc<Mark>>) -> SimThread {
        let thread = gettid();
        SIM_THREADS
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((thread, sight));
        SimThread { thread, mark }
    }

    /// The mark that the threads and processes inherit which this thread starts. `None` if the kernel has no such mark.
    pub(crate) fn mark(&self) -> Option<Arc<Mark>> {
        self.mark.clone()
    }
}

impl Drop for SimThread {
    fn drop(&mut self) {
        let mut threads = SIM_THREADS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = threads
            .iter()
            .position(|(thread, _)| *thread == self.thread)
        {
            threads.swap_remove(place);
        }
    }
}

/// Says that the sim of this thread is over although the thread is not. Other sims then need not look at the thread.
#[cfg(feature = "properties")]
pub(crate) fn leave(thread: Pid) {
    let mut threads = SIM_THREADS.lock().unwrap_or_else(PoisonError::into_inner);
    let left = threads.iter_mut().filter(|(other, _)| *other == thread);
    left.for_each(|(_, sight)| *sight = None);
}

/// The threads that run other sims than this thread's, each with what others can see of its sim.
pub(crate) fn other_sims() -> Vec<(Pid, Arc<Sight>)> {
    let threads = SIM_THREADS.lock().unwrap_or_else(PoisonError::into_inner);
    if threads.iter().filter(|(_, sight)| sight.is_some()).count() < 2 {
        return Vec::new();
    }
    let this = gettid();
    let others = threads.iter().filter(|(thread, _)| *thread != this);
    others
        .filter_map(|(thread, sight)| Some((*thread, Arc::clone(sight.as_ref()?))))
        .collect()
}

/// The children of a thread, as two looks in a row agree on them. A single look leaves out a child that lives if
/// another child is reaped meanwhile.
pub(crate) fn of_busy_thread(thread: Pid) -> io::Result<Option<Vec<u32>>> {
    twice(|| of_thread(thread))
}

/// The children of one of this process's threads. `None` if the thread has ended.
fn of_thread(thread: Pid) -> io::Result<Option<Vec<u32>>> {
    let path = format!("/proc/self/task/{thread}/children");
    match contents(&path) {
        Ok(text) => {
            let text = String::from_utf8_lossy(&text);
            let pids = text.split_ascii_whitespace();
            Ok(Some(pids.filter_map(|pid| pid.parse().ok()).collect()))
        }
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(about(&path, &error)),
    }
}

/// Whether the error says that the thread or process is gone.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

fn about(path: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{path}: {error}"))
}

/// The children that one thread forked.
#[derive(Debug)]
pub(crate) struct Children {
    /// /proc/self/task/TID/children, held open.
    listing: io::Result<File>,
    threads: Threads,
    /// The threads of this process, at the last look.
    listed: Mutex<Vec<Pid>>,
}

impl Children {
    /// The children of this thread.
    pub(crate) fn of_this_thread() -> Children {
        let path = format!("/proc/self/task/{}/children", gettid());
        Children {
            listing: File::open(path),
            threads: Threads::new(),
            listed: Mutex::default(),
        }
    }

    /// The process ids of the children.
    pub(crate) fn list(&self) -> io::Result<Vec<u32>> {
        Ok(self.list_with_threads()?.1)
    }

    /// Whether every thread of this process runs a sim, or is the harness's own.
    pub(crate) fn are_of_sims_alone(&self) -> bool {
        self.threads.count_beside_sims().1
    }

    /// How many threads this process has, if that can be told, and the process ids of the children. While another
    /// thread may reap a child, a single look can leave out a child that lives. Two looks then have to agree.
    pub(crate) fn list_with_threads(&self) -> io::Result<(Option<u64>, Vec<u32>)> {
        let (threads, only_run_sims) = self.threads.count_beside_sims();
        let file = self
            .listing
            .as_ref()
            .map_err(|error| io::Error::new(error.kind(), error.to_string()))?;
        let text = if only_run_sims {
            read(file)?
        } else {
            twice(|| read(file))?
        };
        let pids = text.split_ascii_whitespace();
        Ok((threads, pids.filter_map(|pid| pid.parse().ok()).collect()))
    }

    /// The threads that run no sim, each with its children: a sim's code under test may use them. If a thread ends
    /// during a look, the look misses other threads, and the children that the ending thread hands over. So a look
    /// counts only if no thread has ended meanwhile.
    pub(crate) fn of_other_threads(&self) -> io::Result<Vec<ThreadsChildren>> {
        let mut found = Vec::new();
        for _ in 0..LOOKS {
            let (before, only_run_sims) = self.threads.count_beside_sims();
            if only_run_sims {
                return Ok(Vec::new());
            }
            let is_whole;
            (found, is_whole) = self.look_at_other_threads(before)?;
            // If the threads cannot be counted, one look has to do.
            if before.is_none() || is_whole && before == self.threads.count() {
                break;
            }
        }
        Ok(found)
    }

    /// Looks once at the threads that run no sim. `count` is how many threads this process has. Returns also whether
    /// the look saw all of them. If this process has exactly the threads of the last look, they need not be listed
    /// again.
    fn look_at_other_threads(
        &self,
        count: Option<u64>,
    ) -> io::Result<(Vec<ThreadsChildren>, bool)> {
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        let is_count = |listed: &[Pid]| u64::try_from(listed.len()).ok() == count;
        if !is_count(&listed) {
            *listed = list_threads()?;
        }
        let mut is_whole = is_count(&listed);
        let mut found = Vec::new();
        for &thread in &without_sims(&listed) {
            match of_thread(thread)? {
                Some(children) => found.push((thread.as_raw().unsigned_abs(), children)),
                None => is_whole = false,
            }
        }
        if !is_whole {
            listed.clear();
        }
        Ok((found, is_whole))
    }
}

/// A thread, and its children.
pub(crate) type ThreadsChildren = (u32, Vec<u32>);

/// How often to look again at something that changes during the look.
const LOOKS: u32 = 1000;

/// What two looks in a row see alike; the last look, if it changes faster than that.
fn twice<T: PartialEq>(look: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let mut last = look()?;
    for _ in 0..LOOKS {
        let next = look()?;
        if next == last {
            break;
        }
        last = next;
    }
    Ok(last)
}

/// The threads of this process.
#[derive(Debug)]
struct Threads {
    /// /proc/self/task, held open: a descriptor of it, its device and its inode number.
    directory: Option<(File, u64, u64)>,
}

impl Threads {
    fn new() -> Threads {
        let open = || {
            let file = File::open("/proc/self/task")?;
            let metadata = file.metadata()?;
            Ok::<_, io::Error>((file, metadata.dev(), metadata.ino()))
        };
        Threads {
            directory: open().ok(),
        }
    }

    /// How many threads there are. Each is a link of the directory, besides the directory's own two links.
    fn count(&self) -> Option<u64> {
        let (file, device, number) = self.directory.as_ref()?;
        let metadata = file.metadata().ok()?;
        // The code under test may have closed the descriptor, and opened something else under its number.
        let is_it = (metadata.dev(), metadata.ino()) == (*device, *number);
        is_it.then(|| metadata.nlink().checked_sub(2))?
    }

    /// How many threads there are, and whether each of them runs a sim or is the harness's own. It counts under the
    /// lock: every thread on the list is there, and no other thread can get onto the list.
    fn count_beside_sims(&self) -> (Option<u64>, bool) {
        let sims = SIM_THREADS.lock().unwrap_or_else(PoisonError::into_inner);
        let count = self.count();
        // A thread that begins a sim inside another is on the list twice, until it is told that it cannot.
        let threads: HashSet<Pid> = sims.iter().map(|(thread, _)| *thread).collect();
        (count, count == u64::try_from(threads.len()).ok())
    }
}

fn read(file: &File) -> io::Result<String> {
    String::from_utf8(read_all(file)?).map_err(io::Error::other)
}

/// Reads a file of /proc, in as few calls as that takes. The standard library asks for the file's size, which is 0, and
/// then reads a little at a time.
pub(crate) fn contents(path: &str) -> io::Result<Vec<u8>> {
    read_all(&File::open(path)?)
}

pub(crate) fn read_all(file: &File) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let length = file.read_at(&mut chunk, text.len() as u64)?;
        text.extend_from_slice(&chunk[..length]);
        // The kernel fills the buffer, except for a last entry that does not fit.
        if length < chunk.len() - 16 {
            return Ok(text);
        }
    }
}

/// The threads of this process.
fn list_threads() -> io::Result<Vec<Pid>> {
    const TASKS: &str = "/proc/self/task";
    let unreadable = |error| about(TASKS, &error);
    let mut all = Vec::new();
    for task in fs::read_dir(TASKS).map_err(unreadable)? {
        let name = task.map_err(unreadable)?.file_name();
        let number = name.to_str().and_then(|name| name.parse().ok());
        all.extend(number.map(Pid::from_raw));
    }
    Ok(all)
}

/// Those of `threads` that run no sim, and are not the harness's own.
fn without_sims(threads: &[Pid]) -> Vec<Pid> {
    let sims = SIM_THREADS.lock().unwrap_or_else(PoisonError::into_inner);
    let runs_none = |thread: &&Pid| !sims.iter().any(|(sim, _)| sim == *thread);
    threads.iter().filter(runs_none).copied().collect()
}

/// Whether none of the threads that run no sim is at work, so that none is about to reap a child. False if that cannot
/// be told.
pub(crate) fn other_threads_are_quiet() -> bool {
    threads_without_sims().is_ok_and(|threads| threads.into_iter().all(is_quiet))
}

/// The threads of this process that run no sim.
pub(crate) fn threads_without_sims() -> io::Result<Vec<Pid>> {
    list_threads().map(|threads| without_sims(&threads))
}

/// Whether a thread of this process is gone, stopped or asleep.
pub(crate) fn is_quiet(thread: Pid) -> bool {
    let task = format!("/proc/self/task/{thread}");
    match state(&task) {
        Some('S') => call_of(&task) != Call::None,
        state => matches!(state, None | Some('T' | 't' | 'Z' | 'X')),
    }
}

/// How often a thread of this process has slept: its `voluntary_ctxt_switches`, of proc(5). `None` if that cannot be
/// told.
pub(crate) fn sleeps_of(thread: Pid) -> Option<u64> {
    let text = contents(&format!("/proc/self/task/{thread}/status")).ok()?;
    let text = String::from_utf8_lossy(&text);
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
    line.trim().parse().ok()
}

/// The state of a thread or process, by its folder in /proc: the third field of its `stat`. `None` if it is gone; `?`
/// if the field cannot be read.
pub(crate) fn state(folder: &str) -> Option<char> {
    state_in(contents(&format!("{folder}/stat")))
}

/// The state of a thread or process, as `state` has it, in what was read of its `stat`.
pub(crate) fn state_in(stat: io::Result<Vec<u8>>) -> Option<char> {
    match stat {
        Ok(stat) => {
            let stat = String::from_utf8_lossy(&stat);
            stat.rsplit(") ").next()?.chars().next()
        }
        Err(error) if is_gone(&error) => None,
        Err(_) => Some('?'),
    }
}

/// The system call in which a thread is blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Blocked(libc::c_long),
    /// None: the thread is on a processor, or waits for one.
    None,
    /// The call cannot be told.
    Unknown,
}

/// The call in which a thread of this process is blocked, by the thread's folder in /proc: its `syscall`, of proc(5). A
/// thread whose state is `S` may be at work all the same. It has that state, too, while the kernel looks whether the
/// thread has to sleep, and wait4(2) reaps during that. The kernel answers here only when the thread is off its
/// processor.
pub(crate) fn call_of(task: &str) -> Call {
    let text = match contents(&format!("{task}/syscall")) {
        Ok(text) => text,
        // The thread may be at work, or may have ended meanwhile.
        Err(error) if is_own_lack(&error) => return Call::None,
        Err(_) if state(task).is_none() => return Call::None,
        Err(_) => return Call::Unknown,
    };
    let text = String::from_utf8_lossy(&text);
    let number = text
        .split_whitespace()
        .next()
        .and_then(|word| word.parse().ok());
    number.map_or(Call::None, Call::Blocked)
}

/// Whether a process is a zombie. It must be a child of this process, or a process that this one may look at.
pub(crate) fn is_zombie(pid: u32) -> bool {
    open_pidfd(pid).is_ok_and(|pidfd| ended_status(pidfd.as_fd()).is_some())
        || state(&format!("/proc/{pid}")) == Some('Z')
}

/// The name of a process's program, for a message.
pub(crate) fn program_of(pid: u32) -> String {
    named(pid, fs::read(format!("/proc/{pid}/comm")))
}

fn named(pid: u32, name: io::Result<Vec<u8>>) -> String {
    match name {
        Ok(name) => String::from_utf8_lossy(&name).trim_end().to_owned(),
        Err(error) if is_gone(&error) => "a process that is gone".to_owned(),
        Err(error) => format!("process {pid}, whose name cannot be read: {error}"),
    }
}

/// Whether the process has no command line yet: a spawn returns before its exec has set one.
pub(crate) fn has_no_words(pid: u32) -> io::Result<bool> {
    Ok(words(pid, "cmdline")?.is_some_and(|text| text.is_empty()))
}

/// Whether `word` is a word of the process's command line or environment.
pub(crate) fn mentions(pid: u32, word: &str) -> io::Result<bool> {
    for file in ["cmdline", "environ"] {
        let text = words(pid, file)?.unwrap_or_default();
        let mut parts = text.split(|b| *b == 0 || *b == b'=');
        if parts.any(|part| part == word.as_bytes()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a process, by its command line or environment, is for another sim of this process than the one at `address`.
/// A thread that several sims share may have started it.
pub(crate) fn is_for_another_sim(pid: u32, address: &str) -> io::Result<bool> {
    // An address has the number of this process, and then the sim's number.
    let all = format!(
        "{}-",
        address.splitn(3, '-').take(2).collect::<Vec<_>>().join("-")
    );
    let has = |text: &[u8], part: &str| {
        text.windows(part.len())
            .any(|found| found == part.as_bytes())
    };
    let mut is_for_any = false;
    for file in ["cmdline", "environ"] {
        let text = words(pid, file)?.unwrap_or_default();
        if has(&text, address) {
            return Ok(false);
        }
        is_for_any |= has(&text, &all);
    }
    Ok(is_for_any)
}

/// `None` if the process is gone, or if this process may not read the file.
fn words(pid: u32, file: &str) -> io::Result<Option<Vec<u8>>> {
    let path = format!("/proc/{pid}/{file}");
    match contents(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if is_own_lack(&error) => Err(about(&path, &error)),
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    /// The number of threads is then the same as at the last look.
    #[test]
    fn the_child_of_a_thread_that_takes_anothers_place_is_seen() {
        let children = Children::of_this_thread();
        for _ in 0..20 {
            let (tell, pid) = mpsc::channel();
            let (end, ends) = mpsc::channel::<()>();
            let thread = thread::spawn(move || {
                let mut child = Command::new("/bin/sleep").arg("1000").spawn().unwrap();
                tell.send(child.id()).unwrap();
                // The thread also ends when nobody is left who could tell it to.
                let _ = ends.recv();
                child.kill().unwrap();
                child.wait().unwrap();
            });
            let pid = pid.recv().unwrap();
            let others = children.of_other_threads().unwrap();
            drop(end);
            thread.join().unwrap();
            assert!(others.iter().any(|(_, of)| of.contains(&pid)), "{others:?}");
        }
    }

    #[test]
    fn a_process_is_gone_only_where_the_kernel_says_so() {
        assert_eq!(program_of(u32::MAX), "a process that is gone");
        let error = |number| Err(io::Error::from_raw_os_error(number));
        assert_eq!(named(7, error(libc::ESRCH)), "a process that is gone");
        assert_eq!(
            named(7, error(libc::EMFILE)),
            "process 7, whose name cannot be read: Too many open files (os error 24)"
        );
    }
}
