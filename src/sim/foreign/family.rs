//! The processes below a process, by the children that /proc lists.

use std::collections::HashSet;
use std::fs;
use std::io;

use crate::pidfd::is_own_lack;
use crate::sim::children;

/// The process and all processes below it.
pub(super) fn descendants(pid: u32) -> io::Result<HashSet<u32>> {
    let (mut all, mut open) = (HashSet::from([pid]), vec![pid]);
    while let Some(pid) = open.pop() {
        for child in children_of(pid)? {
            if all.insert(child) {
                open.push(child);
            }
        }
    }
    Ok(all)
}

/// The children of all threads of a process; empty if the process is gone.
pub(crate) fn children_of(pid: u32) -> io::Result<Vec<u32>> {
    let mut all = Vec::new();
    for thread in numbers(&format!("/proc/{pid}/task"))? {
        all.extend(children_of_thread(pid, thread)?);
    }
    Ok(all)
}

/// The children of one thread of a process; empty if the process is gone.
pub(crate) fn children_of_thread(pid: u32, thread: u32) -> io::Result<Vec<u32>> {
    match children::contents(&format!("/proc/{pid}/task/{thread}/children")) {
        Ok(text) => {
            let text = String::from_utf8_lossy(&text);
            let pids = text.split_ascii_whitespace();
            Ok(pids.filter_map(|pid| pid.parse().ok()).collect())
        }
        Err(error) if is_own_lack(&error) => Err(error),
        Err(_) => Ok(Vec::new()),
    }
}

/// The numbers among the names in a folder; empty if the folder is gone.
pub(super) fn numbers(folder: &str) -> io::Result<Vec<u32>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if is_own_lack(&error) => return Err(error),
        Err(_) => return Ok(Vec::new()),
    };
    let names = entries.flatten().map(|entry| entry.file_name());
    Ok(names
        .filter_map(|name| name.to_str()?.parse().ok())
        .collect())
}
