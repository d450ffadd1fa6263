//! How long a line of the control connection may be.

/// The most bytes that a line may have, its line end included: 64 KiB. Only a `do` order may be
/// longer.
pub const MAX_LINE: usize = 64 * 1024;

/// The most bytes that a `do` order may have, its line end included: 8 MiB. It carries a script.
pub const MAX_ORDER: usize = 8 * 1024 * 1024;
