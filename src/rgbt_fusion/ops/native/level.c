/* Compiled once for each instruction set: -DLEVEL=baseline, avx2 or avx512, with the flags of hatch_build.py. */
#include "conv.h"

#define JOIN(a, b) a##b
#define NAME(level) JOIN(kernels_, level)
#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

extern const Kernels NAME(LEVEL);
const Kernels NAME(LEVEL) = {
    .name = TEXT(LEVEL),
    .lanes = V,
    .scan_forward_bytes = scan_forward_bytes,
    .scan_backward_bytes = scan_backward_bytes,
    .conv_forward_bytes = conv_forward_bytes,
    .conv_backward_bytes = conv_backward_bytes,
    .scan_forward = scan_forward,
    .scan_backward = scan_backward,
    .conv_forward = conv_forward,
    .conv_backward = conv_backward,
    .sum_units = sum_units,
    .bound = bound,
};
