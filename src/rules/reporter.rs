//! Where a subject makes its reports.

use std::fmt;
use std::sync::Arc;

use super::notice::Notice;

/// Takes a subject's reports about its service. It is cheap to clone and may be sent to other
/// threads.
#[derive(Clone)]
pub struct Reporter(Arc<dyn Fn(Notice) + Send + Sync>);

impl Reporter {
    pub(crate) fn new(sink: impl Fn(Notice) + Send + Sync + 'static) -> Reporter {
        Reporter(Arc::new(sink))
    }

    /// Makes a report. The time of this call counts as the time of the report.
    pub fn report(&self, notice: Notice) {
        (self.0)(notice);
    }
}

impl fmt::Debug for Reporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reporter")
    }
}
