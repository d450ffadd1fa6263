//! What a report says of a process that was left behind.

use std::fmt;

use super::proc::Stat;
use crate::status::ExitStatus;

/// A process that was left behind. Its `Display` is one line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Found {
    /// The process id. The kernel may use it again once the guard has ended the process.
    pub pid: u32,
    /// The process id of the parent. An orphan's parent is init or a subreaper.
    pub ppid: u32,
    /// The name of the program, without the directories.
    pub program: String,
    /// The arguments, without the program. Empty for a zombie.
    pub args: Vec<String>,
    /// What the process was doing.
    pub state: ProcessState,
    /// How the process ended, if it is a zombie and a child of this process.
    pub status: Option<ExitStatus>,
    /// The id of the agent that the process is or descends from, if a stub's arguments or a
    /// `SUPERVISE_AGENT_ID` in the environment of the process say so.
    pub agent: Option<String>,
    /// The name of the descendant, if a stub's script started the process.
    pub descendant: Option<String>,
    /// The number of the agent's run, from 1, if it is known.
    pub run: Option<u32>,
    /// The name of the parent's program.
    pub parent_program: Option<String>,
    /// Who leads the process group or the session, in words, if the process is an orphan and this
    /// is known.
    pub(crate) leader: Option<String>,
    /// Who should have ended the process.
    pub owner: Owner,
    /// What was done about the process.
    pub fate: Fate,
}

/// What a process was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProcessState {
    /// The process ran or slept.
    Running,
    /// A signal or a debugger had stopped the process.
    Stopped,
    /// The process had ended, and nobody had reaped it.
    Zombie,
}

impl ProcessState {
    pub(super) fn of(stat: &Stat) -> ProcessState {
        if stat.is_zombie() {
            ProcessState::Zombie
        } else if stat.is_stopped() {
            ProcessState::Stopped
        } else {
            ProcessState::Running
        }
    }
}

impl fmt::Display for ProcessState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ProcessState::Running => "running",
            ProcessState::Stopped => "stopped",
            ProcessState::Zombie => "zombie",
        })
    }
}

/// Who should have ended a process, or reaped it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Owner {
    /// This process, which is its parent.
    ThisProcess,
    /// Its parent, which is alive.
    Parent,
    /// Its parent, which has ended: the process is an orphan.
    Ended {
        /// The leader of its process group, if that is another process; otherwise the leader of its
        /// session, if that is another process. As a rule this is the parent or an ancestor.
        of: Option<u32>,
    },
}

/// What was done about a process that was left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fate {
    /// Nothing was done, or somebody else ended the process first.
    Left,
    /// The guard killed the process, and it has ended. If it was a child of this process, it was
    /// also reaped.
    Killed,
    /// The process was a zombie, and the guard reaped it.
    Reaped,
    /// The guard could not end the process.
    NotEnded {
        /// Why the guard could not end it.
        reason: String,
    },
}

/// The options that the harness gives to an agent. Each has a value.
const OF_THE_HARNESS: [&str; 4] = ["--clock", "--control", "--id", "--lifetime"];

impl Found {
    /// The arguments. For an agent, those that the harness gives it are left out: the agent's name
    /// says more.
    fn arguments_of_its_own(&self) -> Vec<&str> {
        let mut all = self.args.iter().map(String::as_str);
        let mut own = Vec::new();
        while let Some(word) = all.next() {
            if self.agent.is_some() && OF_THE_HARNESS.contains(&word) {
                all.next();
            } else {
                own.push(word);
            }
        }
        own
    }
}

/// How much of the arguments is shown, in characters.
const SHOWN: usize = 120;

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} {}", self.pid, self.program.escape_debug())?;
        let mut names = Vec::new();
        if let Some(agent) = &self.agent {
            names.push(match self.run {
                Some(run) => format!("agent `{}`, run {run}", agent.escape_debug()),
                None => format!("agent `{}`", agent.escape_debug()),
            });
        }
        if let Some(descendant) = &self.descendant {
            names.push(format!("descendant `{}`", descendant.escape_debug()));
        }
        if !names.is_empty() {
            write!(f, " ({})", names.join(", "))?;
        }
        write!(f, ", {}", self.state)?;
        if let Some(status) = self.status {
            write!(f, " ({status})")?;
        }
        let verb = match self.state {
            ProcessState::Zombie => "reaped",
            _ => "ended",
        };
        match self.owner {
            Owner::ThisProcess => {
                write!(f, ", child of this process, which should have {verb} it")?;
            }
            Owner::Parent => {
                let parent = self.ppid;
                write!(
                    f,
                    ", should have been {verb} by its parent, process {parent}"
                )?;
                if let Some(program) = &self.parent_program {
                    write!(f, " {}", program.escape_debug())?;
                }
            }
            Owner::Ended { of } => {
                write!(f, ", orphan: its parent has ended")?;
                let leader = match (&self.leader, of) {
                    (Some(leader), _) => Some(leader.clone()),
                    // A process id says less than the agent's name.
                    (None, Some(leader)) if self.agent.is_none() => {
                        Some(format!("process {leader}, which has ended"))
                    }
                    (None, _) => None,
                };
                if let Some(leader) = leader {
                    write!(f, "; its process group or session is that of {leader}")?;
                }
            }
        }
        match &self.fate {
            Fate::Left => {}
            Fate::Killed => write!(f, "; killed by the guard")?,
            Fate::Reaped => write!(f, "; reaped by the guard")?,
            Fate::NotEnded { reason } => write!(f, "; NOT ended by the guard: {reason}")?,
        }
        let args = self.arguments_of_its_own().join(" ");
        if !args.is_empty() {
            let mut shown: String = args.chars().take(SHOWN).collect();
            if shown.len() < args.len() {
                shown.push('…');
            }
            write!(f, "; arguments: {}", shown.escape_debug())?;
        }
        Ok(())
    }
}
