"""Makes the pictures that tests/forms.rs compares with: python forms.py in this folder, with Pillow and numpy.

forms/NAME is one picture in a form that a dataset may hold it in, forms/NAME.rgb.png what `convert("RGB")` makes of it.
forms.json lists them, and the pictures that Pillow refuses.
"""
import io, json, os, struct, zlib
import numpy as np
import PIL
from PIL import Image, features

rng = np.random.default_rng(0)
y, x = np.mgrid[0:37, 0:53]
waves = [128 + 100 * np.sin(x / 5 + y / 7), 128 + 100 * np.cos(x / 9), 128 + 100 * np.sin(y / 4)]
rgb = Image.fromarray(np.stack(waves, -1).astype(np.uint8))
grey = rgb.convert("L")
alpha = Image.fromarray(rng.integers(0, 256, (37, 53), dtype=np.uint8))
noise = Image.fromarray(rng.integers(0, 256, (61, 45, 3), dtype=np.uint8))
deep = rng.integers(0, 65536, (17, 23, 4))
turned = Image.Exif()
turned[0x0112] = 6


def saved(picture, kind, **options):
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def png16(samples, colour, transparent=None):
    """A PNG of 16 bits a sample, which Pillow reads but does not write for every colour type."""
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = samples.astype(">u2")
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", rows.shape[1], rows.shape[0], 16, colour, 0, 0, 0))
    between = chunk(b"tRNS", transparent) if transparent else b""
    return b"\x89PNG\r\n\x1a\n" + head + between + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b"")


forms = {
    "rgb.jpg": saved(rgb, "JPEG", quality=90),
    "rgb422.jpg": saved(rgb, "JPEG", quality=90, subsampling=1),
    "rgb444.jpg": saved(rgb, "JPEG", quality=95, subsampling=0),
    "noise.jpg": saved(noise, "JPEG", quality=75),
    "noise444.jpg": saved(noise, "JPEG", quality=75, subsampling=0),
    "progressive.jpg": saved(rgb, "JPEG", quality=85, progressive=True),
    "restart.jpg": saved(rgb, "JPEG", quality=85, restart_marker_blocks=3),
    "cmyk.jpg": saved(rgb.convert("CMYK"), "JPEG", quality=90),
    "grey.jpg": saved(grey, "JPEG", quality=90),
    "exif.jpg": saved(rgb, "JPEG", quality=90, exif=turned),
    "tail.jpg": saved(rgb, "JPEG", quality=90) + b"behind the end",
    "rgb.png": saved(rgb, "PNG"),
    "grey.png": saved(grey, "PNG"),
    "alpha.png": saved(Image.merge("RGBA", (*rgb.split(), alpha)), "PNG"),
    "keyed.png": saved(rgb, "PNG", transparency=(128, 228, 128)),
    "grey-alpha.png": saved(Image.merge("LA", (grey, alpha)), "PNG"),
    "palette.png": saved(rgb.convert("P"), "PNG"),
    "palette16.png": saved(rgb.quantize(16), "PNG", bits=4),
    "palette-alpha.png": saved(rgb.quantize(8), "PNG", transparency=bytes([0, 90, 180, 255, 255])),
    "two.png": saved(rgb.convert("1"), "PNG"),
    "grey16.png": png16(deep[..., :1] // 128, 0),
    "grey16-keyed.png": png16(deep[..., :1] // 128, 0, struct.pack(">H", int(deep[0, 0, 0] // 128))),
    "grey16-alpha.png": png16(deep[..., :2], 4),
    "rgb16.png": png16(deep[..., :3], 2),
    "rgb16-alpha.png": png16(deep, 6),
    "rgb.webp": saved(rgb, "WEBP", lossless=True),
    "lossy.webp": saved(rgb, "WEBP", quality=80),
    "alpha.webp": saved(Image.merge("RGBA", (*rgb.split(), alpha)), "WEBP", lossless=True, exact=True),
    "png.jpg.jpeg": saved(rgb, "PNG"),
    "one.png": saved(rgb.crop((0, 0, 1, 1)), "PNG"),
    "one.jpg": saved(rgb.crop((0, 0, 1, 1)), "JPEG"),
}
small = rgb.resize((19, 11))
pale = Image.merge("RGBA", (*small.split(), alpha.crop((0, 0, 19, 11))))
deep16 = deep[..., :3].astype(np.uint16)


def bmp(header, pixels, bits, masks=(), palette=b"", compression=0, height=11):
    """A BMP of a form that Pillow reads but does not write."""
    masks = b"".join(struct.pack("<I", mask) for mask in masks)
    start = 14 + 40 + len(masks) + len(palette)
    info = struct.pack("<IiiHHIIiiII", 40, 19, height, 1, bits, compression, len(pixels), 2835, 2835, len(palette) // 4, 0)
    return struct.pack("<2sIHHI", b"BM", start + len(pixels), 0, 0, start) + info + masks + palette + pixels


def rows(samples, upside_down=True):
    """Rows of a BMP, each filled up to four bytes."""
    flat = [row.tobytes() for row in (samples[::-1] if upside_down else samples)]
    return b"".join(row + bytes(-len(row) % 4) for row in flat)


bgrx = np.concatenate([np.array(small)[..., ::-1], rng.integers(0, 256, (11, 19, 1), dtype=np.uint8)], -1)
sixteen = rng.integers(0, 65536, (11, 19)).astype("<u2")
wide = rng.integers(0, 65536, (7, 5, 3)).astype(">u2")
forms |= {
    "rgb.tif": saved(small, "TIFF"),
    "lzw.tif": saved(rgb, "TIFF", compression="tiff_lzw"),
    "deflate.tif": saved(rgb, "TIFF", compression="tiff_adobe_deflate"),
    "packbits.tif": saved(small, "TIFF", compression="packbits"),
    "grey.tif": saved(small.convert("L"), "TIFF"),
    "two.tif": saved(small.convert("1"), "TIFF"),
    "alpha.tif": saved(pale, "TIFF"),
    "cmyk.tif": saved(small.convert("CMYK"), "TIFF"),
    "grey16.tif": saved(Image.fromarray((deep[..., 0] // 128).astype(np.uint16)), "TIFF"),
    "turned.tif": saved(small, "TIFF", tiffinfo={274: 6}),
    "mirrored.tif": saved(small, "TIFF", tiffinfo={274: 2}),
    "pages.tif": saved(small, "TIFF", save_all=True, append_images=[small.rotate(90)]),
    "rgb.bmp": saved(small, "BMP"),
    "grey.bmp": saved(small.convert("L"), "BMP"),
    "two.bmp": saved(small.convert("1"), "BMP"),
    "palette.bmp": saved(small.quantize(32), "BMP"),
    "alpha.bmp": saved(pale, "BMP"),
    "rgbx.bmp": bmp(40, bgrx.tobytes(), 32),
    "topdown.bmp": bmp(40, rows(np.array(small)[..., ::-1], False), 24, height=-11),
    "555.bmp": bmp(40, rows(sixteen), 16),
    "565.bmp": bmp(40, rows(sixteen), 16, (0xF800, 0x7E0, 0x1F), compression=3),
    "rgb.gif": saved(small, "GIF"),
    "grey.gif": saved(small.convert("L"), "GIF"),
    "interlaced.gif": saved(small, "GIF", interlace=True),
    "transparent.gif": saved(small.quantize(16), "GIF", transparency=3),
    "frames.gif": saved(small, "GIF", save_all=True, append_images=[small.rotate(180), small], duration=50, loop=0),
    "rgb.ppm": saved(small, "PPM"),
    "grey.pgm": saved(small.convert("L"), "PPM"),
    "two.pbm": saved(small.convert("1"), "PPM"),
    "plain.ppm": b"P3 # a comment\n3 2\n255\n0 0 0 255 0 0 1 2 3\n9 8 7 100 200 50 255 255 255\n",
    "plain.pgm": b"P2\n3 1\n# 15 is white\n15\n0 7 15\n",
    "plain.pbm": b"P1\n5 2\n0 1 0 1 1\n10101\n",
    "coarse.ppm": b"P6 2 1 100\n" + bytes([0, 50, 100, 33, 66, 99]),
    "wide.ppm": b"P6 5 7 65535\n" + wide.tobytes(),
    "wide.pgm": b"P5 5 7 65535\n" + wide[..., 0].tobytes(),
    "narrow.pgm": b"P5 5 7 1023\n" + (wide[..., 0] // 64).astype(">u2").tobytes(),
    "narrow.ppm": b"P6 5 7 1023\n" + (wide // 64).astype(">u2").tobytes(),
    "bmp.png": saved(small, "BMP"),
}
# What Pillow reads and `decode` names as what it is.
unread = {
    "palette.tif": saved(small.quantize(32), "TIFF"),
    "small.avif": saved(small, "AVIF"),
    "small.jp2": saved(small, "JPEG2000"),
    "small.ico": saved(small, "ICO"),
}
whole = {kind: saved(rgb, kind) for kind in ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM")}
progressive = forms["progressive.jpg"]
broken = {
    "half.jpg": whole["JPEG"][: len(whole["JPEG"]) // 2],
    "half-progressive.jpg": progressive[: len(progressive) // 2],
    "late.jpg": whole["JPEG"][:-20],
    "endless.jpg": whole["JPEG"][:-2],
    "headless.jpg": whole["JPEG"][:60],
    "half.png": whole["PNG"][: len(whole["PNG"]) // 2],
    "half.webp": whole["WEBP"][: len(whole["WEBP"]) // 2],
    "half.tif": whole["TIFF"][: len(whole["TIFF"]) // 2],
    "half.bmp": whole["BMP"][: len(whole["BMP"]) // 2],
    "half.gif": whole["GIF"][: len(whole["GIF"]) // 2],
    "half.ppm": whole["PPM"][: len(whole["PPM"]) // 2],
    "empty.png": b"",
    "page.jpg": b"<html>sign in</html>",
}

os.makedirs("forms", exist_ok=True)
for name, content in (forms | broken | unread).items():
    with open(f"forms/{name}", "wb") as file:
        file.write(content)
for name in forms:
    pixels = np.array(Image.open(f"forms/{name}").convert("RGB"))
    Image.fromarray(pixels).save(f"forms/{name}.rgb.png", optimize=True)
for name in broken:
    try:
        Image.open(f"forms/{name}").convert("RGB")
    except (OSError, ValueError):
        continue
    raise SystemExit(f"Pillow reads {name}")
about = {"pillow": PIL.__version__, "libjpeg_turbo": features.version("libjpeg_turbo"), "numpy": np.__version__}
json.dump(about | {"forms": list(forms), "broken": list(broken), "unread": list(unread)}, open("forms.json", "w"), indent=1)
