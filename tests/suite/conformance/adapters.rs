//! Adapters that misbehave: the verdict says so in a line, and nothing of it reaches what comes next.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use supervise_harness::conformance::{self, Session, Subject, SubjectError};
use supervise_harness::rules::{Notice, Profile, RestReason, Service, Verdict};
use supervise_harness::{ExitStatus, leaks};

use super::broken::Textbook;

/// real-time: what blocks the thread of the sim can only be told by the machine's clock.
const STILL: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mishap {
    PanicsInProfile,
    ProfileHangs,
    PanicsInStart,
    PanicsInStop,
    PanicsInOutcome,
    PanicsInTask,
    StartHangs,
    StopHangs,
    OutcomeHangs,
    Parks,
    Spins,
    WaitsForTheChild,
    SaysUpFirst,
    SaysEndsThatNeverWere,
    SaysItFinished,
    RefusesToStart,
    RefusesToStop,
    SaysManyLines,
    LeavesADaemon,
    LeavesAProgram,
    StartsFromAThread,
}

use Mishap::*;

/// What the adapter has of the machine, to be looked for afterwards.
#[derive(Default)]
struct Traces {
    /// Processes, by number and start time.
    processes: Vec<(u32, String)>,
    folders: Vec<PathBuf>,
    is_judged: bool,
}

impl Traces {
    fn assert_gone(&self, what: &str) {
        for (pid, since) in &self.processes {
            let now = start_time(*pid);
            assert_ne!(now.as_ref(), Some(since), "{what}: {pid} is left behind");
        }
        for folder in &self.folders {
            assert!(!folder.exists(), "{what}: {} is left", folder.display());
        }
    }
}

/// What tells a process from others that have had its number.
fn start_time(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(19).map(str::to_owned)
}

#[derive(Clone)]
struct Bad {
    mishap: Mishap,
    traces: Arc<Mutex<Traces>>,
}

struct BadSession {
    mishap: Mishap,
    kept: Option<<Textbook as Subject>::Session>,
}

const TEXTBOOK: Textbook = Textbook { bug: None };

impl Bad {
    fn new(mishap: Mishap) -> Bad {
        Bad {
            mishap,
            traces: Arc::default(),
        }
    }

    fn traces(&self) -> std::sync::MutexGuard<'_, Traces> {
        self.traces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process that nobody stops.
    fn spawn(&self, mut command: std::process::Command) -> std::process::Child {
        let child = command.spawn().expect("start it");
        let since = start_time(child.id()).expect("a child that nobody has reaped");
        self.traces().processes.push((child.id(), since));
        child
    }
}

impl Subject for Bad {
    type Session = BadSession;

    fn profile(&self) -> Profile {
        assert_ne!(self.mishap, PanicsInProfile, "no profile today");
        if self.mishap == ProfileHangs {
            loop {
                thread::park();
            }
        }
        TEXTBOOK.profile()
    }

    async fn start(&self, service: &Service) -> Result<BadSession, SubjectError> {
        if let Some(output) = &service.output {
            let folder = output.parent().expect("the folder of the output");
            self.traces().folders.push(folder.to_owned());
        }
        let session = |kept| BadSession {
            mishap: self.mishap,
            kept,
        };
        match self.mishap {
            PanicsInStart => panic!("no start today"),
            PanicsInTask => {
                tokio::spawn(async { panic!("no task today") });
                return Ok(session(None));
            }
            StartHangs => std::future::pending().await,
            Parks => {
                drop(self.spawn(service.command()));
                loop {
                    thread::park();
                }
            }
            Spins => {
                drop(self.spawn(service.command()));
                while !self.traces().is_judged {
                    thread::yield_now();
                }
                // Nor does it go on, and the other tests have the processor.
                loop {
                    thread::park();
                }
            }
            WaitsForTheChild => {
                self.spawn(service.command()).wait()?;
                return Ok(session(None));
            }
            SaysUpFirst => service.reporter().report(Notice::Up),
            SaysEndsThatNeverWere => {
                let status = ExitStatus::Exited { code: 42 };
                service.reporter().report(Notice::Ended(status));
            }
            RefusesToStart => return Err(SubjectError::new("not today")),
            SaysManyLines => return Err(SubjectError::new("one | two\n  three\n\nfour")),
            LeavesADaemon => drop(self.spawn(service.command())),
            LeavesAProgram => {
                let mut command = std::process::Command::new("sleep");
                command.arg("1000");
                drop(self.spawn(command));
            }
            StartsFromAThread => {
                let (bad, command) = (self.clone(), service.command());
                let thread = thread::spawn(move || drop(bad.spawn(command)));
                thread.join().expect("the thread");
            }
            _ => {}
        }
        Ok(session(Some(TEXTBOOK.start(service).await?)))
    }
}

impl Session for BadSession {
    async fn stop(&self) -> Result<(), SubjectError> {
        match (self.mishap, &self.kept) {
            (PanicsInStop, _) => panic!("no stop today"),
            (StopHangs, _) => std::future::pending().await,
            (RefusesToStop, _) | (_, None) => Err(SubjectError::new("not today")),
            (_, Some(kept)) => kept.stop().await,
        }
    }

    async fn outcome(&self) -> RestReason {
        match (self.mishap, &self.kept) {
            (PanicsInOutcome, _) => panic!("no outcome today"),
            (OutcomeHangs, _) => std::future::pending().await,
            (SaysItFinished, _) => RestReason::Finished { success: true },
            (_, None) => RestReason::Stopped,
            (_, Some(kept)) => kept.outcome().await,
        }
    }
}

/// A mishap, a rule that meets it, the verdict, and what that says.
type Row = (Mishap, &'static str, &'static str, &'static str);

const ROWS: &[Row] = &[
    (
        PanicsInProfile,
        "start-exactly-one",
        "unknown",
        "its profile panicked: ",
    ),
    (
        PanicsInStart,
        "start-exactly-one",
        "unknown",
        "the subject panicked: no start today",
    ),
    (
        PanicsInStop,
        "stop-sync",
        "unknown",
        "the subject panicked: no stop today",
    ),
    (
        PanicsInOutcome,
        "give-up-reports-cause",
        "unknown",
        "the subject panicked: no outcome today",
    ),
    (
        PanicsInTask,
        "start-exactly-one",
        "unknown",
        "the subject panicked: no task today",
    ),
    (
        StartHangs,
        "start-exactly-one",
        "unknown",
        "the subject's start has not returned",
    ),
    (StopHangs, "stop-sync", "fail", "it has not returned by"),
    (
        OutcomeHangs,
        "give-up-reports-cause",
        "unknown",
        "the subject's outcome has not returned",
    ),
    (SaysUpFirst, "up-criterion", "fail", "up at"),
    (
        SaysEndsThatNeverWere,
        "code-exact",
        "unknown",
        "of 19 ends 20 were reported",
    ),
    (
        SaysItFinished,
        "give-up-reports-cause",
        "unknown",
        "it did not give up: finished",
    ),
    (SaysItFinished, "clean-set", "fail", "success"),
    (
        RefusesToStart,
        "start-exactly-one",
        "unknown",
        "the subject did not begin: not today",
    ),
    (
        RefusesToStart,
        "bad-limits-rejected",
        "unknown",
        "the subject did not begin: not today",
    ),
    (
        RefusesToStop,
        "stop-sync",
        "unknown",
        "the subject's stop failed: not today",
    ),
    (
        SaysManyLines,
        "start-exactly-one",
        "unknown",
        "did not begin: one | two; three; four",
    ),
    (LeavesADaemon, "start-exactly-one", "fail", "2 starts"),
    (StartsFromAThread, "start-exactly-one", "fail", "2 starts"),
];

/// In these the machine's clock has to tell that nothing moves.
const BLOCKED: &[Row] = &[
    (
        ProfileHangs,
        "start-exactly-one",
        "unknown",
        "its profile has not returned within 1s",
    ),
    (
        Parks,
        "start-exactly-one",
        "unknown",
        "the subject blocks its thread, which was left behind after",
    ),
    (
        Spins,
        "start-exactly-one",
        "unknown",
        "the subject blocks its thread, which was left behind after",
    ),
    (
        Parks,
        "fd-stable",
        "unknown",
        "the subject blocks its thread, which was left behind after",
    ),
    (
        Parks,
        "dispositions-default",
        "unknown",
        "the subject blocks its thread, which was left behind after",
    ),
    (
        Parks,
        "last-bytes-kept",
        "unknown",
        "the subject blocks its thread, which was left behind after",
    ),
    (
        WaitsForTheChild,
        "start-exactly-one",
        "unknown",
        "the code under test holds the runtime's thread",
    ),
    (
        LeavesAProgram,
        "start-exactly-one",
        "unknown",
        "a child that is no agent runs, and time waits for it: sleep",
    ),
];

fn assert_contained(rows: &[Row], check: fn(Bad, &str) -> Verdict) {
    let mut wrong = Vec::new();
    for (mishap, rule, word, text) in rows {
        let bad = Bad::new(*mishap);
        let what = format!("{mishap:?}, {rule}");
        thread::scope(|scope| {
            let beside = scope.spawn(|| conformance::check(TEXTBOOK, rule));
            let verdict = check(bad.clone(), rule);
            let said = match &verdict {
                Verdict::Pass => String::new(),
                Verdict::Fail(violation) => violation.actual.clone(),
                Verdict::Unsupported(reason) | Verdict::Unknown(reason) => reason.clone(),
                _ => format!("{verdict:?}"),
            };
            if verdict.word() != *word || !said.contains(text) || said.lines().count() != 1 {
                wrong.push(format!("{what}: {verdict:?}"));
            }
            bad.traces().is_judged = true;
            bad.traces().assert_gone(&what);
            assert_eq!(beside.join().unwrap(), Verdict::Pass, "beside {what}");
        });
        let after = conformance::check(TEXTBOOK, rule);
        assert_eq!(after, Verdict::Pass, "after {what}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_bad_adapter_is_named_and_harms_no_other() {
    let guard = leaks::Guard::new();
    assert_contained(ROWS, |bad, rule| conformance::check(bad, rule));
    guard.check().unwrap();
}

#[test]
fn an_adapter_that_blocks_is_left_behind_with_nothing_of_it() {
    let guard = leaks::Guard::new();
    // At once: each takes its time, and none may harm the others.
    thread::scope(|scope| {
        for row in BLOCKED.chunks(1) {
            scope.spawn(move || {
                assert_contained(row, |bad, rule| conformance::check_within(bad, rule, STILL));
            });
        }
    });
    guard.check().unwrap();
}

#[test]
fn who_claims_everything_and_does_nothing_passes_nothing() {
    let report = conformance::run(Bad::new(RefusesToStart));
    assert_eq!(report.with("pass"), Vec::<&str>::new(), "{report}");
    let unknown = report.lines().iter().map(|line| line.verdict.clone());
    for verdict in unknown {
        assert!(!format!("{verdict:?}").contains("panic"), "{report}");
    }
}
