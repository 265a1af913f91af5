"""Checkpoints as the reference and as facebookresearch/DiT save them, small, made with torch 2.11.

    python3 reference.py make         writes reference.pt, next.safetensors and bare.pt beside this file
    python3 reference.py check FILE   loads FILE with weights_only=True, compares it with reference.pt, bit for bit, and goes on
                                      from it with torch's AdamW to next.safetensors

Tensor k of the sorted names holds ((7 i + 13 k) % 64 - 32) / 32 at place i, the average the same with k + 100; buffers hold
what they must. Width 8, 1 block, 2 heads, patch 2, latents of 4 x 4 x 4, 3 classes, 2 of 3 experts. The optimiser has done 3
steps, and next.safetensors has the weights after a fourth; the gradient of step n is the tensor k + 1000 n. The scales of
uncertainty weighting, in a module for several GPUs, are trained alike: their k is 50 and 0 at the start.
"""
import argparse, collections, pathlib, sys, torch
from safetensors.torch import load_file, save_file

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


def order(switch):
    """The names in the order in which the reference's modules register them: the network's own, routers, blocks, the rest."""
    parts = ["pos_embed", "x_embedder", "t_embedder", "y_embedder", "routers.0.f_gate", "routers.0.experts", "blocks.0.attn.qkv",
             "blocks.0.attn.proj", "blocks.0.mlp.fc1", "blocks.0.mlp.fc2", "blocks.0.adaLN", "final_layer.linear", "final_layer.adaLN"]
    names = [n for part in parts for n in shapes(switch) if n.startswith(part)]
    assert sorted(names) == sorted(shapes(switch))
    return names


def tensor(k, shape):
    return (((7 * torch.arange(torch.Size(shape).numel()) + 13 * k) % 64 - 32) / 32).float().view(shape)


def state(switch, first):
    out = collections.OrderedDict()
    places = {name: k for k, name in enumerate(sorted(shapes(switch)))}
    for name in order(switch):
        out[name] = tensor(places[name] + first, shapes(switch)[name])
    if switch:
        ones = int(M * (K / M))
        start = torch.round((M - ones) * torch.linspace(0, 1, T, dtype=torch.float64) ** 4)[:, None]
        column = torch.arange(M)[None]
        out["full_time"] = torch.arange(T)
        out["prior._unit_mapping"] = ((column >= start) & (column < start + ones)).float()
    return out


class Training:
    """Parameters and the optimiser as the reference makes them with uncertainty weighting."""

    def __init__(self, model, scales):
        self.model = {n: torch.nn.Parameter(model[n].clone(), requires_grad=n != "pos_embed") for n in order(True)}
        self.scales = torch.nn.Parameter(scales.clone())
        groups = [{"params": self.model.values()}, {"params": [self.scales], "lr": 0.025, "weight_decay": 0.0}]
        self.opt = torch.optim.AdamW(groups, lr=0.01, weight_decay=0.1)

    def step(self, n):
        for k, name in enumerate(sorted(self.model)):
            if self.model[name].requires_grad:
                self.model[name].grad = tensor(k + 1000 * n, shapes(True)[name])
        self.scales.grad = tensor(50 + 1000 * n, (8,))
        self.opt.step()

    def tensors(self):
        return {n: p.detach().clone() for n, p in self.model.items()} | {"scales": self.scales.detach().clone()}


def reference():
    training = Training(state(True, 0), torch.zeros(8))
    for n in range(1, 4):
        training.step(n)
    model = state(True, 0)
    model.update({n: p.detach() for n, p in training.model.items()})
    uw = collections.OrderedDict({"module.loss_scale": training.scales.detach()})
    return {"model": model, "ema": state(True, 100), "opt": training.opt.state_dict(), "uw": uw}, training


def equal(got, want, where=""):
    if isinstance(want, torch.Tensor):
        assert got.dtype == want.dtype and torch.equal(got, want), where
    elif isinstance(want, dict):
        assert sorted(map(str, got)) == sorted(map(str, want)), where
        for key in want:
            equal(got[key], want[key], f"{where}.{key}")
    elif isinstance(want, list):
        assert len(got) == len(want), where
        for i, (a, b) in enumerate(zip(got, want)):
            equal(a, b, f"{where}.{i}")
    else:
        assert type(got) is type(want) and got == want, (where, got, want)


def main():
    here = pathlib.Path(__file__).parent
    want, training = reference()
    if sys.argv[1] == "make":
        config = argparse.Namespace(model="tiny", results_dir=pathlib.Path("results"), sizes={1, 2})
        torch.save(want | {"config": config}, here / "reference.pt")
        training.step(4)
        save_file(training.tensors(), here / "next.safetensors")
        torch.save(state(False, 0), here / "bare.pt")
    else:
        got = torch.load(sys.argv[2], weights_only=True)
        about = got.pop("about")
        equal(got, want)
        again = Training(got["model"], got["uw"]["module.loss_scale"])
        again.opt.load_state_dict(got["opt"])
        again.step(4)
        equal(again.tensors(), load_file(here / "next.safetensors"))
        print(f"{sys.argv[2]}: everything is equal, and goes on alike; its note: {about[:60]}…")


main()
