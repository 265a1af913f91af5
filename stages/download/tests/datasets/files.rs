//! Files of every form and of none, and what other systems leave among them.

use crate::support::{download, labels, opens, picture, png, put, refuses, rows, said};
use image::ImageFormat;
use std::os::unix::fs::symlink;
use std::process::Command;

#[test]
fn every_form_is_read_and_another_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("data");
    let forms = [
        ("0_cat/0.png", ImageFormat::Png),
        ("0_cat/1.tif", ImageFormat::Tiff),
        ("0_cat/2.gif", ImageFormat::Gif),
        ("0_cat/3.jpeg", ImageFormat::Jpeg),
        ("0_cat/4.webp", ImageFormat::WebP),
        ("1_dog/0.bmp", ImageFormat::Bmp),
        ("1_dog/1.ppm", ImageFormat::Pnm),
        // By its content, whatever it is called.
        ("1_dog/2", ImageFormat::Png),
        ("1_dog/3.png.bak", ImageFormat::Png),
        ("1_dog/4.jpg", ImageFormat::Png),
        ("2_eel/0.PNG", ImageFormat::Png),
    ];
    for (name, form) in forms {
        put(&folder.join(name), picture(1, form));
    }
    for other in ["README.md", "LICENSE", "0_cat/notes.txt"] {
        put(&folder.join(other), "about");
    }
    let output = download(dir.path(), &folder, &[]);
    assert!(
        said(&output).contains("ignored: 3 files that are no pictures (first: 0_cat/notes.txt)"),
        "{}",
        said(&output)
    );
    let taken = opens(&output, dir.path());
    assert_eq!((labels(&taken), taken.manifest().classes), (vec![0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2], 3));
    assert_eq!(taken.manifest().class_names, ["0_cat", "1_dog", "2_eel"]);
    std::fs::remove_dir_all(dir.path().join("images")).unwrap();

    // The only pictures of a class, in a form that is not read: named, or left out by number; the others keep theirs.
    std::fs::remove_dir_all(folder.join("1_dog")).unwrap();
    put(&folder.join("1_dog/0.avif"), b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf");
    put(&folder.join("1_dog/1.heic"), b"\0\0\0\x18ftypheic\0\0\0\0mif1heic");
    refuses(
        &download(dir.path(), &folder, &[]),
        dir.path(),
        "1_dog/0.avif: a picture in AVIF, which is not read; convert it",
    );
    let taken = opens(&download(dir.path(), &folder, &["--max-bad", "0.3"]), dir.path());
    assert_eq!((labels(&taken), taken.manifest().classes), (vec![0, 0, 0, 0, 0, 2], 3));
    assert_eq!(taken.manifest().bad, ["1_dog/0.avif", "1_dog/1.heic"]);
}

#[test]
fn what_was_never_fetched_says_how_to_fetch_it() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("data");
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 123\n";
    for (content, what) in [
        (pointer, "a.png: not a picture but a Git LFS pointer; `git lfs pull` fetches"),
        ("<!DOCTYPE html><html>", "a.png: not a picture but an HTML page"),
        ("", "a.png: not a picture but an empty file"),
        ("hello", "a.png: not a picture (none of PNG, JPEG, WebP, TIFF, BMP, GIF, PNM)"),
    ] {
        put(&folder.join("a.png"), content);
        refuses(&download(dir.path(), &folder, &[]), dir.path(), what);
    }
    put(&folder.join("a.png"), &png(0)[..40]);
    refuses(&download(dir.path(), &folder, &[]), dir.path(), "a.png: not a picture: ");
    std::fs::remove_file(folder.join("a.png")).unwrap();
    put(&folder.join("train.parquet"), pointer);
    refuses(
        &download(dir.path(), &folder, &[]),
        dir.path(),
        "train.parquet: no Parquet file but a Git LFS pointer",
    );
    put(&dir.path().join("other/a.zip"), "PK");
    refuses(
        &download(dir.path(), &dir.path().join("other"), &[]),
        dir.path(),
        "neither Parquet files nor pictures in it, but a.zip; unpack it",
    );
    put(&dir.path().join("saved/dataset_info.json"), "{}");
    put(&dir.path().join("saved/data-00000-of-00001.arrow"), "ARROW1");
    refuses(
        &download(dir.path(), &dir.path().join("saved"), &[]),
        dir.path(),
        "but data-00000-of-00001.arrow; `load_from_disk(…).to_parquet(…)` of `datasets` makes Parquet files",
    );
    refuses(
        &download(dir.path(), &dir.path().join("other/a.zip"), &[]),
        dir.path(),
        "neither a folder nor a Parquet file",
    );
}

#[test]
fn litter_is_passed_over_and_links_do_not_go_round() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("data");
    for name in ["ant/0.png", "bee/1.png"] {
        put(&folder.join(name), png(1));
    }
    put(&dir.path().join("outside.png"), png(2));
    for litter in [
        "ant/.ipynb_checkpoints/0-checkpoint.png",
        "ant/._0.png",
        "ant/.DS_Store",
        "bee/Thumbs.db",
        ".git/a.png",
        "__MACOSX/ant/._0.png",
        "@eaDir/0.png",
    ] {
        put(&folder.join(litter), png(3));
    }
    symlink(".", folder.join("here")).unwrap();
    symlink("../..", folder.join("ant/up")).unwrap();
    symlink("../bee/1.png", folder.join("ant/2.png")).unwrap();
    let output = download(dir.path(), &folder, &[]);
    let text = said(&output);
    assert!(text.contains("ignored: 2 hidden files or folders (first: ant/._0.png)"), "{text}");
    assert!(text.contains("ignored: 2 links to folders that hold them (first: ant/up)"), "{text}");
    let names: Vec<String> = rows(&opens(&output, dir.path())).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["ant/0.png", "ant/2.png", "bee/1.png"]);
}

#[test]
fn a_link_to_nowhere_a_fifo_and_an_empty_class_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("data");
    put(&folder.join("a/0.png"), png(1));
    symlink("nowhere.png", folder.join("a/1.png")).unwrap();
    refuses(
        &download(dir.path(), &folder, &[]),
        dir.path(),
        "a/1.png: not a picture: a link to nowhere.png, which is not there",
    );
    let taken = opens(&download(dir.path(), &folder, &["--max-bad", "0.5"]), dir.path());
    assert_eq!(
        (taken.manifest().rows, taken.manifest().bad.as_slice()),
        (1, ["a/1.png".to_string()].as_slice())
    );
    std::fs::remove_dir_all(dir.path().join("images")).unwrap();
    std::fs::remove_file(folder.join("a/1.png")).unwrap();

    symlink("/nowhere/b", folder.join("b")).unwrap();
    refuses(
        &download(dir.path(), &folder, &[]),
        dir.path(),
        "data/b: a link to /nowhere/b, which is not there",
    );
    std::fs::remove_file(folder.join("b")).unwrap();
    std::fs::create_dir(folder.join("b")).unwrap();
    refuses(&download(dir.path(), &folder, &[]), dir.path(), "no picture in b; remove it if it is no class");
    std::fs::remove_dir(folder.join("b")).unwrap();

    assert!(Command::new("mkfifo").arg(folder.join("a/2.png")).status().unwrap().success());
    refuses(&download(dir.path(), &folder, &[]), dir.path(), "a/2.png is a fifo, no file; move it away");
}
