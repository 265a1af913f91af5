// Operations over all parameters at once: AdamW, the moving average, the norm of the gradients.
#include "border.h"

#include <ATen/ops/_foreach_lerp.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/stack.h>
#include <c10/core/GradMode.h>

namespace {

// The gradients that there are.
std::vector<at::Tensor> gradients(const std::vector<at::Tensor>& parameters) {
  std::vector<at::Tensor> list;
  list.reserve(parameters.size());
  for (const auto& p : parameters)
    if (p.grad().defined()) list.push_back(p.grad());
  return list;
}

at::Tensor norm(const std::vector<at::Tensor>& list) {
  TORCH_CHECK(!list.empty(), "no tensor to take the norm of");
  return at::linalg_vector_norm(at::stack(at::_foreach_norm(list, 2)), 2);
}

}  // namespace

extern "C" {

// `step` counts from 1. Parameters without a gradient stay as they are.
char* shim_adamw(at::Tensor* const* parameters, at::Tensor* const* first, at::Tensor* const* second, size_t count,
                 const at::Tensor* step, double learning_rate, double beta1, double beta2, double epsilon,
                 double weight_decay) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    std::vector<at::Tensor> p, g, m, v, s;
    for (size_t i = 0; i < count; ++i) {
      if (!parameters[i]->grad().defined()) continue;
      p.push_back(*parameters[i]);
      g.push_back(parameters[i]->grad());
      m.push_back(*first[i]);
      v.push_back(*second[i]);
      s.push_back(*step);
    }
    if (p.empty()) return;
    at::_fused_adamw_(p, g, m, v, {}, s, learning_rate, beta1, beta2, weight_decay, epsilon,
                      /*amsgrad=*/false, /*maximize=*/false);
  });
}

char* shim_lerp(at::Tensor* const* targets, at::Tensor* const* sources, size_t count, double weight) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    if (count > 0) at::_foreach_lerp_(tensors(targets, count), tensors(sources, count), weight);
  });
}

char* shim_gradient_norm(at::Tensor* const* parameters, size_t count, at::Tensor** result) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    *result = new at::Tensor(norm(gradients(tensors(parameters, count))));
  });
}

// Scales the gradients so that their norm is at most `most`; gives the norm from before. Reads nothing back.
char* shim_clip_gradients(at::Tensor* const* parameters, size_t count, double most, at::Tensor** result) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    auto list = gradients(tensors(parameters, count));
    auto before = norm(list);
    at::_foreach_mul_(list, before.add(1e-6).reciprocal().mul(most).clamp_max(1.0));
    *result = new at::Tensor(before);
  });
}

char* shim_drop_gradients(at::Tensor* const* parameters, size_t count) {
  return guarded([&] {
    for (size_t i = 0; i < count; ++i) parameters[i]->mutable_grad().reset();
  });
}
}
