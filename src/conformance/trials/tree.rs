//! Trials for the rules about what becomes of descendants.

use std::process::Stdio;

use agent_stub::script::Placement;
use nix::unistd::{Pid, getpgrp, getsid};
use tokio::sync::Mutex;

use super::scope::fixed_delay;
use super::stop::{settled, signal_of};
use crate::conformance::stage::Stage;
use crate::conformance::trial::{Case, Trial};
use crate::conformance::trial_error::TrialError;
use crate::script::Script;
use agent_stub::Signal;

pub(super) const TRIALS: &[Trial] = &[
    Trial {
        rule: "own-group",
        cases: |_| {
            vec![Case::new("", Script::new(), |stage| {
                Box::pin(async move {
                    let _live = stage.begin().await?;
                    let run = stage.started().await?;
                    let hygiene = stage.wait(run.hygiene()).await.flatten();
                    let is_here = stage.profile().process.in_test;
                    stage.facts(|facts| {
                        facts
                            .hygiene
                            .extend(hygiene.map(|hygiene| (run.number(), hygiene)));
                        let session = getsid(None).map_or(0, Pid::as_raw);
                        let own = [getpgrp().as_raw(), session].map(i32::cast_unsigned);
                        facts.own_group = is_here.then_some((own[0], own[1]));
                    });
                    Ok(())
                })
            })]
        },
    },
    Trial {
        rule: "stop-scope",
        cases: |profile| {
            let deaf = Script::new().ignore(signal_of(profile));
            let script = Script::new()
                .start("near", Placement::SameGroup, deaf)
                .start("far", Placement::OwnSession, Script::new());
            vec![Case::new("", script, |stage| {
                Box::pin(async move {
                    let live = stage.begin().await?;
                    let run = settled(stage).await?;
                    live.stop().await;
                    stage.wait(run.ended()).await;
                    stage.outlast(stage.service().grace).await;
                    Ok(())
                })
            })]
        },
    },
    Trial {
        rule: "never-own-group",
        cases: |_| {
            let case = |label: &str, units: f64| {
                let script = Script::new().on(HARMLESS, Script::new().exit(0));
                Case::new(label, script, move |stage| {
                    Box::pin(async move {
                        // Two subjects in this process are in one process group. What one subject
                        // does to the group must not be taken for the other's doing.
                        let _alone = ALONE.lock().await;
                        stand_by(stage).await?;
                        let live = stage.begin().await?;
                        if units > 0.0 {
                            stage.started().await?;
                            stage.pass(units).await;
                        }
                        live.stop().await;
                        stage.pass(1.0).await;
                        Ok(())
                    })
                })
                .ask(|service| service.stop_signal = HARMLESS)
            };
            vec![
                case("stopped while it is up", 1.0),
                case("stopped as soon as it was begun", 0.0),
            ]
        },
    },
    Trial {
        rule: "old-tree-gone",
        cases: |profile| {
            let unit = profile.unit();
            let deaf = Script::new().ignore(signal_of(profile));
            let leaves = || Script::new().start("left", Placement::SameGroup, deaf.clone());
            let crash = Script::runs(1, leaves().run_for(unit).exit(1)).then(Script::new());
            let mut cases = vec![Case::new("after a crash", crash, |stage| {
                Box::pin(async move {
                    let _live = stage.begin().await?;
                    stage.started().await?;
                    stage.started().await?;
                    stage.pass(1.0).await;
                    Ok(())
                })
            })];
            if profile.control.restart {
                let script = Script::runs(1, leaves()).then(Script::new());
                cases.push(Case::new("at a restart", script, |stage| {
                    Box::pin(async move {
                        let live = stage.begin().await?;
                        settled(stage).await?;
                        live.restart().await;
                        stage.started().await?;
                        stage.pass(1.0).await;
                        Ok(())
                    })
                }));
            }
            cases
        },
    },
    Trial {
        rule: "daemonizer",
        cases: |profile| {
            let unit = profile.unit();
            // The daemon outlives the delay, also a delay that cannot be chosen.
            let delay = fixed_delay(profile);
            let daemon = Script::new().run_for(unit * 10 + delay).exit(1);
            let daemonizes = Script::new()
                .start("daemon", Placement::DoubleFork, daemon)
                .run_for(unit)
                .exit(1);
            let script = Script::runs(1, daemonizes).then(Script::new());
            vec![Case::new("", script, |stage| {
                Box::pin(async move {
                    let _live = stage.begin().await?;
                    let run = stage.started().await?;
                    stage.wait(run.ended()).await;
                    stage.pass(12.0).await;
                    let delay = stage.service().delays.bounds(0).1;
                    tokio::time::sleep(delay * 2).await;
                    Ok(())
                })
            })]
        },
    },
];

/// A signal that does nothing to a process that does not trap it.
const HARMLESS: Signal = Signal::URG;

static ALONE: Mutex<()> = Mutex::const_new(());

/// Starts a process in the subject's own process group, which traps `HARMLESS`.
async fn stand_by(stage: &Stage<'_>) -> Result<(), TrialError> {
    const NAME: &str = "bystander";
    let agent = stage.sim().agent(NAME, Script::new().count(HARMLESS));
    let mut command = agent.command();
    command.stdin(Stdio::null()).stdout(Stdio::null());
    // The process ends when the sim ends.
    let child = command.spawn();
    child.map_err(|error| TrialError(format!("the bystander was not started: {error}")))?;
    let started = stage.wait(agent.started()).await;
    started.ok_or_else(|| TrialError("the bystander has not started".to_owned()))?;
    stage.facts(|facts| facts.bystanders.push((NAME.to_owned(), true)));
    stage.pass(1.0).await;
    Ok(())
}
