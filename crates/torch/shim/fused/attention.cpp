// Self-attention on the CPU straight from the output of the projection to queries, keys and values, and its gradient straight
// into that of the projection: nothing is transposed, cut or put together. f32.
#include "ffi.h"
#include "fused/parallel.h"
#include "fused/table.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
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

// The query, key or value of one head is a matrix whose rows are those of the projection.
struct Heads {
  int64_t images, tokens, width, heads, head, stride, at_a_time;
  float factor;

  Heads(const at::Tensor& qkv, int64_t heads)
      : images(qkv.size(0)), tokens(qkv.size(1)), width(qkv.size(2) / 3), heads(heads), head(width / heads),
        stride(3 * width), at_a_time(std::clamp<int64_t>(SCORES / tokens, 1, tokens)),
        factor(1.0f / std::sqrt(static_cast<float>(head))) {}

  // Where the queries of a unit of work, one head of one image, begin; keys and values are a width and two further on.
  int64_t begin(int64_t unit) const { return unit / heads * tokens * stride + unit % heads * head; }
  // The same in a tensor [B, N, D].
  int64_t begin_mixed(int64_t unit) const { return unit / heads * tokens * width + unit % heads * head; }
};

struct Attention : Function<Attention> {
  // `qkv` [B, N, 3D] to [B, N, D].
  static at::Tensor forward(AutogradContext* context, const at::Tensor& qkv_, int64_t heads) {
    auto qkv = qkv_.contiguous();
    Heads h(qkv, heads);
    auto out = at::empty({h.images, h.tokens, h.width}, at::kFloat);
    auto log_sums = at::empty({h.images, heads, h.tokens}, at::kFloat);
    auto from = qkv.const_data_ptr<float>();
    auto to = out.mutable_data_ptr<float>(), sums = log_sums.mutable_data_ptr<float>();
    for_units(h.images * heads, [&](int64_t unit) {
      const float *q = from + h.begin(unit), *k = q + h.width, *v = k + h.width;
      float *scores = scratch(h.at_a_time * h.tokens), *mixed = to + h.begin_mixed(unit);
      for (int64_t row = 0; row < h.tokens; row += h.at_a_time) {
        int64_t rows = std::min(h.at_a_time, h.tokens - row);
        product(rows, h.tokens, h.head, {q + row * h.stride, h.stride}, {k, h.stride, true}, scores, h.tokens);
        kernels().softmax(rows, h.tokens, h.factor, scores, sums + unit * h.tokens + row);
        product(rows, h.head, h.tokens, {scores, h.tokens}, {v, h.stride}, mixed + row * h.width, h.width);
      }
    });
    context->save_for_backward({qkv, out, log_sums});
    context->saved_data["heads"] = heads;
    return out;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    auto saved = context->get_saved_variables();
    auto &qkv = saved[0], &out = saved[1], &log_sums = saved[2];
    Heads h(qkv, context->saved_data["heads"].toInt());
    auto gradient = gradients[0].contiguous(), dqkv = at::empty_like(qkv);
    auto from = qkv.const_data_ptr<float>(), came = out.const_data_ptr<float>();
    auto given = gradient.const_data_ptr<float>(), sums = log_sums.const_data_ptr<float>();
    auto to = dqkv.mutable_data_ptr<float>();
    for_units(h.images * h.heads, [&](int64_t unit) {
      const float *q = from + h.begin(unit), *k = q + h.width, *v = k + h.width;
      const float* dout = given + h.begin_mixed(unit);
      float *dq = to + h.begin(unit), *dk = dq + h.width, *dv = dk + h.width;
      float* scores = scratch(2 * h.at_a_time * h.tokens + h.tokens);
      float *change = scores + h.at_a_time * h.tokens, *dots = change + h.at_a_time * h.tokens;
      kernels().row_dots(h.tokens, h.head, dout, came + h.begin_mixed(unit), h.width, dots);
      for (int64_t row = 0; row < h.tokens; row += h.at_a_time) {
        int64_t rows = std::min(h.at_a_time, h.tokens - row);
        Matrix q_rows{q + row * h.stride, h.stride}, dout_rows{dout + row * h.width, h.width};
        product(rows, h.tokens, h.head, q_rows, {k, h.stride, true}, scores, h.tokens);
        product(rows, h.tokens, h.head, dout_rows, {v, h.stride, true}, change, h.tokens);
        kernels().softmax_backward(rows, h.tokens, h.factor, sums + unit * h.tokens + row, dots + row, scores, change);
        product(h.tokens, h.head, rows, {scores, h.tokens, true}, dout_rows, dv, h.stride, row > 0);
        product(h.tokens, h.head, rows, {change, h.tokens, true}, q_rows, dk, h.stride, row > 0);
        product(rows, h.head, h.tokens, {change, h.tokens}, {k, h.stride}, dq + row * h.stride, h.stride);
      }
    });
    return {dqkv, at::Tensor()};
  }
};

}  // namespace

extern "C" {

// Whether `n` tokens can be attended to by this.
bool shim_fused_attends(int64_t tokens) { return tokens % WIDTH_UNIT == 0 && sgemm() != nullptr; }

char* shim_fused_attention(const at::Tensor* qkv, int64_t heads, at::Tensor** out) {
  return guarded([&] { *out = new at::Tensor(Attention::apply(*qkv, heads)); });
}
}
