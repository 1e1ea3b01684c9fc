"""Kernels that reach what bounds the scan: the units for exponentials and for multiply-adds."""

import triton
import triton.language as tl


@triton.jit
def _chain(x, steps, SIZE: tl.constexpr, EXPONENTIALS: tl.constexpr):
    """Take one operation after another, of values that stay small."""
    i = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    value = tl.load(x + i)
    for _ in range(steps):
        for _ in tl.static_range(8):
            if EXPONENTIALS:
                value = tl.exp2(value) - 1.25
            else:
                value = value * 0.5 + 0.25
    tl.store(x + i, value)


@triton.jit
def exponentials_kernel(x, steps, SIZE: tl.constexpr):
    """Take one exponential after another of values that stay near -0.6."""
    _chain(x, steps, SIZE, True)


@triton.jit
def multiply_adds_kernel(x, steps, SIZE: tl.constexpr):
    """Take one multiply-add after another."""
    _chain(x, steps, SIZE, False)


@triton.jit
def empty_kernel(x):
    """Store one number: what a launch costs."""
    tl.store(x, 1.0)
