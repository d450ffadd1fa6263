//! A write that is under way: its content, and the chunks that it is written in.

use crate::script::{Content, Stream};

/// How many bytes one write to a writable pipe takes without blocking: PIPE_BUF.
const CHUNK: usize = 4096;

/// The length of a line of [`Content::Fill`], in bytes.
const LINE: u64 = 64;

/// A write that is under way.
pub(crate) struct Writing {
    pub(crate) stream: Stream,
    content: Content,
    /// How many bytes are written.
    pub(crate) done: u64,
    /// Whether the stub has told the harness that this write is blocked.
    pub(crate) told: bool,
}

impl Writing {
    /// Makes a write of the content to the stream, of which nothing is written yet.
    pub(crate) fn new(stream: Stream, content: Content) -> Writing {
        Writing {
            stream,
            content,
            done: 0,
            told: false,
        }
    }

    /// Returns how many bytes the content has.
    pub(crate) fn length(&self) -> u64 {
        match &self.content {
            Content::Text(text) => text.0.len() as u64,
            Content::Fill(total) => *total,
        }
    }

    /// Returns the next chunk to write after the first `done` bytes. It is empty at the end.
    pub(crate) fn chunk(&self) -> Vec<u8> {
        let done = self.done;
        match &self.content {
            Content::Text(text) => {
                let rest = usize::try_from(done)
                    .ok()
                    .and_then(|done| text.0.get(done..))
                    .unwrap_or(&[]);
                rest[..rest.len().min(CHUNK)].to_vec()
            }
            Content::Fill(total) => {
                // Make whole lines, from the one that contains the byte `done`, and cut them to fit.
                let first = done - done % LINE;
                let line =
                    |start| format!("{start:016} abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRST\n");
                let lines: String = (0..=CHUNK as u64 / LINE)
                    .map(|n| line(first + n * LINE))
                    .collect();
                let skip = usize::try_from(done - first).unwrap_or(0);
                let left = usize::try_from(total - done).unwrap_or(CHUNK);
                lines.as_bytes()[skip..][..left.min(CHUNK)].to_vec()
            }
        }
    }
}
