//! Trials for the rules about how long it takes until the next start.

use crate::backoff::Jitter;
use crate::conformance::trial::{Case, Trial};
use crate::rules::{DelayCurve, Profile};
use crate::script::Script;

pub(super) const TRIALS: &[Trial] = &[
    Trial {
        rule: "min-spacing",
        cases: |profile| {
            let unit = profile.unit();
            let runs = profile.restarts_up_to(3) as usize + 1;
            vec![
                Case::new(
                    "every run dies at once",
                    Script::new().exit(1),
                    move |stage| {
                        Box::pin(async move {
                            let _live = stage.begin().await?;
                            stage.ended(runs).await
                        })
                    },
                )
                .ask(move |service| service.delays = DelayCurve::constant(unit * 2)),
            ]
        },
    },
    Trial {
        rule: "delay-origin",
        cases: |profile| {
            let unit = profile.unit();
            let case = |label: &str, script: Script| {
                Case::new(label, script, |stage| {
                    Box::pin(async move {
                        let _live = stage.begin().await?;
                        stage.started().await?;
                        stage.started().await?;
                        Ok(())
                    })
                })
                .ask(move |service| service.delays = DelayCurve::constant(unit * 3))
            };
            vec![
                case(
                    "a run shorter than the delay",
                    Script::new().run_for(unit).exit(1),
                ),
                case(
                    "a run longer than the delay",
                    Script::new().run_for(unit * 5).exit(1),
                ),
            ]
        },
    },
    Trial {
        rule: "delay-curve",
        cases: |profile| {
            let unit = profile.unit();
            let runs = profile.restarts_up_to(6) as usize + 1;
            let crash = Script::new().run_for(unit / 5).exit(1);
            vec![
                Case::new("every run crashes", crash, move |stage| {
                    Box::pin(async move {
                        let _live = stage.begin().await?;
                        stage.ended(runs).await
                    })
                })
                .ask(move |service| {
                    service.delays = DelayCurve::exponential(unit, 2.0, unit * 10);
                }),
            ]
        },
    },
    Trial {
        rule: "delay-capped",
        cases: |profile| {
            let mut cases = with_jitter(profile);
            cases.push(without_jitter());
            cases
        },
    },
    Trial {
        rule: "delay-no-overflow",
        cases: |_| vec![without_jitter()],
    },
    Trial {
        rule: "delay-monotone",
        cases: |_| vec![without_jitter()],
    },
    Trial {
        rule: "jitter-law",
        cases: with_jitter,
    },
    Trial {
        rule: "jitter-at-cap",
        cases: with_jitter,
    },
    Trial {
        rule: "jitter-seeded",
        cases: with_jitter,
    },
    Trial {
        rule: "herd-spacing",
        cases: |profile| {
            let unit = profile.unit();
            let crash = move || Script::new().run_for(unit).exit(1);
            let delays = move |service: &mut crate::rules::Service| {
                service.delays =
                    DelayCurve::exponential(unit * 40, 2.0, unit * 160).jitter(Jitter::Full);
            };
            let case = Case::new("four children crash at once", crash(), move |stage| {
                Box::pin(async move {
                    let mut lives = vec![stage.begin().await?];
                    let others = ["second", "third", "fourth"];
                    for name in others {
                        let service = stage.service_of(name, crash(), &delays);
                        lives.push(stage.begin_with(service).await?);
                    }
                    for _ in 0..2 {
                        stage.started().await?;
                        for name in others {
                            stage.started_of(name).await?;
                        }
                    }
                    Ok(())
                })
            });
            vec![case.ask(delays)]
        },
    },
    Trial {
        rule: "backoff-interruptible",
        cases: |profile| {
            let unit = profile.unit();
            let crash = Script::new().run_for(unit / 5).exit(1);
            vec![
                Case::new("stopped in the first delay", crash, |stage| {
                    Box::pin(async move {
                        let live = stage.begin().await?;
                        stage.ended(1).await?;
                        // Get into the delay, however long it is.
                        let (least, _) = stage.service().delays.bounds(0);
                        tokio::time::sleep(least / 4).await;
                        live.stop().await;
                        Ok(())
                    })
                })
                .ask(move |service| service.delays = DelayCurve::constant(unit * 50)),
            ]
        },
    },
];

/// Makes a case with the default delays, which double from 1 unit to 60.
fn without_jitter() -> Case {
    Case::of_strategy("")
}

/// Makes one case for each jitter that can be chosen. If none can be chosen, makes one case with
/// the subject's own.
fn with_jitter(profile: &Profile) -> Vec<Case> {
    if !(profile.delay.takes_jitter() && profile.delay.curve.is_configurable()) {
        return vec![Case::of_strategy("")];
    }
    [
        ("full jitter", Jitter::Full),
        ("equal jitter", Jitter::Equal),
        ("a jitter of a quarter", Jitter::Relative(0.25)),
        ("decorrelated jitter", Jitter::Decorrelated),
    ]
    .into_iter()
    .map(|(label, jitter)| {
        Case::of_strategy(label).ask(move |service| service.delays.jitter = jitter)
    })
    .collect()
}
