//! Finds the processes that are wanted: by parentage, by mark, by process group and session.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::thread;

use super::found::{Fate, Found, Owner, ProcessState};
use super::hold::Held;
use super::proc::{self, Identity, Image, Stat, Unreadable};

/// How often a process in the middle of its exec is looked at again, before it is taken as it is.
const LOOKS: usize = 1000;

/// How many times the processes are listed at most, until two lists in a row agree.
pub(super) const LISTS: usize = 64;

/// The processes to look for.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    /// Processes that have one of these in their arguments or their environment.
    pub(super) marks: &'a [String],
    /// When the marks were made, as a start time. Older processes cannot have them.
    pub(super) since: u64,
    /// These processes, and everything below them.
    pub(super) roots: Roots<'a>,
    /// The leaders, also those that have ended, of groups and sessions whose members are wanted.
    pub(super) leaders: &'a [Identity],
}

/// Where the trees of descendants begin.
#[derive(Debug)]
pub(super) enum Roots<'a> {
    These(&'a [Identity]),
    /// The children of one thread of this process, without those that were there before.
    Thread(u32, &'a BTreeSet<Identity>),
    /// The children of all threads, without those that were there before.
    Process(&'a BTreeSet<Identity>),
}

/// The name that the stub gives to its guards. A zombie has no arguments, but keeps this name.
const GUARD: &str = "stub-guard";

/// A process that is wanted, as one look has seen it.
#[derive(Clone, Debug)]
pub(super) struct Sight {
    pub(super) stat: Stat,
    pub(super) image: Image,
    /// Whether it is the guard of a frozen stub. The guard ends with the stub, and nobody is to blame for it.
    pub(super) is_stub_guard: bool,
    /// Whether it is a stub that bears a mark. Whatever the stub starts bears the mark, too, and is found by
    /// it, wherever it was re-parented.
    pub(super) is_marked_stub: bool,
    /// Whether it is a child of this process.
    pub(super) is_child: bool,
}

impl Sight {
    pub(super) fn held(&self) -> Held {
        Held::new(self.stat.identity, self.is_child)
    }
}

/// The wanted processes, oldest first, once two looks in a row agree. If a process is on its way out (killed,
/// or in the kernel's exit), this waits until it is gone or a zombie.
pub(super) fn settled(wanted: &Wanted<'_>) -> Result<Vec<Sight>, Unreadable> {
    let mut last: Option<BTreeMap<Identity, ProcessState>> = None;
    let mut sights = Vec::new();
    for _ in 0..LISTS {
        sights = look(wanted)?;
        let mut dying = false;
        for sight in sights.iter().filter(|sight| !sight.stat.is_zombie()) {
            // It may have begun to end since the look. A process on its way out has no arguments by which it
            // could be recognised.
            let now = proc::stat(sight.stat.pid())?;
            match now.filter(|now| now.identity == sight.stat.identity) {
                None => dying = true,
                Some(now) if now.is_exiting() || proc::is_killed(now.pid())? => {
                    dying |= now.is_zombie() || sight.held().wait_for_end();
                }
                Some(_) => {}
            }
        }
        if dying {
            last = None;
            continue;
        }
        let states = sights
            .iter()
            .map(|sight| (sight.stat.identity, ProcessState::of(&sight.stat)))
            .collect();
        if last.as_ref() == Some(&states) {
            break;
        }
        last = Some(states);
    }
    Ok(sights)
}

/// Looks once for the wanted processes. Returns them oldest first.
pub(super) fn look(wanted: &Wanted<'_>) -> Result<Vec<Sight>, Unreadable> {
    let own = proc::this_process()?;
    let (table, mut found) = table_and_roots(&own, &wanted.roots)?;
    let own_args = proc::image(own.pid())?.unwrap_or_default().args;
    let mut images = BTreeMap::new();
    if !wanted.marks.is_empty() {
        for stat in table.values() {
            let is_older = stat.identity.start < wanted.since;
            if is_older || stat.pid() == own.pid() || stat.is_kernel_thread() || stat.is_zombie() {
                continue;
            }
            let image = settled_image(stat, own.pid(), &own_args)?;
            if wanted.marks.iter().any(|mark| carries(&image, mark)) {
                found.insert(stat.pid());
            }
            images.insert(stat.pid(), image);
        }
    }
    spread(&mut found, &table, wanted.leaders, own.pid());
    found.remove(&own.pid());
    let mut sights = Vec::new();
    for pid in &found {
        let stat = &table[pid];
        // A zombie that init has still to reap is left to init.
        let parent_found = found.contains(&stat.ppid) || stat.ppid == own.pid();
        if stat.is_zombie() && !parent_found {
            continue;
        }
        let image = match images.remove(pid) {
            Some(image) => image,
            None => settled_image(stat, own.pid(), &own_args)?,
        };
        let is_stub = is_stub(stat, &image);
        sights.push(Sight {
            is_stub_guard: is_stub && option(&image, "--guard").is_some()
                || stat.is_zombie() && stat.comm == GUARD,
            is_marked_stub: is_stub && wanted.marks.iter().any(|mark| carries(&image, mark)),
            is_child: stat.ppid == own.pid(),
            stat: stat.clone(),
            image,
        });
    }
    sights.sort_by_key(|sight| sight.stat.identity);
    Ok(sights)
}

/// The table of all processes, and the numbers of the roots in it.
fn table_and_roots(
    own: &Stat,
    roots: &Roots<'_>,
) -> Result<(BTreeMap<u32, Stat>, BTreeSet<u32>), Unreadable> {
    let new_children = |table: &BTreeMap<u32, Stat>, before: &BTreeSet<Identity>| {
        let children = table.values().filter(|stat| stat.ppid == own.pid());
        children
            .filter(|stat| !before.contains(&stat.identity))
            .map(Stat::pid)
            .collect::<BTreeSet<u32>>()
    };
    match roots {
        Roots::These(roots) => {
            let table = proc::table()?;
            let there =
                |root: &&Identity| table.get(&root.pid).is_some_and(|s| s.identity == **root);
            let roots = roots.iter().filter(there).map(|root| root.pid).collect();
            Ok((table, roots))
        }
        Roots::Process(before) => {
            let table = proc::table()?;
            let children = new_children(&table, before);
            Ok((table, children))
        }
        Roots::Thread(thread, before) => {
            // The kernel may leave a child out of a thread's list while another one is reaped. So
            // every child has to be in some thread's list, and this thread's has to read the same
            // twice.
            let mut looks = 0;
            loop {
                let first = proc::children(*thread)?;
                let table = proc::table()?;
                let others = proc::children_of_others(*thread)?;
                let mine = proc::children(*thread)?;
                let children = new_children(&table, before);
                let mut settled = mine == first;
                for pid in &children {
                    if !mine.contains(pid) && !others.contains(pid) {
                        // It may be gone: whoever it was a child of has reaped it.
                        settled &= proc::stat(*pid)?
                            .is_none_or(|stat| stat.identity != table[pid].identity);
                    }
                }
                looks += 1;
                if settled || looks == LISTS {
                    let children = children.intersection(&mine).copied().collect();
                    return Ok((table, children));
                }
                thread::yield_now();
            }
        }
    }
}

/// The children that this process has now, which a new guard does not blame, and the start time of the
/// youngest process. A process that starts from now on is not older than that.
pub(super) fn children_now() -> Result<(BTreeSet<Identity>, u64), Unreadable> {
    let own = proc::this_process()?;
    let table = proc::table()?;
    let children = table.values().filter(|stat| stat.ppid == own.pid());
    let children = children.map(|stat| stat.identity).collect();
    let starts = table.values().map(|stat| stat.identity.start);
    Ok((children, starts.max().unwrap_or(own.identity.start)))
}

/// Adds descendants, and the members of groups and sessions, until there are no more.
fn spread(found: &mut BTreeSet<u32>, table: &BTreeMap<u32, Stat>, leaders: &[Identity], own: u32) {
    // A leader's number that is another process's by now leads another group.
    let known: BTreeMap<u32, Identity> = leaders
        .iter()
        .filter(|leader| {
            let now = table.get(&leader.pid);
            now.is_none_or(|now| now.identity == **leader)
        })
        .map(|leader| (leader.pid, *leader))
        .collect();
    loop {
        let led = |found: &BTreeSet<u32>, leader: u32, member: &Stat| {
            let identity = known.get(&leader).copied().or_else(|| {
                let leader = table
                    .get(&leader)
                    .filter(|l| found.contains(&l.pid()) && l.pid() != own)?;
                Some(leader.identity)
            });
            // No process is older than the leader of its group.
            identity.is_some_and(|leader| leader.start <= member.identity.start)
        };
        let more: Vec<u32> = table
            .values()
            .filter(|stat| stat.pid() != own && !found.contains(&stat.pid()))
            .filter(|stat| {
                found.contains(&stat.ppid)
                    || led(found, stat.group, stat)
                    || led(found, stat.session, stat)
            })
            .map(Stat::pid)
            .collect();
        if more.is_empty() {
            return;
        }
        found.extend(more);
    }
}

/// What the process was started with. Looks again while the process is in the middle of its exec: it shows
/// nothing, or still this program.
fn settled_image(stat: &Stat, own: u32, own_args: &[u8]) -> Result<Image, Unreadable> {
    let mut image = Image::default();
    if stat.is_zombie() || stat.is_kernel_thread() {
        return Ok(image);
    }
    let mut memory = stat.memory;
    for _ in 0..LOOKS {
        match proc::image(stat.pid())? {
            Some(now) => image = now,
            None => break,
        }
        let before = memory;
        match proc::stat(stat.pid())? {
            Some(now) if now.identity == stat.identity && !now.is_exiting() => memory = now.memory,
            _ => break,
        }
        let one_program = before == memory && (memory[3] != 0 || image.is_hidden);
        let is_ours = stat.ppid == own && image.args == own_args;
        if one_program && !is_ours {
            break;
        }
        thread::yield_now();
    }
    Ok(image)
}

/// Whether the mark stands in the arguments or the environment, as a whole word.
fn carries(image: &Image, mark: &str) -> bool {
    contains_word(&image.args, mark.as_bytes())
        || contains_word(&image.environment, mark.as_bytes())
}

fn contains_word(text: &[u8], word: &[u8]) -> bool {
    let goes_on = |byte: Option<&u8>| {
        byte.is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    !word.is_empty()
        && text.windows(word.len()).enumerate().any(|(at, window)| {
            window == word
                && !goes_on(at.checked_sub(1).and_then(|at| text.get(at)))
                && !goes_on(text.get(at + word.len()))
        })
}

/// The name of the program, from its first argument. The name in the kernel is another one for a script's
/// interpreter, and for a program that runs itself again.
fn program(stat: &Stat, image: &Image) -> String {
    let first = image.args().next().unwrap_or_default();
    let name = String::from_utf8_lossy(first);
    let name = Path::new(&*name).file_name().unwrap_or_default();
    match &*name.to_string_lossy() {
        "" => stat.comm.clone(),
        // The stub's copy that the library carries has an identifier of its build in its name.
        name if is_copy_of_stub(name) => "agent-stub".to_owned(),
        name => name.to_owned(),
    }
}

fn is_copy_of_stub(name: &str) -> bool {
    let build = name.strip_prefix("agent-stub-");
    build.is_some_and(|build| build.len() == 16 && build.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn is_stub(stat: &Stat, image: &Image) -> bool {
    program(stat, image) == "agent-stub"
        || agent_stub::path().is_ok_and(|stub| {
            std::fs::read_link(format!("/proc/{}/exe", stat.pid())).is_ok_and(|exe| *exe == *stub)
        })
}

/// The value of an option of the stub.
fn option(image: &Image, name: &str) -> Option<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut args = image.args().skip(1);
    while let Some(arg) = args.next() {
        let rest = arg.strip_prefix(name.as_bytes());
        match rest {
            Some(b"") => return args.next().map(text),
            Some([b'=', value @ ..]) => return Some(text(value)),
            // The next word is the value of another option, and no option.
            _ if arg.starts_with(b"--") && !arg.contains(&b'=') => {
                args.next();
            }
            _ => {}
        }
    }
    None
}

/// Describes each process for the report, but for guards of stubs.
pub(super) fn describe(sights: &[Sight]) -> Result<Vec<(Identity, Found)>, Unreadable> {
    let own = proc::this_process()?;
    let ancestors = ancestors(&own)?;
    let mut described = Vec::new();
    for sight in sights.iter().filter(|sight| !sight.is_stub_guard) {
        let Sight { stat, image, .. } = sight;
        let mut parent = None;
        if let Some(parent_stat) = proc::stat(stat.ppid)? {
            let image = proc::image(stat.ppid)?.unwrap_or_default();
            parent = Some(program(&parent_stat, &image));
        }
        let parent_found = sights.iter().any(|other| other.stat.pid() == stat.ppid);
        let owner = if stat.ppid == own.pid() {
            Owner::ThisProcess
        } else if parent_found || !(stat.ppid <= 1 || ancestors.contains(&stat.ppid)) {
            Owner::Parent
        } else {
            Owner::Ended {
                of: [stat.group, stat.session]
                    .into_iter()
                    .find(|leader| *leader != stat.pid()),
            }
        };
        let leader = match owner {
            Owner::Ended { of: Some(leader) } => leader_in_words(leader, &own)?,
            _ => None,
        };
        let stub = is_stub(stat, image);
        let of_stub = |name| option(image, name).filter(|_| stub);
        let found = Found {
            pid: stat.pid(),
            ppid: stat.ppid,
            program: program(stat, image),
            args: image
                .args()
                .skip(1)
                .map(|arg| String::from_utf8_lossy(arg).into_owned())
                .collect(),
            state: ProcessState::of(stat),
            status: None,
            agent: of_stub("--id").or_else(|| image.variable("SUPERVISE_AGENT_ID")),
            descendant: of_stub("--descendant").map(|lineage| name_of(&lineage).to_owned()),
            run: None,
            parent_program: parent,
            leader,
            owner,
            fate: Fate::Left,
        };
        described.push((stat.identity, found));
    }
    Ok(described)
}

/// The name of the program that leads a group or a session. `None` if the leader has ended: no other process
/// gets its number while somebody is in the group or session.
fn leader_in_words(leader: u32, own: &Stat) -> Result<Option<String>, Unreadable> {
    if [own.pid(), own.group, own.session].contains(&leader) {
        return Ok(Some("this process".to_owned()));
    }
    // A leader that is in the kernel's exit has ended, too: whether it was reaped yet must not matter.
    let Some(stat) = proc::stat(leader)?.filter(|stat| !stat.is_exiting()) else {
        return Ok(None);
    };
    let image = proc::image(leader)?.unwrap_or_default();
    Ok(Some(format!("`{}`", program(&stat, &image).escape_debug())))
}

/// The processes above this one. An orphan becomes a child of one of them, or of init.
fn ancestors(own: &Stat) -> Result<BTreeSet<u32>, Unreadable> {
    let mut ancestors = BTreeSet::new();
    let mut pid = own.ppid;
    while pid > 0 && ancestors.insert(pid) {
        match proc::stat(pid)? {
            Some(stat) => pid = stat.ppid,
            None => break,
        }
    }
    Ok(ancestors)
}

/// The descendant's name, from what a stub tells a descendant of itself: the starter's process id, the count,
/// the name.
fn name_of(lineage: &str) -> &str {
    lineage.splitn(3, ':').last().unwrap_or(lineage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_a_whole_word() {
        for text in [
            "leak-1",
            "a\0leak-1\0b",
            "--id=leak-1",
            "/tmp/leak-1/control",
            "leak-12 leak-1",
        ] {
            assert!(contains_word(text.as_bytes(), b"leak-1"), "{text}");
        }
        for text in ["", "leak-12", "bleak-1", "leak-1_a", "x-leak-1", "leak-"] {
            assert!(!contains_word(text.as_bytes(), b"leak-1"), "{text}");
        }
        assert!(!contains_word(b"anything", b""));
    }

    #[test]
    fn an_option_s_value_is_not_taken_for_an_option() {
        let image = Image {
            args: b"agent-stub\0--script\0--id\0--id=a\0--descendant\0b c\0".to_vec(),
            ..Image::default()
        };
        assert_eq!(option(&image, "--id").as_deref(), Some("a"));
        assert_eq!(option(&image, "--descendant").as_deref(), Some("b c"));
        assert_eq!(option(&image, "--guard"), None);
    }
}
