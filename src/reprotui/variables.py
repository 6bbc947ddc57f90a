"""Which recorded variables a replay takes over: those that can change numbers, and no value that does anything else.

A manifest may come from anybody. A variable can make a process load code (PYTHONPATH, LD_PRELOAD, a tool library of OpenMP, a
plugin of a device, a cache of compiled programs) or write files (dumps of XLA). So what is taken is listed, name by name, and
every other variable stays out, whatever the manifest says.
"""

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

from reprotui.environment import cores, cpu_model, package_versions
from reprotui.manifest import RunManifest

_WORD = r"[A-Za-z0-9_,:;.@+-]*"
"""A value that names no path and no command: numbers, switches, names of types, lists of them."""
_TAKEN = re.compile(
    r"NPROC|PYTHONHASHSEED|LANG|LC_ALL|MALLOC_PERTURB_"
    # How many threads add up, in which order, with which instructions.
    r"|OMP_(NUM_THREADS|DYNAMIC|SCHEDULE|PROC_BIND|THREAD_LIMIT|MAX_ACTIVE_LEVELS)"
    r"|MKL_(NUM_THREADS|DYNAMIC|CBWR|ENABLE_INSTRUCTIONS|THREADING_LAYER)"
    r"|OPENBLAS_(NUM_THREADS|CORETYPE)|KMP_(DETERMINISTIC_REDUCTION|FORCE_REDUCTION)"
    # Types, random keys, precision, which device, and how hard the compiler tries.
    r"|JAX_(PLATFORMS|PLATFORM_NAME|ENABLE_X64|DEFAULT_MATMUL_PRECISION|DEFAULT_PRNG_IMPL|DEFAULT_DTYPE_BITS"
    r"|NUMPY_DTYPE_PROMOTION|NUMPY_RANK_PROMOTION|THREEFRY_PARTITIONABLE|RANDOM_SEED_OFFSET|ENABLE_CUSTOM_PRNG"
    r"|LEGACY_PRNG_KEY|DISABLE_JIT|DISABLE_MOST_OPTIMIZATIONS|NUM_CPU_DEVICES|CPU_ENABLE_ASYNC_DISPATCH"
    r"|CPU_COLLECTIVES_IMPLEMENTATION|OPTIMIZATION_LEVEL|MEMORY_FITTING_LEVEL|EXEC_TIME_OPTIMIZATION_EFFORT"
    r"|MEMORY_FITTING_EFFORT|USE_SHARDY_PARTITIONER|SOFTMAX_CUSTOM_JVP|DEBUG_NANS|DEBUG_INFS)"
    r"|CUDA_(VISIBLE_DEVICES|DEVICE_ORDER|LAUNCH_BLOCKING)|CUBLAS_WORKSPACE_CONFIG|NVIDIA_TF32_OVERRIDE"
    r"|NCCL_(ALGO|PROTO)|HIP_VISIBLE_DEVICES|ROCR_VISIBLE_DEVICES"
    r"|TF_(CPP_MIN_LOG_LEVEL|ENABLE_ONEDNN_OPTS|CUDNN_DETERMINISTIC|DETERMINISTIC_OPS)"
)
_FLAG = re.compile(
    r"--(xla_allow_excess_precision|xla_backend_optimization_level|xla_disable_all_hlo_passes|xla_disable_hlo_passes"
    r"|xla_force_host_platform_device_count|xla_llvm_disable_expensive_passes|xla_llvm_enable_[a-z_]+"
    r"|xla_cpu_(enable_fast_math|enable_fast_min_max|fast_math_honor_[a-z]+|max_isa|prefer_vector_width|multi_thread_eigen"
    r"|strict_dot_conv_math|use_thunk_runtime|use_onednn|use_xnnpack|use_acl|use_mkl_dnn|use_fusion_emitters"
    r"|parallel_codegen_split_count|enable_concurrency_optimized_scheduler|copy_insertion_use_region_analysis)"
    r"|xla_gpu_(deterministic_ops|exclude_nondeterministic_ops|autotune_level|ftz|graph_level|cublas_fallback"
    r"|enable_(triton_gemm|cublaslt|fast_min_max|latency_hiding_scheduler|command_buffer|split_k_autotuning"
    r"|cudnn_[a-z_]+|while_loop_double_buffering|pipelined_[a-z_]+|async_[a-z_]+|priority_fusion)"
    r"|triton_gemm_any|triton_fusion_level|force_conv_nchw|force_conv_nhwc|strict_conv_algorithm_picker|use_runtime_fusion"
    r"|all_reduce_combine_threshold_bytes|all_gather_combine_threshold_bytes|reduce_scatter_combine_threshold_bytes))"
    rf"(={_WORD})?"
)
"""Flags of XLA that change how numbers are computed. Those that name files (dumps, caches, data, libraries), that hand options on
to LLVM, or that nobody here has looked at, are not among them."""
CACHE = "JAX_COMPILATION_CACHE_DIR"
_CACHE_LIMITS = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}


def taken_over(recorded: Mapping[str, object]) -> dict[str, str]:
    """Return of recorded variables those that a process here may be given, XLA_FLAGS with the flags that it may."""
    found = {}
    for name, value in recorded.items():
        if name == "XLA_FLAGS":
            flags = " ".join(flag for flag in str(value).split() if _FLAG.fullmatch(flag))
            if flags:
                found[name] = flags
        elif isinstance(value, str) and _TAKEN.fullmatch(name) and re.fullmatch(_WORD, value):
            found[name] = value
    return found


def unknown_flags(flags: object) -> list[str]:
    """Return which of XLA's flags do more than change numbers, as far as is known here."""
    return [flag for flag in str(flags or "").split() if not _FLAG.fullmatch(flag)]


def recorded_environment(manifest: RunManifest) -> dict[str, str]:
    """Return the environment of this process with the variables that change numbers as a run recorded them, set or not.

    The size of the CPU backend's thread pool is set even where the run took it from its machine.
    """
    environment = environment_of_script(manifest)
    threads = manifest.devices.get("cpu_threads")
    if isinstance(threads, int) and "NPROC" not in environment and threads != cores():
        environment["NPROC"] = str(threads)
    # The cache is that of here: what lies in one is machine code, and a manifest must not say where it comes from.
    if environment.get("NPROC") != os.environ.get("NPROC"):
        environment.pop(CACHE, None)  # it holds programs for another number of threads
    return with_cache(environment)


def environment_of_script(manifest: RunManifest) -> dict[str, str]:
    """Return the environment of this process with the variables that change numbers as a run recorded them, set or not."""
    recorded = manifest.environment.get("variables")
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS" and not _TAKEN.fullmatch(name)}
    return environment | taken_over(recorded if isinstance(recorded, Mapping) else {})


def with_cache(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment with a directory for compiled programs, the one that all runs share where it names none."""
    if CACHE in environment:
        return dict(environment)
    return {**environment, CACHE: str(compilation_cache(environment)), **_CACHE_LIMITS}


def compilation_cache(environment: Mapping[str, str]) -> Path:
    """Return the directory of compiled programs that the runs of a race share.

    XLA's CPU backend compiles for the processor and for the number of threads, and the number is not part of jax's
    cache key: a run with one thread would load the program of a run with two. So both are part of the directory.
    """
    import platformdirs

    versions = package_versions()
    identity = [cpu_model(), environment.get("NPROC") or str(cores()), versions.get("jax", ""), versions.get("jaxlib", "")]
    key = hashlib.sha256("\n".join(identity).encode()).hexdigest()[:16]
    return platformdirs.user_cache_path("reprotui") / "xla" / key
