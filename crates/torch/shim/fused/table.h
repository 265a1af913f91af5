// The kernels for this processor.
#pragma once

#include "bf16/kernels.h"
#include "kernels.h"

#include <ATen/Version.h>

#include <cstdlib>
#include <string>

// Those of a processor that multiplies bf16 by itself, else null. oneDNN, which does libtorch's products in bf16, can be forbidden
// it by ONEDNN_MAX_CPU_ISA; that rules both too.
inline const Bf16Kernels* bf16_kernels() {
#if defined(__x86_64__)
  static const Bf16Kernels all{bf16_heads, bf16_products};
  static const bool there = [] {
    auto set = std::getenv("ONEDNN_MAX_CPU_ISA");
    bool forbidden = set != nullptr && std::string(set) == "AVX512_CORE";
    return at::get_cpu_capability() == "AVX512" && __builtin_cpu_supports("avx512bf16") && !forbidden;
  }();
  return there ? &all : nullptr;
#else
  return nullptr;
#endif
}

// The instruction set that libtorch's own kernels use, so that ATEN_CPU_CAPABILITY rules both.
inline const Kernels& kernels() {
  static const Kernels chosen = [] {
#if defined(__x86_64__)
    auto capability = at::get_cpu_capability();
    if (bf16_kernels() != nullptr) {
      auto all = kernels_avx512;
      all.bf16.gelu = bf16_gelu.gelu;
      all.bf16.gelu_backward = bf16_gelu.gelu_backward;
      return all;
    }
    if (capability == "AVX512") return kernels_avx512;
    if (capability == "AVX2") return kernels_avx2;
#endif
    return kernels_base;
  }();
  return chosen;
}
