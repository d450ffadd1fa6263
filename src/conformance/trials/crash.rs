//! What becomes of the children of a supervisor that dies, in whole or in part.

use std::thread;
use std::time::{Duration, Instant};

use crate::Script;
use crate::conformance::stage::Stage;
use crate::conformance::trial::{Case, Trial};
use crate::leaks;
use crate::rules::Starter;

pub(super) const TRIALS: &[Trial] = &[Trial {
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
                // Where it died with one of them, that shows at once.
                let _ = tokio::time::timeout(stage.units(1.0), run.ended()).await;
                Ok(())
            })
        });
        vec![case.brief_threads()]
    },
}];

/// real-time: how long threads of the pool are waited for, which end by the machine's clock.
const PATIENCE: Duration = Duration::from_secs(1);

/// Waits until no thread of the pool is left, and holds the subject's own meanwhile: what it would
/// have them do would keep them.
fn outlive_threads(stage: &Stage<'_>) {
    let start = Instant::now();
    while !stage.sim().pool().is_empty() && start.elapsed() < PATIENCE {
        // real-time: nothing says that a thread has ended.
        thread::sleep(Duration::from_millis(1));
    }
}

/// Which thread started that child.
fn starter_of(stage: &Stage<'_>, pid: u32) -> Starter {
    let own = leaks::children_of(nix::unistd::gettid());
    if stage.sim().pool().has_left(pid) {
        Starter::Ended
    } else if own.is_ok_and(|own| own.iter().any(|child| child.pid == pid)) {
        Starter::Own
    } else {
        Starter::Other
    }
}
