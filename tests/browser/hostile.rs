//! Names, logs and outputs are anybody's: they stay text.

use crate::driver::Browser;
use crate::page::Server;
use crate::study::Study;

const EVIL: &str = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>";

fn study() -> Study {
    let study = Study::new(
        "name: hostile\nstages:\n  evil:\n    command: ./evil ${params.text} ${outputs.page} ${outputs.words} ${outputs.data}\n    \
         params: {text: \"<svg onload=document.title='taken'>\"}\n    outputs: {page: page.html, words: words.txt, data: data.json}\n    show: [data]\n",
    );
    study.program(
        "evil",
        &format!(
            "#!/bin/sh\ncat <<'E'\n{EVIL}\nE\nprintf 'red \\033[31mtext\\033[0m \\033]0;title\\007 over\\rwritten\\n'\n\
             printf 'user \\342\\200\\256gnp.exe \\342\\201\\246 end\\n'\n\
             cat > \"$2\" <<'E'\n<!doctype html><title>t</title><p id=p>a page</p><script>document.getElementById('p').textContent = 'taken'; parent.document.title = 'taken'</script>\nE\n\
             cat > \"$3\" <<'E'\n{EVIL}\nE\necho '{{\"<b>key</b>\": \"<i>value</i>\", \"n\": 1}}' > \"$4\"\n",
        ),
    );
    study
}

#[test]
fn they_stay_text() {
    let Some(browser) = Browser::start() else { return };
    let study = study();
    study.run(&["--note", EVIL]);
    let server = Server::of(&study);
    for place in
        ["#/", "#/table", "#/runs", "#/step/evil", "#/compare?rows=row/v~", "#/nothing/%3Cimg%20src=x%3E"]
    {
        server.open(&browser, place);
        let title = browser.script("return document.title");
        assert_ne!(title, "taken", "{place}");
        let made = browser.script("return document.querySelectorAll('main script, main img[onerror], header script, main [onload]').length");
        assert_eq!(made, 0, "{place}");
    }
    server.open(&browser, "#/runs");
    browser.sees(".big td", EVIL);

    server.open(&browser, "#/step/evil");
    browser.sees("pre.log", EVIL);
    // Escape sequences are shown, not obeyed; what turns the direction of what follows, too.
    browser.sees("pre.log", "\\u{1b}[31mtext\\u{1b}[0m \\u{1b}]0;title\\u{7} over");
    browser.sees("pre.log", "user \\u{202e}gnp.exe \\u{2066} end");
    browser.sees(".command", "<svg onload=document.title=");

    browser.until(
        "its outputs",
        "document.querySelectorAll('section[aria-labelledby=h-outputs] details.content').length === 3",
    );
    browser.script("document.querySelectorAll('details.content').forEach((d) => { d.open = true })");
    browser.sees("details.content pre", EVIL);
    browser.sees(".tree", "<b>key</b>");
    // A page among the outputs is in a frame that may do nothing.
    browser.until("the frame", "document.querySelector('iframe[sandbox=\"\"]') !== null");
    assert_eq!(browser.script("return document.querySelector('iframe').getAttribute('sandbox')"), "");
    browser.script("document.querySelector('iframe').scrollIntoView()");
    let frame = "(() => { const f = document.querySelector('iframe'); try { return f.contentDocument === null ? 'apart' : 'within reach' } catch { return 'apart' } })()";
    browser.until("the frame is a world of its own", &format!("{frame} === 'apart'"));
    assert_ne!(browser.script("return document.title"), "taken");

    // Each thing that was blocked is told by the browser; nothing of it is of the page itself.
    for complaint in browser.complaints() {
        assert!(complaint.contains("/raw/") || complaint.contains("sandbox"), "{complaint}");
    }
}
