//! How long it takes until the next start.

use crate::Script;
use crate::conformance::trial::{Case, Trial};
use crate::rules::DelayCurve;

pub(super) const TRIALS: &[Trial] = &[Trial {
    rule: "delay-curve",
    cases: |profile| {
        let unit = profile.unit();
        let crash = Script::new().run_for(unit / 5).exit(1);
        vec![
            Case::new("every run crashes", crash, |stage| {
                Box::pin(async move {
                    let _live = stage.begin().await?;
                    stage.ended(7).await
                })
            })
            .ask(move |service| {
                service.delays = DelayCurve::exponential(unit, 2.0, unit * 10);
            }),
        ]
    },
}];
