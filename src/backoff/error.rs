//! Why a backoff could not be built.

use std::fmt;
use std::time::Duration;

/// Why a backoff could not be built.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum BackoffError {
    /// A field is zero, which is not allowed for it.
    Zero {
        /// The name of the field.
        field: &'static str,
        /// What to use instead of zero.
        alternative: &'static str,
    },
    /// The cap is below the first delay.
    MaxBelowInitial {
        /// The first delay.
        initial: Duration,
        /// The cap.
        max: Duration,
    },
    /// The multiplier is below 1, infinite or not a number.
    Multiplier {
        /// The refused multiplier.
        value: f64,
    },
    /// The relative jitter is not a fraction from 0 to 1.
    RelativeJitter {
        /// The refused value.
        value: f64,
    },
    /// A delay has more nanoseconds than 64 bits can hold.
    TooLong {
        /// The name of the field.
        field: &'static str,
        /// The refused value.
        value: Duration,
    },
    /// The iterator has no delays.
    NoDelays,
}

impl fmt::Display for BackoffError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BackoffError::Zero { field, alternative } => write!(
                f,
                "{field} is 0s: expected a delay above zero ({alternative})"
            ),
            BackoffError::MaxBelowInitial { initial, max } => write!(
                f,
                "max is {max:?}: expected at least initial, which is {initial:?}"
            ),
            BackoffError::Multiplier { value } => write!(
                f,
                "multiplier is {value}: expected a finite number, 1 or more"
            ),
            BackoffError::RelativeJitter { value } => write!(
                f,
                "jitter is Relative({value}): expected a fraction from 0 to 1"
            ),
            BackoffError::TooLong { field, value } => write!(
                f,
                "{field} is {value:?}: expected at most 584 years, {MAX_DELAY:?}"
            ),
            BackoffError::NoDelays => f.write_str("delays is empty: expected at least one delay"),
        }
    }
}

impl std::error::Error for BackoffError {}

/// The longest delay: delays are counted in 64 bits of nanoseconds.
const MAX_DELAY: Duration = Duration::from_nanos(u64::MAX);

/// Returns the delay in nanoseconds, or an error that names the field.
pub(super) fn whole_nanos(field: &'static str, value: Duration) -> Result<u64, BackoffError> {
    u64::try_from(value.as_nanos()).map_err(|_| BackoffError::TooLong { field, value })
}

/// Checks a first delay and a cap, and returns both in nanoseconds.
pub(crate) fn bounds(initial: Duration, max: Duration) -> Result<(u64, u64), BackoffError> {
    if initial.is_zero() {
        return Err(BackoffError::Zero {
            field: "initial",
            alternative: "for none at all, ConstantBackoff::new(Duration::ZERO)",
        });
    }
    if max < initial {
        return Err(BackoffError::MaxBelowInitial { initial, max });
    }
    Ok((whole_nanos("initial", initial)?, whole_nanos("max", max)?))
}

/// Checks a multiplier.
pub(crate) fn multiplier(value: f64) -> Result<f64, BackoffError> {
    if value.is_finite() && value >= 1.0 {
        Ok(value)
    } else {
        Err(BackoffError::Multiplier { value })
    }
}

/// Checks the fraction of a relative jitter.
pub(crate) fn fraction(value: f64) -> Result<f64, BackoffError> {
    if (0.0..=1.0).contains(&value) {
        Ok(value)
    } else {
        Err(BackoffError::RelativeJitter { value })
    }
}
