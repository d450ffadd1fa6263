//! Trials for the rules about what becomes of children when their supervisor, or one of its
//! threads, ends.

use std::thread;
use std::time::{Duration, Instant};

use super::scope::restarts;
use crate::conformance::folder::Folder;
use crate::conformance::live::Live;
use crate::conformance::stage::Stage;
use crate::conformance::subject::Local;
use crate::conformance::trial::{Case, Trial};
use crate::conformance::trial_error::TrialError;
use crate::leaks;
use crate::rules::{ANSWERED, CrashFate, DelayCurve, StartedBy};
use crate::script::Script;
use crate::sim::agent::Run;

pub(super) const TRIALS: &[Trial] = &[
    Trial {
        rule: "crash-child-fate",
        cases: |_| {
            vec![case(|stage| {
                Box::pin(async move {
                    let _folder = with_state(stage)?;
                    let (live, run) = begin_first(stage).await?;
                    live.crash().await?;
                    if stage.profile().process.crash_fate == Some(CrashFate::Dies) {
                        give_it_time(stage, run.ended()).await;
                    } else if answers(stage, &run).await {
                        stage.facts(|facts| {
                            facts.numbers.insert(ANSWERED, 1);
                        });
                    }
                    Ok(())
                })
            })]
        },
    },
    Trial {
        rule: "no-duplicate-after-crash",
        cases: |_| {
            vec![case(|stage| {
                Box::pin(async move {
                    let _folder = with_state(stage)?;
                    let (live, run) = begin_first(stage).await?;
                    live.crash().await?;
                    // The subject may refuse to begin, or it may begin and wait for what is left.
                    // Both are right.
                    let second = stage.begin_apart().await;
                    let next = stage.started();
                    tokio::pin!(next);
                    if second.is_ok() && run.is_alive() {
                        // real-time: no event says that a second copy does not come. Its hello may
                        // take as long as the machine may be late.
                        tokio::select! {
                            _ = &mut next => {
                                give_it_time(stage, run.ended()).await;
                                return Ok(());
                            }
                            _ = run.ended() => {}
                            () = stage.outlast(Duration::ZERO) => {}
                        }
                    }
                    // Code 1 is a failure, so that a supervisor that has adopted the run starts it
                    // again.
                    if run.is_alive() {
                        stage.wait(run.exit(1)).await;
                    }
                    let _third = match second {
                        Ok(second) if restarts(stage.profile()) => second,
                        Ok(_) => return Ok(()),
                        Err(_) => stage.begin_apart().await?,
                    };
                    next.await?;
                    Ok(())
                })
            })]
        },
    },
    Trial {
        rule: "second-supervisor",
        cases: |_| {
            vec![case(|stage| {
                Box::pin(async move {
                    let _folder = with_state(stage)?;
                    let (live, run) = begin_first(stage).await?;
                    if stage.begin_apart().await.is_ok() {
                        // real-time: no event says that a second copy does not come.
                        stage.outlast(Duration::ZERO).await;
                    }
                    answers(stage, &run).await;
                    if stage.profile().stopping.returns.is_some() {
                        live.stop().await;
                        give_it_time(stage, run.ended()).await;
                    }
                    Ok(())
                })
            })]
        },
    },
    Trial {
        rule: "thread-exit-safe",
        cases: |_| {
            let case = Case::new("", Script::new().stay(), |stage| {
                Box::pin(async move {
                    let _live = stage.begin().await?;
                    let run = stage.started().await?;
                    if let Some(Some(report)) = stage.wait(run.hygiene()).await {
                        stage.facts(|facts| {
                            facts.hygiene.insert(run.number(), report);
                        });
                    }
                    outlive_threads(stage);
                    let starter = starter_of(stage, run.pid());
                    stage.facts(|facts| facts.starter = Some(starter));
                    // If the run died with one of these threads, that shows at once.
                    let _ = tokio::time::timeout(stage.units(1.0), run.ended()).await;
                    Ok(())
                })
            });
            vec![case.brief_threads()]
        },
    },
];

/// Makes a case of a service that stays up. If it ends, it is started again after 1 ms.
fn case(
    drive: impl for<'a> Fn(&'a Stage<'a>) -> Local<'a, Result<(), TrialError>> + 'static,
) -> Case {
    Case::new("", Script::new(), drive)
        .ask(|service| service.delays = DelayCurve::constant(Duration::from_millis(1)))
        .real_time()
}

/// Makes a new folder the service's `state`. The folder is removed when the returned value is
/// dropped.
pub(super) fn with_state(stage: &Stage<'_>) -> Result<Folder, TrialError> {
    let folder = Folder::new();
    folder.made()?;
    stage.keep_state_in(folder.path(""));
    Ok(folder)
}

/// Begins, and returns when the first run has answered. The run then has nothing left to do.
async fn begin_first<'a>(stage: &'a Stage<'a>) -> Result<(Live<'a>, Run), TrialError> {
    let live = stage.begin_apart().await?;
    let run = stage.started().await?;
    if answers(stage, &run).await {
        Ok((live, run))
    } else {
        Err(TrialError("run 1 does not answer".to_owned()))
    }
}

/// Asks the run for an answer, and returns whether one came. Answering changes nothing in the run.
pub(super) async fn answers(stage: &Stage<'_>, run: &Run) -> bool {
    stage.wait(run.hygiene()).await.flatten().is_some()
}

/// Waits for something that should happen, until it is late.
pub(super) async fn give_it_time<T>(stage: &Stage<'_>, what: impl Future<Output = T>) {
    let late = stage.profile().tolerance().late + stage.units(0.1);
    // real-time: this takes so long only if the thing does not happen.
    let _ = tokio::time::timeout(late, what).await;
}

/// real-time: how long to wait for threads of the blocking pool, which end by the machine's clock.
const PATIENCE: Duration = Duration::from_secs(1);

/// Waits until no thread of the blocking pool is left, and blocks the subject's own thread
/// meanwhile. Otherwise the subject could give the pool more to do, which would keep its threads.
fn outlive_threads(stage: &Stage<'_>) {
    let start = Instant::now();
    while !stage.sim().pool().is_empty() && start.elapsed() < PATIENCE {
        // real-time: no event says that a thread has ended.
        thread::sleep(Duration::from_millis(1));
    }
}

/// Returns which thread started that child.
fn starter_of(stage: &Stage<'_>, pid: u32) -> StartedBy {
    let own = leaks::children_of(nix::unistd::gettid());
    if stage.sim().pool().has_left(pid) {
        StartedBy::Ended
    } else if own.is_ok_and(|own| own.iter().any(|child| child.pid == pid)) {
        StartedBy::Own
    } else {
        StartedBy::Other
    }
}
