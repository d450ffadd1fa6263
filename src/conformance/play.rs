//! Puts a subject to the rules.

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
use super::report::{self, Line, Report};
use super::stage::{self, Halt, Stage};
use super::strategy;
use super::subject::{AnySubject, Subject};
use super::trial::{Case, Trial};
use super::trials;
use crate::rules::{self, Call, Profile, Rule, Time, Verdict};
use crate::sim::{Sim, SimFailure, SimThread};

/// How long a subject is waited for.
#[derive(Clone, Copy)]
struct Limits {
    /// real-time: how long nothing may move in a case before it is ended, and as long again until its
    /// thread is left behind.
    still: Duration,
    /// real-time: how long the cases of one rule may take, and as much again, before their thread is
    /// left behind.
    long: Duration,
}

const LIMITS: Limits = Limits {
    still: Duration::from_secs(5),
    long: Duration::from_secs(60),
};

/// real-time: how long a thread waits for more to do where a case wants to see it end. A run that it has
/// started should say hello before.
const BRIEF: Duration = Duration::from_millis(250);
/// What a case is judged by that needs the machine's clock, where the subject's profile says no other.
const REAL: Time = Time::Real {
    unit: Duration::from_millis(50),
    tolerance: Duration::from_millis(500),
};

/// real-time: how often to look whether a thread has to be left behind.
const LOOK: Duration = Duration::from_millis(100);

/// The verdict of one rule on a subject.
///
/// # Panics
///
/// Where there is no rule with this id.
#[track_caller]
pub fn check<S>(subject: S, id: &str) -> Verdict
where
    S: Subject + Send + Sync + 'static,
    S::Session: 'static,
{
    let rule = rules::rule(id).unwrap_or_else(|| panic!("there is no rule `{id}`"));
    judge_apart(&Arc::new(subject), rule, LIMITS)
}

/// As [`check`], of a subject in which nothing may move for so long in real time, instead of 5 s.
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

/// The verdicts of all rules on a subject. Where standard error is a terminal, each shows there as
/// it comes.
pub fn run<S>(subject: S) -> Report
where
    S: Subject + Send + Sync + 'static,
    S::Session: 'static,
{
    let subject = Arc::new(subject);
    let name = match profile_apart(&subject, LIMITS.still) {
        Ok(profile) => profile.name,
        // No rule can be judged, and each would only take as long.
        Err(error) => {
            let unknown = |rule| Line::new(rule, Verdict::unknown(&error), Duration::ZERO);
            return Report::new(&error, rules::all().map(unknown).collect());
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
    Report::new(&name, lines.into_iter().map(|(_, line)| line).collect())
}

/// Judges on a thread of its own, which is left behind where the subject never lets go of it.
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
        // Nobody may wait any more.
        let _ = sender.send(judge(&*subject, &profile, rule, limits));
    };
    let thread = thread::Builder::new().name(rule.id.to_owned()).spawn(judge);
    let thread = match thread {
        Ok(thread) => thread,
        Err(error) => return Verdict::Unknown(format!("no thread to judge on: {error}")),
    };
    let start = Instant::now();
    // By looks: time in which this process was stopped, or nobody had a processor, is nobody's fault.
    let (mut stuck, mut waited) = (Duration::ZERO, Duration::ZERO);
    loop {
        match receiver.recv_timeout(LOOK) {
            Ok(verdict) => {
                // It has nothing left to do, and leaves no trace in what comes after it.
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

/// What there is to say stands in a table, and a subject's errors may have lines of their own.
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

/// What the subject declares, asked on a thread of its own: it may never say.
pub(super) fn profile_of_subject<S>(subject: S) -> Result<Profile, String>
where
    S: Subject + Send + Sync + 'static,
    S::Session: 'static,
{
    profile_apart(&Arc::new(subject), LIMITS.still)
}

/// As [`profile_of_subject`], within so long.
fn profile_apart<S>(subject: &Arc<S>, limit: Duration) -> Result<Profile, String>
where
    S: Subject + Send + Sync + 'static,
    S::Session: 'static,
{
    let (sender, receiver) = mpsc::channel();
    let asked = Arc::clone(subject);
    let ask = move || {
        // Nobody may wait any more.
        let _ = sender.send(profile_of(&*asked));
    };
    let thread = thread::Builder::new().name("profile".to_owned()).spawn(ask);
    thread.map_err(|error| format!("no thread to ask for its profile on: {error}"))?;
    receiver
        .recv_timeout(limit)
        .unwrap_or_else(|_| Err(format!("its profile has not returned within {limit:?}")))
}

/// What the subject declares, or what its panic said.
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
    /// Why it was not played to its end.
    halt: Option<String>,
    /// What became of the first call that did not go well, and what it said itself.
    call: Option<(String, String)>,
    /// What a task of the subject said when it panicked.
    panic: Option<String>,
}

impl Judged {
    /// Where nothing else was seen.
    fn of(verdict: Verdict) -> Judged {
        Judged {
            verdict,
            halt: None,
            call: None,
            panic: None,
        }
    }
}

/// What became of a call that has not returned, or returned an error, and that.
fn gone_wrong(call: &Call) -> Option<(String, String)> {
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
                    // What is stuck once is stuck again: the other cases would only take as long.
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
            // What the profile has, the delays of this case may still leave no room for.
            Verdict::Unsupported(mut reason) | Verdict::Unknown(mut reason) => {
                // What a call came to may be why nothing was seen, where the rule does not say so.
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

/// How often a case that is played alone is played until its failure is one.
const TRIES: u32 = 3;

/// As [`play`]. What a whole process has is not the subject's alone: what others do meanwhile may look like
/// a failure of it, but not each time.
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

/// Plays a case in a sim of its own, and has the rule judge it.
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
        // Its processes were killed under it: what came after that is no doing of the subject.
        (_, Err(failure)) if failure.is_stuck() => Err(failure),
        (Some((observed, halted)), _) => Ok(Judged {
            verdict: rule.check(&observed.of_trial(rule.id)),
            halt: halted.map(|Halt(reason)| reason),
            call: observed.calls.iter().find_map(gone_wrong),
            panic,
        }),
        (None, Err(failure)) => Err(failure),
        (None, Ok(_)) => Err(SimFailure::setup(
            "the case was not played to its end".to_owned(),
        )),
    }
}
