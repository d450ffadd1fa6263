//! The idle gate: whether everything provably waits for the clock, and whose turn it is.
//!
//! Tokio calls it when no task is ready, before it would advance a paused clock. Here the gate holds the
//! runtime until the processes of the sim have come to rest, and then lets one thing happen: the code under
//! test takes in what is new; or one process acts; or, where nobody has anything to do, time passes. It
//! wakes a task wherever time must not pass, and tokio turns once more instead.

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

use super::body::BodyWaker;
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
use crate::Timestamp;
use crate::agent::{KernelState, Locked, Member, Server, Shared};

/// real-time: how long the gate holds the runtime for what is at work and is no agent. An agent comes to
/// rest by itself; of anything else that is not known, and it may wait for what only a task can do.
const PATIENCE: Duration = Duration::from_millis(1);

/// real-time: how long time stands still for a zombie that a thread of unknown origin may be about to reap, or
/// tokio.
const REAPING: Duration = Duration::from_millis(100);

/// real-time: how long time stands still for another thread's child that still runs this program. A
/// spawn returns before its exec is done.
const EXEC: Duration = Duration::from_secs(1);

/// How long the end of an exec takes at most, in time on a processor.
const CLOSING: Duration = Duration::from_micros(500);

/// How long a fork takes at most, in time on a processor.
const FORK: Duration = Duration::from_micros(300);

/// real-time: how long a process that said hello waits to be taken in where another is at work that may
/// begin before it.
const WELCOME: Duration = Duration::from_millis(20);

/// real-time: how long one that has connected is taken to be about to say hello, which holds all up. It may never say it.
const HELLO: Duration = Duration::from_millis(20);

/// real-time: how long an agent that is due waits for what is no agent and is at work.
const OTHERS: Duration = Duration::from_millis(20);

/// real-time: how long the gate holds the runtime at most while processes that are no agents go on, one or the other.
const GOING_ON: Duration = Duration::from_millis(100);

/// real-time: how long the gate waits for what processes say before it looks at them again.
const LOOK: Duration = Duration::from_micros(200);

/// real-time: how long the gate looks again at once at an agent that is about to rest.
const SOON: Duration = Duration::from_micros(100);

/// real-time: how long the end of the body waits for an agent or a thread that does not come to rest.
const ENDING: Duration = Duration::from_secs(1);

/// How many tasks a sim has of its own.
const OWN_TASKS: usize = 2;

/// Which agents may have been signalled since they said that they rest.
#[derive(Clone, Copy)]
enum Suspects {
    All,
    /// The one that acts: nobody else is at work.
    One(usize),
    Nobody,
}

/// What is looked at beside the agents.
#[derive(Clone, Copy)]
enum Beside {
    /// All threads and processes.
    All,
    /// Those that were not there at the last look. After a turn of the body: the others are looked at when tokio
    /// comes to rest.
    New,
    /// Nothing: all was looked at, and nobody but agents was there to start anything since.
    Nothing,
}

/// What tokio may do.
#[derive(Debug)]
enum Verdict {
    /// The watchdog has ended the sim: it says what was seen until then.
    Over,
    /// The tasks have a turn, and time stands still.
    Turn,
    /// The same, and it is the code under test alone that is at work.
    Pending,
    /// Time may pass.
    Open,
}

/// Who is at work.
enum Survey {
    /// An agent: it comes to rest by itself.
    Agent,
    /// What is about to be one, or dies.
    Start,
    /// One was taken in just now.
    Welcomed,
    /// A thread of the code under test.
    Thread,
    /// What is no agent.
    Other,
    /// Nobody.
    Nobody,
}

/// How the thread of another sim, whose code is at work, stands.
#[derive(Clone, Debug)]
struct AtWork {
    parks: u64,
    /// How long it has run, in nanoseconds.
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

    /// Whether it is through with a fork that it was in the middle of.
    fn has_gone_on(&self, now: &AtWork) -> bool {
        // A thread that began since may have the number of one that ended.
        let ran = now.ran.zip(self.ran);
        let ran = ran.map(|(now, then)| now.saturating_sub(then));
        let has_run = ran.is_none_or(|ran| Duration::from_nanos(ran) > FORK);
        self.parks != now.parks || has_run || now.at - self.at > EXEC
    }
}

/// How many threads this process has, where that can be told, and the children of the sim's.
type Listed = (Option<u64>, Vec<u32>);

#[derive(Debug)]
pub(crate) struct Gate {
    shared: Arc<Shared>,
    sight: Arc<Sight>,
    pool: Arc<Pool>,
    /// What wakes the body.
    body: Arc<BodyWaker>,
    children: Children,
    /// Children of this thread that were there before the sim, and are none of its business.
    before: HashSet<u32>,
    /// The clock's origin.
    origin: TokioInstant,
    /// What the threads and the children of the code under test have inherited.
    mark: Option<Arc<Mark>>,
    threads: Threads,
    foreigners: Foreigners,
    orphans: Orphans,
    /// Whether a process that was no agent was seen to have ended, since orphans were looked for.
    has_seen_end: bool,
    ready: Ready,
    /// Readable when the processes have said something.
    news: OwnedFd,
    /// What time it was when tokio went on: only tokio passes time, and only while it rests.
    went_on: Option<TokioInstant>,
    /// Zombies that a thread of unknown origin may be about to reap, and since when.
    zombies: HashMap<u32, Instant>,
    /// Children whose ends tokio was asked for.
    registered: HashSet<u32>,
    /// Those that were dropped and have ended, and that tokio is to reap when it looks for events next.
    left: Vec<u32>,
    /// Since when.
    left_since: Instant,
    /// Those that were.
    was_left: HashSet<u32>,
    /// The wait while nobody but what is no agent is at work.
    unquiet: Patience,
    /// A hello's wait.
    welcome: Patience,
    /// The wait for those that have connected, and have not said hello.
    silent: Patience,
    /// Whether code of the sim's may have run since all its agents were looked at, beside them: the body or
    /// another task, a thread, or a process that is no agent.
    has_run: bool,
    /// Other runtimes of this process.
    tellers: Tellers,
    /// Whether an agent has ended that a process in between has to reap.
    awaits_reap: bool,
    /// The body's wait for that.
    held: Patience,
    /// Whether all were at rest at the last look.
    was_quiet: bool,
    /// Whether the body has settled after its last turn, and no task has had one since.
    has_settled: bool,
    /// Whether the last look was at all threads and processes.
    saw_all: bool,
    /// Whether there may be a thread or a process of the sim's that is no agent.
    has_others: bool,
    /// Whether this look has seen one.
    sees_others: bool,
    /// How many threads this process had when they were looked at last, where that can be told.
    threads_seen: Option<u64>,
    /// Children of other threads that have nothing to do with the sim.
    strangers: HashSet<u32>,
    /// What threads of the sim have started for another.
    for_others: HashSet<u32>,
    /// Those that still run this program: since when.
    unexeced: HashMap<u32, Waited>,
    /// Other sims' children that have got through their exec, by thread, and how often that sim had
    /// come to rest when all had.
    execed: HashMap<Pid, (HashSet<u32>, Option<u64>)>,
    /// Those that have not: since when.
    forked: HashMap<u32, Waited>,
    /// Those that are about to: how long they had run when they had their new arguments, in nanoseconds.
    exec_ends: HashMap<u32, u64>,
    /// Other sims whose code was at work after this sim's was, and may have been in the middle of a fork.
    at_work: HashMap<Pid, AtWork>,
    /// After which turn of this sim's code that was.
    at_work_in: u64,
    /// What had happened in this sim, and which children it had, when the others were looked at.
    looked_at: Option<(u64, Vec<u32>)>,
}

impl Gate {
    /// To be made on the sim's thread, inside its runtime.
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

    /// What tokio calls before it parks.
    pub(crate) fn park(&mut self) {
        if !self.left.is_empty() {
            // Tokio has not reaped them yet. It fails only for what is no signal.
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
            // A task that wakes keeps tokio from advancing.
            self.shared.timer.notify_one();
        }
        if self.left.is_empty() && !self.holds_body() {
            self.body.pass_on();
        }
    }

    /// Whether the body has to wait: a shell that it may hear of is still at work, and reaps an agent before it ends.
    fn holds_body(&mut self) -> bool {
        if self.was_quiet || !self.awaits_reap || !self.body.is_woken() {
            self.held.end();
            return false;
        }
        !self.held.is_over(OTHERS, &self.foreigners.running)
    }

    /// What tokio calls when it goes on.
    pub(crate) fn unpark(&mut self) {
        self.went_on = Some(TokioInstant::now());
        {
            // It has found what they did.
            let shared = Arc::clone(&self.shared);
            let mut server = shared.lock();
            server.actors.clear();
            server.strange_deaths.clear();
            server.turns_of_code += 1;
            self.await_reaps(&server);
        }
        // What woke it meanwhile was in order. Where somebody was at work, there is more to take in first.
        if self.left.is_empty() && self.was_quiet {
            self.body.pass_on();
        }
    }

    fn judge(&mut self) -> Verdict {
        let shared = Arc::clone(&self.shared);
        let server = shared.lock();
        // The watchdog has the lock between that and giving up the descriptor that it has to spare.
        if self.sight.is_over.load(Ordering::Acquire) {
            // The body may have come back, and waits for what it did last.
            shared.settled.notify_one();
            return Verdict::Over;
        }
        if self.sight.why_faulted().is_some() || self.check_clock() {
            // What happens from here on has no time.
            return Verdict::Turn;
        }
        let (suspects, beside) = self.suspects(&server);
        if server.is_ending {
            // From here on, however long it takes.
            let _ = self.is_unquiet_for_long();
        }
        let (mut server, quiet, mut news) = self.take_in(&shared, server, suspects, beside);
        // The next turn shows whether it was reaped.
        news |= server.has_just_ended();
        // First: what they tell is pending.
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
            // Not more than that: nobody has a turn after the body.
            shared.settled.notify_one();
            return Verdict::Turn;
        }
        if !news && !is_pending && (quiet || self.is_unquiet_for_long()) {
            // One at a time: what two do at once would race.
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

    /// Lets the member have the turn that it was granted, and then the next that begin a script, as long as nothing
    /// comes of them but rest: that is nothing that the code under test has to come to rest with before.
    fn see_turn<'a>(
        &mut self,
        shared: &'a Shared,
        mut server: Locked<'a>,
        mut member: usize,
    ) -> Locked<'a> {
        loop {
            let before = server.progress;
            // A thread or a shell that hears of it may signal anybody.
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

    /// Whether what is no agent is at work, and nothing else happens: it holds time, but not those that are due
    /// already.
    fn is_unquiet_for_long(&mut self) -> bool {
        self.unquiet.is_over(OTHERS, &self.foreigners.running)
    }

    /// What is done after each turn of the body. Where it yields, tokio looks for events without coming to rest.
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
        // No task runs after it that could signal anybody.
        self.has_settled = quiet && !has_tasks();
        self.hand_over(&mut server, true);
        if news {
            shared.changed.notify_waiters();
            shared.timer.notify_one();
        }
    }

    /// Takes in what the code under test and the processes did, until all are at rest: whether they are, and
    /// whether there are news for the tasks.
    fn take_in<'a>(
        &mut self,
        shared: &'a Shared,
        mut server: Locked<'a>,
        suspects: Suspects,
        beside: Beside,
    ) -> (Locked<'a>, bool, bool) {
        let before = server.progress;
        // What the supervisors said while the tasks ran.
        server.hear_supervisors();
        server.now = self.now();
        server.begin_step();
        let (mut server, quiet) = self.settle(shared, server, suspects, beside);
        // New waits are for the timer.
        let has_new_deadline = std::mem::take(&mut server.has_new_deadline);
        let news = server.progress != before || has_new_deadline;
        (server, quiet, news)
    }

    /// The body is being polled.
    pub(crate) fn run(&mut self) {
        self.sight.see_turn();
        self.has_run = true;
        self.has_settled = false;
    }

    /// Who may have been woken since all were looked at, and what may have been done beside the agents. An agent
    /// signals nobody; its death does who started it, and what it closes does who writes there.
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

    /// The tasks go on: what they find is in an order, and what they do comes after it.
    fn hand_over(&mut self, server: &mut Server, is_after_code: bool) {
        let is_one = server.actors.len() + server.strange_deaths.len() <= 1;
        // Of those whom the code under test ended itself, tokio's drop may have reaped some: they are not among
        // the actors, and their output ends all the same.
        if !is_one || is_after_code && self.ready.is_pending() {
            let server = &*server;
            let rank = |descriptor| server.place_of(descriptor);
            self.ready
                .put_in_order(rank, &server.ended_since_the_last_look());
        }
        server.begin_step();
    }

    /// Whether another runtime may be about to tell the tasks of a signal, as SIGCHLD, or to reap.
    fn others_may_tell(&mut self, server: &Server) -> bool {
        let registered = &self.registered;
        let may_have_left = || may_have_left(server, registered);
        self.tellers
            .are_there(server.ends, &self.children, may_have_left)
    }

    /// Whether somebody has passed time but tokio at rest. Code that does it itself leaves everybody behind who
    /// waits by this clock.
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

    /// Takes in what the processes do until none is at work. False where something that is no agent still is
    /// after a while, or where the sim is being ended.
    fn settle<'a>(
        &mut self,
        shared: &'a Shared,
        mut server: Locked<'a>,
        suspects: Suspects,
        beside: Beside,
    ) -> (Locked<'a>, bool) {
        let mut ending = Waited::default();
        // For what may never come to rest: what it got of it, beside other work that is sure to end.
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
                // Whoever runs waits for no task.
                Survey::Other if !self.foreigners.running.is_empty() => {
                    processes.is_over_within(OTHERS, GOING_ON, &self.foreigners.running)
                }
                Survey::Other => waited >= PATIENCE,
                // Nobody else, so it is an agent that was woken.
                _ if server.is_ending => is_given_up,
                // One that gets no processor may have a signal's handler to run.
                Survey::Thread => threads.is_over(OTHERS, &self.foreigners.running),
                Survey::Agent | Survey::Start | Survey::Nobody | Survey::Welcomed => false,
            };
            // An agent that was signalled is at work beside whatever else is, and is waited for.
            let is_let_go = is_over_long && (is_given_up || barrier(&mut server, suspects));
            if is_let_go {
                return (server, false);
            }
            // Without the lock: the watchdog looks meanwhile.
            drop(server);
            let pause = match survey {
                // Its hello is heard. A look takes its memory's lock, which its exec needs.
                Survey::Start => LOOK * 8,
                _ => LOOK,
            };
            let paused = Instant::now();
            self.wait_for_news(pause);
            if let Survey::Other = survey {
                // Beside enough other work a pause is long, and nothing has been done.
                waited += paused.elapsed().min(LOOK);
            }
            server = shared.lock();
            // What shows now, with the watchdog's spare descriptor, is not what held the sim.
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

    /// Looks at every process of the sim. What cannot be seen may be at work.
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
            // The process's first thread is told where one has died, or where the body has sent a signal to its
            // own process.
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

    /// Whether threads or processes that are no agents may be there that were not at the last look.
    fn has_started_others(&self, server: &Server, (threads, children): &Listed) -> bool {
        let is_known = |pid: &u32| self.before.contains(pid) || server.member_of(*pid).is_some();
        *threads != self.threads_seen || !children.iter().all(is_known)
    }

    /// Or what cannot be seen, and why. What was listed just now need not be listed again.
    fn look(&mut self, server: &mut Server, listed: Option<Listed>) -> Result<Survey, String> {
        if agents_are_at_work(server) {
            return Ok(Survey::Agent);
        }
        let (threads, mut children) = listed
            .map_or_else(|| self.children.list_with_threads(), Ok)
            .map_err(blind("the children of this thread cannot be listed"))?;
        self.threads_seen = threads;
        let happened = (server.progress, children.clone());
        // As long as not all was looked at.
        self.has_others = true;
        self.sees_others = false;
        self.foreigners.begin_look();
        self.sight.begin_look();
        // First: where one is about to be an agent, nothing else has to be looked at.
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
            // It comes and goes without a word.
            self.looked_at = None;
        }
        if self.others_start_agents(server, &sorted.strangers)? {
            return Ok(Survey::Start);
        }
        if !hellos.is_empty() {
            if is_busy && !self.welcome.is_over(WELCOME, &self.foreigners.running) {
                return Ok(Survey::Start);
            }
            // One that is awake was signalled, and may be dying.
            if hellos.iter().any(|pid| !comes_to_rest(|| is_awake(*pid))) {
                return Ok(Survey::Agent);
            }
            self.welcome.end();
            // What starts one after the other has reaped the one before.
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

    /// Leaves out what threads of this sim, which all may share, have started for other sims.
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

    /// How those stand that are in no tree below this process, all together.
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
        // A shell that became an agent may have started others before.
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

    /// How those of the children stand that are no agents, all together.
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
                // One that its supervisor has told of is a run without a hello.
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

    /// Whether a zombie is there that somebody of unknown origin may be about to reap. The code under test has
    /// seen those of its own threads, and they wait. But other threads may have started it.
    fn zombies_are_unsettled(&mut self, server: &Server, own: &[u32]) -> bool {
        let is_foreign =
            |member: &&Member| self.mark.is_none() || member.is_child && !own.contains(&member.pid);
        // What the code under test has reaped in this turn is one still for the server.
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

    /// Has tokio reap, when it looks for events, what the code under test has left to it: who drops a child drops its
    /// registration. Tokio looks for such children where a SIGCHLD has come. The kernel's may still be on its way,
    /// to any thread of this process; this one is there at once.
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
        // It fails only for what is no signal.
        let _ = raise(Signal::SIGCHLD);
        self.was_left.retain(|pid| server.member_of(*pid).is_some());
        self.was_left.extend(&left);
        (self.left, self.left_since) = (left, Instant::now());
    }

    /// The same at the end of the body, for all children that were never seen to be registered: a runtime that is no
    /// sim's may have been in the way. Those that tokio was never asked for are found to be left behind.
    fn have_tokio_reap_unseen(&mut self, server: &Server) -> bool {
        if !may_have_left(server, &self.registered) {
            return false;
        }
        // Where they cannot be listed, the end says so.
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

    /// Waits a little until that is done, where another sim's runtime is at it: they all reap for each other. Where
    /// two of them look at once, tokio may miss it, and has to look again.
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

    /// Whether another sim has forked a child that is not through its exec: until then it holds a copy
    /// of every descriptor, and a pipe of this sim does not end.
    ///
    /// What it forks while nothing happens in this sim matters no more: no pipe was made meanwhile. So
    /// sims that fork all the time hold nobody up.
    fn others_fork(&mut self, turn: u64, happened: (u64, Vec<u32>)) -> Result<bool, String> {
        if self.at_work_in != turn {
            self.at_work.clear();
            self.at_work_in = turn;
        }
        // What the body has closed meanwhile, a fork that was on its way may still hold.
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
            // In this order: what it forks after it was seen at rest, it forks without our pipes.
            let is_parked = sight.is_parked.load(Ordering::Acquire);
            let parks = sight.parks.load(Ordering::Acquire);
            let (execed, clear_at) = self.execed.entry(thread).or_default();
            if is_parked && *clear_at == Some(parks) {
                self.at_work.remove(&thread);
                continue;
            }
            // A fork copies the descriptors before its child is there to be seen.
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

    /// Whether a thread that the code under test has not started, but may use, has forked an agent that has
    /// not said hello.
    fn others_start_agents(&mut self, server: &Server, children: &[u32]) -> Result<bool, String> {
        self.strangers.retain(|pid| children.contains(pid));
        self.unexeced.retain(|pid, _| children.contains(pid));
        for &pid in children {
            let is_known = server.member_of(pid).is_some() || server.has_said_hello(pid);
            if is_known || self.strangers.contains(&pid) {
                continue;
            }
            // In the order in which an exec goes on, which it may do meanwhile.
            let is_unexeced = is_unexeced(pid);
            if is_unexeced && self.unexeced.entry(pid).or_default().for_these(&[pid]) < EXEC {
                return Ok(true);
            }
            let execs = has_no_words(pid).map_err(blind(UNKNOWN_CHILD))?;
            let address = server.address();
            if execs || children::mentions(pid, address).map_err(blind(UNKNOWN_CHILD))? {
                // A zombie among them is no longer about to say anything.
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

/// Whether the code under test has tasks beside the body.
fn has_tasks() -> bool {
    Handle::current().metrics().num_alive_tasks() > OWN_TASKS
}

/// Whether a child has ended that the code under test may have dropped before it was seen to be registered with tokio.
/// Those that were seen are looked after one by one.
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

/// Whether something that said that it rests is no longer awake, now or very soon.
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

/// What to say where something cannot be seen.
fn blind(what: &str) -> impl Fn(io::Error) -> String {
    move |error| format!("{what}: {error}")
}

const UNKNOWN_CHILD: &str = "what a child is and does cannot be told";

/// Whether a child of another sim is not through its exec. The second shows only when its descriptors are
/// closed.
fn starts(pid: u32) -> Result<bool, String> {
    let has_no_words = || has_no_words(pid).map_err(blind(UNKNOWN_CHILD));
    Ok(is_unexeced(pid) || has_no_words()? && !is_zombie(pid))
}

/// Whether a child has its new arguments, and may still have descriptors that its exec closes: the kernel puts off the
/// last of that until it goes on in its program. It has done so once it sleeps, or has run for a while.
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

/// Whether a child was forked and still runs this program: with its arguments, too, where this program
/// may have been run again.
fn is_unexeced(pid: u32) -> bool {
    let program = |pid: &str| std::fs::read_link(format!("/proc/{pid}/exe")).ok();
    let arguments = |pid: &str| std::fs::read(format!("/proc/{pid}/cmdline")).ok();
    let child = pid.to_string();
    program(&child) == program("self") && arguments(&child) == arguments("self")
}

/// Has those look that wait for a file. True where one has found it.
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

/// Whether every process that said that it rests still does: a signal may have come since.
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
    // Without /proc: each must answer, and say nothing else.
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

/// Waits until all have answered. False where one says something else, or nothing for long.
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
