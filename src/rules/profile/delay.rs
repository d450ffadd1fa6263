//! How long a subject waits before a restart.

use super::setting::Setting;
use crate::backoff::Jitter;
use crate::rules::curve::DelayCurve;

/// What the delay before a restart is counted from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DelayOrigin {
    /// The end of the run before.
    #[default]
    Exit,
    /// The start of the run before. After a run that was longer than the delay, the next run starts
    /// at once.
    LastStart,
}

/// A law of jitter, without its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JitterKind {
    /// [`Jitter::Relative`].
    Relative,
    /// [`Jitter::Full`].
    Full,
    /// [`Jitter::Equal`].
    Equal,
    /// [`Jitter::Decorrelated`].
    Decorrelated,
}

impl JitterKind {
    /// All laws that a [`DelayCurve`] can have.
    pub const ALL: [JitterKind; 4] = [
        JitterKind::Relative,
        JitterKind::Full,
        JitterKind::Equal,
        JitterKind::Decorrelated,
    ];

    /// The law of a jitter; `None` if there is no jitter.
    #[must_use]
    pub fn of(jitter: Jitter) -> Option<JitterKind> {
        Some(match jitter {
            Jitter::None => return None,
            Jitter::Relative(_) => JitterKind::Relative,
            Jitter::Full => JitterKind::Full,
            Jitter::Equal => JitterKind::Equal,
            Jitter::Decorrelated => JitterKind::Decorrelated,
        })
    }
}

/// How long a subject waits before a restart.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct DelayProfile {
    /// How long the subject waits before a restart, jitter included.
    pub curve: Setting<DelayCurve>,
    /// Which laws of jitter the service can choose.
    pub jitters: Vec<JitterKind>,
    /// What the delays are counted from. Default: the end of the run before.
    pub origin: DelayOrigin,
}

impl DelayProfile {
    /// Whether the service can choose all laws of jitter.
    #[must_use]
    pub fn takes_jitter(&self) -> bool {
        JitterKind::ALL
            .iter()
            .all(|kind| self.jitters.contains(kind))
    }

    /// Whether the service can choose this jitter.
    #[must_use]
    pub fn takes(&self, jitter: Jitter) -> bool {
        JitterKind::of(jitter).is_none_or(|kind| self.jitters.contains(&kind))
    }
}
