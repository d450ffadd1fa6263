//! Trials for the rules about how a service comes up.

use std::time::Duration;

use super::readiness::notify;
use super::scope::restarts;
use super::stop::signal_of;
use super::trio::{begin_three, stops_passed};
use crate::backoff::Jitter;
use crate::conformance::stage::Stage;
use crate::conformance::trial::{Case, Trial};
use crate::conformance::trial_error::TrialError;
use crate::rules::{Profile, Service, Setting};
use crate::script::Script;
use crate::supervisor::Readiness;
use crate::supervisor::{RestartLimit, RestartPolicy};
use agent_stub::Signal;

pub(super) const TRIALS: &[Trial] = &[
    Trial {
        rule: "start-exactly-one",
        cases: |_| {
            vec![Case::new("", Script::new().stay(), |stage| {
                Box::pin(async move {
                    let _live = stage.begin().await?;
                    stage.started().await?;
                    // Long enough for another run to start.
                    stage.pass(100.0).await;
                    Ok(())
                })
            })]
        },
    },
    Trial {
        rule: "up-criterion",
        cases: up_criterion,
    },
    Trial {
        rule: "early-exit-is-failure",
        cases: |profile| {
            let uptime = min_uptime(profile);
            let early = Script::new().run_for(uptime / 2).exit(0);
            let script = Script::runs(1, early).then(Script::new().stay());
            failures(profile, &script, move |service| {
                service.readiness = Readiness::MinUptime(uptime);
            })
        },
    },
    Trial {
        rule: "start-timeout",
        cases: start_timeout,
    },
    Trial {
        rule: "bad-limits-rejected",
        cases: bad_limits_rejected,
    },
    Trial {
        rule: "order-and-reverse",
        cases: order_and_reverse,
    },
];

/// Returns the minimum uptime that is asked for, or the fixed one.
fn min_uptime(profile: &Profile) -> Duration {
    match profile.readiness.min_uptime {
        Setting::Fixed(time) => time,
        _ => profile.unit() * 5,
    }
}

fn up_criterion(profile: &Profile) -> Vec<Case> {
    let mut cases = Vec::new();
    if !matches!(profile.readiness.min_uptime, Setting::Fixed(_)) {
        cases.push(Case::new("up at exec", Script::new().stay(), |stage| {
            Box::pin(is_up(stage, 1))
        }));
    }
    if profile.readiness.min_uptime.is_supported() {
        let uptime = min_uptime(profile);
        let ask = move |service: &mut Service| service.readiness = Readiness::MinUptime(uptime);
        let stays = Script::new().stay();
        let case = if restarts(profile) {
            let early = Script::new().run_for(uptime / 2).exit(1);
            let script = Script::runs(1, early).then(stays);
            Case::new("a minimum uptime", script, |stage| {
                Box::pin(is_up(stage, 2))
            })
        } else {
            Case::new("a minimum uptime", stays, |stage| Box::pin(is_up(stage, 1)))
        };
        cases.push(case.ask(ask));
    }
    cases
}

/// Waits for so many runs to start, and then long enough for the last of them to be up.
async fn is_up<'a>(stage: &'a Stage<'a>, runs: usize) -> Result<(), TrialError> {
    let _live = stage.begin().await?;
    for _ in 0..runs {
        stage.started().await?;
    }
    if let Readiness::MinUptime(time) = stage.service().readiness {
        tokio::time::sleep(time).await;
    }
    tokio::time::sleep(stage.profile().tolerance().late * 2).await;
    stage.pass(1.0).await;
    Ok(())
}

/// Makes cases of a first run that fails, under the policies that show that.
fn failures(
    profile: &Profile,
    script: &Script,
    ask: impl Fn(&mut Service) + Copy + 'static,
) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |label: &str, policy| {
        let case = Case::new(label, script.clone(), |stage| {
            Box::pin(async move {
                let live = stage.begin().await?;
                stage.ended(1).await?;
                stage.followed(&live).await;
                Ok(())
            })
        });
        cases.push(case.ask(move |service| {
            service.policy = policy;
            ask(service);
        }));
    };
    let chosen = profile.restarts.policy.is_configurable();
    if chosen || profile.restarts.policy == Setting::Fixed(RestartPolicy::OnFailure) {
        add("restart on failure", RestartPolicy::OnFailure);
    }
    if profile.reports.rest && (chosen || !restarts(profile)) {
        add("no restart", RestartPolicy::Never);
    }
    cases
}

fn start_timeout(profile: &Profile) -> Vec<Case> {
    let timeout = match profile.readiness.start_timeout {
        Setting::Fixed(timeout) => timeout,
        _ => profile.unit() * 5,
    };
    let readiness = match (profile.readiness.notification, profile.readiness.min_uptime) {
        (Some(_), _) => Readiness::Notified,
        (None, Setting::Configurable) => Readiness::MinUptime(timeout * 10),
        (None, Setting::Fixed(time)) if time > timeout => Readiness::MinUptime(time),
        _ => return Vec::new(),
    };
    let signal = match profile.stopping.signal {
        Setting::Fixed(signal) => signal,
        _ => Signal::TERM,
    };
    // A run that exits with 0 at the stop signal has failed all the same if the start timeout ended
    // it.
    let script = Script::new().on(signal, Script::new().exit(0)).stay();
    failures(profile, &script, move |service| {
        service.readiness = readiness;
        service.start_timeout = Some(timeout);
    })
}

fn bad_limits_rejected(profile: &Profile) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |label: &str, ask: fn(&mut Service)| {
        let is_first = cases.is_empty();
        let case = Case::new(label, Script::new().stay(), move |stage| {
            Box::pin(async move {
                if is_first {
                    let sound = stage.service_of("sound", Script::new().stay(), &|_| {});
                    stage.begin_with(sound).await?;
                }
                // A refusal is no halt: it is what the rule asks for.
                let _ = stage.begin().await;
                Ok(())
            })
        });
        cases.push(case.ask(ask));
    };
    if profile.delay.curve.is_configurable() {
        add("delays multiplied by NaN", |service| {
            service.delays.multiplier = f64::NAN;
        });
        add("delays multiplied by −1", |service| {
            service.delays.multiplier = -1.0;
        });
        add("delays multiplied by infinity", |service| {
            service.delays.multiplier = f64::INFINITY;
        });
        if profile.delay.takes_jitter() {
            add("a jitter of NaN", |service| {
                service.delays.jitter = Jitter::Relative(f64::NAN);
            });
            add("a jitter of −1", |service| {
                service.delays.jitter = Jitter::Relative(-1.0);
            });
        }
    }
    if profile.limit.window.is_configurable() {
        add("a limit within 0s", |service| {
            service.limit = RestartLimit::Window {
                restarts: std::num::NonZeroU32::MIN,
                within: Duration::ZERO,
            };
        });
    }
    if profile.limit.reset_after.is_configurable() {
        add("healthy after 0s", |service| {
            service.reset_after = Some(Duration::ZERO);
        });
    }
    if profile.readiness.start_timeout.is_configurable() {
        add("a start timeout of 0s", |service| {
            service.start_timeout = Some(Duration::ZERO);
        });
    }
    cases
}

/// Each service takes a unit until it is up, and a unit to stop. So the times show the order.
fn order_and_reverse(profile: &Profile) -> Vec<Case> {
    let unit = profile.unit();
    let readiness = match (profile.readiness.min_uptime, profile.readiness.notification) {
        (Setting::Fixed(time), _) => Readiness::MinUptime(time),
        (Setting::Configurable, None) => Readiness::MinUptime(unit),
        (_, Some(_)) => Readiness::Notified,
        (Setting::Unsupported, None) => return Vec::new(),
    };
    let script = Script::new().on(signal_of(profile), Script::new().run_for(unit).exit(0));
    let script = match readiness {
        Readiness::Notified => notify(script.run_for(unit), profile),
        _ => script,
    };
    let script = script.stay();
    let others = script.clone();
    let ask = move |service: &mut Service| service.readiness = readiness;
    let case = Case::new("", script, move |stage| {
        let others = others.clone();
        Box::pin(async move {
            let live = begin_three(stage, &others, &ask, |_| {}).await?;
            for name in ["store", Stage::SERVICE, "api"] {
                let run = stage.started_of(name).await?;
                if readiness == Readiness::Notified {
                    stage.wait(run.became_ready()).await;
                }
            }
            if let Readiness::MinUptime(time) = readiness {
                tokio::time::sleep(time + stage.profile().tolerance().late * 2).await;
            }
            stage.pass(1.0).await;
            live.stop().await;
            stops_passed(stage).await;
            Ok(())
        })
    });
    vec![case.ask(ask)]
}
