//! The stub's life: one thread and one loop, which blocks in nothing but `poll`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Child;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::complaint::complain;
use crate::connection::{Connection, Incoming, take_over};
use crate::frame::{Again, Frame, Wait};
use crate::inherited::Inherited;
use crate::options::{ClockChoice, Control, Options};
use crate::protocol::{Order, Report, VERSION};
use crate::quoted::Quoted;
use crate::script::Script;
use crate::signal::Signal;
use crate::sys;
use crate::watch::{LOOK, Watch};

/// The exit code if the control connection ended.
const CONTROL_LOST: i32 = 123;
/// The exit code if the lifetime was over. timeout(1) uses the same code.
const LIFETIME_OVER: i32 = 124;
/// The exit code if a script without a control connection cannot go on: EX_OSERR of sysexits(3).
const CANNOT_GO_ON: i32 = 71;

/// A running stub.
pub(crate) struct Agent {
    pub(crate) options: Options,
    pub(crate) inherited: Inherited,
    pub(crate) control: Option<Connection>,
    /// A connection on which another process talks to the harness. This process exits when the
    /// connection ends.
    pub(crate) lifeline: Option<OwnedFd>,
    /// Whether the harness has shut its half of the connection, so that no more orders will come.
    deaf: bool,
    deadline: Instant,
    /// The blocks that are being run. A handler or an order stands above the block that it
    /// interrupted.
    pub(crate) frames: Vec<Frame>,
    incoming: VecDeque<Incoming>,
    pub(crate) handlers: BTreeMap<Signal, Script>,
    /// The signals that a script counts or handles, and that the stub therefore reports.
    pub(crate) reported: BTreeSet<Signal>,
    /// How often each signal had been trapped when the stub last looked.
    pub(crate) seen: BTreeMap<Signal, u32>,
    /// How often the stub has reported each signal to the harness.
    pub(crate) told: BTreeMap<Signal, u64>,
    /// How many SIGCHLDs had come when the stub last looked for ended children.
    pub(crate) children_heard: u32,
    /// The signals whose handlers are due. A handler begins once no other handler of its signal is
    /// running.
    pub(crate) due: VecDeque<Signal>,
    /// A pair of sockets: the loop reads from the first, and a trapped signal writes a byte to the
    /// second.
    pub(crate) wake: Option<(OwnedFd, OwnedFd)>,
    over: BTreeSet<u64>,
    pub(crate) opened: BTreeMap<Quoted, u32>,
    /// The number of the last wait or turn.
    pub(crate) last_wait: u64,
    /// Whether the stub may now do something that others can see. It matters by the harness's clock
    /// only, which grants one turn at a time.
    pub(crate) has_turn: bool,
    /// The turn that the stub has asked for to take signals, as long as it is not granted.
    pub(crate) asked_for_signals: Option<u64>,
    pub(crate) children: Vec<Child>,
    /// Whether a script ignores SIGCHLD. Then nothing tells the stub that a child has ended.
    pub(crate) ignores_children: bool,
    /// How many descendants this stub has started.
    pub(crate) started: u32,
    /// The locked files. They stay open, since closing a file releases its lock.
    pub(crate) locks: Vec<std::fs::File>,
    pub(crate) idle: bool,
    /// Whether the stub has told the harness that nothing is left to do but wait.
    rested: bool,
    /// How many orders the stub has obeyed so far, not counting pings.
    obeyed: u64,
}

impl Agent {
    /// Connects and says hello.
    pub(crate) fn new(mut options: Options, inherited: Inherited) -> Result<Agent, String> {
        let at = |number: &i32| {
            let number = *number;
            move |error: io::Error| format!("descriptor {number}: {error}")
        };
        let (mut control, mut lifeline) = (None, None);
        match &options.control {
            Control::Alone => {}
            Control::Address(address) => {
                let connected = Connection::to(address);
                let at = |error| format!("connect to `{}`: {error}", address.to_string_lossy());
                control = Some(connected.map_err(at)?);
            }
            Control::Descriptor(number) => {
                control = Some(Connection::inherited(*number).map_err(at(number))?);
            }
            Control::Lifeline(number) => lifeline = Some(take_over(*number).map_err(at(number))?),
        }
        if control.is_none() && options.clock == ClockChoice::Harness {
            return Err("--clock harness: expected a control connection to ask".to_owned());
        }
        if control.is_none() && options.script.is_none() {
            return Err("expected a script or a control connection; --help says how".to_owned());
        }
        let script = options.script.take();
        let mut agent = Agent {
            deadline: Instant::now() + options.lifetime,
            frames: script
                .map(|script| Frame::new(script, Again::Times(1)))
                .into_iter()
                .collect(),
            options,
            inherited,
            control,
            lifeline,
            deaf: false,
            incoming: VecDeque::new(),
            handlers: BTreeMap::new(),
            reported: BTreeSet::new(),
            seen: BTreeMap::new(),
            told: BTreeMap::new(),
            children_heard: 0,
            due: VecDeque::new(),
            wake: None,
            over: BTreeSet::new(),
            opened: BTreeMap::new(),
            last_wait: 0,
            has_turn: false,
            asked_for_signals: None,
            children: Vec::new(),
            ignores_children: false,
            started: 0,
            locks: Vec::new(),
            idle: false,
            rested: false,
            obeyed: 0,
        };
        agent.say_soon(&Report::Hello {
            version: VERSION,
            pid: std::process::id(),
            ppid: agent.inherited.ppid(),
            agent: agent.options.agent.clone(),
            descendant: agent.options.descendant.clone(),
        });
        for variable in std::mem::take(&mut agent.options.unknown) {
            agent.warn(&format!("unknown variable {variable} in the environment"));
        }
        Ok(agent)
    }

    /// Runs the loop. Returns the exit code when a script without a control connection is done; at
    /// every other end the process exits from within.
    pub(crate) fn live(mut self) -> i32 {
        loop {
            self.hear_signals();
            let Some(top) = self.frames.last() else {
                if self.control.is_none() {
                    return 0;
                }
                if !std::mem::replace(&mut self.idle, true) {
                    self.say_soon(&Report::Idle);
                }
                self.obey_or_wait();
                continue;
            };
            match &top.wait {
                Some(wait) if !self.is_over(wait) => self.obey_or_wait(),
                _ => self.step(),
            }
        }
    }

    /// Sends the report to the harness at once, if there is a control connection.
    pub(crate) fn say(&mut self, report: &Report) {
        self.say_soon(report);
        self.send();
    }

    /// Keeps the report and sends it before the next statement or the next wait. Reports that are
    /// sent together wake the harness only once.
    pub(crate) fn say_soon(&mut self, report: &Report) {
        self.rested &= matches!(report, Report::Pong(_));
        if let Some(control) = &mut self.control {
            control.keep(report);
        }
    }

    fn send(&mut self) {
        if let Some(control) = &mut self.control
            && let Err(error) = control.send(self.deadline)
        {
            std::process::exit(match error.kind() {
                io::ErrorKind::TimedOut => LIFETIME_OVER,
                _ => CONTROL_LOST,
            });
        }
    }

    /// Reports something odd to the harness, or else on standard error, and goes on.
    pub(crate) fn warn(&mut self, text: &str) {
        match self.control {
            Some(_) => self.say(&Report::Error(Quoted::from(text))),
            None => complain(text),
        }
    }

    /// Reports that a statement could not be done. Without a control connection the script cannot
    /// go on, so the process exits.
    pub(crate) fn fail(&mut self, text: &str) {
        self.warn(text);
        if self.control.is_none() {
            std::process::exit(CANNOT_GO_ON);
        }
    }

    /// What is left of the lifetime.
    pub(crate) fn lifetime_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    fn is_over(&self, wait: &Wait) -> bool {
        match wait {
            Wait::Until(deadline) => Instant::now() >= *deadline,
            Wait::Go(id) => self.over.contains(id),
            Wait::Ever => false,
            Wait::Gate(name) => self.opened.get(name).is_some_and(|passages| *passages > 0),
            Wait::Watch(watch) => self.options.clock == ClockChoice::Real && watch.has_come(),
            Wait::Writable(descriptor) => is_writable(*descriptor),
            Wait::Room(descriptor) => is_writable(descriptor.as_raw_fd()),
        }
    }

    /// Goes on with the topmost block: with its write, with its next statement or, at its end, with
    /// the next round or the block below.
    fn step(&mut self) {
        let Some(top) = self.frames.last_mut() else {
            return;
        };
        match top.wait.take() {
            Some(Wait::Go(id)) => {
                self.over.remove(&id);
                // A write that was blocked goes on with this turn, and uses it up.
                self.has_turn &= top.writing.is_none();
            }
            // If several processes wait to write to one pipe, the kernel would choose which one
            // goes on. So this one asks for a turn.
            Some(Wait::Writable(_))
                if top.writing.is_some() && self.options.clock == ClockChoice::Harness =>
            {
                let id = self.ask_for_turn(false);
                if let Some(top) = self.frames.last_mut() {
                    top.wait = Some(Wait::Go(id));
                }
                return;
            }
            Some(Wait::Gate(name)) => {
                if let Some(passages) = self.opened.get_mut(&name) {
                    *passages -= 1;
                }
            }
            _ => {}
        }
        if let Some(writing) = top.writing.take() {
            return self.go_on_writing(writing);
        }
        let script = Rc::clone(&top.script);
        if let Some(statement) = script.0.get(top.next) {
            top.next += 1;
            self.send();
            return self.perform(statement);
        }
        match &mut top.again {
            Again::Times(times) if *times > 1 => *times -= 1,
            Again::Times(_) => {
                self.frames.pop();
                return;
            }
            Again::Forever => {}
        }
        top.next = 0;
        let endless = matches!(top.again, Again::Forever);
        if endless && self.asked_for_signals.is_some() {
            // The harness grants a turn only to a stub that rests. This block would never rest by
            // itself.
            self.obey_or_wait();
        } else {
            self.look_up(endless);
        }
    }

    /// Looks up from work that may take long without a wait. Obeys the next order, and notices when
    /// the harness is gone or the lifetime is over. Answers a ping only in an endless block: all
    /// other work comes to an end, and the ping waits for that.
    pub(crate) fn look_up(&mut self, endless: bool) {
        let ping = matches!(self.incoming.front(), Some(Ok(Order::Ping(_))));
        if ping && !endless || !self.obey() {
            self.listen(Duration::ZERO, None);
        }
    }

    /// Gives the turn back and, by the harness's clock, says once that nothing is left to do but
    /// wait.
    fn rest(&mut self) {
        self.has_turn = false;
        if self.options.clock == ClockChoice::Harness && !self.rested {
            if let Some(watch) = self.watch() {
                let report = Report::Watching(watch.file().clone());
                self.say_soon(&report);
            }
            self.say(&Report::Rest(self.obeyed));
            self.rested = true;
        }
    }

    /// Returns what the topmost block polls for, if it does.
    fn watch(&self) -> Option<&Watch> {
        match self.frames.last()?.wait.as_ref()? {
            Wait::Watch(watch) => Some(watch),
            _ => None,
        }
    }

    /// Obeys the next order; without one, waits for whatever comes first.
    fn obey_or_wait(&mut self) {
        // The stub answers a ping after the `rest` that the ping asks for, even if an order before
        // it and the ping arrived together.
        if !matches!(self.incoming.front(), None | Some(Ok(Order::Ping(_)))) {
            self.obey();
            return;
        }
        // Look before answering the ping: if what the stub waits for has come, there is something
        // left to do.
        if !self.incoming.is_empty() && self.watch().is_some_and(Watch::has_come) {
            self.rested = false;
            return self.step();
        }
        self.rest();
        if self.obey() {
            return;
        }
        let (mut timeout, mut writable) = (Duration::MAX, None);
        match self.frames.last().and_then(|top| top.wait.as_ref()) {
            Some(Wait::Until(deadline)) => {
                timeout = deadline.saturating_duration_since(Instant::now());
            }
            Some(Wait::Watch(_)) if self.options.clock == ClockChoice::Real => timeout = LOOK,
            Some(Wait::Writable(descriptor)) => writable = Some(*descriptor),
            Some(Wait::Room(descriptor)) => writable = Some(descriptor.as_raw_fd()),
            Some(Wait::Go(_) | Wait::Ever | Wait::Gate(_) | Wait::Watch(_)) | None => {}
        }
        self.listen(timeout, writable);
    }

    /// Obeys the next order. Returns false if there is none.
    fn obey(&mut self) -> bool {
        let Some(incoming) = self.incoming.pop_front() else {
            return false;
        };
        if !matches!(incoming, Ok(Order::Ping(_))) {
            self.obeyed += 1;
            self.rested = false;
            self.has_turn = true;
        }
        match incoming {
            Ok(Order::Do(script)) => {
                self.idle = false;
                self.frames.push(Frame::new(script, Again::Times(1)));
            }
            Ok(Order::Go(id)) if self.asked_for_signals == Some(id) => {
                self.asked_for_signals = None;
            }
            Ok(Order::Go(id)) => {
                self.over.insert(id);
            }
            Ok(Order::Open(name)) => {
                let passages = self.opened.entry(name).or_default();
                *passages = passages.saturating_add(1);
            }
            Ok(Order::Ping(id)) => self.say(&Report::Pong(id)),
            Err(error) => self.say(&Report::Error(Quoted::from(error.to_string().as_str()))),
        }
        true
    }

    /// Sends what was kept. Then waits for an order, a signal, the end of the harness or room to
    /// write, at most until `timeout` or the lifetime is over.
    fn listen(&mut self, timeout: Duration, writable: Option<i32>) {
        self.send();
        let left = self.lifetime_left();
        if left.is_zero() {
            self.warn("the lifetime is over");
            std::process::exit(LIFETIME_OVER);
        }
        let harness = match (&self.control, &self.lifeline) {
            (Some(control), _) if self.deaf => Some(sys::Poll::gone(control.descriptor())),
            (Some(control), _) => Some(sys::Poll::readable(control.descriptor())),
            (None, Some(lifeline)) => Some(sys::Poll::gone(lifeline.as_raw_fd())),
            (None, None) => None,
        };
        let wake = self
            .wake
            .as_ref()
            .map(|(read, _)| sys::Poll::readable(read.as_raw_fd()));
        let mut all: Vec<sys::Poll> = harness.into_iter().chain(wake).collect();
        all.extend(writable.map(sys::Poll::writable));
        sys::wait_for(&mut all, sys::milliseconds(timeout.min(left)));
        if harness.is_some() && all[0].happened() {
            let open = match &mut self.control {
                Some(control) if !self.deaf => control.receive(&mut self.incoming),
                _ => false,
            };
            if !open && all[0].is_gone() {
                std::process::exit(CONTROL_LOST);
            }
            // A harness that has shut its half of the connection is still there. It will send no
            // more orders, and means to stop this process in some other way.
            self.deaf = !open;
        }
    }

    /// Asks the harness for a turn and returns the turn's number. `signal` says whether a trapped
    /// signal is the reason.
    pub(crate) fn ask_for_turn(&mut self, signal: bool) -> u64 {
        self.last_wait += 1;
        let id = self.last_wait;
        self.say_soon(&Report::Turn { id, signal });
        id
    }
}

/// Whether a write to the descriptor would succeed or fail at once, instead of blocking.
fn is_writable(descriptor: i32) -> bool {
    let mut poll = [sys::Poll::writable(descriptor)];
    sys::wait_for(&mut poll, 0);
    poll[0].happened()
}
