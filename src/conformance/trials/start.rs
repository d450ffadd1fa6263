//! How a service comes up.

use crate::Script;
use crate::conformance::trial::{Case, Trial};

pub(super) const TRIALS: &[Trial] = &[Trial {
    rule: "start-exactly-one",
    cases: |_| {
        vec![Case::new("", Script::new().stay(), |stage| {
            Box::pin(async move {
                let _live = stage.begin().await?;
                stage.started().await?;
                // Time enough for another.
                stage.pass(100.0).await;
                Ok(())
            })
        })]
    },
}];
