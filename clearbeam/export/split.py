"""Complex tensors as pairs of real ones, so that runtimes without complex numbers can run us.

Within `SplitComplex` the model's own code runs unchanged on `Split` tensors: every operation on
one becomes operations on its parts, and what would make a complex tensor makes a `Split`. A complex
tensor without an imaginary part is a real tensor. Recorded so, a model consists of real operators.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_AS_FLOAT32 = (torch.complex64, torch.complex128, torch.float64)
# What does the same to both parts, whatever the arguments.
_EACH_PART = frozenset(
    "clone contiguous detach diagonal expand flatten flip movedim new_zeros permute reshape split "
    "squeeze sum transpose unbind unflatten unsqueeze".split()
)


def _diagonal(x: Tensor, *, dim1: int, dim2: int) -> Tensor:
    assert (dim1, dim2) == (-2, -1)
    return x.flatten(-2)[..., :: x.shape[-1] + 1]


def _movedim(x: Tensor, source: Any, destination: Any) -> Tensor:
    moved = (source, destination) if isinstance(source, tuple) else ((source,), (destination,))
    to = {d % x.ndim: s % x.ndim for s, d in zip(*moved, strict=True)}
    others = iter(axis for axis in range(x.ndim) if axis not in to.values())
    return x.permute([to[k] if k in to else next(others) for k in range(x.ndim)])


def _split(x: Tensor, size: int, dim: int) -> Sequence[Tensor]:
    return [x] if size >= x.shape[dim] else torch.split(x, size, dim)


def _getitem(x: Tensor, index: Any) -> Tensor:
    """``x[..., i]`` of an axis of one is the same memory: no runtime need gather it."""
    at = index[-1] if isinstance(index, tuple) and index[:1] == (Ellipsis,) else None
    if len(index if at is not None else ()) == 2 and isinstance(at, int) and x.shape[-1] == 1:
        return x.squeeze(-1)
    return Tensor.__getitem__(x, index)


# What runtimes lack, in words that they know. None changes a tensor in place: `a += b`, as Python
# writes it, is `a = a + b` all the same.
_IN_OTHER_WORDS: dict[Any, Callable[..., Any]] = {
    Tensor.__iadd__: torch.add,
    Tensor.addcmul_: torch.addcmul,
    Tensor.__iand__: torch.logical_and,
    vars(torch._C.TensorBase)["mT"].__get__: lambda x: x.transpose(-2, -1),
    Tensor.__getitem__: _getitem,
    Tensor.diagonal: _diagonal,
    Tensor.movedim: _movedim,
    Tensor.split: _split,
}


class Split:
    """A complex tensor: ``real`` and ``imag`` of one shape. Stands in for a Tensor of complex64."""

    is_cuda = False
    dtype = torch.complex64

    def __init__(self, real: Tensor, imag: Tensor) -> None:
        self.real, self.imag = real, imag

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in _EACH_PART:
            raise AttributeError(f"no export yet of {name} of a complex tensor")
        return lambda *args, **kwargs: _each(
            lambda part: getattr(part, name)(*args, **kwargs), self
        )

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = getattr(function, "__name__", "")
        if name not in _FUNCTIONS:
            raise NotImplementedError(f"no export yet of {name} of a complex tensor")
        return _FUNCTIONS[name](*args, **(kwargs or {}))

    @property
    def shape(self) -> torch.Size:
        return self.real.shape

    @property
    def ndim(self) -> int:
        return self.real.ndim

    @property
    def device(self) -> torch.device:
        return self.real.device

    @property
    def mT(self) -> Split:  # noqa: N802
        return Split(self.real.mT, self.imag.mT)

    def dim(self) -> int:
        return self.ndim

    def is_complex(self) -> bool:
        return True

    def numel(self) -> int:
        return self.real.numel()

    def to(self, *_: Any, **__: Any) -> Split:
        return self  # there is one precision

    def conj(self) -> Split:
        return Split(self.real, -self.imag)

    def resolve_conj(self) -> Split:
        return self

    def abs(self) -> Tensor:
        return (self.real.square() + self.imag.square()).sqrt()

    def addcmul_(self, a: Split, b: Split) -> Split:
        total = self + a * b
        self.real, self.imag = total.real, total.imag
        return self

    def __len__(self) -> int:
        return len(self.real)

    def __getitem__(self, index: Any) -> Split:
        if isinstance(index, Tensor) and not index.ndim:  # else it would be taken for a constant
            return _each(lambda part: part.index_select(0, index.reshape(1)).squeeze(0), self)
        return Split(self.real[index], self.imag[index])

    def __add__(self, other: Any) -> Split:
        return _add(self, other)

    def __sub__(self, other: Any) -> Split:
        return _add(self, -other)

    def __neg__(self) -> Split:
        return Split(-self.real, -self.imag)

    def __mul__(self, other: Any) -> Split:
        return _product(torch.mul, self, other)

    def __matmul__(self, other: Any) -> Split:
        return _product(torch.matmul, self, other)

    def __truediv__(self, other: Tensor) -> Split:
        return Split(self.real / other, self.imag / other)

    def __ne__(self, other: Any) -> Tensor:  # type: ignore[override]
        assert other == 0
        return (self.real != 0) | (self.imag != 0)

    __hash__ = None  # type: ignore[assignment]
    __radd__, __rmul__ = __add__, __mul__


class SplitComplex(TorchFunctionMode):
    """The context within which models run on `Split` tensors, all in float32.

    What would make a complex tensor makes a `Split`, or a real tensor where nothing is imaginary.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if function is torch.complex:
            return Split(*args)
        function = _IN_OTHER_WORDS.get(function, function)
        if kwargs.get("dtype") in _AS_FLOAT32:
            kwargs["dtype"] = torch.float32
        args = tuple(torch.float32 if _is_one(arg, _AS_FLOAT32) else arg for arg in args)
        return function(*args, **kwargs)


def _mvdr_souden(*args: Any) -> Split:
    from clearbeam.export.mvdr import mvdr_souden  # which needs this module

    return mvdr_souden(*args)


def _is_one(arg: object, dtypes: tuple[torch.dtype, ...]) -> bool:
    return isinstance(arg, torch.dtype) and arg in dtypes


def _parts(x: Any) -> tuple[Any, Any]:
    return (x.real, x.imag) if isinstance(x, Split) else (x, None)


def _each(function: Callable[[Tensor], Any], x: Split) -> Any:
    real, imag = function(x.real), function(x.imag)
    if isinstance(real, Tensor):
        return Split(real, imag)
    return tuple(Split(*parts) for parts in zip(real, imag, strict=True))


def _add(a: Any, b: Any) -> Split:
    (a_real, a_imag), (b_real, b_imag) = _parts(a), _parts(b)
    imag = b_imag if a_imag is None else a_imag if b_imag is None else a_imag + b_imag
    return Split(a_real + b_real, imag)


def _product(times: Callable[[Tensor, Tensor], Tensor], a: Any, b: Any) -> Split:
    (a_real, a_imag), (b_real, b_imag) = _parts(a), _parts(b)
    if b_imag is None:
        return Split(times(a_real, b_real), times(a_imag, b_real))
    if a_imag is None:
        return Split(times(a_real, b_real), times(a_real, b_imag))
    return Split(
        times(a_real, b_real) - times(a_imag, b_imag),
        times(a_real, b_imag) + times(a_imag, b_real),
    )


def _joined(join: Callable[..., Tensor]) -> Callable[..., Split]:
    def joined(tensors: Any, *args: Any, **kwargs: Any) -> Split:
        parts = zip(*(_parts(one) for one in tensors), strict=True)
        return Split(*(join(part, *args, **kwargs) for part in parts))

    return joined


def _where(condition: Tensor, a: Any, b: Any) -> Split:
    parts = zip(_parts(a), _parts(b), strict=True)
    real, imag = ((0 if x is None else x, 0 if y is None else y) for x, y in parts)
    return Split(torch.where(condition, *real), torch.where(condition, *imag))


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "add": _add,
    "mul": lambda a, b: _product(torch.mul, a, b),
    "sub": lambda a, b: _add(a, -b),
    "cat": _joined(torch.cat),
    "stack": _joined(torch.stack),
    "view_as_real": lambda x: torch.stack([x.real, x.imag], -1),
    "where": _where,
    "isfinite": lambda x: torch.isfinite(x.real) & torch.isfinite(x.imag),
    "zeros_like": lambda x: _each(torch.zeros_like, x),
    "mvdr_souden": _mvdr_souden,
}
