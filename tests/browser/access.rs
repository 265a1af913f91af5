//! Without a mouse, with a screen reader, on a small screen, in the dark.

use crate::driver::{Browser, DESK, PHONE, Screen};
use crate::page::{Server, nets};
use serde_json::{Value, json};

const PLACES: [&str; 6] =
    ["#/", "#/?variant=wide", "#/table", "#/compare?rows=row/v~small,row/v~wide", "#/runs", "STEP"];

fn places(browser: &Browser) -> Vec<String> {
    let step =
        browser.until("a step", "known.study && known.study.steps.find((s) => s.stage === 'train').name");
    PLACES.iter().map(|place| place.replace("STEP", &format!("#/{}", step.as_str().unwrap()))).collect()
}

/// Texts whose contrast with what lies behind them is less than WCAG's AA asks for.
const FAINT: &str = r"
const parse = (c) => { const [r, g, b, a = 1] = c.match(/[\d.]+/g).map(Number); return c.startsWith('color(') ? [r * 255, g * 255, b * 255, a] : [r, g, b, a]; };
const over = ([r, g, b, a], [R, G, B]) => [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a)];
const light = (c) => c.map((v) => v / 255).map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)).reduce((s, v, i) => s + v * [0.2126, 0.7152, 0.0722][i], 0);
const behind = (e) => { const all = []; for (let n = e; n; n = n.parentElement) all.unshift(parse(getComputedStyle(n).backgroundColor)); return all.reduce((under, c) => over(c, under), [255, 255, 255]); };
const found = [];
const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walk.nextNode()) {
  const e = walk.currentNode.parentElement;
  if (!walk.currentNode.data.trim() || !e.checkVisibility() || e.closest('.hidden, #skip, noscript, option')) continue;
  const style = getComputedStyle(e);
  const svg = e instanceof SVGElement;
  const ground = behind(svg ? e.closest('figure') : e);
  const ink = over(parse(svg ? style.fill : style.color), ground);
  const [a, b] = [light(ink), light(ground)];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
  if (ratio < (large ? 3 : 4.5)) found.push(`${walk.currentNode.data.trim().slice(0, 40)}: ${ratio.toFixed(2)}`);
}
return found";

#[test]
fn texts_are_dark_enough_and_nothing_is_wider_than_a_small_screen() {
    let Some(browser) = Browser::start() else { return };
    let study = nets();
    let server = Server::of(&study);
    server.open(&browser, "#/");
    let places = places(&browser);
    for screen in [DESK, Screen { dark: true, ..DESK }, PHONE, Screen { dark: true, ..PHONE }] {
        browser.screen(screen);
        for place in &places {
            server.open(&browser, place);
            browser.until("something", "document.querySelector('h1') !== null");
            assert_eq!(browser.script(FAINT), json!([]), "{place}, dark: {}", screen.dark);
            let wide =
                browser.script("return document.documentElement.scrollWidth - innerWidth").as_i64().unwrap();
            assert!(wide <= 0, "{place} is {wide} pixels wider than a screen of {}", screen.width);
        }
    }
}

#[test]
fn who_wants_no_motion_gets_none() {
    let Some(browser) = Browser::start() else { return };
    let study = nets();
    let server = Server::of(&study);
    // The page may draw the graph anew at any time, so the edge is told to move in the script that counts.
    let moving = "document.querySelector('.edge').classList.add('moving'), document.getAnimations().length";
    for (still, count) in [(true, 0), (false, 1), (true, 0)] {
        browser.screen(Screen { still, ..DESK });
        server.open(&browser, "#/");
        browser.until("an edge", "document.querySelector('.edge') !== null");
        browser.until(&format!("{count} that move"), &format!("({moving}) === {count}"));
    }
}

/// All that a screen reader is told of, as the browser makes it.
fn told(browser: &Browser) -> Vec<(String, String)> {
    browser.devtools("Accessibility.enable", json!({}));
    let tree = browser.devtools("Accessibility.getFullAXTree", json!({}));
    let text = |node: &Value, key: &str| node[key]["value"].as_str().unwrap_or_default().to_string();
    let nodes = tree["nodes"].as_array().unwrap().iter().filter(|node| node["ignored"] != json!(true));
    nodes.map(|node| (text(node, "role"), text(node, "name"))).collect()
}

#[test]
fn a_screen_reader_is_told_what_everything_is() {
    let Some(browser) = Browser::start() else { return };
    let study = nets();
    let server = Server::of(&study);
    server.open(&browser, "#/");
    for place in places(&browser) {
        server.open(&browser, &place);
        let told = told(&browser);
        let count = |role: &str| told.iter().filter(|(is, _)| is == role).count();
        for landmark in ["banner", "navigation", "main"] {
            assert_eq!(count(landmark), 1, "{place}: {landmark}");
        }
        let wants_name = [
            "button",
            "link",
            "checkbox",
            "searchbox",
            "textbox",
            "combobox",
            "slider",
            "image",
            "table",
            "progressbar",
            "region",
        ];
        let nameless: Vec<_> = told
            .iter()
            .filter(|(role, name)| wants_name.contains(&role.as_str()) && name.trim().is_empty())
            .collect();
        assert!(nameless.is_empty(), "{place}: {nameless:?}");
        let ones = browser.script("return document.querySelectorAll('h1').length");
        assert_eq!(ones, 1, "{place}");
        let ids = browser.script("const ids = [...document.querySelectorAll('[id]')].map((e) => e.id); return ids.filter((id, i) => ids.indexOf(id) !== i)");
        assert_eq!(ids, json!([]), "{place}");
    }
    server.open(&browser, "#/table");
    let told = told(&browser);
    let has = |role: &str, name: &str| told.iter().any(|(is, called)| is == role && called == name);
    assert!(
        has("table", "Variants") && has("columnheader", "train.width") | has("columnheader", "width"),
        "{told:?}"
    );
    assert!(
        has("rowheader", "wide") && has("checkbox", "Mark wide") && has("searchbox", "Filter"),
        "{told:?}"
    );
}

#[test]
fn everything_is_reached_by_keys_and_the_focus_is_seen() {
    let Some(browser) = Browser::start() else { return };
    let study = nets();
    let server = Server::of(&study);
    server.open(&browser, "#/");
    let focused = || {
        browser
            .script("const e = document.activeElement; return e.id || e.getAttribute('href') || e.className")
    };
    browser.press("\u{e004}");
    assert_eq!(focused(), "skip");
    browser.press("\u{e007}");
    assert_eq!(focused(), "main");
    // Each that has the focus shows it, and none is left out.
    server.open(&browser, "#/table");
    let all = browser.script("return [...document.querySelectorAll('a[href], button, input, select, summary, [tabindex=\"0\"]')].filter((e) => e.checkVisibility()).length");
    let mut seen = Vec::new();
    for _ in 0..all.as_u64().unwrap() {
        browser.press("\u{e004}");
        let here = browser.script(
            "const e = document.activeElement; const s = getComputedStyle(e); \
             return [e.outerHTML.slice(0, 160), s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 1]",
        );
        assert_eq!(here[1], true, "the focus is not seen on {}", here[0]);
        seen.push(here[0].to_string());
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len() as u64, all.as_u64().unwrap(), "{seen:#?}");

    // From the table to a comparison without a mouse.
    browser.script("document.querySelector('input[aria-label=\"Mark small\"]').focus()");
    browser.press(" ");
    browser.script("document.querySelector('input[aria-label=\"Mark wide\"]').focus()");
    browser.press(" ");
    browser.script("document.querySelector('a.button').focus()");
    browser.press("\u{e007}");
    browser.sees("h1", "Compare small, wide");
    assert_eq!(focused(), "main", "who hears the page is taken to what is new");
}
