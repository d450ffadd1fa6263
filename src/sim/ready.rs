//! What the code under test can take in now: the events that wait in tokio's epoll instance.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{EpollEvent, EpollFlags};
use std::os::fd::AsFd;

use super::children;
use crate::pidfd::kernel_is_since;
use crate::pidfd::pid_of_pidfd;

/// How many events are put in order at once, at most.
const EVENTS: usize = 256;

/// Tokio's epoll instance, as seen from outside.
#[derive(Debug)]
pub(crate) struct Ready {
    /// A descriptor that is registered with this epoll instance, and with no other.
    known: RawFd,
    /// Which descriptor the epoll instance may have.
    guess: Option<RawFd>,
    epoll: Option<OwnedFd>,
    /// The epoll instance's /proc/self/fdinfo, held open.
    info: Option<File>,
    /// The process of each pidfd that is registered, by the pidfd's inode; `None` for what is no pidfd.
    inodes: HashMap<(u64, u64), Option<u32>>,
    /// How many of those that are no pidfds belong to the runtime and the harness, and not to the code under test.
    own: usize,
}

/// A descriptor that is registered with tokio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Registered {
    pub(crate) descriptor: RawFd,
    events: u32,
    data: u64,
    /// The inode, with its device.
    inode: (u64, u64),
}

impl Ready {
    /// For the runtime with which the descriptor `known` is registered. The epoll instance is looked for when it is
    /// first needed, and first at `guess`.
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

    /// Whether the runtime would find an event if it looked now.
    pub(crate) fn is_pending(&mut self) -> bool {
        let Some(epoll) = self.epoll() else {
            return false;
        };
        let mut fds = [PollFd::new(epoll, PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// Notes what is registered now and is no pidfd: it belongs to the runtime and the harness.
    pub(crate) fn take_own(&mut self) {
        self.own = self.count_streams();
    }

    /// Whether pipes or sockets of the code under test may be registered. These end only when the last copy of their
    /// other end is closed.
    pub(crate) fn has_streams(&mut self) -> bool {
        !kernel_is_since(6, 9) || self.count_streams() > self.own
    }

    /// How many inodes are registered that are no pidfds.
    fn count_streams(&mut self) -> usize {
        let _ = self.pids();
        self.inodes.values().filter(|pid| pid.is_none()).count()
    }

    fn registrations(&mut self) -> Vec<Registered> {
        let _ = self.epoll();
        let text = self.info.as_ref().map(children::read_all);
        parsed(&text.and_then(Result::ok).unwrap_or_default())
    }

    /// The processes whose pidfds are registered.
    pub(crate) fn pids(&mut self) -> HashSet<u32> {
        let registered = self.registrations();
        // Before Linux 6.9 the pidfds of all processes have the same inode.
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

    /// Makes the runtime find what is ready in the order of `rank`, whatever was ready first. The kernel keeps events
    /// in the order in which they became ready, and puts an event at the end when its registration is renewed.
    ///
    /// The events whose ranks are `expected` may be ready although they are not found here: the harness heard of them
    /// through another epoll instance, and the kernel tells one instance after the other.
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
            // SAFETY: scalar arguments, and a pointer to an event that is valid while the call lasts. The call fails
            // only for a descriptor that was closed, and nobody waits to hear of that one.
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

/// The lowest number that a new descriptor may get. The next one that is opened gets it, unless another thread opens
/// one meanwhile.
pub(crate) fn next_descriptor(any: BorrowedFd<'_>) -> Option<RawFd> {
    any.try_clone_to_owned().ok().map(|copy| copy.as_raw_fd())
}

/// The epoll instance of this process with which the descriptor `known` is registered.
fn find(known: RawFd) -> Option<OwnedFd> {
    let entries = fs::read_dir("/proc/self/fd").ok()?.flatten();
    let mut numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.find_map(|number: RawFd| epoll_with(number, known))
}

/// A copy of the descriptor `number`, if that is an epoll instance with which `known` is registered.
fn epoll_with(number: RawFd, known: RawFd) -> Option<OwnedFd> {
    let target = fs::read_link(format!("/proc/self/fd/{number}")).ok()?;
    if target.as_os_str() != "anon_inode:[eventpoll]" {
        return None;
    }
    // SAFETY: the descriptor was open a moment ago. If it no longer is, the copy fails.
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

/// The file that says what is registered: fdinfo, of proc(5).
fn info_of(epoll: RawFd) -> String {
    format!("/proc/self/fdinfo/{epoll}")
}

fn parsed(info: &[u8]) -> Vec<Registered> {
    String::from_utf8_lossy(info)
        .lines()
        .filter_map(registration)
        .collect()
}

/// Parses a line such as `tfd:        7 events: 8000201d data:     55d4c0ffee40  pos:0 ino:5 sdev:9`.
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
