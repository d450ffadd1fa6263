//! Processes behind pidfds, and children by number: status, signals, reaping.

use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use agent_stub::Signal;
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use crate::status::ExitStatus;

/// `PIDFD_SIGNAL_PROCESS_GROUP` of linux/pidfd.h, which the libc crate lacks. Since Linux 6.9.
#[cfg(feature = "supervisor")]
pub(crate) const PIDFD_SIGNAL_PROCESS_GROUP: libc::c_uint = 1 << 2;

pub(crate) fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(feature = "supervisor")]
pub(crate) fn unless_nobody(result: io::Result<()>) -> io::Result<()> {
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

pub(crate) fn pidfd_open(pid: libc::pid_t) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open(2) takes two numbers and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0 as libc::c_uint) };
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    check(fd)?;
    // SAFETY: the call succeeded: this is a new descriptor, close-on-exec, that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub(crate) fn pidfd_send_signal(pidfd: RawFd, signal: i32, flags: libc::c_uint) -> io::Result<()> {
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
pub(crate) fn wait_id(
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
