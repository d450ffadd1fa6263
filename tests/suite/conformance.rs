//! The suite for anybody's supervisor, on our own.

use std::collections::VecDeque;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use supervise_harness::conformance::{self, Apart, Reference, Subject, SubjectError};
use supervise_harness::rules::{
    CrashFate, OwnGroup, Profile, RepeatedStop, Service, ServiceGroup, StopReturn, StopScope,
    Verdict, WhenRestarting,
};
use supervise_harness::supervisor::{GiveUpScope, SiblingStrategy};

/// A `#[test]` for each rule.
mod reference {
    use super::apart::reference;

    supervise_harness::suite!(reference());
}

#[test]
fn the_reference_passes_every_rule_that_works() {
    let report = conformance::run(apart::reference());
    println!("{report}");
    report.assert();
}

mod adapters;
mod apart;
#[path = "../../fixtures/broken/mod.rs"]
mod broken;
mod bugs;
mod generated;
mod texts;

use broken::{Bug, Textbook};

#[test]
fn the_textbook_supervisor_passes_what_it_declares() {
    let report = conformance::run(broken::apart(None));
    println!("{report}");
    report.assert();
}

/// What others of the process open while they are counted, and hold for a while, is not the subject's.
#[test]
fn what_others_open_meanwhile_is_no_growth() {
    let path = "conformance::what_others_open_meanwhile_is_no_growth";
    crate::child::run(path, || {
        let is_over = AtomicBool::new(false);
        let verdict = std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut open = VecDeque::new();
                while !is_over.load(Ordering::Relaxed) {
                    // real-time: other tests keep to no clock of a sim.
                    std::thread::sleep(Duration::from_micros(200));
                    open.push_back(UnixDatagram::unbound().unwrap());
                    if open.len() > 500 {
                        open.pop_front();
                    }
                }
            });
            let verdict = conformance::check(Reference::new(), "fd-stable");
            is_over.store(true, Ordering::Relaxed);
            verdict
        });
        assert_eq!(verdict, Verdict::Pass);
    });
}

/// A supervisor that declares something else than it would.
#[derive(Clone, Copy)]
struct Declares(Option<Bug>, fn(&mut Profile));

impl Subject for Declares {
    type Session = <Apart<Textbook> as Subject>::Session;

    fn profile(&self) -> Profile {
        let mut profile = broken::apart(self.0).profile();
        self.1(&mut profile);
        profile
    }

    async fn start(&self, service: &Service) -> Result<Self::Session, SubjectError> {
        broken::apart(self.0).start(service).await
    }

    async fn start_group(&self, group: &ServiceGroup) -> Result<Self::Session, SubjectError> {
        broken::apart(self.0).start_group(group).await
    }

    async fn start_apart(&self, service: &Service) -> Result<Self::Session, SubjectError> {
        broken::apart(self.0).start_apart(service).await
    }
}

/// What is a bug in one supervisor is what another declares.
#[test]
fn a_supervisor_is_held_to_what_it_declares() {
    type Row = (Option<Bug>, fn(&mut Profile), &'static str, &'static str);
    let rows: &[Row] = &[
        (
            None,
            |p| p.stopping.returns = Some(StopReturn::AtOnce),
            "stop-sync",
            "fail",
        ),
        (
            Some(Bug::AnswersEarly),
            |p| p.stopping.returns = Some(StopReturn::AtOnce),
            "stop-sync",
            "pass",
        ),
        (
            None,
            |p| p.stopping.repeated = Some(RepeatedStop::Escalates),
            "stop-idempotent",
            "fail",
        ),
        (
            Some(Bug::SecondStopKills),
            |p| p.stopping.repeated = Some(RepeatedStop::Escalates),
            "stop-idempotent",
            "pass",
        ),
        (
            None,
            |p| p.child.own_group = Some(OwnGroup::None),
            "own-group",
            "fail",
        ),
        (
            None,
            |p| p.stopping.scope = Some(StopScope::Process),
            "stop-scope",
            "fail",
        ),
        (
            None,
            |p| p.stopping.scope = Some(StopScope::Tree),
            "stop-scope",
            "fail",
        ),
        (
            None,
            |p| p.control.when_restarting = Some(WhenRestarting::Rejected),
            "start-while-restarting",
            "fail",
        ),
        (
            Some(Bug::RejectsStarts),
            |p| p.control.when_restarting = Some(WhenRestarting::Rejected),
            "start-while-restarting",
            "pass",
        ),
        (
            None,
            |p| p.stopping.wakes_frozen = false,
            "stop-wakes-frozen",
            "unsupported",
        ),
        (
            None,
            |p| p.stopping.returns = None,
            "stop-vs-retry",
            "unsupported",
        ),
        (
            None,
            |p| p.group.start_order = false,
            "order-and-reverse",
            "unsupported",
        ),
        (
            Some(Bug::StopsAllAtOnce),
            |p| p.group.start_order = false,
            "sibling-strategy",
            "pass",
        ),
        (
            Some(Bug::SparesASibling),
            |p| p.group.sibling_strategies = vec![SiblingStrategy::OneForOne],
            "sibling-strategy",
            "pass",
        ),
        (
            Some(Bug::GivesUpOne),
            |p| p.group.give_up_scopes = vec![GiveUpScope::Child],
            "give-up-scope",
            "pass",
        ),
        (
            Some(Bug::TakesItsChildrenAlong),
            |p| p.process.crash_fate = Some(CrashFate::Dies),
            "crash-child-fate",
            "pass",
        ),
        (
            Some(Bug::TakesItsChildrenAlong),
            |p| p.process.crash_fate = Some(CrashFate::Dies),
            "no-duplicate-after-crash",
            "pass",
        ),
        (
            Some(Bug::LocksForItself),
            |p| p.process.no_duplicates = false,
            "second-supervisor",
            "pass",
        ),
        (
            None,
            |p| p.process.of_its_own = false,
            "second-supervisor",
            "unsupported",
        ),
        (
            None,
            |p| p.group.sibling_strategies.clear(),
            "sibling-strategy",
            "unsupported",
        ),
        (
            None,
            |p| p.group.give_up_scopes.clear(),
            "give-up-scope",
            "unsupported",
        ),
    ];
    for (bug, declare, rule, word) in rows {
        let verdict = conformance::check(Declares(*bug, *declare), rule);
        assert_eq!(verdict.word(), *word, "{rule}, {bug:?}: {verdict:?}");
    }
}
