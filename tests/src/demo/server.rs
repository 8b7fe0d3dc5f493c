//! The server that both clients ask.

use std::{fs, net::TcpStream, path::PathBuf};

use tempfile::TempDir;

use crate::{
    command::{Place, Process},
    netns::{Ip, Pair},
    wait,
};

/// nginx with one small page, on the far side.
#[derive(Debug)]
pub(super) struct Server {
    folder: TempDir,
    _process: Process,
}

impl Server {
    /// Where it listens.
    pub(super) const PORT: u16 = 8080;
    /// What it serves.
    pub(super) const PAGE: &str = "page";

    /// Starts it and waits until it serves.
    ///
    /// # Panics
    ///
    /// When it does not.
    #[track_caller]
    pub(super) fn start(pair: &Pair) -> Self {
        let folder = tempfile::tempdir().expect("make a folder");
        let path = folder.path().display();
        let port = Self::PORT;
        let config = format!(
            "daemon off; user root; worker_processes 1; pid {path}/pid; error_log {path}/errors;\n\
             events {{ }}\n\
             http {{ access_log off; client_body_temp_path {path}/body; proxy_temp_path {path}/proxy;\n\
             fastcgi_temp_path {path}/fastcgi; uwsgi_temp_path {path}/uwsgi; scgi_temp_path {path}/scgi;\n\
             server {{ listen {port}; root {path}; }} }}\n"
        );
        let file = folder.path().join("config");
        fs::write(&file, config).expect("write nginx's configuration");
        fs::write(folder.path().join(Self::PAGE), "x".repeat(500)).expect("write a page");
        let file = file.to_str().expect("a path in UTF-8");
        let process = Place::netns(&pair.far).spawn("nginx", &["-e", "stderr", "-c", file]);
        let address = (Pair::far_address(Ip::V4), port);
        wait::until("nginx", || {
            pair.near.enter(|| TcpStream::connect(address).ok())
        });
        Self {
            folder,
            _process: process,
        }
    }

    /// The page as a file, which clients can read too.
    pub(super) fn page(&self) -> PathBuf {
        self.folder.path().join(Self::PAGE)
    }
}
