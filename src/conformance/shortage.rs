//! Makes what a start needs run short: processes or descriptors.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::libc;
use nix::unistd::gettid;

use super::calls::{self, Call};
use super::held::Hold;
use super::trial_error::TrialError;
use crate::sim::agent::at_work;

/// What runs short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lack {
    /// Processes: each fork fails with EAGAIN. Threads can still be started.
    Processes,
    /// Descriptors: each call that makes one fails with EMFILE.
    Descriptors,
}

/// A shortage that hits this thread and the threads that it starts. A real limit would hit the
/// whole process or all processes of a user, and so the harness, too.
///
/// The calls are [looked at](calls::look_at) and fail before they happen. The harness works on the
/// same thread and lacks nothing: see [`at_work`]. A process that the subject has forked lacks
/// nothing, either.
#[derive(Debug)]
pub(super) struct Shortage {
    is_on: Arc<AtomicBool>,
}

thread_local! {
    /// The shortage of this thread, which can have only one.
    static HERE: RefCell<Option<(Lack, Arc<AtomicBool>)>> = const { RefCell::new(None) };
}

impl Shortage {
    /// Prepares a shortage on this thread. It has not begun yet.
    ///
    /// # Errors
    ///
    /// As [`calls::look_at`]. Also if the thread has a shortage of something else.
    pub(super) fn of(lack: Lack) -> Result<Shortage, TrialError> {
        Shortage::try_of(lack)
            .map_err(|error| TrialError::of("nothing can be made to run short", &error))
    }

    fn try_of(lack: Lack) -> io::Result<Shortage> {
        if let Some((other, is_on)) = HERE.with_borrow(Clone::clone) {
            if other != lack {
                return Err(io::Error::other("the thread has another one"));
            }
            return Ok(Shortage { is_on });
        }
        let is_on = Arc::<AtomicBool>::default();
        let (lacks, harness_works, thread) = (Arc::clone(&is_on), at_work(), gettid());
        let (numbers, is_meant, errno): (&[_], fn(&Call) -> bool, _) = match lack {
            Lack::Processes => (MAKE_PROCESSES, makes_process, Errno::EAGAIN),
            Lack::Descriptors => (MAKE_DESCRIPTORS, makes_descriptor, Errno::EMFILE),
        };
        calls::look_at(numbers, move |call| {
            let is_harness = call.thread == thread && harness_works.load(Ordering::Relaxed);
            if lacks.load(Ordering::Relaxed) && !is_harness && is_meant(call) {
                return Err(errno);
            }
            Ok(())
        })?;
        HERE.set(Some((lack, Arc::clone(&is_on))));
        Ok(Shortage { is_on })
    }

    /// Begins the shortage. It lasts until the returned value is dropped, or until the thread is
    /// left behind.
    pub(super) fn begin(&self) -> Hold {
        self.is_on.store(true, Ordering::Relaxed);
        let is_on = Arc::clone(&self.is_on);
        Hold::new(move || is_on.store(false, Ordering::Relaxed))
    }
}

/// The calls that may make a process. Not every machine has the older ones.
const MAKE_PROCESSES: &[libc::c_long] = &[
    libc::SYS_clone,
    libc::SYS_clone3,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
];

/// The calls that may make a descriptor. dup2(2) and dup3(2) are not among them: the caller names
/// the number. In a full table each number is taken, but these calls may take one over.
const MAKE_DESCRIPTORS: &[libc::c_long] = &[
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_fcntl,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_open_by_handle_at,
    libc::SYS_pipe2,
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_accept4,
    libc::SYS_dup,
    libc::SYS_eventfd2,
    libc::SYS_epoll_create1,
    libc::SYS_timerfd_create,
    libc::SYS_inotify_init1,
    libc::SYS_memfd_create,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_io_uring_setup,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_creat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_pipe,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_eventfd,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_create,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_inotify_init,
];

fn makes_process(call: &Call) -> bool {
    match clone_flags(call) {
        Some(flags) => flags & bit(libc::CLONE_THREAD) == 0,
        // The call is either no clone, or a clone3 whose flags cannot be read, which fails by
        // itself.
        None => call.number != libc::SYS_clone3,
    }
}

fn makes_descriptor(call: &Call) -> bool {
    match call.number {
        libc::SYS_clone | libc::SYS_clone3 => {
            clone_flags(call).is_some_and(|flags| flags & bit(libc::CLONE_PIDFD) != 0)
        }
        libc::SYS_fcntl => {
            let command = call.word(1).cast_signed();
            matches!(command, libc::F_DUPFD | libc::F_DUPFD_CLOEXEC)
        }
        _ => true,
    }
}

fn bit(flag: libc::c_int) -> u64 {
    u64::from(flag.cast_unsigned())
}

/// Returns the flags of a clone. `None` if it is another call, or if the flags cannot be read.
fn clone_flags(call: &Call) -> Option<u64> {
    match call.number {
        libc::SYS_clone => Some(call.word(0).into()),
        // The flags are the first field of `clone_args`.
        libc::SYS_clone3 => read_own(call.arguments[0]),
        _ => None,
    }
}

/// Reads a number at the address that a waiting thread of this process has chosen. `None` if there
/// is nothing.
fn read_own(address: u64) -> Option<u64> {
    let mut value = 0_u64;
    let to = libc::iovec {
        iov_base: (&raw mut value).cast(),
        iov_len: size_of::<u64>(),
    };
    let from = libc::iovec {
        iov_base: std::ptr::with_exposed_provenance_mut(usize::try_from(address).ok()?),
        iov_len: size_of::<u64>(),
    };
    // SAFETY: the call writes to `value` alone, for which there is room. The kernel reads from the
    // address, and returns an error if there is nothing.
    let read =
        unsafe { libc::process_vm_readv(libc::getpid(), &raw const to, 1, &raw const from, 1, 0) };
    (read == 8).then_some(value)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::net::UnixStream;
    use std::os::unix::process::CommandExt;
    use std::process::Command;
    use std::thread;

    use super::*;

    /// Runs `body` on a thread of its own, because the filter stays as long as the thread lives.
    fn on_a_thread(body: impl FnOnce() + Send + 'static) {
        thread::spawn(body).join().unwrap();
    }

    fn errno<T>(result: io::Result<T>) -> Option<Errno> {
        let error = result.err()?;
        Some(Errno::from_raw(error.raw_os_error().unwrap()))
    }

    /// Runs a program by fork. `spawned` uses vfork or the like.
    fn forked() -> io::Result<()> {
        let mut command = Command::new("/bin/true");
        // SAFETY: the closure does nothing.
        unsafe { command.pre_exec(|| Ok(())) };
        command.status().map(drop)
    }

    fn spawned() -> io::Result<()> {
        Command::new("/bin/true").status().map(drop)
    }

    #[test]
    fn without_processes_there_are_threads_and_descriptors() {
        on_a_thread(|| {
            let shortage = Shortage::of(Lack::Processes).unwrap();
            assert_eq!([errno(forked()), errno(spawned())], [None; 2]);
            let short = shortage.begin();
            let none = Some(Errno::EAGAIN);
            assert_eq!([errno(forked()), errno(spawned())], [none; 2]);
            // SAFETY: there should be no child. If there is one, it ends at once.
            let forked_by_hand = unsafe { libc::fork() };
            if forked_by_hand == 0 {
                // SAFETY: the call touches no memory.
                unsafe { libc::_exit(0) };
            }
            assert_eq!((forked_by_hand, Errno::last()), (-1, Errno::EAGAIN));
            let thread = thread::spawn(|| (errno(spawned()), errno(File::open("/dev/null"))));
            assert_eq!(thread.join().unwrap(), (none, None));
            drop(short);
            assert_eq!([errno(forked()), errno(spawned())], [None; 2]);
        });
    }

    #[test]
    fn without_descriptors_what_is_open_can_be_used() {
        on_a_thread(|| {
            let null = File::open("/dev/null").unwrap();
            let (socket, _other) = UnixStream::pair().unwrap();
            let shortage = Shortage::of(Lack::Descriptors).unwrap();
            let short = shortage.begin();
            let none = Some(Errno::EMFILE);
            assert_eq!(errno(File::open("/dev/null")), none);
            assert_eq!(errno(null.try_clone()), none);
            assert_eq!(errno(UnixStream::pair()), none);
            assert_eq!(errno(io::pipe()), none);
            assert_eq!(errno(forked()), none);
            let pid = std::process::id();
            assert_eq!(errno(crate::pidfd::open_pidfd(pid)), none);
            assert_eq!(errno(thread::spawn(io::pipe).join().unwrap()), none);
            let flags = nix::fcntl::fcntl(&null, nix::fcntl::FcntlArg::F_GETFD);
            assert_eq!(flags.err(), None);
            assert_eq!(errno(socket.set_nonblocking(true)), None);
            drop(short);
            assert_eq!(errno(File::open("/dev/null")), None);
            assert_eq!(errno(forked()), None);
        });
    }

    #[test]
    fn the_harness_lacks_nothing_on_the_thread_that_it_shares() {
        on_a_thread(|| {
            let shared = crate::sim::agent::Shared::new(
                crate::sim::agent::Server::new(crate::timeline::TimelineClock::Virtual).unwrap(),
                true,
            );
            let shortage = Shortage::of(Lack::Descriptors).unwrap();
            let _short = shortage.begin();
            let open = || errno(File::open("/dev/null"));
            let none = Some(Errno::EMFILE);
            assert_eq!(open(), none);
            let works = shared.lock();
            assert_eq!(open(), None);
            // Another thread still has the shortage.
            assert_eq!(thread::spawn(open).join().unwrap(), none);
            drop(works);
            assert_eq!(open(), none);
        });
    }

    /// fork(3) holds the locks of the allocator while the filter asks.
    #[test]
    fn what_looks_at_a_fork_needs_no_allocator() {
        on_a_thread(|| {
            let shortage = Shortage::of(Lack::Processes).unwrap();
            let is_over = Arc::<AtomicBool>::default();
            let seen = Arc::clone(&is_over);
            let allocates = thread::spawn(move || {
                while !seen.load(Ordering::Relaxed) {
                    drop(std::hint::black_box(vec![0_u8; 1 << 12]));
                }
            });
            for _ in 0..50 {
                let short = shortage.begin();
                assert_eq!(errno(forked()), Some(Errno::EAGAIN));
                drop(short);
                assert_eq!(errno(forked()), None);
            }
            is_over.store(true, Ordering::Relaxed);
            allocates.join().unwrap();
        });
    }

    #[test]
    fn a_thread_has_one_shortage_and_it_is_of_one_thing() {
        on_a_thread(|| {
            Shortage::of(Lack::Processes).unwrap();
            assert!(Shortage::of(Lack::Processes).is_ok());
            assert!(Shortage::of(Lack::Descriptors).is_err());
        });
    }
}
