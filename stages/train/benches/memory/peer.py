"""The peers of the bench: torch's and safetensors' own ways to write and read the tensors of a checkpoint.

peer.py PART PEER FILE THREADS prints one line of JSON: what the process holds, its peak meanwhile, and seconds.
"""
import json
import os
import sys
import tempfile
import time

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file


def memory(name):
    with open("/proc/self/status") as status:
        return next(1024 * int(line.split()[1]) for line in status if line.startswith(name + ":"))


def forget_peak():
    with open("/proc/self/clear_refs", "w") as refs:
        refs.write("5")


def average(names):
    return [name for name in names if name.startswith("ema.")]


def main(part, peer, path, threads):
    torch.set_num_threads(int(threads))
    beside = os.path.dirname(path)
    if part == "write":
        # Copies, so that no page of the file that was read counts.
        tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
        with tempfile.TemporaryDirectory(dir=beside) as folder:
            forget_peak()
            held, begin = memory("VmRSS"), time.time()
            if peer == "torch.save":
                torch.save(tensors, os.path.join(folder, "file"))
            else:
                save_file(tensors, os.path.join(folder, "file"))
            seconds, peak = time.time() - begin, memory("VmHWM")
    else:
        with tempfile.TemporaryDirectory(dir=beside) as folder:
            if peer == "torch.load":
                path, ours = os.path.join(folder, "file"), path
                torch.save(load_file(ours), path)
            forget_peak()
            begin = time.time()
            if peer == "torch.load":
                everything = torch.load(path, map_location="cpu", weights_only=True)
                kept = {name: everything[name].clone() for name in average(everything)}
                del everything
            else:
                with safe_open(path, framework="pt") as file:
                    kept = {name: file.get_tensor(name).clone() for name in average(file.keys())}
            seconds, peak, held = time.time() - begin, memory("VmHWM"), memory("VmRSS")
            assert kept
    print(json.dumps({"held": held, "peak": peak, "seconds": seconds}))


if __name__ == "__main__":
    main(*sys.argv[1:])
