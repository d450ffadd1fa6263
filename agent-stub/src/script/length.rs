//! How long scripts and the names in them may be, and how much a script does. What is too long for an agent is refused where it is
//! given: later it would be an error in the middle of a run.

use std::fmt::{self, Write};

use super::statement::{Response, Script, Statement};
use crate::limits::MAX_ORDER;

/// The longest script, as it prints: what one `do` order holds.
pub(super) const MAX_SCRIPT: usize = MAX_ORDER - "do \n".len();

/// The longest script of a descendant, as it prints: one argument of a process, its NUL byte apart. See
/// `MAX_ARG_STRLEN` in execve(2).
pub(super) const MAX_ARGUMENT: usize = 128 * 1024 - 1;

/// The longest name: a path's (`PATH_MAX`). A report has room for one, escaped twice, as in an error.
pub(super) const MAX_NAME: usize = 4096;

/// How many bytes the script has as it prints.
pub(super) fn printed(script: &Script) -> usize {
    let mut length = Length(0);
    // What only counts does not fail.
    let _ = write!(length, "{script}");
    length.0
}

struct Length(usize);

impl Write for Length {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 += text.len();
        Ok(())
    }
}

impl Script {
    /// How many statements a run of it does at most: what handlers and descendants do is counted once for
    /// each. `u64::MAX` where it has no end.
    ///
    /// ```
    /// use agent_stub::script::Script;
    ///
    /// let statements = |text: &str| text.parse().map(|script: Script| script.statements());
    /// assert_eq!(statements("ready; repeat 3 { run 1s; beat }; exit 0"), Ok(9));
    /// assert_eq!(statements("on TERM { exit 0 }; forever { beat }"), Ok(u64::MAX));
    /// ```
    #[must_use]
    pub fn statements(&self) -> u64 {
        let below = |statement: &Statement| match statement {
            Statement::Repeat(times, script) => script.statements().saturating_mul((*times).into()),
            Statement::Forever(_) => u64::MAX,
            Statement::First { script, .. } => script.statements(),
            Statement::On(_, Response::Handle(script)) => script.statements(),
            Statement::Start(descendant) => descendant.script.statements(),
            _ => 0,
        };
        let of_one = |statement| 1_u64.saturating_add(below(statement));
        self.0.iter().map(of_one).fold(0, u64::saturating_add)
    }
}
