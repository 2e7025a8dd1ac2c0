"""Any other PEFT tuner by its type: `peft:VERA`, `peft:OFT`, `peft:LN_TUNING`."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, cast, get_type_hints

from bench.errors import UserError, did_you_mean
from bench.i18n import Message
from bench.measurement.memory_limit import is_out_of_memory
from bench.method import Method, Unsupported, param
from bench.training.gradient import GradientMethod, adapter_fields, head_modules


@dataclass
class Peft(GradientMethod):
    """Base class of the methods `peft:TYPE`, one per tuner type of PEFT.

    The fields of the tuner's configuration are the method's hyper-parameters (huggingface.co/docs/peft).
    """

    changes_base_weights: ClassVar[bool] = False
    config_class: ClassVar[Any] = None
    """PEFT's configuration class of the type."""

    def adapt(self, model: Any) -> Any:
        """Add the tuner, with PEFT's defaults where nothing is set, and test it on two tokens."""
        import torch
        from peft import get_peft_model

        params = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        config_fields = {field.name for field in dataclasses.fields(self.config_class)}
        set_params = {name: value for name, value in params.items() if value is not None}
        config_params = {
            name: value for name, value in (adapter_fields(model) | set_params).items() if name in config_fields
        }
        try:
            config = self.config_class(**config_params)
            if config.is_prompt_learning and (head := head_modules(model)):
                config.modules_to_save = head  # no field of these configurations, but PEFT reads it
            adapted: Any = get_peft_model(model, config)
            with torch.no_grad():
                adapted(input_ids=torch.ones((1, 2), dtype=torch.long, device=model.device))
        except (ValueError, TypeError, RuntimeError) as error:
            if is_out_of_memory(error):
                raise
            unset = ", ".join(name for name, value in params.items() if value is None)
            hint = f" (not set: {unset}; set one with --set)" if unset else ""
            raise Unsupported(f"PEFT: {error}{hint}") from error
        return adapted


def variant(name: str) -> type[Method]:
    """Create the method class of a PEFT type.

    Its hyper-parameters are those of `GradientMethod` and the fields of the type's configuration.

    Args:
        name: PEFT type in upper or lower case, e.g. `VERA`.

    Raises:
        UserError: PEFT has no such type.
    """
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING

    config_classes = {peft_type.value: cls for peft_type, cls in PEFT_TYPE_TO_CONFIG_MAPPING.items()}
    if name.upper() not in config_classes:
        raise UserError(
            Message("PEFT has no type '{name}'", name=name), hint=did_you_mean(name.upper(), config_classes)
        )
    config_class = config_classes[name.upper()]
    fields = list(_hyper_parameters(config_class))
    method_class: Any = dataclasses.make_dataclass(f"Peft{config_class.__name__}", fields, bases=(Peft,))
    method_class.__doc__ = config_class.__doc__
    method_class.__module__ = __name__
    method_class.config_class = config_class
    return cast(type[Method], method_class)


def _hyper_parameters(config_class: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield name, type and field of each setting that can be given as text.

    Nested configurations keep PEFT's defaults.
    """
    from peft import PeftConfig

    common_names = {field.name for field in dataclasses.fields(PeftConfig)}
    hints = get_type_hints(config_class)
    for field in dataclasses.fields(config_class):
        is_plain = field.default is None or isinstance(field.default, bool | int | float | str)
        if is_plain and field.init and field.name not in common_names:
            help = " ".join(str(field.metadata.get("help", "see PEFT's documentation")).split())
            yield field.name, hints[field.name], param(field.default, help=help)
