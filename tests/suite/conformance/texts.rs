//! What is said to whoever has a supervisor that is not what it should be.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use insta::assert_snapshot;
use supervise_harness::Signal;
use supervise_harness::conformance::{self, Session, Subject, SubjectError, SuiteReport};
use supervise_harness::rules::{
    self, DelayCurve, Profile, RestReason, Service, Setting, StopReturn,
};
use supervise_harness::supervisor::RestartPolicy;

use super::broken::{Bug, Textbook};

/// A supervisor that can do little, and whose stop is out of order.
#[derive(Clone, Copy)]
struct Small;

impl Subject for Small {
    type Session = SmallSession;

    fn profile(&self) -> Profile {
        let mut profile = Profile::new("a | small one");
        profile.restarts.policy = Setting::Fixed(RestartPolicy::Always);
        profile.delay.curve = Setting::Fixed(DelayCurve::constant(Duration::from_secs(1)));
        profile.stopping.signal = Setting::Fixed(Signal::TERM);
        profile.stopping.grace = Setting::Fixed(Duration::from_secs(5));
        profile.stopping.returns = Some(StopReturn::Reaped);
        profile
    }

    async fn start(&self, service: &Service) -> Result<SmallSession, SubjectError> {
        let mut command = tokio::process::Command::from(service.command());
        command.kill_on_drop(true);
        let keeps = tokio::spawn(async move {
            while let Ok(mut child) = command.spawn() {
                if child.wait().await.is_err() {
                    return;
                }
                // real-time: none; this is the subject's delay, by the sim's clock.
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        Ok(SmallSession(keeps))
    }
}

struct SmallSession(tokio::task::JoinHandle<()>);

impl Session for SmallSession {
    async fn stop(&self) -> Result<(), SubjectError> {
        Err(SubjectError::new("out of order |\nsince yesterday"))
    }

    async fn outcome(&self) -> RestReason {
        std::future::pending().await
    }
}

impl Drop for SmallSession {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Declares something, and refuses to start.
#[derive(Clone, Copy)]
struct Refuses;

impl Subject for Refuses {
    type Session = SmallSession;

    fn profile(&self) -> Profile {
        Profile::new("refuses")
    }

    async fn start(&self, _service: &Service) -> Result<SmallSession, SubjectError> {
        Err(SubjectError::new("not today"))
    }
}

/// The lines of a report's text that are about rules that were judged: others come with new rules.
fn judged(text: &str, report: &SuiteReport) -> String {
    let is_other = |line: &&str| {
        report.lines().iter().any(|other| {
            let is_judged = other.rule.planned().is_none() && other.verdict.word() != "unsupported";
            !is_judged && line.split([' ', '`']).any(|word| word == other.rule.id)
        })
    };
    let lines: Vec<&str> = text.lines().filter(|line| !is_other(line)).collect();
    let counts = lines.join("\n");
    let unsupported = format!("{} unsupported", {
        let lines = report.lines().iter();
        let unsupported = lines
            .filter(|line| line.rule.planned().is_none() && line.verdict.word() == "unsupported");
        unsupported.count()
    });
    let planned = rules::all().filter(|rule| rule.planned().is_some()).count();
    assert!(counts.contains(&unsupported), "{text}");
    counts
        .replace(&unsupported, "N unsupported")
        .replace(&format!("{planned} planned"), "N planned")
}

/// What a panic of this says.
fn panic_of(action: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(action)).expect_err("it should fail");
    panic.downcast_ref::<String>().expect("a text").clone()
}

#[test]
fn a_broken_rule_says_what_should_have_been_and_what_was() {
    let bug = Some(Bug::AnswersEarly);
    let verdict = conformance::check(Textbook { bug }, "stop-sync");
    let violation = verdict.violation().expect("a violation");
    assert_snapshot!(violation);
}

#[test]
fn a_rule_that_could_not_be_judged_says_why() {
    let verdict = conformance::check(Small, "stop-sync");
    assert_snapshot!(format!("{verdict:?}"));
}

#[test]
fn a_report_is_a_table_for_eyes_for_pages_and_for_machines() {
    let report = conformance::run(Small);
    assert_snapshot!("report_text", judged(&report.to_string(), &report));
    assert_snapshot!("report_markdown", judged(&report.markdown(), &report));
    let mut json = serde_json::to_value(&report).expect("JSON");
    let rules = json["rules"].as_array_mut().expect("a list of rules");
    assert_eq!(rules.len(), rules::all().count());
    let said = |rule: &serde_json::Value, word: &str| {
        let reason = rule["reason"].as_str().unwrap_or_default();
        reason.starts_with(word) || rule["verdict"] == word
    };
    rules.retain(|rule| !said(rule, "unsupported") && !said(rule, "planned"));
    let text = serde_json::to_string_pretty(&json).expect("JSON");
    assert_snapshot!("report_json", text);
}

#[test]
fn a_report_of_which_nothing_passes_is_no_pass() {
    let report = conformance::run(Refuses);
    let text = panic_of(|| report.assert());
    assert_snapshot!(judged(&text, &report));
}

#[test]
fn a_test_of_an_unsupported_rule_says_how_to_list_it() {
    let text = panic_of(|| conformance::assert_rule("manual_reset", Small));
    assert_snapshot!(text);
}

#[test]
fn a_wrong_list_of_unsupported_rules_says_what_is_wrong_with_it() {
    let true_list: Vec<String> = rules::all()
        .filter(|rule| rule.planned().is_none() && rule.lacking(&Small.profile()).is_some())
        .map(|rule| rule.id.replace('-', "_"))
        .collect();
    let mut listed: Vec<&str> = true_list.iter().map(String::as_str).collect();
    conformance::assert_declared(Small, &listed);
    listed.retain(|name| *name != "manual_reset");
    listed.push("stop_sync");
    let text = panic_of(|| conformance::assert_declared(Small, &listed));
    assert_snapshot!(text);
}
