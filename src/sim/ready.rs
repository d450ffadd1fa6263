//! What is ready for the code under test to take in: the events that wait in tokio's epoll instance.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{EpollEvent, EpollFlags};
use std::os::fd::AsFd;

use super::children;
use crate::process::{kernel_is_since, pid_of_pidfd};

/// The most events that are put in order at once.
const EVENTS: usize = 256;

/// Tokio's epoll instance, as seen from outside.
#[derive(Debug)]
pub(crate) struct Ready {
    /// A descriptor that is registered there, and nowhere else.
    known: RawFd,
    /// Which descriptor it may be.
    guess: Option<RawFd>,
    epoll: Option<OwnedFd>,
    /// Its /proc/self/fdinfo, held open.
    info: Option<File>,
    /// Whose pidfds are registered, by their inodes; None where it is no pidfd.
    inodes: HashMap<(u64, u64), Option<u32>>,
    /// How many of those that are no pidfds are not the code's.
    own: usize,
}

/// A descriptor that is registered with tokio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Registered {
    pub(crate) descriptor: RawFd,
    events: u32,
    data: u64,
    /// With its device.
    inode: (u64, u64),
}

impl Ready {
    /// That of the runtime with which this descriptor is registered, which is looked for when it is
    /// needed first, at the guess before all others.
    pub(crate) fn of(known: RawFd, guess: Option<RawFd>) -> Ready {
        Ready {
            known,
            guess,
            epoll: None,
            info: None,
            inodes: HashMap::new(),
            own: 0,
        }
    }

    fn epoll(&mut self) -> Option<BorrowedFd<'_>> {
        if self.epoll.is_none() {
            self.epoll = self
                .guess
                .and_then(|guess| epoll_with(guess, self.known))
                .or_else(|| find(self.known));
            let info = |epoll: &OwnedFd| File::open(info_of(epoll.as_raw_fd())).ok();
            self.info = self.epoll.as_ref().and_then(info);
        }
        self.epoll.as_ref().map(AsFd::as_fd)
    }

    /// Whether the runtime would find something if it looked.
    pub(crate) fn is_pending(&mut self) -> bool {
        let Some(epoll) = self.epoll() else {
            return false;
        };
        let mut fds = [PollFd::new(epoll, PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// Takes what is registered now, which is no pidfd, for the runtime's and the harness's own.
    pub(crate) fn take_own(&mut self) {
        self.own = self.count_streams();
    }

    /// Whether pipes or sockets of the code under test may be registered: what ends when the last copy of its other end
    /// is closed.
    pub(crate) fn has_streams(&mut self) -> bool {
        !kernel_is_since(6, 9) || self.count_streams() > self.own
    }

    /// How many are registered that have an inode of their own, and are no pidfds.
    fn count_streams(&mut self) -> usize {
        let _ = self.pids();
        self.inodes.values().filter(|pid| pid.is_none()).count()
    }

    fn registrations(&mut self) -> Vec<Registered> {
        let _ = self.epoll();
        let text = self.info.as_ref().map(children::read_all);
        parsed(&text.and_then(Result::ok).unwrap_or_default())
    }

    /// The processes that a pidfd is registered of.
    pub(crate) fn pids(&mut self) -> HashSet<u32> {
        let registered = self.registrations();
        // Only since Linux 6.9 does each process have an inode of its own.
        if !kernel_is_since(6, 9) {
            let descriptors = registered.iter().map(|one| one.descriptor);
            return descriptors.filter_map(pid_of_pidfd).collect();
        }
        let mut inodes = HashMap::new();
        for one in registered {
            let known = self.inodes.get(&one.inode).copied();
            inodes.insert(
                one.inode,
                known.unwrap_or_else(|| pid_of_pidfd(one.descriptor)),
            );
        }
        self.inodes = inodes;
        self.inodes.values().filter_map(|pid| *pid).collect()
    }

    /// Has the runtime find what is ready in the order of `rank`, whoever was faster: the kernel keeps
    /// what became ready in the order in which it did, and puts what is registered anew at the end.
    ///
    /// What is `expected` may be ready and not found: it was heard of through another epoll instance, and the
    /// kernel tells one after the other.
    pub(crate) fn put_in_order<R: Ord>(&mut self, rank: impl Fn(RawFd) -> R, expected: &[R]) {
        let registered = self.registrations();
        let Some(epoll) = self.epoll() else {
            return;
        };
        let mut events = [EpollEvent::empty(); EVENTS];
        let count = wait(epoll, &mut events);
        let is_found =
            |one: &Registered| events[..count].iter().any(|event| event.data() == one.data);
        let (found, others): (Vec<_>, Vec<_>) = registered.into_iter().partition(is_found);
        let ranked = |one: Registered| (rank(one.descriptor), one);
        let mut ready: Vec<(R, Registered)> = found.into_iter().map(ranked).collect();
        let is_missing = |one: &&R| !ready.iter().any(|(rank, _)| rank == *one);
        let missing: Vec<&R> = expected.iter().filter(is_missing).collect();
        if !missing.is_empty() {
            let others = others.into_iter().map(ranked);
            ready.extend(others.filter(|(rank, _)| missing.contains(&rank)));
        }
        ready.sort_by(|(rank, _), (other, _)| rank.cmp(other));
        let ready = ready.into_iter().map(|(_, one)| one);
        for one in ready {
            let mut event = EpollEvent::new(
                EpollFlags::from_bits_retain(one.events.cast_signed()),
                one.data,
            );
            // SAFETY: scalar arguments, and a pointer to an event that is valid while the call lasts.
            // It fails only for a descriptor that was closed, of which nobody waits to hear.
            let _ = unsafe {
                libc::epoll_ctl(
                    epoll.as_raw_fd(),
                    libc::EPOLL_CTL_MOD,
                    one.descriptor,
                    (&raw mut event).cast(),
                )
            };
        }
    }
}

fn wait(epoll: BorrowedFd<'_>, events: &mut [EpollEvent]) -> usize {
    let most = libc::c_int::try_from(events.len()).unwrap_or(libc::c_int::MAX);
    // SAFETY: `EpollEvent` is a transparent `epoll_event`; the pointer and the count are those of a live
    // slice.
    let count = unsafe { libc::epoll_wait(epoll.as_raw_fd(), events.as_mut_ptr().cast(), most, 0) };
    usize::try_from(count).unwrap_or(0)
}

/// The lowest number that a new descriptor may get, which the first that is opened after it does, unless
/// another thread opens one meanwhile.
pub(crate) fn next_descriptor(any: BorrowedFd<'_>) -> Option<RawFd> {
    any.try_clone_to_owned().ok().map(|copy| copy.as_raw_fd())
}

/// The epoll instance of this process with which the descriptor is registered.
fn find(known: RawFd) -> Option<OwnedFd> {
    let entries = fs::read_dir("/proc/self/fd").ok()?.flatten();
    let mut numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.find_map(|number: RawFd| epoll_with(number, known))
}

/// That descriptor, where it is an epoll instance with which the other is registered.
fn epoll_with(number: RawFd, known: RawFd) -> Option<OwnedFd> {
    let target = fs::read_link(format!("/proc/self/fd/{number}")).ok()?;
    if target.as_os_str() != "anon_inode:[eventpoll]" {
        return None;
    }
    // SAFETY: it was open a moment ago; where it no longer is, the copy fails.
    let epoll = unsafe { BorrowedFd::borrow_raw(number) }.try_clone_to_owned();
    let epoll = epoll.ok()?;
    let registered = registrations(epoll.as_fd());
    let is_it = registered.iter().any(|one| one.descriptor == known);
    is_it.then_some(epoll)
}

/// What is registered with an epoll instance.
fn registrations(epoll: BorrowedFd<'_>) -> Vec<Registered> {
    parsed(&children::contents(&info_of(epoll.as_raw_fd())).unwrap_or_default())
}

/// What says what is registered: fdinfo, of proc(5).
fn info_of(epoll: RawFd) -> String {
    format!("/proc/self/fdinfo/{epoll}")
}

fn parsed(info: &[u8]) -> Vec<Registered> {
    String::from_utf8_lossy(info)
        .lines()
        .filter_map(registration)
        .collect()
}

/// A line such as `tfd:        7 events: 8000201d data:     55d4c0ffee40  pos:0 ino:5 sdev:9`.
fn registration(line: &str) -> Option<Registered> {
    let mut words = line.strip_prefix("tfd:")?.split_whitespace();
    let descriptor = words.next()?.parse().ok()?;
    let mut after = |name: &str| words.find(|word| *word == name).and_then(|_| words.next());
    let events = u32::from_str_radix(after("events:")?, 16).ok()?;
    let data = u64::from_str_radix(after("data:")?, 16).ok()?;
    let mut number = |name: &str| {
        let number = words.find_map(|word| word.strip_prefix(name))?;
        u64::from_str_radix(number, 16).ok()
    };
    let inode = (number("ino:")?, number("sdev:")?);
    Some(Registered {
        descriptor,
        events,
        data,
        inode,
    })
}
