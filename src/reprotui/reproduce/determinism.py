"""Deterministic mode: the settings of torch, cuDNN, cuBLAS, XLA and jax, applied in time or refused, and put back.

What a library reads once, when it starts, is environment; asking for it afterwards is an error, never a silence.
"""

import os
import warnings
from collections.abc import Sequence
from dataclasses import InitVar, dataclass, replace
from types import TracebackType
from typing import Any

from reprotui.errors import BadInputError
from reprotui.reproduce.frameworks import TooLateError, choose, cuda_is_initialised, jax_is_initialised, loaded, require
from reprotui.reproduce.values import NOT_GIVEN, one_of

UNSET = ""
"""For a variable or a precision: remove the setting. None leaves it as it is."""

XLA_GPU_FLAG = "--xla_gpu_deterministic_ops=true"
CUBLAS_VARIABLE = "CUBLAS_WORKSPACE_CONFIG"
CUBLAS_DETERMINISTIC = (":4096:8", ":16:8")
"""The two values with which cuBLAS is deterministic, from its documentation."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Read when NumPy or torch is first imported."""
MATMUL_PRECISIONS = ("default", "high", "highest", "bfloat16", "bfloat16_3x", "float32", "tensorfloat32")

_OTHER_NAMES: dict[str, tuple[str, bool]] = {
    "torch_deterministic": ("cudnn_deterministic", True),
    "torch_benchmark": ("cudnn_benchmark", False),
    "torch_use_deterministic_algorithms": ("torch_deterministic_algorithms", True),
}
"""Settings with two names: the other one, and the default."""


@dataclass(frozen=True)
class DeterministicConfig:
    """Settings that make equal programs give equal bits. None leaves a setting as it is.

    Three settings are also accepted as `cudnn_deterministic`, `cudnn_benchmark` and `torch_deterministic_algorithms`; these
    are keywords only, no attributes.

    Attributes:
        torch_deterministic: only deterministic convolutions of cuDNN (by default True; `cudnn_deterministic`).
        torch_benchmark: let cuDNN choose convolutions by timing, so that they may differ from run to run (False;
            `cudnn_benchmark`).
        torch_use_deterministic_algorithms: the function of torch of that name (True; `torch_deterministic_algorithms`).
        torch_warn_only: warn about an operation that has no deterministic form instead of raising.
        warn_performance: give a warning where `apply` switches torch's deterministic algorithms on: they may be slower.
        cublas_workspace_config: the variable; `:4096:8` or `:16:8` are deterministic. Read when CUDA starts.
        xla_gpu_deterministic_ops: XLA's flag for GPUs. Read when jax starts.
        xla_flags: the whole value of XLA_FLAGS; the flag above is added to it. Read when jax starts.
        threads: size of the thread pools of NumPy, torch and XLA. NumPy's is read at its import, XLA's when jax starts.
        matmul_precision: `jax_default_matmul_precision`.
        threefry_partitionable: `jax_threefry_partitionable`: the same numbers however an array is sharded.
        frameworks: the libraries that are meant; all that are installed by default. torch is imported, jax is not.
    """

    torch_deterministic: bool | None = NOT_GIVEN
    torch_benchmark: bool | None = NOT_GIVEN
    torch_use_deterministic_algorithms: bool | None = NOT_GIVEN
    torch_warn_only: bool = False
    warn_performance: bool = False
    cublas_workspace_config: str | None = CUBLAS_DETERMINISTIC[0]
    xla_gpu_deterministic_ops: bool | None = True
    xla_flags: str | None = None
    threads: int | None = None
    matmul_precision: str | None = None
    threefry_partitionable: bool | None = True
    frameworks: Sequence[str] | str | None = None
    previous: tuple[tuple[str, str | None], ...] | None = None
    """Set by `apply` only: the variables as they were. Such a config goes back, which is never too late: what jax and CUDA
    were started with stays in force until the process ends."""
    cudnn_deterministic: InitVar[bool | None] = NOT_GIVEN
    cudnn_benchmark: InitVar[bool | None] = NOT_GIVEN
    torch_deterministic_algorithms: InitVar[bool | None] = NOT_GIVEN

    def __post_init__(
        self, cudnn_deterministic: bool | None, cudnn_benchmark: bool | None, torch_deterministic_algorithms: bool | None
    ) -> None:
        others = (cudnn_deterministic, cudnn_benchmark, torch_deterministic_algorithms)
        for (name, (other, default)), given in zip(_OTHER_NAMES.items(), others, strict=True):
            object.__setattr__(self, name, one_of(name, getattr(self, name), other, given, default))

    def without_xla(self) -> "DeterministicConfig":
        """Return the config without what jax reads when it starts."""
        return replace(self, xla_gpu_deterministic_ops=None, xla_flags=None)

    def apply(self) -> "DeterministicConfig":
        """Put the settings in force, all or none of them.

        Returns:
            The config that puts back what was there.

        Raises:
            TooLateError: jax, CUDA or NumPy has read one of the settings already, with another value.
            BadInputError: a value is impossible.
            FrameworkMissingError: a framework that `frameworks` names is not installed.
        """
        names = choose(self.frameworks, "deterministic mode")
        self._check()
        variables = self._variables(names)
        if self.previous is None:
            _refuse_late(variables, self.threads)
        before = self._present(names, variables)
        _set_variables(variables)
        if "torch" in names:
            self._apply_torch(require("torch", "deterministic mode"))
        if "jax" in names and (jax := loaded("jax")) is not None:
            if self.matmul_precision is not None:
                jax.config.update("jax_default_matmul_precision", self.matmul_precision or None)
            if self.threefry_partitionable is not None:
                jax.config.update("jax_threefry_partitionable", self.threefry_partitionable)
        if self.warn_performance and "torch" in names and (self.torch_use_deterministic_algorithms or self.torch_deterministic):
            said = "deterministic mode is on and may be slower: benchmark_deterministic_impact measures by how much"
            warnings.warn(said, UserWarning, stacklevel=2)
        return before

    def _check(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise BadInputError(f"threads is {self.threads}: it must be at least 1")
        if self.matmul_precision and self.matmul_precision not in MATMUL_PRECISIONS:
            raise BadInputError(f"matmul_precision is {self.matmul_precision!r}: expected one of {', '.join(MATMUL_PRECISIONS)}")

    def _variables(self, names: Sequence[str]) -> dict[str, str | None]:
        """Return the variables to set, with None for those to remove."""
        if self.previous is not None:
            return dict(self.previous)
        variables: dict[str, str | None] = {}
        if "torch" in names and self.cublas_workspace_config is not None:
            variables[CUBLAS_VARIABLE] = self.cublas_workspace_config or None
        if "jax" in names:
            if self.xla_flags is not None or self.xla_gpu_deterministic_ops is not None:
                variables["XLA_FLAGS"] = self._xla_flags()
            if self.matmul_precision is not None:
                variables["JAX_DEFAULT_MATMUL_PRECISION"] = self.matmul_precision or None
            if self.threefry_partitionable is not None:
                variables["JAX_THREEFRY_PARTITIONABLE"] = "1" if self.threefry_partitionable else "0"
        if self.threads is not None:
            variables |= dict.fromkeys(THREAD_VARIABLES, str(self.threads))
            if "jax" in names:
                variables["NPROC"] = str(self.threads)
        return variables

    def _xla_flags(self) -> str | None:
        flags = (os.environ.get("XLA_FLAGS", "") if self.xla_flags is None else self.xla_flags).split()
        if self.xla_gpu_deterministic_ops is not None:
            name = XLA_GPU_FLAG.split("=")[0]
            # XLA takes the last of equal flags, and reads a bare one as true.
            value = [flag for flag in flags if flag.split("=")[0] == name][-1:]
            on = bool(value) and value[0].partition("=")[2].lower() in ("", "true", "1")
            if on != self.xla_gpu_deterministic_ops:
                flags = [flag for flag in flags if flag.split("=")[0] != name]
                flags += [XLA_GPU_FLAG] if self.xla_gpu_deterministic_ops else []
        return " ".join(flags) or None

    def _present(self, names: Sequence[str], variables: dict[str, str | None]) -> "DeterministicConfig":
        """Return the config that describes what is in force now."""
        before = DeterministicConfig(
            torch_deterministic=None,
            torch_benchmark=None,
            torch_use_deterministic_algorithms=None,
            threefry_partitionable=None,
            frameworks=tuple(names),
            previous=tuple((name, os.environ.get(name)) for name in variables),
        )
        if "torch" in names:
            torch = require("torch", "deterministic mode")
            before = replace(
                before,
                torch_deterministic=torch.backends.cudnn.deterministic,
                torch_benchmark=torch.backends.cudnn.benchmark,
                torch_use_deterministic_algorithms=torch.are_deterministic_algorithms_enabled(),
                torch_warn_only=torch.is_deterministic_algorithms_warn_only_enabled(),
                threads=torch.get_num_threads() if self.threads is not None else None,
            )
        if "jax" in names and (jax := loaded("jax")) is not None:
            precision = jax.config.jax_default_matmul_precision
            before = replace(
                before,
                matmul_precision=(precision or UNSET) if self.matmul_precision is not None else None,
                threefry_partitionable=jax.config.jax_threefry_partitionable,
            )
        return before

    def _apply_torch(self, torch: Any) -> None:
        if self.torch_use_deterministic_algorithms is not None:
            torch.use_deterministic_algorithms(self.torch_use_deterministic_algorithms, warn_only=self.torch_warn_only)
        if self.torch_deterministic is not None:
            torch.backends.cudnn.deterministic = self.torch_deterministic
        if self.torch_benchmark is not None:
            torch.backends.cudnn.benchmark = self.torch_benchmark
        if self.threads is not None:
            torch.set_num_threads(self.threads)


def enable_deterministic_mode(config: DeterministicConfig | None = None, **settings: Any) -> DeterministicConfig:
    """Switch deterministic mode on; return the previous state, which `previous.apply()` puts back.

    Call it before the first computation: jax reads its flags when it starts, CUDA its workspace.

    Args:
        config: what to set; `DeterministicConfig()` by default.
        settings: single fields of it, such as `torch_warn_only=True`.

    Raises:
        TooLateError: jax or CUDA has started with other settings.
        BadInputError: a setting is unknown or impossible.
    """
    # Under the field's own name, or a setting would seem to contradict the one that it replaces.
    for name, (other, _) in _OTHER_NAMES.items():
        if other in settings:
            settings[name] = one_of(name, settings.get(name, NOT_GIVEN), other, settings.pop(other))
    try:
        chosen = replace(config or DeterministicConfig(), **settings)
    except TypeError as error:
        raise BadInputError(f"deterministic mode has no such setting: {', '.join(settings)}") from error
    return chosen.apply()


class DeterministicContext:
    """Deterministic mode inside a `with` block; afterwards the settings are those of before, also after an exception.

    What jax or CUDA was started with inside the block stays in force until the process ends (`get_deterministic_status`).
    """

    def __init__(self, config: DeterministicConfig | None = None, **settings: Any) -> None:
        self._config, self._settings = config, settings
        self._before: list[DeterministicConfig] = []

    def __enter__(self) -> DeterministicConfig:
        self._before.append(enable_deterministic_mode(self._config, **self._settings))
        return self._before[-1]

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._before.pop().apply()


def _refuse_late(variables: dict[str, str | None], threads: int | None) -> None:
    """Raise for every variable that would change after it was read; nothing has been set yet."""
    changed = {name: value for name, value in variables.items() if os.environ.get(name) != value}
    late = []
    if jax_is_initialised():
        late += [f"{name}={changed[name] or ''} (jax has started)" for name in ("XLA_FLAGS", "NPROC") if name in changed]
    if CUBLAS_VARIABLE in changed and cuda_is_initialised():
        late.append(f"{CUBLAS_VARIABLE}={changed[CUBLAS_VARIABLE] or ''} (CUDA has started)")
    if threads is not None and loaded("numpy") is not None:
        late += [f"{name}={threads} (NumPy is imported)" for name in THREAD_VARIABLES if name in changed]
    if late:
        raise TooLateError(
            f"too late for {'; '.join(late)}: the setting is read once, and would have no effect now. "
            "Call this at the top of the program, before the first import or computation, or set the variable in the shell"
        )


def _set_variables(variables: dict[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
