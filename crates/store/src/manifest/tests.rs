//! Lists of folders: written, read again, and what no reader accepts.

use super::*;

#[test]
fn encoding_round_trip() {
    let file = |b| Digest { kind: Kind::File, hash: [b; 32] };
    let manifest = Manifest(vec![
        Entry { path: "a".into(), item: Item::Folder },
        Entry { path: "a/x".into(), item: Item::File(file(1), 5) },
        Entry { path: "b".into(), item: Item::Link("a/x".into()) },
    ]);
    let bytes = manifest.encode();
    assert_eq!(Manifest::decode(&bytes), Some(manifest));
    for n in 1..bytes.len() {
        // A cut either falls between entries or is noticed.
        assert!(Manifest::decode(&bytes[..n]).is_none_or(|m| m.0.len() < 3));
    }
}

fn of(entries: &[(&str, &str)]) -> Vec<u8> {
    let file = Digest { kind: Kind::File, hash: [1; 32] };
    let entry = |(path, what): &(&str, &str)| {
        let item = match *what {
            "folder" => Item::Folder,
            "file" => Item::File(file, 1),
            target => Item::Link(target.into()),
        };
        Entry { path: (*path).into(), item }
    };
    Manifest(entries.iter().map(entry).collect()).encode()
}

#[test]
fn names_that_no_folder_has_are_refused() {
    let (long, path) = ("x".repeat(256), "x/".repeat(2100) + "x");
    let names =
        ["", ".", "..", "../x", "/x", "a/", "a//b", "a/./b", "a/../b", "a\0", long.as_str(), path.as_str()];
    for name in names {
        let list = of(&[("a", "folder"), (name, "file")]);
        let alone = of(&[(name, "file")]);
        assert!(Manifest::decode(&list).is_none() && Manifest::decode(&alone).is_none(), "{name:?}");
    }
    let longest = "x".repeat(255);
    assert!(Manifest::decode(&of(&[(&longest, "file")])).is_some());
    // What lies in no folder, in a file, or in a link; twice, or out of order.
    let bad: [&[(&str, &str)]; 5] = [
        &[("a/x", "file")],
        &[("a", "file"), ("a/x", "file")],
        &[("a", "/etc"), ("a/x", "file")],
        &[("a", "file"), ("a", "file")],
        &[("b", "file"), ("a", "file")],
    ];
    for list in bad {
        assert!(Manifest::decode(&of(list)).is_none(), "{list:?}");
    }
}

#[test]
fn links_that_lead_out_are_refused_however_they_do() {
    let refused = |entries: &[(&str, &str)]| {
        let list = of(entries);
        Manifest::parse(&list, &digest_of(&list)).is_err()
    };
    for target in ["/etc/passwd", "..", "../x", "./../../x", "d/../../x", "d/up/d/up/..", "nothing/../.."] {
        assert!(refused(&[("d", "folder"), ("d/up", ".."), ("l", target)]), "{target}");
    }
    // Word by word each of these stays inside; followed, the second leads out by the first.
    assert!(refused(&[("d", "folder"), ("d/e", "folder"), ("d/e/root", "../.."), ("l", "d/e/root/..")]));
    // However much stands before it that leads nowhere.
    for idle in
        ["./".repeat(1500), "/".repeat(2), ".//".repeat(1000), "d/../".repeat(600), "d/e/../../".repeat(300)]
    {
        let out = format!("{}../x", idle.trim_start_matches('/'));
        assert!(refused(&[("d", "folder"), ("d/e", "folder"), ("l", &out)]), "{out}");
    }
    let there = format!("{}d/e", "./".repeat(1500));
    assert!(!refused(&[("d", "folder"), ("d/e", "folder"), ("l", &there)]));
    for target in ["d", "d/x", "./d/../d", "d/e/root/d", "nothing", "l"] {
        let list = [("d", "folder"), ("d/e", "folder"), ("d/e/root", "../.."), ("l", target)];
        assert!(!refused(&list), "{target}");
    }
    let wrong = of(&[("a", "file")]);
    assert!(Manifest::parse(&wrong, &digest_of(b"other")).is_err());
}

#[test]
fn links_that_go_round_are_followed_for_a_bounded_time() {
    // Each is longer with every turn; as many of them as an archive of a megabyte may have.
    let long = format!("l000/{}", "x/".repeat(900));
    let names: Vec<String> = (0..500).map(|n| format!("l{n:03}")).collect();
    let entries: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), long.as_str())).collect();
    let refusal = Manifest::parse(&of(&entries), &digest_of(&of(&entries))).unwrap_err();
    assert!(refusal.contains("over more than 1000 names"), "{refusal}");
    // A chain that the kernel follows to its end is followed here as well.
    let chain = |length: usize, end: &str| {
        let names: Vec<String> = (0..=length).map(|n| format!("c{n:02}")).collect();
        let next = |n: usize| names.get(n + 1).map_or(end, String::as_str);
        let list = of(&(0..length)
            .map(|n| (names[n].as_str(), if n + 1 == length { end } else { next(n) }))
            .collect::<Vec<_>>());
        Manifest::parse(&list, &digest_of(&list)).is_ok()
    };
    assert!(chain(40, "x") && !chain(40, "../x") && !chain(90, "../x"));
}

#[test]
fn no_bytes_make_a_reader_panic() {
    let mut state: u64 = 1 << 40;
    let mut random = || {
        state += 1;
        let hash = blake3::hash(&state.to_le_bytes());
        usize::from_le_bytes(hash.as_bytes()[..8].try_into().unwrap())
    };
    for _ in 0..20_000 {
        let length = random() % 60;
        let bytes: Vec<u8> = (0..length).map(|_| b"dfxl\0\x01$/{}.ai'\\ "[random() % 16]).collect();
        if let Some(manifest) = Manifest::decode(&bytes) {
            assert_eq!(manifest.encode(), bytes);
        }
        let _ = String::from_utf8_lossy(&bytes).parse::<Digest>();
    }
}
