//! Names of what the page asks for: parts of an address that need no escape, no two alike.

/// So much of a long name is kept.
const LONGEST: usize = 80;

/// A name in letters, digits and `.-_~` only. One that had others, or was long, ends with a digest of the whole.
pub fn slug(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    // `train@dit-s` is what most steps of variants are called.
    let simple = name.replacen('@', "~", 1);
    let fits = !name.contains('~') && simple.len() <= LONGEST && !simple.starts_with('.');
    if fits && simple.chars().all(|c| plain(c) || c == '~') {
        return simple;
    }
    let kept: String = simple.chars().map(|c| if plain(c) { c } else { '_' }).take(LONGEST).collect();
    format!("_{kept}~~{}", &blake3::hash(name.as_bytes()).to_hex()[..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_names_are_alike_and_none_leads_elsewhere() {
        let names = [
            "",
            "train",
            "train@dit-s",
            "train~dit-s",
            "a@b@c",
            "../x",
            ".",
            "..",
            "a/b",
            "a_b",
            "a b",
            "<b>",
            "score[1]",
            "\u{e9}",
            &"x".repeat(200),
            &"x".repeat(201),
        ];
        let slugs: Vec<String> = names.iter().map(|name| slug(name)).collect();
        for (i, one) in slugs.iter().enumerate() {
            assert!(one.chars().all(|c| c.is_ascii_alphanumeric() || "-_.~".contains(c)), "{one}");
            assert!(!one.starts_with('.') && !one.contains('/'), "{one}");
            assert!(!slugs[..i].contains(one), "{one}");
        }
        assert_eq!(slugs[2], "train~dit-s");
    }
}
