"""Print what torch, bitsandbytes and the card do here, as far as adaptbench depends on it.

Run: python benchmarks/gpu/facts.py        (needs a CUDA device; the versions are printed on any machine)

Each part prints its own lines, and a part that fails prints the error, so that the others are still seen.
"""

from __future__ import annotations

import importlib.metadata
import sys
import time
from collections.abc import Callable

import torch

from bench.measurement import device, flops, memory_limit
from bench.measurement.meter import Meter

PACKAGES = ("torch", "transformers", "peft", "trl", "bitsandbytes", "accelerate", "datasets", "numpy")
MIB = 2**20
PARTS: list[Callable[[], None]] = []


def part(body: Callable[[], None]) -> Callable[[], None]:
    """Register a part of the output that needs a card."""
    PARTS.append(body)
    return body


def print_versions() -> None:
    """Print the versions of Python and the libraries."""
    print(f"Python {sys.version.split()[0]}; {', '.join(f'{n} {importlib.metadata.version(n)}' for n in PACKAGES)}")
    print(f"CUDA available: {torch.cuda.is_available()}; TF32 matmul: {torch.backends.cuda.matmul.allow_tf32}; "
          f"float32 precision: {torch.get_float32_matmul_precision()}")  # fmt: skip


@part
def print_card() -> None:
    """Print the card as torch, the driver and NVML see it."""
    print(torch.cuda.get_device_name(), torch.cuda.get_device_capability(), "bytes free, total:",
          torch.cuda.mem_get_info())  # fmt: skip
    print(f"GPUs: {device.count_gpus()}; torch has CUDA: {device.torch_has_cuda()}; "
          f"energy: {Meter('cuda').energy_unmeasured or 'measured'}")  # fmt: skip


@part
def print_matmul_rates() -> None:
    """Print the rate that a record would hold, and rates of matrices of other sizes and data types."""
    print(f"measure_peak_flops: {flops.measure_peak_flops('cuda') / 1e12:.1f} TFLOP/s")
    for side, dtype in ((1024, torch.float32), (8192, torch.float32), (8192, torch.bfloat16), (8192, torch.float16)):
        matrix = torch.randn(side, side, device="cuda", dtype=dtype)
        for _ in range(3):
            matrix @ matrix
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(10):
            matrix @ matrix
        torch.cuda.synchronize()
        print(f"{side} {dtype}: {20 * side**3 / (time.perf_counter() - start) / 1e12:.1f} TFLOP/s")


@part
def print_optimizer_memory() -> None:
    """Print what a step of AdamW takes beyond weights, gradients and moments."""
    for kwargs in ({"foreach": False}, {"foreach": True}, {"fused": True}):
        weights = [torch.zeros(4096, 4096, device="cuda", requires_grad=True) for _ in range(16)]
        for weight in weights:
            weight.grad = torch.ones_like(weight)
        optimizer = torch.optim.AdamW(weights, **kwargs)
        optimizer.step()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        optimizer.step()
        torch.cuda.synchronize()
        print(f"AdamW {kwargs}: {(torch.cuda.max_memory_allocated() - held) / MIB:.0f} MiB for weights of 1,024 MiB")
        del weights, weight, optimizer
        torch.cuda.empty_cache()


@part
def print_attention_memory() -> None:
    """Print kernel and memory of attention over 2,048 tokens, with grouped heads and with a mask."""
    mask = torch.ones(1, 1, 2048, 2048, dtype=torch.bool, device="cuda").tril()
    for dtype in (torch.float32, torch.bfloat16):
        query = torch.randn(1, 24, 2048, 128, device="cuda", dtype=dtype, requires_grad=True)
        keys = torch.randn(1, 8, 2048, 128, device="cuda", dtype=dtype, requires_grad=True)
        for name, kwargs in (("causal, grouped", {"is_causal": True, "enable_gqa": True}), ("mask", {})):
            repeated = keys if kwargs else keys.repeat_interleave(3, 1)
            arguments = kwargs or {"attn_mask": mask}
            torch.cuda.reset_peak_memory_stats()
            held = torch.cuda.memory_allocated()
            output = torch.nn.functional.scaled_dot_product_attention(query, repeated, repeated, **arguments)
            peak_mib = (torch.cuda.max_memory_allocated() - held) / MIB
            print(f"attention {dtype} {name}: {type(output.grad_fn).__name__}, {peak_mib:.0f} MiB")
            del output, repeated


@part
def print_new_shapes() -> None:
    """Print the time of attention whose shape is new each time, as in generating, with cuDNN and without it."""
    for cudnn in (True, False):
        torch.backends.cuda.enable_cudnn_sdp(cudnn)
        query = torch.randn(8, 16, 1, 128, device="cuda", dtype=torch.bfloat16)
        rows = [torch.randn(8, 16, length, 128, device="cuda", dtype=torch.bfloat16) for length in range(200, 232)]
        for name in ("new shapes", "known shapes"):
            torch.cuda.synchronize()
            start = time.perf_counter()
            for keys in rows:
                mask = torch.ones(8, 1, 1, keys.shape[2], dtype=torch.bool, device="cuda")
                torch.nn.functional.scaled_dot_product_attention(query, keys, keys, attn_mask=mask)
            torch.cuda.synchronize()
            milliseconds = 1e3 * (time.perf_counter() - start) / len(rows)
            print(f"attention, cuDNN {'on' if cudnn else 'off'}, {name}: {milliseconds:.2f} ms")


@part
def print_quantized_flops() -> None:
    """Print the share of a 4-bit layer's operations that torch's counter sees."""
    import bitsandbytes
    from torch.utils.flop_counter import FlopCounterMode

    layer = bitsandbytes.nn.Linear4bit(256, 512, bias=False, compute_dtype=torch.float32, quant_type="nf4").cuda()
    inputs = torch.randn(64, 256, device="cuda", requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        layer(inputs).sum().backward()
    share = counter.get_total_flops() / (4 * 64 * 256 * 512)
    print(f"share of a 4-bit layer's operations that FlopCounterMode counts: {share:.2f}")


@part
def print_memory_limit() -> None:
    """Print what a limit, its end, and allocations that cannot succeed look like."""
    for limit_bytes, name in ((2**28, "limit of 256 MiB"), (2**60, "limit lifted")):
        try:
            memory_limit.set_memory_limit(limit_bytes, "cuda")
            torch.empty(2**29, dtype=torch.uint8, device="cuda")
            print(f"{name}: 512 MiB given")
        except Exception as error:
            print_error(f"{name}, 512 MiB", error)
    try:
        torch.empty(2**50, dtype=torch.uint8, device="cuda")
    except Exception as error:
        print_error("1 PiB", error)


def print_error(name: str, error: Exception) -> None:
    """Print an error of an allocation as adaptbench reads it."""
    print(f"{name}: {type(error).__name__}, out of memory: {memory_limit.is_out_of_memory(error)}, "
          f"{memory_limit.describe_allocation(error)}")  # fmt: skip


def main() -> None:
    """Print the versions and, if there is a card, all parts."""
    print_versions()
    for body in PARTS if torch.cuda.is_available() else []:
        try:
            body()
        except Exception as error:
            print(f"{body.__name__}: {type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
