//! Signals by name and number, as scripts name them and as statuses report them.

use std::fmt;
use std::str::FromStr;

/// A Linux signal, 1 to 64, real-time signals included.
///
/// Prints as `SIGTERM` or, from 34 on, as `SIGRTMIN+n`. The C library keeps 32 and 33 for itself;
/// they print as `SIG32` and `SIG33`. Parses from its printed form, from that form without `SIG`,
/// or from the number.
///
/// Source: signal(7).
///
/// ```
/// use agent_stub::Signal;
///
/// assert_eq!("TERM".parse(), Ok(Signal::TERM));
/// assert_eq!(Signal::SIGTERM, Signal::TERM);
/// assert_eq!("11".parse(), Ok(Signal::SEGV));
/// assert_eq!("RTMIN+2".parse::<Signal>().unwrap().to_string(), "SIGRTMIN+2");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(u8);

/// As it is displayed: `SIGTERM`.
impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The first real-time signal of glibc. Names are counted from it whatever the C library is.
const RTMIN: u8 = 34;
/// The first signal after those that the C library keeps for itself: 32 and 33 and, with musl, 34.
const FIRST_FREE: u8 = if cfg!(target_env = "musl") { 35 } else { RTMIN };
/// The last signal.
const MAX: u8 = 64;

macro_rules! signals {
    ($($name:ident, $full:ident = $number:literal, $doc:literal;)*) => {
        impl Signal {
            $(#[doc = $doc] pub const $name: Signal = Signal($number);)*
            $(#[doc = $doc] pub const $full: Signal = Signal($number);)*

            /// The named signals, by number.
            const NAMED: &[(&'static str, u8)] = &[$((stringify!($name), $number)),*];
        }
    };
}

signals! {
    HUP, SIGHUP = 1, "Hang-up.";
    INT, SIGINT = 2, "Interrupt.";
    QUIT, SIGQUIT = 3, "Quit, with a core dump.";
    ILL, SIGILL = 4, "Illegal instruction.";
    TRAP, SIGTRAP = 5, "Trace trap.";
    ABRT, SIGABRT = 6, "Abort.";
    BUS, SIGBUS = 7, "Bus error.";
    FPE, SIGFPE = 8, "Arithmetic error.";
    KILL, SIGKILL = 9, "Kill: cannot be caught, blocked or ignored.";
    USR1, SIGUSR1 = 10, "The first user signal.";
    SEGV, SIGSEGV = 11, "Invalid memory reference.";
    USR2, SIGUSR2 = 12, "The second user signal.";
    PIPE, SIGPIPE = 13, "A write that nobody can read.";
    ALRM, SIGALRM = 14, "A timer of alarm(2).";
    TERM, SIGTERM = 15, "Please end.";
    STKFLT, SIGSTKFLT = 16, "Coprocessor stack fault.";
    CHLD, SIGCHLD = 17, "A child ended or stopped.";
    CONT, SIGCONT = 18, "Go on after a stop.";
    STOP, SIGSTOP = 19, "Stop: cannot be caught, blocked or ignored.";
    TSTP, SIGTSTP = 20, "Stop, from the terminal.";
    TTIN, SIGTTIN = 21, "A background read from the terminal.";
    TTOU, SIGTTOU = 22, "A background write to the terminal.";
    URG, SIGURG = 23, "Urgent data on a socket.";
    XCPU, SIGXCPU = 24, "The processor-time limit was passed.";
    XFSZ, SIGXFSZ = 25, "The file-size limit was passed.";
    VTALRM, SIGVTALRM = 26, "A timer of virtual time.";
    PROF, SIGPROF = 27, "A profiling timer.";
    WINCH, SIGWINCH = 28, "The window changed its size.";
    IO, SIGIO = 29, "Input or output is possible.";
    PWR, SIGPWR = 30, "The power failed.";
    SYS, SIGSYS = 31, "A bad system call.";
}

impl Signal {
    /// Returns the signal with this number.
    ///
    /// # Errors
    ///
    /// [`UnknownSignal`] if the number is not from 1 to 64.
    pub fn from_number(number: i32) -> Result<Signal, UnknownSignal> {
        match u8::try_from(number) {
            Ok(n) if (1..=MAX).contains(&n) => Ok(Signal(n)),
            _ => Err(UnknownSignal(number.to_string())),
        }
    }

    /// The signal's number, 1 to 64.
    #[must_use]
    pub fn number(self) -> i32 {
        i32::from(self.0)
    }

    /// Whether a process can trap, ignore or block the signal. It can do so with all but KILL, STOP
    /// and those that the C library keeps for itself, which are 32 and 33 and, with musl, 34.
    #[must_use]
    pub fn is_catchable(self) -> bool {
        !matches!(self, Signal::KILL | Signal::STOP) && !self.is_reserved()
    }

    /// Whether this is a real-time signal. The kernel keeps each real-time signal that is sent, not
    /// just one of a kind.
    #[must_use]
    pub fn is_realtime(self) -> bool {
        self.0 >= 32
    }

    /// Whether the C library keeps the signal for itself.
    fn is_reserved(self) -> bool {
        (32..FIRST_FREE).contains(&self.0)
    }

    /// Whether the signal's default action ends a process. It is false for the signals that the C
    /// library keeps for itself.
    #[must_use]
    pub fn is_deadly(self) -> bool {
        let spared = [
            Signal::CHLD,
            Signal::CONT,
            Signal::STOP,
            Signal::TSTP,
            Signal::TTIN,
            Signal::TTOU,
        ];
        !spared.contains(&self)
            && !matches!(self, Signal::URG | Signal::WINCH)
            && !self.is_reserved()
    }

    /// Returns all signals in the order of their numbers, without those that the C library keeps
    /// for itself.
    pub fn all() -> impl Iterator<Item = Signal> {
        (1..=MAX).map(Signal).filter(|signal| !signal.is_reserved())
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Signal::NAMED.iter().find(|(_, n)| *n == self.0) {
            Some((name, _)) => write!(f, "SIG{name}"),
            None if self.0 == RTMIN => f.write_str("SIGRTMIN"),
            None if self.0 > RTMIN => write!(f, "SIGRTMIN+{}", self.0 - RTMIN),
            None => write!(f, "SIG{}", self.0),
        }
    }
}

impl FromStr for Signal {
    type Err = UnknownSignal;

    fn from_str(text: &str) -> Result<Signal, UnknownSignal> {
        let unknown = || UnknownSignal(text.to_owned());
        // `parse` would accept a sign, too, which no printed number has.
        let number = |digits: &str| match digits.parse::<u8>() {
            Ok(number) if digits.bytes().all(|b| b.is_ascii_digit()) => Ok(number),
            _ => Err(unknown()),
        };
        let name = text.strip_prefix("SIG").unwrap_or(text);
        if let Some((_, n)) = Signal::NAMED.iter().find(|(known, _)| *known == name) {
            return Ok(Signal(*n));
        }
        if let Some(rest) = name.strip_prefix("RTMIN") {
            let above = match rest.strip_prefix('+') {
                Some(digits) => number(digits)?,
                None if rest.is_empty() => 0,
                None => return Err(unknown()),
            };
            return match RTMIN.checked_add(above) {
                Some(n) if n <= MAX => Ok(Signal(n)),
                _ => Err(unknown()),
            };
        }
        Signal::from_number(i32::from(number(name)?)).map_err(|_| unknown())
    }
}

/// A text that names no signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownSignal(String);

impl fmt::Display for UnknownSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "unknown signal `{}`: expected a name such as SIGTERM or SIGRTMIN+1, or a number from 1 to {MAX}",
            self.0
        )
    }
}

impl std::error::Error for UnknownSignal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signal_parses_from_what_it_prints() {
        for n in 1..=64 {
            let signal = Signal::from_number(n).unwrap();
            assert_eq!(signal.to_string().parse(), Ok(signal));
            assert_eq!(n.to_string().parse(), Ok(signal));
        }
    }

    #[test]
    fn what_is_no_signal_is_an_error_that_quotes_it() {
        for text in [
            "", "0", "65", "-1", "SIG", "SIGFOO", "term", "RTMIN+31", "RTMIN-1", "RTMIN+", "256",
            "+15", "SIG+9", "RTMIN++1",
        ] {
            let error = text.parse::<Signal>().unwrap_err().to_string();
            assert!(error.contains(&format!("`{text}`")), "{text}: {error}");
        }
    }
}
