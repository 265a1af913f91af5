//! What nobody may read: credentials that stand in URLs.

use std::borrow::Cow;

/// What stands in their place.
const HIDDEN: &str = "***";
/// Schemes whose users are accounts that everybody has (`ssh://git@host`); there only a password is hidden.
const PLAIN_USERS: [&str; 4] = ["ssh", "git+ssh", "sftp", "rsync"];
/// What a signed or private address carries after its `?`, in lower case.
const SECRETS: [&str; 19] = [
    "access_token",
    "api_key",
    "apikey",
    "api-key",
    "auth",
    "authorization",
    "awsaccesskeyid",
    "client_secret",
    "passwd",
    "password",
    "secret",
    "sig",
    "signature",
    "token",
    "x-amz-credential",
    "x-amz-security-token",
    "x-amz-signature",
    "x-goog-credential",
    "x-goog-signature",
];

/// A text with `***` in the place of what authorises somebody in its URLs: `user:password@`, and values such as those of
/// `?token=`.
pub fn hidden(text: &str) -> Cow<'_, str> {
    if !text.contains("://") {
        return text.into();
    }
    let shown = signatures(&users(text));
    if shown == text { text.into() } else { shown.into() }
}

/// A text without the users of its URLs.
fn users(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + "://".len());
        let scheme = before[..at].rsplit(|c: char| !c.is_ascii_alphanumeric() && !"+.-".contains(c)).next();
        let end = after.find(|c| ends(c) || "/?#".contains(c)).unwrap_or(after.len());
        let (host, next) = after.split_at(end);
        shown += before;
        shown += &authority(scheme.unwrap_or_default(), host);
        rest = next;
    }
    shown + rest
}

/// A text without the values in its URLs by which somebody is let in.
fn signatures(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['?', '&']) {
        let (before, after) = rest.split_at(at + 1);
        shown += before;
        rest = after;
        let end = after.find(|c| ends(c) || "&#".contains(c)).unwrap_or(after.len());
        let Some((name, value)) = after[..end].split_once('=') else { continue };
        if !value.is_empty() && SECRETS.contains(&&*name.to_ascii_lowercase()) {
            shown += &format!("{name}={HIDDEN}");
            rest = &after[end..];
        }
    }
    shown + rest
}

/// Whether a URL in a text is over: what has to be escaped in one.
fn ends(c: char) -> bool {
    c.is_whitespace() || c.is_control() || "\"'`<>\\{}|".contains(c)
}

fn authority(scheme: &str, text: &str) -> String {
    let Some((user, host)) = text.rsplit_once('@') else { return text.into() };
    match user.split_once(':') {
        None if PLAIN_USERS.contains(&scheme.to_ascii_lowercase().as_str()) => text.into(),
        _ => format!("{HIDDEN}@{host}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_hidden_and_nothing_else() {
        let same = [
            "plain text a@b.c user:pass@host",
            "https://host/path?x=1&y=token#a",
            "s3://bucket/key",
            "ssh://git@host/repository",
            "https://host/@scope/package",
            "https://host/?token=",
            "see https://a, https://b/c@d",
            "://",
            "https://***@host/",
        ];
        for text in same {
            assert_eq!(hidden(text), text);
        }
        let pairs = [
            ("https://user:pa@ss@host/x", "https://***@host/x"),
            ("git clone https://TOKEN@host/x y", "git clone https://***@host/x y"),
            ("\"http://u:p@h\" and 'ftp://u:p@h:21/'", "\"http://***@h\" and 'ftp://***@h:21/'"),
            ("ssh://git:p@host/", "ssh://***@host/"),
            ("https://h/x?a=1&Token=abc&b=2#f", "https://h/x?a=1&Token=***&b=2#f"),
            ("https://h/x?X-Amz-Signature=00ff", "https://h/x?X-Amz-Signature=***"),
            ("https://a/b,https://u:p@c/d", "https://a/b,https://***@c/d"),
            (
                "https://proxy/https://u:p@c/d?to=https://u:p@e",
                "https://proxy/https://***@c/d?to=https://***@e",
            ),
            ("x=postgres://u:\u{e9}@h/", "x=postgres://***@h/"),
        ];
        for (text, expected) in pairs {
            assert_eq!(hidden(text), expected);
            assert_eq!(hidden(expected), expected, "twice is once");
        }
    }
}
