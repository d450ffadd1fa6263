//! Trials for the rules about what becomes of ended processes.

use std::process::Stdio;

use agent_stub::script::Placement;

use super::crash::{answers, give_it_time, with_state};
use super::stop::{die_unnoticed, settled};
use crate::conformance::stage::Stage;
use crate::conformance::trial::{Case, Trial};
use crate::conformance::trial_error::TrialError;
use crate::rules::{DelayCurve, Notice, ORPHAN, PARENT, REAPED, SUPERVISOR};
use crate::script::Script;
use crate::sim::agent::Run;
use crate::supervisor::RestartPolicy;

pub(super) const TRIALS: &[Trial] = &[
    Trial {
        rule: "no-zombies",
        cases: |profile| {
            let crash = Script::new().run_for(profile.unit()).exit(1);
            let script = Script::runs(2, crash).then(Script::new());
            vec![Case::new("", script, |stage| {
                Box::pin(async move {
                    let live = stage.begin().await?;
                    let run = stage.started().await?;
                    stage.wait(run.ended()).await;
                    // Long enough for two more runs, if the subject restarts.
                    let rest =
                        stage.service().delays.bounds(0).1 + stage.service().delays.bounds(1).1;
                    tokio::time::sleep(rest).await;
                    stage.pass(3.0).await;
                    if stage.profile().stopping.returns.is_some() {
                        live.stop().await;
                        stage.pass(1.0).await;
                    }
                    Ok(())
                })
            })]
        },
    },
    Trial {
        rule: "mass-exit",
        cases: |profile| {
            let unit = profile.unit();
            vec![
                Case::new("", Script::new(), move |stage| {
                    Box::pin(async move {
                        const OTHERS: [&str; 5] = ["w2", "w3", "w4", "w5", "w6"];
                        let mut lives = vec![stage.begin().await?];
                        for name in OTHERS {
                            let service = stage.service_of(name, Script::new(), &|service| {
                                service.delays = DelayCurve::constant(unit);
                            });
                            lives.push(stage.begin_with(service).await?);
                        }
                        let mut runs = vec![stage.started().await?];
                        for name in OTHERS {
                            runs.push(stage.started_of(name).await?);
                        }
                        stage.pass(1.0).await;
                        // All runs die before the subject gets a turn.
                        die_unnoticed(&runs.iter().collect::<Vec<_>>(), 1)?;
                        stage.outlast(stage.service().delays.bounds(0).1).await;
                        Ok(())
                    })
                })
                .ask(move |service| service.delays = DelayCurve::constant(unit)),
            ]
        },
    },
    Trial {
        rule: "instant-exit",
        cases: |_| {
            let script = Script::runs(2, Script::new().exit(3)).then(Script::new());
            vec![Case::new("", script, |stage| {
                Box::pin(async move {
                    let _live = stage.begin().await?;
                    for _ in 0..3 {
                        stage.started().await?;
                    }
                    stage.pass(1.0).await;
                    Ok(())
                })
            })]
        },
    },
    Trial {
        rule: "adopt-orphans",
        cases: |_| {
            let case = |label: &str, placement: Placement| {
                let script = Script::new().start(ORPHAN, placement, Script::new());
                let daemon = placement == Placement::DoubleFork;
                Case::new(label, script, move |stage| {
                    Box::pin(async move {
                        let _folder = with_state(stage)?;
                        let live = stage.begin_apart().await?;
                        let run = stage.started().await?;
                        let orphan = stage.wait(run.descendant(ORPHAN)).await;
                        let orphan =
                            orphan.ok_or_else(|| TrialError("it has no child".to_owned()))?;
                        if !daemon {
                            end_service(stage, &run).await?;
                        }
                        see_parent(stage, live.process()?, &orphan).await;
                        stage.wait(orphan.exit(0)).await;
                        give_it_time(stage, see_reap(stage, &orphan)).await;
                        if daemon {
                            end_service(stage, &run).await?;
                        }
                        Ok(())
                    })
                })
                .ask(|service| service.policy = RestartPolicy::Never)
                .real_time()
            };
            vec![
                case("a daemon", Placement::DoubleFork),
                case("left in its group", Placement::SameGroup),
                case("left in a session of its own", Placement::OwnSession),
            ]
        },
    },
    Trial {
        rule: "no-foreign-reap",
        cases: |_| {
            vec![Case::new("", Script::new(), |stage| {
                Box::pin(async move {
                    const NAME: &str = "bystander";
                    let mut command = stage.sim().agent(NAME, Script::new()).command();
                    command.stdin(Stdio::null()).stdout(Stdio::null());
                    let mut child = command.spawn().map_err(|error| {
                        TrialError(format!("the bystander was not started: {error}"))
                    })?;
                    let bystander = stage.started_of(NAME).await?;
                    let _live = stage.begin().await?;
                    let run = settled(stage).await?;
                    // The bystander is a zombie before the service is one, and still one after
                    // that.
                    stage.wait(bystander.exit(7)).await;
                    stage.wait(run.exit(1)).await;
                    stage.pass(1.0).await;
                    let status = child.try_wait();
                    let is_well = matches!(status, Ok(Some(status)) if status.code() == Some(7));
                    stage.facts(|facts| facts.bystanders.push((NAME.to_owned(), is_well)));
                    Ok(())
                })
            })]
        },
    },
];

/// Has the service's run end, and waits until the subject has reported that.
async fn end_service(stage: &Stage<'_>, run: &Run) -> Result<(), TrialError> {
    stage.wait(run.exit(7)).await;
    if stage.profile().reports.ends {
        let is_end = |notice: &Notice| matches!(notice, Notice::Ended(_));
        // If no report comes, the rule says so.
        give_it_time(stage, stage.heard(1, is_end)).await;
    }
    Ok(())
}

/// Waits until the orphan was reaped, and records when that was.
async fn see_reap(stage: &Stage<'_>, orphan: &Run) {
    orphan.reaped().await;
    let at = stage.sim().now().since_origin().as_nanos();
    let at = u64::try_from(at).unwrap_or(u64::MAX);
    stage.facts(|facts| {
        facts.numbers.insert(REAPED, at);
    });
}

/// Records which process has adopted the orphan, if the orphan lives on.
async fn see_parent(stage: &Stage<'_>, supervisor: u32, orphan: &Run) {
    if !answers(stage, orphan).await {
        return;
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", orphan.pid()));
    let status = status.unwrap_or_default();
    let mut lines = status.lines();
    let parent = lines.find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok());
    stage.facts(|facts| {
        facts.numbers.insert(SUPERVISOR, supervisor.into());
        facts.numbers.extend(parent.map(|parent| (PARENT, parent)));
    });
}
