"""Bottleneck adapters: a small network after each transformer block; the rest is frozen."""

from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import PositiveFloat, PositiveInt

from bench.method import Unsupported, param
from bench.training.gradient import LR_BY_WIDTH, GradientMethod


@dataclass
class Adapter(GradientMethod):
    """A bottleneck adapter at the output of each transformer block.

    Based on Houlsby et al. 2019 (https://arxiv.org/abs/1902.00751). The output of every adapter is zero at the start
    of training.
    """

    export_template = "bottleneck"
    changes_base_weights: ClassVar[bool] = False
    scale_lr_by_width: ClassVar[bool] = True

    lr: PositiveFloat = param(5e-3, help=LR_BY_WIDTH, search=(5e-4, 2e-2), log=True)
    size: PositiveInt = param(64, help="width of the bottleneck", search=(8, 128), log=True)

    def adapt(self, model: Any) -> Any:
        """Add the networks; their second layers start at zero."""
        from torch import nn

        config = model.config.get_text_config()
        networks = nn.ModuleList()
        for block in _transformer_blocks(model, config.num_hidden_layers):
            down, up = nn.Linear(config.hidden_size, self.size), nn.Linear(self.size, config.hidden_size)
            nn.init.zeros_(up.weight)
            nn.init.zeros_(up.bias)
            networks.append(nn.Sequential(down, nn.GELU(), up).to(model.device))
            block.register_forward_hook(_residual_hook(networks[-1]))
        model.add_module("adapters", networks)  # as a part of the model its parameters are counted and saved
        return model


def _transformer_blocks(model: Any, depth: int) -> Any:
    """Return the blocks of a model: its only `ModuleList` with one module per layer."""
    from torch.nn import ModuleList

    lists = [module for module in model.modules() if isinstance(module, ModuleList) and len(module) == depth]
    if len(lists) != 1:
        raise Unsupported(
            f"the model has {len(lists)} lists of {depth} blocks, so the place of the adapters is unclear"
        )
    return lists[0]


def _residual_hook(network: Any) -> Any:
    """Return a hook that adds `network(states)` to a block's states (rows, positions, width)."""

    def hook(block: Any, inputs: Any, output: Any) -> Any:
        states = output[0] if isinstance(output, tuple) else output
        adapted = states + network(states.to(network[0].weight.dtype)).to(states.dtype)
        return (adapted, *output[1:]) if isinstance(output, tuple) else adapted

    return hook
