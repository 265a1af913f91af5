//! The digits study with the page open: its stages as they run, its pictures, and the screenshots of the documentation. Takes
//! a minute: `ci/study` runs it, after `ci/build`.

use crate::driver::{Browser, DESK, PHONE, Screen};
use crate::page::Server;
use crate::study::said;
use serde_json::json;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The digits study, smaller still and in three variants.
fn study(root: &Path) {
    symlink(repository().join("data"), root.join("data")).unwrap();
    std::fs::copy(repository().join("pipeline.yaml"), root.join("digits.yaml")).unwrap();
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(repository().join("target"), PathBuf::from);
    // By a name from the study's root, so that no path of this machine is in a picture.
    symlink(target, root.join("target")).unwrap();
    let text = "extends: digits.yaml\nbuild: {command: 'true', sources: [data], programs: target/release}\n\
         stages:\n  train: {params: {iterations: 160, batch-size: 64, log-every: 5, checkpoint-every: 80}}\n  \
         sample: {params: {images: 100, steps: 20}}\n\
         variants:\n  switch-dit: {}\n  no-prior: {stages: {train: {params: {prior-weight: 0}}}}\n  \
         slower: {stages: {train: {params: {learning-rate: 5e-4}}}}\n";
    std::fs::write(root.join("pipeline.yaml"), text).unwrap();
}

fn pipeline(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pipeline"));
    command.args(arguments).current_dir(root);
    command
}

/// A picture of what is on the screen, where `SCREENSHOTS` names a folder for it.
fn picture(browser: &Browser, name: &str, screen: Screen) {
    let Some(folder) = std::env::var_os("SCREENSHOTS") else { return };
    browser.script("document.activeElement.blur(); scrollTo(0, 0)");
    std::thread::sleep(std::time::Duration::from_millis(600));
    let clip = json!({"x": 0, "y": 0, "width": screen.width, "height": screen.height, "scale": 1});
    let made = browser.devtools("Page.captureScreenshot", json!({"format": "png", "clip": clip}));
    let mut child = Command::new("base64")
        .arg("-d")
        .stdin(Stdio::piped())
        .stdout(std::fs::File::create(Path::new(&folder).join(format!("{name}.png"))).unwrap())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), made["data"].as_str().unwrap().as_bytes())
        .unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
#[ignore = "takes a minute; ci/study runs it"]
fn the_digits_are_seen_as_they_run() {
    let Some(browser) = Browser::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    study(root);
    let server = Server::start(pipeline(root, &["ui", "--port", "0", "--no-open"]));
    browser.screen(DESK);
    server.open(&browser, "#/?variant=switch-dit");
    browser.sees(".node", "for its program");
    let train_page = browser
        .script("return document.querySelector(\".node[href*='step/train']\").getAttribute('href')")
        .as_str()
        .unwrap()
        .to_string();
    let train_page = train_page.as_str();
    // What a training waits for, since a busy machine may be minutes about it.
    let before = pipeline(root, &["run", "encode", "reference", "--variant", "switch-dit"]).output().unwrap();
    assert!(before.status.success(), "{}", said(&before));
    let mut run = pipeline(root, &["run", "--variant", "*", "--name", "three-ways"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A training is seen while it runs: how far, how fast, how long, on what.
    let train = ".node.running[href*='step/train']";
    browser.until(
        "a training that runs",
        &format!("document.querySelector(\"{train} [role=progressbar]\") !== null"),
    );
    browser.sees(train, "of 160 steps");
    browser.sees(train, "left");
    browser.sees(train, "cpu");
    picture(&browser, "ui-live", Screen { height: 420, ..DESK });
    server.on(&browser, train_page);
    browser.until("its curves as they grow", "document.querySelectorAll('figure.curves .curve').length >= 1");

    // And beside the others, of the log that a training keeps until it is done.
    server.on(&browser, "#/compare?rows=row/v~switch-dit,row/v~no-prior,row/v~slower");
    browser.until("curves of what runs", "document.querySelectorAll('figure.curves .curve').length >= 1");

    let output = run.wait().unwrap();
    assert!(output.success(), "{}", said(&run.wait_with_output().unwrap()));
    server.on(&browser, "#/");
    browser.until(
        "all is done",
        "[...document.querySelectorAll('.node')].every((n) => n.classList.contains('done'))",
    );

    server.on(&browser, "#/table");
    browser.sees(".big", "no-prior");
    browser.click(".big [data-column=fid] button");
    for row in ["switch-dit", "no-prior", "slower"] {
        browser.click(&format!("input[aria-label='Mark {row}']"));
    }
    picture(&browser, "ui-table", Screen { height: 420, ..DESK });
    browser.click("a.button");
    browser.until("the figures", "document.querySelectorAll('figure.curves .curve').length >= 9");
    browser.script("const s = document.querySelector('input[name=smoothing]'); s.value = 0.6; s.dispatchEvent(new Event('input'))");
    // The samples of each, beside each other; the real digits, which all are held to, once.
    let whole = "(() => { const all = [...document.querySelectorAll('.grids img')]; all.forEach((i) => { i.loading = 'eager' }); \
                 const of = (output) => [...document.querySelectorAll('.grids')].find((g) => g.previousSibling.textContent.startsWith(output)); \
                 return of('sample.samples')?.querySelectorAll('img').length === 3 && of('reference.statistics')?.querySelectorAll('img').length === 1 \
                 && all.every((i) => i.complete && i.naturalWidth > 0) })()";
    browser.until("the grids of samples", whole);
    picture(&browser, "ui-compare", DESK);
    browser.screen(Screen { dark: true, ..DESK });
    picture(&browser, "ui-compare-dark", DESK);
    browser.screen(PHONE);
    server.on(&browser, "#/?variant=no-prior");
    picture(&browser, "ui-phone", PHONE);
    browser.screen(DESK);

    server.on(&browser, train_page);
    browser.sees(".status", "cached");
    browser.sees(".command", "target/release/train");
    let machine = browser.script("return document.querySelector('main').innerText");
    let own = repository().to_str().unwrap();
    assert!(!machine.as_str().unwrap().contains(own), "a path of this machine is on the page: {machine}");
    browser.until("its curves", "document.querySelectorAll('figure.curves .curve').length >= 3");
    picture(&browser, "ui-stage", DESK);
    // What is in the outputs of a stage: of the latents their columns and first rows.
    let opened = |stage: &str, sees: &str| {
        let link =
            browser.script(&format!("return known.study.steps.find((s) => s.stage === '{stage}').name"));
        server.on(&browser, &format!("#/{}", link.as_str().unwrap()));
        browser.click("section[aria-labelledby=h-outputs] details summary");
        browser.sees("section[aria-labelledby=h-outputs] .inside table", sees);
    };
    opened("sample", ".npz");
    opened("report", "");
    opened("encode", ".parquet");
    browser.script(
        "[...document.querySelectorAll('.inside a')].find((a) => a.textContent.endsWith('.parquet')).click()",
    );
    browser.sees("main", "First rows");
    browser.sees("main table", ", …], ");
    picture(&browser, "ui-parquet", Screen { height: 700, ..DESK });
    assert!(browser.complaints().is_empty(), "{:?}", browser.complaints());
}
