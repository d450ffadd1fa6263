//! The units that times and sizes have in a script.

use std::fmt;
use std::time::Duration;

/// The units of times, the largest first, each with its nanoseconds.
pub(super) const TIME_UNITS: &[(&str, u64)] = &[
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// The units of sizes, the largest first, each with its bytes.
pub(super) const SIZE_UNITS: &[(&str, u64)] = &[
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// Writes a number in the largest of the units that it is a whole number of.
fn in_units(f: &mut fmt::Formatter<'_>, value: u64, units: &[(&str, u64)]) -> fmt::Result {
    let fits = units
        .iter()
        .find(|(_, size)| value != 0 && value.is_multiple_of(*size));
    match fits.or(units.last()) {
        Some((unit, size)) => write!(f, "{}{unit}", value / size),
        None => write!(f, "{value}"),
    }
}

/// A duration as scripts write it; those past 584 years as 584 years, which no parser makes.
pub(super) struct Time(pub(super) Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        in_units(
            f,
            u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX),
            TIME_UNITS,
        )
    }
}

/// A number of bytes as scripts write it.
pub(super) struct Size(pub(super) u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        in_units(f, self.0, SIZE_UNITS)
    }
}
