"""Print which method fits which model on which card, by the estimates that `bench models` prints.

Run: python benchmarks/gpu/fits.py [--tokens 256]        (no GPU needed: models are built without weights)

A cell names the methods that fit; the number is the largest micro-batch of training. Architectures are those of public
models, all built as Llama, which counts their matrices as they are.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import registry
from bench.execution.budget import PRESETS
from bench.execution.feasibility import DECODER_ESTIMATORS, build_empty_model, memory_need

GIB = 2**30
CARDS = {
    "RTX 3060, 12 GB": 11.6,
    "T4, 16 GB": 14.6,
    "L4, 24 GB": 22.0,
    "RTX 4090, 24 GB": 23.5,
    "A100, 40 GB": 39.3,
    "A100 or H100, 80 GB": 79.0,
}
"""Free memory in GiB that a process finds on an unused card."""
MODELS = {
    "SmolLM2 135M": (576, 1536, 30, 9, 3, 49152, True),
    "Qwen2.5 0.5B": (896, 4864, 24, 14, 2, 151936, True),
    "Llama 3.2 1B": (2048, 8192, 16, 32, 8, 128256, True),
    "Qwen2.5 1.5B": (1536, 8960, 28, 12, 2, 151936, True),
    "Kanana 1.5 2.1B": (2048, 7168, 32, 16, 8, 128256, True),
    "Llama 3.2 3B": (3072, 8192, 28, 24, 8, 128256, True),
    "Qwen2.5 7B": (3584, 18944, 28, 28, 4, 152064, False),
    "Llama 3.1 8B": (4096, 14336, 32, 32, 8, 128256, False),
    "Qwen2.5 14B": (5120, 13824, 48, 40, 8, 152064, False),
}
"""Hidden size, inner size, layers, heads, key/value heads, vocabulary, and True if both embeddings are one matrix."""
CONFIG_FIELDS = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
    "tie_word_embeddings",
)
METHODS = ("few-shot", "qlora", "lora", "full")


def write_config(folder: Path, shape: tuple[int | bool, ...]) -> None:
    """Write a model folder without weights."""
    config = dict(zip(CONFIG_FIELDS, shape, strict=True))
    config |= {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "max_position_embeddings": 8192}
    config |= {"bos_token_id": None, "eos_token_id": 0, "pad_token_id": 1}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(registry.find_model("bookworm") / name, folder / name)


def main(dtype: str, tokens: int) -> None:
    """Print the table in Markdown."""
    print(f"| model, {dtype}, {tokens} tokens | {' | '.join(CARDS)} |")
    print(f"|---{'|---' * len(CARDS)}|")
    for name, shape in MODELS.items():
        cells = []
        with TemporaryDirectory() as folder:
            write_config(Path(folder), shape)
            lm = build_empty_model(Path(folder), dtype)
        batch = PRESETS["standard"].batch
        ladders = {
            method: DECODER_ESTIMATORS[method](registry.find_method(method)(), lm, tokens, batch) for method in METHODS
        }
        for free_gib in CARDS.values():
            needs = [memory_need(*item, int(free_gib * GIB), 0, shrinks=True) for item in ladders.items()]
            fitting = [need for need in needs if need.fits]
            texts = [f"{need.method} {need.micro_batch}" if need.micro_batch else need.method for need in fitting]
            cells.append(", ".join(texts) or "none")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", default="bfloat16", help="data type of weights and computation")
    parser.add_argument("--tokens", type=int, default=256, help="tokens of the longest example, answer included")
    options = parser.parse_args()
    main(options.dtype, options.tokens)
