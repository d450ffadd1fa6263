//! How a delay is spread at random.

/// How random draws spread the delays. Below, `v` is `min(max, initial·multiplierⁿ)`. `U(a, b)` is
/// a uniform draw from a to b, both included.
///
/// If a range reaches above the cap, the draw is made from the part below the cap. To clamp the
/// delay after the draw would be wrong: many delays would then be exactly the cap, and the restarts
/// that jitter should spread would happen together.
///
/// Source: the relative jitter of the Go package `supervise`; full, equal and decorrelated as in
/// Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Jitter {
    /// No jitter: the delay is `v`.
    #[default]
    None,
    /// `U(v·(1−j), min(max, v·(1+j)))`; j from 0 to 1.
    Relative(f64),
    /// `U(0, v)`
    Full,
    /// `v/2 + U(0, v/2)`
    Equal,
    /// `U(initial, min(max, 3·prev))`, where `prev` is the previous delay. At attempt 0 and after a
    /// reset, `prev` is `initial`. The multiplier is not used.
    Decorrelated,
}
