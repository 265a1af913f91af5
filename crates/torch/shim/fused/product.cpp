// Products of tokens and weights on a CPU that multiplies bf16 by itself, with their gradients. Weights and their gradients stay in
// f32: they are rounded where they are packed, and sums are not.
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

// The matrices [G, rows, columns] of a tensor.
struct Matrices {
  const at::Tensor& tensor;
  int64_t count, rows, columns;

  explicit Matrices(const at::Tensor& x)
      : tensor(x), count(x.dim() == 3 ? x.size(0) : 1), rows(x.size(-2)), columns(x.size(-1)) {}

  bool f32() const { return tensor.scalar_type() == at::kFloat; }
  int64_t place(int64_t matrix) const { return matrix * rows * columns; }
  const Bf16* bf16(int64_t matrix) const { return static_cast<const Bf16*>(tensor.const_data_ptr()) + place(matrix); }

  Source source(int64_t matrix, bool along) const {
    auto numbers = static_cast<const char*>(tensor.const_data_ptr()) + place(matrix) * tensor.element_size();
    return {numbers, f32(), rows, columns, columns, along};
  }
};

// Matrices in panels.
class Packed {
  at::Tensor memory_;
  int64_t pairs_, columns_;

 public:
  // A product sums along their rows, or over them.
  Packed(const Matrices& x, bool along)
      : pairs_((along ? x.columns : x.rows) / 2), columns_(along ? x.rows : x.columns) {
    memory_ = at::empty({x.count, Panels::room(pairs_, columns_)}, at::kInt);
    int64_t panels = (columns_ + PANEL - 1) / PANEL;
    for_units(x.count * panels, [&](int64_t unit) {
      int64_t matrix = unit / panels;
      bf16_product_kernels()->pack(x.source(matrix, along), unit % panels * PANEL, of(matrix));
    });
  }

  int64_t columns() const { return columns_; }

  Panels of(int64_t matrix) const {
    auto begin = static_cast<const uint32_t*>(memory_.const_data_ptr());
    return {begin + matrix * Panels::room(pairs_, columns_), pairs_, columns_};
  }
};

// Panels that one unit of work goes through.
constexpr int64_t PANELS = 8;

// Calls `work(matrix, first row, rows, column)` for blocks of rows and panels of a product.
template <class Work>
void blocks(int64_t count, int64_t rows, int64_t columns, const Work& work) {
  int64_t high = (rows + BLOCK - 1) / BLOCK, wide = (columns + PANEL * PANELS - 1) / (PANEL * PANELS);
  for_units(count * high * wide, [&](int64_t unit) {
    int64_t row = unit / wide % high * BLOCK, begin = unit % wide * PANEL * PANELS;
    for (int64_t column = begin; column < std::min(columns, begin + PANEL * PANELS); column += PANEL)
      work(unit / wide / high, row, std::min(BLOCK, rows - row), column);
  });
}

void* place(const at::Tensor& x, int64_t number) {
  return static_cast<char*>(x.mutable_data_ptr()) + number * x.element_size();
}

// y [G, M, N] = a [G, M, K] b + bias, of bf16.
at::Tensor multiplied(const Matrices& a, const Packed& b, const float* bias) {
  int64_t columns = b.columns();
  auto y = at::empty({a.count, a.rows, columns}, at::kBFloat16);
  blocks(a.count, a.rows, columns, [&](int64_t matrix, int64_t row, int64_t rows, int64_t column) {
    auto from = RowPairs::of(a.bf16(matrix) + row * a.columns, a.columns);
    auto to = place(y, (matrix * a.rows + row) * columns);
    bf16_product_kernels()->multiply(rows, from, b.of(matrix), column, bias, to, false, columns);
  });
  return y;
}

// aᵀ b, summed over the rows of both.
void multiplied_over(const Packed& a, const Packed& b, const at::Tensor& y) {
  Matrices of(y);
  blocks(of.count, of.rows, of.columns, [&](int64_t matrix, int64_t row, int64_t rows, int64_t column) {
    auto left = a.of(matrix);
    Panels from{left.at(row), left.pairs, left.columns - row};
    auto to = place(y, of.place(matrix) + row * of.columns);
    bf16_product_kernels()->multiply_panels(rows, from, b.of(matrix), column, nullptr, to, of.f32(), of.columns);
  });
}

// `x` [.., K] as many matrices as there are weights.
at::Tensor matrices(const at::Tensor& x, const at::Tensor& weight) {
  int64_t count = weight.dim() == 3 ? weight.size(0) : 1;
  return x.to(at::kBFloat16).contiguous().view({count, -1, x.size(-1)});
}

// y = x Wᵀ + b, or x W where the weights lie inputs before outputs.
struct Product : Function<Product> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight_,
                            const std::optional<at::Tensor>& bias, bool inputs_first) {
    auto weight = weight_.contiguous(), rows = matrices(x, weight);
    Packed packed(Matrices(weight), !inputs_first);
    auto shape = x.sizes().vec();
    shape.back() = packed.columns();
    auto y = multiplied(Matrices(rows), packed, bias ? bias->const_data_ptr<float>() : nullptr);
    context->save_for_backward({rows, weight});
    context->saved_data["inputs_first"] = inputs_first;
    context->saved_data["biased"] = bias.has_value();
    context->saved_data["kind"] = static_cast<int64_t>(x.scalar_type());
    return y.view(shape);
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    TORCH_CHECK(!at::GradMode::is_enabled(), "no gradient of the gradient of a product in bf16");
    auto saved = context->get_saved_variables();
    auto &x = saved[0], &weight = saved[1];
    bool inputs_first = context->saved_data["inputs_first"].toBool();
    auto dy = matrices(gradients[0], weight);
    at::Tensor dx, dweight, dbias;
    if (context->needs_input_grad(0)) {
      auto shape = gradients[0].sizes().vec();
      shape.back() = x.size(2);
      dx = multiplied(Matrices(dy), Packed(Matrices(weight), inputs_first), nullptr).view(shape);
      dx = dx.to(static_cast<at::ScalarType>(context->saved_data["kind"].toInt()));
    }
    if (context->needs_input_grad(1)) {
      dweight = at::empty_like(weight);
      Packed of_x(Matrices(x), false), of_dy(Matrices(dy), false);
      multiplied_over(inputs_first ? of_x : of_dy, inputs_first ? of_dy : of_x, dweight);
    }
    if (context->saved_data["biased"].toBool() && context->needs_input_grad(2))
      dbias = dy.sum(at::IntArrayRef{0, 1}, /*keepdim=*/false, at::kFloat);
    return {dx, dweight, dbias, at::Tensor()};
  }
};

}  // namespace

extern "C" {

// Whether the processor multiplies bf16 by itself, and what is here and attention in bf16 does so.
bool shim_fused_multiplies_bf16() { return bf16_kernels() != nullptr; }

// Whether products by weights are those here.
bool shim_fused_multiplies_weights() { return bf16_product_kernels() != nullptr; }

// Whether products of these tokens and weights are those here, in the present precision. What is of no shape or kind for it is left to
// libtorch, which says so.
char* shim_fused_multiplies(const at::Tensor* x, const at::Tensor* weight, bool inputs_first, bool* yes) {
  return guarded([&] {
    *yes = false;
    bool shared = weight->dim() == 2, own = weight->dim() == 3 && x->dim() == 3 && x->size(0) == weight->size(0);
    if (bf16_product_kernels() == nullptr || !x->is_cpu() || product_kind(*x) != at::kBFloat16 || !(shared || own)) return;
    auto kind = weight->scalar_type();
    if (!weight->is_cpu() || (kind != at::kFloat && kind != at::kBFloat16) || x->dim() == 0) return;
    auto even = [](int64_t length) { return length > 0 && length % 2 == 0; };
    int64_t inputs = weight->size(inputs_first ? -2 : -1), outputs = weight->size(inputs_first ? -1 : -2);
    int64_t weights = shared ? 1 : weight->size(0);
    *yes = weights > 0 && even(inputs) && even(outputs) && x->size(-1) == inputs && even(x->numel() / inputs / weights);
  });
}

// `bias` may be null.
char* shim_fused_product(const at::Tensor* x, const at::Tensor* weight, const at::Tensor* bias, bool inputs_first,
                         at::Tensor** y) {
  return guarded([&] {
    auto added = bias == nullptr ? std::optional<at::Tensor>() : std::optional(bias->to(at::kFloat).contiguous());
    TORCH_CHECK(!added || added->numel() == weight->size(inputs_first ? -1 : -2), "a bias of ", added->numel());
    *y = new at::Tensor(Product::apply(*x, *weight, added, inputs_first));
  });
}
}
