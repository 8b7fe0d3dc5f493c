//! toxiproxy, a TCP proxy that does harm to what passes it.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    process::Stdio,
};

use serde_json::{Value, json};

use crate::{
    command::{Place, Process},
    netns::Netns,
    wait,
};

/// Where it takes orders, on the loopback interface.
const API: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8474);

/// Its name for the only proxy.
const NAME: &str = "echo";

/// A running toxiproxy with one proxy, gone when dropped.
#[derive(Debug)]
pub(super) struct Toxiproxy<'a> {
    netns: &'a Netns,
    _server: Process,
}

impl<'a> Toxiproxy<'a> {
    /// Starts the program in a namespace, with a proxy between two addresses.
    ///
    /// # Panics
    ///
    /// When it does not start, or does not make the proxy.
    #[track_caller]
    pub(super) fn start(
        program: &Path,
        netns: &'a Netns,
        listen: SocketAddr,
        upstream: SocketAddr,
    ) -> Self {
        let (host, port) = (API.ip().to_string(), API.port().to_string());
        let server = Place::netns(netns)
            .command(program)
            .args(["-host", &host, "-port", &port])
            // It would tell of each connection.
            .env("LOG_LEVEL", "error")
            .stdout(Stdio::null())
            .spawn();
        let mut server = match server {
            Ok(child) => Process(child),
            Err(error) => panic!("cannot start {}: {error}", program.display()),
        };
        wait::until("toxiproxy to take orders", || {
            if let Some(status) = server.ended() {
                panic!("{} has ended: {status}", program.display());
            }
            let url = format!("http://{API}/version");
            let output = Place::netns(netns).output("curl", &["-sf", &url]);
            output.status.success().then_some(())
        });
        let proxy = Self {
            netns,
            _server: server,
        };
        let order = json!({ "name": NAME, "listen": listen, "upstream": upstream });
        let made = proxy.ask("proxies", Some(&order));
        assert_eq!(made["enabled"], true, "toxiproxy makes no proxy: {made}");
        proxy
    }

    /// Has both directions pass a toxic that delays by nothing.
    ///
    /// # Panics
    ///
    /// When toxiproxy refuses.
    #[track_caller]
    pub(super) fn add_toxics(&self) {
        for stream in ["upstream", "downstream"] {
            let order = json!({
                "name": stream,
                "type": "latency",
                "stream": stream,
                "attributes": { "latency": 0, "jitter": 0 },
            });
            let made = self.ask(&format!("proxies/{NAME}/toxics"), Some(&order));
            assert_eq!(made["stream"], stream, "toxiproxy makes no toxic: {made}");
        }
    }

    /// How many toxics the proxy has.
    ///
    /// # Panics
    ///
    /// When toxiproxy does not say.
    #[track_caller]
    pub(super) fn toxics(&self) -> usize {
        let proxy = self.ask(&format!("proxies/{NAME}"), None);
        let toxics = proxy["toxics"].as_array();
        toxics.expect("a list of toxics").len()
    }

    /// Its answer to a request, or to an order if there is one.
    #[track_caller]
    fn ask(&self, path: &str, order: Option<&Value>) -> Value {
        let url = format!("http://{API}/{path}");
        let order = order.map(Value::to_string);
        let mut args = vec!["-sS", "--fail-with-body", &url];
        if let Some(order) = &order {
            args.extend(["--json", order]);
        }
        let text = Place::netns(self.netns).run("curl", &args);
        match serde_json::from_str(&text) {
            Ok(answer) => answer,
            Err(error) => panic!("toxiproxy answers {url} by no JSON ({error}): {text}"),
        }
    }
}

/// The version that a program says it is.
///
/// # Panics
///
/// When it cannot be started, or says none.
#[track_caller]
pub(super) fn version(program: &Path) -> String {
    let name = program.to_str().expect("a path in UTF-8");
    let text = Place::HERE.run(name, &["-version"]);
    match text.split_whitespace().last() {
        Some(version) => version.to_owned(),
        None => panic!("{name} does not say its version"),
    }
}
