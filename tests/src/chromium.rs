//! A person at a real browser: headless Chromium, where there is one.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chromiumoxide::cdp::browser_protocol::dom::SetFileInputFilesParams;
use chromiumoxide::cdp::browser_protocol::emulation::{
    MediaFeature, SetDeviceMetricsOverrideParams, SetTimezoneOverrideParams,
};
use chromiumoxide::cdp::browser_protocol::log::EventEntryAdded;
use chromiumoxide::cdp::browser_protocol::network::EventRequestWillBeSent;
use chromiumoxide::cdp::browser_protocol::page::CaptureScreenshotFormat;
use chromiumoxide::cdp::js_protocol::runtime::EventExceptionThrown;
use chromiumoxide::page::ScreenshotParams;
use chromiumoxide::{Browser, BrowserConfig, Page};
use futures_util::StreamExt;
use local::workspace;
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::support::World;

/// How long anything may take to appear.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many elements are passed on the way to one by the keyboard.
const MAX_TABS: usize = 400;

/// Somebody at a browser, who uses the keyboard alone.
pub(crate) struct Person {
    base: String,
    page: Page,
    browser: Browser,
    events: Vec<JoinHandle<()>>,
    /// What the browser complained about, and which other hosts it was sent to.
    problems: Arc<Mutex<Vec<String>>>,
}

impl Person {
    /// `None` where this machine has no Chromium; in CI there has to be one.
    pub(crate) async fn at(world: &World) -> Option<Self> {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let folder = format!("target/chromium/{}-{number}", std::process::id());
        let config = BrowserConfig::builder()
            .no_sandbox()
            .new_headless_mode()
            .viewport(None)
            .launch_timeout(Duration::from_secs(60))
            .request_timeout(Duration::from_secs(60))
            .user_data_dir(workspace().join(folder))
            .arg("--lang=en-US")
            .build();
        let config = match config {
            Ok(config) => config,
            Err(reason) => {
                assert!(std::env::var_os("CI").is_none(), "CI needs a Chromium: {reason}");
                eprintln!("no Chromium here, so nobody looked at the pages");
                return None;
            }
        };
        let (browser, mut handler) = Browser::launch(config).await.unwrap();
        let handler = tokio::spawn(async move { while handler.next().await.is_some() {} });
        let page = browser.new_page("about:blank").await.unwrap();
        let mut person = Self {
            base: world.stack.url().to_owned(),
            page,
            browser,
            events: vec![handler],
            problems: Arc::default(),
        };
        person.listen().await;
        person.resize(1440, 900).await;
        Some(person)
    }

    async fn listen(&mut self) {
        self.page.enable_log().await.unwrap();
        self.page.enable_runtime().await.unwrap();
        let mut entries = self.page.event_listener::<EventEntryAdded>().await.unwrap();
        let mut exceptions = self.page.event_listener::<EventExceptionThrown>().await.unwrap();
        let mut requests = self
            .page
            .event_listener::<EventRequestWillBeSent>()
            .await
            .unwrap();
        let (problems, base) = (self.problems.clone(), self.base.clone());
        self.events.push(tokio::spawn(async move {
            let tell = |problem: String| problems.lock().unwrap().push(problem);
            loop {
                tokio::select! {
                    Some(event) = entries.next() => {
                        let entry = &event.entry;
                        // An answer that is an error is no mistake of the page.
                        if entry.source.as_ref() != "network" {
                            tell(format!("{}: {}", entry.source.as_ref(), entry.text));
                        }
                    }
                    Some(event) = exceptions.next() => tell(format!("{:?}", event.exception_details)),
                    Some(event) = requests.next() => {
                        let url = &event.request.url;
                        if !url.starts_with(&base) && !url.starts_with("about:") && !url.starts_with("data:") {
                            tell(format!("a request to {url}"));
                        }
                    }
                    else => break,
                }
            }
        }));
    }

    /// Nothing was complained about.
    pub(crate) async fn leave(mut self) {
        let problems = self.problems.lock().unwrap().clone();
        assert_eq!(problems, [] as [String; 0]);
        self.browser.close().await.unwrap();
        self.browser.wait().await.unwrap();
        self.events.iter().for_each(JoinHandle::abort);
    }

    pub(crate) async fn resize(&self, width: i64, height: i64) {
        let metrics = SetDeviceMetricsOverrideParams::new(width, height, 1.0, false);
        self.page.execute(metrics).await.unwrap();
    }

    /// `light` or `dark`.
    pub(crate) async fn prefer(&self, scheme: &str) {
        let feature = MediaFeature::new("prefers-color-scheme", scheme);
        let still = MediaFeature::new("prefers-reduced-motion", "reduce");
        self.page
            .emulate_media_features(vec![feature, still])
            .await
            .unwrap();
    }

    pub(crate) async fn move_to(&self, zone: &str) {
        let zone = SetTimezoneOverrideParams::new(zone);
        self.page.emulate_timezone(zone).await.unwrap();
    }

    pub(crate) async fn go(&self, path: &str) {
        self.page.goto(format!("{}{path}", self.base)).await.unwrap();
        self.wait("document.readyState === 'complete'").await;
    }

    /// The path and query of the address bar.
    pub(crate) async fn address(&self) -> String {
        let address = self.value("location.pathname + location.search").await;
        address.as_str().unwrap().to_owned()
    }

    /// The value of an expression; null while a page is on its way.
    pub(crate) async fn value(&self, expression: &str) -> Value {
        match self.page.evaluate_expression(expression).await {
            Ok(result) => result.value().cloned().unwrap_or_default(),
            Err(_) => Value::Null,
        }
    }

    /// Waits until an expression holds.
    pub(crate) async fn wait(&self, expression: &str) {
        let begun = Instant::now();
        while self.value(expression).await != Value::Bool(true) {
            if begun.elapsed() > PATIENCE {
                let (address, text) = (self.address().await, self.text("body").await);
                self.picture("missed").await;
                panic!("{expression} does not come true at {address}: {text}");
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    /// Waits until some text can be read.
    pub(crate) async fn sees(&self, text: &str) {
        let text = Value::from(text);
        self.wait(&format!("document.body.innerText.includes({text})"))
            .await;
    }

    pub(crate) async fn text(&self, selector: &str) -> String {
        let selector = Value::from(selector);
        let text = self
            .value(&format!("document.querySelector({selector})?.innerText ?? ''"))
            .await;
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Goes to an element by the tabulator, as often as it takes.
    pub(crate) async fn reach(&self, selector: &str) {
        let is_there = format!("document.activeElement.matches({})", Value::from(selector));
        for _ in 0..MAX_TABS {
            if self.value(&is_there).await == Value::Bool(true) {
                return;
            }
            self.press("Tab").await;
        }
        panic!(
            "{selector} is not reached at {}: {}",
            self.address().await,
            self.text("body").await
        );
    }

    pub(crate) async fn press(&self, key: &str) {
        let body = self.page.find_element("html").await.unwrap();
        body.press_key(key).await.unwrap();
    }

    pub(crate) async fn type_in(&self, text: &str) {
        let body = self.page.find_element("html").await.unwrap();
        body.type_str(text).await.unwrap();
    }

    /// Reaches a link or a button and uses it.
    pub(crate) async fn enter(&self, selector: &str) {
        self.reach(selector).await;
        self.press("Enter").await;
    }

    /// Reaches a field and writes into it.
    pub(crate) async fn fill(&self, selector: &str, text: &str) {
        self.reach(selector).await;
        self.type_in(text).await;
    }

    /// Chooses a file, which is what no page can be told by the keyboard alone.
    pub(crate) async fn choose_file(&self, selector: &str, name: &str, content: &str) {
        let folder = workspace().join("target/chromium/files");
        std::fs::create_dir_all(&folder).unwrap();
        // The browser opens no path with dots in it.
        let path: PathBuf = folder.canonicalize().unwrap().join(name);
        std::fs::write(&path, content).unwrap();
        let input = self.page.find_element(selector).await.unwrap();
        let files = SetFileInputFilesParams::builder()
            .file(path.to_str().unwrap())
            .backend_node_id(input.backend_node_id)
            .build()
            .unwrap();
        self.page.execute(files).await.unwrap();
    }

    pub(crate) async fn sign_in(&self, person: &str) {
        self.go("/sign-in").await;
        self.enter(&format!("button[value=\"{person}\"]")).await;
        self.wait("location.pathname === '/calls' && document.readyState === 'complete'")
            .await;
    }

    /// What axe-core finds to mend: <https://github.com/dequelabs/axe-core>.
    pub(crate) async fn barriers(&self) -> Vec<String> {
        let Some(axe) = axe() else { return Vec::new() };
        self.page.evaluate_expression(axe).await.unwrap();
        let run = "axe.run().then((found) => found.violations.map((rule) => rule.id + ': ' + \
                   rule.nodes.map((node) => node.html + ' ' + node.failureSummary).join(' | ')))";
        let found: Vec<String> = self.page.evaluate(run).await.unwrap().into_value().unwrap();
        found
    }

    /// What sticks out of the page to the side, or is cut.
    pub(crate) async fn sticking_out(&self) -> Vec<String> {
        let find = "[...document.querySelectorAll('body *')].filter((element) => {
            const box = element.getBoundingClientRect();
            const style = getComputedStyle(element);
            const hidden = style.clipPath !== 'none' || element.closest('.hidden, .skip, dialog:not([open]), svg');
            const sticksOut = box.right > innerWidth + 1 || box.left < -1;
            // A name that ends in dots is whole in its title.
            const cuts = style.overflowX === 'hidden' && style.textOverflow !== 'ellipsis';
            const isCut = cuts && element.scrollWidth > element.clientWidth + 1;
            return !hidden && box.width > 0 && style.position !== 'fixed' && (sticksOut || isCut);
          }).map((element) => element.outerHTML.slice(0, 120))
          .concat(document.documentElement.scrollWidth > innerWidth ? ['the page'] : [])";
        self.page.evaluate(find).await.unwrap().into_value().unwrap()
    }

    /// A picture of the page, to be looked at.
    pub(crate) async fn picture(&self, name: &str) {
        let folder = workspace().join("target/pictures");
        std::fs::create_dir_all(&folder).unwrap();
        let params = ScreenshotParams::builder()
            .format(CaptureScreenshotFormat::Png)
            .full_page(true)
            .build();
        let picture = self.page.screenshot(params).await.unwrap();
        std::fs::write(folder.join(format!("{name}.png")), picture).unwrap();
    }
}

/// The source of axe-core, installed by npm as `tests/package.json` says. `None` where
/// this machine has no npm; in CI there has to be one.
fn axe() -> Option<String> {
    static INSTALLED: Mutex<()> = Mutex::new(());
    let _one_at_a_time = INSTALLED.lock().unwrap();
    let folder = workspace().join("tests");
    let path = folder.join("node_modules/axe-core/axe.min.js");
    if !path.exists() {
        let npm = std::process::Command::new("npm")
            .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
            .current_dir(folder)
            .output();
        let npm = match npm {
            Ok(npm) => npm,
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "CI needs npm: {error}");
                eprintln!("no npm here, so nobody looked for barriers");
                return None;
            }
        };
        assert!(npm.status.success(), "{}", String::from_utf8_lossy(&npm.stderr));
    }
    Some(std::fs::read_to_string(path).unwrap())
}
