//! What is in outputs, whatever kind they are of: opened on the page, and shown as what they are.

use crate::driver::Browser;
use crate::page::Server;
use crate::study::Study;
use serde_json::{Value, json};
use std::path::Path;

/// Each output is one of the files of `files`, of the same name.
const NAMES: [&str; 8] = [
    "rows.parquet",
    "pictures.npz",
    "log.jsonl",
    "page.html",
    "picture.png",
    "moving.gif",
    "scores.json",
    "words.txt",
];

/// Pictures of one red pixel.
const PNG: [u8; 69] = [
    137, 80, 78, 71, 13, 10, 26, 10, 0, 0, 0, 13, 73, 72, 68, 82, 0, 0, 0, 1, 0, 0, 0, 1, 8, 2, 0, 0, 0, 144,
    119, 83, 222, 0, 0, 0, 12, 73, 68, 65, 84, 120, 156, 99, 248, 207, 192, 0, 0, 3, 1, 1, 0, 201, 254, 146,
    239, 0, 0, 0, 0, 73, 69, 78, 68, 174, 66, 96, 130,
];
const GIF: &[u8] =
    b"GIF89a\x01\0\x01\0\x80\0\0\xff\0\0\0\0\0!\xf9\x04\0\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;";

fn study() -> Study {
    let id = |name: &str| name.replace('.', "-");
    let copies: Vec<String> =
        NAMES.iter().map(|name| format!("cp ${{inputs.files}}/{name} ${{outputs.{}}}", id(name))).collect();
    let outputs: Vec<String> = NAMES.iter().map(|name| format!("{}: {name}", id(name))).collect();
    let study = Study::new(&format!(
        "name: kinds\nstages:\n  all:\n    shell: |\n      {}\n    inputs: {{files: files}}\n    outputs: {{{}}}\n",
        copies.join("\n      "),
        outputs.join(", ")
    ));
    let digits = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/digits/train-00000-of-00002.parquet");
    study.write(
        "files/page.html",
        "<!doctype html><title>t</title><p>a page</p><script>parent.document.title = 'taken'</script>",
    );
    std::fs::copy(digits, study.path("files/rows.parquet")).unwrap();
    std::fs::write(study.path("files/picture.png"), PNG).unwrap();
    std::fs::write(study.path("files/moving.gif"), GIF).unwrap();
    study.write("files/scores.json", "{\"fid\": 3.5, \"of\": {\"classes\": [1, 2]}}\n");
    study.write("files/words.txt", "words & <b>signs</b>\n");
    study.write("files/log.jsonl", "{\"step\":1,\"loss\":4}\n{\"step\":2,\"loss\":1}\n");
    // Three pictures of 2×4 pixels: red, green, blue.
    let mut archive = npz::Writer::create(&study.path("files/pictures.npz")).unwrap();
    archive.start("arr_0", "|u1", &[3, 2, 4, 3]).unwrap();
    for colour in [[255, 0, 0], [0, 255, 0], [0, 0, 255]] {
        archive.values(&colour.repeat(8)).unwrap();
    }
    archive.integers("arr_1", &[7, 8, 9]).unwrap();
    archive.finish().unwrap();
    study.run(&[]);
    study
}

/// The colour of the first pixel of a picture on the page.
fn colour(browser: &Browser, picture: &str) -> Value {
    let whole = format!("{picture}?.complete && {picture}.naturalWidth > 0");
    browser.until("a picture", &whole);
    browser.script(&format!(
        "const c = document.createElement('canvas'); [c.width, c.height] = [1, 1]; const x = c.getContext('2d'); x.drawImage({picture}, 0, 0); \
         return [...x.getImageData(0, 0, 1, 1).data].slice(0, 3)"
    ))
}

#[test]
fn each_kind_is_shown_as_what_it_is() {
    let Some(browser) = Browser::start() else { return };
    let study = study();
    let server = Server::of(&study);
    server.open(&browser, "#/step/all");
    // Each is read when it is opened, and not before.
    let holder = |name: &str| {
        let id = name.replace('.', "-");
        let found = format!(
            "[...document.querySelectorAll('details.content')].find((d) => d.dataset.keep === '{id}')"
        );
        browser.until(&id, &format!("{found} !== undefined"));
        assert_eq!(browser.script(&format!("return {found}.querySelector('.inside').childNodes.length")), 0);
        browser.script(&format!("{found}.querySelector('summary').click()"));
        browser
            .until("what is in it", &format!("/[^…]$/.test({found}.querySelector('.inside').textContent)"));
        format!("{found}.querySelector('.inside')")
    };
    let cells = |holder: &str, caption: &str| {
        browser.script(&format!(
            "const t = [...{holder}.querySelectorAll('table')].find((t) => t.caption.textContent === '{caption}'); \
             return [...t.rows].map((r) => [...r.cells].map((c) => c.textContent))"
        ))
    };

    let parquet = holder("rows.parquet");
    let columns = cells(&parquet, "Columns");
    assert_eq!((&columns[1][0], &columns[2]), (&json!("image"), &json!(["label", "int64, may be missing"])));
    assert!(
        columns[1][1].as_str().unwrap().starts_with("[bytes: bytes, may be missing, path: text"),
        "{columns}"
    );
    let rows = cells(&parquet, "First rows");
    assert_eq!((rows.as_array().unwrap().len(), &rows[0][0]), (21, &json!("row")));
    assert_eq!(rows[0].as_array().unwrap().last(), Some(&json!("label")));
    let labels: Vec<i64> = rows.as_array().unwrap()[1..]
        .iter()
        .map(|row| row[row.as_array().unwrap().len() - 1].as_str().unwrap().parse().unwrap())
        .collect();
    assert!(
        labels.iter().all(|label| (0..10).contains(label)) && labels.iter().any(|label| *label > 0),
        "{labels:?}"
    );
    let text = browser.script(&format!("return {parquet}.textContent"));
    assert!(text.as_str().unwrap().contains("900 rows in"), "{text}");

    let npz = holder("pictures.npz");
    assert_eq!(
        cells(&npz, "Arrays").as_array().unwrap()[1..],
        [json!(["arr_0", "3 × 2 × 4 × 3", "uint8"]), json!(["arr_1", "3", "int64"])]
    );
    let sheet = format!("{npz}.querySelector('img:not(.one)')");
    browser.script(&format!("{sheet}.loading = 'eager'"));
    assert_eq!(colour(&browser, &sheet), json!([255, 0, 0]));
    assert_eq!(
        browser.script(&format!("return [{sheet}.naturalWidth, {sheet}.naturalHeight]")),
        json!([12, 2])
    );
    browser.script(&format!("const n = {npz}.querySelector('input[type=number]'); n.value = '2'; n.dispatchEvent(new Event('input'))"));
    assert_eq!(colour(&browser, &format!("{npz}.querySelector('img.one')")), json!([0, 0, 255]));

    let log = holder("log.jsonl");
    browser.until("its curve", &format!("{log}.querySelectorAll('figure.curves .curve').length === 1"));
    assert_eq!(cells(&log, "Lines"), json!([["", "step", "loss"], ["1", "1", "4"], ["2", "2", "1"]]));

    let page = holder("page.html");
    let frame = format!("{page}.querySelector('iframe')");
    assert_eq!(browser.script(&format!("return {frame}.getAttribute('sandbox')")), "");
    browser.script(&format!("{frame}.loading = 'eager'; {frame}.scrollIntoView()"));
    let inside =
        format!("(() => {{ try {{ return {frame}.contentDocument === null }} catch {{ return true }} }})()");
    browser.until("the frame is a world of its own", &inside);
    assert_ne!(browser.script("return document.title"), "taken");

    for name in ["picture.png", "moving.gif"] {
        let picture = format!("{}.querySelector('img')", holder(name));
        assert_eq!(colour(&browser, &picture), json!([255, 0, 0]), "{name}");
    }
    let scores = holder("scores.json");
    let tree = browser.script(&format!("return {scores}.querySelector('.tree').textContent"));
    assert!(tree.as_str().unwrap().contains("fid: 3.5"), "{tree}");
    let words = holder("words.txt");
    assert_eq!(
        browser.script(&format!("return {words}.querySelector('pre').textContent")),
        "words & <b>signs</b>\n"
    );
    // What the page was kept from is of the frame alone.
    for complaint in browser.complaints() {
        assert!(complaint.contains("/raw/") || complaint.contains("sandbox"), "{complaint}");
    }
}
