"""A CUDA device that is simulated on the CPU, so that device errors are found without a GPU.

Numbers are real and in CPU memory, but what was made on ``cuda``, or moved there, says so. An
operation that mixes it with CPU tensors fails, as on a GPU, in forward and backward passes and in
optimizers. What would wait for the device is counted. A CUDA graph records operations without
running them, and runs them again at each replay on the same memory. Under autocast, layers of
recurrent networks compute in float16, as those of cuDNN do.
"""

import collections
import contextlib
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")
_RECURRENT = {"lstm", "gru", "rnn_tanh", "rnn_relu"}
_WAITING = {"_local_scalar_dense", "nonzero", "_unique2", "masked_select", "equal", "bincount"}
_BY_INDEX = {"index", "index_put", "index_put_", "_index_put_impl_"}  # by indices of either device
_NOT_CAST_ON_CUDA = {"cat", "stack", "index_copy"}  # but by the CPU's autocast
_Generator, _autocast = torch.Generator, torch.autocast


def _tensors(tree: Any) -> list[Tensor]:
    return [each for each in tree_leaves(tree) if isinstance(each, Tensor)]


def _is_cuda(device: object) -> bool:
    return isinstance(device, str | torch.device) and torch.device(device).type == "cuda"


def _place() -> str:
    """The line of textgen that is running."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if "/textgen/" in name and "/tests/" not in name:
            return f"{name.rsplit('/textgen/', 1)[-1]}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return "a backward pass"


class _Storages:
    """A set of storages. A weak reference keeps the address of each from being used again."""

    def __init__(self) -> None:
        self._held: dict[int, StorageWeakRef] = {}

    def __contains__(self, tensor: Tensor) -> bool:
        return tensor.layout == torch.strided and tensor.untyped_storage()._cdata in self._held

    def add(self, tensor: Tensor) -> None:
        if tensor.layout == torch.strided:
            storage = tensor.untyped_storage()
            self._held.setdefault(storage._cdata, StorageWeakRef(storage))

    def remove(self, tensor: Tensor) -> bool:
        return self._held.pop(tensor.untyped_storage()._cdata, None) is not None


class SimulatedDevice(TorchFunctionMode):
    """What a tensor says of itself, and where it is made.

    Attributes:
        memory: The storages on the device.
        undecided: Storages that were made within a function of PyTorch, on what will prove to
            be its device.
        waits: How often the CPU waited for the device, by operation and line of textgen.
        graph: The CUDA graph that is being captured.
        half: Whether autocast is on.
    """

    def __init__(self) -> None:
        super().__init__()
        self.memory, self.undecided = _Storages(), _Storages()
        self.waits: collections.Counter[str] = collections.Counter()
        self.graph: _Graph | None = None
        self.half, self.depth = False, 0
        self._flattened: dict[int, int] = {}

    def adopt(self, tensors: Iterable[Tensor]) -> None:
        for each in tensors:
            self.undecided.remove(each)
            self.memory.add(each)

    def wait(self, operation: str) -> None:
        if self.graph is not None:
            raise RuntimeError(f"not permitted when a stream is capturing: {operation}")
        self.waits[f"{operation} at {_place()}"] += 1

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = dict(kwargs or {}), getattr(func, "__name__", "")
        on_device = bool(args) and isinstance(args[0], Tensor) and args[0] in self.memory
        if name == "__get__" and on_device and func.__self__ in (Tensor.device, Tensor.is_cuda):
            return CUDA if func.__self__ is Tensor.device else True
        if name in ("numpy", "__array__") and on_device:
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        if name == "tolist" and on_device:
            self.wait(name)
        if name in ("pin_memory", "cpu", "cuda", "to") and isinstance(args[0], Tensor):
            return self._moved(name, *args, **kwargs)
        made_on_device = name != "_parse_to" and _is_cuda(kwargs.get("device"))
        if made_on_device:
            kwargs["device"] = CPU
        generator = kwargs.get("generator")
        if isinstance(generator, _KnowingGenerator) and generator.on_device != on_device:
            raise RuntimeError(f"{name}: the generator is of another device")
        given_on_device = any(each in self.memory for each in _tensors((args, kwargs)))
        self.depth += 1
        try:
            outs = self._called(func, name, args, kwargs, given_on_device)
        finally:
            self.depth -= 1
        for each in _tensors(outs):
            if made_on_device:
                outs = each = each.clone() if name == "as_tensor" else each
                self.memory.add(each)
            elif (self.undecided.remove(each) or name.startswith("new_")) and given_on_device:
                self.memory.add(each)
        return outs

    def _called(self, func: Any, name: str, args: Any, kwargs: Any, on_device: bool) -> Any:
        if name in _RECURRENT and on_device:
            self._check_flat(args)
        if not self.half or not on_device or name not in _RECURRENT | _NOT_CAST_ON_CUDA:
            return func(*args, **kwargs)
        with _autocast("cpu", enabled=False):
            if name in _NOT_CAST_ON_CUDA:
                return func(*args, **kwargs)
            args = tree_map(lambda each: each.float() if isinstance(each, Tensor) else each, args)
            return tuple(each.half() for each in func(*args, **kwargs))

    def _check_flat(self, args: Any) -> None:
        """cuDNN copies weights at each call, and warns, where they are not in one piece."""
        weights = next(each for each in args if isinstance(each, tuple) and len(each) == 4)
        pieces = {self._flattened.get(each.untyped_storage()._cdata) for each in weights}
        if not self.half and (None in pieces or len(pieces) > 1):
            raise RuntimeError("RNN module weights are not part of single contiguous chunk")

    def flatten(self, module: torch.nn.RNNBase) -> None:
        if all(each in self.memory for each in module._flat_weights):
            for each in module._flat_weights:
                self._flattened[each.untyped_storage()._cdata] = id(module)

    def _moved(self, name: str, tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """``to`` and its like: another tensor, where it is to be on another device."""
        if name == "pin_memory":
            return tensor.clone()
        where: Any = kwargs.pop("device", {"cpu": CPU, "cuda": CUDA}.get(name))
        dtype = kwargs.pop("dtype", None)
        for each in (*args, kwargs.pop("other", None)):
            if isinstance(each, Tensor):
                where, dtype = CUDA if each in self.memory else CPU, each.dtype
            elif isinstance(each, str | torch.device):
                where = each
            elif isinstance(each, torch.dtype):
                dtype = each
        before = tensor in self.memory
        after = before if where is None else _is_cuda(where)
        made = tensor if dtype is None else tensor.to(dtype)
        if before == after:
            return made
        with _disable_current_modes():
            made = made * 1 if made.requires_grad else made.clone()
        if after:
            self.memory.add(made)
        else:
            self.memory.remove(made)
            self.wait("a copy to the CPU")
        return made

    @contextlib.contextmanager
    def running(self) -> Iterator["SimulatedDevice"]:
        """Within it, ``cuda`` is this device."""
        device = self
        by_device = torch.utils._foreach_utils._group_tensors_by_device_and_dtype

        def grouped(lists: Any, *rest: Any) -> Any:
            first = next(each for each in lists[0] if each is not None)
            where = CUDA if first in self.memory else CPU
            return {(where, key[1]): value for key, value in by_device(lists, *rest).items()}

        class Autocast(_autocast):
            def __init__(self, device_type: str, *args: Any, **kwargs: Any) -> None:
                self._cuda = device_type == "cuda"
                super().__init__("cpu" if self._cuda else device_type, *args, **kwargs)

            def __enter__(self) -> Any:
                self._before = device.half
                device.half = self._enabled if self._cuda else self._before
                return super().__enter__()

            def __exit__(self, *error: Any) -> Any:
                device.half = self._before
                return super().__exit__(*error)

        replaced: dict[str, Any] = {
            "torch.cuda.is_available": lambda: True,
            "torch.cuda.device_count": lambda: 1,
            "torch.cuda.set_device": lambda device: None,
            "torch.cuda.mem_get_info": lambda device: (2**34, 2**34),
            "torch.cuda.CUDAGraph": _Graph,
            "torch.cuda.graph": lambda graph: graph.capturing(self),
            "torch.Generator": _KnowingGenerator,
            "torch.autocast": Autocast,
            "torch.nn.RNNBase.flatten_parameters": lambda module: self.flatten(module),
            "torch.nn.utils.clip_grad._group_tensors_by_device_and_dtype": grouped,
            "torch.optim.optimizer._group_tensors_by_device_and_dtype": grouped,
        }
        with contextlib.ExitStack() as stack:
            for place, replacement in replaced.items():
                stack.enter_context(mock.patch(place, replacement))
            stack.enter_context(self)
            stack.enter_context(_Kernels(self))
            yield self


class _Kernels(TorchDispatchMode):
    """Each operation below autograd, with the tensors that it is given."""

    def __init__(self, device: SimulatedDevice) -> None:
        super().__init__()
        self._device = device

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, func._schema.name.split("::")[1]
        device, given = self._device, _tensors((args, kwargs))
        on_device = [each for each in given if each in device.memory]
        if on_device:
            device.adopt(each for each in given if each in device.undecided)
            self._check(name, args, given, on_device)
            lengths = name == "repeat_interleave" and kwargs.get("output_size") is None
            if name in _WAITING or lengths:
                device.wait(name)
        if device.graph is not None and on_device:
            outs = device.graph.record(func, args, kwargs)
        else:
            outs = func(*args, **kwargs)
        if on_device and name != "copy_":
            device.adopt(_tensors(outs))
        elif not given and device.depth:
            for each in _tensors(outs):
                device.undecided.add(each)
        return outs

    def _check(self, name: str, args: Any, given: list[Tensor], on_device: list[Tensor]) -> None:
        device = self._device
        others = [each for each in given if each not in device.memory]
        if name == "copy_":
            if others and args[0] in device.memory and device.graph is not None:
                device.wait("a copy of pageable memory")
            if args[0] not in device.memory:
                device.wait("a copy to the CPU")
            return
        if name in _BY_INDEX and args[0] in device.memory:
            indices = _tensors(args[1])
            others = [each for each in others if not any(each is one for one in indices)]
            if any(each.dtype == torch.bool for each in indices):
                device.wait(f"{name} by a mask")
        scalars = all(each.ndim == 0 for each in on_device)
        if any(each.ndim or scalars for each in others) and name != "_to_copy":
            found = [("cuda" if each in device.memory else "cpu", *each.shape) for each in given]
            raise RuntimeError(
                f"{name} at {_place()}: all tensors must be on the same device, found {found}"
            )


class _KnowingGenerator(_Generator):
    """A generator that knows its device."""

    on_device: bool

    def __new__(cls, device: Any = "cpu") -> "_KnowingGenerator":
        made = super().__new__(cls, device="cpu")
        made.on_device = _is_cuda(device)
        return made

    def __init__(self, device: Any = "cpu") -> None:
        """Made already."""


class _Graph:
    """Operations that are recorded in order, and run at each replay."""

    def __init__(self) -> None:
        self._operations: list[tuple[Any, ...]] = []
        self._before: dict[int, tuple[Tensor, Tensor]] = {}
        self._known: set[int] = set()
        self._states: dict[int, tuple[torch.Generator, Tensor]] = {}

    def register_generator_state(self, generator: torch.Generator) -> None:
        self._known.add(generator._cdata)

    @contextlib.contextmanager
    def capturing(self, device: SimulatedDevice) -> Iterator[None]:
        """Record; afterwards all memory is as if nothing had run."""
        device.graph = self
        try:
            yield
        finally:
            device.graph = None
            with _disable_current_modes(), torch.inference_mode():
                for memory, numbers in self._before.values():
                    memory.copy_(numbers)
                for generator, state in self._states.values():
                    generator.set_state(state)

    def record(self, func: Any, args: Any, kwargs: Any) -> Any:
        for each in tree_leaves((args, kwargs)):
            if isinstance(each, _Generator):
                if each._cdata not in self._known:
                    raise RuntimeError("a generator that is not registered with the graph")
                self._states.setdefault(each._cdata, (each, each.get_state()))
        for index, argument in enumerate(func._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                value = args[index] if index < len(args) else kwargs.get(argument.name)
                for each in _tensors(value):
                    storage = each.untyped_storage()
                    if storage._cdata not in self._before:
                        whole = torch.empty(0, dtype=torch.uint8).set_(storage)
                        self._before[storage._cdata] = (whole, whole.clone())
        outs = func(*args, **kwargs)
        if not func.is_view:
            self._operations.append((func, args, kwargs, outs, torch.is_grad_enabled()))
        return outs

    def replay(self) -> None:
        with _disable_current_modes(), torch._C._AutoDispatchBelowAutograd():
            for func, args, kwargs, outs, learns in self._operations:
                with torch.set_grad_enabled(learns):
                    again = func(*args, **kwargs)
                for old, new in zip(_tensors(outs), _tensors(again), strict=True):
                    if old is not new and old.data_ptr() != new.data_ptr():
                        old.copy_(new)


Device = Callable[[], contextlib.AbstractContextManager[Any]]
"""``with device() as cuda``: within it there is a device ``cuda``, whose ``waits`` are counted."""


@pytest.fixture
def simulated() -> Device:
    """A device that is simulated."""
    return lambda: SimulatedDevice().running()


def _real() -> contextlib.AbstractContextManager[Any]:
    """A real one, whose waits are not counted."""
    return contextlib.nullcontext(types.SimpleNamespace(waits=collections.Counter()))


@pytest.fixture(
    params=[
        "simulated",
        pytest.param(
            "real",
            marks=[
                pytest.mark.cuda,
                pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
            ],
        ),
    ]
)
def device(request: pytest.FixtureRequest, simulated: Device) -> Device:
    """A device that is simulated, and a real one where there is one."""
    return simulated if request.param == "simulated" else _real
