"""Makes dit.pt and chains.safetensors beside it: whole chains of a tiny DiT, in float64.

    python make.py        (numpy 2.4, torch 2.11 to write the file, safetensors, diffusers 0.42)

The network is written down here a second time, with numpy alone, from the description of DiT. DDPM, DDIM and the guidance follow their
papers; `guided` is what facebookresearch/DiT does with its own checkpoints, three channels. DPM-Solver++ is diffusers'
DPMSolverMultistepScheduler (dpmsolver++, order 2, midpoint, final_sigmas_type zero), given the timesteps: evenly spaced in λ, from
the last one whose λ is at least −5.1, which its documentation calls critical for the cosine schedule.
"""

from pathlib import Path

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler
from safetensors.numpy import save_file

HERE = Path(__file__).parent
D, BLOCKS, HEADS, PATCH, SIDE, C, CLASSES, T = 16, 2, 2, 2, 4, 4, 3, 1000
GRID = SIDE // PATCH
IMAGES = 3
random = np.random.default_rng(16)


def sincos(positions):
    w = 10000.0 ** (-np.arange(D // 4) / (D / 4))
    angles = positions[:, None] * w
    return np.concatenate([np.sin(angles), np.cos(angles)], 1)


def position_table():
    rows, columns = np.divmod(np.arange(GRID * GRID), GRID)
    return np.concatenate([sincos(columns.astype(float)), sincos(rows.astype(float))], 1)


def weights():
    shapes = {
        "x_embedder.proj.weight": (D, C, PATCH, PATCH),
        "x_embedder.proj.bias": (D,),
        "t_embedder.mlp.0.weight": (D, 256),
        "t_embedder.mlp.0.bias": (D,),
        "t_embedder.mlp.2.weight": (D, D),
        "t_embedder.mlp.2.bias": (D,),
        "y_embedder.embedding_table.weight": (CLASSES + 1, D),
        "final_layer.linear.weight": (PATCH * PATCH * 2 * C, D),
        "final_layer.linear.bias": (PATCH * PATCH * 2 * C,),
        "final_layer.adaLN_modulation.1.weight": (2 * D, D),
        "final_layer.adaLN_modulation.1.bias": (2 * D,),
    }
    for i in range(BLOCKS):
        for name, outputs, inputs in [
            ("attn.qkv", 3 * D, D),
            ("attn.proj", D, D),
            ("mlp.fc1", 4 * D, D),
            ("mlp.fc2", D, 4 * D),
            ("adaLN_modulation.1", 6 * D, D),
        ]:
            shapes[f"blocks.{i}.{name}.weight"] = (outputs, inputs)
            shapes[f"blocks.{i}.{name}.bias"] = (outputs,)
    state = {name: (random.standard_normal(shape) * 0.2).astype(np.float32) for name, shape in shapes.items()}
    state["pos_embed"] = position_table()[None].astype(np.float32)
    return state


STATE = weights()
W = {name: value.astype(np.float64) for name, value in STATE.items()}


def linear(x, name):
    return x @ W[f"{name}.weight"].T + W[f"{name}.bias"]


def silu(x):
    return x / (1 + np.exp(-x))


def norm(x):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def attention(x, name):
    b, n, _ = x.shape
    q, k, v = linear(x, f"{name}.qkv").reshape(b, n, 3, HEADS, D // HEADS).transpose(2, 0, 3, 1, 4)
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(D // HEADS)
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = scores / scores.sum(-1, keepdims=True) @ v
    return linear(mixed.transpose(0, 2, 1, 3).reshape(b, n, D), f"{name}.proj")


def network(x, t, y):
    """[B, C, S, S], a timestep, [B] -> [B, 2C, S, S]."""
    b = len(x)
    # As the network does, the angles in float32: at late timesteps that is their largest error.
    f = np.exp(np.float32(-np.log(10000)) * np.arange(128, dtype=np.float32) / 128).astype(np.float32)
    angles = (np.float32(t) * f).astype(np.float64)
    e = linear(silu(linear(np.concatenate([np.cos(angles), np.sin(angles)]), "t_embedder.mlp.0")), "t_embedder.mlp.2")
    c = silu(e + W["y_embedder.embedding_table.weight"][y])[:, None]
    patches = x.reshape(b, C, GRID, PATCH, GRID, PATCH).transpose(0, 2, 4, 1, 3, 5).reshape(b, GRID * GRID, -1)
    z = patches @ W["x_embedder.proj.weight"].reshape(D, -1).T + W["x_embedder.proj.bias"] + W["pos_embed"]
    for i in range(BLOCKS):
        p = f"blocks.{i}"
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = np.split(linear(c, f"{p}.adaLN_modulation.1"), 6, -1)
        z = z + gate_a * attention(norm(z) * (1 + scale_a) + shift_a, f"{p}.attn")
        h = norm(z) * (1 + scale_m) + shift_m
        z = z + gate_m * linear(gelu(linear(h, f"{p}.mlp.fc1")), f"{p}.mlp.fc2")
    shift, scale = np.split(linear(c, "final_layer.adaLN_modulation.1"), 2, -1)
    z = linear(norm(z) * (1 + scale) + shift, "final_layer.linear")
    return z.reshape(b, GRID, GRID, PATCH, PATCH, 2 * C).transpose(0, 5, 1, 3, 2, 4).reshape(b, 2 * C, SIDE, SIDE)


def guided(x, t, y, scale, channels, interval):
    if not interval[0] <= t < interval[1]:
        return network(x, t, y)
    conditional, null = network(x, t, y), network(x, t, np.full_like(y, CLASSES))
    out = conditional.copy()
    out[:, :channels] = null[:, :channels] + scale * (conditional - null)[:, :channels]
    return out


def betas(schedule):
    if schedule == "linear":
        return np.linspace(1e-4, 0.02, T)
    bar = lambda s: np.cos((s + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.array([min(1 - bar((i + 1) / T) / bar(i / T), 0.999) for i in range(T)])


def spaced(steps):
    """The reference's spacing of one section."""
    stride, place, kept = (T - 1) / (steps - 1), 0.0, []
    for _ in range(steps):
        kept.append(round(place))
        place += stride
    return kept


def starts(prediction, x, out, bar):
    """x_0 and the noise."""
    a, s = np.sqrt(bar), np.sqrt(1 - bar)
    if prediction == "noise":
        return (x - s * out) / a, out
    return a * x - s * out, s * x + a * out


def chain(case, start, noises, y):
    model = lambda x, t: guided(x, t, y, case["guidance"], case.get("channels", C), case.get("interval", (0, T)))
    prediction, method, steps = case.get("prediction", "noise"), case["sampler"], case["steps"]
    x = start
    if prediction == "velocity":
        time = [round(T * i / steps) / T for i in range(steps, -1, -1)]
        velocity = lambda x, time: model(x, round(T * time) - 1)[:, :C]
        for here, there in zip(time, time[1:]):
            v = velocity(x, here)
            ahead = x + (there - here) * v
            if method == "heun" and there > 0:
                ahead = x + (there - here) * (v + velocity(ahead, there)) / 2
            x = ahead
        return x
    bars = np.cumprod(1 - betas(case["schedule"]))
    if method == "dpm-solver++":
        return dpm_solver(case, model, x, bars)
    kept = spaced(steps) if steps > 1 else [T - 1]
    bar = bars[kept]
    before = np.concatenate([[1.0], bar[:-1]])
    beta = 1 - bar / before
    posterior = beta * (1 - before) / (1 - bar)
    clipped = np.log(np.concatenate([posterior[1:2], posterior[1:]]))
    for i in range(steps - 1, -1, -1):
        out = model(x, kept[i])
        x0, eps = starts(prediction, x, out[:, :C], bar[i])
        noise = noises[steps - 1 - i] if i > 0 else np.zeros_like(x)
        if method == "ddpm":
            share = (out[:, C:] + 1) / 2
            log = share * np.log(beta[i]) + (1 - share) * clipped[i]
            mean = np.sqrt(before[i]) * beta[i] / (1 - bar[i]) * x0
            mean = mean + (1 - before[i]) * np.sqrt(1 - beta[i]) / (1 - bar[i]) * x
            x = mean + np.exp(log / 2) * noise if i > 0 else mean
        else:
            sigma = case.get("eta", 0.0) * np.sqrt((1 - before[i]) / (1 - bar[i]) * beta[i])
            x = np.sqrt(before[i]) * x0 + np.sqrt(1 - before[i] - sigma**2) * eps + sigma * noise
    return x


def dpm_solver(case, model, x, bars):
    logs = 0.5 * np.log(bars / (1 - bars))
    last = int((logs >= -5.1).sum()) - 1
    steps = case["steps"]
    wanted = [logs[0] + (logs[last] - logs[0]) * i / (steps - 1) for i in range(steps)]
    kept = [int(np.abs(logs[: last + 1] - value).argmin()) for value in wanted][::-1]
    scheduler = DPMSolverMultistepScheduler(
        trained_betas=betas(case["schedule"]).tolist(),
        prediction_type={"noise": "epsilon", "v": "v_prediction"}[case.get("prediction", "noise")],
        algorithm_type="dpmsolver++",
        solver_order=2,
        solver_type="midpoint",
        lower_order_final=False,
        final_sigmas_type="zero",
    )
    scheduler.set_timesteps(timesteps=kept)
    x = torch.from_numpy(x)
    for t in kept:
        out = torch.from_numpy(model(x.numpy(), t)[:, :C])
        x = scheduler.step(out, t, x, return_dict=False)[0].double()
    return x.numpy()


CASES = {
    "ddpm-3": dict(sampler="ddpm", schedule="linear", steps=8, guidance=4.0, channels=3),
    "ddpm-all": dict(sampler="ddpm", schedule="linear", steps=8, guidance=4.0),
    "ddpm-interval": dict(sampler="ddpm", schedule="linear", steps=8, guidance=3.0, interval=(200, 800)),
    "ddim": dict(sampler="ddim", schedule="linear", steps=8, guidance=1.5),
    "ddim-eta": dict(sampler="ddim", schedule="linear", steps=8, guidance=1.5, eta=0.5),
    "ddim-1": dict(sampler="ddim", schedule="linear", steps=1, guidance=1.5),
    "dpm-solver++": dict(sampler="dpm-solver++", schedule="linear", steps=10, guidance=1.5),
    "dpm-solver++-cosine": dict(sampler="dpm-solver++", schedule="cosine", steps=10, guidance=1.5),
    "v-ddpm": dict(sampler="ddpm", schedule="linear", steps=8, guidance=1.5, prediction="v"),
    "v-ddim": dict(sampler="ddim", schedule="cosine", steps=8, guidance=1.5, prediction="v"),
    "v-dpm-solver++": dict(sampler="dpm-solver++", schedule="cosine", steps=10, guidance=1.5, prediction="v"),
    "euler": dict(sampler="euler", schedule="cosine", steps=7, guidance=1.5, prediction="velocity"),
    "heun": dict(sampler="heun", schedule="cosine", steps=7, guidance=2.0, prediction="velocity", channels=3),
}

start = random.standard_normal((IMAGES, C, SIDE, SIDE)).astype(np.float32)
noises = random.standard_normal((8, IMAGES, C, SIDE, SIDE)).astype(np.float32)
y = np.array([0, 2, 1])
out = {"start": start, "noises": noises, "labels": y.astype(np.int64)}
for name, case in CASES.items():
    x = chain(case, start.astype(np.float64), noises.astype(np.float64), y)
    print(f"{name:20} rms {np.sqrt((x**2).mean()):.4g}")
    out[f"out.{name}"] = np.ascontiguousarray(x)
save_file(out, HERE / "chains.safetensors")
torch.save({name: torch.from_numpy(value) for name, value in STATE.items()}, HERE / "dit.pt")
