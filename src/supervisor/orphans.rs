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

use crate::pidfd::{open_pidfd, reap_zombie};
use crate::supervisor::process::Process;
use crate::supervisor::spawner::{AgentHandle, SpawnError};

/// Makes orphans children of this process, and reaps them when they have ended.
///
/// As long as this value lives, the whole process is a subreaper: a descendant whose parent ends
/// becomes a child of this process. A daemon orphans itself on purpose. The descendants of a killed
/// agent are orphaned by its death. Nobody else would ever wait for these processes.
///
/// If this process starts a child itself, the child's status is for the code that started it. The
/// kernel does not say who started a child. Therefore only a child that is certainly an orphan is
/// reaped:
///
/// - A child in a session that is neither this process's session nor led by the child, as after a
///   daemon's double fork. A process can only enter another session by making a new one, so this
///   process did not start the child.
/// - A child in the process group of an agent or of a probe, other than the agent or probe itself,
///   if its supervisor was [told](crate::supervisor::SupervisorBuilder::orphans) of this value. This process
///   must not put other children of its own into that group. The pidfd of the agent or probe
///   identifies the group, so a reused number is not mistaken for it.
///
/// Any other child may be one that this process started: for example a child that leads a session
/// of its own, or a process group in this process's session. It stays a zombie when it ends; but
/// see [`adopt_all`](Orphans::adopt_all). A child that existed before this value is never taken for
/// an orphan.
///
/// SIGCHLD tells that a child has ended. Tokio's handler receives it, and wakes every runtime of
/// the process. A process may inherit a signal mask that blocks SIGCHLD. In that case a thread that
/// takes only this signal lives as long as this value.
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

/// What `Orphans` knows about the children of this process, to tell which ones are orphans.
#[derive(Debug)]
pub(super) struct Adopter {
    /// Whether this process starts nothing but what is in `minded`.
    owns_process: bool,
    /// The children that existed when adoption began.
    before: BTreeSet<Child>,
    /// This process's session when adoption began. A child may be in it after this process has left
    /// it.
    session: pid_t,
    /// The agents and their probes. Each stays here until it is reaped and its process group is
    /// empty.
    minded: Mutex<Vec<Arc<Process>>>,
}

/// Identifies a child by what /proc says. The process id alone may be reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Child {
    pid: pid_t,
    /// When the child started, in clock ticks since boot.
    start: u64,
}

impl Orphans {
    /// Begins to adopt and reap orphans. This goes on until the value is dropped.
    ///
    /// # Errors
    ///
    /// If this is called outside a tokio runtime with I/O enabled, or if the children of this
    /// process cannot be listed.
    pub fn adopt() -> io::Result<Orphans> {
        Orphans::new(false)
    }

    /// Does what [`adopt`](Orphans::adopt) does, for a process that starts nothing but the agents
    /// of supervisors that are told of this value, as an init does. There every other child is an
    /// orphan, and is reaped. If the process starts other children all the same, their statuses are
    /// lost.
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
        // If this fails, the same call in `new` failed before.
        let _ = set_child_subreaper(self.was_subreaper);
    }
}

/// A thread that takes SIGCHLD. If every thread blocked the signal, its handler would never run.
#[derive(Debug)]
struct Taker {
    /// The thread lives until this sender is dropped.
    stay: Option<mpsc::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Taker {
    /// Starts a thread that takes SIGCHLD if the calling thread blocks it. Does not rely on other
    /// threads that take it: each of them may end, or block it later.
    fn where_blocked() -> io::Result<Option<Taker>> {
        if !SigSet::thread_get_mask()?.contains(Signal::SIGCHLD) {
            return Ok(None);
        }
        let (stay, gone) = mpsc::channel::<()>();
        let thread = thread::Builder::new().name("orphans".to_owned());
        let thread = thread.spawn(move || {
            // Blocks every other signal: their handlers are for the threads that other code has
            // made. The call fails for no valid set.
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
            // The thread does not panic.
            let _ = thread.join();
        }
    }
}

impl Adopter {
    /// Starts a process and, if there is an adopter, adds the process to `minded`. Nothing is
    /// reaped in between: the process may end before it is in `minded`, and would be taken for an
    /// orphan.
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
            // The pidfd is opened before the stat is read. If the pidfd can be reaped afterwards,
            // the number was not reused in between, and the stat is about this process.
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

/// Lists the children of all threads of this process: those that it started, and those that it
/// adopted.
fn children() -> io::Result<Vec<pid_t>> {
    let mut children = Vec::new();
    for thread in fs::read_dir("/proc/self/task")? {
        // A thread that has ended has no children.
        let text = fs::read_to_string(thread?.path().join("children")).unwrap_or_default();
        children.extend(
            text.split_whitespace()
                .filter_map(|pid| pid.parse::<pid_t>().ok()),
        );
    }
    Ok(children)
}

/// The fields of /proc/PID/stat that are needed here.
struct Stat {
    child: Child,
    is_zombie: bool,
    group: pid_t,
    session: pid_t,
}

fn stat(pid: pid_t) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // What follows the program's name in parentheses: the fields from the third on.
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
