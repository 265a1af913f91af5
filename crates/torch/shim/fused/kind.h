// Numbers of tensors: of f32, and of what products are computed in, with the kernels for that.
#pragma once

#include "table.h"

#include <ATen/autocast_mode.h>

namespace {

inline const float* read(const at::Tensor& x) { return x.const_data_ptr<float>(); }
inline float* write(const at::Tensor& x) { return x.data_ptr<float>(); }

}  // namespace

// What products give and take on this tensor's device now, given f32.
inline at::ScalarType product_kind(const at::Tensor& x) {
  auto type = x.device().type();
  return at::autocast::is_autocast_enabled(type) ? at::autocast::get_autocast_dtype(type) : at::kFloat;
}

// Calls `work(kernels, a number)` with those for products of this kind.
template <class Work>
void with_kernels(at::ScalarType kind, const Work& work) {
  if (kind == at::kBFloat16) return work(kernels().bf16, Bf16{});
  TORCH_CHECK(kind == at::kFloat, "products in ", kind);
  work(kernels().f32, 0.0f);
}
