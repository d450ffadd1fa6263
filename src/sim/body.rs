//! The body of a sim, which tells the gate of each of its turns.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use super::gate::Gate;
use super::waker::BodyWaker;

/// The body of a sim, polled with a `BodyWaker`.
pub(crate) struct Body<F> {
    body: Pin<Box<F>>,
    gate: Arc<Mutex<Option<Gate>>>,
    own: Arc<BodyWaker>,
    waker: Waker,
}

impl<F: Future> Body<F> {
    pub(crate) fn new(body: F, gate: Arc<Mutex<Option<Gate>>>, own: Arc<BodyWaker>) -> Body<F> {
        Body {
            body: Box::pin(body),
            gate,
            waker: Waker::from(Arc::clone(&own)),
            own,
        }
    }
}

impl<F: Future> Future for Body<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.get_mut();
        this.own.set(context.waker());
        if let Some(gate) = &mut *this.gate.lock().unwrap_or_else(PoisonError::into_inner) {
            gate.run();
        }
        let mut own = Context::from_waker(&this.waker);
        this.own.shared.waits.begin_poll();
        let result = this.body.as_mut().poll(&mut own);
        this.own.shared.waits.end_poll();
        if result.is_pending()
            && let Some(gate) = &mut *this.gate.lock().unwrap_or_else(PoisonError::into_inner)
        {
            gate.settle_after_body();
        }
        result
    }
}
