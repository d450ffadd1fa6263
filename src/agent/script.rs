//! What an agent does in its runs.

use std::fmt;
use std::time::Duration;

use agent_stub::Quoted;
use agent_stub::script::{
    self, Channel, Content, Placement, Response, ScriptError, Statement, Stream,
};

use crate::Signal;

/// What an agent does in each of its runs: one script for all of them, or others for the first.
///
/// Every method adds a statement to the runs that were named last; what the stub can do and no
/// method says is added with [`then_do`](Script::then_do), in the grammar of [`crate::stub::script`].
/// A run whose script is over stays up and does what the test says.
///
/// What no agent can do, such as a gate without a name or a text of more than 8 MiB, makes
/// [`SimHandle::agent`](crate::SimHandle::agent) panic. So does what would never be done: a
/// [`then`](Script::then) after statements that are for all runs that are left, and a script with
/// [`runs`](Script::runs) of its own where one run's is asked for.
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
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Script {
    /// The first runs: how many, and what they do.
    first: Vec<(u32, script::Script)>,
    /// All later runs.
    rest: script::Script,
    /// Why it is not what was meant: part of it has no place.
    mistake: Option<String>,
}

impl Script {
    /// Every run stays up and does what the test says.
    pub fn new() -> Script {
        Script::default()
    }

    /// The first `count` runs do this. The runs after them do what is added to this, or what
    /// [`then`](Script::then) says. Where nothing is said of them, they stay up and do what the test
    /// says: the last script is not repeated.
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

    /// The runs after those before do this.
    ///
    /// It adds no statements to a run. Those before it have to be inside of [`runs`](Script::runs): what
    /// stands outside is for all runs that are left, so that none would be left for `script`, and
    /// [`SimHandle::agent`](crate::SimHandle::agent) panics.
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

    /// Stays up for so long.
    pub fn run_for(self, time: Duration) -> Script {
        self.add(Statement::Run(time))
    }

    /// Stays up until the test, a signal or the end of the sim ends it.
    pub fn stay(self) -> Script {
        self.add(Statement::Stay)
    }

    /// Exits with the code.
    pub fn exit(self, code: u8) -> Script {
        self.add(Statement::Exit(code))
    }

    /// Dies by the signal, without a core dump. It has to be one that kills.
    pub fn die_by(self, signal: Signal) -> Script {
        self.add(Statement::Die {
            signal,
            core: false,
        })
    }

    /// Stops itself with SIGSTOP.
    pub fn freeze(self) -> Script {
        self.add(Statement::Freeze)
    }

    /// Ignores the signal.
    pub fn ignore(self, signal: Signal) -> Script {
        self.add(Statement::On(signal, Response::Ignore))
    }

    /// Traps the signal, which the timeline then shows, and goes on.
    pub fn count(self, signal: Signal) -> Script {
        self.add(Statement::On(signal, Response::Count))
    }

    /// Traps the signal and does this, before what was going on.
    pub fn on(mut self, signal: Signal, script: Script) -> Script {
        let handler = self.take_one("on", script);
        self.add(Statement::On(signal, Response::Handle(handler)))
    }

    /// Says that it is ready, on its control connection.
    pub fn ready(self) -> Script {
        self.add(Statement::Ready(Channel::Control))
    }

    /// Says that it is ready by a newline on a descriptor.
    pub fn ready_on_fd(self, descriptor: u16) -> Script {
        self.add(Statement::Ready(Channel::Fd(descriptor)))
    }

    /// Writes the text to standard output.
    pub fn write(self, text: &str) -> Script {
        self.add(Statement::Write(
            Stream::Stdout,
            Content::Text(Quoted::from(text)),
        ))
    }

    /// Writes so many bytes to standard output.
    pub fn flood(self, bytes: u64) -> Script {
        self.add(Statement::Write(Stream::Stdout, Content::Fill(bytes)))
    }

    /// Starts a descendant that does this.
    pub fn start(mut self, name: &str, placement: Placement, script: Script) -> Script {
        let script = self.take_one("start", script);
        self.add(Statement::Start(script::Descendant {
            name: Quoted::from(name),
            placement,
            output: script::Output::Hold,
            script,
        }))
    }

    /// Waits until the test opens the gate.
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

    /// What run `run`, from 1, does. It does not look for mistakes, as
    /// [`SimHandle::agent`](crate::SimHandle::agent) does.
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

    /// Checks that all of it will be done, and that the agent will understand it: that what it prints, which
    /// is how it is sent, is a script.
    pub(super) fn check(&self) -> Result<(), String> {
        if let Some(mistake) = &self.mistake {
            return Err(mistake.clone());
        }
        let all = self.first.iter().map(|(_, script)| script);
        all.chain([&self.rest])
            .try_for_each(check)
            .map_err(|error| error.to_string())
    }

    /// The script of one run that `method` was given.
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

    /// The first mistake is the one to mend.
    fn note(&mut self, mistake: String) {
        self.mistake.get_or_insert(mistake);
    }

    fn add(mut self, statement: Statement) -> Script {
        self.rest.0.push(statement);
        self
    }
}

/// As [`Script::check`].
fn check(script: &script::Script) -> Result<(), ScriptError> {
    script.to_string().parse::<script::Script>().map(drop)
}

/// As much of it as tells which it is.
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
