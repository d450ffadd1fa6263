//! Who sleeps on a fake clock, and who waits for sleepers.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::timestamp::Timestamp;

#[derive(Default)]
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) now: Timestamp,
    /// The number of the next sleeper or watcher.
    pub(super) next: u64,
    /// The sleepers, in the order of waking: by deadline, then by registration.
    pub(super) sleepers: BTreeMap<(Timestamp, u64), Waker>,
    /// Those who wait for a number of sleepers, and for how many.
    pub(super) watchers: BTreeMap<u64, (usize, Waker)>,
}

impl Shared {
    /// Locks the state. A panic elsewhere cannot leave the state half changed, because no code of
    /// others runs while it is locked.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    pub(super) fn new_id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Removes the watchers that now have what they wait for, and returns their wakers.
    pub(super) fn satisfied(&mut self) -> Vec<Waker> {
        let count = self.sleepers.len();
        let (satisfied, waiting) = std::mem::take(&mut self.watchers)
            .into_iter()
            .partition(|(_, (wanted, _))| *wanted <= count);
        self.watchers = waiting;
        let satisfied: BTreeMap<_, (usize, Waker)> = satisfied;
        satisfied.into_values().map(|(_, waker)| waker).collect()
    }
}

/// Moves the time to `to` and wakes the sleepers whose deadlines it reaches. Does not wake anybody
/// or drop a waker under the lock: both can run code that comes back to this clock.
pub(super) fn wake_until(mut state: MutexGuard<'_, State>, to: Timestamp) {
    state.now = state.now.max(to);
    let mut woken = Vec::new();
    while let Some(first) = state.sleepers.first_entry() {
        if first.key().0 > to {
            break;
        }
        woken.push(first.remove());
    }
    drop(state);
    woken.into_iter().for_each(Waker::wake);
}

/// A sleep on a fake clock. It is registered from its first poll to its deadline or its drop.
pub(super) struct FakeSleep {
    pub(super) shared: Arc<Shared>,
    pub(super) deadline: Timestamp,
    pub(super) id: Option<u64>,
}

impl FakeSleep {
    pub(super) fn deadline(&self) -> Timestamp {
        self.deadline
    }
}

impl Future for FakeSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let mut state = this.shared.lock();
        if state.now >= this.deadline {
            this.id = None;
            return Poll::Ready(());
        }
        let waker = context.waker().clone();
        let (replaced, satisfied) = match this.id {
            Some(id) => (
                state.sleepers.insert((this.deadline, id), waker),
                Vec::new(),
            ),
            None => {
                let id = state.new_id();
                this.id = Some(id);
                state.sleepers.insert((this.deadline, id), waker);
                (None, state.satisfied())
            }
        };
        drop(state);
        drop(replaced);
        satisfied.into_iter().for_each(Waker::wake);
        Poll::Pending
    }
}

impl Drop for FakeSleep {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            let waker = self.shared.lock().sleepers.remove(&(self.deadline, id));
            drop(waker);
        }
    }
}

/// Waits for a number of sleepers. It is registered from its first poll to its end or its drop.
pub(super) struct WaitForSleepers {
    pub(super) shared: Arc<Shared>,
    pub(super) count: usize,
    pub(super) id: Option<u64>,
}

impl Future for WaitForSleepers {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let mut state = this.shared.lock();
        let replaced = if state.sleepers.len() >= this.count {
            let own = this.id.take().and_then(|id| state.watchers.remove(&id));
            drop(state);
            drop(own);
            return Poll::Ready(());
        } else {
            let id = *this.id.get_or_insert_with(|| state.new_id());
            let waker = context.waker().clone();
            state.watchers.insert(id, (this.count, waker))
        };
        drop(state);
        drop(replaced);
        Poll::Pending
    }
}

impl Drop for WaitForSleepers {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            let waker = self.shared.lock().watchers.remove(&id);
            drop(waker);
        }
    }
}
