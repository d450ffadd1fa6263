//! Records what this process inherited, before the stub changes any of it.

use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::parent_id;

use crate::hygiene::Finding;
use crate::protocol::{MAX_LINE, Report};
use crate::quoted::Quoted;
use crate::signal::Signal;
use crate::sys;

/// The part of it that the stub itself changes later, recorded when the stub starts. The rest is
/// read when a script asks for it.
pub(crate) struct Inherited {
    ppid: u32,
    pgid: u32,
    sid: u32,
    /// /proc/self/status: the signal masks and the file mode mask.
    status: io::Result<String>,
    parent_death: io::Result<Option<Signal>>,
    descriptors: io::Result<Vec<(u32, Quoted)>>,
}

impl Inherited {
    /// Records it. Must be the first call in `main`.
    pub(crate) fn take() -> Inherited {
        // List the descriptors first, since a file that is opened before would be among them.
        let descriptors = descriptors();
        let (pgid, sid) = sys::group_and_session();
        Inherited {
            ppid: parent_id(),
            pgid,
            sid,
            parent_death: sys::parent_death_signal(),
            status: fs::read_to_string("/proc/self/status"),
            descriptors,
        }
    }

    pub(crate) fn ppid(&self) -> u32 {
        self.ppid
    }

    /// Returns the whole report. If anything cannot be read, that is an error: a report with holes
    /// would not be truthful.
    pub(crate) fn findings(&self) -> Result<Vec<Finding>, String> {
        let status = self
            .status
            .as_ref()
            .map_err(|error| format!("/proc/self/status: {error}"))?;
        let descriptors = self
            .descriptors
            .as_ref()
            .map_err(|error| format!("/proc/self/fd: {error}"))?;
        let mut findings = vec![Finding::Ids {
            pid: std::process::id(),
            ppid: self.ppid,
            pgid: self.pgid,
            sid: self.sid,
        }];
        let umask = field(status, "Umask").and_then(|text| u32::from_str_radix(text, 8).ok());
        findings.push(Finding::Umask(umask.ok_or("/proc/self/status: no Umask")?));
        // If the directory was removed, the text of the link says so.
        let cwd = fs::read_link("/proc/self/cwd")
            .map_err(|error| format!("the working directory: {error}"))?;
        findings.push(Finding::Cwd(Quoted(cwd.as_os_str().as_bytes().to_vec())));
        findings.extend(signals(status, "SigBlk")?.into_iter().map(Finding::Blocked));
        findings.extend(signals(status, "SigIgn")?.into_iter().map(Finding::Ignored));
        let parent_death = self
            .parent_death
            .as_ref()
            .map_err(|error| format!("the signal of the parent's death: {error}"))?;
        findings.extend(parent_death.map(Finding::ParentDeath));
        findings.extend(
            descriptors
                .iter()
                .map(|(number, target)| Finding::Descriptor(*number, target.clone())),
        );
        let environment = fs::read("/proc/self/environ")
            .map_err(|error| format!("/proc/self/environ: {error}"))?;
        findings.extend(
            environment
                .split(|b| *b == 0)
                .filter(|entry| !entry.is_empty())
                .map(entry),
        );
        let limits = fs::read_to_string("/proc/self/limits")
            .map_err(|error| format!("/proc/self/limits: {error}"))?;
        for line in limits.lines().skip(1) {
            findings.push(
                limit(line).ok_or_else(|| format!("/proc/self/limits: cannot read `{line}`"))?,
            );
        }
        findings.push(Finding::End);
        Ok(findings)
    }
}

fn descriptors() -> io::Result<Vec<(u32, Quoted)>> {
    let listing = format!("/proc/{}/fd", std::process::id());
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        let Some(number) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let target = fs::read_link(entry.path())?.into_os_string().into_vec();
        // Leave out the descriptor of the listing itself.
        if target != listing.as_bytes() {
            found.push((number, Quoted(target)));
        }
    }
    found.sort_by_key(|(number, _)| *number);
    Ok(found)
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
}

/// Returns the signals of a mask in /proc/self/status, where bit n−1 stands for signal n.
fn signals(status: &str, name: &str) -> Result<Vec<Signal>, String> {
    let mask = field(status, name).and_then(|text| u64::from_str_radix(text, 16).ok());
    let mask = mask.ok_or_else(|| format!("/proc/self/status: no {name}"))?;
    Ok((1..=64)
        .filter(|n| mask >> (n - 1) & 1 == 1)
        .filter_map(|n| Signal::from_number(n).ok())
        .collect())
}

fn entry(bytes: &[u8]) -> Finding {
    let whole = Finding::Env(Quoted(bytes.to_vec()));
    if Report::Hygiene(whole.clone()).to_string().len() < MAX_LINE {
        return whole;
    }
    let key: Vec<u8> = bytes
        .iter()
        .take_while(|b| **b != b'=')
        .take(1024)
        .copied()
        .collect();
    Finding::EnvOversized(Quoted(key), bytes.len() as u64)
}

/// Parses a line of /proc/self/limits: a name, two values and a unit, in columns.
fn limit(line: &str) -> Option<Finding> {
    let (name, rest) = line.split_at_checked(26)?;
    let mut values = rest.split_whitespace().map(|value| match value {
        "unlimited" => Some(None),
        value => value.parse().ok().map(Some),
    });
    Some(Finding::Limit(
        Quoted::from(name.trim_end()),
        values.next()??,
        values.next()??,
    ))
}
