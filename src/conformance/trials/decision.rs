//! Trials for the rules about which ends are followed by a start.

use std::path::PathBuf;
use std::time::Duration;

use agent_stub::script::{self, Statement};

use super::limit::limits;
use super::scope::{crash, restarts, restarts_freely};
use super::trio::{begin_three, stops_passed};
use crate::conformance::trial::{Case, Trial};
use crate::rules::{DelayCurve, Profile, Service, Setting};
use crate::script::Script;
use crate::supervisor::Readiness;
use crate::supervisor::RestartPolicy;
use agent_stub::Signal;

pub(super) const TRIALS: &[Trial] = &[
    Trial {
        rule: "policy-matrix",
        cases: policy_matrix,
    },
    Trial {
        rule: "no-start-after-stop",
        cases: no_start_after_stop,
    },
    Trial {
        rule: "status-overrides",
        cases: status_overrides,
    },
    Trial {
        rule: "one-start-per-exit",
        cases: one_start_per_exit,
    },
    Trial {
        rule: "sibling-strategy",
        cases: sibling_strategy,
    },
    Trial {
        rule: "manual-start-after-give-up",
        cases: |profile| {
            let cases = limits(profile, 2).into_iter();
            let cases = cases.map(|limit| {
                let starts = profile.allowed_starts(limit.limit).unwrap_or(1);
                let case = Case::new(limit.label, crash(profile), move |stage| {
                    Box::pin(async move {
                        let live = stage.begin().await?;
                        stage.flapped(starts).await;
                        if stage.profile().reports.rest {
                            live.outcome().await;
                        } else {
                            tokio::time::sleep(stage.a_delay()).await;
                        }
                        stage.pass(1.0).await;
                        live.start().await;
                        stage.pass(1.0).await;
                        Ok(())
                    })
                });
                case.ask(limit.ask())
            });
            cases.collect()
        },
    },
];

/// Returns the policies that the subject can be put to.
fn policies(profile: &Profile) -> Vec<RestartPolicy> {
    match profile.restarts.policy {
        Setting::Configurable => vec![
            RestartPolicy::Never,
            RestartPolicy::OnFailure,
            RestartPolicy::Always,
        ],
        Setting::Fixed(policy) => vec![policy],
        Setting::Unsupported => vec![RestartPolicy::Never],
    }
}

/// Returns how long a run lasts in a case that is not about runs that end at once.
fn soon(profile: &Profile) -> Duration {
    profile.unit() / 10
}

/// Makes a case of one end under this policy, and of what follows that end.
fn one_end(label: String, policy: RestartPolicy, script: Script) -> Case {
    one_end_with(label, policy, script, |_| {})
}

fn one_end_with(
    label: String,
    policy: RestartPolicy,
    script: Script,
    ask: impl Fn(&mut Service) + 'static,
) -> Case {
    let script = Script::runs(1, script).then(Script::new().stay());
    let case = Case::new(label, script, |stage| {
        Box::pin(async move {
            let _live = stage.begin().await?;
            stage.ended(1).await?;
            stage.next_run().await;
            Ok(())
        })
    });
    case.ask(move |service| {
        service.policy = policy;
        ask(service);
    })
}

/// Makes a case of one end after the other. The last one comes last because some policies let no
/// start follow it.
fn all_ends(policy: RestartPolicy, scripts: [Script; 4]) -> Case {
    let count = scripts.len();
    let each = Script::runs(0, Script::new());
    let script = scripts
        .into_iter()
        .fold(each, |all, script| all.then(Script::runs(1, script)));
    let script = script.then(Script::new().stay());
    let case = Case::new(format!("every end, {policy:?}"), script, move |stage| {
        Box::pin(async move {
            let _live = stage.begin().await?;
            stage.flapped(count).await;
            stage.next_run().await;
            Ok(())
        })
    });
    case.ask(move |service| {
        service.policy = policy;
        service.delays = DelayCurve::constant(service.delays.initial);
    })
}

fn policy_matrix(profile: &Profile) -> Vec<Case> {
    let unit = profile.unit();
    let core_dump = Statement::Die {
        signal: Signal::SEGV,
        core: true,
    };
    let soon = soon(profile);
    let core_dump = script::Script(vec![Statement::Run(soon), core_dump]);
    let brief = || Script::new().run_for(soon);
    let ends: [(&str, Script); 4] = [
        ("code 1", brief().exit(1)),
        ("a signal", brief().die_by(Signal::KILL)),
        ("a core dump", core_dump.into()),
        ("code 0", brief().exit(0)),
    ];
    let signal = match profile.stopping.signal {
        Setting::Fixed(signal) => signal,
        _ => Signal::TERM,
    };
    // A run that exits with 0 at the stop signal has failed all the same if the start timeout ended
    // it.
    let willing = Script::new().on(signal, Script::new().exit(0)).stay();
    let times_out = profile.readiness.notification.is_some()
        && profile.readiness.start_timeout.is_configurable();
    let mut cases = Vec::new();
    for policy in policies(profile) {
        if policy != RestartPolicy::Never && restarts_freely(profile) {
            let scripts = ends.each_ref().map(|(_, script)| script.clone());
            cases.push(all_ends(policy, scripts));
        } else {
            for (end, script) in &ends {
                let label = format!("{end}, {policy:?}");
                cases.push(one_end(label, policy, script.clone()));
            }
        }
        if profile.reports.start_failures {
            let label = format!("a failed start, {policy:?}");
            let case = Case::new(label, Script::new(), |stage| {
                Box::pin(async move {
                    let _live = stage.begin().await?;
                    tokio::time::sleep(stage.a_delay()).await;
                    Ok(())
                })
            });
            cases.push(case.ask(move |service| {
                service.policy = policy;
                service.program = PathBuf::from("/nonexistent/program");
            }));
        }
        if times_out {
            let label = format!("a start timeout, {policy:?}");
            cases.push(one_end_with(
                label,
                policy,
                willing.clone(),
                move |service| {
                    service.readiness = Readiness::Notified;
                    service.start_timeout = Some(unit * 5);
                },
            ));
        }
    }
    cases
}

fn no_start_after_stop(profile: &Profile) -> Vec<Case> {
    let ask = |service: &mut Service| {
        service.policy = RestartPolicy::Always;
        service.delays = DelayCurve::constant(service.delays.initial);
    };
    let up = Case::new("while it is up", Script::new().stay(), |stage| {
        Box::pin(async move {
            let live = stage.begin().await?;
            stage.started().await?;
            stage.pass(1.0).await;
            live.stop().await;
            tokio::time::sleep(stage.a_delay() * 2).await;
            Ok(())
        })
    });
    let mut cases = vec![up.ask(ask)];
    if restarts(profile) && profile.delay.curve.is_supported() {
        let delayed = Case::new("in a delay", crash(profile), |stage| {
            Box::pin(async move {
                let live = stage.begin().await?;
                stage.ended(1).await?;
                stage.pass(0.5).await;
                live.stop().await;
                tokio::time::sleep(stage.a_delay() * 2).await;
                Ok(())
            })
        });
        cases.push(delayed.ask(ask));
    }
    cases
}

fn status_overrides(profile: &Profile) -> Vec<Case> {
    let policies = policies(profile);
    let soon = soon(profile);
    let exit = |code| Script::new().run_for(soon).exit(code);
    let dies = Script::new().run_for(soon).die_by(Signal::USR1);
    let mut cases = Vec::new();
    let restarting = [RestartPolicy::Always, RestartPolicy::OnFailure];
    if let Some(policy) = restarting
        .into_iter()
        .find(|policy| policies.contains(policy))
    {
        let prevent = |service: &mut Service| {
            service.prevent.codes.insert(7);
            service.prevent.signals.push(Signal::USR1);
        };
        let mut add = |label: &str, script| {
            cases.push(one_end_with(label.to_owned(), policy, script, prevent));
        };
        add("a code that prevents", exit(7));
        add("a signal that prevents", dies.clone());
        let label = "a code that prevents and forces".to_owned();
        cases.push(one_end_with(label, policy, exit(7), |service| {
            service.prevent.codes.insert(7);
            service.force.codes.insert(7);
        }));
    }
    let force = |service: &mut Service| {
        service.force.codes.insert(0);
        service.force.signals.push(Signal::USR1);
    };
    if policies.contains(&RestartPolicy::Never) {
        let policy = RestartPolicy::Never;
        let label = "a signal that forces".to_owned();
        cases.push(one_end_with(label, policy, dies, force));
    }
    let resting = [RestartPolicy::Never, RestartPolicy::OnFailure];
    if let Some(policy) = resting.into_iter().find(|policy| policies.contains(policy)) {
        let label = "a code that forces".to_owned();
        cases.push(one_end_with(label, policy, exit(0), force));
    }
    cases
}

fn one_start_per_exit(profile: &Profile) -> Vec<Case> {
    let unit = profile.unit();
    let crash = crash(profile);
    let ask = |service: &mut Service| {
        service.delays = DelayCurve::constant(service.delays.initial);
    };
    let script = Script::runs(3, crash.clone()).then(Script::new().stay());
    let crashes = Case::new("three crashes", script, |stage| {
        Box::pin(async move {
            let _live = stage.begin().await?;
            stage.ended(3).await?;
            stage.started().await?;
            // Long enough for another run to start.
            tokio::time::sleep(stage.a_delay() * 2).await;
            Ok(())
        })
    });
    let mut cases = vec![crashes.ask(ask)];
    if profile.control.start && profile.delay.curve.is_supported() {
        let longer = Script::new().run_for(unit).exit(1);
        let script = Script::runs(1, crash)
            .then(Script::runs(1, longer))
            .then(Script::new().stay());
        let asked = Case::new("a start on request in the delay", script, |stage| {
            Box::pin(async move {
                let live = stage.begin().await?;
                stage.ended(1).await?;
                stage.pass(0.5).await;
                live.start().await;
                stage.ended(1).await?;
                stage.started().await?;
                tokio::time::sleep(stage.a_delay() * 2).await;
                Ok(())
            })
        });
        cases.push(asked.ask(ask));
    }
    cases
}

/// Makes one case for each strategy: the second of three services crashes.
fn sibling_strategy(profile: &Profile) -> Vec<Case> {
    let unit = profile.unit();
    let strategies = profile.group.sibling_strategies.iter();
    let cases = strategies.map(|strategy| {
        let strategy = *strategy;
        let crash = Script::new().run_for(unit * 5).exit(1);
        let script = Script::runs(1, crash).then(Script::new().stay());
        Case::new(format!("{strategy:?}"), script, move |stage| {
            Box::pin(async move {
                let stays = Script::new().stay();
                let _live = begin_three(stage, &stays, &|_| {}, |group| {
                    group.strategy = strategy;
                })
                .await?;
                stage.ended(1).await?;
                // To stop the other services may take longer than the delay.
                stops_passed(stage).await;
                stage.next_run().await;
                stops_passed(stage).await;
                Ok(())
            })
        })
    });
    cases.collect()
}
