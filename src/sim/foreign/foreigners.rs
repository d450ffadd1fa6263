//! How the processes of a sim that are no agents stand, each with all processes below it.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::libc;

use super::call::{blocked_in, is_forever, is_poll, is_select, polled, selected};
use super::channel::Channel;
use super::family::{children_of, children_of_thread, descendants, numbers};
use super::stat::{Stat, has_ended, stat_of};
use crate::sim::children;
use crate::sim::mark::Mark;
use crate::sim::patience::Patience;
use crate::sim::socket;

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
