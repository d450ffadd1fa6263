//! A sim: what it is, and its settings.

use std::time::Duration;

/// Runs unmodified tokio code and real processes under one virtual clock.
///
/// [`run`](Sim::run) makes a single-threaded runtime on tokio's paused clock. Virtual time passes only when every task
/// and every agent provably waits for it. An hour of backoff therefore takes no more real time than the processes
/// before and after it. Agents wait by the same clock. The sim records everything that happens, and a repetition of the
/// test gives the same [`Timeline`](crate::Timeline), byte for byte.
///
/// # One thing at a time
///
/// An agent acts only when everything else is at rest. To act is to write, to close something, to say that it is ready,
/// or to end. The code under test takes in what the agent did and comes to rest before the next agent acts. At one
/// instant the order is:
///
/// - first what the test tells agents to do, in the order in which the test says it;
/// - then signals, by agent, by run, and by who started whom;
/// - then scripts, in that same order.
///
/// # What is not the same each time
///
/// - **The sizes of single reads of a flood, if this user has more than a thousand pipes.** The kernel then makes
///   smaller pipes. Otherwise each read finds everything that the pipe holds, because the writer does not go on until
///   that is read.
/// - **The branch that `select!` takes**, if it is not `biased` and several branches are ready; the order in which a
///   `watch` channel or a `Barrier` wakes several waiting tasks; and whatever else tokio draws at random. Nobody
///   outside tokio can seed its generator.
/// - **When the code under test can read what an agent writes to a pseudoterminal.** The kernel hands the bytes over a
///   moment later, at a time of its own, and gives no sign that bytes are on their way.
/// - **`std::time`, blocking sleeps, and randomness that is not seeded.** They follow neither the sim's clock nor its
///   seed.
/// - **Whether the sim notices a process that is killed in the turn in which it was started**, and in which order the
///   outputs of several such processes end. Such a process never acts and never says which run it is, so the timeline
///   does not have it. If the sim notices it, the failure or standard error says so.
/// - **What the code sees of a process in the turn in which the process was signalled.** Examples are `start_kill` and
///   then `try_wait` without an `.await` between them, or a task that reads the process's output and was woken at the
///   same instant. The process dies while the code runs.
/// - **In which order a task of `tokio::spawn` finds two ends of processes that it caused at once**, if the task yields
///   before it waits (by `yield_now`, or because tokio's own budget is used up). Tokio then looks for events without
///   coming to rest, and does not ask the sim for an order. The body, and the tasks that it spawns with `spawn_local`,
///   always find the ends in the order of the agents.
/// - **What threads of the code under test do at once**, such as which of two threads starts its process first. The sim
///   waits for each of these threads, but gives them no order.
/// - **Which of two children a program or a thread finds first, if it waits for any child, as wait(2) does, and has
///   killed both.** The kernel ends both in parallel. Tokio finds them in the order of the agents.
/// - **How much an agent has written, if a thread or a shell kills it while it writes more than 4096 bytes at once.**
///   The thread or the shell reads the first bytes while the agent still writes the rest.
/// - **When init reaps an orphan**, and so from when on `kill(pid, 0)` no longer finds it. A pidfd tells of its end at
///   once.
/// - **What a thread pool does, if several sims share it while they run in parallel, or if it was there before any
///   sim.** The harness knows a thread by the sim that started it. If that sim is over, all later sims wait for the
///   thread while it runs, for up to 20 ms on a processor. Sims that share a pool are exact if they run one after the
///   other, as with `--test-threads=1` or `cargo nextest`.
/// - **Whether a run had said hello, if it is stopped or killed before [`Agent::started`](crate::Agent::started) has
///   returned.** Until a process has told the sim whose run it is, it is a process like any other.
/// - **What processes do that are not agents.** A child that runs in real time holds up virtual time. A shell is at
///   rest if it only waits for agents, or on pipes, open FIFOs and connected unix sockets whose ends all belong to the
///   sim. A process is not at rest if it waits on another socket, for a connection, for a file lock, or to open a FIFO.
/// - **How a process ended that is not a child of the test's process, before Linux 6.15.** If its parent is an agent,
///   that agent reports the status. Otherwise the timeline says `status=?`, each time.
///
/// Several sims may run at once, each on a thread of its own.
///
/// # What is ended
///
/// At the end, whatever the outcome, the sim ends the processes below. It reaps those that are children of this
/// process, and it names those that the body should have ended:
///
/// - agents and their descendants, whoever started them and whoever their parent is by then: all of them have the sim's
///   own address in their arguments;
/// - the children that were started since the sim began by the sim's thread, by its `spawn_blocking` tasks, and by the
///   threads that these start, whether agents or not, with all processes below them. Threads and processes inherit a
///   mark from the sim's thread, in bits of the I/O priority that no scheduler reads (since Linux 6.5). The sim does
///   not find a process that sets its own I/O priority, as ionice(1) does, and has also lost its parents.
///
/// The sim never ends what another sim or another test of this process may have started. It therefore leaves alone:
///
/// - children that are not agents, if threads that were there before the sim started them, such as those of a global
///   pool;
/// - whatever a thread that outlives the sim starts after the sim's end.
///
/// ```
/// use std::time::Duration;
/// use supervise_harness::{Script, Sim};
///
/// let timeline = Sim::new().run(async |sim| {
///     let worker = sim.agent("worker", Script::new().run_for(Duration::from_secs(3600)).exit(3));
///     // The code under test: plain tokio.
///     let mut child = tokio::process::Command::from(worker.command()).spawn().unwrap();
///     let status = child.wait().await.unwrap();
///     assert_eq!(status.code(), Some(3));
/// });
/// assert_eq!(
///     timeline.to_string(),
///     "timeline v2  clock=virtual
/// +0.000  worker#1  start
/// +3600.000 worker#1  exit     code=3
/// +0.000  worker#1  reap"
/// );
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Sim {
    pub(super) seed: u64,
    pub(super) watchdog: Duration,
    pub(super) is_real: bool,
    pub(super) gate: bool,
    pub(super) allows_leaks: bool,
    /// How long an idle thread of the blocking pool waits for more work. `None` leaves tokio's default.
    pub(super) keep_alive: Option<Duration>,
    pub(super) may_be_lost: bool,
}
