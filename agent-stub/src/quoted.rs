//! Byte strings in double quotes, as scripts and messages write them.

use std::fmt;

/// Bytes that print in double quotes on one line. A backslash and a double quote print as `\\` and
/// `\"`. ASCII control characters and bytes that are not valid UTF-8 print as `\n`, `\t`, `\r` or
/// `\xNN`.
///
/// ```
/// use agent_stub::Quoted;
///
/// assert_eq!(Quoted::from("a\n\u{e9}").to_string(), r#""a\né""#);
/// assert_eq!(Quoted(vec![0xff]).to_string(), r#""\xff""#);
/// ```
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quoted(pub Vec<u8>);

/// As it is displayed: in double quotes.
impl fmt::Debug for Quoted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<&str> for Quoted {
    fn from(text: &str) -> Quoted {
        Quoted(text.as_bytes().to_vec())
    }
}

impl fmt::Display for Quoted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for chunk in self.0.utf8_chunks() {
            // Write what needs no escape in one piece, since texts may be long.
            let mut rest = chunk.valid();
            // A C1 control is not escaped: it is two bytes in UTF-8, and would not survive as one
            // `\xNN`.
            let escaped = |byte: &u8| byte.is_ascii_control() || matches!(byte, b'\\' | b'"');
            while let Some(at) = rest.as_bytes().iter().position(escaped) {
                f.write_str(&rest[..at])?;
                match rest.as_bytes()[at] {
                    b'\n' => f.write_str("\\n")?,
                    b'\t' => f.write_str("\\t")?,
                    b'\r' => f.write_str("\\r")?,
                    b'\\' => f.write_str("\\\\")?,
                    b'"' => f.write_str("\\\"")?,
                    byte => write!(f, "\\x{byte:02x}")?,
                }
                rest = &rest[at + 1..];
            }
            f.write_str(rest)?;
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        f.write_str("\"")
    }
}

/// Where and how a quoted string is wrong: the byte offset from its opening quote, and what was
/// expected there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadQuote {
    pub(crate) offset: usize,
    pub(crate) expected: &'static str,
}

/// Reads a quoted string at the start of `text`, which begins with the quote. Returns the bytes and
/// how much of the text they took.
pub(crate) fn read(text: &str) -> Result<(Quoted, usize), BadQuote> {
    let bytes = text.as_bytes();
    let bad = |offset, expected| Err(BadQuote { offset, expected });
    if bytes.first() != Some(&b'"') {
        return bad(0, "a string in double quotes");
    }
    let mut out = Vec::new();
    let mut at = 1;
    loop {
        match bytes.get(at) {
            None | Some(b'\n') => return bad(at, "a closing `\"` on the same line"),
            Some(b'"') => return Ok((Quoted(out), at + 1)),
            Some(b'\\') => {
                let (byte, length) = match bytes.get(at + 1) {
                    Some(b'n') => (b'\n', 2),
                    Some(b't') => (b'\t', 2),
                    Some(b'r') => (b'\r', 2),
                    Some(b'\\') => (b'\\', 2),
                    Some(b'"') => (b'"', 2),
                    Some(b'x') => {
                        let digits = bytes
                            .get(at + 2..at + 4)
                            .and_then(|d| std::str::from_utf8(d).ok());
                        let plain = digits.filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
                        match plain.and_then(|d| u8::from_str_radix(d, 16).ok()) {
                            Some(byte) => (byte, 4),
                            None => return bad(at, "two hexadecimal digits after `\\x`"),
                        }
                    }
                    _ => return bad(at, r#"one of the escapes \n \t \r \\ \" \xNN"#),
                };
                out.push(byte);
                at += length;
            }
            Some(_) => {
                let rest = &bytes[at..];
                let plain = rest
                    .iter()
                    .position(|byte| matches!(byte, b'\n' | b'"' | b'\\'));
                let plain = &rest[..plain.unwrap_or(rest.len())];
                out.extend_from_slice(plain);
                at += plain.len();
            }
        }
    }
}
