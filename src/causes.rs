//! The text of an error and of its causes, for where only the text is kept.

use std::error::Error;
use std::fmt;

/// Prints the error's text, then the text of each of its causes after a colon.
pub(crate) struct WithCauses<'a>(pub(crate) &'a (dyn Error + 'a));

impl fmt::Display for WithCauses<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
