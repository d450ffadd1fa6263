//! The side of the program: a subject that is told what to do over a socket.

use std::cell::RefCell;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::rc::Rc;

use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use super::words::{Message, Words};
use crate::conformance::subject::{Session, Subject, SubjectError};
use crate::rules::{Control, Reporter};

/// Has a subject do what the process that has run this one says. A program that [`Program::start`]
/// runs has to call this.
///
/// It takes the socket that is standard input. It returns when the other end of the socket is gone,
/// which happens when the test ends or is killed. The service has ended then. A program that does
/// nothing else should end now.
///
/// [`Program::start`]: super::Program::start
///
/// # Errors
///
/// If standard input is no such socket: somebody else has run the program. Also if what comes from
/// the socket is not what [`Program::start`] sends.
pub fn serve<S>(subject: S) -> io::Result<()>
where
    S: Subject + 'static,
    S::Session: 'static,
{
    let socket = StdUnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    // This fails if standard input is no socket at all.
    socket.peer_addr()?;
    socket.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let tasks = LocalSet::new();
    // The calls that have not returned are dropped with the tasks, and so is the session.
    tasks.block_on(&runtime, listen(socket, Rc::new(subject)))
}

/// The session, once it has begun.
type Kept<T> = Rc<RefCell<Option<Rc<T>>>>;

async fn listen<S>(socket: StdUnixStream, subject: Rc<S>) -> io::Result<()>
where
    S: Subject + 'static,
    S::Session: 'static,
{
    let (mut orders, mut words) = UnixStream::from_std(socket)?.into_split();
    let (say, mut said) = mpsc::unbounded_channel::<Message>();
    tokio::task::spawn_local(async move {
        while let Some(message) = said.recv().await {
            // If nobody listens any more, the orders have ended, too.
            if message.write(&mut words).await.is_err() {
                return;
            }
        }
    });
    let kept: Kept<S::Session> = Rc::default();
    loop {
        let order = match Message::read(&mut orders).await {
            Ok(order) => order,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(error),
            Err(_) => return Ok(()),
        };
        let (subject, kept, say) = (Rc::clone(&subject), Rc::clone(&kept), say.clone());
        tokio::task::spawn_local(async move {
            let mut order = order.words();
            let Ok(number) = order.next() else { return };
            let answer = Message::of("answer").and(number);
            let done = obey(&*subject, &kept, order, &say).await;
            let answer = match done {
                Ok(rest) => rest(answer.and("done")),
                Err(error) => answer.and("failed").and(error.text()),
            };
            // This fails only if nobody listens any more. Then the orders have ended, too.
            let _ = say.send(answer);
        });
    }
}

/// Adds to an answer what a call has returned.
type Returned = Box<dyn FnOnce(Message) -> Message>;

async fn obey<S>(
    subject: &S,
    kept: &Kept<S::Session>,
    mut order: Words,
    say: &mpsc::UnboundedSender<Message>,
) -> Result<Returned, SubjectError>
where
    S: Subject,
{
    let control = order.control()?;
    if control == Control::Begin {
        let mut service = order.service()?;
        let say = say.clone();
        service.set_reporter(Reporter::new(move |notice| {
            // This fails only if nobody listens any more. Then the orders have ended, too.
            let _ = say.send(Message::of("notice").notice(&notice));
        }));
        let session = subject.start(&service).await?;
        kept.replace(Some(Rc::new(session)));
        return Ok(Box::new(|answer| answer));
    }
    let session = kept.borrow().clone();
    let session = session.ok_or_else(|| SubjectError::new("it has not begun"))?;
    match control {
        Control::Stop => session.stop().await?,
        Control::Restart => session.restart().await?,
        Control::Start => session.start().await?,
        Control::Reset => session.reset().await?,
        _ => {
            let rest = session.outcome().await;
            return Ok(Box::new(move |answer| answer.rest(&rest)));
        }
    }
    Ok(Box::new(|answer| answer))
}
