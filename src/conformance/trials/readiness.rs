//! Trials for the rules about when a service is up, and whether it still is.

use agent_stub::script::Placement;

use super::probe;
use crate::conformance::trial::{Case, Trial};
use crate::rules::{DelayCurve, Profile, Setting};
use crate::script::Script;
use crate::supervisor::Readiness;
use crate::supervisor::RestartPolicy;

pub(super) const TRIALS: &[Trial] = &[
    Trial {
        rule: "ready-not-early",
        cases: |profile| {
            let unit = profile.unit();
            let script = notify(Script::new().run_for(unit * 3), profile).stay();
            vec![
                Case::new("", script, |stage| {
                    Box::pin(async move {
                        let _live = stage.begin().await?;
                        let run = stage.started().await?;
                        stage.wait(run.became_ready()).await;
                        stage.pass(1.0).await;
                        Ok(())
                    })
                })
                .ask(|service| service.readiness = Readiness::Notified),
            ]
        },
    },
    Trial {
        rule: "ready-not-stale",
        cases: |profile| {
            let unit = profile.unit();
            let first = notify(Script::new().run_for(unit), profile)
                .run_for(unit)
                .exit(1);
            let second = notify(Script::new().run_for(unit * 3), profile).stay();
            vec![
                Case::new("", Script::runs(1, first).then(second), |stage| {
                    Box::pin(async move {
                        let _live = stage.begin().await?;
                        stage.started().await?;
                        let run = stage.started().await?;
                        stage.wait(run.became_ready()).await;
                        stage.pass(1.0).await;
                        Ok(())
                    })
                })
                .ask(move |service| {
                    service.delays = DelayCurve::constant(unit);
                    service.readiness = Readiness::Notified;
                }),
            ]
        },
    },
    Trial {
        rule: "ready-sender",
        cases: |profile| {
            let unit = profile.unit();
            let helper = notify(Script::new().run_for(unit), profile).stay();
            let helped = Script::new()
                .start("helper", Placement::SameGroup, helper)
                .stay();
            let case = |label: &str, script: Script| {
                Case::new(label, script, |stage| {
                    Box::pin(async move {
                        let _live = stage.begin().await?;
                        stage.started().await?;
                        stage.pass(3.0).await;
                        Ok(())
                    })
                })
                .ask(|service| {
                    service.policy = RestartPolicy::Never;
                    service.readiness = Readiness::Notified;
                })
            };
            vec![
                case("a descendant notifies", helped),
                case(
                    "it notifies and exits",
                    notify(Script::new().run_for(unit), profile).exit(1),
                ),
            ]
        },
    },
    Trial {
        rule: "watchdog",
        cases: |profile| {
            let period = match profile.readiness.watchdog {
                Setting::Fixed(period) => period,
                _ => profile.unit() * 4,
            };
            let mut beating = Script::new();
            for _ in 0..3 {
                beating = beat(beating.run_for(period / 2), profile);
            }
            let case = |label: &str, script: Script| {
                Case::new(label, script, move |stage| {
                    Box::pin(async move {
                        let _live = stage.begin().await?;
                        let run = stage.started().await?;
                        // Longer than until the last beat and the silence after it.
                        let ended = tokio::time::timeout(period * 4, run.ended()).await;
                        if ended.is_ok() {
                            stage.pass(1.0).await;
                        }
                        Ok(())
                    })
                })
                .ask(move |service| {
                    service.policy = RestartPolicy::Never;
                    service.watchdog = Some(period);
                })
            };
            vec![
                case("it never beats", Script::new().stay()),
                case("its heart stops after three beats", beating.stay()),
                case("it is frozen", Script::new().freeze().stay()),
            ]
        },
    },
    Trial {
        rule: "probe-failure-policy",
        cases: probe::cases,
    },
];

/// Adds to a script that the run says that it is ready: on the subject's descriptor, and to the
/// harness.
pub(super) fn notify(script: Script, profile: &Profile) -> Script {
    script
        .ready_on_fd(profile.readiness.notification.unwrap_or_default())
        .ready()
}

/// Adds a heartbeat to a script: on the subject's descriptor, and to the harness.
fn beat(script: Script, profile: &Profile) -> Script {
    let descriptor = profile.readiness.notification.unwrap_or_default();
    let beats = format!("beat fd {descriptor}; beat");
    // This cannot fail: the grammar allows any descriptor.
    script.clone().then_do(&beats).unwrap_or(script)
}
