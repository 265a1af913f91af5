// Self-attention on the CPU straight from the output of the projection to queries, keys and values, and its gradient straight
// into that of the projection: nothing is transposed, cut or put together. f32.
#include "border.h"
#include "fused/parallel.h"
#include "fused/table.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <dlfcn.h>

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

typedef void (*Sgemm)(const char*, const char*, const int*, const int*, const int*, const float*, const float*,
                      const int*, const float*, const int*, const float*, float*, const int*);

// The BLAS that libtorch carries; null where it does not show it.
Sgemm sgemm() {
  static auto found = reinterpret_cast<Sgemm>(dlsym(RTLD_DEFAULT, "sgemm_"));
  return found;
}

struct Matrix {
  const float* data;
  int64_t stride;
  bool transposed = false;
};

// c [m, n] = a [m, k] b [k, n], or added to c; row by row.
void product(int64_t m, int64_t n, int64_t k, Matrix a, Matrix b, float* c, int64_t stride, bool add = false) {
  // BLAS counts down columns, so it is given the transposed product.
  int m_ = static_cast<int>(m), n_ = static_cast<int>(n), k_ = static_cast<int>(k);
  int lda = static_cast<int>(a.stride), ldb = static_cast<int>(b.stride), ldc = static_cast<int>(stride);
  float one = 1.0f, beta = add ? 1.0f : 0.0f;
  sgemm()(b.transposed ? "T" : "N", a.transposed ? "T" : "N", &n_, &m_, &k_, &one, b.data, &ldb, a.data, &lda, &beta, c,
          &ldc);
}

// Scores that are held at a time; more do not stay in a core's own cache beside their gradient.
constexpr int64_t SCORES = 1 << 15;

// Memory of this thread, kept from call to call.
float* scratch(int64_t numbers) {
  thread_local std::vector<float> memory;
  if (static_cast<int64_t>(memory.size()) < numbers) memory.resize(numbers);
  return memory.data();
}

struct Attention : Function<Attention> {
  // `qkv` [B, N, 3D] without its bias [3D], to [B, N, D].
  static at::Tensor forward(AutogradContext* context, const at::Tensor& qkv_, const at::Tensor& bias, int64_t heads) {
    auto qkv = qkv_.contiguous();
    int64_t images = qkv.size(0), n = qkv.size(1), width = qkv.size(2) / 3, d = width / heads;
    auto out = at::empty({images, n, width}, at::kFloat), log_sums = at::empty({images, heads, n}, at::kFloat);
    auto at_most = std::clamp<int64_t>(SCORES / n, 1, n);
    auto from = qkv.const_data_ptr<float>(), biases = bias.const_data_ptr<float>();
    auto to = out.mutable_data_ptr<float>(), sums = log_sums.mutable_data_ptr<float>();
    float factor = 1.0f / std::sqrt(static_cast<float>(d));
    for_units(images * heads, [&](int64_t unit) {
      int64_t image = unit / heads, column = unit % heads * d;
      float *q = scratch(3 * n * d + at_most * n), *k = q + n * d, *v = k + n * d, *scores = v + n * d;
      for (int64_t part = 0; part < 3; ++part)
        kernels().gather(n, d, from + image * n * 3 * width + part * width + column, 3 * width,
                         biases + part * width + column, q + part * n * d);
      for (int64_t row = 0; row < n; row += at_most) {
        int64_t rows = std::min(at_most, n - row);
        product(rows, n, d, {q + row * d, d}, {k, d, true}, scores, n);
        kernels().softmax(rows, n, factor, scores, sums + unit * n + row);
        product(rows, d, n, {scores, n}, {v, d}, to + (image * n + row) * width + column, width);
      }
    });
    context->save_for_backward({qkv, bias, out, log_sums});
    context->saved_data["heads"] = heads;
    return out;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    auto saved = context->get_saved_variables();
    auto &qkv = saved[0], &bias = saved[1], &out = saved[2], &log_sums = saved[3];
    int64_t heads = context->saved_data["heads"].toInt();
    int64_t images = qkv.size(0), n = qkv.size(1), width = qkv.size(2) / 3, d = width / heads;
    auto gradient = gradients[0].contiguous(), dqkv = at::empty_like(qkv);
    auto bias_sums = at::zeros({images, 3 * width}, at::kFloat);
    auto at_most = std::clamp<int64_t>(SCORES / n, 1, n);
    auto from = qkv.const_data_ptr<float>(), biases = bias.const_data_ptr<float>();
    auto given = gradient.const_data_ptr<float>(), came = out.const_data_ptr<float>();
    auto sums = log_sums.const_data_ptr<float>();
    auto to = dqkv.mutable_data_ptr<float>(), bias_to = bias_sums.mutable_data_ptr<float>();
    float factor = 1.0f / std::sqrt(static_cast<float>(d));
    for_units(images * heads, [&](int64_t unit) {
      int64_t image = unit / heads, column = unit % heads * d, stride = 3 * width;
      float *q = scratch(3 * n * d + 2 * at_most * n + n), *k = q + n * d, *v = k + n * d;
      float *scores = v + n * d, *change = scores + at_most * n, *dots = change + at_most * n;
      const float *all = from + image * n * stride + column, *dout = given + image * n * width + column;
      float *dq = to + image * n * stride + column, *dk = dq + width, *dv = dk + width;
      for (int64_t part = 0; part < 3; ++part)
        kernels().gather(n, d, all + part * width, stride, biases + part * width + column, q + part * n * d);
      kernels().row_dots(n, d, dout, came + image * n * width + column, width, dots);
      for (int64_t row = 0; row < n; row += at_most) {
        int64_t rows = std::min(at_most, n - row);
        Matrix dout_rows{dout + row * width, width}, q_rows{q + row * d, d};
        product(rows, n, d, q_rows, {k, d, true}, scores, n);
        product(rows, n, d, dout_rows, {v, d, true}, change, n);
        kernels().softmax_backward(rows, n, factor, sums + unit * n + row, dots + row, scores, change);
        product(n, d, rows, {scores, n, true}, dout_rows, dv, stride, row > 0);
        product(n, d, rows, {change, n, true}, q_rows, dk, stride, row > 0);
        product(rows, d, n, {change, n}, {k, d}, dq + row * stride, stride);
      }
      for (int64_t part = 0; part < 3; ++part)
        kernels().column_sums(n, d, dq + part * width, stride, bias_to + image * stride + part * width + column);
    });
    return {dqkv, bias_sums.sum(0), at::Tensor()};
  }
};

}  // namespace

extern "C" {

// Whether `n` tokens can be attended to by this.
bool shim_fused_attends(int64_t tokens) { return tokens % WIDTH_UNIT == 0 && sgemm() != nullptr; }

char* shim_fused_attention(const at::Tensor* qkv, const at::Tensor* bias, int64_t heads, at::Tensor** out) {
  return guarded([&] { *out = new at::Tensor(Attention::apply(*qkv, *bias, heads)); });
}
}
