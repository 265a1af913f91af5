// Self-attention on the CPU straight from the output of the projection to queries, keys and values, and its gradient straight
// into that of the projection: nothing is transposed, cut or put together. Computed in f32; a head in bf16 is widened for it,
// but where the processor multiplies bf16 by itself.
#include "ffi.h"
#include "fused/parallel.h"
#include "fused/table.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <dlfcn.h>
#include <type_traits>

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

// Rows of a head as f32, where they are or in memory of this thread.
const float* head_rows(const float* from, int64_t, int64_t, int64_t, float*) { return from; }
const float* head_rows(const Bf16* from, int64_t rows, int64_t width, int64_t stride, float* to) {
  kernels().widen(rows, width, from, stride, to);
  return to;
}

// Where rows of a head are made, and how they get to their place.
float* made_at(float* place, float*) { return place; }
float* made_at(Bf16*, float* memory) { return memory; }
void place(float*, const float*, int64_t, int64_t, int64_t) {}
void place(Bf16* to, const float* from, int64_t rows, int64_t width, int64_t stride) {
  kernels().narrow(rows, width, from, to, stride);
}

// Distance of a head's rows once they are f32.
template <class P>
int64_t distance(int64_t stride, int64_t head) {
  return std::is_same_v<P, float> ? stride : head;
}

// What multiplies heads of this width in bf16, if the processor does.
const HeadKernels* multiplies(const Heads& h) {
  return h.head % 2 == 0 && bf16_kernels() != nullptr ? &bf16_kernels()->heads : nullptr;
}

HeadShape shape_of(const Heads& h) { return {h.tokens, h.head, h.stride, h.width, h.factor}; }

// Memory of this thread that begins at a line of the cache.
void* lines(int64_t bytes) {
  constexpr uintptr_t LINE = 64;
  auto memory = reinterpret_cast<uintptr_t>(scratch((bytes + LINE) / sizeof(float) + 1));
  return reinterpret_cast<void*>((memory + LINE - 1) / LINE * LINE);
}

// One head of one image, forwards.
template <class P>
void attend(const Heads& h, const P* q_, P* out, float* sums) {
  if constexpr (std::is_same_v<P, Bf16>)
    if (auto kernels = multiplies(h)) {
      auto shape = shape_of(h);
      auto memory = lines(kernels->head_memory(shape));
      return kernels->attend(shape, q_, q_ + h.width, q_ + 2 * h.width, out, sums, memory);
    }
  int64_t numbers = h.tokens * h.head, from = distance<P>(h.stride, h.head), to = distance<P>(h.width, h.head);
  float* memory = scratch(h.at_a_time * h.tokens + (std::is_same_v<P, float> ? 0 : 4 * numbers));
  float* heads = memory + h.at_a_time * h.tokens;
  auto rows_of = [&](int64_t i) { return head_rows(q_ + i * h.width, h.tokens, h.head, h.stride, heads + i * numbers); };
  const float *q = rows_of(0), *k = rows_of(1), *v = rows_of(2);
  float *scores = memory, *mixed = made_at(out, heads + 3 * numbers);
  for (int64_t row = 0; row < h.tokens; row += h.at_a_time) {
    int64_t rows = std::min(h.at_a_time, h.tokens - row);
    product(rows, h.tokens, h.head, {q + row * from, from}, {k, from, true}, scores, h.tokens);
    kernels().softmax(rows, h.tokens, h.factor, scores, sums + row);
    product(rows, h.head, h.tokens, {scores, h.tokens}, {v, from}, mixed + row * to, to);
  }
  place(out, mixed, h.tokens, h.head, h.width);
}

// Its gradient.
template <class P>
void attend_backward(const Heads& h, const P* q_, const P* came_, const P* dout_, const float* sums, P* dq_) {
  if constexpr (std::is_same_v<P, Bf16>)
    if (auto kernels = multiplies(h)) {
      auto shape = shape_of(h);
      auto memory = lines(kernels->head_memory(shape));
      return kernels->attend_backward(shape, q_, q_ + h.width, q_ + 2 * h.width, came_, dout_, sums, dq_,
                                      dq_ + h.width, dq_ + 2 * h.width, memory);
    }
  int64_t numbers = h.tokens * h.head, from = distance<P>(h.stride, h.head), to = distance<P>(h.width, h.head);
  int64_t own = 2 * h.at_a_time * h.tokens + h.tokens;
  float* scores = scratch(own + (std::is_same_v<P, float> ? 0 : 8 * numbers));
  float *change = scores + h.at_a_time * h.tokens, *dots = change + h.at_a_time * h.tokens, *heads = scores + own;
  auto rows_of = [&](const P* x, int64_t stride, int64_t i) {
    return head_rows(x, h.tokens, h.head, stride, heads + i * numbers);
  };
  const float *q = rows_of(q_, h.stride, 0), *k = rows_of(q_ + h.width, h.stride, 1);
  const float *v = rows_of(q_ + 2 * h.width, h.stride, 2);
  const float *came = rows_of(came_, h.width, 3), *dout = rows_of(dout_, h.width, 4);
  auto made = [&](int64_t i) { return made_at(dq_ + i * h.width, heads + (5 + i) * numbers); };
  float *dq = made(0), *dk = made(1), *dv = made(2);
  kernels().row_dots(h.tokens, h.head, dout, came, to, dots);
  for (int64_t row = 0; row < h.tokens; row += h.at_a_time) {
    int64_t rows = std::min(h.at_a_time, h.tokens - row);
    Matrix q_rows{q + row * from, from}, dout_rows{dout + row * to, to};
    product(rows, h.tokens, h.head, q_rows, {k, from, true}, scores, h.tokens);
    product(rows, h.tokens, h.head, dout_rows, {v, from, true}, change, h.tokens);
    kernels().softmax_backward(rows, h.tokens, h.factor, sums + row, dots + row, scores, change);
    product(h.tokens, h.head, rows, {scores, h.tokens, true}, dout_rows, dv, from, row > 0);
    product(h.tokens, h.head, rows, {change, h.tokens, true}, q_rows, dk, from, row > 0);
    product(rows, h.head, h.tokens, {change, h.tokens}, {k, from}, dq + row * from, from);
  }
  int64_t i = 0;
  for (auto made : {dq, dk, dv}) place(dq_ + i++ * h.width, made, h.tokens, h.head, h.stride);
}

// Calls `work(a number of the kind of a tensor)`.
template <class Work>
void of_kind(const at::Tensor& x, const Work& work) {
  if (x.scalar_type() == at::kBFloat16) return work(Bf16{});
  TORCH_CHECK(x.scalar_type() == at::kFloat, "attention in ", x.scalar_type());
  work(0.0f);
}

template <class P>
const P* read(const at::Tensor& x, P) { return static_cast<const P*>(x.const_data_ptr()); }
template <class P>
P* write(at::Tensor& x, P) { return static_cast<P*>(x.mutable_data_ptr()); }

struct Attention : Function<Attention> {
  // `qkv` [B, N, 3D] to [B, N, D].
  static at::Tensor forward(AutogradContext* context, const at::Tensor& qkv_, int64_t heads) {
    auto qkv = qkv_.contiguous();
    Heads h(qkv, heads);
    auto out = at::empty({h.images, h.tokens, h.width}, qkv.scalar_type());
    auto log_sums = at::empty({h.images, heads, h.tokens}, at::kFloat);
    auto sums = log_sums.mutable_data_ptr<float>();
    of_kind(qkv, [&](auto number) {
      auto from = read(qkv, number);
      auto to = write(out, number);
      for_units(h.images * heads, [&](int64_t unit) {
        attend(h, from + h.begin(unit), to + h.begin_mixed(unit), sums + unit * h.tokens);
      });
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
    auto sums = log_sums.const_data_ptr<float>();
    of_kind(qkv, [&](auto number) {
      auto from = read(qkv, number), came = read(out, number), given = read(gradient, number);
      auto to = write(dqkv, number);
      for_units(h.images * h.heads, [&](int64_t unit) {
        int64_t mixed = h.begin_mixed(unit);
        attend_backward(h, from + h.begin(unit), came + mixed, given + mixed, sums + unit * h.tokens, to + h.begin(unit));
      });
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
