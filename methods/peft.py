"""Any other tuner of the library PEFT, by its type: `peft:VERA`, `peft:OFT`, `peft:LN_TUNING`."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, cast, get_type_hints

from bench.errors import UserError, did_you_mean
from bench.measurement.memory_limit import is_out_of_memory
from bench.method import Method, Unsupported, param
from bench.training import GradientMethod, task_type


@dataclass
class Peft(GradientMethod):
    """What the configuration of a PEFT type adds to the model is trained; the type's own fields are its settings."""

    shape: ClassVar[Any] = None

    def adapt(self, model: Any) -> Any:
        """Add what the type adds, as PEFT would by itself where nothing else is said; a short pass must go well."""
        import torch
        from peft import get_peft_model

        said = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        own = {field.name for field in dataclasses.fields(self.shape)}
        try:
            config = self.shape(task_type=task_type(model), **{key: said[key] for key in said.keys() & own})
            adapted: Any = get_peft_model(model, config)
            with torch.no_grad():
                adapted(input_ids=torch.ones((1, 2), dtype=torch.long, device=model.device))
        except (ValueError, TypeError, RuntimeError) as error:
            if is_out_of_memory(error):
                raise
            open_ = ", ".join(field.name for field in dataclasses.fields(self) if getattr(self, field.name) is None)
            more = f" (not set: {open_}; set one with --set)" if open_ else ""
            raise Unsupported(f"PEFT: {error}{more}") from error
        return adapted


def variant(name: str) -> type[Method]:
    """The method of a PEFT type: its hyper-parameters are the engine's, and those of the type's configuration."""
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING

    kinds = {kind.value: shape for kind, shape in PEFT_TYPE_TO_CONFIG_MAPPING.items()}
    if name.upper() not in kinds:
        raise UserError(f"PEFT has no type '{name}'", hint=did_you_mean(name.upper(), kinds))
    shape = kinds[name.upper()]
    made: Any = dataclasses.make_dataclass(f"Peft{shape.__name__}", list(_settings(shape)), bases=(Peft,))
    made.__doc__ = shape.__doc__
    made.__module__ = __name__
    made.shape = shape
    return cast(type[Method], made)


def _settings(shape: Any) -> Iterator[tuple[str, Any, Any]]:
    """Name, type and default of what can be set in words; nested configurations keep PEFT's defaults."""
    from peft import PeftConfig

    common = {field.name for field in dataclasses.fields(PeftConfig)}
    hints = get_type_hints(shape)
    for field in dataclasses.fields(shape):
        plain = field.default is None or isinstance(field.default, bool | int | float | str)
        if plain and field.init and field.name not in common:
            help = " ".join(str(field.metadata.get("help", "see PEFT's documentation")).split())
            yield field.name, hints[field.name], param(field.default, help=help)
