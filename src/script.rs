//! What an agent does in its runs.

use std::fmt;
use std::time::Duration;

use agent_stub::Quoted;
use agent_stub::script::{
    self, Channel, Content, Placement, Response, ScriptError, Statement, Stream,
};

use agent_stub::Signal;

/// What an agent does in each of its runs. One script may be for all runs, or the first runs may
/// have scripts of their own.
///
/// Every method adds a statement to the runs that were named last. For a statement of the stub that
/// has no method here, use [`then_do`](Script::then_do), which takes the grammar of
/// [`crate::stub::script`]. A run whose script is over stays up and does what the test says.
///
/// [`SimHandle::agent`](crate::SimHandle::agent) panics if a script has one of these mistakes:
///
/// - It has something that no agent can do, such as a gate without a name or a text of more than 8
///   MiB.
/// - It has a [`then`](Script::then) after statements that are for all remaining runs. What comes
///   then would never be done.
/// - It has a script with [`runs`](Script::runs) of its own where the script of one run is
///   expected.
///
/// ```
/// use std::time::Duration;
/// use supervise_harness::{Script, Signal};
///
/// // Three crashes, then it stays up.
/// let crash = Script::new().run_for(Duration::from_millis(200)).exit(1);
/// let script = Script::runs(3, crash).then(Script::new().ready().stay());
/// assert_eq!(script.of_run(3).to_string(), "run 200ms; exit 1");
/// assert_eq!(script.of_run(4).to_string(), "ready; stay");
/// assert_eq!(format!("{script:?}"), r#"Script(3 runs: "run 200ms; exit 1", then: "ready; stay")"#);
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
#[must_use]
pub struct Script {
    /// The first runs: for each script, how many runs do it.
    first: Vec<(u32, script::Script)>,
    /// What all later runs do.
    rest: script::Script,
    /// The first mistake in it: why a part of it would never be done.
    mistake: Option<String>,
}

/// Prints the statements in the stub's grammar: `Script(2 runs: "exit 1", then: "ready; stay")`.
impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Script(")?;
        for (count, script) in &self.first {
            let runs = if *count == 1 { "run" } else { "runs" };
            write!(f, "{count} {runs}: {:?}, then: ", script.to_string())?;
        }
        write!(f, "{:?})", self.rest.to_string())
    }
}

impl Script {
    /// A script without statements: every run stays up and does what the test says.
    pub fn new() -> Script {
        Script::default()
    }

    /// A script in which the first `count` runs do `script`. The later runs do what is added to the
    /// result, or what [`then`](Script::then) says. If nothing is said about them, they stay up and
    /// do what the test says: `script` is not repeated.
    ///
    /// ```
    /// use supervise_harness::Script;
    ///
    /// let crash = || Script::new().exit(1);
    /// let script = Script::runs(2, crash());
    /// assert_eq!(script.of_run(2).to_string(), "exit 1");
    /// // It stays up.
    /// assert_eq!(script.of_run(3).to_string(), "");
    ///
    /// let script = Script::runs(2, crash()).then(Script::runs(1, Script::new().exit(0))).ready();
    /// assert_eq!(script.of_run(3).to_string(), "exit 0");
    /// assert_eq!(script.of_run(4).to_string(), "ready");
    /// assert_eq!(script.of_run(1000).to_string(), "ready");
    /// ```
    pub fn runs(count: u32, script: Script) -> Script {
        let mut runs = Script::new();
        let each = runs.take_one("runs", script);
        runs.first.push((count, each));
        runs
    }

    /// Says what the runs after those named so far do.
    ///
    /// This adds no statements to a run. All statements before it have to be inside of
    /// [`runs`](Script::runs). A statement outside is for all remaining runs, so that no run would
    /// be left for `script`, and [`SimHandle::agent`](crate::SimHandle::agent) panics.
    ///
    /// ```should_panic
    /// use supervise_harness::{Script, Sim};
    ///
    /// Sim::new().run(async |sim| {
    ///     // To crash once: `Script::runs(1, Script::new().exit(1)).then(Script::new().stay())`.
    ///     sim.agent("worker", Script::new().exit(1).then(Script::new().stay()));
    /// });
    /// ```
    pub fn then(mut self, script: Script) -> Script {
        if !self.rest.0.is_empty() {
            let before = start_of(&self.rest);
            self.note(format!(
                "`then` comes after `{before}`, which all runs do that are left, so that none is left for what \
                 comes then: write `Script::runs(1, ...)` around what one run does"
            ));
        }
        self.first.extend(script.first);
        self.rest = script.rest;
        self.mistake = self.mistake.or(script.mistake);
        self
    }

    /// The run stays up for `time`.
    pub fn run_for(self, time: Duration) -> Script {
        self.add(Statement::Run(time))
    }

    /// The run stays up until the test, a signal or the end of the sim ends it.
    pub fn stay(self) -> Script {
        self.add(Statement::Stay)
    }

    /// The run exits with the code.
    pub fn exit(self, code: u8) -> Script {
        self.add(Statement::Exit(code))
    }

    /// The run dies by the signal, without a core dump. The signal has to be one that kills.
    pub fn die_by(self, signal: Signal) -> Script {
        self.add(Statement::Die {
            signal,
            core: false,
        })
    }

    /// The run stops itself with SIGSTOP.
    pub fn freeze(self) -> Script {
        self.add(Statement::Freeze)
    }

    /// The run ignores the signal from here on.
    pub fn ignore(self, signal: Signal) -> Script {
        self.add(Statement::On(signal, Response::Ignore))
    }

    /// The run traps the signal from here on. Each time the signal comes, the timeline shows it and
    /// the run goes on.
    pub fn count(self, signal: Signal) -> Script {
        self.add(Statement::On(signal, Response::Count))
    }

    /// The run traps the signal from here on. Each time the signal comes, the run does `script` and
    /// then goes on with what it was doing.
    pub fn on(mut self, signal: Signal, script: Script) -> Script {
        let handler = self.take_one("on", script);
        self.add(Statement::On(signal, Response::Handle(handler)))
    }

    /// The run says that it is ready, on its control connection.
    pub fn ready(self) -> Script {
        self.add(Statement::Ready(Channel::Control))
    }

    /// The run says that it is ready by writing a newline to the descriptor.
    pub fn ready_on_fd(self, descriptor: u16) -> Script {
        self.add(Statement::Ready(Channel::Fd(descriptor)))
    }

    /// The run writes the text to standard output.
    pub fn write(self, text: &str) -> Script {
        self.add(Statement::Write(
            Stream::Stdout,
            Content::Text(Quoted::from(text)),
        ))
    }

    /// The run writes that many bytes to standard output.
    pub fn flood(self, bytes: u64) -> Script {
        self.add(Statement::Write(Stream::Stdout, Content::Fill(bytes)))
    }

    /// The run starts a descendant that does `script`.
    pub fn start(mut self, name: &str, placement: Placement, script: Script) -> Script {
        let script = self.take_one("start", script);
        self.add(Statement::Start(script::Descendant {
            name: Quoted::from(name),
            placement,
            output: script::Output::Hold,
            script,
        }))
    }

    /// The run waits until the test opens the gate.
    pub fn gate(self, name: &str) -> Script {
        self.add(Statement::Gate(script::Gate::Control(Quoted::from(name))))
    }

    /// Adds statements in the stub's own grammar.
    ///
    /// # Errors
    ///
    /// [`ScriptError`] with the line and column in `statements`.
    pub fn then_do(mut self, statements: &str) -> Result<Script, ScriptError> {
        self.rest.0.extend(statements.parse::<script::Script>()?.0);
        Ok(self)
    }

    /// What run number `run` does, counted from 1. Unlike
    /// [`SimHandle::agent`](crate::SimHandle::agent), this does not look for mistakes.
    #[must_use]
    pub fn of_run(&self, run: u32) -> &script::Script {
        let mut last = 0u32;
        for (count, script) in &self.first {
            last = last.saturating_add(*count);
            if run <= last {
                return script;
            }
        }
        &self.rest
    }

    /// Checks that all of the script will be done and that the agent will understand it. A script
    /// is sent as it prints, so what it prints has to be a script.
    pub(super) fn check(&self) -> Result<(), String> {
        if let Some(mistake) = &self.mistake {
            return Err(mistake.clone());
        }
        let all = self.first.iter().map(|(_, script)| script);
        all.chain([&self.rest])
            .try_for_each(check)
            .map_err(|error| error.to_string())
    }

    /// Takes the script of one run that `method` was given. Notes a mistake if it has scripts for
    /// several runs.
    fn take_one(&mut self, method: &str, script: Script) -> script::Script {
        if let Some((_, first)) = script.first.first() {
            let first = start_of(first);
            self.note(format!(
                "`{method}` takes what one run does, and was given a script with `Script::runs(...)` of its own, \
                 `{first}`: write `Script::runs(...).then(Script::runs(...))` for the one after the other"
            ));
        }
        if let Some(mistake) = script.mistake {
            self.note(mistake);
        }
        script.rest
    }

    /// Keeps only the first mistake, which is the one to mend.
    fn note(&mut self, mistake: String) {
        self.mistake.get_or_insert(mistake);
    }

    fn add(mut self, statement: Statement) -> Script {
        self.rest.0.push(statement);
        self
    }
}

/// Checks the script of one run, as [`Script::check`] does.
fn check(script: &script::Script) -> Result<(), ScriptError> {
    script.to_string().parse::<script::Script>().map(drop)
}

/// The beginning of the script: enough to recognise it.
fn start_of(script: &script::Script) -> String {
    const SHOWN: usize = 60;
    let text = script.to_string();
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

impl From<script::Script> for Script {
    fn from(rest: script::Script) -> Script {
        Script {
            rest,
            ..Script::default()
        }
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (count, script) in &self.first {
            write!(f, "{count} runs {{ {script} }}, then ")?;
        }
        write!(f, "{{ {} }}", self.rest)
    }
}
