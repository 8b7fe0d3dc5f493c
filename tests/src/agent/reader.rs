//! Reading what a child prints, as it comes.

use std::{
    io::{BufRead as _, BufReader, Read},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::wait;

/// Collects what a child prints, so that the child never blocks on a full pipe.
#[derive(Debug)]
pub(super) struct Reader {
    text: Arc<Mutex<String>>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    pub(super) fn start(stream: Option<impl Read + Send + 'static>) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let thread = stream.map(|stream| {
            let text = Arc::clone(&text);
            thread::spawn(move || {
                let mut lines = BufReader::new(stream);
                let mut line = Vec::new();
                while lines.read_until(b'\n', &mut line).is_ok_and(|len| len > 0) {
                    if let Ok(mut text) = text.lock() {
                        text.push_str(&String::from_utf8_lossy(&line));
                    }
                    line.clear();
                }
            })
        });
        Self { text, thread }
    }

    /// What has come so far.
    pub(super) fn text(&self) -> String {
        self.text
            .lock()
            .map(|text| text.clone())
            .unwrap_or_default()
    }

    /// All that came, once the child has closed its end. A grandchild that
    /// holds the pipe open is not waited for.
    pub(super) fn end(&mut self) -> String {
        if let Some(thread) = self.thread.take() {
            wait::poll(Duration::from_secs(5), || {
                thread.is_finished().then_some(())
            });
        }
        self.text()
    }
}
