//! What becomes of the dead.

use std::process::Stdio;

use super::stop::{order_exit, settled};
use crate::Script;
use crate::conformance::stage::Halt;
use crate::conformance::trial::{Case, Trial};
use crate::rules::DelayCurve;

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
                    // Where it restarts, two more runs.
                    let rest =
                        stage.service().delays.bounds(0).1 + stage.service().delays.bounds(1).1;
                    tokio::time::sleep(rest).await;
                    stage.pass(3.0).await;
                    if stage.profile().stop.is_some() {
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
                        // All of them, before anybody gets a turn.
                        for run in &runs {
                            order_exit(run, 1)?;
                        }
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
        rule: "no-foreign-reap",
        cases: |_| {
            vec![Case::new("", Script::new(), |stage| {
                Box::pin(async move {
                    const NAME: &str = "bystander";
                    let mut command = stage.sim().agent(NAME, Script::new()).command();
                    command.stdin(Stdio::null()).stdout(Stdio::null());
                    let mut child = command
                        .spawn()
                        .map_err(|error| Halt(format!("the bystander was not started: {error}")))?;
                    let bystander = stage.started_of(NAME).await?;
                    let _live = stage.begin().await?;
                    let run = settled(stage).await?;
                    // A zombie before the service's, and still one after it.
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
