//! How long scripts and the names in them may be. What is too long for an agent is refused where it is
//! given: later it would be an error in the middle of a run.

use std::fmt::{self, Write};

use super::Script;
use crate::protocol::MAX_ORDER;

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
