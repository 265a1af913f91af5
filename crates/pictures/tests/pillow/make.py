"""Makes the pictures and crops that tests/crop.rs compares with: python make.py, with Pillow and numpy.

The crop is ADM's: halve with BOX, resize with BICUBIC, cut in the middle. `sizes` are width, height, size.
"""
import io, json, sys
import numpy as np
import PIL
from PIL import Image

SIZES = [(8, 8, 32), (64, 64, 32), (63, 97, 32), (131, 64, 32), (129, 255, 24), (40, 41, 16), (33, 32, 32),
         (7, 90, 16), (31, 17, 24), (1, 1, 8), (200, 47, 16), (95, 96, 32)]


def crop(picture, size):
    while min(*picture.size) >= 2 * size:
        picture = picture.resize(tuple(x // 2 for x in picture.size), resample=Image.BOX)
    scale = size / min(*picture.size)
    picture = picture.resize(tuple(round(x * scale) for x in picture.size), resample=Image.BICUBIC)
    array = np.array(picture)
    y, x = (array.shape[0] - size) // 2, (array.shape[1] - size) // 2
    return array[y:y + size, x:x + size]


def picture(rng, width, height):
    y, x = np.mgrid[0:height, 0:width]
    waves = [128 + 120 * np.sin(x / rng.uniform(1, 9) + y / rng.uniform(1, 9)) for _ in range(3)]
    noise = rng.integers(0, 256, (height, width, 3))
    mask = rng.random((height, width, 1)) < 0.3
    return np.where(mask, noise, np.stack(waves, -1)).astype(np.uint8)


rng = np.random.default_rng(0)
cases = []
for i, (width, height, size) in enumerate(SIZES):
    original = Image.fromarray(picture(rng, width, height))
    original.save(f"{i:02}.png", optimize=True)
    Image.fromarray(crop(original, size)).save(f"{i:02}.crop.png", optimize=True)
    cases.append({"width": width, "height": height, "size": size})
json.dump({"pillow": PIL.__version__, "numpy": np.__version__, "crops": cases}, open("crops.json", "w"), indent=1)
