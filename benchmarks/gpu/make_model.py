"""Save a Llama of random weights with the tokenizer of the shipped model, made on the device.

Run: python benchmarks/gpu/make_model.py FOLDER

BIG_SHAPE in the environment gives hidden size, inner size, layers, heads, key/value heads, head size and vocabulary. By
default the model has the 2.07 billion weights of Kanana 1.5 2.1B.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from bench import registry

DEFAULT_SHAPE = "2048,7168,32,16,8,128,128256"


def main(folder: Path) -> None:
    """Make the model and save it in bfloat16, in one file."""
    shape = os.environ.get("BIG_SHAPE", DEFAULT_SHAPE)
    hidden, inner, layers, heads, kv_heads, head_dim, vocabulary = map(int, shape.split(","))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    start = time.perf_counter()
    config = LlamaConfig(
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        vocab_size=vocabulary,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=1,
    )
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model = LlamaForCausalLM(config)
    model.config.dtype = torch.bfloat16
    model.save_pretrained(folder, max_shard_size="50GB")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(registry.find_model("bookworm") / name, folder / name)
    count = sum(weight.numel() for weight in model.parameters())
    print(f"random model: {count / 1e9:.3f} B parameters, {device}, {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
