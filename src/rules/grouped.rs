//! Tests of the rules about groups, on timelines written by hand: a service `worker` is started
//! between `store` and `api`.

use super::call::Control;
use super::observed::Observed;
use super::service::{Service, ServiceGroup};
use super::unseeded::{SECOND, at, expect, observed, told};
use crate::supervisor::Readiness;
use crate::supervisor::{GiveUpScope, RestartLimit, SiblingStrategy};

fn in_group(
    mut observed: Observed,
    ask: impl Fn(&mut Service),
    declare: impl Fn(&mut ServiceGroup),
) -> Observed {
    ask(&mut observed.service);
    let other = |name: &str| {
        let mut service = Service::new(name);
        ask(&mut service);
        service
    };
    let services = vec![other("store"), observed.service.clone(), other("api")];
    let mut group = ServiceGroup::new(services);
    declare(&mut group);
    observed.group = Some(group);
    observed
}

/// A group whose services take a second until they are up, and these events. The group is told to
/// stop at 10 s.
fn stopped(events: &[&str]) -> Observed {
    let observed = in_group(
        observed(events),
        |service| service.readiness = Readiness::MinUptime(SECOND),
        |_| {},
    );
    told(observed, Control::Stop, 10.0, Some(13.0))
}

const STARTS: [&str; 3] = [
    "+0.000  store#1   start",
    "+1.000  worker#1  start",
    "+1.000  api#1     start",
];

const STOPS: [&str; 6] = [
    "+8.000  api#1     signal  SIGTERM count=1",
    "+1.000  api#1     exit    code=0",
    "+0.000  worker#1  signal  SIGTERM count=1",
    "+1.000  worker#1  exit    code=0",
    "+0.000  store#1   signal  SIGTERM count=1",
    "+1.000  store#1   exit    code=0",
];

#[test]
fn an_order_may_be_kept_or_not_at_the_start() {
    let id = "order-and-reverse";
    let check = |starts: [&str; 3], expected: &str| {
        expect(id, &stopped(&[&starts[..], &STOPS].concat()), expected);
    };
    check(STARTS, "pass");
    let later = "+2.500  worker#1  start";
    check([STARTS[0], later, STARTS[2]], "pass");
    let early = "+0.999  worker#1  start";
    check(
        [STARTS[0], early, STARTS[2]],
        "fail: it is started at 0.999s",
    );
    let at_once = [
        STARTS[0],
        "+0.000  worker#1  start",
        "+0.000  api#1     start",
    ];
    check(at_once, "fail: it is started at 0.000s");
    let reverse = [
        "+0.000  api#1     start",
        "+1.000  worker#1  start",
        "+1.000  store#1   start",
    ];
    check(reverse, "fail: it is started at 1.000s");
}

#[test]
fn an_order_may_be_kept_or_not_at_the_stop() {
    let id = "order-and-reverse";
    let check = |stops: &[&str], expected: &str| {
        expect(id, &stopped(&[&STARTS[..], stops].concat()), expected);
    };
    check(&STOPS, "pass");
    let in_start_order = [
        "+8.000  store#1   signal  SIGTERM count=1",
        "+1.000  store#1   exit    code=0",
        "+0.000  worker#1  signal  SIGTERM count=1",
        "+1.000  worker#1  exit    code=0",
        "+0.000  api#1     signal  SIGTERM count=1",
        "+1.000  api#1     exit    code=0",
    ];
    check(&in_start_order, "fail: it is stopped at 10.000s");
    let at_once = [
        "+8.000  store#1   signal  SIGTERM count=1",
        "+0.000  worker#1  signal  SIGTERM count=1",
        "+0.000  api#1     signal  SIGTERM count=1",
        "+1.000  store#1   exit    code=0",
        "+0.000  worker#1  exit    code=0",
        "+0.000  api#1     exit    code=0",
    ];
    check(&at_once, "fail: it is stopped at 10.000s");
    // Of a run that is killed, only the end shows.
    let killed = [STOPS[0], "+0.500  worker#1  exit  signal=SIGKILL", STOPS[1]];
    check(
        &[&killed[..], &STOPS[4..]].concat(),
        "fail: it is stopped at 10.500s",
    );
    // `api` never ends, so `worker` must not be stopped.
    let stays = [STOPS[0], STOPS[2], STOPS[3], STOPS[4], STOPS[5]];
    check(&stays, "fail: it is stopped at 10.000s");
}

#[test]
fn an_order_may_be_for_nobody_to_tell() {
    let id = "order-and-reverse";
    let all = [&STARTS[..], &STOPS].concat();
    let alone = told(observed(&all), Control::Stop, 10.0, Some(13.0));
    expect(id, &alone, "unknown");
    let mut of_one = stopped(&all);
    of_one.group = Some(ServiceGroup::new(vec![of_one.service.clone()]));
    expect(id, &of_one, "unknown");
    let mut at_exec = stopped(&all);
    for service in &mut at_exec.group.as_mut().unwrap().services {
        service.readiness = Readiness::Exec;
    }
    expect(id, &at_exec, "unknown");
    let mut untold = stopped(&all);
    untold.calls.clear();
    expect(id, &untold, "unknown");
    expect(id, &stopped(&STARTS[..2]), "unknown");
    expect(id, &stopped(&STARTS), "unknown");
    let instant = [
        "+8.000  api#1     exit  signal=SIGTERM",
        "+0.000  worker#1  exit  signal=SIGTERM",
        "+0.000  store#1   exit  signal=SIGTERM",
    ];
    expect(id, &stopped(&[&STARTS[..], &instant].concat()), "unknown");
    let before = ["+1.000  api#1  exit  code=0", STOPS[2], STOPS[3]];
    expect(id, &stopped(&[&STARTS[..], &before].concat()), "unknown");
}

/// A crash of the worker at 5 s, and the events that follow it.
fn crashed(strategy: SiblingStrategy, events: &[&str]) -> Observed {
    let begin = [
        "+0.000  store#1   start",
        "+0.000  worker#1  start",
        "+0.000  api#1     start",
        "+5.000  worker#1  exit  code=1",
    ];
    in_group(
        observed(&[&begin[..], events].concat()),
        |_| {},
        |group| group.strategy = strategy,
    )
}

#[test]
fn a_restart_may_replace_as_many_as_its_strategy_says_or_others() {
    let id = "sibling-strategy";
    let (store, api) = (
        "+0.000  store#1   exit  signal=SIGTERM",
        "+0.000  api#1     exit  signal=SIGTERM",
    );
    let (new_store, new_worker, new_api) = (
        "+0.000  store#2   start",
        "+2.000  worker#2  start",
        "+0.000  api#2     start",
    );
    let alone: &[&str] = &[new_worker];
    let all: &[&str] = &[api, store, new_worker, new_store, new_api];
    let rest: &[&str] = &[api, new_worker, new_api];
    let before: &[&str] = &[store, new_worker, new_store];
    let rows = [
        (SiblingStrategy::OneForOne, alone, "pass"),
        (SiblingStrategy::OneForOne, all, "fail: run 1 ended at"),
        (SiblingStrategy::OneForOne, rest, "fail: run 1 ended at"),
        (
            SiblingStrategy::OneForOne,
            &[new_worker, new_api],
            "fail: run 2 was started at",
        ),
        (SiblingStrategy::OneForAll, all, "pass"),
        (SiblingStrategy::OneForAll, alone, "fail: run 1 goes on"),
        (SiblingStrategy::OneForAll, rest, "fail: run 1 goes on"),
        (
            SiblingStrategy::OneForAll,
            &[api, store, new_worker, new_api],
            "fail: run 1 ended at 5.000s, and no other",
        ),
        (
            SiblingStrategy::OneForAll,
            &[api, new_worker, new_store, new_api],
            "fail: run 2 was started at",
        ),
        (SiblingStrategy::RestForOne, rest, "pass"),
        (SiblingStrategy::RestForOne, all, "fail: run 1 ended at"),
        (SiblingStrategy::RestForOne, alone, "fail: run 1 goes on"),
        (SiblingStrategy::RestForOne, before, "fail: run 1 ended at"),
    ];
    for (strategy, events, expected) in rows {
        expect(id, &crashed(strategy, events), expected);
    }
}

#[test]
fn a_strategy_may_not_show() {
    let id = "sibling-strategy";
    let strategy = SiblingStrategy::OneForOne;
    let restart = "+2.000  worker#2  start";
    expect(id, &crashed(strategy, &[]), "unknown");
    let mut soon = crashed(strategy, &[restart]);
    soon.end = at(8.0);
    expect(id, &soon, "unknown");
    let mut alone = crashed(strategy, &[restart]);
    alone.group = None;
    expect(id, &alone, "unknown");
    let without = ["+0.000  worker#1  start", "+5.000  worker#1  exit  code=1"];
    let without = in_group(
        observed(&[&without[..], &[restart]].concat()),
        |_| {},
        |_| {},
    );
    expect(id, &without, "unknown");
}

/// A worker that has used up its limit of one restart in a row at 9 s, and the events that follow.
fn given_up(scope: GiveUpScope, events: &[&str]) -> Observed {
    let begin = [
        "+0.000  store#1   start",
        "+0.000  worker#1  start",
        "+0.000  api#1     start",
        "+5.000  worker#1  exit  code=1",
        "+2.000  worker#2  start",
        "+2.000  worker#2  exit  code=1",
    ];
    let mut observed = observed(&[&begin[..], events].concat());
    observed.service.limit = RestartLimit::consecutive(1).unwrap();
    in_group(observed, |_| {}, |group| group.give_up = scope)
}

#[test]
fn giving_up_may_end_as_many_as_its_scope_says_or_others() {
    let id = "give-up-scope";
    let store = "+0.000  store#1   exit  signal=SIGTERM";
    let api = "+1.000  api#1     exit  signal=SIGTERM";
    let late = "+20.000 api#1     exit  signal=SIGTERM";
    let again = "+1.000  api#2     start";
    let rows: [(GiveUpScope, &[&str], &str); 12] = [
        (GiveUpScope::Child, &[], "pass"),
        (GiveUpScope::Child, &[store], "fail: run 1 ended at"),
        (GiveUpScope::Child, &[api], "fail: run 1 ended at"),
        (GiveUpScope::Dependents, &[api], "pass"),
        (GiveUpScope::Dependents, &[], "fail: run 1 goes on"),
        (GiveUpScope::Dependents, &[late], "fail: run 1 ended at"),
        (GiveUpScope::Dependents, &[store], "fail: run 1 ended at"),
        (
            GiveUpScope::Dependents,
            &[api, store],
            "fail: run 1 ended at",
        ),
        (GiveUpScope::Group, &[api, store], "pass"),
        (GiveUpScope::Group, &[], "fail: run 1 goes on"),
        (GiveUpScope::Group, &[store], "fail: run 1 goes on"),
        (GiveUpScope::Group, &[api, store, again], "fail: run 2 was"),
    ];
    for (scope, events, expected) in rows {
        expect(id, &given_up(scope, events), expected);
    }
}

#[test]
fn a_scope_may_not_show() {
    let id = "give-up-scope";
    let scope = GiveUpScope::Child;
    let mut unlimited = given_up(scope, &[]);
    unlimited.service.limit = RestartLimit::Unlimited;
    expect(id, &unlimited, "unknown");
    let mut further = given_up(scope, &[]);
    further.service.limit = RestartLimit::consecutive(2).unwrap();
    expect(id, &further, "unknown");
    expect(
        id,
        &given_up(scope, &["+1.000  worker#3  start"]),
        "unknown",
    );
    let mut soon = given_up(scope, &[]);
    soon.end = at(20.0);
    expect(id, &soon, "unknown");
    let mut alone = given_up(scope, &[]);
    alone.group = None;
    expect(id, &alone, "unknown");
}
