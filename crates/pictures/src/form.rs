//! What a file is: by the ending of its name, and by its first bytes.

use image::ImageFormat;
use std::path::Path;

/// Endings of pictures, also of forms that are not read here: those are named, not passed over.
const PICTURES: &str = "\
    png apng jpg jpeg jpe jfif webp tif tiff bmp dib gif pnm pbm pgm ppm pam pfm avif avifs heic heif jxl jp2 j2k jpf jpx \
    ico icns tga dds exr psd xcf svg svgz eps qoi pcx xbm xpm arw cr2 cr3 dng nef orf raf rw2 pef srw x3f 3fr erf";

/// Endings of what is no picture whatever is in it.
const OTHERS: &str = "\
    txt text md rst json jsonl ndjson csv tsv yaml yml xml html htm css js pdf doc docx xls xlsx ppt pptx odt rtf tex bib py \
    pyc ipynb sh bat m r c h cpp log ini cfg conf toml lock db sqlite lnk url npz npy pt pth ckpt safetensors pkl pickle mat \
    h5 hdf5 zip tar gz tgz bz2 xz 7z rar zst mp4 avi mov mkv webm mp3 wav flac arrow feather tfrecord mdb";

/// The forms that are read, for people.
const READ: &str = "PNG, JPEG, WebP, TIFF, BMP, GIF or PNM";

/// What a name says of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A picture, whether it can be read or not.
    Picture,
    /// A Parquet file.
    Parquet,
    /// Clearly no picture.
    Other,
    /// Its content must be asked.
    Unknown,
}

/// What the name of a file says.
pub(crate) fn kind(path: &Path) -> Kind {
    let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
    let among = |endings: &str| endings.split_whitespace().any(|known| known == ending);
    match ending.as_str() {
        "parquet" => Kind::Parquet,
        _ if among(PICTURES) => Kind::Picture,
        _ if among(OTHERS) => Kind::Other,
        _ => Kind::Unknown,
    }
}

/// The form of a picture that is read here, by its first bytes.
pub(crate) fn format(bytes: &[u8]) -> Option<ImageFormat> {
    Some(match bytes {
        [0x89, b'P', b'N', b'G', ..] => ImageFormat::Png,
        [0xff, 0xd8, 0xff, ..] => ImageFormat::Jpeg,
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => ImageFormat::WebP,
        [b'I', b'I', 42, 0, ..]
        | [b'M', b'M', 0, 42, ..]
        | [b'I', b'I', 43, 0, ..]
        | [b'M', b'M', 0, 43, ..] => ImageFormat::Tiff,
        // The size of the header, which has seven versions, all shorter than 256 bytes.
        [b'B', b'M', _, _, _, _, _, _, _, _, _, _, _, _, 12..=128, 0, 0, 0, ..] => ImageFormat::Bmp,
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => ImageFormat::Gif,
        [b'P', b'1'..=b'7', b' ' | b'\t' | b'\n' | b'\r' | b'#', ..] => ImageFormat::Pnm,
        _ => return None,
    })
}

/// The form of a picture that is not read here.
fn foreign(bytes: &[u8]) -> Option<&'static str> {
    let brand = bytes.get(4..12).filter(|b| b.starts_with(b"ftyp")).map(|b| &b[4..]);
    Some(match (brand, bytes) {
        (Some(b"avif" | b"avis"), _) => "AVIF",
        (Some(b"heic" | b"heix" | b"hevc" | b"heim" | b"heis" | b"mif1" | b"msf1"), _) => "HEIF",
        (Some(b"crx "), _) => "CR3",
        (_, [0xff, 0x0a, ..] | [0, 0, 0, 12, b'J', b'X', b'L', b' ', ..]) => "JPEG XL",
        (_, [0, 0, 0, 12, b'j', b'P', b' ', b' ', ..] | [0xff, 0x4f, 0xff, 0x51, ..]) => "JPEG 2000",
        (_, [b'8', b'B', b'P', b'S', ..]) => "Photoshop",
        (_, [0, 0, 1, 0, _, 0, ..]) => "ICO",
        (_, [b'D', b'D', b'S', b' ', ..]) => "DDS",
        (_, [0x76, 0x2f, 0x31, 0x01, ..]) => "OpenEXR",
        (_, [b'q', b'o', b'i', b'f', ..]) => "QOI",
        (_, [b'P', b'F' | b'f', b'\n', ..]) => "PFM",
        (_, [b'%', b'!', b'P', b'S', ..]) => "PostScript",
        (_, text) if begins(text, "<svg") || begins(text, "<?xml") && contains(text, "<svg") => "SVG",
        _ => return None,
    })
}

/// Whether a file whose name says nothing is a picture, read here or not.
pub(crate) fn is_picture(start: &[u8]) -> bool {
    format(start).is_some() || foreign(start).is_some()
}

/// What bytes are that are no picture of a form that is read here.
pub(crate) fn refusal(bytes: &[u8]) -> String {
    match (stand_in(bytes), foreign(bytes)) {
        (Some(what), _) => format!("not a picture but {what}"),
        (_, Some(form)) => format!("a picture in {form}, which is not read; convert it to {READ}"),
        _ => format!("not a picture (none of {})", READ.replace(" or ", ", ")),
    }
}

/// What a dataset in a form that is not read here becomes one that is read by, as its files are called.
pub(crate) fn way_out(path: &Path) -> Option<&'static str> {
    let ending = path.extension()?.to_str()?.to_lowercase();
    Some(match ending.as_str() {
        "arrow" => "`load_from_disk(…).to_parquet(…)` of `datasets` makes Parquet files of it",
        "zip" | "tar" | "tgz" | "gz" | "bz2" | "xz" | "zst" | "7z" | "rar" => "unpack it",
        "npz" | "npy" | "h5" | "hdf5" | "mat" | "pkl" | "pickle" | "pt" | "mdb" | "tfrecord" => {
            "write its pictures as PNG files, in a folder for each class"
        }
        _ => return None,
    })
}

/// What lies in the place of a file that was never fetched, and how to get the file.
pub(crate) fn stand_in(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [] => Some("an empty file"),
        _ if bytes.starts_with(b"version https://git-lfs.github.com/spec/") => {
            Some("a Git LFS pointer; `git lfs pull` fetches the file that it stands for")
        }
        _ if bytes.starts_with(b"/annex/objects/") => {
            Some("a git-annex pointer; `git annex get` fetches the file that it stands for")
        }
        _ if begins(bytes, "<!doctype html") || begins(bytes, "<html") => {
            Some("an HTML page, as of a login or an error; fetch the file again")
        }
        _ => None,
    }
}

/// Whether text begins with this, white space and case aside.
fn begins(bytes: &[u8], with: &str) -> bool {
    let text = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes).trim_ascii_start();
    text.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with.as_bytes()))
}

fn contains(bytes: &[u8], part: &str) -> bool {
    bytes[..bytes.len().min(1024)].windows(part.len()).any(|window| window == part.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_first_bytes_say_what_a_file_is() {
        for (name, expected) in [
            ("a/b.JPG", Kind::Picture),
            ("a.avif", Kind::Picture),
            ("train.parquet", Kind::Parquet),
            ("README.md", Kind::Other),
            ("LICENSE", Kind::Unknown),
            ("a.png.1", Kind::Unknown),
        ] {
            assert_eq!(kind(Path::new(name)), expected, "{name}");
        }
        assert!(
            is_picture(b"GIF89a")
                && is_picture(b"\0\0\0\x1cftypavif")
                && !is_picture(b"BMW is a car, 0000000")
        );
        assert!(refusal(b"").ends_with("an empty file"));
        assert!(refusal(b"\n<!DOCTYPE HTML><title>").contains("HTML page"));
        assert!(refusal(b"version https://git-lfs.github.com/spec/v1\noid").contains("git lfs pull"));
        assert!(refusal(b"\0\0\0\x1cftypavif").contains("in AVIF"));
        assert_eq!(refusal(b"hello"), "not a picture (none of PNG, JPEG, WebP, TIFF, BMP, GIF, PNM)");
    }
}
