"""Write a fine-tuned model as one plain transformers model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.errors import UserError
from bench.i18n import Message

NO_MERGE_HINT = Message("leave --merge out")


def write_merged_model(model: Any, trained_weights: Path, folder: Path) -> None:
    """Merge trained weights into a model and save it for `from_pretrained`.

    Args:
        model: Model of transformers, or a `PeftModel` on one.
        trained_weights: Safetensors file of weights by their names in the model; it need not exist.
        folder: Folder for the saved model.

    Raises:
        UserError: The weights cannot be merged, or the plain architecture has no parameters of these names.
    """
    from transformers import AutoConfig

    if hasattr(model, "merge_and_unload"):
        try:
            model = model.merge_and_unload()
        except (AttributeError, NotImplementedError, ValueError, TypeError) as error:
            raise UserError(
                Message("--merge: PEFT cannot merge this adapter: {problem}", problem=error), hint=NO_MERGE_HINT
            ) from None
    elif hasattr(model, "peft_config"):
        raise UserError(
            Message("--merge: virtual tokens of a prompt cannot be merged into weights"), hint=NO_MERGE_HINT
        )
    elif trained_weights.is_file():
        _replace_weights(model, trained_weights)
    model.save_pretrained(folder)
    config = AutoConfig.from_pretrained(folder)
    _, info = type(model).from_pretrained(folder, config=config, output_loading_info=True)
    unmatched = sorted({*info["missing_keys"], *info["unexpected_keys"], *map(str, info["mismatched_keys"])})
    if unmatched:
        message = Message(
            "--merge: a plain {kind} has no parameter {name}", kind=type(model).__name__, name=unmatched[0]
        )
        raise UserError(message, hint=Message("leave --merge out: answer.py loads the weights"))


def _replace_weights(model: Any, trained_weights: Path) -> None:
    """Replace parameters by trained ones, and set the configuration options they need."""
    from safetensors.torch import load_file
    from torch.nn import Parameter

    weights, config = load_file(trained_weights), model.config.get_text_config()
    for name, weight in weights.items():
        layer, _, parameter_name = name.rpartition(".")
        try:
            setattr(model.get_submodule(layer), parameter_name, Parameter(weight))
        except AttributeError:
            raise UserError(
                Message("--merge: a plain model has no parameter {name}", name=name), hint=NO_MERGE_HINT
            ) from None
    output_layer = model.get_output_embeddings()
    if output_layer is not None and output_layer.weight is not model.get_input_embeddings().weight:
        model.config.tie_word_embeddings = config.tie_word_embeddings = False
    if any(name.endswith(".bias") for name in weights):
        for option in ("attention_bias", "mlp_bias"):
            if hasattr(config, option):
                setattr(config, option, True)
