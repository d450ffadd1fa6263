//! The backoff of a scenario's supervisors.

use std::time::Duration;

use serde::Deserialize;
use supervise_harness::backoff::{
    BackoffStrategy, ConstantBackoff, ExponentialBackoff, ExponentialBackoffBuilder,
};

use super::values::Time;

#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "RawBackoff")]
pub(super) enum Backoff {
    Constant(Duration),
    Exponential(ExponentialBackoffBuilder),
}

impl Backoff {
    pub(super) fn strategy(&self) -> Box<dyn BackoffStrategy + Send> {
        match self {
            Backoff::Constant(delay) => Box::new(ConstantBackoff::new(*delay)),
            Backoff::Exponential(builder) => {
                Box::new(builder.clone().build().expect("checked values"))
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBackoff {
    constant: Option<Time>,
    initial: Option<Time>,
    max: Option<Time>,
    multiplier: Option<f64>,
}

impl TryFrom<RawBackoff> for Backoff {
    type Error = String;

    fn try_from(raw: RawBackoff) -> Result<Backoff, String> {
        let RawBackoff {
            constant,
            initial,
            max,
            multiplier,
        } = raw;
        if let Some(Time(delay)) = constant {
            return match (initial, max, multiplier) {
                (None, None, None) => Ok(Backoff::Constant(delay)),
                _ => Err("a constant delay has no initial, max or multiplier".to_owned()),
            };
        }
        let mut builder = ExponentialBackoff::builder();
        if let Some(Time(initial)) = initial {
            builder = builder.initial(initial);
        }
        if let Some(Time(max)) = max {
            builder = builder.max(max);
        }
        if let Some(multiplier) = multiplier {
            builder = builder.multiplier(multiplier);
        }
        match builder.clone().build() {
            Ok(_) => Ok(Backoff::Exponential(builder)),
            Err(error) => Err(error.to_string()),
        }
    }
}
