//! Checks a backoff of your own: `cargo run --example check_my_backoff`.
//!
//! It checks two hand-written backoffs. The second one has a classic bug: it caps the delay and
//! then adds the jitter. For each of them the example draws the curve, and then prints what the
//! checks say.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use supervise_harness::backoff::BackoffStrategy;
use supervise_harness::properties::{self, BackoffParams, Curve, JitterLaw};

const INITIAL: Duration = Duration::from_millis(250);
const CAP: Duration = Duration::from_secs(8);

/// The delay without jitter: 250 ms, doubling, up to 8 s.
fn doubled(attempt: u32) -> f64 {
    let grown = INITIAL.as_secs_f64() * f64::from(2_u32.saturating_pow(attempt));
    grown.min(CAP.as_secs_f64())
}

/// Makes a generator from the seed or, without one, from a random seed.
fn generator(seed: Option<u64>) -> SmallRng {
    SmallRng::seed_from_u64(seed.unwrap_or_else(rand::random))
}

/// Draws from half the delay to all of it.
fn good(seed: Option<u64>) -> impl FnMut(u32) -> Duration {
    let mut generator = generator(seed);
    move |attempt| Duration::from_secs_f64(doubled(attempt) * generator.random_range(0.5..=1.0))
}

/// Draws from half the delay to one and a half times the delay. Once the delay has reached the
/// maximum, that is more than the maximum.
fn bad(seed: Option<u64>) -> impl FnMut(u32) -> Duration {
    let mut generator = generator(seed);
    move |attempt| Duration::from_secs_f64(doubled(attempt) * generator.random_range(0.5..=1.5))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // What both backoffs declare. The checks test what a backoff declares, and nothing else.
    let declared = BackoffParams::builder(INITIAL, CAP)
        .curve(Curve::Exponential { multiplier: 2.0 })
        .seedable();

    println!("good: equal jitter, v/2 + U(0, v/2)\n");
    plot(good(Some(1)));
    println!(
        "\n{}\n",
        properties::backoff(good, &declared.jitter(JitterLaw::Equal).build()?)
    );

    println!("bad: relative jitter, v ± v/2, on top of the cap\n");
    plot(bad(Some(1)));
    println!(
        "\n{}",
        properties::backoff(bad, &declared.jitter(JitterLaw::Relative(0.5)).build()?)
    );

    // In a test, `properties::backoff(…).assert()` fails with the same text.
    Ok(())
}

/// Prints the least, the mean and the longest of 1 000 delays at each attempt, and draws where they
/// lie.
fn plot(mut backoff: impl BackoffStrategy) {
    const WIDTH: usize = 60;
    const LONGEST: f64 = 12.5;
    println!(
        "attempt     min    mean     max  0s{:>WIDTH$}",
        format!("{LONGEST}s")
    );
    for attempt in 0..8 {
        let mut columns = [0_u32; WIDTH];
        let (mut min, mut sum, mut max) = (f64::INFINITY, 0.0, 0.0_f64);
        for _ in 0..1_000 {
            let delay = backoff.next_delay(attempt).as_secs_f64();
            (min, sum, max) = (min.min(delay), sum + delay, max.max(delay));
            let column =
                (0..WIDTH).rfind(|column| delay * WIDTH as f64 >= LONGEST * *column as f64);
            columns[column.unwrap_or(0)] += 1;
        }
        let bars: String = columns.iter().map(|count| shade(*count)).collect();
        println!(
            "{attempt:>7} {min:>7.3} {:>7.3} {max:>7.3}  {}",
            sum / 1_000.0,
            bars.trim_end()
        );
    }
    println!(
        "{:>31}  {:>width$} the cap",
        "",
        "^",
        width = 1 + 8 * 60 * 2 / 25
    );
}

/// Returns how to draw a column that has `count` of 1 000 delays.
fn shade(count: u32) -> char {
    match count {
        0 => ' ',
        1..=20 => '.',
        21..=60 => ':',
        61..=150 => '+',
        _ => '#',
    }
}
