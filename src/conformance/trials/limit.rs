//! Trials for the rules about how many starts there are.

use std::num::NonZeroU32;
use std::time::Duration;

use super::scope::crash;
use super::trio::{begin_three, stops_passed};
use crate::conformance::trial::{Case, Trial};
use crate::rules::{DelayCurve, Profile, Service, Setting};
use crate::script::Script;
use crate::supervisor::{RestartLimit, RestartPolicy};
use agent_stub::Signal;

pub(super) const TRIALS: &[Trial] = &[
    Trial {
        rule: "limit-boundary",
        cases: |profile| {
            let cases = limits(profile, 3).into_iter();
            cases.map(|limit| crashes(profile, &limit, 1)).collect()
        },
    },
    Trial {
        rule: "limit-counts",
        cases: limit_counts,
    },
    Trial {
        rule: "window-kind",
        cases: window_kind,
    },
    Trial {
        rule: "limit-degenerate",
        cases: limit_degenerate,
    },
    Trial {
        rule: "give-up-is-terminal",
        cases: |profile| {
            let cases = limits(profile, 2).into_iter().map(|limit| {
                let case = Case::new(limit.label, crash(profile), |stage| {
                    Box::pin(async move {
                        let live = stage.begin().await?;
                        live.outcome().await;
                        if let RestartLimit::Window { within, .. } = stage.service().limit {
                            tokio::time::sleep(within.saturating_mul(2)).await;
                        }
                        // Wait so long that a slow retry shows, too.
                        stage.pass(60.0).await;
                        tokio::time::sleep(stage.a_delay() * 2).await;
                        Ok(())
                    })
                });
                case.ask(limit.ask())
            });
            cases.collect()
        },
    },
    Trial {
        rule: "give-up-reports-cause",
        cases: |profile| {
            let unit = profile.unit();
            let first = Script::new().run_for(unit / 5).exit(1);
            let last = [
                ("a code", Script::new().run_for(unit / 5).exit(3)),
                (
                    "a signal",
                    Script::new().run_for(unit / 5).die_by(Signal::SEGV),
                ),
            ];
            let limits = limits(profile, 2).into_iter().take(1);
            let cases = limits.flat_map(|limit| {
                last.clone().map(|(label, last)| {
                    let script = Script::runs(2, first.clone()).then(last);
                    let case = Case::new(label, script, |stage| {
                        Box::pin(async move {
                            let live = stage.begin().await?;
                            live.outcome().await;
                            Ok(())
                        })
                    });
                    case.ask(limit.ask())
                })
            });
            cases.collect()
        },
    },
    Trial {
        rule: "give-up-scope",
        cases: give_up_scope,
    },
];

/// A limit that the subject can be put to.
#[derive(Clone, Copy)]
pub(super) struct Limit {
    pub(super) label: &'static str,
    pub(super) limit: RestartLimit,
}

impl Limit {
    /// Asks for this limit, and for delays that do not grow.
    pub(super) fn ask(self) -> impl Fn(&mut Service) + Copy + 'static {
        move |service| {
            service.limit = self.limit;
            service.delays = DelayCurve::constant(service.delays.initial);
        }
    }
}

/// Returns the limits that the subject can be put to: so many restarts in a row, and so many within
/// a period that is long enough for all of them. A limit that is fixed is taken as it is.
pub(super) fn limits(profile: &Profile, restarts: u32) -> Vec<Limit> {
    let restarts = NonZeroU32::new(restarts).unwrap_or(NonZeroU32::MIN);
    let mut limits = Vec::new();
    let mut add = |label, setting: Setting<RestartLimit>, asked| match setting {
        Setting::Unsupported => {}
        Setting::Fixed(limit) => limits.push(Limit { label, limit }),
        Setting::Configurable => limits.push(Limit {
            label,
            limit: asked,
        }),
    };
    let within = profile.unit() * 20;
    add(
        "in a row",
        profile.limit.consecutive,
        RestartLimit::Consecutive(restarts),
    );
    add(
        "within a period",
        profile.limit.window,
        RestartLimit::Window { restarts, within },
    );
    limits
}

/// Makes a case of crashes until no more runs come, or until there were `beyond` runs more than are
/// allowed.
fn crashes(profile: &Profile, limit: &Limit, beyond: usize) -> Case {
    flapping(limit.label, crash(profile), profile, limit, beyond)
}

fn flapping(label: &str, script: Script, profile: &Profile, limit: &Limit, beyond: usize) -> Case {
    let most = profile.allowed_starts(limit.limit).unwrap_or(1) + beyond;
    let case = Case::new(label, script, move |stage| {
        Box::pin(async move {
            let _live = stage.begin().await?;
            stage.flapped(most).await;
            Ok(())
        })
    });
    case.ask(limit.ask())
}

fn limit_counts(profile: &Profile) -> Vec<Case> {
    let unit = profile.unit();
    let Some(limit) = limits(profile, 2).into_iter().next() else {
        return Vec::new();
    };
    let mut cases = Vec::new();
    if profile.restarts.policy.is_configurable()
        || profile.restarts.policy == Setting::Fixed(RestartPolicy::Always)
    {
        let clean = Script::new().run_for(unit / 5).exit(0);
        let case = flapping("clean ends", clean, profile, &limit, 2);
        cases.push(case.ask(move |service| {
            limit.ask()(service);
            service.policy = RestartPolicy::Always;
        }));
    }
    if profile.control.restart {
        let most = profile.allowed_starts(limit.limit).unwrap_or(1) + 2;
        let case = Case::new("restarts on request", Script::new().stay(), move |stage| {
            Box::pin(async move {
                let live = stage.begin().await?;
                stage.started().await?;
                for _ in 0..most {
                    stage.pass(0.5).await;
                    if !live.restart().await || stage.next_run().await.is_none() {
                        break;
                    }
                }
                stage.pass(0.5).await;
                Ok(())
            })
        });
        cases.push(case.ask(limit.ask()));
    }
    cases
}

fn window_kind(profile: &Profile) -> Vec<Case> {
    let unit = profile.unit();
    let crash = crash(profile);
    let later = |time: Duration| Script::new().run_for(time).exit(1);
    let mut cases = Vec::new();
    for limit in limits(profile, 3) {
        let allowed = profile.allowed_starts(limit.limit).unwrap_or(1);
        let quick = u32::try_from(allowed - 1).unwrap_or(u32::MAX);
        match limit.limit {
            RestartLimit::Window { restarts, .. } => {
                let within = match profile.limit.window {
                    Setting::Fixed(RestartLimit::Window { within, .. }) => within,
                    _ => unit * 10,
                };
                let limit = Limit {
                    limit: RestartLimit::Window { restarts, within },
                    ..limit
                };
                let script = Script::runs(quick, crash.clone())
                    .then(Script::runs(1, later(within.saturating_add(unit))))
                    .then(Script::new().stay());
                let old = Case::new("old restarts leave the period", script, move |stage| {
                    Box::pin(async move {
                        let _live = stage.begin().await?;
                        stage.flapped(allowed).await;
                        stage.next_run().await;
                        Ok(())
                    })
                });
                cases.push(old.ask(limit.ask()));
                let script = Script::runs(1, crash.clone())
                    .then(Script::runs(1, later(within.mul_f64(0.7))))
                    .then(crash.clone());
                let label = "new restarts stay in the period";
                cases.push(flapping(label, script, profile, &limit, 3));
            }
            _ => {
                let script = Script::runs(quick, later(unit * 20)).then(crash.clone());
                cases.push(flapping("in a row", script, profile, &limit, 2));
            }
        }
    }
    cases
}

fn limit_degenerate(profile: &Profile) -> Vec<Case> {
    let most = NonZeroU32::MAX;
    let within = Duration::MAX;
    let mut limits = Vec::new();
    let is_fixed = |setting| matches!(setting, Setting::Fixed(_));
    if !is_fixed(profile.limit.consecutive) && !is_fixed(profile.limit.window) {
        limits.push(("no limit", RestartLimit::Unlimited));
    }
    if profile.limit.consecutive.is_configurable() {
        limits.push(("as many as there can be", RestartLimit::Consecutive(most)));
    }
    if profile.limit.window.is_configurable() {
        let restarts = most;
        let limit = RestartLimit::Window { restarts, within };
        limits.push(("as many as there can be, within any time", limit));
    }
    let cases = limits.into_iter().map(|(label, limit)| {
        let case = Case::new(label, crash(profile), |stage| {
            Box::pin(async move {
                // The subject may also refuse the limit.
                let Ok(_live) = stage.begin().await else {
                    return Ok(());
                };
                stage.flapped(5).await;
                Ok(())
            })
        });
        case.ask(Limit { label, limit }.ask())
    });
    cases.collect()
}

/// Makes one case for each scope: the subject gives up the second of three services.
fn give_up_scope(profile: &Profile) -> Vec<Case> {
    let Some(limit) = limits(profile, 2).into_iter().next() else {
        return Vec::new();
    };
    let starts = profile.allowed_starts(limit.limit).unwrap_or(1);
    let scopes = profile.group.give_up_scopes.iter();
    let cases = scopes.map(|scope| {
        let scope = *scope;
        let crash = crash(profile);
        let case = Case::new(format!("{scope:?}"), crash, move |stage| {
            Box::pin(async move {
                let stays = Script::new().stay();
                let _live = begin_three(stage, &stays, &|_| {}, |group| {
                    group.give_up = scope;
                })
                .await?;
                stage.flapped(starts).await;
                tokio::time::sleep(stage.a_delay()).await;
                stops_passed(stage).await;
                Ok(())
            })
        });
        case.ask(limit.ask())
    });
    cases.collect()
}
