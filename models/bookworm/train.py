"""Rebuild the model from nothing: `python models/bookworm/train.py` (the tokenizer, the text, the weights)."""

import argparse
import copy
import json
import math
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import vocabulary
from corpus import TRAIN_SEED, VALIDATION_SEED, documents, marked_documents
from tokenizers import Tokenizer
from torch.nn.functional import cross_entropy
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM
from words import weigh

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Recipe:
    """All that decides what comes out."""

    tokens: int = 12_500_000
    entries: int = 2304
    least: int = 50  # times a character or a merge occurs in what the tokenizer learns from
    learn_from: int = 30_000  # documents
    context: int = 512
    width: int = 256
    inner: int = 512
    layers: int = 4
    batch: int = 4  # blocks of `context` tokens a step
    lr_matrices: float = 0.008  # at 0.02 attention saturates within 500 steps
    lr_rest: float = 2e-3
    warmup: float = 0.02
    decay: float = 0.4  # share of the steps over which the rate falls to zero
    dropout: float = 0.15  # of merges, in every second document
    weights: tuple[int, ...] = (1, 3, 10)  # of the loss: on plain text, on an answer, on the title in it
    validation: int = 96  # blocks
    least_seen: int = 20  # times that every entry must occur


def learn_tokenizer(recipe: Recipe) -> Tokenizer:
    """Learn the vocabulary from the first documents of the training text."""
    return vocabulary.learn(list(islice(documents(TRAIN_SEED), recipe.learn_from)), recipe.entries, recipe.least)


def blocks(recipe: Recipe, tokenizer: Tokenizer, seed: int, dropout: float) -> Iterator[torch.Tensor]:
    """Documents packed into rows of `context` tokens, each document followed by the end token.

    A row is a tensor (2, context): the tokens, and how much the loss on each counts.
    """
    end = tokenizer.token_to_id(vocabulary.END)
    queue: list[tuple[int, int]] = []
    texts = map(weigh, marked_documents(seed))
    while True:
        chunk = list(islice(texts, 256))
        for part, share in ((chunk[::2], 0.0), (chunk[1::2], dropout)):
            tokenizer.model.dropout = share or None
            codes = tokenizer.encode_batch([text for text, _ in part], add_special_tokens=False)
            for code, (_, depths) in zip(codes, part, strict=True):
                weights = (recipe.weights[max(depths[start:stop], default=0)] for start, stop in code.offsets)
                queue += [*zip(code.ids, weights, strict=True), (end, 1)]
        tokenizer.model.dropout = None
        full = len(queue) // recipe.context
        yield from torch.tensor(queue[: full * recipe.context]).view(full, recipe.context, 2).transpose(1, 2)
        queue = queue[full * recipe.context :]


def new_model(recipe: Recipe, tokenizer: Tokenizer) -> LlamaForCausalLM:
    """A Llama of the recipe's shape with random weights."""
    torch.manual_seed(TRAIN_SEED)
    end, pad = tokenizer.token_to_id(vocabulary.END), tokenizer.token_to_id(vocabulary.PAD)
    shape = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=recipe.width,
        intermediate_size=recipe.inner,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.width // 64,
        head_dim=64,
        max_position_embeddings=recipe.context,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=pad,
    )
    return LlamaForCausalLM(shape)


def rate(recipe: Recipe, done: float) -> float:
    """The share of the peak learning rate when `done` of the steps are: up, level, down to zero."""
    return min(done / recipe.warmup, 1.0, (1.0 - done) / recipe.decay)


def optimizers(recipe: Recipe, model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for embeddings and norms."""
    matrices = [weight for weight in model.model.layers.parameters() if weight.ndim == 2]
    inside = {id(weight) for weight in matrices}
    rest = [weight for weight in model.parameters() if id(weight) not in inside]
    return [
        torch.optim.Muon(matrices, lr=recipe.lr_matrices, weight_decay=0.0),
        torch.optim.AdamW(rest, lr=recipe.lr_rest, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    ]


def loss_of(model: LlamaForCausalLM, tokens: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted mean of the next-token loss of some blocks, in bf16."""
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(input_ids=tokens, use_cache=False).logits
    losses = cross_entropy(logits[:, :-1].flatten(0, 1).float(), tokens[:, 1:].flatten(), reduction="none")
    counts = weights[:, 1:].flatten()
    return (losses * counts).sum() / counts.sum()


@torch.inference_mode()
def validation_loss(recipe: Recipe, model: LlamaForCausalLM, tokenizer: Tokenizer) -> float:
    """Mean loss on text of another seed, tokenized without dropout."""
    model.eval()
    rows = islice(blocks(recipe, tokenizer, VALIDATION_SEED, 0.0), recipe.validation)
    losses = [loss_of(model, row[:1], torch.ones_like(row[:1])).item() for row in rows]
    model.train()
    return sum(losses) / len(losses)


def train(recipe: Recipe, model: LlamaForCausalLM, tokenizer: Tokenizer) -> torch.Tensor:
    """Train once over the recipe's tokens; returns how often each entry of the vocabulary was seen."""
    optimizers_ = optimizers(recipe, model)
    peaks = [group["lr"] for optimizer in optimizers_ for group in optimizer.param_groups]
    steps = math.ceil(recipe.tokens / (recipe.batch * recipe.context))
    rows = blocks(recipe, tokenizer, TRAIN_SEED, recipe.dropout)
    seen = torch.zeros(tokenizer.get_vocab_size(), dtype=torch.long)
    start = time.monotonic()
    for step in range(steps):
        batch = torch.stack(list(islice(rows, recipe.batch)))
        seen += torch.bincount(batch[:, 0].flatten(), minlength=len(seen))
        for optimizer, peak in zip(optimizers_, peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * rate(recipe, (step + 1) / steps)
        loss = loss_of(model, batch[:, 0], batch[:, 1])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers_:
            optimizer.step()
            optimizer.zero_grad()
        if step % 100 == 0:
            print(f"{step}/{steps} loss {loss.item():.3f} after {time.monotonic() - start:.0f} s", flush=True)
    return seen


def ship(model: LlamaForCausalLM, tokenizer: Tokenizer, folder: Path, context: int) -> None:
    """Write all files beside their place, then move them there, so that a half-written model never stands there."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as draft:
        ends: dict[str, Any] = {"eos_token_id": model.config.eos_token_id, "pad_token_id": model.config.pad_token_id}
        model.generation_config = GenerationConfig(do_sample=False, **ends)
        copy.deepcopy(model).to(torch.bfloat16).save_pretrained(draft)
        vocabulary.save(tokenizer, Path(draft), context)
        for file in Path(draft).iterdir():
            os.replace(file, folder / file.name)


def main() -> None:
    """Learn the tokenizer, train, write the model, check that every entry of the vocabulary was seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE, help="where the model goes")
    folder = parser.parse_args().out
    torch.set_num_threads(2)
    recipe = Recipe()
    tokenizer = learn_tokenizer(recipe)
    model = new_model(recipe, tokenizer)
    seen = train(recipe, model, tokenizer)
    ship(model, tokenizer, folder, recipe.context)
    entries = seen[seen > 0].double()
    summary = {
        "parameters": model.num_parameters(),
        "tokens": int(seen.sum()),
        "validation loss": round(validation_loss(recipe, model, tokenizer), 3),
        "times an entry was seen (least, 1 %, median)": [int(entries.quantile(share)) for share in (0.0, 0.01, 0.5)],
    }
    print(json.dumps(summary))
    rare = [tokenizer.id_to_token(place) for place in (seen < recipe.least_seen).nonzero().flatten().tolist()]
    if rare != [vocabulary.PAD]:
        raise SystemExit(f"entries seen fewer than {recipe.least_seen} times: {rare}")


if __name__ == "__main__":
    main()
