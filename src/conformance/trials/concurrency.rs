//! Trials for the rules about things that happen at the same time.

use super::scope::fixed_delay;
use super::stop::{die_unnoticed, grace_of, settled, signal_of, slow_to_stop};
use crate::conformance::live::Live;
use crate::conformance::stage::Stage;
use crate::conformance::trial::{Case, Trial};
use crate::conformance::trial_error::TrialError;
use crate::rules::{DelayCurve, Profile, Time};
use crate::script::Script;
use crate::supervisor::Readiness;

pub(super) const TRIALS: &[Trial] = &[
    Trial {
        rule: "stop-during-start",
        cases: |_| {
            vec![Case::new("", Script::new(), |stage| {
                Box::pin(async move {
                    let live = stage.begin().await?;
                    live.stop().await;
                    over(stage).await;
                    Ok(())
                })
            })]
        },
    },
    Trial {
        rule: "stop-vs-retry",
        cases: |profile| {
            let unit = profile.unit();
            let case = |label: &str, part: f64| {
                let crash = Script::new().run_for(unit).exit(1);
                let script = Script::runs(1, crash).then(Script::new());
                Case::new(label, script, move |stage| {
                    Box::pin(async move {
                        let live = stage.begin().await?;
                        stage.ended(1).await?;
                        let delay = stage.service().delays.bounds(0).0;
                        tokio::time::sleep(delay.mul_f64(part)).await;
                        live.stop().await;
                        tokio::time::sleep(stage.service().delays.bounds(0).1).await;
                        over(stage).await;
                        Ok(())
                    })
                })
                .ask(move |service| service.delays = DelayCurve::constant(unit * 2))
            };
            // By the machine's clock nobody can hit the end of the delay exactly, and after it
            // there is no retry in flight.
            let (label, end) = match profile.time {
                Time::Virtual => ("at its end", 1.0),
                Time::Real { .. } => ("shortly before its end", 0.9),
            };
            vec![case("in the middle of the delay", 0.5), case(label, end)]
        },
    },
    Trial {
        rule: "stale-exit-ignored",
        cases: |profile| {
            let slow = || Script::runs(1, slow_to_stop(profile)).then(Script::new());
            vec![
                Case::new("the old run takes a while to stop", slow(), |stage| {
                    Box::pin(async move {
                        let live = stage.begin().await?;
                        settled(stage).await?;
                        live.restart().await;
                        look_at_the_second(stage, &live).await
                    })
                }),
                Case::new(
                    "the old run has died, and nobody has noticed",
                    slow(),
                    |stage| {
                        Box::pin(async move {
                            let live = stage.begin().await?;
                            let run = settled(stage).await?;
                            die_unnoticed(&[&run], 1)?;
                            live.restart().await;
                            look_at_the_second(stage, &live).await
                        })
                    },
                ),
            ]
        },
    },
    Trial {
        rule: "no-respawn-in-grace",
        cases: |profile| {
            let grace = grace_of(profile, 2);
            let deaf = || {
                let deaf = Script::new().ignore(signal_of(profile));
                Script::runs(1, deaf).then(Script::new())
            };
            let mut cases = vec![Case::new("at a stop", deaf(), |stage| {
                Box::pin(async move {
                    let live = stage.begin().await?;
                    let run = settled(stage).await?;
                    live.stop().await;
                    stage.wait(run.ended()).await;
                    Ok(())
                })
            })];
            if profile.control.restart {
                cases.push(Case::new("at a restart", deaf(), |stage| {
                    Box::pin(async move {
                        let live = stage.begin().await?;
                        let run = settled(stage).await?;
                        live.restart().await;
                        stage.wait(run.ended()).await;
                        Ok(())
                    })
                }));
            }
            let asked = cases
                .into_iter()
                .map(|case| case.ask(move |service| service.grace = grace));
            asked.collect()
        },
    },
    Trial {
        rule: "concurrent-restarts",
        cases: |profile| {
            vec![Case::new("", slow_to_stop(profile), |stage| {
                Box::pin(async move {
                    let live = stage.begin().await?;
                    settled(stage).await?;
                    tokio::join!(live.restart(), live.restart(), live.restart());
                    over(stage).await;
                    Ok(())
                })
            })]
        },
    },
    Trial {
        rule: "start-while-restarting",
        cases: |profile| {
            vec![Case::new("", slow_to_stop(profile), |stage| {
                Box::pin(async move {
                    let live = stage.begin().await?;
                    settled(stage).await?;
                    let quarter = stage.service().grace / 4;
                    let start = async {
                        tokio::time::sleep(quarter).await;
                        live.start().await;
                    };
                    tokio::join!(live.restart(), start);
                    over(stage).await;
                    Ok(())
                })
            })]
        },
    },
    Trial {
        rule: "control-responsive",
        cases: |profile| {
            let unit = profile.unit();
            let delay = fixed_delay(profile);
            vec![Case::new("", Script::new(), move |stage| {
                Box::pin(async move {
                    const NAME: &str = "flapper";
                    let flaps = Script::new().run_for(unit / 5).exit(1);
                    let flapper = stage.service_of(NAME, flaps, &|service| {
                        service.delays = DelayCurve::constant(unit * 2);
                    });
                    let live = stage.begin().await?;
                    stage.started().await?;
                    // Some subjects do not restart a service at once that has only just started.
                    tokio::time::sleep(delay).await;
                    let _flapper = stage.begin_with(flapper).await?;
                    let run = stage.started_of(NAME).await?;
                    stage.wait(run.ended()).await;
                    // Get into the middle of the flapper's delay.
                    stage.pass(0.5).await;
                    if stage.profile().control.restart {
                        live.restart().await;
                        stage.pass(0.25).await;
                    }
                    live.stop().await;
                    Ok(())
                })
            })]
        },
    },
    Trial {
        rule: "shutdown-during-startup",
        cases: |profile| {
            let mut cases = vec![
                Case::new("the supervisor ends", Script::new(), |stage| {
                    Box::pin(async move {
                        let live = stage.begin().await?;
                        settled(stage).await?;
                        live.end();
                        over(stage).await;
                        Ok(())
                    })
                })
                .ask(starting(profile)),
            ];
            if profile.stopping.returns.is_some() {
                let stops = Case::new("the service is stopped", Script::new(), |stage| {
                    Box::pin(async move {
                        let live = stage.begin().await?;
                        settled(stage).await?;
                        live.stop().await;
                        over(stage).await;
                        Ok(())
                    })
                });
                cases.push(stops.ask(starting(profile)));
            }
            cases
        },
    },
];

/// Asks for a readiness that the service does not reach for a long time, if the subject can tell.
fn starting(profile: &Profile) -> impl Fn(&mut crate::rules::Service) + 'static {
    let readiness = match profile.readiness.notification {
        Some(_) => Readiness::Notified,
        None => Readiness::MinUptime(profile.unit() * 100),
    };
    move |service| service.readiness = readiness
}

/// Lets the grace pass, and a little more.
async fn over(stage: &Stage<'_>) {
    stage.outlast(stage.service().grace).await;
    stage.pass(1.0).await;
}

/// Waits for the second run, watches for a while, and then stops the service if the subject can.
async fn look_at_the_second(stage: &Stage<'_>, live: &Live<'_>) -> Result<(), TrialError> {
    stage.started().await?;
    tokio::select! {
        biased;
        _ = live.outcome() => {}
        () = stage.pass(3.0) => {}
    }
    stage.pass(1.0).await;
    if stage.profile().stopping.returns.is_some() {
        live.stop().await;
        over(stage).await;
    }
    Ok(())
}
