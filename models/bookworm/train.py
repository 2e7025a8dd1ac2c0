"""Build tokenizer, text and weights of bookworm: `python models/bookworm/train.py`."""

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
from words import strip_marks

HERE = Path(__file__).parent


@dataclass(frozen=True)
class TrainingConfig:
    """Hyper-parameters of the tokenizer, the model and the training."""

    tokens: int = 12_500_000
    vocab_size: int = 2304  # of the tokenizer
    min_frequency: int = 50  # of a character or a merge in the text that the tokenizer is trained on
    tokenizer_documents: int = 30_000
    context: int = 512
    hidden_size: int = 256
    intermediate_size: int = 512
    layers: int = 4
    batch_size: int = 4  # rows of `context` tokens per step
    matrix_lr: float = 0.008  # of Muon; at 0.02 attention saturates within 500 steps
    adamw_lr: float = 2e-3
    warmup_ratio: float = 0.02
    decay_ratio: float = 0.4  # share of the steps in which the learning rate falls to zero
    bpe_dropout: float = 0.15  # share of the merges that are dropped, in every second document
    loss_weights: tuple[int, ...] = (1, 3, 10)  # on text, on an answer, on the title in it
    validation_rows: int = 96
    min_token_count: int = 20  # minimum occurrences of each token in training


def train_tokenizer(config: TrainingConfig) -> Tokenizer:
    """Train the tokenizer on the first documents of the training text."""
    return vocabulary.train_bpe(
        list(islice(documents(TRAIN_SEED), config.tokenizer_documents)), config.vocab_size, config.min_frequency
    )


def packed_rows(
    config: TrainingConfig, tokenizer: Tokenizer, seed: int, merge_dropout: float
) -> Iterator[torch.Tensor]:
    """Yield rows of `context` tokens: packed documents, each followed by the end token.

    A row is a tensor of shape (2, context): the token ids, and the loss weight of each token.
    """
    end = tokenizer.token_to_id(vocabulary.END)
    queue: list[tuple[int, int]] = []
    texts = map(strip_marks, marked_documents(seed))
    while True:
        chunk = list(islice(texts, 256))
        for part, share in ((chunk[::2], 0.0), (chunk[1::2], merge_dropout)):
            tokenizer.model.dropout = share or None
            encodings = tokenizer.encode_batch([text for text, _ in part], add_special_tokens=False)
            for encoding, (_, depths) in zip(encodings, part, strict=True):
                loss_weights = (
                    config.loss_weights[max(depths[start:stop], default=0)] for start, stop in encoding.offsets
                )
                queue += [*zip(encoding.ids, loss_weights, strict=True), (end, 1)]
        tokenizer.model.dropout = None
        num_rows = len(queue) // config.context
        yield from torch.tensor(queue[: num_rows * config.context]).view(num_rows, config.context, 2).transpose(1, 2)
        queue = queue[num_rows * config.context :]


def create_model(config: TrainingConfig, tokenizer: Tokenizer) -> LlamaForCausalLM:
    """Return a Llama with random weights."""
    torch.manual_seed(TRAIN_SEED)
    end, pad = tokenizer.token_to_id(vocabulary.END), tokenizer.token_to_id(vocabulary.PAD)
    model_config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.layers,
        num_attention_heads=config.hidden_size // 64,
        head_dim=64,
        max_position_embeddings=config.context,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=pad,
    )
    return LlamaForCausalLM(model_config)


def lr_factor(config: TrainingConfig, done: float) -> float:
    """Return the share of the peak learning rate: warm-up, constant, linear decay to zero.

    Args:
        config: The configuration.
        done: Share of the steps that are done, above 0 and up to 1.
    """
    return min(done / config.warmup_ratio, 1.0, (1.0 - done) / config.decay_ratio)


def create_optimizers(config: TrainingConfig, model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    """Return Muon for the matrices of the layers, and AdamW for embeddings and norms."""
    matrices = [weight for weight in model.model.layers.parameters() if weight.ndim == 2]
    matrix_ids = {id(weight) for weight in matrices}
    rest = [weight for weight in model.parameters() if id(weight) not in matrix_ids]
    return [
        torch.optim.Muon(matrices, lr=config.matrix_lr, weight_decay=0.0),
        torch.optim.AdamW(rest, lr=config.adamw_lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    ]


def weighted_loss(model: LlamaForCausalLM, tokens: torch.Tensor, row_weights: torch.Tensor) -> torch.Tensor:
    """Return the weighted mean of the next-token loss, with the model in bf16.

    Args:
        model: The model.
        tokens: Token ids of shape (rows, context).
        row_weights: Loss weight of each token, of the same shape.
    """
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(input_ids=tokens, use_cache=False).logits
    losses = cross_entropy(logits[:, :-1].flatten(0, 1).float(), tokens[:, 1:].flatten(), reduction="none")
    token_weights = row_weights[:, 1:].flatten()
    return (losses * token_weights).sum() / token_weights.sum()


@torch.inference_mode()
def validation_loss(config: TrainingConfig, model: LlamaForCausalLM, tokenizer: Tokenizer) -> float:
    """Return the loss on text of another seed, without BPE dropout, in nats per token."""
    model.eval()
    rows = islice(packed_rows(config, tokenizer, VALIDATION_SEED, 0.0), config.validation_rows)
    losses = [weighted_loss(model, row[:1], torch.ones_like(row[:1])).item() for row in rows]
    model.train()
    return sum(losses) / len(losses)


def train(config: TrainingConfig, model: LlamaForCausalLM, tokenizer: Tokenizer) -> torch.Tensor:
    """Train for one epoch over the configured number of tokens.

    Returns:
        The number of occurrences of each token of the vocabulary, of shape (vocabulary size,).
    """
    optimizers = create_optimizers(config, model)
    peaks = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
    steps = math.ceil(config.tokens / (config.batch_size * config.context))
    rows = packed_rows(config, tokenizer, TRAIN_SEED, config.bpe_dropout)
    token_counts = torch.zeros(tokenizer.get_vocab_size(), dtype=torch.long)
    start = time.monotonic()
    for step in range(steps):
        batch = torch.stack(list(islice(rows, config.batch_size)))
        token_counts += torch.bincount(batch[:, 0].flatten(), minlength=len(token_counts))
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * lr_factor(config, (step + 1) / steps)
        loss = weighted_loss(model, batch[:, 0], batch[:, 1])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        if step % 100 == 0:
            print(f"{step}/{steps} loss {loss.item():.3f} after {time.monotonic() - start:.0f} s", flush=True)
    return token_counts


def save_model(model: LlamaForCausalLM, tokenizer: Tokenizer, folder: Path, context: int) -> None:
    """Write the files to a temporary folder, then move each of them into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        token_ids: dict[str, Any] = {
            "eos_token_id": model.config.eos_token_id,
            "pad_token_id": model.config.pad_token_id,
        }
        model.generation_config = GenerationConfig(do_sample=False, **token_ids)
        copy.deepcopy(model).to(torch.bfloat16).save_pretrained(temporary)
        vocabulary.save_tokenizer(tokenizer, Path(temporary), context)
        for file in Path(temporary).iterdir():
            os.replace(file, folder / file.name)


def main() -> None:
    """Train and write the tokenizer and the model; exit with 1 if a token is too rare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the model, by default this one")
    folder = parser.parse_args().out
    torch.set_num_threads(2)
    config = TrainingConfig()
    tokenizer = train_tokenizer(config)
    model = create_model(config, tokenizer)
    token_counts = train(config, model, tokenizer)
    save_model(model, tokenizer, folder, config.context)
    nonzero = token_counts[token_counts > 0].double()
    summary = {
        "parameters": model.num_parameters(),
        "tokens": int(token_counts.sum()),
        "validation loss": round(validation_loss(config, model, tokenizer), 3),
        "occurrences of a token (minimum, 1st percentile, median)": [
            int(nonzero.quantile(share)) for share in (0.0, 0.01, 0.5)
        ],
    }
    print(json.dumps(summary))
    rare = [
        tokenizer.id_to_token(token_id)
        for token_id in (token_counts < config.min_token_count).nonzero().flatten().tolist()
    ]
    if rare != [vocabulary.PAD]:
        raise SystemExit(f"error: tokens that occur fewer than {config.min_token_count} times in training: {rare}")


if __name__ == "__main__":
    main()
