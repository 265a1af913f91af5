"""Writes the two files beside it, in the two formats of torch.save, with Python's own pickler (no torch needed).

Tensors: `layer.weight` f32 [2, 3] = 0..5; `layer.turned` the same storage transposed, [3, 2]; `layer.bias` f16 [2] = 1.5, -2;
`steps` i64 [] = 7. The older file wraps them as {"state_dict": …}. `evil.pth` calls os.system.
Run in this folder: python3 make.py
"""
import collections, io, pickle, struct, sys, types, zipfile

utils = types.ModuleType("torch._utils")
torch = types.ModuleType("torch")


def _rebuild_tensor_v2(*a): ...


_rebuild_tensor_v2.__module__ = "torch._utils"
utils._rebuild_tensor_v2 = _rebuild_tensor_v2
torch._utils = utils
for kind in ["Float", "Half", "Long"]:
    name = kind + "Storage"
    setattr(torch, name, type(name, (), {"__module__": "torch"}))
sys.modules["torch"], sys.modules["torch._utils"] = torch, utils


class Storage:
    def __init__(self, key, kind, values, code):
        self.key, self.kind, self.count = key, kind, len(values)
        self.bytes = struct.pack("<%d%s" % (len(values), code), *values)


class Tensor:
    def __init__(self, storage, size, stride):
        self.args = (storage, 0, size, stride, False, collections.OrderedDict())

    def __reduce__(self):
        return _rebuild_tensor_v2, self.args


weight = Storage("0", torch.FloatStorage, [0, 1, 2, 3, 4, 5], "f")
bias = Storage("1", torch.HalfStorage, [1.5, -2.0], "e")
steps = Storage("2", torch.LongStorage, [7], "q")
storages = [weight, bias, steps]
state = collections.OrderedDict([
    ("layer.weight", Tensor(weight, (2, 3), (3, 1))),
    ("layer.turned", Tensor(weight, (3, 2), (1, 3))),
    ("layer.bias", Tensor(bias, (2,), (1,))),
    ("steps", Tensor(steps, (), ())),
])
state._metadata = collections.OrderedDict(version=1)


def dump(value, old):
    out = io.BytesIO()

    def persistent_id(o):
        if isinstance(o, Storage):
            return ("storage", o.kind, o.key, "cpu", o.count) + ((None,) if old else ())

    class P(pickle.Pickler):
        pass

    P.persistent_id = lambda self, o: persistent_id(o)
    P(out, protocol=2).dump(value)
    return out.getvalue()


with zipfile.ZipFile("new.pth", "w", zipfile.ZIP_STORED) as z:
    def put(name, data):
        z.writestr(zipfile.ZipInfo("archive/" + name), data)
    put("data.pkl", dump(state, False))
    put("byteorder", b"little")
    for s in storages:
        put("data/" + s.key, s.bytes)
    put("version", b"3\n")

with open("old.pth", "wb") as f:
    for o in [0x1950A86A20F9469CFC6C, 1001, dict(protocol_version=1001, little_endian=True, type_sizes=dict(int=4))]:
        f.write(pickle.dumps(o, protocol=2))
    f.write(dump({"state_dict": state, "epoch": 3}, True))
    f.write(pickle.dumps([s.key for s in storages], protocol=2))
    for s in storages:
        f.write(struct.pack("<q", s.count) + s.bytes)


class Evil:
    def __reduce__(self):
        import os
        return os.system, ("true",)


with zipfile.ZipFile("evil.pth", "w", zipfile.ZIP_STORED) as z:
    z.writestr(zipfile.ZipInfo("archive/data.pkl"), dump({"x": Evil()}, False))
