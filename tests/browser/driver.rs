//! A small client of WebDriver: HTTP with JSON to a `chromedriver` of the test's own.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Longest that anything on a page may take before the test counts as failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// One browser at a time: several of them on two cores are slower than one after another.
static ALONE: Mutex<()> = Mutex::new(());

/// What a browser is like.
#[derive(Clone, Copy)]
pub struct Screen {
    pub width: u32,
    pub height: u32,
    pub dark: bool,
    pub still: bool,
}

pub const DESK: Screen = Screen { width: 1280, height: 860, dark: false, still: false };
pub const PHONE: Screen = Screen { width: 390, height: 844, dark: false, still: false };

/// A browser that ends with this.
pub struct Browser {
    driver: Child,
    _output: BufReader<ChildStdout>,
    port: u16,
    session: String,
    _alone: MutexGuard<'static, ()>,
}

impl Browser {
    /// `None` where there is no Chromium.
    pub fn start() -> Option<Self> {
        let there = |program: &str| {
            let folders = std::env::var("PATH").unwrap_or_default();
            folders.split(':').any(|folder| Path::new(folder).join(program).exists())
        };
        if !["chromium", "chromedriver"].iter().all(|program| there(program)) {
            // Written past the test's own captured output: nobody should believe that it ran.
            let text = "\nSKIPPED: the browser's tests need chromium and chromium-driver\n";
            std::io::stderr().write_all(text.as_bytes()).unwrap();
            return None;
        }
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(driver.stdout.take().unwrap());
        let port = loop {
            let mut line = String::new();
            assert!(output.read_line(&mut line).unwrap() > 0, "chromedriver ended");
            // The line before says `port 0`: what was asked for.
            let port = line
                .trim()
                .trim_end_matches('.')
                .rsplit_once("on port ")
                .and_then(|(_, p)| p.parse::<u16>().ok());
            if let Some(port) = port.filter(|port| *port != 0) {
                break port;
            }
        };
        let mut browser = Self { driver, _output: output, port, session: String::new(), _alone: alone };
        let arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"];
        let capabilities = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let session = browser.ask("POST", "/session", &capabilities);
        browser.session = session["sessionId"].as_str().unwrap().to_string();
        browser.screen(DESK);
        Some(browser)
    }

    /// Of which size it is, and what its owner prefers.
    pub fn screen(&self, screen: Screen) {
        let Screen { width, height, dark, still } = screen;
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500});
        self.devtools("Emulation.setDeviceMetricsOverride", size);
        let scheme = if dark { "dark" } else { "light" };
        let motion = if still { "reduce" } else { "no-preference" };
        let features = json!([
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": motion},
        ]);
        self.devtools("Emulation.setEmulatedMedia", json!({"features": features}));
    }

    pub fn go(&self, address: &str) {
        // An address that differs in its `#` alone would load nothing.
        self.command("POST", "/url", json!({"url": "about:blank"}));
        self.command("POST", "/url", json!({"url": address}));
    }

    /// What a function's body returns.
    pub fn script(&self, body: &str) -> Value {
        self.command("POST", "/execute/sync", json!({"script": body, "args": []}))
    }

    /// Waits until an expression is true of the page, and gives its value.
    pub fn until(&self, what: &str, expression: &str) -> Value {
        let started = Instant::now();
        loop {
            let value = self.script(&format!("return {expression}"));
            if !matches!(&value, Value::Null | Value::Bool(false)) && value != json!("") && value != json!(0)
            {
                return value;
            }
            if started.elapsed() > PATIENCE {
                let text = self.script("return document.body.innerText");
                panic!("{what} did not happen; the page: {text}\n{:?}", self.complaints());
            }
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// Waits until an element has a text in it.
    pub fn sees(&self, selector: &str, text: &str) {
        let (selector, quoted) = (json!(selector), json!(text));
        let all = format!("[...document.querySelectorAll({selector})]");
        self.until(
            &format!("{text:?} in {selector}"),
            &format!("{all}.some((e) => (e.innerText ?? e.textContent).includes({quoted}))"),
        );
    }

    /// The texts of all elements of a kind.
    pub fn texts(&self, selector: &str) -> Vec<String> {
        let body = format!(
            "return [...document.querySelectorAll({})].map((e) => (e.innerText ?? e.textContent).trim())",
            json!(selector)
        );
        let texts = self.script(&body);
        texts.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_string()).collect()
    }

    fn element(&self, selector: &str) -> String {
        self.until(selector, &format!("document.querySelector({}) !== null", json!(selector)));
        let found = self.command("POST", "/element", json!({"using": "css selector", "value": selector}));
        found.as_object().unwrap().values().next().unwrap().as_str().unwrap().to_string()
    }

    /// A real click, with scrolling to what is clicked.
    pub fn click(&self, selector: &str) {
        let element = self.element(selector);
        self.command("POST", &format!("/element/{element}/click"), json!({}));
    }

    /// Types into an element. Keys without a sign have code points of their own: `\u{e004}` is Tab, `\u{e007}` Enter,
    /// `\u{e011}` Home, `\u{e014}` the arrow to the right.
    pub fn types(&self, selector: &str, text: &str) {
        let element = self.element(selector);
        self.command("POST", &format!("/element/{element}/value"), json!({"text": text}));
    }

    /// Presses a key wherever the focus is.
    pub fn press(&self, key: &str) {
        let actions = json!([{"type": "key", "id": "keys", "actions": [
            {"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]}]);
        self.command("POST", "/actions", json!({"actions": actions}));
    }

    /// What the browser's console complains of.
    pub fn complaints(&self) -> Vec<String> {
        let log = self.command("POST", "/se/log", json!({"type": "browser"}));
        let lines = log.as_array().unwrap().iter();
        lines.map(|line| line["message"].as_str().unwrap().to_string()).collect()
    }

    /// A command of the browser's own protocol.
    pub fn devtools(&self, name: &str, parameters: Value) -> Value {
        self.command("POST", "/goog/cdp/execute", json!({"cmd": name, "params": parameters}))
    }

    fn command(&self, method: &str, path: &str, body: Value) -> Value {
        self.ask(method, &format!("/session/{}{path}", self.session), &body)
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE * 2)).unwrap();
        let body = body.to_string();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut reader = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let line = line.trim();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut answer = vec![0; length];
        reader.read_exact(&mut answer).unwrap();
        let mut answer: Value = serde_json::from_slice(&answer).unwrap();
        let value = answer["value"].take();
        assert!(value["error"].is_null(), "{method} {path} {body}: {value}");
        value
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() && !std::thread::panicking() {
            self.command("DELETE", "", json!({}));
        }
        // SAFETY: a signal to a child that has not been waited for. Its end ends the browser.
        unsafe { libc::kill(self.driver.id() as i32, libc::SIGTERM) };
        let _ = self.driver.wait();
    }
}
