//! Words and numbers for people.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

/// `1.5 GiB`.
pub fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let power = (bytes.max(1).ilog2() / 10).min(4);
    match power {
        0 => format!("{bytes} B"),
        _ => format!("{:.1} {}", bytes as f64 / f64::from(power * 10).exp2(), units[power as usize]),
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

/// Columns, each as wide as its widest cell.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|s| s.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
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

/// The last line of a log that says anything.
pub fn last_line(log: &PathBuf) -> Option<String> {
    let mut file = File::open(log).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(2000))).ok()?;
    let mut bytes = Vec::new();
    file.take(2000).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().rev().find(|l| !l.trim().is_empty())?;
    Some(line.chars().filter(|c| !c.is_control()).take(200).collect())
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
    fn a_shown_line_can_be_typed() {
        let words = ["sh", "-c", "echo 'a'", "", "x=1"].map(String::from);
        assert_eq!(shown(&words), r"sh -c 'echo '\''a'\''' '' x=1");
    }
}
