//! `pipeline ui --export`: the same page, opened from disk.

use crate::driver::Browser;
use crate::page::nets;
use crate::study::said;

#[test]
fn it_works_from_disk() {
    let Some(browser) = Browser::start() else { return };
    let study = nets();
    let output = study.call(&["ui", "--export", "site"]);
    assert!(output.status.success(), "{}", said(&output));
    // Away from its study, so that nothing is found but what it holds.
    let folder = tempfile::tempdir().unwrap();
    let site = folder.path().join("a site");
    std::fs::rename(study.path("site"), &site).unwrap();
    drop(study);
    let address = format!("file://{}/index.html", site.display().to_string().replace(' ', "%20"));
    let open = |place: &str| {
        browser.go(&format!("{address}{place}"));
        browser.until("the page", "performance.getEntriesByName('shown').length");
    };
    open("#/");
    browser.sees("#connection", "export of");
    browser.sees(".node", "train");
    browser.sees(".node", "3 done");

    open("#/table?sort=-train.width&filter=width<15");
    assert_eq!(browser.texts(".big tbody th"), ["deep", "small"]);
    browser.click("input[aria-label='Mark small']");
    browser.click("input[aria-label='Mark deep']");
    browser.click("a.button");
    browser.until("the figures", "document.querySelectorAll('figure.curves .curve').length === 4");

    open("#/?variant=wide");
    browser.click(".node[href*='train']");
    browser.sees("h1", "train");
    browser.sees("pre.log", "trained plain on");
    browser.click("details.content summary");
    browser.sees("details.content[open]", "60 lines");
    browser.until(
        "the curves of an output",
        "document.querySelectorAll('details.content[open] .curve').length >= 2",
    );

    open("#/runs");
    browser.click(".big tbody a");
    browser.sees("section[aria-labelledby=h-stages]", "ran");

    let asked = browser
        .script("return [...document.querySelectorAll('script, link, img')].map((e) => e.src || e.href)");
    let asked = asked.as_array().unwrap();
    assert!(
        !asked.is_empty() && asked.iter().all(|a| a.as_str().unwrap().starts_with("file://")),
        "{asked:?}"
    );
    assert!(browser.complaints().is_empty(), "{:?}", browser.complaints());

    // And without any script.
    browser.go(&address.replace("index.html", "plain.html"));
    browser.sees("body", "train");
}
