//! What a picture may cost before it is refused.

use crate::support::{download, opens, png, put, refuses};
use std::path::Path;
use std::process::{Command, Output};

/// A chunk of a PNG file.
fn chunk(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let mut checked = kind.to_vec();
    checked.extend(content);
    let mut crc = u32::MAX;
    for byte in &checked {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    [&(content.len() as u32).to_be_bytes()[..], &checked, &(!crc).to_be_bytes()].concat()
}

/// A stream of zlib of so many megabytes of nothing, in stored copies of a deflated block.
fn zlib_bomb(megabytes: usize) -> Vec<u8> {
    use std::io::Write as _;
    let mut out = Vec::new();
    let mut encoder = flate2::write::ZlibEncoder::new(&mut out, flate2::Compression::best());
    let megabyte = vec![0; 1 << 20];
    (0..megabytes).for_each(|_| encoder.write_all(&megabyte).unwrap());
    encoder.finish().unwrap();
    out
}

/// The program where it may take so many kilobytes of memory.
fn bounded(dir: &Path, kilobytes: usize) -> Output {
    let program = env!("CARGO_BIN_EXE_download");
    let line = format!("ulimit -v {kilobytes}; exec {program} --folder data --images images");
    Command::new("sh").current_dir(dir).args(["-c", &line]).env("RAYON_NUM_THREADS", "1").output().unwrap()
}

#[test]
fn a_profile_that_unfolds_to_gigabytes_costs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let whole = png(1);
    let profile = [b"icc\0\0".as_slice(), &zlib_bomb(2000)].concat();
    // Behind the header.
    let bomb = [&whole[..33], &chunk(b"iCCP", &profile), &whole[33..]].concat();
    assert!(bomb.len() < 4 << 20);
    put(&dir.path().join("data/0.png"), bomb);
    let taken = opens(&bounded(dir.path(), 700_000), dir.path());
    assert_eq!(taken.manifest().rows, 1);
}

#[test]
fn a_picture_of_too_many_pixels_is_refused_before_memory_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let header = |width: u32, height: u32| {
        [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 2, 0, 0, 0]].concat()
    };
    let huge = [
        b"\x89PNG\r\n\x1a\n".as_slice(),
        &chunk(b"IHDR", &header(30_000, 30_000)),
        &chunk(b"IDAT", &zlib_bomb(1)),
        &chunk(b"IEND", b""),
    ];
    put(&dir.path().join("data/0.png"), huge.concat());
    refuses(
        &bounded(dir.path(), 700_000),
        dir.path(),
        "0.png: not a picture: 30000 × 30000 pixels, more than the 89478485",
    );
    let long = [
        b"\x89PNG\r\n\x1a\n".as_slice(),
        &chunk(b"IHDR", &header(100_000, 1)),
        &chunk(b"IDAT", &zlib_bomb(1)),
        &chunk(b"IEND", b""),
    ];
    put(&dir.path().join("data/0.png"), long.concat());
    refuses(
        &download(dir.path(), Path::new("data"), &[]),
        dir.path(),
        "0.png: not a picture: 100000 × 1 pixels",
    );
    let mut gif = b"GIF89a".to_vec();
    gif.extend([0xff, 0xff, 0xff, 0xff, 0, 0, 0]);
    gif.extend([0x2c, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 2, 1, 0, 0, 0x3b]);
    put(&dir.path().join("data/0.png"), gif);
    refuses(&bounded(dir.path(), 700_000), dir.path(), "65535 × 65535 pixels");
}
