//! Trials for the rules about how a service is ended.

use std::time::{Duration, Instant};

use crate::conformance::sent::Sent;
use crate::conformance::stage::Stage;
use crate::conformance::trial::{Case, Trial};
use crate::conformance::trial_error::TrialError;
use crate::rules::{DelayCurve, Profile, Setting};
use crate::script::Script;
use agent_stub::Signal;

pub(super) const TRIALS: &[Trial] = &[
    Trial {
        rule: "stop-signal-first",
        cases: |profile| {
            let mut signals = vec![signal_of(profile)];
            if profile.stopping.signal.is_configurable() {
                signals.push(Signal::INT);
            }
            let grace = grace_of(profile, 5);
            let cases = signals.into_iter().map(|signal| {
                // Long enough for another signal to come.
                let slow = Script::new().run_for(grace / 2).exit(0);
                let others = [
                    Signal::TERM,
                    Signal::INT,
                    Signal::HUP,
                    Signal::QUIT,
                    Signal::USR1,
                    Signal::USR2,
                ];
                let others = others.into_iter().filter(|other| *other != signal);
                let script = others.fold(Script::new().on(signal, slow), Script::count);
                Case::new(format!("stopped by {signal}"), script, |stage| {
                    Box::pin(stop_once(stage))
                })
                .ask(move |service| {
                    service.stop_signal = signal;
                    service.grace = grace;
                })
            });
            cases.collect()
        },
    },
    Trial {
        rule: "grace-not-early",
        cases: |profile| {
            let grace = grace_of(profile, 7);
            let signal = signal_of(profile);
            // In real time the run's own timer may be late.
            let short = (Duration::from_millis(1) + profile.tolerance().late).min(grace / 2);
            let slow = Script::new().run_for(grace - short).exit(0);
            let script = Script::new().on(signal, slow);
            let case = Case::new("", script, |stage| Box::pin(stop_once(stage)));
            vec![case.ask(move |service| service.grace = grace)]
        },
    },
    Trial {
        rule: "grace-not-late",
        cases: |profile| {
            let grace = grace_of(profile, 2);
            let deaf = Script::new().ignore(signal_of(profile));
            let case = Case::new("", deaf, |stage| Box::pin(stop_once(stage)));
            vec![case.ask(move |service| service.grace = grace)]
        },
    },
    Trial {
        rule: "stop-sync",
        cases: |profile| {
            vec![Case::new("", slow_to_stop(profile), |stage| {
                Box::pin(stop_once(stage))
            })]
        },
    },
    Trial {
        rule: "stop-wakes-frozen",
        cases: |profile| {
            let exits = Script::new().exit(0);
            let script = Script::new().on(signal_of(profile), exits).freeze();
            vec![Case::new("", script, |stage| Box::pin(stop_once(stage)))]
        },
    },
    Trial {
        rule: "stop-idempotent",
        cases: |profile| {
            vec![Case::new("", slow_to_stop(profile), |stage| {
                Box::pin(async move {
                    let live = stage.begin().await?;
                    let run = settled(stage).await?;
                    let quarter = stage.service().grace / 4;
                    let again = async {
                        tokio::time::sleep(quarter).await;
                        live.stop().await;
                    };
                    tokio::join!(live.stop(), again);
                    stage.wait(run.ended()).await;
                    // Stop it once more when it is down.
                    stage.pass(1.0).await;
                    live.stop().await;
                    Ok(())
                })
            })]
        },
    },
    Trial {
        rule: "stop-races-exit",
        cases: |_| {
            let dies = |label: &str, code: u8, seen: Seen| {
                Case::new(label, Script::new(), move |stage| {
                    Box::pin(async move {
                        let live = stage.begin().await?;
                        let run = settled(stage).await?;
                        match seen {
                            Seen::ByNobody => die_unnoticed(&[&run], code)?,
                            Seen::JustNow => {
                                order_exit(&run, code)?;
                                // The stop comes at the same instant: the clock does not advance.
                                stage.wait(run.reaped()).await;
                            }
                            Seen::AMomentAgo => {
                                stage.wait(run.exit(code)).await;
                                stage.pass(0.1).await;
                            }
                        }
                        live.stop().await;
                        stage.wait(run.ended()).await;
                        stage.pass(1.0).await;
                        if stage.profile().control.start {
                            live.start().await;
                        }
                        Ok(())
                    })
                })
            };
            vec![
                dies("it is dead, and nobody has noticed", 1, Seen::ByNobody),
                dies("it was reaped at that instant", 1, Seen::JustNow),
                dies(
                    "a moment after an exit that calls for a restart",
                    1,
                    Seen::AMomentAgo,
                ),
                dies(
                    "a moment after an exit that calls for none",
                    0,
                    Seen::AMomentAgo,
                ),
            ]
        },
    },
    Trial {
        rule: "no-reused-pid-kill",
        // There is only one case: a thread can be watched only once.
        cases: |profile| {
            let unit = profile.unit();
            let crash = Script::new().run_for(unit).exit(1);
            let script = Script::runs(2, crash).then(Script::new());
            let case = Case::new("", script, |stage| {
                Box::pin(async move {
                    let sent = Sent::watch().map_err(|error| {
                        TrialError(format!(
                            "the kernel does not let signals be watched: {error}"
                        ))
                    })?;
                    let mut runs = Vec::new();
                    let halted = stop_the_dead(stage, &mut runs).await;
                    let of_run = |pid| {
                        runs.iter()
                            .find(|r| r.pid() == pid)
                            .map(crate::sim::agent::Run::number)
                    };
                    let strays = sent.strays().into_iter();
                    let strays = strays.map(|(signal, pid)| (signal, of_run(pid))).collect();
                    stage.facts(|facts| facts.strays = Some(strays));
                    halted
                })
            });
            vec![case.ask(move |service| service.delays = DelayCurve::constant(unit * 2))]
        },
    },
];

/// Plays runs that end by themselves, and stops the service when no run is there. If the subject
/// can start it again, then plays a run that is stopped.
async fn stop_the_dead<'a>(
    stage: &'a Stage<'a>,
    runs: &mut Vec<crate::sim::agent::Run>,
) -> Result<(), TrialError> {
    let live = stage.begin().await?;
    let ends = if stage.profile().has_restarts() { 2 } else { 1 };
    for _ in 0..ends {
        let run = stage.started().await?;
        runs.push(run.clone());
        stage.wait(run.ended()).await;
    }
    stage.pass(1.0).await;
    live.stop().await;
    if stage.profile().control.start {
        live.start().await;
        runs.push(settled(stage).await?);
        live.stop().await;
        stage.pass(1.0).await;
        live.stop().await;
    }
    stage.pass(1.0).await;
    Ok(())
}

/// Returns the signal that a stop of this subject sends.
pub(super) fn signal_of(profile: &Profile) -> Signal {
    match profile.stopping.signal {
        Setting::Fixed(signal) => signal,
        _ => Signal::TERM,
    }
}

/// Returns the grace if it is fixed, else so many units.
pub(super) fn grace_of(profile: &Profile, units: u32) -> Duration {
    match profile.stopping.grace {
        Setting::Fixed(grace) => grace,
        _ => profile.unit() * units,
    }
}

/// Returns the script of a run that takes half its grace to stop.
pub(super) fn slow_to_stop(profile: &Profile) -> Script {
    let slow = Script::new().run_for(grace_of(profile, 5) / 2).exit(0);
    Script::new().on(signal_of(profile), slow)
}

/// Waits for the next run, and until it has done what its script begins with.
pub(super) async fn settled(stage: &Stage<'_>) -> Result<crate::sim::agent::Run, TrialError> {
    let run = stage.started().await?;
    stage.pass(1.0).await;
    Ok(run)
}

/// Has a run exit, and does not wait until it has.
pub(super) fn order_exit(run: &crate::sim::agent::Run, code: u8) -> Result<(), TrialError> {
    let order = run.perform(&format!("exit {code}"));
    order.map_err(|error| TrialError(error.to_string()))
}

/// When the subject has seen a death.
#[derive(Clone, Copy)]
enum Seen {
    /// The process is a zombie, and the subject has had no turn since.
    ByNobody,
    /// It was reaped in this instant.
    JustNow,
    AMomentAgo,
}

/// real-time: how long the kernel may take to end a process, at most.
const DEATH: Duration = Duration::from_secs(2);

/// Has the runs exit, and blocks this thread until all of them are zombies. A subject on this
/// thread has not noticed any of it. When it is told something before the next await, the runs are
/// dead and unreaped.
pub(super) fn die_unnoticed(runs: &[&crate::sim::agent::Run], code: u8) -> Result<(), TrialError> {
    for run in runs {
        run.exit_at_once(code);
    }
    let start = Instant::now();
    for run in runs {
        // If another thread, or a supervisor in its own process, has reaped a run by then, it is
        // gone.
        while state_of(run.pid()).is_some_and(|state| !matches!(state, 'Z' | 'X')) {
            if start.elapsed() > DEATH {
                return Err(TrialError(format!("run {} does not exit", run.number())));
            }
            // real-time: the runtime must not run meanwhile, so no event can say when the run is
            // dead.
            std::thread::sleep(Duration::from_micros(50));
        }
    }
    Ok(())
}

/// Returns the state of a process, a letter in /proc/PID/stat. `None` if there is no such process.
/// The state follows the process's name, which is in parentheses and may hold any character.
fn state_of(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.trim_start().chars().next()
}

/// Begins, stops, and watches until one unit after the run has ended.
async fn stop_once<'a>(stage: &'a Stage<'a>) -> Result<(), TrialError> {
    let live = stage.begin().await?;
    let run = settled(stage).await?;
    live.stop().await;
    stage.wait(run.ended()).await;
    stage.pass(1.0).await;
    Ok(())
}
