// Operations over all parameters at once: AdamW, the moving average, the norm of the gradients.
#include "ffi.h"

#include <ATen/ops/_foreach_lerp.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/stack.h>
#include <c10/core/GradMode.h>

namespace {

at::Tensor norm(const std::vector<at::Tensor>& list) {
  TORCH_CHECK(!list.empty(), "no tensor to take the norm of");
  return at::linalg_vector_norm(at::stack(at::_foreach_norm(list, 2)), 2);
}

}  // namespace

extern "C" {

// `step` counts from 1.
char* shim_adamw(at::Tensor* const* parameters, at::Tensor* const* gradients, at::Tensor* const* first,
                 at::Tensor* const* second, size_t count, const at::Tensor* step, double learning_rate, double beta1,
                 double beta2, double epsilon, double weight_decay) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    if (count == 0) return;
    at::_fused_adamw_(tensors(parameters, count), tensors(gradients, count), tensors(first, count),
                      tensors(second, count), {}, std::vector<at::Tensor>(count, *step), learning_rate, beta1, beta2,
                      weight_decay, epsilon, /*amsgrad=*/false, /*maximize=*/false);
  });
}

char* shim_lerp(at::Tensor* const* targets, at::Tensor* const* sources, size_t count, double weight) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    if (count > 0) at::_foreach_lerp_(tensors(targets, count), tensors(sources, count), weight);
  });
}

char* shim_norm(at::Tensor* const* list, size_t count, at::Tensor** result) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    *result = new at::Tensor(norm(tensors(list, count)));
  });
}

// Scales the tensors so that their norm is at most `most`; gives the norm from before. Reads nothing back.
char* shim_clip(at::Tensor* const* list, size_t count, double most, at::Tensor** result) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    auto all = tensors(list, count);
    auto before = norm(all);
    at::_foreach_mul_(all, before.add(1e-6).reciprocal().mul(most).clamp_max(1.0));
    *result = new at::Tensor(before);
  });
}
}
