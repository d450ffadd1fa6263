//! The gate itself: what it knows of the sim, and what it has seen of it so far.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use nix::unistd::Pid;
use tokio::time::Instant as TokioInstant;

use super::at_work::AtWork;
use crate::sim::agent::Shared;
use crate::sim::children::Children;
use crate::sim::foreign::Foreigners;
use crate::sim::mark::Mark;
use crate::sim::orphans::Orphans;
use crate::sim::patience::Patience;
use crate::sim::pool::Pool;
use crate::sim::ready::Ready;
use crate::sim::sight::Sight;
use crate::sim::starved::Waited;
use crate::sim::tellers::Tellers;
use crate::sim::threads::Threads;
use crate::sim::waker::BodyWaker;
use crate::timestamp::Timestamp;

#[derive(Debug)]
pub(crate) struct Gate {
    pub(super) shared: Arc<Shared>,
    pub(super) sight: Arc<Sight>,
    pub(super) pool: Arc<Pool>,
    /// Wakes the body.
    pub(super) body: Arc<BodyWaker>,
    pub(super) children: Children,
    /// Children that this thread had before the sim. They are none of the sim's business.
    pub(super) before: HashSet<u32>,
    /// The clock's origin.
    origin: TokioInstant,
    /// The mark that the threads and the children of the code under test have inherited.
    pub(super) mark: Option<Arc<Mark>>,
    pub(super) threads: Threads,
    pub(super) foreigners: Foreigners,
    pub(super) orphans: Orphans,
    /// Whether a process that was no agent was seen to have ended since the last search for orphans.
    pub(super) has_seen_end: bool,
    pub(super) ready: Ready,
    /// Readable when the processes have said something.
    pub(super) news: OwnedFd,
    /// The time at which tokio last went on. Only tokio passes time, and only while it rests.
    pub(super) went_on: Option<TokioInstant>,
    /// Zombies that a thread of unknown origin may be about to reap, and since when each was there.
    pub(super) zombies: HashMap<u32, Instant>,
    /// Children that were seen registered with tokio, which was asked for their ends.
    pub(super) registered: HashSet<u32>,
    /// Children that were dropped and have ended. Tokio is to reap them when it next looks for events.
    pub(super) left: Vec<u32>,
    /// Since when `left` has been so.
    pub(super) left_since: Instant,
    /// The children that were in `left` before.
    pub(super) was_left: HashSet<u32>,
    /// The wait while only something that is no agent is at work.
    pub(super) unquiet: Patience,
    /// The wait of a process that has said hello.
    pub(super) welcome: Patience,
    /// The wait for processes that have connected and have not said hello.
    pub(super) silent: Patience,
    /// Whether other code of the sim than its agents' may have run since all its agents were looked at: the body or
    /// another task, a thread, or a process that is no agent.
    pub(super) has_run: bool,
    /// The other runtimes of this process.
    pub(super) tellers: Tellers,
    /// Whether an agent has ended whose parent, which is not this process, has to reap it.
    pub(super) awaits_reap: bool,
    /// The body's wait for that reap.
    pub(super) held: Patience,
    /// Whether all were at rest at the last look.
    pub(super) was_quiet: bool,
    /// Whether the body has settled after its last turn, and no task has had a turn since.
    pub(super) has_settled: bool,
    /// Whether the last look was at all threads and all processes.
    pub(super) saw_all: bool,
    /// Whether the sim may have a thread or a process that is no agent.
    pub(super) has_others: bool,
    /// Whether this look has seen such a thread or process.
    pub(super) sees_others: bool,
    /// How many threads this process had at the last look at them, if that can be told.
    pub(super) threads_seen: Option<u64>,
    /// Children of other threads. They have nothing to do with the sim.
    pub(super) strangers: HashSet<u32>,
    /// Processes that threads of the sim have started for another sim.
    pub(super) for_others: HashSet<u32>,
    /// Children of other threads that still run this program, and how long each has been waited for.
    pub(super) unexeced: HashMap<u32, Waited>,
    /// By thread of another sim: its children that have got through their exec, and how often that sim had come to rest
    /// when all of them had.
    pub(super) execed: HashMap<Pid, (HashSet<u32>, Option<u64>)>,
    /// Other sims' children that have not got through their exec, and how long each has been waited for.
    pub(super) forked: HashMap<u32, Waited>,
    /// Other sims' children that are about to get through it, and how long each had run when it had its new arguments,
    /// in nanoseconds.
    pub(super) exec_ends: HashMap<u32, u64>,
    /// Other sims whose code was at work after this sim's code was. They may have been in the middle of a fork.
    pub(super) at_work: HashMap<Pid, AtWork>,
    /// The turn of this sim's code after which `at_work` was seen.
    pub(super) at_work_in: u64,
    /// What had happened in this sim, and which children it had, when the other sims were last looked at.
    pub(super) looked_at: Option<(u64, Vec<u32>)>,
}

impl Gate {
    /// Makes the gate. Must be called on the sim's thread, inside its runtime.
    pub(crate) fn new(
        body: Arc<BodyWaker>,
        pool: Arc<Pool>,
        before: HashSet<u32>,
        mark: Option<Arc<Mark>>,
        mut ready: Ready,
        news: OwnedFd,
    ) -> Gate {
        ready.take_own();
        let program = body.shared.lock().program().map(str::to_owned);
        Gate {
            before,
            shared: Arc::clone(&body.shared),
            sight: Arc::clone(&body.sight),
            pool,
            body,
            children: Children::of_this_thread(),
            origin: TokioInstant::now(),
            foreigners: Foreigners::new(mark.clone(), program),
            mark,
            threads: Threads::new(),
            orphans: Orphans::default(),
            has_seen_end: false,
            ready,
            news,
            went_on: Some(TokioInstant::now()),
            zombies: HashMap::new(),
            registered: HashSet::new(),
            left: Vec::new(),
            left_since: Instant::now(),
            was_left: HashSet::new(),
            unquiet: Patience::default(),
            welcome: Patience::default(),
            silent: Patience::default(),
            has_run: true,
            tellers: Tellers::default(),
            awaits_reap: false,
            held: Patience::default(),
            was_quiet: true,
            has_settled: false,
            saw_all: false,
            has_others: true,
            sees_others: false,
            threads_seen: None,
            strangers: HashSet::new(),
            for_others: HashSet::new(),
            unexeced: HashMap::new(),
            execed: HashMap::new(),
            forked: HashMap::new(),
            exec_ends: HashMap::new(),
            at_work: HashMap::new(),
            at_work_in: 0,
            looked_at: None,
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::ORIGIN + (TokioInstant::now() - self.origin)
    }
}
