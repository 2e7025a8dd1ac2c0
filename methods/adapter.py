"""Bottleneck adapters: a small network on the output of every block; the rest stays frozen."""

from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import PositiveFloat, PositiveInt

from bench.method import Unsupported, param
from bench.training import LR_BY_WIDTH, GradientMethod


@dataclass
class Adapter(GradientMethod):
    """Adapters (https://arxiv.org/abs/1902.00751), one behind each block; the first step starts from the base."""

    export_template = "bottleneck"
    scale_lr_by_width: ClassVar[bool] = True

    lr: PositiveFloat = param(5e-3, help=LR_BY_WIDTH, search=(5e-4, 2e-2), log=True)
    size: PositiveInt = param(64, help="width of the bottleneck", search=(8, 128), log=True)

    def adapt(self, model: Any) -> Any:
        """Add the networks, the second layer of each all zeros; only they are trained."""
        from torch import nn

        config = model.config.get_text_config()
        networks = nn.ModuleList()
        for block in _blocks(model, config.num_hidden_layers):
            down, up = nn.Linear(config.hidden_size, self.size), nn.Linear(self.size, config.hidden_size)
            nn.init.zeros_(up.weight)
            nn.init.zeros_(up.bias)
            networks.append(nn.Sequential(down, nn.GELU(), up).to(model.device))
            block.register_forward_hook(_added(networks[-1]))
        model.add_module("adapters", networks)  # where it is counted with the model it belongs to
        return model


def _blocks(model: Any, depth: int) -> Any:
    """The transformer's blocks: the one list of modules that is as long as the model is deep."""
    from torch.nn import ModuleList

    lists = [module for module in model.modules() if isinstance(module, ModuleList) and len(module) == depth]
    if len(lists) != 1:
        raise Unsupported(f"the model has {len(lists)} lists of {depth} blocks, so it is not clear where adapters go")
    return lists[0]


def _added(network: Any) -> Any:
    """A hook that adds to the hidden states (rows, positions, width) what the network makes of them."""

    def hook(block: Any, inputs: Any, output: Any) -> Any:
        states = output[0] if isinstance(output, tuple) else output
        added = states + network(states.to(network[0].weight.dtype)).to(states.dtype)
        return (added, *output[1:]) if isinstance(output, tuple) else added

    return hook
