//! How a subject tells that a service is up and healthy.

use std::time::Duration;

use super::setting::Setting;

/// Which processes of a service may notify the subject that the service is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotifyAccess {
    /// Only the process that the subject started.
    Main,
    /// Every process that has the descriptor.
    All,
}

/// How a subject tells that a service is up and healthy.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ReadinessProfile {
    /// How long a run must last until the subject takes the service for up.
    pub min_uptime: Setting<Duration>,
    /// The number of the descriptor on which a service says that it is ready, by a line `ready` or
    /// an empty line. `None` if the subject takes no notifications.
    pub notification: Option<u16>,
    /// Which processes of a service may notify.
    pub notify_access: Option<NotifyAccess>,
    /// After how long without a heartbeat the subject kills a service that is up. A heartbeat is a
    /// further notification.
    pub watchdog: Setting<Duration>,
    /// Whether the subject probes a service. The service can then choose everything in its
    /// [`Probe`](crate::supervisor::Probe).
    pub probe: bool,
    /// How long a service may take until it is up.
    pub start_timeout: Setting<Duration>,
}
