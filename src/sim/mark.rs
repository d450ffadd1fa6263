//! The mark that threads and processes inherit from the thread of their sim. It tells them from strangers.
//!
//! The mark is in the I/O priority of a thread, which has ten bits that no scheduler reads (`IOPRIO_HINT_*` of
//! linux/ioprio.h, since Linux 6.5; seven of their values have a meaning, for some disks). Threads and children inherit
//! these bits, an exec and a new parent leave them as they are, and anybody may read them. Everything else that is
//! inherited either changes what the code under test does, or cannot be read of another process.

use std::collections::HashSet;
use std::fs;
use std::ops::RangeInclusive;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, socket};
use nix::unistd::Pid;

use crate::leaks::{self, Identity, Unreadable};

/// `IOPRIO_WHO_PROCESS`: one thread.
const WHO_THREAD: libc::c_int = 1;
/// `IOPRIO_CLASS_BE`, the class of a thread that asks for none.
const BEST_EFFORT: libc::c_int = 2;
/// `IOPRIO_CLASS_SHIFT`.
const CLASS_SHIFT: libc::c_int = 13;
/// `IOPRIO_HINT_SHIFT`.
const HINT_SHIFT: libc::c_int = 3;
/// `IOPRIO_NORM`, the level of a process that is not nice.
const NORMAL: libc::c_int = 4;

/// The first hint that has no meaning. Those below have one.
const FIRST: u16 = 8;
const LAST: u16 = 1023;

/// A mark on the thread that took it. While it is held, nobody else on the machine has the same one.
#[derive(Debug)]
pub(crate) struct Mark {
    number: u16,
    /// The thread's I/O priority before.
    before: libc::c_int,
    /// The socket whose name tells others that the number is taken.
    _name: OwnedFd,
    /// The last process id that the kernel had given before the mark was taken, if the kernel says so.
    last: Option<u32>,
    taken: Instant,
}

/// Which sim started a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    Ours,
    /// A sim of this process that is over.
    AnEndedSims,
    /// Another sim, or no sim that is known.
    Nobodys,
}

/// real-time: within this time no machine gives all its process ids, of which there are 32,768 at least by default.
const ROUND: Duration = Duration::from_millis(100);

/// How many numbers this process has tried.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// The marks that sims of this process hold.
static TAKEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);

impl Mark {
    /// Puts a mark on this thread. Returns `None` before Linux 6.5, or if the kernel refuses. Then the sim cannot tell
    /// what other threads of the code under test do from what strangers do.
    pub(crate) fn take() -> Option<Mark> {
        let before = priority(0)?;
        let count = LAST - FIRST + 1;
        for _ in 0..count {
            // In turn: the threads that a sim left behind may live long, and the next sim must not take their number.
            let next = NEXT.fetch_add(1, Ordering::Relaxed);
            let begin = usize::try_from(std::process::id()).unwrap_or(0);
            let place = u16::try_from((begin + next) % usize::from(count)).unwrap_or(0);
            let number = FIRST + place;
            if next >= usize::from(count) && is_left(number) {
                continue;
            }
            let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
            let taken = taken.get_or_insert_default();
            if taken.contains(&number) {
                continue;
            }
            let Some(name) = reserve(number) else {
                continue;
            };
            let level = if before >> CLASS_SHIFT == BEST_EFFORT {
                before & 7
            } else {
                NORMAL
            };
            let last = last_process_id();
            let value =
                BEST_EFFORT << CLASS_SHIFT | libc::c_int::from(number) << HINT_SHIFT | level;
            if !set_priority(value) || of(0) != Some(number) {
                return None;
            }
            taken.insert(number);
            return Some(Mark {
                number,
                before,
                _name: name,
                last,
                taken: Instant::now(),
            });
        }
        None
    }

    /// Whether that thread or process has inherited this mark.
    pub(crate) fn is_on(&self, thread: u32) -> bool {
        of(thread) == Some(self.number)
    }

    /// Which sim started that thread, by the mark that it has.
    pub(crate) fn whose(&self, thread: u32) -> Whose {
        match of(thread) {
            Some(number) if number == self.number => Whose::Ours,
            Some(number) if !is_taken(number) => Whose::AnEndedSims,
            _ => Whose::Nobodys,
        }
    }

    /// The processes that have inherited this mark, wherever they are, except for this process.
    pub(crate) fn processes(&self) -> Result<Vec<Identity>, Unreadable> {
        leaks::processes_where(self.ids_since(), |pid| self.is_on(pid))
    }

    /// The process ids that the kernel has given since the mark was taken. Only their processes can have inherited it,
    /// so that nobody has to look at all processes of the machine. `None` if these ids cannot be told.
    fn ids_since(&self) -> Option<RangeInclusive<u32>> {
        let (first, last) = (self.last?.checked_add(1)?, last_process_id()?);
        let is_in_one_round = self.taken.elapsed() < ROUND && self.last? <= last;
        is_in_one_round.then_some(first..=last)
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        set_priority(self.before);
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        taken.get_or_insert_default().remove(&self.number);
    }
}

/// Takes the mark off this thread, which belongs to no sim although a sim's thread may have started it.
pub(crate) fn clear() {
    set_priority(0);
}

/// Whether a sim of this process that is not over holds that mark.
fn is_taken(number: u16) -> bool {
    let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    taken.as_ref().is_some_and(|taken| taken.contains(&number))
}

/// Whether a thread of this process still has that mark.
fn is_left(number: u16) -> bool {
    let threads = fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten();
    let mut threads = threads.filter_map(|thread| thread.file_name().to_str()?.parse().ok());
    threads.any(|thread| of(thread) == Some(number))
}

/// Reserves the number on this machine: nobody else can while the descriptor is open.
fn reserve(number: u16) -> Option<OwnedFd> {
    let name = format!("supervise-harness-mark-{number}");
    let address = UnixAddr::new_abstract(name.as_bytes()).ok()?;
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Unix, SockType::Datagram, flags, None).ok()?;
    bind(socket.as_raw_fd(), &address).ok()?;
    Some(socket)
}

/// The process id that the kernel gave last. The kernel counts up, and begins anew after the highest. `None` if the
/// kernel was built without `CONFIG_CHECKPOINT_RESTORE`, and so without that file.
fn last_process_id() -> Option<u32> {
    let text = fs::read_to_string("/proc/sys/kernel/ns_last_pid").ok()?;
    text.trim().parse().ok()
}

/// The mark of a thread or process; of this thread for 0.
fn of(thread: u32) -> Option<u16> {
    let priority = priority(thread)?;
    let hint = u16::try_from(priority >> HINT_SHIFT & 0x3ff).ok()?;
    (hint >= FIRST).then_some(hint)
}

fn priority(thread: u32) -> Option<libc::c_int> {
    let thread = Pid::from_raw(thread.cast_signed());
    // SAFETY: ioprio_get(2) takes two numbers and touches no memory of ours.
    let priority = unsafe { libc::syscall(libc::SYS_ioprio_get, WHO_THREAD, thread.as_raw()) };
    libc::c_int::try_from(priority)
        .ok()
        .filter(|priority| *priority >= 0)
}

/// Sets the I/O priority of this thread. Returns whether the kernel has accepted it.
fn set_priority(priority: libc::c_int) -> bool {
    // SAFETY: ioprio_set(2) takes three numbers and touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_THREAD, 0, priority) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_and_children_inherit_a_mark_and_strangers_do_not() {
        let stranger = std::process::Command::new("/bin/sleep").arg("1000").spawn();
        let mut stranger = stranger.unwrap();
        let mark = Mark::take().unwrap();
        let child = std::process::Command::new("/usr/bin/setsid")
            .args(["/bin/sleep", "1000"])
            .spawn();
        let mut child = child.unwrap();
        let thread = std::thread::scope(|scope| {
            let look = || mark.is_on(nix::unistd::gettid().as_raw().cast_unsigned());
            scope.spawn(look).join().unwrap()
        });
        let seen = (thread, mark.is_on(child.id()), mark.is_on(stranger.id()));
        for child in [&mut child, &mut stranger] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert_eq!(seen, (true, true, false));
    }

    #[test]
    fn the_processes_with_a_mark_are_found_by_the_ids_given_since_and_among_all() {
        let mark = Mark::take().unwrap();
        let mut children = [(); 2].map(|()| {
            let child = std::process::Command::new("/usr/bin/setsid")
                .args(["/bin/sleep", "1000"])
                .spawn();
            child.unwrap()
        });
        // The number of this thread is among the process ids, but it is no process.
        let thread_beside = std::thread::scope(|scope| {
            let (tell, told) = std::sync::mpsc::channel();
            let (end, ended) = std::sync::mpsc::channel::<()>();
            scope.spawn(move || {
                tell.send(()).unwrap();
                ended.recv().unwrap();
            });
            told.recv().unwrap();
            let since = mark.ids_since();
            let found = mark.processes();
            end.send(()).unwrap();
            (since, found)
        });
        let all = leaks::processes_where(None, |pid| mark.is_on(pid));
        let mut pids = children.each_ref().map(std::process::Child::id);
        for child in &mut children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let (since, found) = thread_beside;
        let sorted = |found: Result<Vec<Identity>, Unreadable>| {
            let mut pids: Vec<u32> = found.unwrap().iter().map(|one| one.pid).collect();
            pids.sort_unstable();
            pids
        };
        pids.sort_unstable();
        assert_eq!(sorted(found), pids);
        assert_eq!(sorted(all), pids);
        if let Some(since) = since {
            assert!(
                pids.iter().all(|pid| since.contains(pid)),
                "{since:?} {pids:?}"
            );
        }
    }

    #[test]
    fn after_a_round_of_process_ids_all_are_looked_at() {
        let mut mark = Mark::take().unwrap();
        mark.taken -= ROUND;
        assert_eq!(mark.ids_since(), None);
        let mut mark = Mark::take().unwrap();
        mark.last = Some(u32::MAX - 1);
        assert_eq!(mark.ids_since(), None);
    }

    #[test]
    fn two_threads_have_two_marks_and_none_when_they_are_done() {
        let first = Mark::take().unwrap();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| Mark::take().unwrap().number);
            assert_ne!(second.join().unwrap(), first.number);
        });
        drop(first);
        assert_eq!(of(0), None);
    }
}
