//! The idle gate: whether everything provably waits for the clock, and whose turn it is.
//!
//! Tokio calls the gate when no task is ready, before it would advance a paused clock. The gate holds the runtime until
//! the processes of the sim have come to rest. Then it lets one thing happen:
//!
//! - the code under test takes in what is new; or
//! - one process acts; or
//! - time passes, if nobody has anything to do.
//!
//! Whenever time must not pass, the gate wakes a task, so that tokio turns once more instead.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::{Signal, raise};
use nix::sys::time::TimeSpec;
use nix::unistd::Pid;
use tokio::runtime::Handle;
use tokio::time::Instant as TokioInstant;

use super::children::{self, Children, ThreadsChildren, has_no_words, is_zombie};
use super::foreign::{Foreigners, Known, Standing, children_of_thread, has_ended};
use super::mark::Mark;
use super::orphans::Orphans;
use super::patience::Patience;
use super::pool::Pool;
use super::ready::Ready;
use super::sight::Sight;
use super::starved::{Waited, ran_for};
use super::tellers::Tellers;
use super::threads::{Activity, OthersChildren, Threads};
use super::waker::BodyWaker;
use crate::sim::agent::{KernelState, Locked, Member, Server, Shared};
use crate::timestamp::Timestamp;

/// real-time: how long the gate holds the runtime for something that is at work and is no agent. An agent comes to rest
/// by itself. Anything else may not, and it may wait for something that only a task can do.
const PATIENCE: Duration = Duration::from_millis(1);

/// real-time: how long time stands still for a zombie that tokio, or a thread of unknown origin, may be about to reap.
const REAPING: Duration = Duration::from_millis(100);

/// real-time: how long time stands still for another thread's child that still runs this program: a spawn returns
/// before its exec is done.
const EXEC: Duration = Duration::from_secs(1);

/// How long the end of an exec takes at most, in time on a processor.
const CLOSING: Duration = Duration::from_micros(500);

/// How long a fork takes at most, in time on a processor.
const FORK: Duration = Duration::from_micros(300);

/// real-time: how long a process that has said hello waits to be taken in while another process is at work that may
/// begin before it.
const WELCOME: Duration = Duration::from_millis(20);

/// real-time: how long a process that has connected counts as about to say hello, which holds up everything. It may
/// never say hello.
const HELLO: Duration = Duration::from_millis(20);

/// real-time: how long an agent that is due waits for something that is no agent and is at work.
const OTHERS: Duration = Duration::from_millis(20);

/// real-time: how long the gate holds the runtime at most while some process that is no agent always goes on.
const GOING_ON: Duration = Duration::from_millis(100);

/// real-time: how long the gate waits for news of the processes before it looks at them again.
const LOOK: Duration = Duration::from_micros(200);

/// real-time: how long the gate looks without a pause at an agent that is about to rest.
const SOON: Duration = Duration::from_micros(100);

/// real-time: how long the end of the body waits for an agent or a thread that does not come to rest.
const ENDING: Duration = Duration::from_secs(1);

/// How many tasks a sim has of its own.
const OWN_TASKS: usize = 2;

/// Which agents may have been signalled since they said that they rest.
#[derive(Clone, Copy)]
enum Suspects {
    All,
    /// The one that acts, by its place: nobody else is at work.
    One(usize),
    Nobody,
}

/// What is looked at besides the agents.
#[derive(Clone, Copy)]
enum Beside {
    /// All threads and processes.
    All,
    /// Threads and processes that were not there at the last look. This will do after a turn of the body: the others
    /// are looked at when tokio comes to rest.
    New,
    /// Nothing: everything was looked at, and since then nobody but agents was there to start anything.
    Nothing,
}

/// What tokio may do.
#[derive(Debug)]
enum Verdict {
    /// The watchdog has ended the sim, and says what was seen until then.
    Over,
    /// The tasks have a turn, and time stands still.
    Turn,
    /// The tasks have a turn, and time stands still. Only the code under test is at work.
    Pending,
    /// Time may pass.
    Open,
}

/// Who is at work.
enum Survey {
    /// An agent: it comes to rest by itself.
    Agent,
    /// A process that is about to be an agent, or is dying.
    Start,
    /// A process was taken in just now.
    Welcomed,
    /// A thread of the code under test.
    Thread,
    /// Something that is no agent, or that cannot be seen.
    Other,
    /// Nobody.
    Nobody,
}

/// How the thread of another sim stands while that sim's code is at work.
#[derive(Clone, Debug)]
struct AtWork {
    parks: u64,
    /// How long the thread has run, in nanoseconds.
    ran: Option<u64>,
    at: Instant,
}

impl AtWork {
    fn now(thread: Pid, sight: &Sight) -> AtWork {
        AtWork {
            parks: sight.parks.load(Ordering::Acquire),
            ran: ran_for(thread.as_raw().unsigned_abs()),
            at: Instant::now(),
        }
    }

    /// Whether the thread has got through a fork that it may have been in the middle of.
    fn has_gone_on(&self, now: &AtWork) -> bool {
        // A thread that began since may have the number of one that ended.
        let ran = now.ran.zip(self.ran);
        let ran = ran.map(|(now, then)| now.saturating_sub(then));
        let has_run = ran.is_none_or(|ran| Duration::from_nanos(ran) > FORK);
        self.parks != now.parks || has_run || now.at - self.at > EXEC
    }
}

/// How many threads this process has, if that can be told, and the children of the sim's thread.
type Listed = (Option<u64>, Vec<u32>);

#[derive(Debug)]
pub(crate) struct Gate {
    shared: Arc<Shared>,
    sight: Arc<Sight>,
    pool: Arc<Pool>,
    /// Wakes the body.
    body: Arc<BodyWaker>,
    children: Children,
    /// Children that this thread had before the sim. They are none of the sim's business.
    before: HashSet<u32>,
    /// The clock's origin.
    origin: TokioInstant,
    /// The mark that the threads and the children of the code under test have inherited.
    mark: Option<Arc<Mark>>,
    threads: Threads,
    foreigners: Foreigners,
    orphans: Orphans,
    /// Whether a process that was no agent was seen to have ended since the last search for orphans.
    has_seen_end: bool,
    ready: Ready,
    /// Readable when the processes have said something.
    news: OwnedFd,
    /// The time at which tokio last went on. Only tokio passes time, and only while it rests.
    went_on: Option<TokioInstant>,
    /// Zombies that a thread of unknown origin may be about to reap, and since when each was there.
    zombies: HashMap<u32, Instant>,
    /// Children that were seen registered with tokio, which was asked for their ends.
    registered: HashSet<u32>,
    /// Children that were dropped and have ended. Tokio is to reap them when it next looks for events.
    left: Vec<u32>,
    /// Since when `left` has been so.
    left_since: Instant,
    /// The children that were in `left` before.
    was_left: HashSet<u32>,
    /// The wait while only something that is no agent is at work.
    unquiet: Patience,
    /// The wait of a process that has said hello.
    welcome: Patience,
    /// The wait for processes that have connected and have not said hello.
    silent: Patience,
    /// Whether other code of the sim than its agents' may have run since all its agents were looked at: the body or
    /// another task, a thread, or a process that is no agent.
    has_run: bool,
    /// The other runtimes of this process.
    tellers: Tellers,
    /// Whether an agent has ended whose parent, which is not this process, has to reap it.
    awaits_reap: bool,
    /// The body's wait for that reap.
    held: Patience,
    /// Whether all were at rest at the last look.
    was_quiet: bool,
    /// Whether the body has settled after its last turn, and no task has had a turn since.
    has_settled: bool,
    /// Whether the last look was at all threads and all processes.
    saw_all: bool,
    /// Whether the sim may have a thread or a process that is no agent.
    has_others: bool,
    /// Whether this look has seen such a thread or process.
    sees_others: bool,
    /// How many threads this process had at the last look at them, if that can be told.
    threads_seen: Option<u64>,
    /// Children of other threads. They have nothing to do with the sim.
    strangers: HashSet<u32>,
    /// Processes that threads of the sim have started for another sim.
    for_others: HashSet<u32>,
    /// Children of other threads that still run this program, and how long each has been waited for.
    unexeced: HashMap<u32, Waited>,
    /// By thread of another sim: its children that have got through their exec, and how often that sim had come to rest
    /// when all of them had.
    execed: HashMap<Pid, (HashSet<u32>, Option<u64>)>,
    /// Other sims' children that have not got through their exec, and how long each has been waited for.
    forked: HashMap<u32, Waited>,
    /// Other sims' children that are about to get through it, and how long each had run when it had its new arguments,
    /// in nanoseconds.
    exec_ends: HashMap<u32, u64>,
    /// Other sims whose code was at work after this sim's code was. They may have been in the middle of a fork.
    at_work: HashMap<Pid, AtWork>,
    /// The turn of this sim's code after which `at_work` was seen.
    at_work_in: u64,
    /// What had happened in this sim, and which children it had, when the other sims were last looked at.
    looked_at: Option<(u64, Vec<u32>)>,
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

    /// Tokio calls this before it parks.
    pub(crate) fn park(&mut self) {
        if !self.left.is_empty() {
            // Tokio has not reaped them yet. The call fails only for what is no signal.
            let _ = raise(Signal::SIGCHLD);
            return self.shared.timer.notify_one();
        }
        let verdict = self.judge();
        let is_open = matches!(verdict, Verdict::Open | Verdict::Pending);
        if !matches!(verdict, Verdict::Over) {
            self.sight.is_open.store(is_open, Ordering::Relaxed);
        }
        if has_tasks() {
            self.sight.see_turn();
        }
        if is_open {
            self.sight.open();
            let opened = self.sight.opened.lock();
            *opened.unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        if !matches!(verdict, Verdict::Open) {
            // A task that is woken keeps tokio from advancing the clock.
            self.shared.timer.notify_one();
        }
        if self.left.is_empty() && !self.holds_body() {
            self.body.pass_on();
        }
    }

    /// Whether the body has to wait: a shell that the body may hear of is still at work, and reaps an agent before it
    /// ends.
    fn holds_body(&mut self) -> bool {
        if self.was_quiet || !self.awaits_reap || !self.body.is_woken() {
            self.held.end();
            return false;
        }
        !self.held.is_over(OTHERS, &self.foreigners.running)
    }

    /// Tokio calls this when it goes on.
    pub(crate) fn unpark(&mut self) {
        self.went_on = Some(TokioInstant::now());
        {
            // Tokio has found what these did.
            let shared = Arc::clone(&self.shared);
            let mut server = shared.lock();
            server.actors.clear();
            server.strange_deaths.clear();
            server.turns_of_code += 1;
            self.await_reaps(&server);
        }
        // What woke the body meanwhile was in order. If somebody was at work, there is more to take in first.
        if self.left.is_empty() && self.was_quiet {
            self.body.pass_on();
        }
    }

    fn judge(&mut self) -> Verdict {
        let shared = Arc::clone(&self.shared);
        let server = shared.lock();
        // The watchdog takes this lock after it sets `is_over`, and before it frees its spare descriptor.
        if self.sight.is_over.load(Ordering::Acquire) {
            // The body may have come to its end, and wait until what it did last shows.
            shared.settled.notify_one();
            return Verdict::Over;
        }
        if self.sight.why_faulted().is_some() || self.check_clock() {
            // The sim cannot go on, and what happens from here on has no time.
            return Verdict::Turn;
        }
        let (suspects, beside) = self.suspects(&server);
        if server.is_ending {
            // The wait begins here, however long the look takes.
            let _ = self.is_unquiet_for_long();
        }
        let (mut server, quiet, mut news) = self.take_in(&shared, server, suspects, beside);
        // The next turn shows whether the process that has ended was reaped.
        news |= server.has_just_ended();
        // Asked before `is_pending`: what the others tell is pending by then.
        let quiet = quiet && (news || !self.others_may_tell(&server));
        let is_pending = !news && (self.body.is_woken() || self.ready.is_pending());
        if server.is_ending && !news && !is_pending {
            // Another sim may have forked a child, and a shell may be about to reap.
            if !quiet && !self.is_unquiet_for_long() {
                return Verdict::Turn;
            }
            server.look_at_parents();
            if self.have_tokio_reap_unseen(&server) {
                return Verdict::Turn;
            }
            // No more than that is done: nobody has a turn after the body.
            shared.settled.notify_one();
            return Verdict::Turn;
        }
        if !news && !is_pending && (quiet || self.is_unquiet_for_long()) {
            // Only one thing at a time: two that act at once would race.
            news = server.see_rest() || server.see_blocked() || ask_watchers(&mut server);
            if !news && let Some(member) = server.grant_next_turn() {
                news = true;
                server = self.see_turn(&shared, server, member);
            }
        }
        if quiet || news || is_pending {
            self.unquiet.end();
        }
        self.hand_over(&mut server, has_tasks());
        self.awaits_reap = server.awaits_reap_by_others();
        self.have_tokio_reap(&server);
        if news {
            shared.changed.notify_waiters();
            return Verdict::Turn;
        }
        match (quiet, is_pending) {
            (true, false) => Verdict::Open,
            (true, true) => Verdict::Pending,
            (false, _) => Verdict::Turn,
        }
    }

    /// Lets the member have the turn that it was granted. Then grants the next turns that begin a script, as long as
    /// each leads to nothing but rest: the code under test then has nothing new to come to rest with.
    fn see_turn<'a>(
        &mut self,
        shared: &'a Shared,
        mut server: Locked<'a>,
        mut member: usize,
    ) -> Locked<'a> {
        loop {
            let before = server.progress;
            // A thread or a shell that hears of the turn may signal anybody.
            let suspects = if self.has_others || server.has_blocked() {
                Suspects::All
            } else {
                Suspects::One(member)
            };
            let is_settled;
            (server, is_settled) = self.settle(shared, server, suspects, Beside::Nothing);
            let is_all = is_settled
                && server.progress == before
                && !self.has_others
                && server.next_turn_begins()
                && !self.ready.is_pending();
            if !is_all {
                if is_settled {
                    server.see_rest();
                }
                return server;
            }
            match server.grant_next_turn() {
                Some(next) => member = next,
                None => return server,
            }
        }
    }

    /// Whether something that is no agent has been at work for long while nothing else happens. It holds up time, but
    /// not the agents that are due already.
    fn is_unquiet_for_long(&mut self) -> bool {
        self.unquiet.is_over(OTHERS, &self.foreigners.running)
    }

    /// Takes in what was done in a turn of the body, after each turn. If the body yields, tokio looks for events
    /// without coming to rest.
    pub(crate) fn settle_after_body(&mut self) {
        let shared = Arc::clone(&self.shared);
        let server = shared.lock();
        if self.sight.is_over.load(Ordering::Acquire)
            || self.sight.why_faulted().is_some()
            || self.check_clock()
        {
            return;
        }
        let (mut server, quiet, news) = self.take_in(&shared, server, Suspects::All, Beside::New);
        // No task runs after the body that could signal anybody.
        self.has_settled = quiet && !has_tasks();
        self.hand_over(&mut server, true);
        if news {
            shared.changed.notify_waiters();
            shared.timer.notify_one();
        }
    }

    /// Takes in what the code under test and the processes did, until all are at rest. Returns whether they are at
    /// rest, and whether there is news for the tasks.
    fn take_in<'a>(
        &mut self,
        shared: &'a Shared,
        mut server: Locked<'a>,
        suspects: Suspects,
        beside: Beside,
    ) -> (Locked<'a>, bool, bool) {
        let before = server.progress;
        // What the supervisors have said while the tasks ran.
        server.hear_supervisors();
        server.now = self.now();
        server.begin_step();
        let (mut server, quiet) = self.settle(shared, server, suspects, beside);
        // The timer has to hear of new waits.
        let has_new_deadline = std::mem::take(&mut server.has_new_deadline);
        let news = server.progress != before || has_new_deadline;
        (server, quiet, news)
    }

    /// Notes that the body is being polled.
    pub(crate) fn run(&mut self) {
        self.sight.see_turn();
        self.has_run = true;
        self.has_settled = false;
    }

    /// Which agents may have been woken since all were looked at, and what may have been done besides the agents. An
    /// agent signals nobody. But its death signals whoever started it, and closing a stream signals whoever writes
    /// there.
    fn suspects(&self, server: &Server) -> (Suspects, Beside) {
        let is_childless = |(_, member): (usize, &Member)| member.is_child && !member.is_descendant;
        let others_run = self.has_others || has_tasks() || !server.alive().all(is_childless);
        if others_run || self.has_run && !self.has_settled {
            return (Suspects::All, Beside::All);
        }
        let suspects = if server.has_blocked() {
            Suspects::All
        } else {
            Suspects::Nobody
        };
        let beside = if self.has_run {
            Beside::All
        } else {
            Beside::Nothing
        };
        (suspects, beside)
    }

    /// Lets the tasks go on: puts what they find in an order, and makes what they do come after it.
    fn hand_over(&mut self, server: &mut Server, is_after_code: bool) {
        let is_one = server.actors.len() + server.strange_deaths.len() <= 1;
        // Tokio's drop may have reaped some of the processes that the code under test itself has ended. These are not
        // among the actors, but their output ends all the same.
        if !is_one || is_after_code && self.ready.is_pending() {
            let server = &*server;
            let rank = |descriptor| server.place_of(descriptor);
            self.ready
                .put_in_order(rank, &server.ended_since_the_last_look());
        }
        server.begin_step();
    }

    /// Whether another runtime may be about to tell the tasks of a signal, such as SIGCHLD, or to reap.
    fn others_may_tell(&mut self, server: &Server) -> bool {
        let registered = &self.registered;
        let may_have_left = || may_have_left(server, registered);
        self.tellers
            .are_there(server.ends, &self.children, may_have_left)
    }

    /// Whether anybody has passed time except tokio at rest. Code that passes time itself leaves behind everybody who
    /// waits by this clock. If so, the sim cannot go on.
    fn check_clock(&mut self) -> bool {
        let now = TokioInstant::now();
        let is_running = TokioInstant::now() != now;
        let call = match self.went_on {
            _ if is_running => "tokio::time::resume",
            Some(before) if before != now => "tokio::time::advance",
            _ => return false,
        };
        self.sight.fault(format!(
            "the code under test called `{call}`: the sim's clock is passed by the sim alone, when everything waits \
             for it. Use `tokio::time::sleep`, which takes no real time here"
        ));
        true
    }

    /// Takes in what the processes do until none is at work. Returns false if something that is no agent still is after
    /// a while, or if the sim is being ended.
    fn settle<'a>(
        &mut self,
        shared: &'a Shared,
        mut server: Locked<'a>,
        suspects: Suspects,
        beside: Beside,
    ) -> (Locked<'a>, bool) {
        let mut ending = Waited::default();
        // The wait for something that may never come to rest. Time spent on other work, which is sure to end, does not
        // count.
        let mut waited = Duration::ZERO;
        let (mut threads, mut processes) = (Patience::default(), Patience::default());
        self.was_quiet = false;
        server.pump(Duration::ZERO);
        loop {
            let survey = self.survey(&mut server, suspects, beside);
            if let Survey::Welcomed = survey {
                continue;
            }
            if let Survey::Nobody = survey
                && barrier(&mut server, suspects)
            {
                let before = server.progress;
                server.pump(Duration::ZERO);
                if server.progress == before && !server.see_thawed() {
                    server.look_at_parents();
                    if self.saw_all {
                        self.has_run = has_tasks();
                        server.see_readers(std::mem::take(&mut self.foreigners.reading));
                    }
                    self.was_quiet = true;
                    return (server, true);
                }
                continue;
            }
            let is_given_up = server.is_ending && {
                let agents = server.alive().map(|(_, member)| member.pid);
                let all: Vec<u32> = agents.chain(self.foreigners.running.clone()).collect();
                ending.for_these(&all) > ENDING
            };
            let is_over_long = match survey {
                // Whoever runs does not wait for a task.
                Survey::Other if !self.foreigners.running.is_empty() => {
                    processes.is_over_within(OTHERS, GOING_ON, &self.foreigners.running)
                }
                Survey::Other => waited >= PATIENCE,
                // If nobody else is at work, the barrier has found that an agent was woken.
                _ if server.is_ending => is_given_up,
                // A thread that gets no processor may have a signal's handler to run.
                Survey::Thread => threads.is_over(OTHERS, &self.foreigners.running),
                Survey::Agent | Survey::Start | Survey::Nobody | Survey::Welcomed => false,
            };
            // An agent that was signalled is at work beside whatever else is, so the gate waits for it.
            let is_let_go = is_over_long && (is_given_up || barrier(&mut server, suspects));
            if is_let_go {
                return (server, false);
            }
            // The lock is free during the pause, so that the watchdog can look.
            drop(server);
            let pause = match survey {
                // The hello ends this pause. A look takes the lock of the process's memory, which the process's exec
                // needs.
                Survey::Start => LOOK * 8,
                _ => LOOK,
            };
            let paused = Instant::now();
            self.wait_for_news(pause);
            if let Survey::Other = survey {
                // Beside enough other work on the machine a pause is long, and nothing was done in it.
                waited += paused.elapsed().min(LOOK);
            }
            server = shared.lock();
            // The watchdog has freed its spare descriptor: what shows now is not what held up the sim.
            if self.sight.is_over.load(Ordering::Acquire) {
                return (server, false);
            }
            server.pump(Duration::ZERO);
        }
    }

    /// Waits a little while for what the processes say.
    fn wait_for_news(&self, pause: Duration) {
        let mut fds = [PollFd::new(self.news.as_fd(), PollFlags::POLLIN)];
        // An error is EINTR: nothing has come.
        let _ = ppoll(&mut fds, Some(TimeSpec::from_duration(pause)), None);
    }

    /// Looks at every process of the sim. Something that cannot be seen may be at work.
    fn survey(&mut self, server: &mut Server, suspects: Suspects, beside: Beside) -> Survey {
        let mut listed = None;
        let is_short = match beside {
            Beside::All => false,
            Beside::New => {
                listed = self.children.list_with_threads().ok();
                let has_started = |listed| self.has_started_others(server, listed);
                !listed.as_ref().is_none_or(has_started)
            }
            Beside::Nothing => true,
        };
        let nobody_comes =
            || server.silent_strangers().is_empty() && server.hellos().next().is_none();
        if is_short && !self.has_others && nobody_comes() {
            self.saw_all = false;
            // The process's first thread is told if a child has died, or if the body has sent a signal to its own
            // process.
            let may_be_told = match suspects {
                Suspects::All => true,
                Suspects::One(member) => !server.members[member].is_alive(),
                Suspects::Nobody => false,
            };
            return if agents_are_at_work(server) {
                Survey::Agent
            } else if may_be_told && self.threads.leader_is_at_work() {
                self.foreigners.running = vec![std::process::id()];
                Survey::Thread
            } else {
                Survey::Nobody
            };
        }
        self.saw_all = true;
        let seen = self.look(server, listed);
        let mut blind = self
            .sight
            .blind
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match seen {
            Ok(survey) => {
                *blind = None;
                survey
            }
            Err(why) => {
                self.has_others = true;
                *blind = Some(why);
                Survey::Other
            }
        }
    }

    /// Whether there may be threads or processes that are no agents and were not there at the last look.
    fn has_started_others(&self, server: &Server, (threads, children): &Listed) -> bool {
        let is_known = |pid: &u32| self.before.contains(pid) || server.member_of(*pid).is_some();
        *threads != self.threads_seen || !children.iter().all(is_known)
    }

    /// Who is at work; the error says what cannot be seen, and why. What was listed just now need not be listed again.
    fn look(&mut self, server: &mut Server, listed: Option<Listed>) -> Result<Survey, String> {
        if agents_are_at_work(server) {
            return Ok(Survey::Agent);
        }
        let (threads, mut children) = listed
            .map_or_else(|| self.children.list_with_threads(), Ok)
            .map_err(blind("the children of this thread cannot be listed"))?;
        self.threads_seen = threads;
        let happened = (server.progress, children.clone());
        // True until everything was looked at.
        self.has_others = true;
        self.sees_others = false;
        self.foreigners.begin_look();
        self.sight.begin_look();
        // Done first: if one is about to be an agent, nothing else has to be looked at.
        let mut is_busy = match self.standing(server, &children)? {
            Standing::Begins => return Ok(Survey::Start),
            standing => standing == Standing::Busy,
        };
        let others = self.children.of_other_threads();
        let others = others.map_err(blind("the children of other threads cannot be listed"))?;
        let mut sorted = match &self.mark {
            Some(mark) => self.threads.sort(mark, &others),
            None => OthersChildren::unknown(&others),
        };
        self.leave_to_others(server, &mut sorted.own)
            .map_err(blind(UNKNOWN_CHILD))?;
        match self.standing(server, &sorted.own)? {
            Standing::Begins => return Ok(Survey::Start),
            standing => is_busy |= standing == Standing::Busy,
        }
        children.extend(&sorted.own);
        let hellos: HashSet<u32> = server.hellos().collect();
        match self.orphans_stand(server, &hellos)? {
            Standing::Begins => return Ok(Survey::Start),
            standing => is_busy |= standing == Standing::Busy,
        }
        if is_busy {
            // Such a process comes and goes without a word, so that what was seen of other sims no longer counts.
            self.looked_at = None;
        }
        if self.others_start_agents(server, &sorted.strangers)? {
            return Ok(Survey::Start);
        }
        if !hellos.is_empty() {
            if is_busy && !self.welcome.is_over(WELCOME, &self.foreigners.running) {
                return Ok(Survey::Start);
            }
            // A process that is awake after its hello was signalled, and may be dying.
            if hellos.iter().any(|pid| !comes_to_rest(|| is_awake(*pid))) {
                return Ok(Survey::Agent);
            }
            self.welcome.end();
            // Code that starts one process after the other has reaped the one before.
            if hellos.iter().any(|pid| sorted.own.contains(pid)) {
                server.see_reaped();
            }
            server.look_at_parents();
            server.welcome_all(&children);
            self.registered.extend(self.ready.pids());
            self.registered
                .retain(|pid| server.member_of(*pid).is_some());
            return Ok(Survey::Welcomed);
        }
        if self.threads_are_at_work(&others)? {
            return Ok(Survey::Thread);
        }
        let strangers = server.silent_strangers();
        if strangers.is_empty() {
            self.silent.end();
        } else {
            let running: Vec<u32> = strangers.into_iter().filter(|pid| is_awake(*pid)).collect();
            return Ok(match self.silent.is_over(HELLO, &running) {
                true => Survey::Other,
                false => Survey::Start,
            });
        }
        if is_busy {
            return Ok(Survey::Other);
        }
        if self.zombies_are_unsettled(server, &children)
            || self.others_fork(server.turns_of_code, happened)?
        {
            return Ok(Survey::Other);
        }
        self.has_others = self.sees_others || self.orphans.are_there();
        Ok(Survey::Nobody)
    }

    /// Leaves out what threads of this sim have started for other sims. All sims may share such threads.
    fn leave_to_others(&mut self, server: &Server, own: &mut Vec<u32>) -> io::Result<()> {
        self.for_others.retain(|pid| own.contains(pid));
        for &pid in &*own {
            let is_known = server.member_of(pid).is_some() || self.for_others.contains(&pid);
            if !is_known && children::is_for_another_sim(pid, server.address())? {
                self.for_others.insert(pid);
            }
        }
        own.retain(|pid| !self.for_others.contains(pid));
        Ok(())
    }

    /// How the orphans stand, all together.
    fn orphans_stand(
        &mut self,
        server: &mut Server,
        hellos: &HashSet<u32>,
    ) -> Result<Standing, String> {
        let is_over = |server: &Server, pid: u32| {
            let is_known = server.member_of(pid).is_some() || hellos.contains(&pid);
            let is_anothers = || {
                let seen = children::is_for_another_sim(pid, server.address());
                matches!(seen, Ok(true))
            };
            is_known || server.has_refused(pid) || has_ended(pid) || is_anothers()
        };
        // A shell that became an agent may have started other processes before.
        for &pid in hellos {
            let below = children_of_thread(pid, pid).map_err(blind(UNKNOWN_CHILD))?;
            below.into_iter().for_each(|pid| self.orphans.add(pid));
        }
        let living = self.orphans.living(|pid| is_over(server, pid));
        let standing = self.standing(server, &living)?;
        if standing == Standing::Begins {
            return Ok(standing);
        }
        let there = std::mem::take(&mut self.foreigners.there);
        let has_seen_end = std::mem::take(&mut self.has_seen_end);
        let before = &self.before;
        let is_known = |pid| {
            let is_agent = server.member_of(pid).is_some() || hellos.contains(&pid);
            is_agent || server.has_refused(pid) || before.contains(&pid)
        };
        let are_more = self
            .orphans
            .look(self.mark.as_deref(), there, has_seen_end, &is_known)
            .map_err(|unreadable| {
                format!("what has lost its parent cannot be told: {unreadable}")
            })?;
        if !are_more {
            return Ok(standing);
        }
        let living = self.orphans.living(|pid| is_over(server, pid));
        self.standing(server, &living)
    }

    /// How those of `children` stand that are no agents, all together.
    fn standing(&mut self, server: &mut Server, children: &[u32]) -> Result<Standing, String> {
        let hellos: HashSet<u32> = server.hellos().collect();
        let mut all = Standing::AtRest;
        for &pid in children {
            let is_known = server
                .member_of(pid)
                .is_some_and(|member| member.said_hello);
            if is_known || hellos.contains(&pid) || self.before.contains(&pid) {
                continue;
            }
            self.sees_others = true;
            let address = server.address().to_owned();
            let known = |pid: u32| match server.member_of(pid) {
                Some(member) if !member.is_alive() => Known::Ended,
                Some(_) => Known::Agent,
                None if hellos.contains(&pid) => Known::Agent,
                None => Known::Other,
            };
            let standing = self.foreigners.standing(pid, &address, &known);
            self.sight.see(pid);
            match standing.map_err(blind(UNKNOWN_CHILD))? {
                // A zombie that its supervisor has told of is a run without a hello.
                Standing::Zombie if server.member_of(pid).is_some() => {}
                Standing::Zombie => self.has_seen_end |= server.see_zombie(pid),
                Standing::Begins => return Ok(Standing::Begins),
                Standing::AtRest => {}
                Standing::Busy => {
                    self.sight.see_busy(pid);
                    all = Standing::Busy;
                }
            }
        }
        Ok(all)
    }

    /// Whether a thread of the code under test is at work.
    fn threads_are_at_work(&mut self, others: &[ThreadsChildren]) -> Result<bool, String> {
        let Some(mark) = &self.mark else {
            self.sees_others |= !others.is_empty();
            return Ok(false);
        };
        let threads: Vec<u32> = others.iter().map(|(thread, _)| *thread).collect();
        let is_pool = |thread| self.pool.has(thread);
        let activity = self.threads.activity(mark, &threads, &is_pool);
        self.sees_others |= self.threads.are_there;
        match activity.map_err(blind("what other threads do cannot be told"))? {
            Activity::AtRest => Ok(false),
            Activity::Busy(thread) => {
                self.foreigners.running.push(thread);
                Ok(true)
            }
            Activity::OwnRuntime(name) => {
                self.sight.fault(format!(
                    "the code under test runs a runtime of its own, whose thread is `{name}`: its timers go by the \
                     machine's clock, and virtual time cannot wait for them. Run its tasks on the sim's runtime, \
                     with `tokio::spawn` or `tokio::task::spawn_local` in the body, or use `Sim::builder().real_time()`"
                ));
                Ok(true)
            }
        }
    }

    /// Whether there is a zombie that somebody of unknown origin may be about to reap. The sim's own threads have seen
    /// the zombies of their children, and wait. But another thread may have started this one.
    fn zombies_are_unsettled(&mut self, server: &Server, own: &[u32]) -> bool {
        let is_foreign =
            |member: &&Member| self.mark.is_none() || member.is_child && !own.contains(&member.pid);
        // For the server, a process that the code under test has reaped in this turn is still a zombie.
        let is_there = |member: &&Member| member.death().is_none_or(|death| !death.is_reaped);
        let zombies = server.zombies().filter(is_foreign).filter(is_there);
        let zombies: Vec<u32> = zombies.map(|member| member.pid).collect();
        self.zombies.retain(|pid, _| zombies.contains(pid));
        let mut is_new = false;
        for pid in zombies {
            let since = *self.zombies.entry(pid).or_insert_with(Instant::now);
            is_new |= since.elapsed() < REAPING;
        }
        is_new && !children::other_threads_are_quiet()
    }

    /// Makes tokio reap, when it looks for events, the ended children that the code under test has left to it: whoever
    /// drops a child drops its registration. Tokio looks for such children after a SIGCHLD. The kernel's SIGCHLD may
    /// still be on its way, to any thread of this process. The one that is raised here is there at once.
    fn have_tokio_reap(&mut self, server: &Server) {
        let is_left = |member: &&Member| {
            self.registered.contains(&member.pid)
                && !self.was_left.contains(&member.pid)
                && member.death().is_some_and(|death| !death.is_reaped)
        };
        let mut left: Vec<u32> = server
            .zombies()
            .filter(is_left)
            .map(|member| member.pid)
            .collect();
        if left.is_empty() {
            return;
        }
        let registered = self.ready.pids();
        left.retain(|pid| !registered.contains(pid));
        if left.is_empty() {
            return;
        }
        // This fails only for what is no signal.
        let _ = raise(Signal::SIGCHLD);
        self.was_left.retain(|pid| server.member_of(*pid).is_some());
        self.was_left.extend(&left);
        (self.left, self.left_since) = (left, Instant::now());
    }

    /// Does the same at the end of the body, for all children that were never seen registered: a runtime that is no
    /// sim's may have been in the way. Returns whether there are any. Children that tokio was never asked for are later
    /// found to be left behind.
    fn have_tokio_reap_unseen(&mut self, server: &Server) -> bool {
        if !may_have_left(server, &self.registered) {
            return false;
        }
        // If they cannot be listed, the end of the sim says so.
        let mut left = self.children.list().unwrap_or_default();
        left.retain(|pid| {
            let is_known = self.before.contains(pid) || self.was_left.contains(pid);
            !is_known && is_zombie(*pid)
        });
        if left.is_empty() {
            return false;
        }
        self.was_left.extend(&left);
        (self.left, self.left_since) = (left, Instant::now());
        true
    }

    /// Waits a little until tokio has reaped those in `left`, if another sim's runtime is at it: the runtimes all reap
    /// for each other. If two of them look at once, tokio may miss a child, and has to look again.
    fn await_reaps(&mut self, server: &Server) {
        let is_zombie = |pid: &u32| match server.member_of(*pid) {
            Some(member) => member.death().is_some_and(|death| !death.is_reaped),
            None => is_zombie(*pid),
        };
        let begun = Instant::now();
        while !self.left.is_empty() && begun.elapsed() < PATIENCE {
            self.left.retain(is_zombie);
            std::thread::yield_now();
        }
        if self.left_since.elapsed() > REAPING {
            self.left.clear();
        }
    }

    /// Whether another sim has forked a child that has not got through its exec. Until then the child holds a copy of
    /// every descriptor of this process, and a pipe of this sim does not end.
    ///
    /// A child that is forked while nothing happens in this sim does not matter any more: no pipe was made meanwhile.
    /// So sims that fork all the time hold up nobody.
    fn others_fork(&mut self, turn: u64, happened: (u64, Vec<u32>)) -> Result<bool, String> {
        if self.at_work_in != turn {
            self.at_work.clear();
            self.at_work_in = turn;
        }
        // A fork that was on its way may still hold what the body has closed meanwhile.
        let is_seen = self.looked_at.as_ref() == Some(&happened) && !self.has_run;
        if is_seen && self.at_work.is_empty() {
            let mut left = HashMap::new();
            for (pid, mut waited) in std::mem::take(&mut self.forked) {
                let is_over = waited.for_these(&[pid]) >= EXEC;
                if !is_over && (starts(pid)? || closes(&mut self.exec_ends, pid)) {
                    left.insert(pid, waited);
                }
            }
            self.forked = left;
            return Ok(!self.forked.is_empty());
        }
        let sims = children::other_sims();
        self.execed
            .retain(|thread, _| sims.iter().any(|(other, _)| other == thread));
        self.forked.clear();
        let (mut is_one_at_work, mut has_streams) = (false, None);
        for (thread, sight) in sims {
            // In this order: what the other sim forks after it was seen at rest has none of this sim's pipes.
            let is_parked = sight.is_parked.load(Ordering::Acquire);
            let parks = sight.parks.load(Ordering::Acquire);
            let (execed, clear_at) = self.execed.entry(thread).or_default();
            if is_parked && *clear_at == Some(parks) {
                self.at_work.remove(&thread);
                continue;
            }
            // A fork copies the descriptors before its child can be seen.
            let may_fork = sight.runs_code.load(Ordering::Acquire) && !children::is_quiet(thread);
            if may_fork && *has_streams.get_or_insert_with(|| self.ready.has_streams()) {
                let now = AtWork::now(thread, &sight);
                let since = self.at_work.entry(thread).or_insert_with(|| now.clone());
                if !since.has_gone_on(&now) {
                    is_one_at_work = true;
                    continue;
                }
            }
            let children = children::of_busy_thread(thread)
                .map_err(blind("the children of another sim cannot be listed"))?
                .unwrap_or_default();
            execed.retain(|pid| children.contains(pid));
            let mut is_clear = true;
            for pid in children {
                if execed.contains(&pid) {
                    continue;
                }
                if starts(pid)? || closes(&mut self.exec_ends, pid) {
                    self.forked.insert(pid, Waited::default());
                    is_clear = false;
                } else {
                    execed.insert(pid);
                }
            }
            *clear_at = (is_clear && is_parked).then_some(parks);
        }
        if !is_one_at_work {
            self.at_work.clear();
        }
        let forked = &self.forked;
        self.exec_ends.retain(|pid, _| forked.contains_key(pid));
        self.looked_at = Some(happened);
        Ok(is_one_at_work || !self.forked.is_empty())
    }

    /// Whether a thread that the code under test has not started, but may use, has forked an agent that has not said
    /// hello.
    fn others_start_agents(&mut self, server: &Server, children: &[u32]) -> Result<bool, String> {
        self.strangers.retain(|pid| children.contains(pid));
        self.unexeced.retain(|pid, _| children.contains(pid));
        for &pid in children {
            let is_known = server.member_of(pid).is_some() || server.has_said_hello(pid);
            if is_known || self.strangers.contains(&pid) {
                continue;
            }
            // Asked in the order in which an exec goes on, which it may do meanwhile.
            let is_unexeced = is_unexeced(pid);
            if is_unexeced && self.unexeced.entry(pid).or_default().for_these(&[pid]) < EXEC {
                return Ok(true);
            }
            let execs = has_no_words(pid).map_err(blind(UNKNOWN_CHILD))?;
            let address = server.address();
            if execs || children::mentions(pid, address).map_err(blind(UNKNOWN_CHILD))? {
                // A zombie among them is not about to say anything any more.
                if !is_zombie(pid) {
                    return Ok(true);
                }
            } else if !is_unexeced {
                self.strangers.insert(pid);
            }
        }
        Ok(false)
    }
}

/// Whether the code under test has tasks besides the body.
fn has_tasks() -> bool {
    Handle::current().metrics().num_alive_tasks() > OWN_TASKS
}

/// Whether a child has ended that the code under test may have dropped before the gate saw it registered with tokio.
/// The gate looks after the registered children one by one.
fn may_have_left(server: &Server, registered: &HashSet<u32>) -> bool {
    let is_unseen = |member: &Member| member.is_child && !registered.contains(&member.pid);
    server.has_dead_strangers() || server.zombies().any(is_unseen)
}

/// Whether an agent is at work, or about to say hello.
fn agents_are_at_work(server: &mut Server) -> bool {
    if server.expects_hello() {
        return true;
    }
    let is_at_rest = |(place, member): (usize, &Member)| {
        member.says_it_rests()
            || !member.said_hello
            || server.is_dying(place)
            || member.kernel_state() == KernelState::Stopped
    };
    !server.alive().all(is_at_rest)
}

/// Whether something that said that it rests is asleep, now or very soon.
fn comes_to_rest(is_awake: impl Fn() -> bool) -> bool {
    let begun = Instant::now();
    while is_awake() {
        if begun.elapsed() > SOON {
            return false;
        }
        std::thread::yield_now();
    }
    true
}

fn is_awake(pid: u32) -> bool {
    let state = children::state(&format!("/proc/{pid}"));
    !matches!(state, None | Some('S' | 'T' | 't' | 'Z' | 'X' | '?'))
}

/// The text for something that cannot be seen.
fn blind(what: &str) -> impl Fn(io::Error) -> String {
    move |error| format!("{what}: {error}")
}

const UNKNOWN_CHILD: &str = "what a child is and does cannot be told";

/// Whether a child of another sim has not got through its exec. It gets its new arguments only when its descriptors are
/// closed.
fn starts(pid: u32) -> Result<bool, String> {
    let has_no_words = || has_no_words(pid).map_err(blind(UNKNOWN_CHILD));
    Ok(is_unexeced(pid) || has_no_words()? && !is_zombie(pid))
}

/// Whether a child has its new arguments, and may still have descriptors that its exec closes. The kernel puts off the
/// last of that until the child goes on in its new program. It has done so once it sleeps, or has run for a while.
fn closes(exec_ends: &mut HashMap<u32, u64>, pid: u32) -> bool {
    let ran = ran_for(pid);
    let is_closing = match (children::state(&format!("/proc/{pid}")), ran) {
        (Some('R' | 'D'), Some(ran)) => {
            let since = *exec_ends.entry(pid).or_insert(ran);
            Duration::from_nanos(ran.saturating_sub(since)) < CLOSING
        }
        _ => false,
    };
    if !is_closing {
        exec_ends.remove(&pid);
    }
    is_closing
}

/// Whether a child was forked and still runs this program. It must also have this process's arguments, because it may
/// have run this program anew.
fn is_unexeced(pid: u32) -> bool {
    let program = |pid: &str| std::fs::read_link(format!("/proc/{pid}/exe")).ok();
    let arguments = |pid: &str| std::fs::read(format!("/proc/{pid}/cmdline")).ok();
    let child = pid.to_string();
    program(&child) == program("self") && arguments(&child) == arguments("self")
}

/// Makes those agents look that wait for a file. Returns true if one has found its file.
fn ask_watchers(server: &mut Server) -> bool {
    let watches = |(member, process): (usize, &Member)| {
        (process.is_watching && process.says_it_rests()).then_some(member)
    };
    let watchers: Vec<usize> = server.alive().filter_map(watches).collect();
    for &watcher in &watchers {
        server.ping(watcher);
    }
    await_pongs(server, &watchers);
    let is_watching = |&watcher: &usize| server.members[watcher].is_watching;
    !watchers.iter().all(is_watching)
}

/// Whether every process that said that it rests still rests: a signal may have come since.
fn barrier(server: &mut Server, suspects: Suspects) -> bool {
    let mut unknown = Vec::new();
    for (member, process) in server.alive() {
        match suspects {
            Suspects::All => {}
            Suspects::One(one) if one == member => {}
            Suspects::One(_) => continue,
            Suspects::Nobody => break,
        }
        match process.kernel_state() {
            // kill(2) wakes its target before it returns.
            KernelState::Sleeping | KernelState::Stopped => {}
            KernelState::Running if server.is_dying(member) => {}
            KernelState::Running => {
                let is_running = || process.kernel_state() == KernelState::Running;
                if process.death().is_some() || !comes_to_rest(is_running) {
                    return false;
                }
            }
            KernelState::Unknown => unknown.push(member),
        }
    }
    // Without /proc, each of these must answer, and say nothing else.
    for &member in &unknown {
        server.ping(member);
    }
    await_pongs(server, &unknown)
        && server.alive().all(|(place, member)| {
            member.says_it_rests()
                || !member.said_hello
                || server.is_dying(place)
                || member.kernel_state() == KernelState::Stopped
        })
}

/// Waits until all have answered. Returns false if one says something else, or one says nothing for long.
fn await_pongs(server: &mut Server, members: &[usize]) -> bool {
    let deadline = Instant::now() + PATIENCE * 500;
    let before = server.progress;
    while members
        .iter()
        .any(|&member| server.members[member].awaits_pong())
    {
        server.pump(PATIENCE);
        if server.progress != before || Instant::now() > deadline {
            return false;
        }
    }
    true
}
