//! When an agent counts as up.

use std::time::Duration;

/// When an agent counts as up.
///
/// Source: `Type=` of systemd.service(5), `startsecs` of supervisord, `notification-fd` of
/// s6-supervise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Readiness {
    /// As soon as the program is executed.
    #[default]
    Exec,
    /// When the agent has run for this long.
    MinUptime(Duration),
    /// When the agent says so on its socket, with a line `ready` or an empty line. The supervisor
    /// reads the socket to its end, and ignores other lines.
    Notified,
}
