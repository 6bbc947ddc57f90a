"""The loops of `rfp1-64` over the host's memory as machine code for this CPU, which LLVM makes in this process.

Each function reads one leaf once. It is written in LLVM's own language (`leaf_code`): nothing has to be optimised then, it is
there within milliseconds, for every layout, and no cache of compiled programs is needed.
"""

import ctypes
import functools
import sys
from typing import Any

from reprotui.checksum.finite import FiniteTest
from reprotui.checksum.leaf_code import leaf_function

ROW_BYTES = 32
"""What a function writes for a leaf: both lanes (uint32), the sum of squares and the largest magnitude (float64) where it takes
statistics, and whether a number is not finite (int64) where its type has such numbers."""

_kept: list[Any] = []
"""What LLVM compiled: it must live as long as its functions can be called."""


def made() -> bool:
    """Say whether some of it is there already."""
    return bool(_kept)


@functools.cache
def trouble() -> str | None:
    """Return why LLVM makes no code here; None where it does. Tried once; needs no numpy."""
    try:
        table_calls()
        function("32")
    except Exception as error:  # not installed, not for this platform, no memory that may be executed: each raises its own
        version = getattr(sys.modules.get("llvmlite"), "__version__", None)
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        return reason if version is None else f"{reason} (llvmlite {version}; from 0.45 on it is tried)"
    return None


@functools.cache
def function(word: str, number: str | None = None, test: FiniteTest | None = None) -> int:
    """Return the address of the function for a kind of words; statistics and the test for what is not finite as asked for.

    It is called with the address of the words, their number, the definition's `t` of the first of them, and where to write.

    Raises:
        Exception: whatever an installation of llvmlite that does not work raises.
    """
    return _compiled(leaf_function(word, number, test), "leaf")


@functools.cache
def call(word: str) -> Any:
    """Return the function for a kind of words as one that can be called, and lets other threads run meanwhile."""
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_uint32, ctypes.c_void_p)(function(word))


@functools.cache
def table_calls() -> tuple[Any, Any]:
    """Return what reads a table: rows of (function, address, words, `t` of the first) as int64, their number, where to write.

    The first keeps the interpreter's lock, which is cheaper than to win it back; the second lets other threads run.
    """
    address = _compiled(_TABLE, "table")
    arguments = ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p
    return ctypes.PYFUNCTYPE(None, *arguments)(address), ctypes.CFUNCTYPE(None, *arguments)(address)


def _compiled(text: str, name: str) -> int:
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = llvm.parse_assembly(text)
    module.verify()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=2
    )
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    _kept.append(engine)
    return engine.get_function_address(name)


_TABLE = f"""
define void @table(ptr %rows, i64 %count, ptr %out) {{
entry:
  %any = icmp sgt i64 %count, 0
  br i1 %any, label %loop, label %end
loop:
  %row = phi i64 [0, %entry], [%next, %loop]
  %at = getelementptr [4 x i64], ptr %rows, i64 %row
  %at1 = getelementptr i64, ptr %at, i64 1
  %at2 = getelementptr i64, ptr %at, i64 2
  %at3 = getelementptr i64, ptr %at, i64 3
  %function = load ptr, ptr %at, align 8
  %words = load ptr, ptr %at1, align 8
  %size = load i64, ptr %at2, align 8
  %start64 = load i64, ptr %at3, align 8
  %start = trunc i64 %start64 to i32
  %to = getelementptr [{ROW_BYTES} x i8], ptr %out, i64 %row
  call void %function(ptr %words, i64 %size, i32 %start, ptr %to)
  %next = add i64 %row, 1
  %more = icmp slt i64 %next, %count
  br i1 %more, label %loop, label %end
end:
  ret void
}}
"""
