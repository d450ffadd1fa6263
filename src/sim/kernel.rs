//! What the kernel says of a sim's thread and of its agents, for the watchdog.

use nix::libc;
use nix::unistd::Pid;

use super::children;
use agent_stub::Signal;

/// The text about the call in which a thread of this process sleeps, if it sleeps as `std::thread::sleep` makes it
/// sleep. The same text twice means the same sleep, or one like it at the same place. `None` if the thread does not
/// sleep so, or if that cannot be told.
pub(super) fn sleep_of(thread: Pid) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/self/task/{thread}/syscall")).ok()?;
    let number: libc::c_long = text.split(' ').next()?.parse().ok()?;
    let sleeps = [libc::SYS_nanosleep, libc::SYS_clock_nanosleep];
    sleeps.contains(&number).then_some(text)
}

/// Whether a thread of this process waits for another thread with a limit in time: the fourth argument of its futex(2).
/// False if that cannot be told.
pub(super) fn waits_with_limit(thread: Pid) -> bool {
    let path = format!("/proc/self/task/{thread}/syscall");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let mut words = text.split_whitespace();
    let number = words.next().and_then(|number| number.parse().ok());
    number == Some(libc::SYS_futex) && words.nth(3).is_some_and(|limit| limit != "0x0")
}

/// What a process is doing, as a sentence about it goes on after "which": it runs, or it waits in a system call.
pub(super) fn doing(pid: u32) -> String {
    let folder = format!("/proc/{pid}");
    match children::state(&folder) {
        Some('R') => "is at work".to_owned(),
        Some('T' | 't') => "is stopped".to_owned(),
        Some('Z' | 'X') | None => "has ended".to_owned(),
        Some('D') => "waits for the kernel, as for a disk".to_owned(),
        Some(_) => {
            let text = std::fs::read_to_string(format!("{folder}/syscall")).unwrap_or_default();
            let number = text
                .split(' ')
                .next()
                .and_then(|number| number.parse().ok());
            match number.and_then(name_of_call) {
                Some(name) => format!("waits in {name}(2)"),
                None => "waits".to_owned(),
            }
        }
    }
}

/// The name of a system call in which processes wait.
fn name_of_call(number: libc::c_long) -> Option<&'static str> {
    #[cfg(target_arch = "x86_64")]
    match number {
        libc::SYS_open => return Some("open"),
        libc::SYS_pause => return Some("pause"),
        libc::SYS_poll => return Some("poll"),
        libc::SYS_select => return Some("select"),
        libc::SYS_epoll_wait => return Some("epoll_wait"),
        _ => {}
    }
    Some(match number {
        libc::SYS_accept | libc::SYS_accept4 => "accept",
        libc::SYS_clock_nanosleep | libc::SYS_nanosleep => "nanosleep",
        libc::SYS_connect => "connect",
        libc::SYS_epoll_pwait | libc::SYS_epoll_pwait2 => "epoll_wait",
        libc::SYS_fcntl => "fcntl",
        libc::SYS_flock => "flock",
        libc::SYS_fsync | libc::SYS_fdatasync => "fsync",
        libc::SYS_futex => "futex",
        libc::SYS_openat => "open",
        libc::SYS_ppoll => "poll",
        libc::SYS_pselect6 => "select",
        libc::SYS_read | libc::SYS_readv => "read",
        libc::SYS_recvfrom | libc::SYS_recvmsg => "recv",
        libc::SYS_rt_sigsuspend => "sigsuspend",
        libc::SYS_rt_sigtimedwait => "sigtimedwait",
        libc::SYS_sendto | libc::SYS_sendmsg => "send",
        libc::SYS_wait4 | libc::SYS_waitid => "wait",
        libc::SYS_write | libc::SYS_writev => "write",
        _ => return None,
    })
}

/// The signals of a process as /proc has them, one bit each.
#[derive(Clone, Copy, Debug, Default)]
struct Masks {
    parent: u32,
    pending: u64,
    blocked: u64,
    ignored: u64,
}

impl Masks {
    fn of(pid: u32) -> Option<Masks> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        Some(Masks::parse(&text))
    }

    fn parse(status: &str) -> Masks {
        let mut masks = Masks::default();
        for (name, value) in status.lines().filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            let mask = || u64::from_str_radix(value, 16).unwrap_or(0);
            match name {
                "PPid" => masks.parent = value.parse().unwrap_or(0),
                "SigPnd" | "ShdPnd" => masks.pending |= mask(),
                "SigBlk" => masks.blocked = mask(),
                "SigIgn" => masks.ignored = mask(),
                _ => {}
            }
        }
        masks
    }
}

/// The signals that mostly end a process. They do not end one that has inherited them as ignored.
const ENDING: [Signal; 4] = [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM];

/// Says which signals do not reach a process: those that were sent to it and that it has blocked, and those that it
/// ignores because its parent does. Empty if there are none.
pub(super) fn unheard_signals(pid: u32) -> String {
    let Some(masks) = Masks::of(pid) else {
        return String::new();
    };
    let parent = Masks::of(masks.parent).unwrap_or_default();
    said(masks, parent)
}

fn said(masks: Masks, parent: Masks) -> String {
    let mut text = String::new();
    let waiting = names(masks.pending & masks.blocked, (1..=64).collect());
    if !waiting.is_empty() {
        text += &format!("; it was sent {waiting}, which it has blocked");
    }
    let ending = ENDING.map(Signal::number);
    let ignored = names(masks.ignored & parent.ignored, ending.to_vec());
    if !ignored.is_empty() {
        text += &format!("; it ignores {ignored}, as its parent does");
    }
    text
}

/// The names of those signals in `numbers` that are in the mask.
fn names(mask: u64, numbers: Vec<i32>) -> String {
    let is_in = |number: &i32| mask & 1 << (number - 1) != 0;
    let signals = numbers.into_iter().filter(is_in);
    let names = signals.filter_map(|number| Signal::from_number(number).ok());
    names
        .map(|signal| signal.to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_that_do_not_reach_a_process_are_named() {
        let text = "Name:\ta: b\nPPid:\t7\nSigPnd:\t0000000000000000\nShdPnd:\t0000000000004000\n\
                    SigBlk:\t0000000000004001\nSigIgn:\t0000000000000003\n";
        let masks = Masks::parse(text);
        assert_eq!(masks.parent, 7);
        let parent = Masks {
            ignored: 1,
            ..Masks::default()
        };
        assert_eq!(
            said(masks, parent),
            "; it was sent SIGTERM, which it has blocked; it ignores SIGHUP, as its parent does"
        );
        assert_eq!(said(Masks::default(), parent), "");
    }

    #[test]
    fn a_thread_that_sleeps_shows() {
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            sender.send(nix::unistd::gettid()).unwrap();
            // real-time: it sleeps until this test is over, and longer.
            std::thread::sleep(std::time::Duration::from_secs(60));
        });
        let thread = receiver.recv().unwrap();
        while sleep_of(thread).is_none() {
            std::thread::yield_now();
        }
        assert_eq!(sleep_of(nix::unistd::gettid()), None);
    }
}
