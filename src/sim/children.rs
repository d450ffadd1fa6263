//! Which children this process has, by the thread that forked them.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::{Arc, Mutex, PoisonError};

use nix::libc;
use nix::unistd::{Pid, gettid};

use crate::process::{ended_status, is_own_lack, open_pidfd};

use super::mark::{self, Mark};
use super::sight::Sight;

/// The threads that run a sim, the children of each being its sim's, and the harness's own.
static SIM_THREADS: Mutex<Vec<(Pid, Option<Arc<Sight>>)>> = Mutex::new(Vec::new());

/// Marks this thread as a sim's until it is dropped.
#[derive(Debug)]
pub(crate) struct SimThread {
    thread: Pid,
    mark: Option<Arc<Mark>>,
}

impl SimThread {
    /// With what shows of its sim; none where it is the harness's own, and forks nothing.
    pub(crate) fn enter(sight: Option<Arc<Sight>>) -> SimThread {
        let mark = if sight.is_some() {
            Mark::take().map(Arc::new)
        } else {
            // A sim's thread may have started this one.
            mark::clear();
            None
        };
        SimThread::register(sight, mark)
    }

    /// This thread only waits for threads of the harness's, and forks nothing until this is dropped.
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

    /// What the threads and the processes that it starts inherit, where the kernel has such a thing.
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

/// The sim of this thread is over although the thread is not: other sims need not look at it.
#[cfg(feature = "properties")]
pub(crate) fn leave(thread: Pid) {
    let mut threads = SIM_THREADS.lock().unwrap_or_else(PoisonError::into_inner);
    let left = threads.iter_mut().filter(|(other, _)| *other == thread);
    left.for_each(|(_, sight)| *sight = None);
}

/// The threads that run another sim than the one of this thread, and what shows of each.
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

/// The same at two looks: a single one leaves out a child that lives where another is reaped meanwhile.
pub(crate) fn of_busy_thread(thread: Pid) -> io::Result<Option<Vec<u32>>> {
    twice(|| of_thread(thread))
}

/// The children of one of this process's threads. None where it has ended.
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

/// Whether what there is to read of a thread or a process is no longer there.
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
    /// Those of this thread.
    pub(crate) fn of_this_thread() -> Children {
        let path = format!("/proc/self/task/{}/children", gettid());
        Children {
            listing: File::open(path),
            threads: Threads::new(),
            listed: Mutex::default(),
        }
    }

    /// The process ids.
    pub(crate) fn list(&self) -> io::Result<Vec<u32>> {
        Ok(self.list_with_threads()?.1)
    }

    /// Whether every thread of this process runs a sim, or is the harness's own.
    pub(crate) fn are_of_sims_alone(&self) -> bool {
        self.threads.count_beside_sims().1
    }

    /// How many threads this process has, where that can be told, and the process ids. While another thread may
    /// reap one, a single look can leave out a child that lives: then two must agree.
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

    /// The threads that run no sim, each with its children: a sim's code under test may use them. A look
    /// leaves out what a thread that ends meanwhile hands over, and threads beside it: no thread may have
    /// ended.
    pub(crate) fn of_other_threads(&self) -> io::Result<Vec<ThreadsChildren>> {
        let mut found = Vec::new();
        for _ in 0..LOOKS {
            let (before, only_run_sims) = self.threads.count_beside_sims();
            if only_run_sims {
                return Ok(Vec::new());
            }
            let is_whole;
            (found, is_whole) = self.look_at_other_threads(before)?;
            // Where they cannot be counted, one look has to do.
            if before.is_none() || is_whole && before == self.threads.count() {
                break;
            }
        }
        Ok(found)
    }

    /// The same once, where there are so many threads, and whether all were seen. Where all that were there at
    /// the last look are, and no more, they need not be listed.
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

/// How often to look again at what changes under the look.
const LOOKS: u32 = 1000;

/// What two looks in a row see alike; the last, where it changes faster than that.
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
    /// /proc/self/task, held open: its device, its number, and a descriptor of it.
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

    /// How many there are: each is a link of the directory, beside its own two.
    fn count(&self) -> Option<u64> {
        let (file, device, number) = self.directory.as_ref()?;
        let metadata = file.metadata().ok()?;
        // The code under test may have closed the descriptor, and opened something else.
        let is_it = (metadata.dev(), metadata.ino()) == (*device, *number);
        is_it.then(|| metadata.nlink().checked_sub(2))?
    }

    /// The same, and whether each of them runs a sim, or is the harness's own. Under the lock: each that is listed is
    /// there, and no other becomes one.
    fn count_beside_sims(&self) -> (Option<u64>, bool) {
        let sims = SIM_THREADS.lock().unwrap_or_else(PoisonError::into_inner);
        let count = self.count();
        // One that begins a sim inside another is there twice until it is told that it cannot.
        let threads: HashSet<Pid> = sims.iter().map(|(thread, _)| *thread).collect();
        (count, count == u64::try_from(threads.len()).ok())
    }
}

fn read(file: &File) -> io::Result<String> {
    String::from_utf8(read_all(file)?).map_err(io::Error::other)
}

/// What a file of /proc holds, in as few calls as it takes: std asks for its size, which is 0, and then for
/// little at a time.
pub(crate) fn contents(path: &str) -> io::Result<Vec<u8>> {
    read_all(&File::open(path)?)
}

pub(crate) fn read_all(file: &File) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let length = file.read_at(&mut chunk, text.len() as u64)?;
        text.extend_from_slice(&chunk[..length]);
        // The kernel fills what it is given, but for the last entry that does not fit.
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

/// Those of the threads that run no sim.
fn without_sims(threads: &[Pid]) -> Vec<Pid> {
    let sims = SIM_THREADS.lock().unwrap_or_else(PoisonError::into_inner);
    let runs_none = |thread: &&Pid| !sims.iter().any(|(sim, _)| sim == *thread);
    threads.iter().filter(runs_none).copied().collect()
}

/// Whether no thread that runs no sim is at work, so that none is about to reap a child. Where that
/// cannot be told, one may be.
pub(crate) fn other_threads_are_quiet() -> bool {
    threads_without_sims().is_ok_and(|threads| threads.into_iter().all(is_quiet))
}

/// The threads of this process that run no sim.
pub(crate) fn threads_without_sims() -> io::Result<Vec<Pid>> {
    list_threads().map(|threads| without_sims(&threads))
}

/// Whether a thread of this process is gone, or sleeps.
pub(crate) fn is_quiet(thread: Pid) -> bool {
    let task = format!("/proc/self/task/{thread}");
    match state(&task) {
        Some('S') => call_of(&task) != Call::None,
        state => matches!(state, None | Some('T' | 't' | 'Z' | 'X')),
    }
}

/// How often a thread of this process has slept: its `voluntary_ctxt_switches`, of proc(5). None where that cannot be
/// told.
pub(crate) fn sleeps_of(thread: Pid) -> Option<u64> {
    let text = contents(&format!("/proc/self/task/{thread}/status")).ok()?;
    let text = String::from_utf8_lossy(&text);
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
    line.trim().parse().ok()
}

/// The state of a thread or process, by its folder in /proc: the third field of its `stat`. None where it is
/// gone; `?` where it cannot be read.
pub(crate) fn state(folder: &str) -> Option<char> {
    state_in(contents(&format!("{folder}/stat")))
}

/// The same, in what was read of its `stat`.
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
    /// It is on a processor, or waits for one.
    None,
    /// That cannot be told.
    Unknown,
}

/// In which call a thread of this process is blocked, by its folder in /proc: its `syscall`, of proc(5). A thread
/// whose state is `S` may be at work all the same: it has that state, too, while the kernel looks whether it has to
/// sleep, and wait4(2) reaps meanwhile. The kernel answers here when the thread is off its processor.
pub(crate) fn call_of(task: &str) -> Call {
    let text = match contents(&format!("{task}/syscall")) {
        Ok(text) => text,
        // It may be at work, or ended meanwhile.
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

/// Whether a child of this process, or another process that may be looked at, is a zombie.
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

/// Whether the process has no command line yet: a spawn returns before its exec has got so far.
pub(crate) fn has_no_words(pid: u32) -> io::Result<bool> {
    Ok(words(pid, "cmdline")?.is_some_and(|text| text.is_empty()))
}

/// Whether a word of the process's command line or environment is this.
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

/// Whether a process, by its command line or environment, is for another sim of this process than the one of that
/// address: a thread that several sims share may have started it.
pub(crate) fn is_for_another_sim(pid: u32, address: &str) -> io::Result<bool> {
    // An address ends in the sim's number, after the number of this process.
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

/// None where it is gone, or nobody's to read.
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

    /// There are as many threads then as at the last look.
    #[test]
    fn the_child_of_a_thread_that_takes_anothers_place_is_seen() {
        let children = Children::of_this_thread();
        for _ in 0..20 {
            let (tell, pid) = mpsc::channel();
            let (end, ends) = mpsc::channel::<()>();
            let thread = thread::spawn(move || {
                let mut child = Command::new("/bin/sleep").arg("1000").spawn().unwrap();
                tell.send(child.id()).unwrap();
                // It ends when nobody is left who could say so, too.
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
