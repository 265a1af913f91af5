//! The page's files, in the executable: name, content type, bytes.

/// Every file that the page asks for, by the name that it asks for.
pub const ASSETS: &[(&str, &str, &[u8])] = &[
    ("index.html", "text/html; charset=utf-8", include_bytes!("assets/index.html")),
    ("style.css", "text/css; charset=utf-8", include_bytes!("assets/style.css")),
    ("icon.svg", "image/svg+xml", include_bytes!("assets/icon.svg")),
    ("base.js", SCRIPT, include_bytes!("assets/base.js")),
    ("data.js", SCRIPT, include_bytes!("assets/data.js")),
    ("curves.js", SCRIPT, include_bytes!("assets/curves.js")),
    ("graph.js", SCRIPT, include_bytes!("assets/graph.js")),
    ("table.js", SCRIPT, include_bytes!("assets/table.js")),
    ("log.js", SCRIPT, include_bytes!("assets/log.js")),
    ("compare.js", SCRIPT, include_bytes!("assets/compare.js")),
    ("content.js", SCRIPT, include_bytes!("assets/content.js")),
    ("stage.js", SCRIPT, include_bytes!("assets/stage.js")),
    ("app.js", SCRIPT, include_bytes!("assets/app.js")),
];

const SCRIPT: &str = "text/javascript; charset=utf-8";
