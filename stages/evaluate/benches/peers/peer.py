"""The peers' side of the bench: plain calls of pytorch-fid, scipy and torch; prints one line of JSON.

peer.py weights FOLDER           saves a network of pytorch-fid with random weights as FOLDER/inception.pth
peer.py inception FOLDER ...     pytorch-fid's network with its own resize, f32, no gradients
peer.py frechet FOLDER ...       scipy.linalg.sqrtm of the product, as every FID in Python
peer.py manifold FOLDER ...      precision and recall of whole f32 distance matrices in torch
... is THREADS REPETITIONS
"""
import json, os, resource, statistics, sys, time

work, folder = sys.argv[1:3]
threads, repetitions = (int(a) for a in (sys.argv[3:] + ["2", "1"])[:2])
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = str(threads)

import numpy as np


def array(name, dtype):
    shape = json.load(open(f"{folder}/{name}.json"))
    return np.fromfile(f"{folder}/{name}.bin", dtype).reshape(shape)


def report(once):
    once_more = []
    for _ in range(repetitions):
        begin = time.perf_counter()
        value = once()
        once_more.append(time.perf_counter() - begin)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": statistics.median(once_more), "peak": peak, "value": value}))


def network():
    import pytorch_fid.inception as fid, torchvision
    # Its constructor downloads; here it keeps what it was initialised with.
    load = torchvision.models.Inception3.load_state_dict
    fid.load_state_dict_from_url = lambda *_, **__: None
    torchvision.models.Inception3.load_state_dict = lambda *_: None
    import torch
    torch.manual_seed(0)
    inner = fid.fid_inception_v3()
    fid.fid_inception_v3 = lambda: inner
    outer = fid.InceptionV3([3], resize_input=True).eval()
    torchvision.models.Inception3.load_state_dict = load
    return inner, outer


if work == "weights":
    import torch
    torch.save(network()[0].state_dict(), f"{folder}/inception.pth")
    print("{}")
elif work == "inception":
    import torch
    torch.set_num_threads(threads)
    inner, outer = network()
    inner.load_state_dict(torch.load(f"{folder}/inception.pth", weights_only=True))
    pictures = torch.from_numpy(array("pictures", np.uint8)).permute(0, 3, 1, 2)

    def once():
        with torch.no_grad():
            return float(outer(pictures.float() / 255)[0].mean())

    once()
    report(once)
elif work == "frechet":
    from scipy import linalg
    m1, m2, s1, s2 = (array(n, np.float64) for n in ("mu1", "mu2", "sigma1", "sigma2"))

    def once():
        root = linalg.sqrtm(s1 @ s2)
        d = m1 - m2
        return float(d @ d + np.trace(s1) + np.trace(s2) - 2 * np.trace(root).real)

    report(once)
elif work == "manifold":
    import torch
    torch.set_num_threads(threads)
    ref, smp = (torch.from_numpy(array(n, np.float32)) for n in ("ref", "smp"))

    def distances(u, v):
        return ((u * u).sum(1)[:, None] - 2 * (u @ v.T) + (v * v).sum(1)[None]).clamp_min(0)

    def once():
        of_ref = distances(ref, ref).kthvalue(4, 1).values
        of_smp = distances(smp, smp).kthvalue(4, 1).values
        d = distances(ref, smp)
        return [float((d <= of_ref[:, None]).any(0).float().mean()), float((d <= of_smp[None]).any(1).float().mean())]

    report(once)
else:
    sys.exit(f"no work called {work}")
