//! When a subject gives up, and when its counting begins anew.

use std::time::Duration;

use super::setting::Setting;
use crate::supervisor::RestartLimit;

/// What a limit counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum LimitCounts {
    /// Restarts that nobody asked for, however the run before ended.
    #[default]
    Restarts,
    /// Restarts that nobody asked for, and starts that were asked for.
    Starts,
    /// Restarts after a failure.
    Failures,
}

/// When a subject gives up, and when its counting begins anew.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct LimitProfile {
    /// How many restarts in a row there may be before the subject gives up.
    pub consecutive: Setting<RestartLimit>,
    /// How many restarts within a period there may be before the subject gives up.
    pub window: Setting<RestartLimit>,
    /// What the limits count. Default: restarts that nobody asked for.
    pub counts: LimitCounts,
    /// Whether the first start counts towards the limit.
    pub first_start_counts: bool,
    /// How long a run must be up to count as healthy. After a healthy run, counting begins anew.
    pub reset_after: Setting<Duration>,
}
