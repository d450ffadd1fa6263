//! Looks at the processes of the code under test that are no agents, such as a shell in between, and tells whether they
//! wait for nothing but what the sim itself does.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::libc;

use crate::pidfd::is_own_lack;

use super::children;
use super::mark::Mark;
use super::patience::Patience;
use super::socket;

/// real-time: how long a process that runs, and may have been killed, has to show that it ends.
const SURE: Duration = Duration::from_millis(100);

/// real-time: how long a process with an agent's arguments counts as about to say hello, which holds up everything. It
/// may do other things before, as flock(1) does, and it may never say hello.
const HELLO: Duration = Duration::from_millis(20);

/// How a process that is no agent stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It waits for children that are all at rest, or on pipes and unix sockets whose other ends are all the sim's.
    AtRest,
    /// It is about to be an agent, or is dying.
    Begins,
    /// It does something, or waits for something that is not the sim's.
    Busy,
    /// It has ended, and somebody has to reap it.
    Zombie,
}

/// What the sim knows of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// An agent that lives, or one that has said hello and waits to be taken in.
    Agent,
    /// An agent that has ended.
    Ended,
    /// No agent.
    Other,
}

/// The processes of one sim that are no agents.
#[derive(Debug, Default)]
pub(crate) struct Foreigners {
    /// The mark that the processes of the sim have inherited.
    mark: Option<Arc<Mark>>,
    /// What the kernel calls a process that runs the agents' program.
    program: Option<String>,
    /// The channels that were looked at, and whether all ends of each are the sim's.
    channels: HashMap<Channel, bool>,
    /// The processes that seem to be about to be agents, and how long each is waited for as such.
    begins: HashMap<u32, Patience>,
    /// The processes of `begins` that were seen at this look.
    beginners: HashSet<u32>,
    /// The processes that live, at this look.
    pub(crate) there: HashSet<u32>,
    /// The processes that are blocked in a read, at this look.
    pub(crate) reading: HashSet<u32>,
    /// Threads of these processes that run or wait for a processor, at this look.
    pub(crate) running: Vec<u32>,
}

impl Foreigners {
    pub(crate) fn new(mark: Option<Arc<Mark>>, program: Option<String>) -> Foreigners {
        Foreigners {
            mark,
            program,
            ..Foreigners::default()
        }
    }

    /// Forgets what the last look saw and may have changed since.
    pub(crate) fn begin_look(&mut self) {
        self.there.clear();
        let seen = std::mem::take(&mut self.beginners);
        self.begins.retain(|pid, _| seen.contains(pid));
        self.reading.clear();
        self.running.clear();
        // If all ends of a channel were the sim's, only the sim's processes can have got an end since. But anybody may
        // open a channel that has a name.
        self.channels
            .retain(|channel, is_inside| *is_inside && !channel.has_name());
    }

    /// How the process stands, together with all processes below it. `address` is the word that agents have in their
    /// arguments.
    pub(crate) fn standing(
        &mut self,
        pid: u32,
        address: &str,
        known: &impl Fn(u32) -> Known,
    ) -> io::Result<Standing> {
        let Stat {
            name,
            state,
            is_single,
            ..
        } = stat_of(pid);
        if state == Some('Z') || matches!(state, None | Some('?')) && children::is_zombie(pid) {
            return Ok(Standing::Zombie);
        }
        self.there.insert(pid);
        let below = if is_single {
            children_of_thread(pid, pid)?
        } else {
            children_of(pid)?
        };
        // A shell that becomes an agent may have started other processes before. A stopped process begins nothing.
        let runs_program = || name.is_some() && name == self.program;
        let may_begin = (below.is_empty() || runs_program()) && state != Some('T');
        // Asked before `has_ended`: a process that ends in between has no words any more.
        let is_about_to = may_begin && is_about_to_be_agent(pid, address)?;
        if is_about_to {
            self.beginners.insert(pid);
            let running = if state == Some('S') { &[][..] } else { &[pid] };
            if !self.begins.entry(pid).or_default().is_over(HELLO, running) {
                return Ok(Standing::Begins);
            }
        }
        if has_ended(pid) {
            return Ok(Standing::Begins);
        }
        let mut waits = false;
        for thread in numbers(&format!("/proc/{pid}/task"))? {
            match self.thread_waits(pid, thread, !below.is_empty())? {
                Some(is_for_sim) => waits |= is_for_sim,
                None => return Ok(Standing::Busy),
            }
        }
        // Looks at all processes below, too: the process may wait for one of them while another is at work.
        let mut standing = if waits {
            Standing::AtRest
        } else {
            Standing::Busy
        };
        for child in below {
            match known(child) {
                Known::Agent => {}
                // Its parent has not taken its status yet, and does not while the parent is stopped.
                Known::Ended if state == Some('T') => {}
                Known::Ended => standing = Standing::Busy,
                Known::Other => match self.standing(child, address, known)? {
                    Standing::Begins => return Ok(Standing::Begins),
                    Standing::AtRest => {}
                    Standing::Zombie if state == Some('T') => {}
                    Standing::Busy | Standing::Zombie => standing = Standing::Busy,
                },
            }
        }
        Ok(standing)
    }

    /// Whether the thread waits without a limit in time, and for what: `Some(true)` if it waits for what the sim does,
    /// `Some(false)` if it waits for another thread of its process. `None` if it does anything else.
    fn thread_waits(
        &mut self,
        pid: u32,
        thread: u32,
        has_children: bool,
    ) -> io::Result<Option<bool>> {
        let task = format!("/proc/{pid}/task/{thread}");
        let Some(call) = blocked_in(&task) else {
            return Ok(match children::state(&task) {
                // The thread waits for a SIGCONT.
                Some('T') => Some(true),
                // A thread that is traced gets no processor.
                None | Some('t' | 'Z' | 'X') => None,
                Some(_) => {
                    self.running.push(thread);
                    None
                }
            });
        };
        let argument = |n: usize| call.arguments[n];
        let waits = match call.number {
            libc::SYS_wait4 | libc::SYS_waitid | libc::SYS_rt_sigsuspend => {
                has_children.then_some(true)
            }
            libc::SYS_rt_sigtimedwait if argument(2) == 0 => has_children.then_some(true),
            libc::SYS_read | libc::SYS_readv | libc::SYS_recvfrom | libc::SYS_recvmsg => {
                self.reading.insert(pid);
                self.is_held_up(pid, argument(0))?.then_some(true)
            }
            libc::SYS_write | libc::SYS_writev | libc::SYS_sendto | libc::SYS_sendmsg => {
                self.is_held_up(pid, argument(0))?.then_some(true)
            }
            libc::SYS_futex if argument(3) == 0 => Some(false),
            number if is_poll(number, &call) => {
                let count = usize::try_from(argument(1)).unwrap_or(usize::MAX);
                match polled(pid, argument(0), count) {
                    Some(descriptors) => self.are_inside(pid, &descriptors)?.then_some(true),
                    None => None,
                }
            }
            number if is_select(number, &call) => match selected(pid, &call) {
                // The thread waits for a signal, such as the one that the end of a child gives.
                Some(descriptors) if descriptors.is_empty() => has_children.then_some(true),
                Some(descriptors) => self.are_inside(pid, &descriptors)?.then_some(true),
                None => None,
            },
            libc::SYS_epoll_pwait if is_forever(argument(3)) => {
                self.epoll_waits(pid, argument(0))?
            }
            #[cfg(target_arch = "x86_64")]
            libc::SYS_epoll_wait if is_forever(argument(3)) => {
                self.epoll_waits(pid, argument(0))?
            }
            _ => None,
        };
        Ok(waits)
    }

    fn epoll_waits(&mut self, pid: u32, epoll: u64) -> io::Result<Option<bool>> {
        let text = fs::read_to_string(format!("/proc/{pid}/fdinfo/{epoll}")).unwrap_or_default();
        let registered = text.lines().filter_map(|line| {
            line.strip_prefix("tfd:")?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        });
        let registered: Vec<u64> = registered.collect();
        Ok(self.are_inside(pid, &registered)?.then_some(true))
    }

    /// Whether there are any descriptors, and `is_inside` holds for all of them.
    fn are_inside(&mut self, pid: u32, descriptors: &[u64]) -> io::Result<bool> {
        for descriptor in descriptors {
            if !self.is_inside(pid, *descriptor)? {
                return Ok(false);
            }
        }
        Ok(!descriptors.is_empty())
    }

    /// Whether a thread that is blocked on this descriptor stays so until a process of the sim does something.
    fn is_held_up(&mut self, pid: u32, descriptor: u64) -> io::Result<bool> {
        let has_timeout =
            || socket::is_socket(pid, descriptor) && socket::has_timeout(pid, descriptor);
        Ok(self.is_inside(pid, descriptor)? && !has_timeout())
    }

    /// Whether the descriptor is that of a channel whose ends are all held by this process, its descendants and other
    /// processes of the sim.
    fn is_inside(&mut self, pid: u32, descriptor: u64) -> io::Result<bool> {
        let link = format!("/proc/{pid}/fd/{descriptor}");
        let Some(channel) = Channel::behind(Path::new(&link))? else {
            return Ok(false);
        };
        if let Some(is_inside) = self.channels.get(&channel) {
            return Ok(*is_inside);
        }
        // Only a process that has an end now can give it to another one later. The processes are listed in this order
        // so that one that is forked in between is among the descendants, and is not taken for a stranger.
        let all = numbers("/proc")?;
        let own = descendants(std::process::id())?;
        let has_mark = |pid| self.mark.as_ref().is_some_and(|mark| mark.is_on(pid));
        let mut is_inside = true;
        for other in all {
            if !own.contains(&other) && !has_mark(other) && channel.is_held_by(other) {
                is_inside = false;
                break;
            }
        }
        self.channels.insert(channel, is_inside);
        Ok(is_inside)
    }
}

/// Whether a process is about to be an agent, or has ended meanwhile. The caller leaves out a process that runs another
/// program, as timeout(1) does: it has that program's arguments in its own.
fn is_about_to_be_agent(pid: u32, address: &str) -> io::Result<bool> {
    // Asked first: a process that is being started has no words, and gets them meanwhile.
    let has_no_words = children::has_no_words(pid)?;
    if children::mentions(pid, address)? {
        return Ok(true);
    }
    let is_asleep = stat_of(pid).state == Some('S');
    Ok(has_no_words && (!is_asleep || children::mentions(pid, address)?))
}

/// Whether a process has ended, or is sure to: the kernel makes a SIGKILL of each signal that ends its target. proc(5).
pub(crate) fn has_ended(pid: u32) -> bool {
    let stat = stat_of(pid);
    stat.is_exiting || matches!(stat.state, None | Some('Z' | 'X')) || is_killed(pid)
}

/// Whether a process ends, or soon shows that it does. Between taking a SIGKILL and beginning to exit, a process shows
/// nothing but that it runs.
pub(crate) fn comes_to_end(pid: u32) -> bool {
    let begun = Instant::now();
    loop {
        if has_ended(pid) {
            return true;
        }
        if stat_of(pid).state != Some('R') || begun.elapsed() > SURE {
            // A process that was killed cannot be asleep still: the kill wakes it.
            return has_ended(pid);
        }
        std::thread::yield_now();
    }
}

fn is_killed(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let pending = status.lines().filter_map(|line| {
        let set = line
            .strip_prefix("SigPnd:")
            .or(line.strip_prefix("ShdPnd:"))?;
        u64::from_str_radix(set.trim(), 16).ok()
    });
    let kill = 1 << (libc::SIGKILL - 1);
    pending.fold(0, |all, set| all | set) & kill != 0
}

/// A system call in which a thread is blocked.
struct Call {
    number: libc::c_long,
    arguments: [u64; 6],
}

/// The call in which the thread is blocked, by the thread's folder in /proc. `None` if it is not asleep, or cannot be
/// seen.
fn blocked_in(task: &str) -> Option<Call> {
    if children::state(task)? != 'S' {
        return None;
    }
    let text = fs::read_to_string(format!("{task}/syscall")).ok()?;
    let mut words = text.split_whitespace();
    let number = words.next()?.parse().ok().filter(|number| *number >= 0)?;
    let mut arguments = [0; 6];
    for argument in &mut arguments {
        *argument = u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
    }
    Some(Call { number, arguments })
}

/// Whether a timeout in milliseconds is −1. The argument is an int, in a register that is wider.
fn is_forever(timeout: u64) -> bool {
    timeout & 0xffff_ffff == 0xffff_ffff
}

/// Whether the call is a poll(2) without a limit in time.
fn is_poll(number: libc::c_long, call: &Call) -> bool {
    #[cfg(target_arch = "x86_64")]
    if number == libc::SYS_poll {
        return is_forever(call.arguments[2]);
    }
    number == libc::SYS_ppoll && call.arguments[2] == 0
}

/// The descriptors that the call polls: its `struct pollfd`s. `None` if they cannot be read.
fn polled(pid: u32, address: u64, count: usize) -> Option<Vec<u64>> {
    use std::os::unix::fs::FileExt;
    let memory = fs::File::open(format!("/proc/{pid}/mem")).ok()?;
    let mut bytes = vec![0; count.min(1024).checked_mul(8)?];
    memory.read_exact_at(&mut bytes, address).ok()?;
    let descriptors = bytes.chunks(8).map(|entry| {
        let number = i32::from_ne_bytes(entry[..4].try_into().ok()?);
        // The call does not look at a negative descriptor.
        Some(u64::try_from(number).ok())
    });
    let descriptors: Option<Vec<Option<u64>>> = descriptors.collect();
    (count <= 1024).then_some(descriptors?.into_iter().flatten().collect())
}

/// Whether the call is a select(2) without a limit in time.
fn is_select(number: libc::c_long, call: &Call) -> bool {
    #[cfg(target_arch = "x86_64")]
    if number == libc::SYS_select {
        return call.arguments[4] == 0;
    }
    number == libc::SYS_pselect6 && call.arguments[4] == 0
}

/// The descriptors that the call selects from: its three sets, of which a null pointer is an empty one. `None` if they
/// cannot be read.
fn selected(pid: u32, call: &Call) -> Option<Vec<u64>> {
    use std::os::unix::fs::FileExt;
    let memory = fs::File::open(format!("/proc/{pid}/mem")).ok()?;
    let count = call.arguments[0] & 0xffff_ffff;
    // The kernel reads whole words.
    let words = usize::try_from(count.div_ceil(64)).ok()?;
    let mut all = Vec::new();
    for set in &call.arguments[1..4] {
        if *set == 0 || words > 1024 {
            continue;
        }
        let mut bytes = vec![0; words * 8];
        memory.read_exact_at(&mut bytes, *set).ok()?;
        let has = |descriptor: &u64| {
            let (byte, bit) = (descriptor / 8, descriptor % 8);
            // This is the byte order of this machine, the same on both targets: the lowest byte comes first.
            usize::try_from(byte).is_ok_and(|byte| bytes[byte] >> bit & 1 == 1)
        };
        all.extend((0..count).filter(has));
    }
    (words <= 1024).then_some(all)
}

/// A pipe, a FIFO, or two connected unix sockets. The ends are named as the links of /proc/PID/fd name them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Channel(Vec<PathBuf>);

impl Channel {
    /// The channel behind a link of /proc/PID/fd. `None` if that is no channel.
    fn behind(link: &Path) -> io::Result<Option<Channel>> {
        let Ok(target) = fs::read_link(link) else {
            return Ok(None);
        };
        let name = target.to_str().unwrap_or_default();
        if let Some(number) = socket::number_of(name) {
            let peer = match socket::peer_of(number) {
                Ok(peer) => peer,
                Err(error) if is_own_lack(&error) => return Err(error),
                // A kernel without sock_diag(7) does not say.
                Err(_) => None,
            };
            let peer = peer.map(|peer| PathBuf::from(format!("socket:[{peer}]")));
            return Ok(peer.map(|peer| Channel(vec![target, peer])));
        }
        let is_fifo = || fs::metadata(link).is_ok_and(|file| file.file_type().is_fifo());
        let is_pipe = name.starts_with("pipe:[") || target.is_absolute() && is_fifo();
        Ok(is_pipe.then(|| Channel(vec![target])))
    }

    /// Whether the channel is a FIFO with a path: fifo(7).
    fn has_name(&self) -> bool {
        self.0.iter().any(|end| end.is_absolute())
    }

    /// Whether the process has an end of the channel open. A process that this one may not look at belongs to another
    /// user, and was given no end.
    fn is_held_by(&self, pid: u32) -> bool {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else {
            return false;
        };
        descriptors.flatten().any(|entry| {
            let target = fs::read_link(entry.path());
            target.is_ok_and(|target| self.0.contains(&target))
        })
    }
}

/// The process and all processes below it.
fn descendants(pid: u32) -> io::Result<HashSet<u32>> {
    let (mut all, mut open) = (HashSet::from([pid]), vec![pid]);
    while let Some(pid) = open.pop() {
        for child in children_of(pid)? {
            if all.insert(child) {
                open.push(child);
            }
        }
    }
    Ok(all)
}

/// The children of all threads of a process; empty if the process is gone.
pub(crate) fn children_of(pid: u32) -> io::Result<Vec<u32>> {
    let mut all = Vec::new();
    for thread in numbers(&format!("/proc/{pid}/task"))? {
        all.extend(children_of_thread(pid, thread)?);
    }
    Ok(all)
}

/// The children of one thread of a process; empty if the process is gone.
pub(crate) fn children_of_thread(pid: u32, thread: u32) -> io::Result<Vec<u32>> {
    match children::contents(&format!("/proc/{pid}/task/{thread}/children")) {
        Ok(text) => {
            let text = String::from_utf8_lossy(&text);
            let pids = text.split_ascii_whitespace();
            Ok(pids.filter_map(|pid| pid.parse().ok()).collect())
        }
        Err(error) if is_own_lack(&error) => Err(error),
        Err(_) => Ok(Vec::new()),
    }
}

/// `PF_EXITING` of linux/sched.h.
const EXITING: u64 = 0x4;

/// What the `stat` of a process says: proc(5).
struct Stat {
    /// What the kernel calls the process.
    name: Option<String>,
    /// The state, as [`children::state`] has it.
    state: Option<char>,
    /// Whether the process's only thread is on its way out, so that the process ends by itself.
    is_exiting: bool,
    /// Whether the process has only one thread.
    is_single: bool,
}

fn stat_of(pid: u32) -> Stat {
    let folder = format!("/proc/{pid}");
    let Ok(stat) = children::contents(&format!("{folder}/stat")) else {
        return Stat {
            name: None,
            state: children::state(&folder),
            is_exiting: false,
            is_single: false,
        };
    };
    let stat = String::from_utf8_lossy(&stat);
    let name = stat
        .split_once('(')
        .and_then(|(_, rest)| rest.rsplit_once(") "));
    let name = name.map(|(name, _)| name.to_owned());
    // The fields from the third on.
    let mut fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    let state = fields.next().and_then(|state| state.chars().next());
    let flags = fields.nth(5).and_then(|flags| flags.parse::<u64>().ok());
    let is_single = fields.nth(10) == Some("1");
    Stat {
        name,
        state,
        is_exiting: is_single && flags.is_some_and(|flags| flags & EXITING != 0),
        is_single,
    }
}

/// The numbers among the names in a folder; empty if the folder is gone.
fn numbers(folder: &str) -> io::Result<Vec<u32>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if is_own_lack(&error) => return Err(error),
        Err(_) => return Ok(Vec::new()),
    };
    let names = entries.flatten().map(|entry| entry.file_name());
    Ok(names
        .filter_map(|name| name.to_str()?.parse().ok())
        .collect())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// An exec sets the process's words when it is halfway, and until then the process has none. Between two looks at
    /// the words, the process must not seem to be one that will never be an agent.
    #[test]
    fn what_is_about_to_be_an_agent_never_seems_to_be_anything_else() {
        let stub = agent_stub::path().unwrap();
        let address = "@supervise-nobody-listens";
        let mut looks = 0;
        for _ in 0..300 {
            let mut command = Command::new(stub);
            let words = ["--control", address, "--id", "a", "--clock", "harness"];
            command.args(words).stderr(Stdio::null());
            let mut child = command.spawn().unwrap();
            let mut foreigners = Foreigners::default();
            let last = loop {
                looks += 1;
                let standing = foreigners.standing(child.id(), address, &|_| Known::Other);
                match standing.unwrap() {
                    Standing::Begins => {}
                    standing => break standing,
                }
            };
            child.wait().unwrap();
            assert_eq!(last, Standing::Zombie, "after {looks} looks");
        }
    }
}
