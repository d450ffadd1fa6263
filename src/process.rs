//! A child process, held by its pidfd: status, signals, reaping.

use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use agent_stub::Signal;
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::status::ExitStatus;

/// `PIDFD_SIGNAL_PROCESS_GROUP` of linux/pidfd.h, which the libc crate lacks. Since Linux 6.9.
const PIDFD_SIGNAL_PROCESS_GROUP: libc::c_uint = 1 << 2;

/// Says how a status is lost, and what to do about it, in error messages.
pub(crate) const TAKEN: &str = "its exit status is gone. Either another part of this program waits for all children, \
     as `waitpid(-1)` does, and has to wait for its own ones alone; or SIGCHLD is ignored here, and has to be reset \
     to its default";

/// The end of one process: which process it was, and how it ended.
///
/// Source: `WatchResult` of the Go package `supervise`.
///
/// ```
/// use supervise_harness::{ExitStatus, Signal, WatchResult};
///
/// let killed = WatchResult {
///     pid: 4711,
///     status: ExitStatus::Signaled { signal: Signal::KILL, core_dumped: false },
/// };
/// assert_eq!((killed.exit_code(), killed.signal()), (-1, Some(Signal::KILL)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WatchResult {
    /// The process id, as [`std::process::Child::id`] returns it. The process was reaped, so the
    /// number may be reused by now.
    pub pid: u32,
    /// How the process ended.
    pub status: ExitStatus,
}

impl WatchResult {
    /// Returns the exit code, 0 to 255; −1 for a death by signal.
    #[must_use]
    pub fn exit_code(self) -> i32 {
        self.status.exit_code()
    }

    /// Returns the signal that killed the process, if one did.
    #[must_use]
    pub fn signal(self) -> Option<Signal> {
        self.status.signal()
    }
}

/// Why there is no status.
#[derive(Debug)]
pub(crate) enum WaitError {
    /// Other code reaped the process and got the status, or the kernel kept none.
    Taken,
    /// The kernel refused to wait.
    Io(io::Error),
}

impl From<io::Error> for WaitError {
    fn from(error: io::Error) -> WaitError {
        WaitError::Io(error)
    }
}

#[derive(Clone, Copy, Debug)]
enum End {
    Reaped(ExitStatus),
    Taken,
}

#[derive(Debug)]
struct State {
    end: Option<End>,
    /// Whether the one who reaps the process kills its group first. Before Linux 6.9 only the
    /// zombie keeps the group's number from being reused.
    kill_group_at_reap: bool,
    /// Whether a signal was sent to the process.
    is_signalled: bool,
}

/// A child of this process, shared by all who watch it. Its number means this child, and no other
/// process, until `state` says that it was reaped.
#[derive(Debug)]
pub(crate) struct Process {
    pid: libc::pid_t,
    pidfd: OwnedFd,
    state: Mutex<State>,
}

impl Process {
    /// Takes charge of the child `pid`. It must be the leader of its process group, and nobody may
    /// have waited for it. On an error the child is gone: killed with its group, and reaped.
    pub(crate) fn adopt(pid: libc::pid_t) -> Result<Process, WaitError> {
        let give_up = |error| match kill_unadopted(pid) {
            Ok(()) => WaitError::Io(error),
            Err(taken) => taken,
        };
        let pidfd = pidfd_open(pid).map_err(give_up)?;
        let process = Process {
            pid,
            pidfd,
            state: Mutex::new(State {
                end: None,
                kill_group_at_reap: false,
                is_signalled: false,
            }),
        };
        // If other code reaped the child before the open, the number may be another process's by
        // now.
        match process.has_ended() {
            Ok(_) => Ok(process),
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Err(WaitError::Taken),
            Err(error) => Err(give_up(error)),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.unsigned_abs()
    }

    /// Returns the status if the process has ended. The first call that finds it ended reaps it.
    pub(crate) fn reap(&self) -> Result<Option<WatchResult>, WaitError> {
        let state = self.lock();
        if state.end.is_some() {
            return self.result(&state);
        }
        if state.kill_group_at_reap {
            match self.has_ended() {
                Ok(false) => return Ok(None),
                // Also if other code took the status: the pidfd still stands for the group.
                _ => self.kill_group(&state),
            }
        }
        match wait_id(self.wait_target(), libc::WEXITED | libc::WNOHANG) {
            Ok(None) => Ok(None),
            Ok(Some(status)) => self.settle(state, End::Reaped(status)),
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => {
                self.settle(state, End::Taken)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for the end of the process and reaps it. Cancel-safe, and any number of tasks may
    /// wait.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O enabled, unless the process has been reaped.
    pub(crate) async fn wait(&self) -> Result<WatchResult, WaitError> {
        // After a signal, the process counts as ended only when the runtime says so. The kernel may
        // or may not have ended it by now, so asking the kernel here could give a different answer
        // in each test run.
        if (!self.lock().is_signalled || self.is_reaped())
            && let Some(result) = self.reap()?
        {
            return Ok(result);
        }
        // Each waiter has a copy: an epoll instance takes a descriptor only once.
        let copy = self.pidfd.try_clone()?;
        // SAFETY: an OwnedFd is open, and stays the same descriptor until the AsyncFd drops it.
        let pidfd = unsafe { AsyncFd::register_with_interest(copy, Interest::READABLE) }
            .map_err(io::Error::from)?;
        loop {
            let mut ready = pidfd.readable().await?;
            if let Some(result) = self.reap()? {
                return Ok(result);
            }
            ready.clear_ready();
        }
    }

    /// Sends `signal` to the process alone. If the process is gone, this is a success.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        let mut state = self.lock();
        if state.end.is_some() {
            return Ok(());
        }
        state.is_signalled = true;
        tracing::debug!(target: "supervise_harness", pid = self.pid, %signal, "signal");
        self.send(signal, 0)
    }

    /// Sends `signal` to the process group, and to the process if it has left the group. If nobody
    /// is left, this is a success.
    pub(crate) fn signal_group(&self, signal: Signal) -> io::Result<()> {
        let mut state = self.lock();
        state.is_signalled = true;
        tracing::debug!(target: "supervise_harness", pid = self.pid, %signal, "signal to the group");
        let group = self.send_to_group(signal, &state);
        // SAFETY: getpgid reads a number and touches no memory of ours.
        if state.end.is_none() && unsafe { libc::getpgid(self.pid) } != self.pid {
            self.send(signal, 0)?;
        }
        group
    }

    /// Makes whoever reaps the process kill its group before. If it was reaped already, kills the
    /// group at once.
    pub(crate) fn kill_group_at_reap(&self) {
        let mut state = self.lock();
        state.kill_group_at_reap = true;
        if state.end.is_some() {
            self.kill_group(&state);
        }
    }

    /// Whether the process was reaped, by whomever. Its number may be another process's then.
    pub(crate) fn is_reaped(&self) -> bool {
        self.lock().end.is_some()
    }

    /// Whether the process group has a member, zombies included. As long as it has one, the number
    /// is not another group's. Before Linux 6.9 nobody knows once the process was reaped; the
    /// answer is false then.
    pub(crate) fn has_group(&self) -> bool {
        let flags = PIDFD_SIGNAL_PROCESS_GROUP;
        match pidfd_send_signal(self.pidfd.as_raw_fd(), 0, flags) {
            Ok(()) => true,
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => !self.is_reaped(),
            // Members that run as another user are there, too.
            Err(error) => error.raw_os_error() == Some(libc::EPERM),
        }
    }

    /// Whether the process was reaped and its group is empty.
    pub(crate) fn is_over(&self) -> bool {
        self.is_reaped() && !self.has_group()
    }

    /// Kills the process and its group, and reaps the process. Blocks until the kernel has ended
    /// the process. This takes a short time, unless the process is stuck in an uninterruptible
    /// system call.
    pub(crate) fn kill_and_reap(&self) {
        let state = self.lock();
        self.kill_group(&state);
        if state.end.is_some() {
            return;
        }
        if let Err(error) = self.send(Signal::KILL, 0) {
            // The process runs as another user now: a blocking wait might never end.
            tracing::warn!(target: "supervise_harness", pid = self.pid, %error, "cannot kill");
            return;
        }
        // The lock is held during the wait. If a waiter reaped the process meanwhile, this wait
        // would take the status for stolen.
        let end = match wait_id(self.wait_target(), libc::WEXITED) {
            Ok(Some(status)) => End::Reaped(status),
            Ok(None) | Err(_) => End::Taken,
        };
        // The error of a stolen status is for those who wait, not for this call.
        let _ = self.settle(state, end);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change of the state is one assignment: a panic leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settle(
        &self,
        mut state: MutexGuard<'_, State>,
        end: End,
    ) -> Result<Option<WatchResult>, WaitError> {
        state.end = Some(end);
        let result = self.result(&state);
        drop(state);
        match end {
            End::Reaped(status) => {
                tracing::debug!(target: "supervise_harness", pid = self.pid, %status, "exit");
            }
            End::Taken => {
                tracing::warn!(target: "supervise_harness", pid = self.pid, "exit, status taken");
            }
        }
        result
    }

    fn result(&self, state: &State) -> Result<Option<WatchResult>, WaitError> {
        match state.end {
            None => Ok(None),
            Some(End::Reaped(status)) => Ok(Some(WatchResult {
                pid: self.pid(),
                status,
            })),
            Some(End::Taken) => Err(WaitError::Taken),
        }
    }

    fn wait_target(&self) -> (libc::idtype_t, libc::id_t) {
        (
            libc::P_PIDFD,
            self.pidfd.as_raw_fd().unsigned_abs() as libc::id_t,
        )
    }

    /// Whether the process is a zombie; fails with `ECHILD` if it was reaped.
    fn has_ended(&self) -> io::Result<bool> {
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        Ok(wait_id(self.wait_target(), flags)?.is_some())
    }

    fn kill_group(&self, state: &State) {
        if let Err(error) = self.send_to_group(Signal::KILL, state) {
            tracing::warn!(target: "supervise_harness", pid = self.pid, %error, "cannot kill the group");
        }
    }

    fn send(&self, signal: Signal, flags: libc::c_uint) -> io::Result<()> {
        unless_nobody(pidfd_send_signal(
            self.pidfd.as_raw_fd(),
            signal.number(),
            flags,
        ))
    }

    /// Sends `signal` to the group. The pidfd stands for the group even after the leader was
    /// reaped: the kernel keeps the group by the identity behind the descriptor, not by its number.
    fn send_to_group(&self, signal: Signal, state: &State) -> io::Result<()> {
        match self.send(signal, PIDFD_SIGNAL_PROCESS_GROUP) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                // Before Linux 6.9 the group is signalled by its number, and only while our own
                // child holds the number.
                if state.end.is_some() || self.has_ended().is_err() {
                    return Ok(());
                }
                // SAFETY: killpg touches no memory of ours.
                unless_nobody(check(unsafe { libc::killpg(self.pid, signal.number()) }))
            }
            other => other,
        }
    }
}

/// Kills and reaps a child that has no pidfd.
fn kill_unadopted(pid: libc::pid_t) -> Result<(), WaitError> {
    let target = (libc::P_PID, pid.unsigned_abs() as libc::id_t);
    // The number of a child that is still ours is not reused.
    match wait_id(target, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT) {
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => return Err(WaitError::Taken),
        Err(error) => return Err(error.into()),
        Ok(_) => {}
    }
    // SAFETY: neither call touches memory of ours.
    let killed = unsafe {
        libc::killpg(pid, libc::SIGKILL);
        check(libc::kill(pid, libc::SIGKILL))
    };
    // A child that became another user's may not be signalled, and may never end.
    killed?;
    wait_id(target, libc::WEXITED)?;
    Ok(())
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn unless_nobody(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        other => other,
    }
}

/// Opens a pidfd of any process.
pub(crate) fn open_pidfd(pid: u32) -> io::Result<OwnedFd> {
    pidfd_open(libc::pid_t::try_from(pid).map_err(io::Error::other)?)
}

/// Returns the id of the process that a pidfd of this process stands for, from its fdinfo
/// (pidfd_open(2)). `None` if the descriptor is no pidfd, or if that process was reaped.
pub(crate) fn pid_of_pidfd(descriptor: RawFd) -> Option<u32> {
    let mut info = [0; 512];
    // The fdinfo of a pidfd is shorter than this, and one read returns all of it.
    let length = std::fs::File::open(format!("/proc/self/fdinfo/{descriptor}"))
        .and_then(|mut file| file.read(&mut info))
        .ok()?;
    let info = String::from_utf8_lossy(&info[..length]);
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    pid.trim().parse().ok()
}

/// Sends the signal to the process behind the pidfd. Without a signal, only asks whether the
/// process is there.
pub(crate) fn send_signal(pidfd: BorrowedFd<'_>, signal: Option<Signal>) -> io::Result<()> {
    pidfd_send_signal(pidfd.as_raw_fd(), signal.map_or(0, Signal::number), 0)
}

/// Returns how the child of this process behind the pidfd ended, if it is a zombie. Does not reap
/// it.
pub(crate) fn ended_status(pidfd: BorrowedFd<'_>) -> Option<ExitStatus> {
    let target = (libc::P_PIDFD, pidfd.as_raw_fd().unsigned_abs());
    wait_id(target, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT)
        .ok()
        .flatten()
}

/// Reaps the child of this process behind the pidfd if it is a zombie, and returns how it ended.
pub(crate) fn reap_zombie(pidfd: BorrowedFd<'_>) -> Option<ExitStatus> {
    let target = (libc::P_PIDFD, pidfd.as_raw_fd().unsigned_abs());
    wait_id(target, libc::WEXITED | libc::WNOHANG)
        .ok()
        .flatten()
}

/// Names a child of this process by its number, for use when no descriptor is left for a pidfd. The
/// number is the child's own as long as nobody has reaped it.
fn child(pid: u32) -> (libc::idtype_t, libc::id_t) {
    (libc::P_PID, pid)
}

/// Whether a child of this process has that number, and nobody has reaped it.
pub(crate) fn is_unreaped_child(pid: u32) -> bool {
    wait_id(child(pid), libc::WEXITED | libc::WNOHANG | libc::WNOWAIT).is_ok()
}

/// Returns how the child with that number ended, if it is a zombie. Does not reap it.
pub(crate) fn ended_child(pid: u32) -> Option<ExitStatus> {
    wait_id(child(pid), libc::WEXITED | libc::WNOHANG | libc::WNOWAIT)
        .ok()
        .flatten()
}

/// Reaps the child with that number if it is a zombie, and returns how it ended.
pub(crate) fn reap_child(pid: u32) -> Option<ExitStatus> {
    wait_id(child(pid), libc::WEXITED | libc::WNOHANG)
        .ok()
        .flatten()
}

/// Waits for the end of the child with that number, which was sent SIGKILL, and reaps it.
pub(crate) fn await_child(pid: u32) {
    // It fails only if somebody else reaps the child.
    let _ = wait_id(child(pid), libc::WEXITED);
}

/// Waits until the process ends, at most for `limit` of real time, and returns whether it has
/// ended, reaped or not. A signal during the wait changes nothing.
pub(crate) fn ends_within(pidfd: BorrowedFd<'_>, limit: Duration) -> io::Result<bool> {
    let until = Instant::now() + limit;
    loop {
        let rest = until.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(pidfd, PollFlags::POLLIN)];
        match ppoll(&mut fds, Some(TimeSpec::from_duration(rest)), None) {
            // Each child that ends sends SIGCHLD, which interrupts a wait.
            Err(Errno::EINTR) => {}
            ready => return Ok(ready? > 0),
        }
    }
}

/// Sends the signal to the child with that number. The child must not have been reaped.
pub(crate) fn signal_child(pid: u32, signal: Signal) -> io::Result<()> {
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    // SAFETY: kill takes two numbers and touches no memory of ours.
    check(unsafe { libc::kill(pid, signal.number()) })
}

/// `struct pidfd_info` of linux/pidfd.h, its first version.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroupid: u64,
    ids: [u32; 3],
    credentials: [u32; 8],
    exit_code: i32,
}

/// `PIDFD_GET_INFO`: _IOWR(0xff, 11, struct pidfd_info), whose first version has 64 bytes.
const PIDFD_GET_INFO: libc::Ioctl = 0xc040_ff0b_u32 as libc::Ioctl;
/// `PIDFD_INFO_EXIT`. Since Linux 6.15.
const PIDFD_INFO_EXIT: u64 = 1 << 3;

/// Returns how a process ended that was already reaped, whoever reaped it. Always `None` before
/// Linux 6.15.
pub(crate) fn reaped_status(pidfd: BorrowedFd<'_>) -> Option<ExitStatus> {
    const { assert!(size_of::<PidfdInfo>() == 64) };
    let mut info = PidfdInfo {
        mask: PIDFD_INFO_EXIT,
        ..PidfdInfo::default()
    };
    // SAFETY: `info` is as large as the request says and valid for writes while the call lasts.
    let result = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO, &raw mut info) };
    if result == -1 || info.mask & PIDFD_INFO_EXIT == 0 {
        return None;
    }
    status_of_wait(info.exit_code)
}

/// Whether the kernel tells how a process ended after it was reaped, for any process. It does since
/// Linux 6.15.
pub(crate) fn kernel_keeps_statuses() -> bool {
    kernel_is_since(6, 15)
}

/// Whether this kernel is Linux `major.minor` or later. False if its version cannot be read.
pub(crate) fn kernel_is_since(major: u32, minor: u32) -> bool {
    static RELEASE: OnceLock<Option<(u32, u32)>> = OnceLock::new();
    let release = RELEASE.get_or_init(|| {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
        let mut numbers = release
            .split(['.', '-', '\n'])
            .map_while(|n| n.parse().ok());
        Some((numbers.next()?, numbers.next()?))
    });
    *release >= Some((major, minor))
}

/// Whether the process behind the pidfd is a child of this one that nobody has reaped.
pub(crate) fn is_child(pidfd: BorrowedFd<'_>) -> bool {
    let target = (libc::P_PIDFD, pidfd.as_raw_fd().unsigned_abs());
    wait_id(target, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT).is_ok()
}

/// Whether the error means that this process, or the system, lacks descriptors or memory. Such an
/// error says nothing about what was asked for.
pub(crate) fn is_own_lack(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM)
    )
}

/// Returns how the zombie with that number ended, whoever's child it is. `read_stat` reads the
/// /proc/PID/stat of the process, or returns `None` if the number is another process's by now.
/// Returns `None` if the zombie was reaped already, or if its end is hidden from this process.
pub(crate) fn zombie_status(
    pid: u32,
    read_stat: impl FnOnce(&mut [u8]) -> Option<&[u8]>,
) -> Option<ExitStatus> {
    // A process that may not know the end reads a 0, and may not follow this link either. The link
    // of a zombie leads nowhere.
    let error = std::fs::read_link(format!("/proc/{pid}/exe")).err()?;
    if error.kind() != io::ErrorKind::NotFound {
        return None;
    }
    let mut text = [0; 1024];
    let text = String::from_utf8_lossy(read_stat(&mut text)?);
    // After the program's name in parentheses come the fields from the third to the 52nd, the last.
    let fields: Vec<&str> = text.rsplit(')').next()?.split_whitespace().collect();
    let is_zombie = matches!(fields.first(), Some(&"Z"));
    let status = fields.get(49)?.parse().ok()?;
    is_zombie.then(|| status_of_wait(status)).flatten()
}

/// Decodes a status of wait(2): the low bits have the signal and the core flag, the bits above have
/// the exit code.
pub(crate) fn status_of_wait(status: i32) -> Option<ExitStatus> {
    match status & 0x7f {
        0 => Some(ExitStatus::Exited {
            code: status >> 8 & 0xff,
        }),
        signal => Some(ExitStatus::Signaled {
            signal: Signal::from_number(signal).ok()?,
            core_dumped: status & 0x80 != 0,
        }),
    }
}

fn pidfd_open(pid: libc::pid_t) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open(2) takes two numbers and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0 as libc::c_uint) };
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    check(fd)?;
    // SAFETY: the call succeeded: this is a new descriptor, close-on-exec, that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn pidfd_send_signal(pidfd: RawFd, signal: i32, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: pidfd_send_signal(2) with a null info, which stands for the one that kill(2) makes.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd,
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            flags,
        )
    };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Calls waitid(2) itself, because nix's statuses cannot hold a real-time signal. Returns `None` if
/// `WNOHANG` found nothing.
fn wait_id(
    (kind, id): (libc::idtype_t, libc::id_t),
    flags: libc::c_int,
) -> io::Result<Option<ExitStatus>> {
    loop {
        // SAFETY: siginfo_t is plain numbers, so all zeroes is a valid value. It also shows below
        // that waitid found nothing.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: `info` is valid for writes while the call lasts.
        match check(unsafe { libc::waitid(kind, id, &raw mut info, flags) }) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        }
        // SAFETY: waitid succeeded: `info` is zeroed, or what SIGCHLD carries.
        let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
        if pid == 0 {
            return Ok(None);
        }
        if info.si_code == libc::CLD_EXITED {
            return Ok(Some(ExitStatus::Exited { code: status }));
        }
        return Ok(Some(ExitStatus::Signaled {
            signal: Signal::from_number(status).map_err(io::Error::other)?,
            core_dumped: info.si_code == libc::CLD_DUMPED,
        }));
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::process::Command;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

    use super::*;

    extern "C" fn nothing(_: libc::c_int) {}

    #[test]
    fn signals_to_who_waits_for_an_end_change_nothing() {
        let handler = SigHandler::Handler(nothing);
        let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
        // SAFETY: the handler does nothing, which is safe at any point.
        unsafe { sigaction(Signal::SIGUSR2, &action) }.unwrap();
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let pidfd = open_pidfd(child.id()).unwrap();
        // SAFETY: it takes nothing and touches no memory of ours.
        let waiting = unsafe { libc::pthread_self() };
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut sent = 0;
                while !is_over.load(Ordering::Acquire) {
                    // SAFETY: the waiting thread joins this one before it ends.
                    unsafe { libc::pthread_kill(waiting, libc::SIGUSR2) };
                    sent += 1;
                    if sent == 100 {
                        child.kill().unwrap();
                    }
                    thread::yield_now();
                }
            });
            let ends = ends_within(pidfd.as_fd(), Duration::from_secs(60));
            is_over.store(true, Ordering::Release);
            assert!(ends.unwrap());
        });
        child.wait().unwrap();
        assert!(ends_within(pidfd.as_fd(), Duration::ZERO).unwrap());
    }
}
