//! The files of the page, inside the executable.

/// Name, content type, and content of each.
pub const ASSETS: &[(&str, &str, &[u8])] = &[
    ("index.html", "text/html; charset=utf-8", include_bytes!("assets/index.html")),
    ("style.css", "text/css; charset=utf-8", include_bytes!("assets/style.css")),
    ("ui.js", "text/javascript; charset=utf-8", include_bytes!("assets/ui.js")),
];
