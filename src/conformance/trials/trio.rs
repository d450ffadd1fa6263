//! A group of three services.

use crate::conformance::live::Live;
use crate::conformance::stage::Stage;
use crate::conformance::trial_error::TrialError;
use crate::rules::{Service, ServiceGroup};
use crate::script::Script;

/// Has the subject begin with a group of three services. The rule's own service is the second.
/// Their order is neither the order of their names nor that of their agents, nor the reverse of one
/// of these.
pub(super) async fn begin_three<'a>(
    stage: &'a Stage<'a>,
    others: &Script,
    ask: &dyn Fn(&mut Service),
    declare: impl FnOnce(&mut ServiceGroup),
) -> Result<Live<'a>, TrialError> {
    let last = stage.service_of("api", others.clone(), ask);
    let first = stage.service_of("store", others.clone(), ask);
    let mut group = ServiceGroup::new(vec![first, stage.service(), last]);
    // A setting that the rule does not judge gets a value that the subject supports.
    let profile = stage.profile();
    group.strategy = profile
        .group
        .sibling_strategies
        .first()
        .copied()
        .unwrap_or_default();
    group.give_up = profile
        .group
        .give_up_scopes
        .first()
        .copied()
        .unwrap_or_default();
    declare(&mut group);
    stage.begin_group(group).await
}

/// Waits long enough for each service of a group to be stopped, one after the other, and for
/// something more.
pub(super) async fn stops_passed(stage: &Stage<'_>) {
    tokio::time::sleep(stage.service().grace * 3 + stage.profile().tolerance().late * 4).await;
    stage.pass(1.0).await;
}
