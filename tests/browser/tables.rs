//! The table: sorted, filtered, columns chosen, rows marked; and one of a thousand rows.

use crate::driver::Browser;
use crate::page::{Server, nets};
use crate::study::Study;

fn column(browser: &Browser, index: usize) -> Vec<String> {
    browser.texts(&format!(".big tbody tr > :nth-child({})", index + 2))
}

#[test]
fn it_is_sorted_filtered_and_its_columns_are_chosen() {
    let Some(browser) = Browser::start() else { return };
    let study = nets();
    let server = Server::of(&study);
    server.open(&browser, "#/table");
    browser.sees(".big", "wide");
    assert_eq!(column(&browser, 0), ["small", "wide", "deep"]);

    browser.click(".big [data-column='train.width'] button");
    assert_eq!(column(&browser, 0), ["small", "deep", "wide"]);
    assert_eq!(browser.script("return document.querySelector('[aria-sort]').dataset.column"), "train.width");
    // The focus stays on the head that was pressed, so that the key works again.
    browser.press("\u{e007}");
    assert_eq!(column(&browser, 0), ["wide", "deep", "small"]);
    assert_eq!(browser.script("return document.querySelector('[aria-sort]').ariaSort"), "descending");

    browser.types("#filter", "width<10, model!=deep");
    assert_eq!(column(&browser, 0), ["small"]);
    assert_eq!(browser.texts(".count"), ["1 of 3 rows"]);
    // Over the names and numbers of the command line's own filter.
    let same = study.call(&["table", "--filter", "width<10", "--filter", "model!=deep", "--csv"]);
    assert_eq!(String::from_utf8(same.stdout).unwrap().lines().count(), 2);

    for (wrong, said) in [
        ("fidd<1", "there is no column fidd"),
        ("width<x", "< wants a number"),
        ("width", "is no comparison"),
    ] {
        browser.script("const f = document.getElementById('filter'); f.value = ''; f.focus()");
        browser.types("#filter", wrong);
        browser.sees(".problem", said);
        assert_eq!(column(&browser, 0).len(), 3, "nothing is hidden by what is not understood");
    }
    browser.script(
        "const f = document.getElementById('filter'); f.value = ''; f.dispatchEvent(new Event('input'))",
    );

    let heads = || browser.texts(".big thead th button");
    assert!(!heads().contains(&"seconds".to_string()));
    browser.click(".menu summary");
    browser.script("[...document.querySelectorAll('.menu label')].find((l) => l.textContent === 'seconds').firstChild.click()");
    assert!(heads().iter().any(|head| head == "seconds"), "{:?}", heads());

    // What was chosen is in the address: it is there again after another visit.
    browser.script("location.reload()");
    browser.until("the page", "performance.getEntriesByName('shown').length");
    assert_eq!(column(&browser, 0), ["wide", "deep", "small"]);
    assert!(heads().iter().any(|head| head == "seconds"));
    assert!(browser.complaints().is_empty(), "{:?}", browser.complaints());
}

#[test]
fn of_a_thousand_rows_only_those_that_are_seen_are_made() {
    let Some(browser) = Browser::start() else { return };
    let list: Vec<String> = (0..1000).map(|i| i.to_string()).collect();
    let study = Study::new(&format!(
        "name: many\nmatrix: {{score.width: [{}]}}\nstages:\n  score:\n    shell: echo ${{params.width}} > ${{outputs.n}}\n    \
         params: {{width: 0}}\n    outputs: [n]\n",
        list.join(", ")
    ));
    let server = Server::of(&study);
    server.open(&browser, "#/table");
    browser.sees(".count", "1,000 rows");
    let made = browser
        .script("return document.querySelectorAll('.big tbody tr[data-row]').length")
        .as_u64()
        .unwrap();
    assert!((10..200).contains(&made), "{made} rows are elements");
    assert_eq!(browser.script("return document.querySelector('.big').ariaRowCount ?? document.querySelector('.big').getAttribute('aria-rowcount')"), "1001");

    browser.script("const s = document.querySelector('.scroller'); s.scrollTop = s.scrollHeight");
    browser.until("the last row", "document.querySelector('.big tbody tr[aria-rowindex=\"1001\"]') !== null");
    // Sorted the other way round the last is the first.
    browser.script("document.querySelector('.scroller').scrollTop = 0; document.querySelector('[data-column$=width] button').click(); document.querySelector('[data-column$=width] button').click()");
    browser.sees(".big tbody tr[aria-rowindex='2']", "999");

    // The graph of all is one of stages, with counts.
    server.on(&browser, "#/");
    browser.sees(".node", "1,000");
    assert_eq!(browser.script("return document.querySelectorAll('.node').length"), 1);
}
