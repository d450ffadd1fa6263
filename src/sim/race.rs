//! Two futures, of which the first to complete wins.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

/// Polls both, the first before the second, and returns the output of the first that completes. `tokio::select!` needs tokio's
/// procedural macros, which take longer to build than the rest of this crate.
pub(super) async fn first<T>(one: impl Future<Output = T>, two: impl Future<Output = T>) -> T {
    let (mut one, mut two) = (pin!(one), pin!(two));
    poll_fn(|context| match one.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(output),
        Poll::Pending => two.as_mut().poll(context),
    })
    .await
}
