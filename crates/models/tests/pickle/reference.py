"""Checkpoints as the reference and as facebookresearch/DiT save them, small, made with torch 2.11.

    python3 reference.py make         writes reference.pt and bare.pt beside this file
    python3 reference.py check FILE   loads FILE with weights_only=True and compares it with reference.pt, bit for bit

Tensor k of the sorted names holds ((7 i + 13 k) % 64 - 32) / 32 at place i, the average the same with k + 100; buffers hold
what they must. Width 8, 1 block, 2 heads, patch 2, latents of 4 x 4 x 4, 3 classes, 2 of 3 experts.
"""
import argparse, collections, pathlib, sys, torch

D, SIDE, PATCH, C, CLASSES, M, K, T = 8, 4, 2, 4, 3, 3, 2, 1000


def shapes(switch):
    s = {"pos_embed": (1, (SIDE // PATCH) ** 2, D), "x_embedder.proj.weight": (D, C, PATCH, PATCH), "x_embedder.proj.bias": (D,),
         "t_embedder.mlp.0.weight": (D, 256), "t_embedder.mlp.0.bias": (D,), "t_embedder.mlp.2.weight": (D, D),
         "t_embedder.mlp.2.bias": (D,), "y_embedder.embedding_table.weight": (CLASSES + 1, D)}
    linear = {"blocks.0.attn.qkv": (3 * D, D), "blocks.0.attn.proj": (D, D), "blocks.0.mlp.fc1": (4 * D, D),
              "blocks.0.mlp.fc2": (D, 4 * D), "blocks.0.adaLN_modulation.1": (6 * D, D),
              "final_layer.linear": (PATCH * PATCH * 2 * C, D), "final_layer.adaLN_modulation.1": (2 * D, D)}
    if switch:
        linear["routers.0.f_gate.1"] = (M, D)
        s |= {"routers.0.experts.w": (M, D, D), "routers.0.experts.b": (M, D)}
    for name, (outputs, inputs) in linear.items():
        s |= {name + ".weight": (outputs, inputs), name + ".bias": (outputs,)}
    return s


def state(switch, first):
    out = collections.OrderedDict()
    for k, (name, shape) in enumerate(sorted(shapes(switch).items())):
        n = torch.Size(shape).numel()
        out[name] = (((7 * torch.arange(n) + 13 * (k + first)) % 64 - 32) / 32).float().view(shape)
    if switch:
        ones = int(M * (K / M))
        start = torch.round((M - ones) * torch.linspace(0, 1, T, dtype=torch.float64) ** 4)[:, None]
        column = torch.arange(M)[None]
        out["full_time"] = torch.arange(T)
        out["prior._unit_mapping"] = ((column >= start) & (column < start + ones)).float()
    return out


def reference():
    return {"model": state(True, 0), "ema": state(True, 100)}


def main():
    here = pathlib.Path(__file__).parent
    if sys.argv[1] == "make":
        opt = {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]}
        config = argparse.Namespace(model="tiny", results_dir=pathlib.Path("results"), sizes={1, 2})
        torch.save(reference() | {"opt": opt, "config": config}, here / "reference.pt")
        torch.save(state(False, 0), here / "bare.pt")
    else:
        got = torch.load(sys.argv[2], weights_only=True)
        for part, want in reference().items():
            assert sorted(got[part]) == sorted(want), part
            for name, tensor in want.items():
                assert got[part][name].dtype == tensor.dtype and torch.equal(got[part][name], tensor), (part, name)
        print(f"{sys.argv[2]}: every tensor is equal")


main()
