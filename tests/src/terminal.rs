//! A terminal: what a user who watches a program sees at the end.

use std::{
    fs::File,
    io::Read as _,
    os::fd::OwnedFd,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use nix::pty::{Winsize, openpty};

/// A pseudo-terminal for the standard error of one program.
#[derive(Debug)]
pub struct Terminal {
    slave: Option<OwnedFd>,
    /// All that was written.
    bytes: Arc<Mutex<Vec<u8>>>,
}

const COLUMNS: u16 = 120;

impl Terminal {
    /// Opens a terminal.
    ///
    /// # Panics
    ///
    /// When the kernel has none.
    #[must_use]
    pub fn open() -> Self {
        let size = Winsize {
            ws_row: 24,
            ws_col: COLUMNS,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(Some(&size), None).expect("open a terminal");
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let written = Arc::clone(&bytes);
        thread::spawn(move || {
            let mut master = File::from(pty.master);
            let mut buffer = [0; 4096];
            // Fails with EIO once nobody has the other side open.
            while let Ok(length @ 1..) = master.read(&mut buffer) {
                if let Ok(mut written) = written.lock() {
                    written.extend_from_slice(&buffer[..length]);
                }
            }
        });
        Self {
            slave: Some(pty.slave),
            bytes,
        }
    }

    /// Makes it a command's standard error.
    ///
    /// # Panics
    ///
    /// When it is another's already.
    pub fn attach(&mut self, command: &mut Command) {
        let slave = self.slave.take().expect("one command");
        // Without a kind of terminal, programs draw nothing.
        command.env("TERM", "xterm").stderr(Stdio::from(slave));
    }

    /// What the terminal shows now, row by row, the scrolled-off rows included.
    #[must_use]
    pub fn rows(&self) -> Vec<String> {
        let bytes = self
            .bytes
            .lock()
            .map(|bytes| bytes.clone())
            .unwrap_or_default();
        screen(&String::from_utf8_lossy(&bytes), COLUMNS.into())
    }
}

/// What is to be seen of a text with control sequences (ECMA-48): those that
/// move the cursor and erase, as far as progress bars use them. Empty rows are
/// left out.
fn screen(text: &str, columns: usize) -> Vec<String> {
    let mut rows: Vec<Vec<char>> = vec![Vec::new()];
    let (mut row, mut column) = (0_usize, 0_usize);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\r' => column = 0,
            '\n' => row += 1,
            '\u{1b}' => {
                let Some('[') = chars.next() else { continue };
                let mut number = String::new();
                let end = chars.by_ref().find(|c| {
                    number.push(*c);
                    c.is_ascii_alphabetic()
                });
                number.pop();
                let count = number.parse().unwrap_or(1);
                match end {
                    Some('A') => row = row.saturating_sub(count),
                    Some('B') => row += count,
                    Some('K') if number == "2" => rows[row].clear(),
                    Some('K') => rows[row].truncate(column),
                    Some('J') => {
                        rows.truncate(row + 1);
                        rows[row].truncate(column);
                    }
                    // Colours, and whether the cursor is shown.
                    Some('m' | 'h' | 'l') => {}
                    end => panic!("a control sequence nobody knows: {number:?} {end:?}"),
                }
            }
            c => {
                // A full row is left only when something follows.
                if column == columns {
                    (row, column) = (row + 1, 0);
                    grow(&mut rows, row);
                }
                let cells = &mut rows[row];
                if cells.len() <= column {
                    cells.resize(column + 1, ' ');
                }
                cells[column] = c;
                column += 1;
            }
        }
        grow(&mut rows, row);
    }
    let rows = rows.into_iter().map(|row| row.into_iter().collect());
    let rows = rows.map(|row: String| row.trim_end().to_owned());
    rows.filter(|row| !row.is_empty()).collect()
}

fn grow(rows: &mut Vec<Vec<char>>, row: usize) {
    if rows.len() <= row {
        rows.resize(row + 1, Vec::new());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        assert_eq!(screen(text, 8), expected);
    }

    #[test]
    fn text_is_written_over() {
        check("one\r\ntwo", &["one", "two"]);
        check("one\rtw", &["twe"]);
        check("one\n two", &["one", "    two"]);
        check("full row\r\nnext", &["full row", "next"]);
        check("a full row", &["a full r", "ow"]);
    }

    #[test]
    fn rows_are_erased() {
        check("one\r\n\u{1b}[1A\r\u{1b}[2Ktwo", &["two"]);
        check("one\r\ntwo\u{1b}[1A\r\u{1b}[J", &[]);
        check("\u{1b}[31mred\u{1b}[0m", &["red"]);
        check("three\r\u{1b}[1Bt\u{1b}[K", &["three", "t"]);
    }

    #[test]
    fn a_program_sees_a_terminal() {
        let mut terminal = Terminal::open();
        let mut command = Command::new("sh");
        terminal.attach(command.args(["-c", "test -t 2 && echo yes >&2"]));
        assert!(command.status().expect("run a shell").success());
        drop(command);
        crate::wait::until("what a program wrote", || {
            (terminal.rows() == ["yes"]).then_some(())
        });
    }
}
