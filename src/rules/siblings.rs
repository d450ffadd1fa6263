//! The other services of a service's group.

use std::time::Duration;

use super::observed::Observed;
use super::rule::Verdict;
use super::service::ServiceGroup;
use crate::timeline::RunSpan;
use crate::timestamp::Timestamp;

/// Another service of the group, as [`Observed::others_at`] returns it.
pub(super) struct Other<'a> {
    pub(super) place: usize,
    pub(super) name: &'a str,
    pub(super) run: RunSpan,
    pub(super) next: Option<RunSpan>,
}

impl Other<'_> {
    /// What happened to the service's run, in words.
    pub(super) fn fate(&self) -> String {
        match (self.run.exit, self.next) {
            (Some(exit), _) => format!("run {} ended at {exit}", self.run.run),
            (None, Some(next)) => format!("run {} was started at {}", next.run, next.start),
            (None, None) => format!("run {} goes on", self.run.run),
        }
    }
}

impl Observed {
    /// The group of the service, and the service's place in the group's order. The verdict is
    /// unknown if the service is not one of a group.
    pub(super) fn in_group(&self) -> Result<(&ServiceGroup, usize), Verdict> {
        let place = |group: &ServiceGroup| {
            let mut services = group.services.iter();
            services.position(|service| service.name == self.service.name)
        };
        let group = self.group.as_ref().filter(|group| group.services.len() > 1);
        let found = group.and_then(|group| Some((group, place(group)?)));
        found.ok_or_else(|| Verdict::unknown("it was asked for one service alone"))
    }

    /// The other services of the group. Each comes with its place in the group's order, its name,
    /// the run that it had when the service ended, and the run after that. The verdict is unknown
    /// if one of them was not running then.
    pub(super) fn others_at<'a>(
        &'a self,
        group: &'a ServiceGroup,
        ended: Timestamp,
    ) -> Result<Vec<Other<'a>>, Verdict> {
        let mut others = Vec::new();
        for (place, service) in group.services.iter().enumerate() {
            let name = service.name.as_str();
            if name == self.service.name {
                continue;
            }
            let runs = self.timeline.runs(name);
            let ran = |run: &RunSpan| {
                let outlived = run.exit.is_none_or(|exit| exit + self.early() >= ended);
                run.start <= ended && outlived
            };
            let Some(then) = runs.iter().position(ran) else {
                let reason = format!("`{name}` was not running when the other ended");
                return Err(Verdict::Unknown(reason));
            };
            others.push(Other {
                place,
                name,
                run: runs[then],
                next: runs.get(then + 1).copied(),
            });
        }
        Ok(others)
    }

    /// How long it may take to stop all services of the group, one after the other.
    pub(super) fn stops_of(&self, group: &ServiceGroup) -> Duration {
        let graces = group.services.iter().map(|service| service.grace);
        graces.sum::<Duration>() + self.late()
    }
}
