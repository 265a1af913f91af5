#!/usr/bin/env python3
"""Trains Switch-DiT as its published code does, beside `train`: from the same weights, on the same latents, with draws of its own.

  TORCH_BASELINE=torch_baseline.py beside.py --latents encode/latents --initial init.pt --out peer.pt --log peer.jsonl --seed 0

torch_baseline.py is the peer of the speed benches: PyTorch that does what the published code does (`check` holds it to tensors that code
recorded). --initial is a checkpoint in the reference's form, as `sample --convert` writes it; so is --out, which `sample` reads with
--schedule. The log has a line for each step, as `train --log-every 1`."""
import argparse, copy, glob, importlib.util, json, os, sys, time
import numpy as np, pyarrow.parquet as pq, torch

def baseline():
    path = os.environ.get("TORCH_BASELINE") or sys.exit("error: TORCH_BASELINE does not name the peer's program")
    spec = importlib.util.spec_from_file_location("torch_baseline", path)
    module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)
    return module

def latents(folder):
    """Mean, deviation and label of each picture, in the network's scale."""
    about = json.load(open(os.path.join(folder, "manifest.json")))["latents"]
    shape, scale, parts = [-1] + about["shape"], about["scale"], []
    for path in sorted(glob.glob(os.path.join(folder, "*.parquet"))):
        table = pq.read_table(path, columns=["mean", "std", "label"])
        values = lambda name: np.frombuffer(b"".join(table[name].to_pylist()), about["dtype"]).astype(np.float32).reshape(shape)
        parts.append((values("mean") * scale, values("std") * scale, np.array(table["label"])))
    return [torch.from_numpy(np.concatenate(part)) for part in zip(*parts)], about["classes"]

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("latents", "initial", "out", "log"): p.add_argument(f"--{name}", required=True)
    for name, kind, default in (("seed", int, 0), ("iterations", int, 400), ("batch-size", int, 64), ("heads", int, 4), ("top-k", int, 2),
                                ("learning-rate", float, 2e-3), ("ema-decay", float, 0.98), ("schedule", str, "linear"), ("threads", int, 1)):
        p.add_argument(f"--{name}", type=kind, default=default)
    a = p.parse_args(); base = baseline(); torch.set_num_threads(a.threads); torch.manual_seed(a.seed)
    (mean, std, label), classes = latents(a.latents)
    start = torch.load(a.initial, weights_only=False)["model"]
    width, blocks = start["routers.0.f_gate.1.weight"].shape[1], 1 + max(int(k.split(".")[1]) for k in start if k.startswith("blocks."))
    patch = start["x_embedder.proj.weight"].shape[-1]
    c = argparse.Namespace(D=width, N=blocks, H=a.heads, side=mean.shape[-1], p=patch, classes=classes,
                           M=start["routers.0.f_gate.1.weight"].shape[0], k=a.top_k)
    model = base.DiT(c); model.load_state_dict(start); model.train()
    ema, d = copy.deepcopy(model).requires_grad_(False).eval(), base.Diffusion("cpu", schedule=a.schedule)
    opt = torch.optim.AdamW(model.parameters(), lr=a.learning_rate, weight_decay=0.0)
    order, begin = torch.empty(0, dtype=torch.long), time.perf_counter()
    with open(a.log, "w") as log:
        for step in range(1, a.iterations + 1):
            while len(order) < a.batch_size: order = torch.cat([order, torch.randperm(len(mean))])
            rows, order = order[:a.batch_size], order[a.batch_size:]
            x0 = mean[rows] + std[rows] * torch.randn(a.batch_size, *mean.shape[1:])
            t, noise = torch.randint(0, base.T, (a.batch_size,)), torch.randn_like(x0)
            x = d.q_sample(x0, t, noise)
            out, prior = model(x, torch.tensor(d.map)[t], label[rows])
            mse, vb = (part.mean() for part in d.losses(out, x0, x, noise, t))
            opt.zero_grad(set_to_none=True); (mse + vb + prior).backward(); opt.step(); base.ema_loop(ema, model, a.ema_decay)
            log.write(json.dumps(dict(step=step, mse=mse.item(), vb=vb.item(), prior=prior.item())) + "\n")
    torch.save(dict(model=model.state_dict(), ema=ema.state_dict()), a.out)
    print(f"{a.iterations} steps in {time.perf_counter() - begin:.0f} s")

main()
