//! Judges a subject by the rules: plays the cases of each rule and has the rule judge what was
//! seen.

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::held::{Held, Running};
use super::inheritance;
use super::panics;
use super::report::{self, Line, SuiteReport};
use super::stage::{self, Stage};
use super::strategy;
use super::subject::{AnySubject, Subject};
use super::trial::{Case, Trial};
use super::trial_error::TrialError;
use super::trials;
use crate::rules::Tolerance;
use crate::rules::{self, ControlCall, Profile, Rule, Time, Verdict};
use crate::sim::{Sim, SimFailure, SimThread};

/// How long the harness waits for a subject.
#[derive(Clone, Copy)]
struct Limits {
    /// real-time: how long nothing may move in a case in virtual time before its sim is ended. If
    /// the subject then keeps the thread for as long again, the thread is left behind. Also how
    /// long the subject may take to return its profile.
    still: Duration,
    /// real-time: how long the cases of one rule may take. No further case begins after that. After
    /// twice this time their thread is left behind. In a case in real time, also how long nothing
    /// may move before its sim is ended.
    long: Duration,
}

const LIMITS: Limits = Limits {
    still: Duration::from_secs(5),
    long: Duration::from_secs(60),
};

/// real-time: how long a thread of the blocking pool waits for more to do in a case that wants to
/// see such threads end. A run that the thread has started should say hello within this time.
const BRIEF: Duration = Duration::from_millis(250);
/// The clock of a case that needs the machine's clock, if the subject's profile declares virtual
/// time.
const REAL: Time = Time::Real {
    unit: Duration::from_millis(50),
    tolerance: Tolerance::of(Duration::from_millis(500)),
};

/// real-time: how often the harness looks whether it has to leave a thread behind.
const LOOK: Duration = Duration::from_millis(100);

/// Judges a subject by one rule and returns the verdict.
///
/// # Panics
///
/// If there is no rule with this id.
#[track_caller]
pub fn check<S>(subject: S, id: &str) -> Verdict
where
    S: Subject + Send + Sync + 'static,
    S::Session: 'static,
{
    let rule = rules::rule(id).unwrap_or_else(|| panic!("there is no rule `{id}`"));
    judge_apart(&Arc::new(subject), rule, LIMITS)
}

/// As [`check`], but nothing may move in a case for `still` of real time, instead of 5 s.
///
/// # Panics
///
/// As [`check`].
#[doc(hidden)]
#[track_caller]
pub fn check_within<S>(subject: S, id: &str, still: Duration) -> Verdict
where
    S: Subject + Send + Sync + 'static,
    S::Session: 'static,
{
    let rule = rules::rule(id).unwrap_or_else(|| panic!("there is no rule `{id}`"));
    let limits = Limits {
        still,
        long: still * 12,
    };
    judge_apart(&Arc::new(subject), rule, limits)
}

/// Judges a subject by all rules and returns the verdicts. If standard error is a terminal, prints
/// each verdict there as soon as it is known.
pub fn run<S>(subject: S) -> SuiteReport
where
    S: Subject + Send + Sync + 'static,
    S::Session: 'static,
{
    let subject = Arc::new(subject);
    let name = match profile_apart(&subject, LIMITS.still) {
        Ok(profile) => profile.name,
        // Without a profile no rule can be judged. To ask for it again for each rule would only
        // take as long each time.
        Err(error) => {
            let unknown = |rule| Line::new(rule, Verdict::unknown(&error), Duration::ZERO);
            return SuiteReport::new(&error, rules::all().map(unknown).collect());
        }
    };
    let rules: Mutex<VecDeque<(usize, &'static Rule)>> =
        Mutex::new(rules::all().enumerate().collect());
    let lines: Mutex<Vec<(usize, Line)>> = Mutex::default();
    let shows = std::io::stderr().is_terminal();
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let _waits = SimThread::wait();
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                let _waits = SimThread::wait();
                loop {
                    let next = rules
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .pop_front();
                    let Some((place, rule)) = next else { return };
                    let start = Instant::now();
                    let verdict = judge_apart(&subject, rule, LIMITS);
                    let line = Line::new(rule, verdict, start.elapsed());
                    if shows {
                        eprintln!("{line}");
                    }
                    let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
                    lines.push((place, line));
                }
            });
        }
    });
    let mut lines = lines.into_inner().unwrap_or_else(PoisonError::into_inner);
    lines.sort_by_key(|(place, _)| *place);
    SuiteReport::new(&name, lines.into_iter().map(|(_, line)| line).collect())
}

/// Judges one rule on a thread of its own. Leaves that thread behind if the subject never lets go
/// of it.
fn judge_apart<S>(subject: &Arc<S>, rule: &'static Rule, limits: Limits) -> Verdict
where
    S: Subject + Send + Sync + 'static,
    S::Session: 'static,
{
    let profile = match profile_apart(subject, limits.still) {
        Ok(profile) => profile,
        Err(error) => return Verdict::Unknown(report::one_line(&error)),
    };
    let (sender, receiver) = mpsc::channel();
    let subject = Arc::clone(subject);
    let held = Arc::<Held>::default();
    let here = Arc::clone(&held);
    let judge = move || {
        Held::enter(here);
        // The receiver may have stopped waiting.
        let _ = sender.send(judge(&*subject, &profile, rule, limits));
    };
    let thread = thread::Builder::new().name(rule.id.to_owned()).spawn(judge);
    let thread = match thread {
        Ok(thread) => thread,
        Err(error) => return Verdict::Unknown(format!("no thread to judge on: {error}")),
    };
    let start = Instant::now();
    // Counts looks instead of elapsed time. Time in which this process was stopped, or in which
    // nobody had a processor, is not the subject's fault.
    let (mut stuck, mut waited) = (Duration::ZERO, Duration::ZERO);
    loop {
        match receiver.recv_timeout(LOOK) {
            Ok(verdict) => {
                // The thread has nothing left to do. After the join, whatever is judged next finds
                // no trace of it.
                let _ = thread.join();
                return in_one_line(verdict);
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                return Verdict::unknown("the thread that judged ended by a panic");
            }
        }
        waited += LOOK;
        stuck = if held.is_stuck() {
            stuck + LOOK
        } else {
            Duration::ZERO
        };
        let is_lost = stuck > limits.still;
        if is_lost || waited > limits.long * 2 {
            held.let_go();
            let how = if is_lost {
                "blocks"
            } else {
                "does not let go of"
            };
            return Verdict::Unknown(format!(
                "the subject {how} its thread, which was left behind after {:.0?}",
                start.elapsed()
            ));
        }
    }
}

/// Puts each text of the verdict on one line. The texts stand in a table, and a subject's errors
/// may have several lines.
fn in_one_line(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::Unsupported(reason) => Verdict::Unsupported(report::one_line(&reason)),
        Verdict::Unknown(reason) => Verdict::Unknown(report::one_line(&reason)),
        Verdict::Fail(mut violation) => {
            for text in [&mut violation.expected, &mut violation.actual] {
                *text = report::one_line(text);
            }
            Verdict::Fail(violation)
        }
        Verdict::Pass => Verdict::Pass,
    }
}

/// Returns what the subject declares, or an error. Asks on a thread of its own, because the subject
/// may never return.
pub(super) fn profile_of_subject<S>(subject: S) -> Result<Profile, String>
where
    S: Subject + Send + Sync + 'static,
    S::Session: 'static,
{
    profile_apart(&Arc::new(subject), LIMITS.still)
}

/// As [`profile_of_subject`], but waits for at most `limit`.
fn profile_apart<S>(subject: &Arc<S>, limit: Duration) -> Result<Profile, String>
where
    S: Subject + Send + Sync + 'static,
    S::Session: 'static,
{
    let (sender, receiver) = mpsc::channel();
    let asked = Arc::clone(subject);
    let ask = move || {
        // The receiver may have stopped waiting.
        let _ = sender.send(profile_of(&*asked));
    };
    let thread = thread::Builder::new().name("profile".to_owned()).spawn(ask);
    thread.map_err(|error| format!("no thread to ask for its profile on: {error}"))?;
    receiver
        .recv_timeout(limit)
        .unwrap_or_else(|_| Err(format!("its profile has not returned within {limit:?}")))
}

/// Returns what the subject declares, or the message of its panic.
fn profile_of(subject: &dyn AnySubject) -> Result<Profile, String> {
    catch_unwind(AssertUnwindSafe(|| subject.profile()))
        .map_err(|panic| format!("its profile panicked: {}", crate::sim::panic_text(&*panic)))
}

fn judge(
    subject: &dyn AnySubject,
    profile: &Profile,
    rule: &'static Rule,
    limits: Limits,
) -> Verdict {
    if let Some(lacking) = rule.lacking(profile) {
        return Verdict::Unsupported(lacking);
    }
    if let Some(reason) = rule.planned() {
        return Verdict::Unknown(format!("planned: {reason}"));
    }
    let Some(trial) = trials::all().find(|trial| trial.rule == rule.id) else {
        return Verdict::unknown("nothing is done to see it");
    };
    judge_by(subject, profile, rule, trial, limits)
}

/// What came of one case.
struct Judged {
    verdict: Verdict,
    /// Why the case was not played to its end.
    halt: Option<String>,
    /// The first call that failed or did not return: a sentence about the call, and the error text
    /// alone.
    call: Option<(String, String)>,
    /// The message of the first panic in the case.
    panic: Option<String>,
}

impl Judged {
    /// Makes a result with nothing but a verdict.
    fn of(verdict: Verdict) -> Judged {
        Judged {
            verdict,
            halt: None,
            call: None,
            panic: None,
        }
    }
}

/// Describes a call that failed or has not returned: a sentence about the call, and the error text
/// alone. Returns `None` for any other call.
fn gone_wrong(call: &ControlCall) -> Option<(String, String)> {
    let what = call.control;
    match (call.to, &call.error) {
        (None, _) => {
            let text = "has not returned";
            Some((format!("the subject's {what} {text}"), text.to_owned()))
        }
        (_, Some(error)) => Some((
            format!("the subject's {what} failed: {error}"),
            error.clone(),
        )),
        _ => None,
    }
}

fn judge_by(
    subject: &dyn AnySubject,
    profile: &Profile,
    rule: &'static Rule,
    trial: &Trial,
    limits: Limits,
) -> Verdict {
    let cases = (trial.cases)(profile);
    if cases.is_empty() {
        return Verdict::unknown("no case of it fits what the profile declares");
    }
    let start = Instant::now();
    let mut unknown = None;
    for case in cases {
        if start.elapsed() > limits.long {
            return Verdict::Unknown(format!("its cases took longer than {:?}", limits.long));
        }
        let judged = if rule.is_of_strategy() {
            let service = stage::asked(Stage::SERVICE, profile, &case.ask);
            Judged::of(strategy::judge(subject, profile, rule, &service))
        } else {
            match play_surely(subject, profile, rule, &case, limits) {
                Ok(judged) => judged,
                Err(failure) if failure.is_stuck() => {
                    // A subject that was stuck once will be stuck again. The other cases would only
                    // take as long.
                    let reason = unknown.unwrap_or_else(|| failure.cause());
                    return Verdict::Unknown(reason);
                }
                Err(failure) => Judged::of(Verdict::Unknown(failure.cause())),
            }
        };
        match judged.verdict {
            Verdict::Fail(mut violation) => {
                if !case.label.is_empty() {
                    violation.case = Some(case.label);
                }
                let panic = judged.panic.map(|text| format!("panic     {text}"));
                violation.excerpt.extend(panic);
                return Verdict::Fail(violation);
            }
            Verdict::Pass => {
                if let Some(reason) = judged.halt {
                    unknown.get_or_insert_with(|| with_panic(reason, judged.panic));
                }
            }
            // The profile supports the rule, but the delays of this case may leave no room for it.
            Verdict::Unsupported(mut reason) | Verdict::Unknown(mut reason) => {
                // A call that failed or has not returned may be why nothing was seen. The rule's
                // reason may already contain its error.
                let call = judged.call.filter(|(_, error)| !reason.contains(error));
                if let Some(halt) = judged.halt.or(call.map(|(text, _)| text)) {
                    reason = format!("{reason}: {halt}");
                }
                unknown.get_or_insert_with(|| with_panic(reason, judged.panic));
            }
        }
    }
    unknown.map_or(Verdict::Pass, Verdict::Unknown)
}

fn with_panic(reason: String, panic: Option<String>) -> String {
    match panic {
        Some(panic) => format!("{reason}; the subject panicked: {panic}"),
        None => reason,
    }
}

/// How many times in a row a case that is played alone must fail before that counts as a failure.
const TRIES: u32 = 3;

/// As [`play`], but repeats a failed case if the case is played alone. Such a case looks at what
/// the whole process has. What other threads do at the same time may look like a failure of the
/// subject, but not each time.
fn play_surely(
    subject: &dyn AnySubject,
    profile: &Profile,
    rule: &'static Rule,
    case: &Case,
    limits: Limits,
) -> Result<Judged, SimFailure> {
    let tries = if case.is_alone { TRIES } else { 1 };
    let mut judged = play(subject, profile, rule, case, limits)?;
    for _ in 1..tries {
        if !matches!(judged.verdict, Verdict::Fail(_)) {
            break;
        }
        judged = play(subject, profile, rule, case, limits)?;
    }
    Ok(judged)
}

/// Plays a case in a sim of its own, and has the rule judge what was seen.
fn play(
    subject: &dyn AnySubject,
    profile: &Profile,
    rule: &'static Rule,
    case: &Case,
    limits: Limits,
) -> Result<Judged, SimFailure> {
    let _alone = case.is_alone.then(inheritance::counting_alone);
    let mut profile = profile.clone();
    if case.is_real && profile.time == Time::Virtual {
        profile.time = REAL;
    }
    let profile = &profile;
    let mut builder = Sim::builder()
        .allow_leaks()
        .may_be_lost()
        .watchdog(limits.still);
    if profile.time != Time::Virtual {
        builder = builder.real_time().watchdog(limits.long);
    }
    if case.has_brief_threads {
        builder = builder.thread_keep_alive(BRIEF);
    }
    let sim = builder
        .build()
        .map_err(|error| SimFailure::setup(error.to_string()))?;
    let mut judged = None;
    panics::listen();
    let mut running = None;
    let ended = sim.try_run(async |handle| {
        running = Some(Running::new(handle.clone()));
        let stage = Stage::new(handle, subject, profile, case.script.clone(), &case.ask);
        let halted = (case.drive)(&stage).await.err();
        judged = Some((stage.observed(), halted));
    });
    drop(running);
    let panic = panics::heard();
    match (judged, ended) {
        // The watchdog has killed the case's processes. What happened after that is not the
        // subject's doing.
        (_, Err(failure)) if failure.is_stuck() => Err(failure),
        (Some((observed, halted)), _) => Ok(Judged {
            verdict: rule.check(&observed.of_trial(rule.id)),
            halt: halted.map(|TrialError(reason)| reason),
            call: observed.calls.iter().find_map(gone_wrong),
            panic,
        }),
        (None, Err(failure)) => Err(failure),
        (None, Ok(_)) => Err(SimFailure::setup(
            "the case was not played to its end".to_owned(),
        )),
    }
}
