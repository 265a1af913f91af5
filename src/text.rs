//! Words and numbers for people.

use jiff::Timestamp;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use study::hidden;

/// `1.5 GiB`.
pub fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let power = (bytes.max(1).ilog2() / 10).min(4);
    match power {
        0 => format!("{bytes} B"),
        _ => format!("{:.1} {}", bytes as f64 / f64::from(power * 10).exp2(), units[power as usize]),
    }
}

/// `1 file`, `2 files`, `2,000 entries`: a number with the noun that it counts.
pub fn counted(n: usize, noun: &str) -> String {
    match (n, noun.strip_suffix('y')) {
        (1, _) => format!("1 {noun}"),
        (n, Some(stem)) => format!("{n} {stem}ies"),
        (n, None) => format!("{n} {noun}s"),
    }
}

/// Four significant digits.
pub fn significant(x: f64) -> String {
    if x == 0.0 || !x.is_finite() || (x.fract() == 0.0 && x.abs() < 1e7) {
        return format!("{x}");
    }
    let digits = 3 - x.abs().log10().floor() as i32;
    if !(0..=6).contains(&digits) {
        return format!("{x:.3e}");
    }
    format!("{x:.*}", digits as usize)
}

/// `1.2 s`, `3 min 20 s`, `2 h 5 min`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        _ if seconds < 0.01 => "0 s".into(),
        _ if seconds < 10.0 => format!("{seconds:.2} s"),
        0..60 => format!("{seconds:.0} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

/// Seconds since 1970 as a day, in UTC.
pub fn day(seconds: u64) -> String {
    date(seconds, "%F")
}

/// The same with the minute.
pub fn day_and_time(seconds: u64) -> String {
    date(seconds, "%F %H:%M")
}

fn date(seconds: u64, form: &str) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map(|time| time.strftime(form).to_string()).unwrap_or_default()
}

/// Columns, each as wide as its widest cell.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|s| s.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        // Not by the width of a format, which ends at 65,535.
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell}{}", " ".repeat(width - cell.chars().count())));
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A text in which control characters are shown and not obeyed, but for line ends and tabs.
pub fn visible(text: &str) -> Cow<'_, str> {
    let obeyed = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(obeyed) {
        return text.into();
    }
    text.chars().map(|c| if obeyed(c) { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// A text as people may read it: control characters are shown and not obeyed, and credentials in URLs are hidden.
pub fn safe(text: &str) -> String {
    visible(&hidden(text)).into_owned()
}

/// The same on one line.
pub fn safe_line(text: &str) -> String {
    safe(text.trim_end()).replace('\n', "\\n")
}

/// A command line as a person would type it.
pub fn shown(words: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    let quoted = words.iter().map(|word| match word {
        w if !w.is_empty() && w.chars().all(plain) => w.clone(),
        w => format!("'{}'", w.replace('\'', r"'\''")),
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// The same for reading alone: of a word with several lines, as a script is, the first that says something.
pub fn shown_briefly(words: &[String]) -> String {
    let first = |word: &String| {
        let mut lines = word.lines().filter(|line| !line.trim().is_empty());
        match (lines.next(), lines.next()) {
            (Some(first), Some(_)) => format!("{} …", first.trim_end()),
            _ => word.clone(),
        }
    };
    shown(&words.iter().map(first).collect::<Vec<_>>())
}

/// The last line of a log that says anything.
pub fn last_line(log: &PathBuf) -> Option<String> {
    let mut file = File::open(log).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(2000))).ok()?;
    let mut bytes = Vec::new();
    file.take(2000).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    // A bar is written over and over in one line, each time from its beginning.
    let line = text.split(['\n', '\r']).rev().map(uncoloured).find(|l| !l.trim().is_empty())?;
    Some(line.chars().take(200).collect())
}

/// What a program said that it ran with: `device cpu, libtorch 2.9.0`.
pub fn with(reported: &BTreeMap<String, String>) -> String {
    let words: Vec<String> = reported.iter().map(|(name, value)| format!("{name} {value}")).collect();
    words.join(", ")
}

/// The last lines of a log that say something, at most so many.
pub fn last_lines(log: &Path, most: usize) -> Vec<String> {
    let read = File::open(log).and_then(|mut file| {
        let from = file.metadata()?.len().saturating_sub(8 << 10);
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(8 << 10).read_to_end(&mut bytes)?;
        Ok(bytes)
    });
    let text = read.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let shown =
        |line: &str| uncoloured(line.rsplit('\r').find(|part| !part.trim().is_empty()).unwrap_or_default());
    let lines = text.lines().rev().map(shown).filter(|line| !line.trim().is_empty()).take(most);
    let mut lines: Vec<String> = lines.map(|line| line.chars().take(500).collect()).collect();
    lines.reverse();
    lines
}

/// A line without its control characters and the escape sequences of colours and cursors.
fn uncoloured(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' && chars.next() == Some('[') {
            // Up to the letter that ends it.
            let _ = chars.by_ref().find(|c| ('@'..='~').contains(c));
        } else if !c.is_control() {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!([0.25, 12.3456, 0.000012, 7.0].map(significant), ["0.2500", "12.35", "1.200e-5", "7"]);
        assert_eq!(
            [0.001, 1.234, 59.4, 200.0, 7500.0].map(duration),
            ["0 s", "1.23 s", "59 s", "3 min 20 s", "2 h 5 min"]
        );
    }

    #[test]
    fn the_last_line_is_what_a_bar_says_now() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let told = |text: &str| {
            std::fs::write(&path, text).unwrap();
            last_line(&path)
        };
        assert_eq!(told("start\n\r  1/60\r  2/60\r\u{1b}[32m  3/60\u{1b}[0m").as_deref(), Some("  3/60"));
        assert_eq!(told("1/60\r2/60\r\n\r").as_deref(), Some("2/60"));
        assert_eq!(told(""), None);
    }

    #[test]
    fn a_table_takes_cells_of_any_width() {
        let wide = "x".repeat(70_000);
        let rows = [vec![wide.clone(), "a".into()], vec!["y".into(), "b".into()]];
        assert_eq!(table(&rows).lines().map(str::len).collect::<Vec<_>>(), [70_003, 70_003]);
    }

    #[test]
    fn escape_sequences_are_shown() {
        assert_eq!(visible("a\u{1b}[2Jb\tc\n"), "a\\u{1b}[2Jb\tc\n");
    }

    #[test]
    fn a_shown_line_can_be_typed() {
        let words = ["sh", "-c", "echo 'a'", "", "x=1"].map(String::from);
        assert_eq!(shown(&words), r"sh -c 'echo '\''a'\''' '' x=1");
    }
}
