//! Writing lines to a file, which has whole ones only, also where it is cut off.

use std::{
    fs::File,
    io::{self, ErrorKind, Write as _},
    path::PathBuf,
};

use super::Line;

/// How many bytes are gathered before they are to be written.
const ROOM: usize = 64 << 10;

/// A file that lines are added to.
#[derive(Debug)]
pub struct Lines {
    path: PathBuf,
    file: File,
    gathered: Vec<u8>,
}

/// Where lines could not be written.
#[derive(Debug)]
pub struct Cut {
    /// The file, and why.
    pub reason: String,
    /// How many lines of those that were gathered are not in it: the last ones.
    pub lines: u64,
}

impl Lines {
    /// Adds to this file.
    #[must_use]
    pub const fn new(path: PathBuf, file: File) -> Self {
        Self {
            path,
            file,
            gathered: Vec::new(),
        }
    }

    /// Gathers a line. Whether so many are there now that they should be
    /// [written](Self::flush).
    pub fn add(&mut self, line: &Line<'_>) -> bool {
        let before = self.gathered.len();
        match serde_json::to_writer(&mut self.gathered, line) {
            Ok(()) => self.gathered.push(b'\n'),
            Err(error) => {
                // Memory has no errors, and every key is text.
                tracing::error!("a line of the ledger cannot be put into words: {error}");
                self.gathered.truncate(before);
            }
        }
        self.gathered.len() >= ROOM
    }

    /// Writes what was gathered.
    ///
    /// # Errors
    ///
    /// When not all of it could be written. A line of which a part was written is taken
    /// out again, where the file is one that can be shortened.
    pub fn flush(&mut self) -> Result<(), Cut> {
        let gathered = std::mem::take(&mut self.gathered);
        let mut written = 0;
        let error = loop {
            if written == gathered.len() {
                break None;
            }
            match self.file.write(&gathered[written..]) {
                Ok(0) => break Some(ErrorKind::WriteZero.into()),
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break Some(error),
            }
        };
        let Some(error) = error else {
            return Ok(());
        };
        let whole = gathered[..written].iter().rposition(|&byte| byte == b'\n');
        let whole = whole.map_or(0, |last| last + 1);
        if let Err(error) = self.shorten(written - whole) {
            tracing::warn!("{}: its last line is torn: {error}", self.path.display());
        }
        let left = gathered[whole..].iter().filter(|&&byte| byte == b'\n');
        Err(Cut {
            reason: format!("{}: {error}", self.path.display()),
            lines: u64::try_from(left.count()).unwrap_or(u64::MAX),
        })
    }

    /// Takes this many bytes off the file's end.
    fn shorten(&self, bytes: usize) -> io::Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        let now = self.file.metadata()?.len();
        self.file.set_len(now.saturating_sub(bytes as u64))
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::{ledger::End, report::StoppedBy};

    fn line(lost: u64) -> Line<'static> {
        Line::End(End {
            stopped_by: StoppedBy::Signal,
            lost,
            rules: Vec::new(),
        })
    }

    #[test]
    fn lines_are_written_when_they_are_to_be() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let mut lines = Lines::new(file.path().to_owned(), file.reopen().expect("a file"));
        assert!(!lines.add(&line(1)));
        assert!(!lines.add(&line(2)));
        assert_eq!(fs::read(file.path()).expect("a file"), b"");
        lines.flush().expect("written");
        lines.flush().expect("nothing to write");
        let text = fs::read_to_string(file.path()).expect("a file");
        assert_eq!(text.lines().count(), 2, "{text}");
        let more = (0..).position(|_| lines.add(&line(3))).expect("enough");
        assert!(more > 100, "{more}");
    }

    #[test]
    fn what_is_not_written_is_counted() {
        let path = Path::new("/dev/full");
        let file = File::options().append(true).open(path).expect("a device");
        let mut lines = Lines::new(path.to_owned(), file);
        lines.add(&line(1));
        lines.add(&line(2));
        let cut = lines.flush().expect_err("it is full");
        assert_eq!(cut.lines, 2);
        assert!(cut.reason.starts_with("/dev/full: No space"), "{cut:?}");
    }
}
