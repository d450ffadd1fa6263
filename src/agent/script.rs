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
/// [`SimHandle::agent`](crate::SimHandle::agent) panic.
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
}

impl Script {
    /// Every run stays up and does what the test says.
    pub fn new() -> Script {
        Script::default()
    }

    /// The first `count` runs do this; what the later ones do is said by [`then`](Script::then).
    /// Where `script` differs by run itself, its last part is taken.
    pub fn runs(count: u32, script: Script) -> Script {
        Script {
            first: vec![(count, script.rest)],
            rest: script::Script::default(),
        }
    }

    /// The runs after those before do this.
    pub fn then(mut self, script: Script) -> Script {
        self.first.extend(script.first);
        self.rest = script.rest;
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
    pub fn on(self, signal: Signal, script: Script) -> Script {
        self.add(Statement::On(signal, Response::Handle(script.rest)))
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
    pub fn start(self, name: &str, placement: Placement, script: Script) -> Script {
        self.add(Statement::Start(script::Descendant {
            name: Quoted::from(name),
            placement,
            output: script::Output::Hold,
            script: script.rest,
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

    /// What run `run`, from 1, does.
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

    /// Checks that the agent will understand it: that what it prints, which is how it is sent, is a
    /// script.
    pub(super) fn check(&self) -> Result<(), ScriptError> {
        let mut all = self.first.iter().map(|(_, script)| script);
        all.try_for_each(check)?;
        check(&self.rest)
    }

    fn add(mut self, statement: Statement) -> Script {
        self.rest.0.push(statement);
        self
    }
}

/// As [`Script::check`].
pub(super) fn check(script: &script::Script) -> Result<(), ScriptError> {
    script.to_string().parse::<script::Script>().map(drop)
}

impl From<script::Script> for Script {
    fn from(rest: script::Script) -> Script {
        Script {
            first: Vec::new(),
            rest,
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
