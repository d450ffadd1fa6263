//! The side of the test: a session with a process that serves a subject.

use std::collections::BTreeMap;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::{mpsc, oneshot};

use super::words::{Message, Words};
use crate::conformance::subject::{Session, SubjectError};
use crate::pidfd::ends_within;
use crate::pidfd::open_pidfd;
use crate::rules::{Control, Reporter, RestReason, Service};

/// real-time: how long the process may take to end when its session is dropped. After that it is
/// killed, and the sim ends what its service leaves.
const PATIENCE: Duration = Duration::from_secs(2);

/// A subject in a process of its own. Dropping the session ends that process, which first ends its
/// service. The drop waits until the process has ended. It waits 2 s at most, and then kills the
/// process.
#[derive(Debug)]
pub struct ApartSession {
    orders: mpsc::UnboundedSender<Message>,
    waiting: Arc<Mutex<Waiting>>,
    /// Shut down when this is dropped. To drop it is not enough: the tasks also hold the socket,
    /// and they go on until the runtime gets a turn.
    socket: StdUnixStream,
    child: Child,
}

/// The callers that wait for an answer.
#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    /// By the number of the order. `None` when there will be no more answers.
    senders: Option<BTreeMap<u64, oneshot::Sender<Words>>>,
}

impl ApartSession {
    pub(super) async fn start(
        mut command: Command,
        service: &Service,
    ) -> Result<ApartSession, SubjectError> {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        command
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null());
        let socket = ours.try_clone()?;
        let (words, mut to) = UnixStream::from_std(ours)?.into_split();
        let child = command.spawn().map_err(|error| {
            let program = command.get_program().display();
            SubjectError::new(format!("{program} cannot be run: {error}"))
        })?;
        // The command holds the other end of the socket. Only the process may hold it, so that the
        // socket ends when the process does.
        drop(command);
        let waiting = Arc::new(Mutex::new(Waiting {
            next: 0,
            senders: Some(BTreeMap::new()),
        }));
        tokio::spawn(listen(words, Arc::clone(&waiting), service.reporter()));
        let (orders, mut given) = mpsc::unbounded_channel::<Message>();
        tokio::spawn(async move {
            while let Some(order) = given.recv().await {
                // If nobody listens any more, no answer comes, either.
                if order.write(&mut to).await.is_err() {
                    return;
                }
            }
        });
        let session = ApartSession {
            orders,
            waiting,
            socket,
            child,
        };
        session.ask(Control::Begin, Some(service)).await?;
        Ok(session)
    }

    async fn ask(
        &self,
        control: Control,
        service: Option<&Service>,
    ) -> Result<Words, SubjectError> {
        let gone = || SubjectError::new("its process has ended");
        let (sender, answer) = oneshot::channel();
        let number = {
            let mut waiting = lock(&self.waiting);
            waiting.next += 1;
            let number = waiting.next;
            let senders = waiting.senders.as_mut().ok_or_else(gone)?;
            senders.insert(number, sender);
            number
        };
        let mut order = Message::of(number.to_string()).and(control.to_string());
        if let Some(service) = service {
            order = order.service(service);
        }
        self.orders.send(order).map_err(|_| gone())?;
        let mut answer = answer.await.map_err(|_| gone())?;
        match answer.text()?.as_str() {
            "done" => Ok(answer),
            _ => Err(SubjectError::new(answer.text()?)),
        }
    }
}

fn lock(waiting: &Mutex<Waiting>) -> std::sync::MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Passes on what the process says until the process has ended.
async fn listen(mut from: OwnedReadHalf, waiting: Arc<Mutex<Waiting>>, reporter: Reporter) {
    while let Ok(message) = Message::read(&mut from).await {
        if hand_on(message.words(), &waiting, &reporter).is_err() {
            break;
        }
    }
    lock(&waiting).senders = None;
}

fn hand_on(
    mut words: Words,
    waiting: &Mutex<Waiting>,
    reporter: &Reporter,
) -> Result<(), SubjectError> {
    if words.text()? == "notice" {
        reporter.report(words.notice()?);
        return Ok(());
    }
    let number: u64 = words.number()?;
    let mut waiting = lock(waiting);
    let senders = waiting.senders.as_mut();
    if let Some(sender) = senders.and_then(|senders| senders.remove(&number)) {
        // The caller may have stopped waiting.
        let _ = sender.send(words);
    }
    Ok(())
}

impl Session for ApartSession {
    async fn stop(&self) -> Result<(), SubjectError> {
        self.ask(Control::Stop, None).await.map(drop)
    }

    async fn outcome(&self) -> RestReason {
        let rest = self.ask(Control::Outcome, None).await;
        rest.and_then(|mut rest| rest.rest())
            .unwrap_or_else(|error| RestReason::Failed(error.text().to_owned()))
    }

    async fn restart(&self) -> Result<(), SubjectError> {
        self.ask(Control::Restart, None).await.map(drop)
    }

    async fn start(&self) -> Result<(), SubjectError> {
        self.ask(Control::Start, None).await.map(drop)
    }

    async fn reset(&self) -> Result<(), SubjectError> {
        self.ask(Control::Reset, None).await.map(drop)
    }

    fn process(&self) -> Option<u32> {
        Some(self.child.id())
    }
}

impl Drop for ApartSession {
    fn drop(&mut self) {
        // This fails only if the other end is gone.
        let _ = self.socket.shutdown(Shutdown::Both);
        if !matches!(ends(self.child.id()), Ok(true)) {
            // This fails only if the process is gone.
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// Whether the process, which nobody has reaped, ends within `PATIENCE`.
fn ends(pid: u32) -> io::Result<bool> {
    ends_within(open_pidfd(pid)?.as_fd(), PATIENCE)
}
