//! A file that is wrong is told where.

use super::model::Scenario;

#[track_caller]
fn error_of(text: &str) -> String {
    match Scenario::read("bad.toml", text) {
        Ok(scenario) => panic!("read as {scenario:?}"),
        Err(error) => error,
    }
}

/// A file with this as its supervisor's table, which begins in line 3.
#[track_caller]
fn error_of_settings(settings: &str) -> String {
    error_of(&format!(
        "about = \"x\"\n[supervisor]\n{settings}\n[[agent]]\nname = \"worker\"\nruns = [{{ script = \"stay\" }}]\n"
    ))
}

/// A file with this as its only agent's runs, in line 4.
#[track_caller]
fn error_of_runs(runs: &str) -> String {
    error_of(&format!(
        "about = \"x\"\n[[agent]]\nname = \"worker\"\nruns = [{runs}]\n"
    ))
}

/// A file with this after its agents, in line 5.
#[track_caller]
fn error_of_steps(steps: &str) -> String {
    error_of(&format!(
        "about = \"x\"\n[[agent]]\nname = \"worker\"\nruns = [{{ script = \"stay\" }}]\n{steps}\n"
    ))
}

#[test]
fn an_unknown_field() {
    assert_eq!(
        error_of_settings(r#"polcy = "always""#),
        "bad.toml:3: unknown field `polcy`, expected one of `policy`, `limit`, `backoff`, `reset_after`, `readiness`, `start_timeout`, `grace`, `stop_signal`, `success_codes`, `success_signals`, `prevent_codes`, `prevent_signals`, `force_codes`, `force_signals`, `program`"
    );
}

#[test]
fn an_unknown_policy() {
    assert_eq!(
        error_of_settings(r#"policy = "sometimes""#),
        "bad.toml:3: policy: unknown variant `sometimes`, expected one of `never`, `on-failure`, `always`"
    );
}

#[test]
fn a_time_without_a_unit() {
    assert_eq!(
        error_of_settings(r#"grace = "10""#),
        "bad.toml:3: grace: `10`: expected a time such as 200ms (a whole number of ns, us, ms, s, m or h)"
    );
}

#[test]
fn a_limit_of_no_restarts() {
    assert_eq!(
        error_of_settings("limit = { consecutive = 0 }"),
        "bad.toml:3: limit: restart limit is 0: expected 1 or more (for no restarts at all, RestartPolicy::Never)"
    );
}

#[test]
fn a_cap_below_the_first_delay() {
    assert_eq!(
        error_of_settings(r#"backoff = { initial = "10s", max = "1s" }"#),
        "bad.toml:3: backoff: max is 1s: expected at least initial, which is 10s"
    );
}

#[test]
fn a_start_timeout_of_zero() {
    assert_eq!(
        error_of_settings(r#"start_timeout = "0s""#),
        "bad.toml:3: start_timeout: 0s: expected a time above zero"
    );
}

#[test]
fn an_exit_code_that_no_process_has() {
    assert_eq!(
        error_of_settings("success_codes = [0, 256]"),
        "bad.toml:3: success_codes: 256: expected an exit code from 0 to 255"
    );
}

#[test]
fn an_unknown_signal() {
    assert_eq!(
        error_of_settings(r#"stop_signal = "SIGSTOPP""#),
        "bad.toml:3: stop_signal: unknown signal `SIGSTOPP`: expected a name such as SIGTERM or SIGRTMIN+1, or a number from 1 to 64"
    );
}

#[test]
fn a_script_with_a_word_that_is_none() {
    assert_eq!(
        error_of(
            "about = \"x\"\n[[agent]]\nname = \"worker\"\nruns = [{ script = \"run 1s; exot 1\" }]\n"
        ),
        "bad.toml:4: script: the script is wrong in line 1, column 9: expected a statement (run, stay, exit, die, freeze, on, block, unblock, start, write, close, ready, beat, lock, gate, hygiene, repeat, forever or first), found `exot`"
    );
}

#[test]
fn a_count_for_the_last_runs() {
    assert_eq!(
        error_of(
            "about = \"x\"\n[[agent]]\nname = \"worker\"\nruns = [{ count = 3, script = \"stay\" }]\n"
        ),
        "bad.toml:4: runs: the last runs have no count: they are all the later ones"
    );
}

#[test]
fn no_agent() {
    assert_eq!(
        error_of("about = \"x\"\n"),
        "bad.toml:1: missing field `agent`"
    );
}

#[test]
fn two_agents_of_one_name() {
    assert_eq!(
        error_of_steps("[[agent]]\nname = \"worker\"\nruns = [{ script = \"stay\" }]"),
        "bad.toml:5: agent.name: there is an agent `worker` already"
    );
}

#[test]
fn a_step_without_a_time() {
    assert_eq!(
        error_of_steps("[[step]]\ndo = \"stop\""),
        "bad.toml:5: step: expected either `at` or `when`"
    );
}

#[test]
fn a_step_at_a_state_that_is_none() {
    assert_eq!(
        error_of_steps("[[step]]\nwhen = \"state sleeping\"\ndo = \"stop\""),
        "bad.toml:6: when: `state sleeping`: expected `state` or `run` and its number, then starting, up, backing-off, stopping or resting"
    );
}

#[test]
fn a_step_of_an_agent_that_is_none() {
    assert_eq!(
        error_of_steps("[[step]]\nat = \"1s\"\ndo = \"stop\"\nagent = \"wroker\""),
        "bad.toml:5: step.agent: there is no agent `wroker`"
    );
}

#[test]
fn a_constant_delay_that_grows() {
    assert_eq!(
        error_of_settings(r#"backoff = { constant = "1s", max = "9s" }"#),
        "bad.toml:3: backoff: a constant delay has no initial, max or multiplier"
    );
}

#[test]
fn a_window_without_a_length() {
    assert_eq!(
        error_of_settings("limit = { window = { restarts = 3 } }"),
        "bad.toml:3: window: missing field `within`"
    );
}

#[test]
fn a_window_of_no_length() {
    assert_eq!(
        error_of_settings(r#"limit = { window = { restarts = 3, within = "0s" } }"#),
        "bad.toml:3: limit: restart window is 0s: expected a period above zero (for a limit without a window, RestartLimit::consecutive)"
    );
}

#[test]
fn an_unknown_readiness() {
    assert_eq!(
        error_of_settings(r#"readiness = "soon""#),
        "bad.toml:3: readiness: unknown variant `soon`, expected one of `exec`, `notified`, `min_uptime`"
    );
}

#[test]
fn a_time_that_is_too_long() {
    assert_eq!(
        error_of_settings(r#"grace = "9999999999h""#),
        "bad.toml:3: grace: `9999999999h`: expected at most 18446744073s"
    );
}

#[test]
fn no_runs() {
    assert_eq!(
        error_of_runs(""),
        "bad.toml:4: runs: no runs: expected what at least one does"
    );
}

#[test]
fn a_count_of_no_runs() {
    assert_eq!(
        error_of_runs(r#"{ count = 0, script = "exit 1" }, { script = "stay" }"#),
        "bad.toml:4: runs: a count of 0: expected 1 or more"
    );
}

#[test]
fn runs_without_a_script() {
    assert_eq!(
        error_of_runs("{ count = 3 }, {}"),
        "bad.toml:4: runs: missing field `script`"
    );
}

#[test]
fn an_empty_list_of_agents() {
    assert_eq!(
        error_of("about = \"x\"\nagent = []\n"),
        "bad.toml:1: no [[agent]]: expected at least one"
    );
}

#[test]
fn no_word_about_it() {
    assert_eq!(
        error_of("[[agent]]\nname = \"worker\"\nruns = [{ script = \"stay\" }]\n"),
        "bad.toml:1: missing field `about`"
    );
}

#[test]
fn a_step_with_two_times() {
    assert_eq!(
        error_of_steps("[[step]]\nat = \"1s\"\nwhen = \"state up\"\ndo = \"stop\""),
        "bad.toml:5: step: expected either `at` or `when`"
    );
}

#[test]
fn a_step_that_asks_for_nothing_known() {
    assert_eq!(
        error_of_steps("[[step]]\nat = \"1s\"\ndo = \"halt\""),
        "bad.toml:7: do: unknown variant `halt`, expected one of `stop`, `start`, `restart`, `reset`, `drop`"
    );
}

#[test]
fn a_step_of_a_run_without_a_number() {
    assert_eq!(
        error_of_steps("[[step]]\nwhen = \"run two up\"\ndo = \"stop\""),
        "bad.toml:6: when: `run two up`: expected `state` or `run` and its number, then starting, up, backing-off, stopping or resting"
    );
}

#[test]
fn a_step_of_one_of_several_agents() {
    assert_eq!(
        error_of_steps(
            "[[agent]]\nname = \"db\"\nruns = [{ script = \"stay\" }]\n[[step]]\nat = \"1s\"\ndo = \"stop\""
        ),
        "bad.toml:8: step.agent: missing, and there are several agents"
    );
}

#[test]
fn what_is_no_toml() {
    assert_eq!(
        error_of("about = \"x\nagent = 1\n"),
        r#"bad.toml:1: about: invalid basic string, expected `"`"#
    );
}
