"""Exported models made known to transformers, so that it opens them without remote code.

``import textgen`` calls ``register_with_transformers``. Where transformers is not imported yet, a
finder of modules waits for it: transformers is found and imported as ever, and then registered
with. So ``import textgen`` itself imports neither transformers nor torch.
"""

import importlib
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

_TRANSFORMERS = "transformers"


def register_with_transformers() -> None:
    """Have transformers open exported models: from now on, or once it is imported."""
    if _TRANSFORMERS in sys.modules:
        _register()
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _register() -> None:
    try:
        transformers = importlib.import_module(_TRANSFORMERS)
        ours = importlib.import_module("textgen.integrations.modeling_textgen")
        config, model = ours.TextgenConfig, ours.TextgenForCausalLM
        transformers.AutoConfig.register(config.model_type, config, exist_ok=True)
        transformers.AutoModelForCausalLM.register(config, model, exist_ok=True)
    except ImportError as error:  # of another version; who imports it need not want our models
        warnings.warn(f"transformers does not know textgen's models: {error}", stacklevel=2)


class _Finder:
    """Finds transformers as the other finders do, and registers with it when it was imported."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _TRANSFORMERS:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        specs = (finder.find_spec(name, path, target) for finder in others)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module
            spec.loader.exec_module = self._then_registered(execute)  # type: ignore[method-assign,assignment]
        return spec

    def _then_registered(
        self, execute: Callable[[ModuleType], None]
    ) -> Callable[[ModuleType], None]:
        def execute_and_register(module: ModuleType) -> None:
            execute(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
                _register()

        return execute_and_register
