"""Writes protocol-2.pt to protocol-5.pt and protocol-4-old.pt beside it with torch.save in each protocol of pickle, with what
training programs keep beside a state dict: NumPy's arrays, sets, the settings of an argument parser and of OmegaConf.

Written with torch 2.11 and NumPy 2.4. Run in this folder: python3 protocols.py
"""
import argparse, sys, types
import numpy as np, torch


class DictConfig:
    """The shape of OmegaConf's containers when they are pickled: wrapped content, and a way back to their parents."""

    def __init__(self, content, parent=None):
        self.__dict__["_metadata"] = {"ref_type": dict, "key": None}
        self.__dict__["_parent"] = parent
        self.__dict__["_content"] = {
            key: DictConfig(value, self) if isinstance(value, dict) else AnyNode(value, self) for key, value in content.items()
        }

    def __getstate__(self):
        return self.__dict__

    def __setstate__(self, state):
        self.__dict__.update(state)


class AnyNode(DictConfig):
    def __init__(self, value, parent):
        self.__dict__.update(_metadata={"key": None}, _parent=parent, _val=value)


for kind, module in [(DictConfig, "omegaconf.dictconfig"), (AnyNode, "omegaconf.nodes")]:
    kind.__module__ = module
    sys.modules[module] = types.ModuleType(module)
    setattr(sys.modules[module], kind.__name__, kind)
sys.modules["omegaconf"] = types.ModuleType("omegaconf")

content = {
    "state_dict": {
        "tensor": torch.arange(6, dtype=torch.float32).view(2, 3),
        "rows": np.arange(6, dtype=np.float32).reshape(2, 3),
        "columns": np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)),
        "half": np.array([1.5, -2.0], dtype=np.float16),
        "count": np.array(7, dtype=np.int64),
    },
    "tags": frozenset({"a", "b"}),
    "seen": {1, 2},
    "random": np.random.RandomState(0).get_state(),
    "best": np.float64(1.5),
    "args": argparse.Namespace(num_classes=10, model="DiT-S/2", lr=1e-4),
    "config": DictConfig({"general": {"schedule_name": "linear", "image_size": 256}, "models": {"name": "DiT-S/2"}}),
}
for protocol in range(2, 6):
    torch.save(content, f"protocol-{protocol}.pt", pickle_protocol=protocol)
torch.save(content, "protocol-4-old.pt", pickle_protocol=4, _use_new_zipfile_serialization=False)
