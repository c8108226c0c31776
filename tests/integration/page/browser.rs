//! A headless Chromium, through ChromeDriver: the W3C's WebDriver, and Chromium's own protocol beside it.

use std::env;
use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use appliance::sys::http;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::blocking::Client;
use serde_json::{Value, json};

/// What keeps Chromium from talking to anyone but the page's server. As root, it needs the first one.
const FLAGS: [&str; 10] = [
    "--no-sandbox",
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
];

/// A browser. It ends when this is dropped.
pub struct Browser {
    driver: Child,
    client: Client,
    session: String,
    profile: tempfile::TempDir,
    /// What ChromeDriver says. Without a reader, it would end.
    _said: Lines<BufReader<ChildStdout>>,
}

impl Browser {
    /// Starts it.
    pub fn start() -> Browser {
        let profile = tempfile::tempdir().unwrap();
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .env("HOME", profile.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("`make test-page` unpacks chromedriver");
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| {
            let line = line.unwrap();
            let (_, port) = line.rsplit_once("started successfully on port ")?;
            Some(port.trim_end_matches('.').to_owned())
        });
        let client = http::client(&[], None, Duration::from_secs(60)).unwrap();
        let mut browser = Browser {
            driver,
            client,
            session: format!("http://127.0.0.1:{}/session", port.unwrap()),
            profile,
            _said: lines,
        };
        let mut arguments = FLAGS.map(str::to_owned).to_vec();
        arguments.push(format!(
            "--user-data-dir={}",
            browser.profile.path().join("profile").display()
        ));
        let begun = browser.post(
            "",
            &json!({ "capabilities": { "alwaysMatch": {
                "goog:chromeOptions": { "binary": chromium(), "args": arguments },
                "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
            }}}),
        );
        browser.session += &format!("/{}", begun["sessionId"].as_str().unwrap());
        // What its first page loaded and said is not of interest.
        browser.open("about:blank");
        drop((browser.requests(), browser.console()));
        browser
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let url = format!("{}{path}", self.session);
        let answer = self
            .client
            .post(&url)
            .body(body.to_string())
            .send()
            .unwrap();
        let text = answer.text().unwrap();
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert!(answer["value"]["error"].is_null(), "{path}: {text}");
        answer["value"].clone()
    }

    /// A command of Chromium's own protocol.
    pub fn command(&self, name: &str, parameters: &Value) -> Value {
        self.post(
            "/goog/cdp/execute",
            &json!({ "cmd": name, "params": parameters }),
        )
    }

    /// A window of that size, in pixels, in a light or dark scheme.
    pub fn window(&self, (width, height): (u32, u32), scheme: &str) {
        self.command(
            "Emulation.setDeviceMetricsOverride",
            &json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 }),
        );
        let scheme = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.command("Emulation.setEmulatedMedia", &json!({ "features": scheme }));
    }

    /// Opens a page, and waits until it is loaded.
    pub fn open(&self, url: &str) {
        self.post("/url", &json!({ "url": url }));
    }

    /// What this function's body gives in the page.
    pub fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// A picture of the whole page (PNG).
    pub fn picture(&self) -> Vec<u8> {
        let shot = json!({ "format": "png", "captureBeyondViewport": true });
        let shot = self.command("Page.captureScreenshot", &shot);
        STANDARD.decode(shot["data"].as_str().unwrap()).unwrap()
    }

    fn log(&self, kind: &str) -> Vec<Value> {
        let entries = self.post("/se/log", &json!({ "type": kind }));
        entries.as_array().unwrap().clone()
    }

    /// What the console said since the last call.
    pub fn console(&self) -> Vec<Value> {
        self.log("browser")
    }

    /// The addresses of all requests since the last call.
    pub fn requests(&self) -> Vec<String> {
        let events = self.log("performance").into_iter();
        let events = events.map(|entry| {
            serde_json::from_str::<Value>(entry["message"].as_str().unwrap()).unwrap()["message"].clone()
        });
        let sent = events.filter(|event| event["method"] == "Network.requestWillBeSent");
        sent.map(|event| {
            event["params"]["request"]["url"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // This ends Chromium, too.
        drop(self.client.delete(&self.session).send());
        drop(self.driver.kill());
        drop(self.driver.wait());
    }
}

/// The browser itself: its script in /usr/bin expects to be installed.
fn chromium() -> PathBuf {
    const PROGRAM: &str = "usr/lib/chromium/chromium";
    let unpacked = env::var_os("UNPACKED").map(|root| Path::new(&root).join(PROGRAM));
    let unpacked = unpacked.filter(|program| program.is_file());
    unpacked.unwrap_or_else(|| Path::new("/").join(PROGRAM))
}
