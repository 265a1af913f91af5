// Matrices that are added up by few weights each, with gradients.
#include "ffi.h"
#include "fused/kind.h"
#include "fused/parallel.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// Numbers of a matrix that are mixed together.
constexpr int64_t PIECE = 1 << 14;

// y [B, P] = gates [B, E] x [E, P], y in the products' kind. BLAS is slow at so short a sum.
struct Mix : Function<Mix> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& gates_, const at::Tensor& x_) {
    auto gates = gates_.contiguous(), x = x_.contiguous();
    int64_t rows = gates.size(0), count = gates.size(1), width = x.size(1), pieces = (width + PIECE - 1) / PIECE;
    auto y = at::empty({rows, width}, product_kind(x));
    with_kernels(y.scalar_type(), [&](const auto& k, auto number) {
      using P = decltype(number);
      auto stored = x.scalar_type() == y.scalar_type();
      TORCH_CHECK(stored || x.scalar_type() == at::kFloat, "to mix ", x.scalar_type());
      auto to = static_cast<P*>(y.mutable_data_ptr());
      auto from = x.const_data_ptr();
      for_units(rows * pieces, [&](int64_t unit) {
        int64_t row = unit / pieces, begin = unit % pieces * PIECE, numbers = std::min(PIECE, width - begin);
        auto of_row = read(gates) + row * count;
        auto out = to + row * width + begin;
        if (stored) return k.mix_stored(count, numbers, of_row, static_cast<const P*>(from) + begin, width, out);
        k.mix(count, numbers, of_row, static_cast<const float*>(from) + begin, width, out);
      });
    });
    context->save_for_backward({gates, x});
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    auto saved = context->get_saved_variables();
    auto &gates = saved[0], &x = saved[1];
    if (gradients[0].scalar_type() == at::kBFloat16 && x.scalar_type() == at::kFloat)
      return widened(gradients[0].contiguous(), gates, x);
    auto dy = gradients[0].to(x.scalar_type());
    return {dy.mm(x.t()).to(at::kFloat), gates.to(dy.scalar_type()).t().mm(dy)};
  }

 private:
  // Gradients in f32 from those of y in bf16.
  static variable_list widened(const at::Tensor& dy, const at::Tensor& gates, const at::Tensor& x) {
    TORCH_CHECK(!at::GradMode::is_enabled(), "no gradient of the gradient of experts in bf16");
    int64_t rows = gates.size(0), count = gates.size(1), width = x.size(1), pieces = (width + PIECE - 1) / PIECE;
    auto dx = at::empty_like(x), dgates = at::empty({pieces, rows, count}, gates.options());
    auto given = static_cast<const Bf16*>(dy.const_data_ptr());
    for_units(pieces, [&](int64_t piece) {
      int64_t at = piece * PIECE;
      kernels().bf16.mix_backward(rows, count, std::min(PIECE, width - at), read(gates), given + at, read(x) + at,
                                  width, write(dx) + at, write(dgates) + piece * rows * count);
    });
    return {dgates.sum(0), dx};
  }
};

}  // namespace

extern "C" {

char* shim_fused_mix(const at::Tensor* gates, const at::Tensor* x, at::Tensor** y) {
  return guarded([&] { *y = new at::Tensor(Mix::apply(gates->to(at::kFloat), *x)); });
}
}
