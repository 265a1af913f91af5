//! `pipeline clusters`.

use super::output::{print, print_json};
use crate::cli::Global;
use crate::error::Result;
use serde_json::json;
use std::path::Path;
use study::Mark;
use study::clusters::presets::{self, Preset};

/// Lists the presets for `engine: cluster`, or prints one as its file has it, to be copied and changed.
pub fn clusters(global: &Global, name: Option<&str>) -> Result<()> {
    if let Some(name) = name {
        let mark = Mark { file: "clusters".into(), line: 0 };
        let found = presets::find(name, Path::new("."), &mark)?.text;
        // An empty file of one's own is what a shell has just made for what is printed here.
        let text = presets::shipped(name).filter(|_| found.trim().is_empty());
        return print(text.unwrap_or(&found));
    }
    let all = presets::all();
    if global.json {
        let rows = all
            .iter()
            .map(|preset| json!({ "name": preset.name, "about": about(preset), "file": preset.file }));
        return print_json(&rows.collect::<Vec<_>>());
    }
    let width = all.iter().map(|preset| preset.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for preset in &all {
        let own = preset.file.as_ref().map(|file| format!(" ({})", file.display())).unwrap_or_default();
        text += &format!("{:width$}  {}{own}\n", preset.name, about(preset));
    }
    if let Some(folder) = presets::folder() {
        text += &format!("your own: files NAME.yaml in {}\n", folder.display());
    }
    print(&text)
}

/// What it is, or what is wrong with it.
fn about(preset: &Preset) -> String {
    if let Some(wrong) = &preset.wrong {
        return format!("cannot be read: {wrong}");
    }
    match preset.keys() {
        Ok(keys) => keys.about.map_or_else(String::new, |about| about.value),
        Err(e) => format!("cannot be read: {e}"),
    }
}
