//! Puts a subject to the rules.

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::report::{Line, Report};
use super::stage::{self, Halt, Stage};
use super::strategy;
use super::subject::{AnySubject, Subject};
use super::trial::{Case, Trial};
use super::trials;
use crate::rules::{self, Observed, Profile, Rule, Time, Verdict};
use crate::sim::Sim;

/// real-time: how long nothing may move in a case before it is ended.
const STILL: Duration = Duration::from_secs(5);

/// real-time: how long the cases of one rule may take, and as much again, before their thread is left
/// behind.
const LONG: Duration = Duration::from_secs(60);

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
    judge_apart(&Arc::new(subject), rule)
}

/// The verdicts of all rules on a subject. Where standard error is a terminal, each shows there as
/// it comes.
pub fn run<S>(subject: S) -> Report
where
    S: Subject + Send + Sync + 'static,
    S::Session: 'static,
{
    let subject = Arc::new(subject);
    let name = profile_of(&*subject).map_or_else(|error| error, |profile| profile.name);
    let rules: Mutex<VecDeque<(usize, &'static Rule)>> =
        Mutex::new(rules::all().enumerate().collect());
    let lines: Mutex<Vec<(usize, Line)>> = Mutex::default();
    let shows = std::io::stderr().is_terminal();
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let next = rules
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .pop_front();
                    let Some((place, rule)) = next else { return };
                    let start = Instant::now();
                    let verdict = judge_apart(&subject, rule);
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
    Report::new(name, lines.into_iter().map(|(_, line)| line).collect())
}

/// Judges on a thread of its own, which is left behind where the subject never lets go of it.
fn judge_apart<S>(subject: &Arc<S>, rule: &'static Rule) -> Verdict
where
    S: Subject + Send + Sync + 'static,
    S::Session: 'static,
{
    let (sender, receiver) = mpsc::channel();
    let subject = Arc::clone(subject);
    let judge = move || {
        // Nobody may wait any more.
        let _ = sender.send(judge(&*subject, rule));
    };
    let thread = thread::Builder::new().name(rule.id.to_owned()).spawn(judge);
    let thread = match thread {
        Ok(thread) => thread,
        Err(error) => return Verdict::Unknown(format!("no thread to judge on: {error}")),
    };
    match receiver.recv_timeout(LONG * 2) {
        Ok(verdict) => {
            // It has nothing left to do, and leaves no trace in what comes after it.
            let _ = thread.join();
            verdict
        }
        Err(mpsc::RecvTimeoutError::Timeout) => {
            Verdict::unknown("the subject does not let go of its thread; it was left behind")
        }
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            Verdict::unknown("the thread that judged ended by a panic")
        }
    }
}

/// What the subject declares, or what its panic said.
pub(super) fn profile_of(subject: &dyn AnySubject) -> Result<Profile, String> {
    catch_unwind(AssertUnwindSafe(|| subject.profile()))
        .map_err(|panic| format!("its profile panicked: {}", crate::sim::panic_text(&*panic)))
}

fn judge(subject: &dyn AnySubject, rule: &'static Rule) -> Verdict {
    let profile = match profile_of(subject) {
        Ok(profile) => profile,
        Err(error) => return Verdict::Unknown(error),
    };
    if let Some(lacking) = rule.lacking(&profile) {
        return Verdict::Unsupported(lacking);
    }
    if let Some(reason) = rule.planned() {
        return Verdict::Unknown(format!("planned: {reason}"));
    }
    let Some(trial) = trials::all().find(|trial| trial.rule == rule.id) else {
        return Verdict::unknown("nothing is done to see it");
    };
    judge_by(subject, &profile, rule, trial)
}

fn judge_by(
    subject: &dyn AnySubject,
    profile: &Profile,
    rule: &'static Rule,
    trial: &Trial,
) -> Verdict {
    let cases = (trial.cases)(profile);
    if cases.is_empty() {
        return Verdict::unknown("no case of it fits what the profile declares");
    }
    let start = Instant::now();
    let mut unknown = None;
    for case in cases {
        if start.elapsed() > LONG {
            return Verdict::Unknown(format!("its cases took longer than {LONG:?}"));
        }
        let judged = if rule.is_of_strategy() {
            let service = stage::asked(Stage::SERVICE, profile, &case.ask);
            Ok((strategy::judge(subject, profile, rule, &service), None))
        } else {
            play(subject, profile, &case).map(|(observed, halted)| (rule.check(&observed), halted))
        };
        match judged {
            Ok((verdict, halted)) => match verdict {
                Verdict::Fail(mut violation) => {
                    if !case.label.is_empty() {
                        violation.case = Some(case.label);
                    }
                    return Verdict::Fail(violation);
                }
                Verdict::Pass => {
                    if let Some(Halt(reason)) = halted {
                        unknown.get_or_insert(reason);
                    }
                }
                // What the profile has, the delays of this case may still leave no room for.
                Verdict::Unsupported(reason) | Verdict::Unknown(reason) => {
                    let reason = match halted {
                        Some(Halt(halt)) => format!("{reason}: {halt}"),
                        None => reason,
                    };
                    unknown.get_or_insert(reason);
                }
            },
            Err(reason) => {
                unknown.get_or_insert(reason);
            }
        }
    }
    unknown.map_or(Verdict::Pass, Verdict::Unknown)
}

/// Plays a case in a sim of its own.
fn play(
    subject: &dyn AnySubject,
    profile: &Profile,
    case: &Case,
) -> Result<(Observed, Option<Halt>), String> {
    let mut builder = Sim::builder().allow_leaks().watchdog(STILL);
    if profile.time != Time::Virtual {
        builder = builder.real_time().watchdog(LONG);
    }
    let sim = builder.build().map_err(|error| error.to_string())?;
    let mut seen = None;
    let ended = sim.try_run(async |handle| {
        let stage = Stage::new(handle, subject, profile, case.script.clone(), &case.ask);
        let halted = (case.drive)(&stage).await.err();
        seen = Some((stage.observed(), halted));
    });
    match (seen, ended) {
        (Some(seen), _) => Ok(seen),
        (None, Err(failure)) => Err(failure.to_string()),
        (None, Ok(_)) => Err("the case was not played to its end".to_owned()),
    }
}
