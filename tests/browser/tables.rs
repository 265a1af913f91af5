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

/// A study of so many variants.
fn many(count: usize) -> String {
    let list: Vec<String> = (0..count).map(|i| i.to_string()).collect();
    format!(
        "name: many\nmatrix: {{score.width: [{}]}}\nstages:\n  score:\n    shell: echo ${{params.width}} > ${{outputs.n}}\n    \
         params: {{width: 0}}\n    outputs: [n]\n",
        list.join(", ")
    )
}

#[test]
fn of_a_thousand_rows_only_those_that_are_seen_are_made() {
    let Some(browser) = Browser::start() else { return };
    let study = Study::new(&many(1000));
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
    // One who scrolls while a change is read stays there: the end of the answer waits until the scrolling is done.
    browser.script(
        "window.real = window.fetch; window.held = []; document.querySelector('.scroller').scrollTop = 0; \
         window.fetch = async (...a) => { const answer = await window.real(...a); if (String(a[0]).endsWith('/table')) \
         await new Promise((go) => window.held.push(go)); return answer; }",
    );
    std::fs::write(study.path("pipeline.yaml"), many(1001)).unwrap();
    browser.until("the change is read", "window.held.length > 0");
    browser.script("document.querySelector('.scroller').scrollTop = 4000; window.fetch = window.real; window.held.forEach((go) => go())");
    browser.sees(".count", "1,001 rows");
    browser.until("the place", "document.querySelector('.scroller').scrollTop === 4000");
    // Sorted the other way round the last is the first.
    browser.script("document.querySelector('.scroller').scrollTop = 0; document.querySelector('[data-column$=width] button').click(); document.querySelector('[data-column$=width] button').click()");
    browser.sees(".big tbody tr[aria-rowindex='2']", "1000");

    // The graph of all is one of stages, with counts.
    server.on(&browser, "#/");
    browser.sees(".node", "1,001");
    assert_eq!(browser.script("return document.querySelectorAll('.node').length"), 1);
}

#[test]
fn what_a_person_typed_opened_and_holds_stays_as_the_table_changes() {
    let Some(browser) = Browser::start() else { return };
    let study = Study::new(&many(30));
    let server = Server::of(&study);
    server.open(&browser, "#/table");
    browser.sees(".count", "30 rows");
    browser.types("#filter", "width<10");
    browser.click("input[aria-label='Mark 7']");
    browser.click(".menu summary");
    browser.script(
        "const filter = document.getElementById('filter'); filter.focus(); filter.setSelectionRange(2, 5); \
         window.before = { filter, row: document.querySelector('.big tbody tr.marked'), head: document.querySelector('.big thead th button') }",
    );
    std::fs::write(study.path("pipeline.yaml"), many(31)).unwrap();
    browser.sees(".count", "10 of 31 rows");
    let stays = browser.script(
        "const filter = document.getElementById('filter'); return [filter === before.filter, document.activeElement === filter, \
         filter.selectionStart, filter.selectionEnd, document.querySelector('.big tbody tr.marked') === before.row, \
         document.querySelector('.big thead th button') === before.head, document.querySelector('.menu').open]",
    );
    assert_eq!(stays, serde_json::json!([true, true, 2, 5, true, true, true]));
    assert_eq!(browser.texts("a.button"), ["Compare 1"]);
    assert!(browser.complaints().is_empty(), "{:?}", browser.complaints());
}

#[test]
fn what_changes_while_the_page_is_read_is_not_missed() {
    let Some(browser) = Browser::start() else { return };
    let study = Study::new(&many(3));
    let server = Server::of(&study);
    // Each first answer is held until it is let go.
    let held = "window.held = {}; const real = window.fetch; window.fetch = async (...a) => { const answer = await real(...a); \
                const name = String(a[0]); if (!(name in window.held)) await new Promise((go) => { window.held[name] = go; }); return answer; }";
    browser.devtools("Page.addScriptToEvaluateOnNewDocument", serde_json::json!({"source": held}));
    server.begin(&browser, "#/table");
    browser.until("the study is held", "'api/study' in window.held && known.connected === 'live'");
    // The file is another one, and the page was told so, before the answer of before is there.
    browser.script("window.own = new EventSource('events'); own.addEventListener('study', () => { window.heard = true; })");
    browser.until("a second listener", "own.readyState === 1");
    std::fs::write(study.path("pipeline.yaml"), many(4)).unwrap();
    browser.until("it is told", "window.heard");
    browser.script("own.close(); window.held['api/study']()");
    browser.until("the study as it is now", "known.study?.variants.length === 4");
    // The same with the answer about the table.
    browser.until("the table is held", "'api/table' in window.held");
    std::fs::write(study.path("pipeline.yaml"), many(5)).unwrap();
    browser.until("the change is known", "known.study.variants.length === 5");
    browser.script("window.held['api/table']()");
    browser.sees(".count", "5 rows");
    browser.sees("#study", "many");
}
