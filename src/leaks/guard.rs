//! A guard: what it knows from the moment when it is made, and what it finds when it is checked.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::marker::PhantomData;
use std::panic::{self, Location};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use super::descriptors::{self, File};
use super::end::Ending;
use super::look::{self, Roots, Wanted};
use super::proc::{self, Identity, Unreadable};
use super::report::{Descriptor, Leaks, Thread};

/// The environment variable that marks the descendants of a test.
const MARK: &str = "SUPERVISE_LEAK_MARK";

/// Chooses what a guard looks at. It always looks at processes.
///
/// ```
/// use supervise_harness::leaks;
///
/// // Alone in its process, as under cargo-nextest.
/// let guard = leaks::Guard::builder().all_threads(true).descriptors(true).threads(true).build();
/// guard.check()?;
/// # Ok::<(), leaks::Leaks>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until `build`"]
pub struct GuardBuilder {
    all_threads: bool,
    descriptors: bool,
    threads: bool,
}

impl GuardBuilder {
    /// Whether the children of all threads count, and not only those of the guard's own thread: for
    /// a runtime with several threads. Use it in tests that are alone in their process, as under
    /// cargo-nextest. Default: no.
    pub fn all_threads(mut self, yes: bool) -> GuardBuilder {
        self.all_threads = yes;
        self
    }

    /// Whether to look at the descriptors of this process: those that were opened since the guard
    /// was made, and those that have become another file's since. Descriptors that a library keeps
    /// open by design count, too, such as tokio's for signals: use the library once before you make
    /// the guard. Use this in tests that are alone in their process, as under cargo-nextest.
    /// Default: no.
    pub fn descriptors(mut self, yes: bool) -> GuardBuilder {
        self.descriptors = yes;
        self
    }

    /// Whether to look at the threads of this process. A thread that was joined does not count. Use
    /// it in tests that are alone in their process, as under cargo-nextest. Default: no.
    pub fn threads(mut self, yes: bool) -> GuardBuilder {
        self.threads = yes;
        self
    }

    /// Makes the guard. If /proc cannot be read, the guard's check says so.
    #[track_caller]
    pub fn build(self) -> Guard {
        let mut guard = Guard {
            made_at: Location::caller(),
            mark: unique_mark(),
            thread: nix::unistd::gettid().as_raw().unsigned_abs(),
            all_threads: self.all_threads,
            leaders: Vec::new(),
            before: Ok(Before::default()),
            checked: false,
            here: PhantomData,
        };
        guard.before = Before::now(&self);
        guard
    }
}

/// Finds what is left behind from the moment when it is made until its check or its drop.
///
/// A guard that is dropped without a check panics if it finds something. If its thread is panicking
/// already, the guard prints what it found to standard error instead, after the test's own failure.
/// In both cases it has ended the processes that it found.
///
/// A guard stays on the thread that made it, since it knows the children of that thread. It is not
/// [`Send`].
///
/// ```
/// # use std::process::Command;
/// # use supervise_harness::{leaks, stub};
/// let guard = leaks::Guard::new();
/// let forgotten = Command::new(stub::path()?).args(["--id", "worker", "--script", "stay"]).spawn()?;
///
/// let leaks = guard.check().unwrap_err();
/// let found = &leaks.processes()[0];
/// assert_eq!((found.pid, found.agent.as_deref()), (forgotten.id(), Some("worker")));
/// assert_eq!(found.fate, leaks::Fate::Killed);
/// println!("{leaks}");
/// // 1 process left behind
/// //   --> the leak guard made at tests/worker.rs:12:17
/// //   process 4711 agent-stub (agent `worker`), running, child of this process, which should have
/// //   ended it; killed by the guard; arguments: --id worker --script stay
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "a guard that is dropped at once guards nothing"]
pub struct Guard {
    made_at: &'static Location<'static>,
    mark: String,
    thread: u32,
    all_threads: bool,
    leaders: Vec<Identity>,
    before: Result<Before, Unreadable>,
    checked: bool,
    /// Keeps the guard on the thread whose children it knows: it cannot be sent.
    here: PhantomData<*const ()>,
}

/// What was there when the guard was made.
#[derive(Debug, Default)]
struct Before {
    children: BTreeSet<Identity>,
    /// The start time of the youngest process then.
    since: u64,
    descriptors: Option<BTreeMap<u32, File>>,
    threads: Option<BTreeMap<Identity, String>>,
}

impl Before {
    fn now(builder: &GuardBuilder) -> Result<Before, Unreadable> {
        let (children, since) = look::children_now()?;
        Ok(Before {
            children,
            since,
            descriptors: builder.descriptors.then(descriptors::open).transpose()?,
            threads: builder.threads.then(proc::threads).transpose()?,
        })
    }
}

impl Guard {
    /// Makes a guard that looks at processes: the children of this thread, and every process that
    /// bears the mark.
    #[track_caller]
    #[expect(
        clippy::new_without_default,
        reason = "a default would hide where it was made"
    )]
    pub fn new() -> Guard {
        Guard::builder().build()
    }

    /// A builder, to choose what else the guard looks at.
    pub fn builder() -> GuardBuilder {
        GuardBuilder::default()
    }

    /// The variable to set in the environment of everything that the test starts: its name and its
    /// value. The value belongs to this guard alone. For programs that clear their environment, the
    /// value also counts as an argument, or as a word in one.
    #[must_use]
    pub fn mark(&self) -> (&'static str, String) {
        (MARK, self.mark.clone())
    }

    /// Sets the mark in the command's environment.
    pub fn mark_command<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env(MARK, &self.mark)
    }

    /// Remembers a child that lives or was not reaped yet. The guard then blames the members of the
    /// process group and the session that the child leads, even after the child's end. A number
    /// that no process has is ignored.
    pub fn watch(&mut self, pid: u32) {
        match proc::stat(pid) {
            Ok(Some(stat)) => self.leaders.push(stat.identity),
            Ok(None) => {}
            Err(error) => self.before = Err(error),
        }
    }

    /// Looks for what is left behind, and ends the processes among it.
    ///
    /// Blocks: a few milliseconds if nothing is found, otherwise until the processes that it found
    /// have ended.
    ///
    /// # Errors
    ///
    /// What was left behind, or that /proc could not be read.
    pub fn check(mut self) -> Result<(), Leaks> {
        self.look()
    }

    fn look(&mut self) -> Result<(), Leaks> {
        self.checked = true;
        let mut leaks = Leaks::none(self.made_at);
        let before = match std::mem::replace(&mut self.before, Ok(Before::default())) {
            Ok(before) => before,
            Err(error) => {
                leaks.unreadable = Some(error);
                return Err(leaks);
            }
        };
        let mut ending = Ending::default();
        let ended = ending.run(&Wanted {
            marks: std::slice::from_ref(&self.mark),
            since: before.since,
            roots: match self.all_threads {
                true => Roots::Process(&before.children),
                false => Roots::Thread(self.thread, &before.children),
            },
            leaders: &self.leaders,
        });
        leaks.processes = ending.found;
        // After the processes: the pidfds that the search for them has opened are closed by now.
        if let Err(error) = ended.and_then(|()| before.compare(&mut leaks)) {
            leaks.unreadable = Some(error);
        }
        if leaks.is_none() { Ok(()) } else { Err(leaks) }
    }
}

impl Before {
    fn compare(&self, leaks: &mut Leaks) -> Result<(), Unreadable> {
        if let Some(before) = &self.descriptors {
            for (number, file) in descriptors::open()? {
                if !before.get(&number).is_some_and(|b| b.is_same(&file)) {
                    leaks
                        .descriptors
                        .push(Descriptor::new(number, &file.target));
                }
            }
        }
        if let Some(before) = &self.threads {
            for (identity, name) in proc::threads()? {
                if !before.contains_key(&identity) {
                    let id = identity.pid;
                    leaks.threads.push(Thread { id, name });
                }
            }
        }
        Ok(())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.checked {
            return;
        }
        // The look itself should not panic. If it did so during the test's own panic, that would
        // abort the process.
        let unwinding = std::thread::panicking();
        match panic::catch_unwind(panic::AssertUnwindSafe(|| self.look())) {
            Ok(Ok(())) => {}
            Ok(Err(leaks)) if unwinding => {
                // Printing panics if standard error is closed.
                let report = leaks.to_string();
                let _ = panic::catch_unwind(|| eprintln!("{report}"));
            }
            Ok(Err(leaks)) => panic!("{leaks}"),
            Err(_) if unwinding => {}
            Err(panic) => panic::resume_unwind(panic),
        }
    }
}

/// A mark that no other guard has, in this process or in another.
fn unique_mark() -> String {
    static GUARDS: AtomicU64 = AtomicU64::new(0);
    let number = GUARDS.fetch_add(1, Ordering::Relaxed);
    let random = RandomState::new().hash_one(number);
    format!("leak-{}-{number}-{random:016x}", std::process::id())
}
