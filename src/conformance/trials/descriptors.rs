//! Trials for the rules about what a child inherits: signal state, descriptors, environment,
//! working directory.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::thread;
use std::time::{Duration, Instant};

use super::stop::{order_exit, settled};
use crate::conformance::inheritance::{
    self, BlockedSignal, Descriptor, IgnoredSignal, OpenDescriptor,
};
use crate::conformance::shortage::{Lack, Shortage};
use crate::conformance::stage::Stage;
use crate::conformance::trial::{Case, Trial};
use crate::conformance::trial_error::TrialError;
use crate::rules::{self, DelayCurve, Notice};
use crate::script::Script;
use crate::supervisor::RestartPolicy;

pub(super) const TRIALS: &[Trial] = &[
    Trial {
        rule: "mask-clear",
        cases: |_| {
            vec![Case::new(
                "the subject has a signal blocked",
                Script::new().stay(),
                |stage| {
                    Box::pin(async move {
                        let _blocked = BlockedSignal::new();
                        report(stage).await
                    })
                },
            )]
        },
    },
    Trial {
        rule: "dispositions-default",
        cases: |_| {
            vec![Case::new(
                "the subject has a signal ignored",
                Script::new().stay(),
                |stage| {
                    Box::pin(async move {
                        let _ignored = IgnoredSignal::new();
                        report(stage).await
                    })
                },
            )]
        },
    },
    Trial {
        rule: "fds-declared-only",
        cases: |_| {
            let label = "the subject has a descriptor open over exec";
            vec![Case::new(label, Script::new().stay(), |stage| {
                Box::pin(async move {
                    let _open = OpenDescriptor::new();
                    report(stage).await
                })
            })]
        },
    },
    Trial {
        rule: "fd-stable",
        cases: |profile| {
            let runs = profile.restarts_up_to(24) + 1;
            let delay = profile.unit() / 10;
            let crashes = Case::new("every run crashes", Script::new().exit(1), move |stage| {
                Box::pin(async move {
                    let _live = stage.begin().await?;
                    let mut seen = Vec::new();
                    for _ in 0..runs {
                        stage.started().await?;
                        seen.push(inheritance::open_descriptors());
                    }
                    stage.facts(|facts| facts.descriptors = left_by_each(&seen));
                    Ok(())
                })
            });
            let label = "no process is to be had after the first";
            let fails = Case::new(label, Script::new().stay(), move |stage| {
                Box::pin(async move {
                    let shortage = Shortage::of(Lack::Processes)?;
                    let _live = stage.begin().await?;
                    let run = settled(stage).await?;
                    let _short = shortage.begin();
                    order_exit(&run, 1)?;
                    let failed = |notice: &Notice| matches!(notice, Notice::StartFailed(_));
                    let mut seen = Vec::new();
                    for (count, _) in (1..).zip(0..runs) {
                        stage.heard(count, failed).await?;
                        seen.push(inheritance::open_descriptors());
                    }
                    stage.facts(|facts| facts.descriptors = left_by_each(&seen));
                    Ok(())
                })
            });
            let mut cases = vec![crashes];
            // If a failed start leaves a descriptor open, that shows when the start is tried again
            // and again.
            if profile.reports.start_failures && profile.restarts.failed_starts.are_retried() {
                cases.push(fails);
            }
            let asked = |case: Case| {
                let case = case.ask(move |service| service.delays = DelayCurve::constant(delay));
                case.alone()
            };
            cases.into_iter().map(asked).collect()
        },
    },
    Trial {
        rule: "env-contract",
        cases: |_| {
            let case = Case::new(
                "entries of its own, and one over the subject's",
                Script::new().stay(),
                |stage| {
                    Box::pin(async move {
                        if stage.profile().process.in_test {
                            let own = std::env::vars_os().collect();
                            stage.facts(|facts| facts.environment = own);
                        }
                        report(stage).await
                    })
                },
            );
            vec![case.ask(|service| {
                let entries = [
                    ("CONFORMANCE_TEXT", "two words = \"quoted\""),
                    ("CONFORMANCE_EMPTY", ""),
                    ("HOME", "/nonexistent/home"),
                ];
                service.env = entries
                    .map(|(key, value)| (OsString::from(key), OsString::from(value)))
                    .to_vec();
            })]
        },
    },
    Trial {
        rule: "setup-failure-aborts",
        cases: |_| {
            let case = Case::new(
                "there is no such directory",
                Script::new().stay(),
                |stage| {
                    Box::pin(async move {
                        let _live = stage.begin().await?;
                        stage.pass(2.0).await;
                        Ok(())
                    })
                },
            );
            vec![case.ask(|service| {
                service.policy = RestartPolicy::Never;
                service.current_dir = Some("/nonexistent/directory".into());
            })]
        },
    },
];

/// real-time: how long other threads of the process have to close what they opened meanwhile.
const SETTLE: Duration = Duration::from_secs(1);

/// Returns, for each look but the first, how many of the descriptors that came since the look
/// before stay open. If they seem to grow, other threads of the process get time to close theirs.
/// The subject closes nothing meanwhile, because its thread is blocked.
fn left_by_each(seen: &[BTreeSet<Descriptor>]) -> Vec<usize> {
    // The last two looks are left out: their descriptors may still be in use.
    let seen = &seen[..seen.len().saturating_sub(2)];
    let start = Instant::now();
    loop {
        let open = inheritance::open_descriptors();
        let left = |pair: &[BTreeSet<Descriptor>]| {
            let new = pair[1].difference(&pair[0]);
            new.filter(|descriptor| open.contains(descriptor)).count()
        };
        let left: Vec<usize> = seen.windows(2).map(left).collect();
        if !rules::are_growing(&left) || start.elapsed() > SETTLE {
            return left;
        }
        // real-time: no event says that another thread has closed something.
        thread::sleep(Duration::from_millis(10));
    }
}

/// Has the first run report what it inherited.
async fn report<'a>(stage: &'a Stage<'a>) -> Result<(), TrialError> {
    let _live = stage.begin().await?;
    let run = stage.started().await?;
    if let Some(Some(report)) = stage.wait(run.hygiene()).await {
        stage.facts(|facts| {
            facts.hygiene.insert(run.number(), report);
        });
    }
    Ok(())
}
