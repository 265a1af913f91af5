//! Rows beside each other: curves, scores, what differs.

use crate::driver::Browser;
use crate::page::{Server, nets};

#[test]
fn curves_of_marked_rows_lie_over_one_another() {
    let Some(browser) = Browser::start() else { return };
    let study = nets();
    let server = Server::of(&study);
    server.open(&browser, "#/table");
    browser.sees(".big", "wide");
    for row in ["small", "wide", "deep"] {
        browser.click(&format!("input[aria-label='Mark {row}']"));
    }
    assert_eq!(browser.texts("a.button"), ["Compare 3"]);
    browser.click("a.button");
    browser.sees("h1", "Compare small, wide, deep");
    browser.until("the figures", "document.querySelectorAll('figure.curves .curve').length === 6");
    assert_eq!(browser.texts("figure.curves figcaption"), ["loss over step", "gain over step"]);
    // Each row has a colour of its own, the same in each figure and in the legend.
    let classes = "[...document.querySelectorAll('figure.curves')].map((f) => [...f.querySelectorAll('.curve')].map((c) => c.getAttribute('class')).join())";
    let classes = browser.script(&format!("return {classes}"));
    assert_eq!(classes[0], "curve c0,curve c1,curve c2");
    assert_eq!(classes[0], classes[1]);

    // The keys read values: the first step of each row's loss is its width.
    browser.script("document.querySelector('figure.curves svg').focus()");
    browser.press("\u{e011}");
    assert_eq!(browser.texts("figure.curves:first-child .readout b"), ["3", "20", "7"]);
    browser.press("\u{e014}");
    assert_eq!(browser.texts("figure.curves:first-child .readout b"), ["1.500", "10", "3.500"]);
    assert_eq!(browser.texts("figure.curves:first-child .readout .at"), ["step 2"]);

    // On a logarithmic axis 20/step falls by the same height from 1 to 2 as from 2 to 4.
    let heights = |browser: &Browser| -> Vec<f64> {
        let d =
            browser.script("return document.querySelectorAll('figure.curves .curve')[1].getAttribute('d')");
        let d = d.as_str().unwrap().replace('M', "L");
        d.split('L').skip(1).map(|p| p.split(' ').nth(1).unwrap().parse().unwrap()).collect()
    };
    let linear = heights(&browser);
    assert_eq!(linear.len(), 60);
    assert!((linear[1] - linear[0]) > 1.5 * (linear[3] - linear[1]));
    browser.click("input[name=logarithmic]");
    let log = heights(&browser);
    assert!(((log[1] - log[0]) - (log[3] - log[1])).abs() < 0.5, "{log:?}");

    // Smoothing keeps the values as they are behind the smoothed ones.
    browser.script("const s = document.querySelector('input[name=smoothing]'); s.value = 0.9; s.dispatchEvent(new Event('input'))");
    browser.until("smoothing", "document.querySelectorAll('figure.curves .curve.faint').length === 6");

    // What differs, and nothing else.
    let differs = browser.texts("section[aria-labelledby=h-what-differs] tbody th");
    assert!(
        differs.contains(&"train.width".into()) && differs.contains(&"train.model".into()),
        "{differs:?}"
    );
    assert!(!differs.contains(&"train.data".into()), "{differs:?}");
    browser.click("#everything");
    assert!(browser.texts("section[aria-labelledby=h-what-differs] tbody th").contains(&"train.data".into()));
    browser.sees("section[aria-labelledby=h-scores]", "fid");

    browser.click(".legend a[aria-label='Leave out wide']");
    browser.sees("h1", "Compare small, deep");
    assert!(browser.complaints().is_empty(), "{:?}", browser.complaints());

    // One that is gone is named.
    server.on(&browser, "#/compare?rows=row/v~small,row/v~gone");
    browser.sees("h1", "Compare small");
    assert_eq!(browser.texts("main > .problem"), ["row/v~gone: there is nothing of this name"]);
}
