//! Named rules that any supervisor can be tested against. Each rule is a small pure function over a
//! timeline.
//!
//! A [`Rule`] has a stable id, a one-line statement and a source that demands it. It judges an
//! [`Observed`]: the timeline of a service's runs, what the supervisor said about them, and what it
//! was told to do. The supervisor under test is called the subject.
//! [`conformance`](crate::conformance) plays a trial for each rule: it makes happen what the rule
//! has to see. You can also have a timeline of your own judged.
//!
//! ```
//! use std::time::Duration;
//! use supervise_harness::rules::{self, Observed, Profile, Service, Setting};
//! use supervise_harness::{Script, Sim};
//!
//! let timeline = Sim::new().run(async |sim| {
//!     let worker = sim.agent("worker", Script::new().exit(1));
//!     for delay in [1, 2, 3] {
//!         tokio::process::Command::from(worker.command()).status().await?;
//!         tokio::time::sleep(Duration::from_secs(delay)).await;
//!     }
//!     Ok::<_, std::io::Error>(())
//! });
//! let mut profile = Profile::new("mine");
//! profile.restarts.policy = Setting::Configurable;
//! profile.delay.curve = Setting::Configurable;
//! // The default service doubles its delay from 1 s.
//! let observed = Observed::new(timeline, Service::new("worker"), profile);
//! assert!(rules::rule("delay-curve").unwrap().check(&observed).is_pass());
//! ```

// A module imports only from modules above it.
mod group;

mod rest;

mod notice;

mod call;

mod facts;

mod curve;

mod ends;

mod reporter;

mod service;

mod profile;

mod need;

mod observed;

mod rule;

mod course;

mod reported;

mod siblings;

mod breach;

mod start;

mod exit;

mod decision;

mod backoff;

mod counted;

mod limit;

mod reset;

mod stopped;

mod stop;

mod tree;

mod reaping;

mod descriptors;

mod probe;

mod readiness;

mod output;

mod instances;

mod concurrency;

mod crash;

mod exhaustion;

mod catalog;

mod page;

#[cfg(all(test, feature = "supervisor"))]
mod unseeded;

#[cfg(all(test, feature = "supervisor"))]
mod elsewhere;

#[cfg(all(test, feature = "supervisor"))]
mod grouped;

#[cfg(all(test, feature = "supervisor"))]
mod probed;

pub use call::{Control, ControlCall};
#[cfg(feature = "conformance")]
pub(crate) use catalog::registered;
pub use catalog::{all, rule};
#[cfg(feature = "conformance")]
pub(crate) use crash::ANSWERED;
pub use curve::DelayCurve;
#[cfg(feature = "conformance")]
pub(crate) use descriptors::are_growing;
pub use ends::Ends;
#[cfg(feature = "conformance")]
pub(crate) use exhaustion::{CLEARED, SHORT};
pub use facts::{Facts, StartedBy};
pub use group::Group;
pub use need::Requirement;
pub use notice::{Notice, Noticed};
pub use observed::Observed;
#[cfg(feature = "conformance")]
pub(crate) use output::{FLOOD, LAST_WORDS};
#[doc(hidden)]
pub use page::page;
#[cfg(feature = "conformance")]
pub(crate) use probe::PROBE;
pub use profile::{
    ChildProfile, ControlProfile, CrashFate, Daemonizer, DelayOrigin, DelayProfile, Environment,
    FailedStarts, GroupProfile, JitterKind, LimitCounts, LimitProfile, NotifyAccess, OwnGroup,
    ProcessProfile, Profile, ReadinessProfile, RepeatedStop, ReportProfile, RestartProfile,
    Setting, StopProfile, StopReturn, StopScope, StrategyProfile, SuccessList, Time, Tolerance,
    WhenRestarting,
};
#[cfg(feature = "conformance")]
pub(crate) use reaping::{ORPHAN, PARENT, REAPED, SUPERVISOR};
pub use reporter::Reporter;
pub use rest::RestReason;
#[cfg(feature = "conformance")]
pub(crate) use rule::write_line;
pub use rule::{Rule, Verdict, Violation};
pub use service::{Service, ServiceGroup};
