//! What a subject declares about itself.

// A module imports only from modules above it.
mod setting;

mod time;

mod restarts;

mod delay;

mod limit;

mod stopping;

mod control;

mod readiness;

mod child;

mod group;

mod reports;

mod process;

mod strategy;

mod whole;

pub use child::{ChildProfile, Daemonizer, Environment, OwnGroup};
pub use control::{ControlProfile, WhenRestarting};
pub use delay::{DelayOrigin, DelayProfile, JitterKind};
pub use group::GroupProfile;
pub use limit::{LimitCounts, LimitProfile};
pub use process::{CrashFate, ProcessProfile};
pub use readiness::{NotifyAccess, ReadinessProfile};
pub use reports::ReportProfile;
pub use restarts::{FailedStarts, RestartProfile, SuccessList};
pub use setting::Setting;
pub use stopping::{RepeatedStop, StopProfile, StopReturn, StopScope};
pub use strategy::StrategyProfile;
pub use time::{Time, Tolerance};
pub use whole::Profile;
