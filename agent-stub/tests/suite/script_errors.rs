//! Wrong scripts: the place and what was expected there, to the letter.

use agent_stub::protocol::MAX_ORDER;
use agent_stub::script::Script;
use rstest::rstest;

const STATEMENT: &str = "a statement (run, stay, exit, die, freeze, on, block, unblock, start, write, close, ready, beat, \
                         lock, gate, hygiene, repeat, forever or first)";

const UNPRINTABLE: &str =
    "a word without control characters, which names have in double quotes only";

#[rstest]
#[case("walk 1s", 1, 1, STATEMENT, "`walk`")]
#[case("run 1s; ; {", 1, 11, STATEMENT, "`{`")]
#[case("stay }", 1, 6, "a statement", "`}`")]
#[case(
    "run 10",
    1,
    5,
    "a time such as 200ms (a whole number of ns, us, ms, s, m or h, below 584 years)",
    "`10`"
)]
#[case(
    "run 1.5s",
    1,
    5,
    "a time such as 200ms (a whole number of ns, us, ms, s, m or h, below 584 years)",
    "`1.5s`"
)]
#[case(
    "run 99999999h",
    1,
    5,
    "a time such as 200ms (a whole number of ns, us, ms, s, m or h, below 584 years)",
    "`99999999h`"
)]
#[case("exit 256", 1, 6, "an exit code from 0 to 255", "`256`")]
#[case("exit +1", 1, 6, "an exit code from 0 to 255", "`+1`")]
#[case(
    "ready\nexit",
    2,
    5,
    "an exit code from 0 to 255",
    "the end of the script"
)]
#[case("exit 1 2", 1, 8, "`;` or a line end after the statement", "`2`")]
#[case(
    "die SIGCHLD",
    1,
    5,
    "a signal that kills by default, such as SIGSEGV",
    "`SIGCHLD`"
)]
#[case(
    "on SIGKILL count",
    1,
    4,
    "a signal that can be trapped, such as SIGTERM",
    "`SIGKILL`"
)]
#[case(
    "block SIG33",
    1,
    7,
    "a signal that can be trapped, such as SIGTERM",
    "`SIG33`"
)]
#[case("on TERM { run 1s", 1, 17, "a closing `}`", "the end of the script")]
#[case(
    "on TERM maybe",
    1,
    9,
    "ignore, default, count or a block in braces",
    "`maybe`"
)]
#[case(
    "\n\n  start é quiet hold { }",
    3,
    17,
    "a block in braces, after at most one of same-group, own-group, own-session, double-fork and one of hold, quiet",
    "`hold`"
)]
#[case(
    "write \"é\\q\"",
    1,
    9,
    "one of the escapes \\n \\t \\r \\\\ \\\" \\xNN",
    "`\\\\`"
)]
#[case(
    "write \"ab\nc\"",
    1,
    10,
    "a closing `\"` on the same line",
    "the end of the line"
)]
#[case("write stdin \"a\"", 1, 7, "stdout or stderr", "`stdin`")]
#[case(
    "write 1MB",
    1,
    7,
    "a string in double quotes, or a size such as 1MiB (a whole number of B, KiB, MiB or GiB)",
    "`1MB`"
)]
#[case("close output", 1, 7, "stdin, stdout or stderr", "`output`")]
#[case(
    "lock \"\"",
    1,
    6,
    "the path of a file to lock, not empty and without a NUL byte",
    "a string"
)]
#[case(
    "gate # nothing",
    1,
    15,
    "the name of a gate, or `file PATH`",
    "the end of the script"
)]
#[case("gate edK4\0", 1, 10, UNPRINTABLE, "`\\0`")]
#[case("ready;\nlock a\u{7f}b", 2, 7, UNPRINTABLE, "`\\u{7f}`")]
#[case("start \u{85} { }", 1, 7, UNPRINTABLE, "`\\u{85}`")]
#[case("\u{1b}[31mstay", 1, 1, UNPRINTABLE, "`\\u{1b}`")]
#[case("ready fd 65536", 1, 10, "a descriptor from 0 to 65535", "`65536`")]
#[case(
    "repeat 2; stay",
    1,
    9,
    "a block in braces",
    "the end of the statement"
)]
#[case(
    "first 1 { }",
    1,
    9,
    "the path of the file that counts the runs",
    "`{`"
)]
fn a_wrong_script_says_where_and_what_was_expected(
    #[case] script: &str,
    #[case] line: usize,
    #[case] column: usize,
    #[case] expected: &str,
    #[case] found: &str,
) {
    let error = script.parse::<Script>().unwrap_err();
    let text = format!("line {line}, column {column}: expected {expected}, found {found}");
    assert_eq!(error.to_string(), text);
}

#[test]
fn blocks_in_blocks_are_an_error_where_they_are_too_deep() {
    let deep = |depth: usize| {
        let script = "forever { ".repeat(depth) + &"}".repeat(depth);
        script
            .parse::<Script>()
            .map(|script| script.to_string().len())
    };
    assert!(deep(32).is_ok());
    let error = "line 1, column 329: expected at most 32 blocks in one another, found `{`";
    assert_eq!(deep(33).unwrap_err().to_string(), error);
    assert_eq!(deep(1_000_000).unwrap_err().to_string(), error);
}

#[test]
fn a_long_word_is_cut_in_the_error() {
    let error = "x".repeat(1000).parse::<Script>().unwrap_err();
    assert_eq!(error.found, format!("`{}…`", "x".repeat(40)));
}

/// What is too long for an agent is no script: nobody has to wait for the agent to say so.
#[test]
fn what_is_too_long_is_an_error_with_its_place() {
    let error = |text: String| text.parse::<Script>().map(drop).unwrap_err().to_string();
    assert!("x".repeat(4096).parse::<Script>().is_err());
    assert!(
        format!("gate {}", "x".repeat(4096))
            .parse::<Script>()
            .is_ok()
    );
    let name = error(format!("beat; gate {}", "x".repeat(4097)));
    assert_eq!(
        name,
        format!(
            "line 1, column 12: expected the name of a gate, or `file PATH`, of at most 4096 bytes, found `{}…`",
            "x".repeat(40)
        )
    );
    let path = error(format!("lock \"{}\"", r"\xff".repeat(4097)));
    assert_eq!(
        path,
        "line 1, column 6: expected the path of a file to lock, of at most 4096 bytes, found a string"
    );

    let write = |length: usize| format!("write \"{}\"", "x".repeat(length - 8));
    let block = |length: usize| format!("start d {{ {} }}", write(length));
    assert!(block(131_071).parse::<Script>().is_ok());
    assert_eq!(
        error(block(131_072)),
        "line 1, column 9: expected a block of at most 131071 bytes as it prints, since it is an argument of a process, \
         found one of 131072"
    );

    let longest = MAX_ORDER - "do \n".len();
    assert!(write(longest).parse::<Script>().is_ok());
    assert_eq!(
        error(write(longest + 1)),
        format!(
            "line 1, column 1: expected a script of at most {longest} bytes as it prints (a long output is written by \
             its size, as in `write 1MiB`), found one of {}",
            longest + 1
        )
    );
}
