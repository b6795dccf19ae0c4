"""Writes golden.json: rotary frequencies and rotated vectors as Hugging Face transformers has them. See README.md.

    python3 -m venv venv && venv/bin/pip install torch==2.12.0 transformers==5.24.0 numpy==2.4.6
    venv/bin/python generate.py > golden.json
"""

import json
import platform

import torch
import transformers
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.cohere import modeling_cohere
from transformers.models.llama import modeling_llama

# name, rotated dimensions, head dimension, base, trained context, rope_parameters as in a config.json, sequence length, our scaling
CASES = [
    ("none", 64, 64, 1e4, 4096, {"rope_type": "default"}, None, {"type": "none"}),
    ("none, a quarter of the head", 32, 128, 1e4, 2048, {"rope_type": "default"}, None, {"type": "none"}),
    ("linear", 128, 128, 1e4, 16384, {"rope_type": "linear", "factor": 4.0}, None, {"type": "linear", "factor": 4}),
    *[
        (
            f"dynamic NTK at {length} tokens",
            128,
            128,
            1e4,
            4096,
            {"rope_type": "dynamic", "factor": 2.0},
            length,
            {"type": "dynamicNtk", "factor": 2, "originalContext": 4096, "numTokens": length},
        )
        for length in (1000, 4096, 8192, 20000)
    ],
    # A dynamic factor of 2 at twice the context is an NTK-aware factor of 3.
    ("NTK-aware", 128, 128, 1e4, 4096, {"rope_type": "dynamic", "factor": 2.0}, 8192, {"type": "ntk", "factor": 3}),
    *[
        (
            f"llama3, factor {factor}",
            dim,
            dim,
            5e5,
            131072,
            {
                "rope_type": "llama3",
                "factor": float(factor),
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
            None,
            {"type": "llama3", "factor": factor, "originalContext": 8192},
        )
        for factor, dim in ((8, 128), (32, 64))
    ],
    (
        "yarn",
        128,
        128,
        1e6,
        131072,
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768},
        None,
        {"type": "yarn", "factor": 4, "originalContext": 32768},
    ),
    (
        "yarn with two mscales",
        64,
        64,
        1e4,
        163840,
        {
            "rope_type": "yarn",
            "factor": 40.0,
            "original_max_position_embeddings": 4096,
            "mscale": 1.0,
            "mscale_all_dim": 0.707,
        },
        None,
        {"type": "yarn", "factor": 40, "originalContext": 4096, "mscale": 1, "mscaleAllDim": 0.707},
    ),
    (
        "yarn, ends not rounded, other betas",
        64,
        64,
        1.5e5,
        131072,
        {
            "rope_type": "yarn",
            "factor": 32.0,
            "original_max_position_embeddings": 4096,
            "beta_fast": 24.0,
            "beta_slow": 2.0,
            "attention_factor": 1.25,
            "truncate": False,
        },
        None,
        {
            "type": "yarn",
            "factor": 32,
            "originalContext": 4096,
            "betaFast": 24,
            "betaSlow": 2,
            "attentionFactor": 1.25,
            "truncate": False,
        },
    ),
]


def frequencies(rotary_dim, head_dim, base, context, parameters, length):
    config = LlamaConfig(
        hidden_size=2 * head_dim,
        num_attention_heads=2,
        head_dim=head_dim,
        max_position_embeddings=context,
        rope_parameters={**parameters, "rope_theta": base, "partial_rotary_factor": rotary_dim / head_dim},
    )
    if parameters["rope_type"] == "default":
        default = modeling_llama.LlamaRotaryEmbedding.compute_default_rope_parameters
        config.head_dim = rotary_dim  # this one knows no partial rotation
        return default(config)
    return ROPE_INIT_FUNCTIONS[parameters["rope_type"]](config, "cpu", seq_len=length)


def rotated(module, inverse_frequencies, magnitude, adjacent, positions):
    """Two heads of every position; cos and sin laid out as the module's own embedding lays them out."""
    angles = torch.tensor(positions, dtype=torch.float64)[:, None] * inverse_frequencies.double()[None, :]
    angles = torch.repeat_interleave(angles, 2, dim=-1) if adjacent else torch.cat((angles, angles), dim=-1)
    cos, sin = (angles.cos() * magnitude).float()[None], (angles.sin() * magnitude).float()[None]
    generator = torch.Generator().manual_seed(7)
    vectors = torch.randint(-8, 9, (1, 2, len(positions), angles.shape[-1]), generator=generator).float()
    out, _ = module.apply_rotary_pos_emb(vectors, vectors, cos, sin)
    by_token = lambda x: x[0].transpose(0, 1).flatten().tolist()
    return by_token(vectors), by_token(out)


def main():
    versions = {
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    scalings = []
    for name, rotary_dim, head_dim, base, context, parameters, length, scaling in CASES:
        values, magnitude = frequencies(rotary_dim, head_dim, base, context, parameters, length)
        scalings.append(
            {
                "name": name,
                "rotaryDim": rotary_dim,
                "freqBase": base,
                "scaling": scaling,
                "frequencies": values.tolist(),
                "magnitude": magnitude,
            }
        )
    positions = [0, 1, 5, 1000, 65535]
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
    values, magnitude = frequencies(16, 16, 1e4, 256, yarn, None)
    rotations = []
    for pairing, module in (("half", modeling_llama), ("adjacent", modeling_cohere)):
        vectors, out = rotated(module, values, magnitude, pairing == "adjacent", positions)
        rotations.append(
            {
                "pairing": pairing,
                "headDim": 16,
                "numHeads": 2,
                "freqBase": 1e4,
                "scaling": {"type": "yarn", "factor": 4, "originalContext": 64},
                "positions": positions,
                "vectors": vectors,
                "rotated": out,
            }
        )
    line = lambda entries: ",\n".join(json.dumps(entry) for entry in entries)
    print(f'{{"versions":{json.dumps(versions)},"scalings":[\n{line(scalings)}\n],"rotations":[\n{line(rotations)}\n]}}')


main()
