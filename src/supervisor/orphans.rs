//! Orphans: descendants whose parent has ended before them.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;

use nix::libc::pid_t;
use nix::sys::prctl::{get_child_subreaper, set_child_subreaper};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::getsid;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use crate::process::{Process, open_pidfd, reap_zombie};
use crate::spawner::{AgentHandle, SpawnError};

/// Has orphans come to this process, and reaps them when they have ended.
///
/// As long as it lives the whole process is a subreaper: a descendant whose parent ends becomes its
/// child. A daemon does that on purpose, and what a killed agent leaves cannot help it. Nobody else
/// would ever wait for them.
///
/// The status of a child that this process has started itself is for whoever started it. The kernel
/// does not say who started a child, so only what proves to be an orphan is reaped:
///
/// - what is in a session that is neither this process's nor led by itself, as after a daemon's double
///   fork: no process gets into another session but by making it;
/// - what is in the process group of an agent of a supervisor that was
///   [told](crate::SupervisorBuilder::orphans) of this, and is not that agent: this process must not
///   put other children of its own there. The group is told by the agent's pidfd, so that a number
///   that was given anew proves nothing.
///
/// What leads a session or a group of its own may be anybody's, and stays a zombie when it ends; but see
/// [`adopt_all`](Orphans::adopt_all). A child that was there before is never taken for an orphan.
///
/// That something has ended is learnt from SIGCHLD by tokio's handler, which wakes every runtime of the
/// process. Where SIGCHLD is blocked, as it may be inherited, a thread that takes this one signal lives as
/// long as the value does.
///
/// Source: prctl(2) `PR_SET_CHILD_SUBREAPER`; what an init does, without its waitpid(-1).
#[derive(Debug)]
#[must_use = "dropping it leaves orphans to whoever is above this process"]
pub struct Orphans {
    adopter: Arc<Adopter>,
    task: JoinHandle<()>,
    was_subreaper: bool,
    _taker: Option<Taker>,
}

/// What is known of the children of this process.
#[derive(Debug)]
pub(super) struct Adopter {
    /// Whether it starts nothing but agents that are minded.
    owns_process: bool,
    /// The children that were there before.
    before: BTreeSet<Child>,
    /// The session when it began: a child may be in it after this process has left it.
    session: pid_t,
    /// The agents, and what probes them, as long as something is left of them or their group.
    minded: Mutex<Vec<Arc<Process>>>,
}

/// A child as /proc has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Child {
    pid: pid_t,
    /// When it started, in ticks.
    start: u64,
}

impl Orphans {
    /// From now on, until it is dropped.
    ///
    /// # Errors
    ///
    /// Where this is no tokio runtime with I/O enabled, or the children cannot be told.
    pub fn adopt() -> io::Result<Orphans> {
        Orphans::new(false)
    }

    /// As [`adopt`](Orphans::adopt), in a process that starts nothing but the agents of supervisors that
    /// are told of it, as an init does: then every other child is an orphan, and is reaped. The statuses
    /// of what is started otherwise are lost.
    ///
    /// # Errors
    ///
    /// As [`adopt`](Orphans::adopt).
    pub fn adopt_all() -> io::Result<Orphans> {
        Orphans::new(true)
    }

    fn new(owns_process: bool) -> io::Result<Orphans> {
        let runtime = tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
        let mut ends = signal(SignalKind::child())?;
        let taker = Taker::where_blocked()?;
        let children = children()?.into_iter();
        let adopter = Arc::new(Adopter {
            owns_process,
            before: children.filter_map(|pid| Some(stat(pid)?.child)).collect(),
            session: getsid(None)?.as_raw(),
            minded: Mutex::default(),
        });
        let was_subreaper = get_child_subreaper()?;
        set_child_subreaper(true)?;
        let minds = Arc::clone(&adopter);
        let task = runtime.spawn(async move {
            while ends.recv().await.is_some() {
                if let Err(error) = minds.reap() {
                    tracing::warn!(target: "supervise_harness", %error, "cannot look for orphans");
                }
            }
        });
        Ok(Orphans {
            adopter,
            task,
            was_subreaper,
            _taker: taker,
        })
    }

    pub(super) fn adopter(&self) -> Arc<Adopter> {
        Arc::clone(&self.adopter)
    }
}

impl Drop for Orphans {
    fn drop(&mut self) {
        self.task.abort();
        // It failed when it was set, if ever.
        let _ = set_child_subreaper(self.was_subreaper);
    }
}

/// A thread that takes SIGCHLD. A signal that every thread blocks is never handled.
#[derive(Debug)]
struct Taker {
    /// It goes on until this is dropped.
    stay: Option<mpsc::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Taker {
    /// One, where this thread blocks the signal: what other threads do may change with each of them.
    fn where_blocked() -> io::Result<Option<Taker>> {
        if !SigSet::thread_get_mask()?.contains(Signal::SIGCHLD) {
            return Ok(None);
        }
        let (stay, gone) = mpsc::channel::<()>();
        let thread = thread::Builder::new().name("orphans".to_owned());
        let thread = thread.spawn(move || {
            // No other signal: what a handler does is for the threads that others have made. It fails for
            // no valid set.
            let mut others = SigSet::all();
            others.remove(Signal::SIGCHLD);
            let _ = others.thread_set_mask();
            let _ = gone.recv();
        })?;
        Ok(Some(Taker {
            stay: Some(stay),
            thread: Some(thread),
        }))
    }
}

impl Drop for Taker {
    fn drop(&mut self) {
        drop(self.stay.take());
        if let Some(thread) = self.thread.take() {
            // It does not panic.
            let _ = thread.join();
        }
    }
}

impl Adopter {
    /// Starts a process that is then minded, where somebody adopts orphans. Nothing is reaped meanwhile:
    /// it may have ended before it is known.
    pub(super) fn start(
        adopter: Option<&Adopter>,
        spawn: impl FnOnce() -> Result<AgentHandle, SpawnError>,
    ) -> Result<AgentHandle, SpawnError> {
        let Some(adopter) = adopter else {
            return spawn();
        };
        let mut minded = adopter
            .minded
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let handle = spawn()?;
        minded.push(Arc::clone(handle.process()));
        Ok(handle)
    }

    /// Reaps every orphan that has ended.
    fn reap(&self) -> io::Result<()> {
        let mut minded = self.minded.lock().unwrap_or_else(PoisonError::into_inner);
        for pid in children()? {
            // First: what is read by number is about this process where this can still be reaped after.
            let opened = u32::try_from(pid).ok().and_then(|pid| open_pidfd(pid).ok());
            let (Some(pidfd), Some(found)) = (opened, stat(pid)) else {
                continue;
            };
            if found.is_zombie
                && self.is_orphan(&found, &minded)
                && let Some(status) = reap_zombie(pidfd.as_fd())
            {
                tracing::debug!(target: "supervise_harness", pid, %status, "exit of an orphan");
            }
        }
        minded.retain(|agent| !agent.is_over());
        Ok(())
    }

    fn is_orphan(&self, found: &Stat, minded: &[Arc<Process>]) -> bool {
        let Child { pid, .. } = found.child;
        let is_agent =
            |agent: &&Arc<Process>| agent.pid() == pid.unsigned_abs() && !agent.is_reaped();
        if self.before.contains(&found.child) || minded.iter().any(|agent| is_agent(&agent)) {
            return false;
        }
        let own = getsid(None).map_or(self.session, nix::unistd::Pid::as_raw);
        let is_elsewhere = ![self.session, own, pid].contains(&found.session);
        let group = found.group.unsigned_abs();
        let is_left = || {
            let mut agents = minded.iter();
            found.group != pid && agents.any(|agent| agent.pid() == group && agent.has_group())
        };
        self.owns_process || is_elsewhere || is_left()
    }
}

/// The children of all threads of this process: what it has started, and what came to it.
fn children() -> io::Result<Vec<pid_t>> {
    let mut children = Vec::new();
    for thread in fs::read_dir("/proc/self/task")? {
        // A thread that has ended has none.
        let text = fs::read_to_string(thread?.path().join("children")).unwrap_or_default();
        children.extend(
            text.split_whitespace()
                .filter_map(|pid| pid.parse::<pid_t>().ok()),
        );
    }
    Ok(children)
}

/// What /proc/PID/stat says.
struct Stat {
    child: Child,
    is_zombie: bool,
    group: pid_t,
    session: pid_t,
}

fn stat(pid: pid_t) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // After the program's name in parentheses: from the third field on.
    let fields: Vec<&str> = text.rsplit(')').next()?.split_whitespace().collect();
    Some(Stat {
        child: Child {
            pid,
            start: fields.get(19)?.parse().ok()?,
        },
        is_zombie: *fields.first()? == "Z",
        group: fields.get(2)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
    })
}
