//! What a process inherited: the hygiene report.

use std::collections::BTreeMap;
use std::fmt;

use crate::line::{Fields, MessageError};
use crate::quoted::Quoted;
use crate::signal::Signal;

/// What a process inherited from the one that started it, before it changed anything itself.
///
/// Built from [`Finding`]s, one for each line of the report. Source:
/// /proc/self/{status,fd,environ,limits}, proc(5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hygiene {
    /// The process id.
    pub pid: u32,
    /// The process id of the parent.
    pub ppid: u32,
    /// The id of the process group.
    pub pgid: u32,
    /// The id of the session.
    pub sid: u32,
    /// The file mode mask.
    pub umask: u32,
    /// The working directory.
    pub cwd: Quoted,
    /// The signals that were blocked when the process started.
    pub blocked: Vec<Signal>,
    /// The signals that were ignored when the process started. The C library's own two, 32 and 33,
    /// are often among them, since its posix_spawn leaves them ignored.
    pub ignored: Vec<Signal>,
    /// The signal that the process gets when the thread that started it ends, if any: prctl(2)
    /// PR_SET_PDEATHSIG.
    pub parent_death: Option<Signal>,
    /// The open descriptors, and what each of them leads to. An inherited control connection is
    /// among them.
    pub descriptors: BTreeMap<u32, Quoted>,
    /// The environment, entry by entry, as `KEY=value`.
    pub environment: Vec<Quoted>,
    /// The resource limits by name, each with its soft and its hard value. `None` means unlimited.
    pub limits: BTreeMap<String, (Option<u64>, Option<u64>)>,
}

/// One line of a hygiene report.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// `ids PID PPID PGID SID`.
    Ids {
        /// The process id.
        pid: u32,
        /// The process id of the parent.
        ppid: u32,
        /// The id of the process group.
        pgid: u32,
        /// The id of the session.
        sid: u32,
    },
    /// `umask 022`, in octal.
    Umask(u32),
    /// `cwd "PATH"`.
    Cwd(Quoted),
    /// `blocked SIGTERM`: one of the blocked signals.
    Blocked(Signal),
    /// `ignored SIGPIPE`: one of the ignored signals.
    Ignored(Signal),
    /// `parent-death SIGKILL`: the signal that the process gets when the thread that started it
    /// ends. If there is no such signal, there is no such line.
    ParentDeath(Signal),
    /// `fd 5 "TARGET"`: one of the open descriptors.
    Descriptor(u32, Quoted),
    /// `env "KEY=value"`: one entry of the environment.
    Env(Quoted),
    /// `env-oversized "KEY" 70000`: an entry of the environment that is too long for a line. Only
    /// its key and its length in bytes are given.
    EnvOversized(Quoted, u64),
    /// `limit "Max open files" 1024 unlimited`: a resource limit with its soft and its hard value.
    Limit(Quoted, Option<u64>, Option<u64>),
    /// `end`: the last line, which says that the report is complete.
    End,
}

impl Hygiene {
    /// Adds a line of the report. Of an oversized entry of the environment it adds the key alone.
    pub fn add(&mut self, finding: Finding) {
        match finding {
            Finding::Ids {
                pid,
                ppid,
                pgid,
                sid,
            } => {
                (self.pid, self.ppid, self.pgid, self.sid) = (pid, ppid, pgid, sid);
            }
            Finding::Umask(umask) => self.umask = umask,
            Finding::Cwd(cwd) => self.cwd = cwd,
            Finding::Blocked(signal) => self.blocked.push(signal),
            Finding::Ignored(signal) => self.ignored.push(signal),
            Finding::ParentDeath(signal) => self.parent_death = Some(signal),
            Finding::Descriptor(number, target) => {
                self.descriptors.insert(number, target);
            }
            Finding::Env(entry) | Finding::EnvOversized(entry, _) => self.environment.push(entry),
            Finding::Limit(name, soft, hard) => {
                self.limits
                    .insert(String::from_utf8_lossy(&name.0).into_owned(), (soft, hard));
            }
            Finding::End => {}
        }
    }
}

impl Finding {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Result<Finding, MessageError> {
        const EXPECTED: &str = "a finding: ids, umask, cwd, blocked, ignored, parent-death, fd, env, env-oversized, limit or end";
        Ok(match fields.word(EXPECTED)? {
            "ids" => Finding::Ids {
                pid: fields.number("a process id")?,
                ppid: fields.number("a process id")?,
                pgid: fields.number("a process group")?,
                sid: fields.number("a session")?,
            },
            "umask" => {
                const OCTAL: &str = "an octal number of three digits or more";
                let word = fields.word(OCTAL)?;
                match u32::from_str_radix(word, 8) {
                    Ok(umask) if format!("{umask:03o}") == word => Finding::Umask(umask),
                    _ => return Err(fields.unexpected(OCTAL)),
                }
            }
            "cwd" => Finding::Cwd(fields.quoted("a path in double quotes")?),
            "blocked" => Finding::Blocked(fields.signal()?),
            "ignored" => Finding::Ignored(fields.signal()?),
            "parent-death" => Finding::ParentDeath(fields.signal()?),
            "fd" => Finding::Descriptor(
                fields.number("a descriptor")?,
                fields.quoted("its target in double quotes")?,
            ),
            "env" => Finding::Env(fields.quoted("an entry in double quotes")?),
            "env-oversized" => Finding::EnvOversized(
                fields.quoted("a key in double quotes")?,
                fields.number("a number of bytes")?,
            ),
            "limit" => Finding::Limit(
                fields.quoted("a limit's name in double quotes")?,
                limit(fields)?,
                limit(fields)?,
            ),
            "end" => Finding::End,
            _ => return Err(fields.unexpected(EXPECTED)),
        })
    }
}

fn limit(fields: &mut Fields<'_>) -> Result<Option<u64>, MessageError> {
    const EXPECTED: &str = "a number, or unlimited";
    match fields.word(EXPECTED)? {
        "unlimited" => Ok(None),
        word if word.bytes().all(|b| b.is_ascii_digit()) => word
            .parse()
            .map(Some)
            .map_err(|_| fields.unexpected(EXPECTED)),
        _ => Err(fields.unexpected(EXPECTED)),
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::Ids {
                pid,
                ppid,
                pgid,
                sid,
            } => write!(f, "ids {pid} {ppid} {pgid} {sid}"),
            Finding::Umask(umask) => write!(f, "umask {umask:03o}"),
            Finding::Cwd(path) => write!(f, "cwd {path}"),
            Finding::Blocked(signal) => write!(f, "blocked {signal}"),
            Finding::Ignored(signal) => write!(f, "ignored {signal}"),
            Finding::ParentDeath(signal) => write!(f, "parent-death {signal}"),
            Finding::Descriptor(number, target) => write!(f, "fd {number} {target}"),
            Finding::Env(entry) => write!(f, "env {entry}"),
            Finding::EnvOversized(key, bytes) => write!(f, "env-oversized {key} {bytes}"),
            Finding::Limit(name, soft, hard) => {
                write!(f, "limit {name}")?;
                [soft, hard].into_iter().try_for_each(|value| match value {
                    Some(value) => write!(f, " {value}"),
                    None => f.write_str(" unlimited"),
                })
            }
            Finding::End => f.write_str("end"),
        }
    }
}
