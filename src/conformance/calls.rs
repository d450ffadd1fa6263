//! Looks at the system calls of a thread before they happen.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;

use crate::sim::SimThread;

/// A system call that has not happened yet. The thread that makes it waits meanwhile.
pub(super) struct Call {
    /// Which call it is, as `SYS_…` in libc.
    pub(super) number: libc::c_long,
    pub(super) arguments: [u64; 6],
    /// The thread that makes the call, one of this process.
    pub(super) thread: Pid,
}

impl Call {
    /// Returns the low half of an argument, which holds a C `int`.
    pub(super) fn word(&self, place: usize) -> u32 {
        const HALF: u64 = u32::MAX as u64;
        u32::try_from(self.arguments[place] & HALF).unwrap_or(0)
    }
}

/// Has `look` look at each of these calls of this thread, and of the threads that it starts, before
/// the call happens. This begins now and lasts as long as the thread lives. It uses a seccomp
/// filter, which needs no privileges. If `look` returns an error, the call fails with that error.
/// Otherwise the call happens.
///
/// The filter stays over fork and exec. What other processes do is not the subject's doing, so
/// their calls happen. Such a process sleeps, though, until its call is answered, and the idle gate
/// may take it for at rest. Therefore a script must make none of these calls after something else
/// than the harness has woken it.
///
/// `look` runs on a thread of its own, whose calls are not looked at. If one of the calls is a
/// fork, `look` must neither allocate nor lock: fork(3) holds the locks of the allocator while it
/// waits.
///
/// # Errors
///
/// If the kernel lacks seccomp, or another filter forbids this one: the kernel's error. A thread
/// can have only one such filter.
pub(super) fn look_at(
    numbers: &[libc::c_long],
    look: impl FnMut(&Call) -> Result<(), Errno> + Send + 'static,
) -> io::Result<()> {
    let (sender, receiver) = mpsc::channel();
    let ready = Arc::new(Barrier::new(2));
    let listens = Arc::clone(&ready);
    // Start this thread before the filter is installed. Threads that are started later have the
    // filter, too.
    thread::Builder::new()
        .name("calls".to_owned())
        .spawn(move || {
            // This thread forks nothing.
            let _thread = SimThread::enter(None);
            if let Ok(listener) = receiver.recv() {
                // From here on this thread allocates nothing.
                listens.wait();
                listen(&listener, look);
            }
        })?;
    let listener = install(numbers)?;
    // It cannot fail: the thread above waits for the listener.
    let _ = sender.send(listener);
    ready.wait();
    Ok(())
}

/// Installs a filter on this thread that asks about these calls and allows all others. Returns the
/// descriptor on which the filter asks.
fn install(numbers: &[libc::c_long]) -> io::Result<OwnedFd> {
    // Where `seccomp_data` has the number of the call: at its beginning.
    const NUMBER: u32 = 0;
    let statement = |code: u32, jt: u8, k: u32| -> io::Result<libc::sock_filter> {
        let code = u16::try_from(code).map_err(io::Error::other)?;
        Ok(libc::sock_filter { code, jt, jf: 0, k })
    };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let equals = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let answer = libc::BPF_RET | libc::BPF_K;
    let mut filter = vec![statement(load, 0, NUMBER)?];
    for (place, number) in numbers.iter().enumerate() {
        // Jumps over the comparisons that are left, and over the answer that follows them.
        let over = u8::try_from(numbers.len() - place).map_err(io::Error::other)?;
        let number = u32::try_from(*number).map_err(io::Error::other)?;
        filter.push(statement(equals, over, number)?);
    }
    filter.push(statement(answer, 0, libc::SECCOMP_RET_ALLOW)?);
    filter.push(statement(answer, 0, libc::SECCOMP_RET_USER_NOTIF)?);
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(io::Error::other)?,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the call takes numbers and touches no memory.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `program` and the filter that it leads to are valid for reads while the call lasts.
    let descriptor = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const program,
        )
    };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    let descriptor = i32::try_from(descriptor).map_err(io::Error::other)?;
    // SAFETY: the call succeeded: this is a new descriptor, close-on-exec, that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Answers each call until nobody is left who could make one. Allocates nothing.
fn listen(listener: &OwnedFd, mut look: impl FnMut(&Call) -> Result<(), Errno>) {
    loop {
        let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            Err(_) => return,
            Ok(_) => {}
        }
        let events = fds[0].revents().unwrap_or(PollFlags::empty());
        if !events.contains(PollFlags::POLLIN) {
            return;
        }
        // SAFETY: the struct is plain numbers, and the kernel wants all of them to be zero.
        let mut asked: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: `asked` has the type that the request needs, and is valid for writes while the
        // call lasts.
        let received = unsafe {
            libc::ioctl(
                listener.as_raw_fd(),
                libc::SECCOMP_IOCTL_NOTIF_RECV,
                &raw mut asked,
            )
        };
        if received < 0 {
            // The thread that made the call was killed meanwhile.
            continue;
        }
        let looked = match own_thread(asked.pid) {
            Some(thread) => look(&Call {
                number: asked.data.nr.into(),
                arguments: asked.data.args,
                thread,
            }),
            None => Ok(()),
        };
        // SAFETY: the struct is plain numbers.
        let mut answer: libc::seccomp_notif_resp = unsafe { std::mem::zeroed() };
        answer.id = asked.id;
        match looked {
            Ok(()) => {
                answer.flags = u32::try_from(libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE).unwrap_or(1);
            }
            Err(errno) => answer.error = -(errno as i32),
        }
        // SAFETY: `answer` has the type that the request needs, and is valid while the call lasts.
        // The call fails only if the thread that asked was killed meanwhile.
        let _ = unsafe {
            libc::ioctl(
                listener.as_raw_fd(),
                libc::SECCOMP_IOCTL_NOTIF_SEND,
                &raw mut answer,
            )
        };
    }
}

/// Returns the thread with this number if it belongs to this process. The thread sleeps until its
/// call is answered, so the number stays its own.
fn own_thread(number: u32) -> Option<Pid> {
    let thread = i32::try_from(number).ok()?;
    // SAFETY: the call takes numbers and touches no memory. Signal 0 is sent to nobody.
    let found = unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, 0) };
    (found == 0).then(|| Pid::from_raw(thread))
}
