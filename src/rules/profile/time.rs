//! Which clock a subject is tested by, and how exact it has to be.

use std::time::Duration;

/// Which clock a subject is tested by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Time {
    /// Virtual time, for a subject that is tokio code of one thread. One unit is one second.
    Virtual,
    /// The machine's clock.
    Real {
        /// The real time that stands for one second of virtual time, for example a tenth of a
        /// second. It must be so long that the subject can keep to it.
        unit: Duration,
        /// How exact the subject has to be.
        tolerance: Tolerance,
    },
}

/// How far a subject may be off in real time. In virtual time it may not be off at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tolerance {
    /// How early something may happen.
    pub early: Duration,
    /// How late something may happen.
    pub late: Duration,
    /// How much later than it is carried out a call may return.
    pub control: Duration,
}

impl Tolerance {
    /// None at all.
    pub const ZERO: Tolerance = Tolerance {
        early: Duration::ZERO,
        late: Duration::ZERO,
        control: Duration::ZERO,
    };

    /// The same for all three.
    #[must_use]
    pub const fn of(time: Duration) -> Tolerance {
        Tolerance {
            early: time,
            late: time,
            control: time,
        }
    }
}
