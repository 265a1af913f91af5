// The kernels for this processor.
#pragma once

#include "kernels.h"

#include <ATen/Version.h>

// The instruction set that libtorch's own kernels use, so that ATEN_CPU_CAPABILITY rules both.
inline const Kernels& kernels() {
  static const Kernels& chosen = []() -> const Kernels& {
#if defined(__x86_64__)
    auto capability = at::get_cpu_capability();
    if (capability == "AVX512") return kernels_avx512;
    if (capability == "AVX2") return kernels_avx2;
#endif
    return kernels_base;
  }();
  return chosen;
}
