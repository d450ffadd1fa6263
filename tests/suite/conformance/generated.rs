//! No rule blames what is right: generated services in the hands of the reference and of the textbook,
//! whatever is asked of them.

use std::fmt::Write;
use std::num::NonZeroU32;
use std::ops::Range;
use std::time::Duration;

use supervise_harness::backoff::Jitter;
use supervise_harness::conformance::{self, Plan, Reference, Step, Subject};
use supervise_harness::rules::{self, DelayCurve, Observed, Service, Verdict};
use supervise_harness::supervisor::{Probe, Readiness, RestartLimit, RestartPolicy};
use supervise_harness::{Script, Signal};

use super::broken::Textbook;

/// The timelines of each test. Four of them: two of each supervisor.
const TIMELINES: u64 = 250;

/// How many timelines of each supervisor are asked for beside these: `GENERATED_TIMELINES`.
const MORE: u64 = 20_000;

/// A stream of numbers that is the same each time: SplitMix64.
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    fn of<T: Clone>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.below(all.len() as u64)).unwrap()].clone()
    }

    /// So many quarters of a second at most: instants that coincide are as likely as others.
    fn time(&mut self, quarters: u64) -> Duration {
        Duration::from_millis(250 * self.below(quarters + 1))
    }

    /// The same, of at least one.
    fn some_time(&mut self, quarters: u64) -> Duration {
        self.time(quarters - 1) + Duration::from_millis(250)
    }
}

const SIGNALS: [Signal; 4] = [Signal::TERM, Signal::INT, Signal::USR1, Signal::KILL];

/// What a run does in the end.
fn end(draws: &mut Draws, script: Script) -> Script {
    match draws.below(8) {
        0 | 1 => script.exit(0),
        2..=4 => script.exit(draws.of(&[1, 2, 7, 127, 255])),
        5 => script.die_by(draws.of(&SIGNALS)),
        _ => script.stay(),
    }
}

fn run(draws: &mut Draws, stop_signal: Signal) -> Script {
    let mut script = Script::new();
    match draws.below(8) {
        0 => script = script.ignore(stop_signal),
        1 => script = script.count(stop_signal),
        2 | 3 => {
            let slow = Script::new().run_for(draws.time(10));
            let ends = end(draws, slow);
            script = script.on(stop_signal, ends);
        }
        _ => {}
    }
    if draws.one_in(12) {
        script = script.count(Signal::CONT);
    }
    if draws.one_in(3) {
        script = script.run_for(draws.time(6));
        script = match draws.below(3) {
            0 => script.ready_on_fd(3).ready(),
            1 => script.ready(),
            _ => script.ready_on_fd(3),
        };
    }
    if draws.one_in(6) {
        script = script.write("hello\n");
    }
    if draws.one_in(16) {
        let left = Script::new().run_for(draws.some_time(20)).exit(0);
        let placement = draws.of(&[
            supervise_harness::stub::script::Placement::SameGroup,
            supervise_harness::stub::script::Placement::OwnSession,
            supervise_harness::stub::script::Placement::DoubleFork,
        ]);
        script = script.start("helper", placement, left);
    }
    if draws.one_in(20) {
        script = script.freeze();
    }
    if draws.one_in(4) {
        return end(draws, script);
    }
    let time = if draws.one_in(3) { 60 } else { 8 };
    script = script.run_for(draws.time(time));
    end(draws, script)
}

fn script(draws: &mut Draws, stop_signal: Signal) -> Script {
    let mut script = Script::runs(0, Script::new());
    for _ in 0..draws.below(5) {
        let count = u32::try_from(1 + draws.below(2)).unwrap();
        script = script.then(Script::runs(count, run(draws, stop_signal)));
    }
    script.then(run(draws, stop_signal))
}

fn curve(draws: &mut Draws) -> DelayCurve {
    let initial = draws.some_time(8) + Duration::from_millis(250);
    let multiplier = draws.of(&[1.0, 1.5, 2.0, 3.0]);
    let curve = DelayCurve::exponential(initial, multiplier, initial * 6);
    curve.jitter(match draws.below(8) {
        0 => Jitter::Full,
        1 => Jitter::Equal,
        2 => Jitter::Relative(0.25),
        3 => Jitter::Decorrelated,
        _ => Jitter::None,
    })
}

/// Everything about a service that can be drawn.
fn ask(draws: &mut Draws, service: &mut Service) {
    service.policy = draws.of(&[
        RestartPolicy::Never,
        RestartPolicy::OnFailure,
        RestartPolicy::OnFailure,
        RestartPolicy::Always,
    ]);
    service.delays = curve(draws);
    let restarts = NonZeroU32::new(u32::try_from(1 + draws.below(4)).unwrap()).unwrap();
    service.limit = match draws.below(4) {
        0 => RestartLimit::Consecutive(restarts),
        1 => RestartLimit::Window {
            restarts,
            within: draws.some_time(80),
        },
        _ => RestartLimit::Unlimited,
    };
    service.reset_after = draws.one_in(3).then(|| draws.some_time(20));
    service.readiness = match draws.below(4) {
        0 => Readiness::MinUptime(draws.some_time(12)),
        1 => Readiness::Notified,
        _ => Readiness::Exec,
    };
    service.start_timeout = draws.one_in(3).then(|| draws.some_time(12));
    service.watchdog = draws.one_in(10).then(|| draws.some_time(12));
    service.grace = draws.some_time(12);
    if draws.one_in(10) {
        let probe = Probe::new("probe").every(draws.some_time(8));
        service.probe = Some(probe.timeout(draws.some_time(4)).failures(restarts));
    }
    for (list, odds) in [
        (&mut service.success, 4),
        (&mut service.prevent, 8),
        (&mut service.force, 8),
    ] {
        if draws.one_in(odds) {
            list.codes.insert(draws.of(&[0, 1, 2, 7]));
        }
        if draws.one_in(odds) {
            list.signals.push(draws.of(&SIGNALS));
        }
    }
    if draws.one_in(30) {
        service.program = "/nonexistent/program".into();
    }
    if draws.one_in(10) {
        service.current_dir = Some("/".into());
    }
    if draws.one_in(10) {
        service.env.push(("COLOUR".into(), "red".into()));
    }
}

fn steps(draws: &mut Draws) -> Vec<(Duration, Step)> {
    let count = if draws.one_in(3) { 0 } else { draws.below(5) };
    let mut last = Duration::ZERO;
    let mut steps: Vec<(Duration, Step)> = (0..count)
        .map(|_| {
            let step = draws.of(&[
                Step::Stop,
                Step::Stop,
                Step::Start,
                Step::Restart,
                Step::Restart,
                Step::Reset,
            ]);
            // Often in one instant.
            if !draws.one_in(4) {
                last = draws.time(60);
            }
            (last, step)
        })
        .collect();
    if draws.one_in(2) {
        steps.push((draws.time(40), Step::Outcome));
    }
    steps
}

/// What is seen of the service with this number.
fn observed<S>(subject: &S, number: u64) -> Observed
where
    S: Subject,
    S::Session: 'static,
{
    let mut draws = Draws(number.wrapping_mul(0x2545_f491_4f6c_dd1d));
    let stop_signal = draws.of(&[Signal::TERM, Signal::TERM, Signal::INT]);
    let script = script(&mut draws, stop_signal);
    let slow = Script::new().run_for(draws.time(2));
    let probe = end(&mut draws, slow);
    let steps = steps(&mut draws);
    let plan = Plan {
        script,
        probe,
        steps: &steps,
        lasts: draws.some_time(80),
    };
    let asked = draws.next();
    let ask = |service: &mut Service| {
        service.stop_signal = stop_signal;
        ask(&mut Draws(asked), service);
    };
    conformance::observe(subject, &ask, &plan)
        .unwrap_or_else(|failure| panic!("timeline {number}: {failure}"))
}

/// The rules that fail, each with why.
fn blamed(observed: &Observed) -> Vec<String> {
    let fail = |rule: &'static rules::Rule| match rule.check(observed) {
        Verdict::Fail(violation) => Some(violation.to_string()),
        _ => None,
    };
    rules::all().filter_map(fail).collect()
}

/// The same of the timeline alone, which is all that a test with a supervisor of its own has.
fn alone(observed: &Observed) -> Observed {
    let timeline = observed.timeline.clone();
    Observed::new(timeline, observed.service.clone(), observed.profile.clone())
}

/// How many threads of a test play: most of a sim is waiting for its processes.
const THREADS: usize = 3;

/// Nothing is said against these; prints how often something is said for them.
fn assert_blameless<S>(subject: &S, numbers: Range<u64>)
where
    S: Subject + Sync,
    S::Session: 'static,
{
    std::thread::scope(|scope| {
        for first in 0..THREADS {
            let numbers = numbers.clone().skip(first).step_by(THREADS);
            scope.spawn(move || assert_each_blameless(subject, numbers));
        }
    });
}

fn assert_each_blameless<S>(subject: &S, numbers: impl Iterator<Item = u64>)
where
    S: Subject,
    S::Session: 'static,
{
    let mut wrong = String::new();
    let mut count = 0;
    let mut passes = 0;
    for number in numbers {
        let observed = observed(subject, number);
        count += 1;
        passes += rules::all()
            .filter(|rule| rule.check(&observed).is_pass())
            .count();
        let mut blamed = blamed(&observed);
        // Where something was told, nobody can know it of the timeline alone.
        if observed.calls.len() == 1 && observed.service.program.exists() {
            blamed.extend(self::blamed(&alone(&observed)));
        }
        if !blamed.is_empty() {
            let (timeline, service) = (&observed.timeline, &observed.service);
            let calls = &observed.calls;
            write!(
                wrong,
                "timeline {number}:\n{}\n{timeline}\nuntil {}\n{service:#?}\n{calls:#?}\n\n",
                blamed.join("\n"),
                observed.end
            )
            .unwrap();
        }
    }
    println!("{count} timelines, {passes} passes");
    assert!(wrong.is_empty(), "{wrong}");
    assert!(passes > count, "the rules say too little: {passes} passes");
}

#[test]
fn no_rule_blames_a_generated_service_of_the_reference() {
    assert_blameless(&Reference::new(), 0..TIMELINES);
}

#[test]
fn no_rule_blames_another_generated_service_of_the_reference() {
    assert_blameless(&Reference::new(), TIMELINES..2 * TIMELINES);
}

#[test]
fn no_rule_blames_a_generated_service_of_the_textbook() {
    assert_blameless(&Textbook { bug: None }, 0..TIMELINES);
}

#[test]
fn no_rule_blames_another_generated_service_of_the_textbook() {
    assert_blameless(&Textbook { bug: None }, TIMELINES..2 * TIMELINES);
}

#[test]
#[ignore = "takes minutes: GENERATED_TIMELINES says how many of each"]
fn no_rule_blames_any_of_many_generated_services() {
    let asked = std::env::var("GENERATED_TIMELINES").ok();
    let most = asked.map_or(MORE, |asked| asked.parse().unwrap());
    let numbers = || 2 * TIMELINES..2 * TIMELINES + most;
    std::thread::scope(|scope| {
        scope.spawn(|| assert_blameless(&Reference::new(), numbers()));
        scope.spawn(|| assert_blameless(&Textbook { bug: None }, numbers()));
    });
}
