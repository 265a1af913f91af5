// The kernels for this processor.
#pragma once

#include "bf16/kernels.h"
#include "kernels.h"

#include <ATen/Version.h>

#if defined(BF16_KERNELS)
#include <cpuid.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <string>

// What the processor says of itself in leaf 7; compilers learn the names of new instructions late.
struct Leaf7 {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  explicit Leaf7(unsigned subleaf) { __get_cpuid_count(7, subleaf, &eax, &ebx, &ecx, &edx); }
};

// Whether oneDNN, which does libtorch's products in bf16, may use the instruction: a variable of its own names the newest set that it
// may. That rules both.
inline bool onednn_may() {
  auto set = std::getenv("ONEDNN_MAX_CPU_ISA");
  if (set == nullptr) set = std::getenv("DNNL_MAX_CPU_ISA");
  std::string name(set == nullptr ? "" : set);
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::toupper(c); });
  if (name.empty()) return true;
  auto begins = [&](const char* set) { return name.rfind(set, 0) == 0; };
  return begins("ALL") || begins("DEFAULT") || begins("AVX512_CORE_BF16") || begins("AVX512_CORE_FP16") ||
         begins("AVX512_CORE_AMX") || begins("AVX10");
}
#endif

// Those of a processor that multiplies bf16 by itself, else null.
inline const Bf16Kernels* bf16_kernels() {
#if defined(BF16_KERNELS)
  static const Bf16Kernels all{bf16_heads, bf16_products};
  constexpr unsigned AVX512_BF16 = 1u << 5;
  static const bool there =
      at::get_cpu_capability() == "AVX512" && (Leaf7(1).eax & AVX512_BF16) != 0 && onednn_may();
  return there ? &all : nullptr;
#else
  return nullptr;
#endif
}

// Those of products by weights. A processor with tiles (AMX) multiplies many times as fast by them, as oneDNN does.
inline const ProductKernels* bf16_product_kernels() {
#if defined(BF16_KERNELS)
  constexpr unsigned AMX_BF16 = 1u << 22;
  static const bool tiles = (Leaf7(0).edx & AMX_BF16) != 0;
  return bf16_kernels() == nullptr || tiles ? nullptr : &bf16_kernels()->products;
#else
  return nullptr;
#endif
}

// The instruction set that libtorch's own kernels use, so that ATEN_CPU_CAPABILITY rules both.
inline const Kernels& kernels() {
  static const Kernels chosen = [] {
#if defined(BF16_KERNELS)
    if (bf16_kernels() != nullptr) {
      auto all = kernels_avx512;
      all.bf16.gelu = bf16_gelu.gelu;
      all.bf16.gelu_backward = bf16_gelu.gelu_backward;
      return all;
    }
#endif
#if defined(__x86_64__)
    auto capability = at::get_cpu_capability();
    if (capability == "AVX512") return kernels_avx512;
    if (capability == "AVX2") return kernels_avx2;
#endif
    return kernels_base;
  }();
  return chosen;
}
