"""Writes features.json beside it: the class tokens of a tiny vision transformer in the names of DINOv2, by plain torch functions.

Weights and pictures come from integers, by the recipe of `tests/recipe/mod.rs`: v(name) in [-1, 1), scaled by the last part of the
name. Two transformers: one with a grid of 16 positions, as many as patches, one with 5, which is stretched.
Run in this folder: python3 make.py   (torch 2.11)
"""
import json, math
import numpy as np, torch
import torch.nn.functional as F

M = (1 << 64) - 1
SEED, WIDTH, HIDDEN, DEPTH, PICTURES = 7, 128, 192, 2, 2


def mix(z):
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def v(name, shape):
    h = 0xCBF29CE484222325
    for b in name.encode():
        h = ((h ^ b) * 0x100000001B3) & M
    with np.errstate(over="ignore"):
        key = mix(np.array([SEED ^ h], np.uint64))
        j = np.arange(1, math.prod(shape) + 1, dtype=np.uint64)
        r = mix(key + j * np.uint64(0x9E3779B97F4A7C15))
    k = (r >> np.uint64(40)).astype(np.int64) - (1 << 23)
    return torch.tensor((k / (1 << 23)).astype(np.float32).reshape(shape))


def weights(grid):
    shapes = {"cls_token": (1, 1, WIDTH), "pos_embed": (1, 1 + grid * grid, WIDTH), "mask_token": (1, WIDTH),
              "patch_embed.proj.weight": (WIDTH, 3, 14, 14), "patch_embed.proj.bias": (WIDTH,),
              "norm.weight": (WIDTH,), "norm.bias": (WIDTH,)}
    for i in range(DEPTH):
        b = f"blocks.{i}."
        for n in ("norm1", "norm2"):
            shapes[b + n + ".weight"] = shapes[b + n + ".bias"] = (WIDTH,)
        for n, o, k in (("attn.qkv", 3 * WIDTH, WIDTH), ("attn.proj", WIDTH, WIDTH),
                        ("mlp.fc1", HIDDEN, WIDTH), ("mlp.fc2", WIDTH, HIDDEN)):
            shapes[b + n + ".weight"], shapes[b + n + ".bias"] = (o, k), (o,)
        shapes[b + "ls1.gamma"] = shapes[b + "ls2.gamma"] = (WIDTH,)
    return {n: scaled(n, v(n, s)) for n, s in shapes.items()}


def scaled(name, x):
    if name.endswith("bias"):
        return x * 0.25
    if "norm" in name or name.endswith("gamma"):
        return 1 + x * 0.25
    if name.endswith("weight"):
        return x * np.float32(2 / math.sqrt(math.prod(x.shape[1:])))
    return x


def features(w, x, grid):
    w = {n: t.double() for n, t in w.items()}
    x = F.conv2d(x.double(), w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], stride=14)
    x = x.flatten(2).transpose(1, 2)
    pos = w["pos_embed"]
    if grid != 16:
        p = pos[:, 1:].reshape(1, grid, grid, WIDTH).permute(0, 3, 1, 2)
        p = F.interpolate(p, scale_factor=(16.1 / grid, 16.1 / grid), mode="bicubic")
        pos = torch.cat([pos[:, :1], p.permute(0, 2, 3, 1).reshape(1, 256, WIDTH)], 1)
    x = torch.cat([w["cls_token"].expand(len(x), -1, -1), x], 1) + pos

    def norm(x, n):
        return F.layer_norm(x, (WIDTH,), w[n + ".weight"], w[n + ".bias"], 1e-6)

    def linear(x, n):
        return F.linear(x, w[n + ".weight"], w[n + ".bias"])

    for i in range(DEPTH):
        b = f"blocks.{i}."
        q, k, u = (linear(norm(x, b + "norm1"), b + "attn.qkv").reshape(len(x), -1, 3, WIDTH // 64, 64)
                   .permute(2, 0, 3, 1, 4))
        a = torch.softmax(q @ k.transpose(-2, -1) / 8, -1) @ u
        x = x + w[b + "ls1.gamma"] * linear(a.transpose(1, 2).reshape(x.shape), b + "attn.proj")
        x = x + w[b + "ls2.gamma"] * linear(F.gelu(linear(norm(x, b + "norm2"), b + "mlp.fc1")), b + "mlp.fc2")
    return norm(x, "norm")[:, 0]


out = {"seed": SEED, "width": WIDTH, "hidden": HIDDEN, "depth": DEPTH, "pictures": PICTURES}
for grid in (16, 5):
    x = v("pictures", (PICTURES, 3, 224, 224))
    out[f"grid_{grid}"] = [[round(float(t), 7) for t in row] for row in features(weights(grid), x, grid)]
json.dump(out, open("features.json", "w"))
