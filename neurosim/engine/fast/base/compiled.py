"""How the functions of the fast engine are compiled.

``_nrt``: no reference counts. Every array belongs to the caller for the whole turn and none is made inside; counting the references of dozens of
arguments with atomic instructions took more than half of the time. ``error_model``: divisors are at least 1 by construction.
Inner functions get no entry points of their own, which would be most of the time to compile: each would unpack dozens of arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

F = TypeVar("F", bound=Callable[..., Any])

OPTIONS: dict[str, Any] = {"error_model": "numpy", "_nrt": False, "no_cfunc_wrapper": True}


def jit(function: F) -> F:
    """Compile an inner function of the kernel; it must not create arrays and cannot be called from Python."""
    return cast(F, _plainly(njit(no_cpython_wrapper=True, **OPTIONS)(function)))


def part(function: F) -> F:
    """Compile an inner function that is called from one place, into that place: handing over dozens of arrays costs as much as a packet-hop."""
    return cast(F, _plainly(njit(no_cpython_wrapper=True, forceinline=True, **OPTIONS)(function)))


def apart(function: F) -> F:
    """Compile a function that stays out of its callers, which must begin with ``stay_apart()``: what is seldom done costs the frequent rest nothing.

    numba hands ``forceinline`` down from a caller to whatever it calls, so the plain functions above end up in the places of their calls.
    """
    return cast(F, _plainly(njit(no_cpython_wrapper=True, forceinline=False, **OPTIONS)(function)))


@intrinsic
def stay_apart(typing: Any) -> Any:
    """Tell LLVM not to inline the function in which this is said, and to keep what its calls need off the frequent paths."""

    def generate(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.function.attributes.add("noinline")
        builder.function.attributes.add("cold")
        return target.get_dummy_value()

    return types.none(), generate


def entry(function: F) -> F:
    """Compile a function that Python may call as well."""
    return cast(F, _plainly(njit(**OPTIONS)(function)))


def _plainly(dispatcher: Any) -> Any:
    """numba compiles a function once more for every constant and every width of integers that it is called with: more than twice the time in all."""
    compile_for = dispatcher.compile
    dispatcher.compile = lambda signature: compile_for(tuple(_plain(kind) for kind in signature))
    return dispatcher


def _plain(kind: Any) -> Any:
    variable = types.unliteral(kind)
    return types.int64 if isinstance(variable, types.Integer) and variable.signed else variable


def _ask(builder: Any, address: Any) -> None:
    """Emit a prefetch for reading, into every level of the cache."""
    word, pointer = ir.IntType(32), ir.IntType(8).as_pointer()
    function = builder.module.declare_intrinsic("llvm.prefetch", [pointer], ir.FunctionType(ir.VoidType(), [pointer, word, word, word]))
    builder.call(function, [builder.bitcast(address, pointer), *(ir.Constant(word, k) for k in (0, 3, 1))])


@intrinsic
def prefetch_item(typing: Any, array: Any, index: Any) -> Any:
    """Ask for the cache line of array[index]; nothing waits for it."""

    def generate(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = cgutils.create_struct_proxy(array)(target, builder, arguments[0]).data
        _ask(builder, builder.gep(data, [arguments[1]]))
        return target.get_dummy_value()

    return types.none(array, types.int64), generate


@intrinsic
def prefetch(context: Any, record: Any) -> Any:
    """Ask for the cache line in which a record begins; nothing waits for it."""

    def generate(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _ask(builder, arguments[0])
        return target.get_dummy_value()

    return types.none(record), generate
