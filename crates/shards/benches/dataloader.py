"""The peer of benches/loader.rs: PyTorch's DataLoader over one .npy per picture and one per label, as DiT's feature files lie.

usage: dataloader.py FOLDER ROWS BATCH SECONDS

Prints a line of JSON for 0, 1 and 2 workers: latents per second once the first batches are there, and the peak memory of all
processes. FOLDER is filled on the first call.
"""
import json, os, resource, sys, time
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

folder, rows, batch, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
features, labels = os.path.join(folder, "features"), os.path.join(folder, "labels")
if not os.path.exists(features):
    os.makedirs(features)
    os.makedirs(labels)
    rng = np.random.default_rng(0)
    for i in range(rows):
        np.save(os.path.join(features, f"{i}.npy"), rng.standard_normal((1, 4, 32, 32), dtype=np.float32))
        np.save(os.path.join(labels, f"{i}.npy"), np.array([i % 1000]))


class Files(Dataset):
    def __len__(self):
        return rows

    def __getitem__(self, i):
        x = np.load(os.path.join(features, f"{i}.npy"))
        y = np.load(os.path.join(labels, f"{i}.npy"))
        return torch.from_numpy(x), torch.from_numpy(y)


def forever(loader):
    while True:
        yield from loader


for workers in (0, 1, 2):
    loader = DataLoader(Files(), batch_size=batch, shuffle=True, drop_last=True, num_workers=workers,
                        persistent_workers=workers > 0)
    batches = forever(loader)
    for _ in range(4):
        next(batches)
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        count += len(next(batches)[0])
    speed = count / (time.perf_counter() - start)
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    del batches, loader
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(json.dumps({"workers": workers, "latents_per_second": speed, "peak_mib": (own + workers * child) / 1024}), flush=True)
