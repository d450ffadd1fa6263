//! A point in a clock's time.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

/// A point in time: the time since its clock's origin, in whole nanoseconds.
///
/// Timestamps of one clock can be compared and subtracted. Timestamps of two clocks have nothing to
/// do with each other. This is a type of its own because pure code and recorded timelines need to
/// make timestamps from numbers. Neither [`std::time::Instant`] nor tokio's `Instant` can be made
/// from a number.
///
/// ```
/// use std::time::Duration;
/// use supervise_harness::Timestamp;
///
/// let start = Timestamp::ORIGIN + Duration::from_millis(1_500);
/// assert_eq!(start.to_string(), "1.500s");
/// assert_eq!(start - Timestamp::ORIGIN, Duration::from_millis(1_500));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(Duration);

impl Timestamp {
    /// The clock's origin.
    pub const ORIGIN: Timestamp = Timestamp(Duration::ZERO);

    /// Returns the time since the clock's origin.
    #[must_use]
    pub fn since_origin(self) -> Duration {
        self.0
    }

    /// Returns the time since `earlier`, or zero if `earlier` is later.
    #[must_use]
    pub fn saturating_since(self, earlier: Timestamp) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Saturates at the largest duration instead of panicking.
impl Add<Duration> for Timestamp {
    type Output = Timestamp;

    fn add(self, later: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(later))
    }
}

/// Saturates at the largest duration instead of panicking.
impl AddAssign<Duration> for Timestamp {
    fn add_assign(&mut self, later: Duration) {
        *self = *self + later;
    }
}

/// Zero if the right side is later, as for [`Timestamp::saturating_since`].
impl Sub for Timestamp {
    type Output = Duration;

    fn sub(self, earlier: Timestamp) -> Duration {
        self.saturating_since(earlier)
    }
}

/// Prints seconds with three decimal digits, or with more if the value has more.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, nanos) = (self.0.as_secs(), self.0.subsec_nanos());
        if nanos % 1_000_000 == 0 {
            write!(f, "{seconds}.{:03}s", nanos / 1_000_000)
        } else {
            let digits = format!("{nanos:09}");
            write!(f, "{seconds}.{}s", digits.trim_end_matches('0'))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_milliseconds_and_more_only_where_there_is_more() {
        let at = |nanos| (Timestamp::ORIGIN + Duration::from_nanos(nanos)).to_string();
        assert_eq!(at(0), "0.000s");
        assert_eq!(at(1_000_000), "0.001s");
        assert_eq!(at(2_000_500_000), "2.0005s");
        assert_eq!(at(1), "0.000000001s");
    }

    #[test]
    fn saturates_at_both_ends() {
        let last = Timestamp::ORIGIN + Duration::MAX;
        assert_eq!(last + Duration::from_secs(1), last);
        assert_eq!(Timestamp::ORIGIN - last, Duration::ZERO);
    }
}
