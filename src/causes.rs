//! An error whose text is all that is left of it.

use std::error::Error;
use std::fmt;

/// Its text, and those of its causes, after a colon each.
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
