// What a block computes between its matrix products, each step in one pass forwards and one backwards, with gradients.
// f32 tensors of the CPU; tokens are [B, N, D], vectors of an image [B, 1, D], biases [D].
#include "border.h"
#include "fused/parallel.h"
#include "fused/table.h"

#include <ATen/autocast_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// Rows of an image that are done together: few enough to stay in the cache from one pass to the next. The sums over an
// image are those of its parts, in order, whatever the number of threads.
constexpr int64_t ROWS = 64;

// The rows of [B, N, D] in parts that belong to one image each.
struct Parts {
  int64_t images, tokens, width, per_image;

  explicit Parts(const at::Tensor& x)
      : images(x.size(0)), tokens(x.size(1)), width(x.size(2)), per_image((tokens + ROWS - 1) / ROWS) {}

  // Calls `work(part, image, first row, rows)`.
  template <class Work>
  void each(const Work& work) const {
    for_units(images * per_image, [&](int64_t part) {
      int64_t image = part / per_image, begin = part % per_image * ROWS;
      work(part, image, image * tokens + begin, std::min(ROWS, tokens - begin));
    });
  }

  // One row of zeros for each part and sum, [parts, sums, D].
  at::Tensor sums(int64_t count) const {
    return at::zeros({images * per_image, count, width}, at::kFloat);
  }

  // The sums of each image, [B, sums, D].
  at::Tensor of_images(const at::Tensor& sums) const {
    return sums.view({images, per_image, sums.size(1), width}).sum(1);
  }
};

// One row for each image, or one for all.
struct Rows {
  at::Tensor tensor;
  const float* data;
  int64_t stride;

  explicit Rows(const at::Tensor& x) : tensor(x.stride(2) == 1 ? x : x.contiguous()) {
    data = tensor.const_data_ptr<float>();
    stride = tensor.size(0) == 1 ? 0 : tensor.stride(0);
  }
  const float* of(int64_t image) const { return data + image * stride; }
};

const float* read(const at::Tensor& x) { return x.const_data_ptr<float>(); }

// A gradient; zeros where nothing has come.
at::Tensor given(const at::Tensor& gradient, const at::Tensor& like) {
  return gradient.defined() ? gradient.contiguous() : at::zeros_like(like);
}

// Mean and 1 / deviation of every row.
struct Moments {
  at::Tensor tensor;
  float *mean, *rstd;

  explicit Moments(const Parts& parts) : Moments(at::empty({2, parts.images * parts.tokens}, at::kFloat)) {}
  explicit Moments(const at::Tensor& x) : tensor(x), mean(x.data_ptr<float>()), rstd(mean + x.size(1)) {}
};

struct Gelu : Function<Gelu> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x_, const at::Tensor& bias) {
    auto x = x_.contiguous(), y = at::empty_like(x);
    Parts parts(x);
    parts.each([&](int64_t, int64_t, int64_t row, int64_t rows) {
      int64_t at = row * parts.width;
      kernels().gelu(rows, parts.width, read(x) + at, read(bias), y.data_ptr<float>() + at);
    });
    context->save_for_backward({x, bias});
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    auto saved = context->get_saved_variables();
    auto &x = saved[0], &bias = saved[1];
    auto dy = gradients[0].contiguous(), dx = at::empty_like(x);
    Parts parts(x);
    auto sums = parts.sums(1);
    parts.each([&](int64_t part, int64_t, int64_t row, int64_t rows) {
      int64_t at = row * parts.width;
      kernels().gelu_backward(rows, parts.width, read(dy) + at, read(x) + at, read(bias), dx.data_ptr<float>() + at,
                              sums.data_ptr<float>() + part * parts.width);
    });
    return {dx, sums.sum(0).view(-1)};
  }
};

struct Modulate : Function<Modulate> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x_, const at::Tensor& shift,
                            const at::Tensor& scale) {
    auto x = x_.contiguous(), h = at::empty_like(x);
    Parts parts(x);
    Moments moments(parts);
    Rows shifts(shift), scales(scale);
    parts.each([&](int64_t, int64_t image, int64_t row, int64_t rows) {
      int64_t at = row * parts.width;
      kernels().modulate(rows, parts.width, read(x) + at, shifts.of(image), scales.of(image),
                         h.data_ptr<float>() + at, moments.mean + row, moments.rstd + row);
    });
    context->save_for_backward({x, scale, moments.tensor});
    return h;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    auto saved = context->get_saved_variables();
    auto &x = saved[0], &scale = saved[1];
    Moments moments(saved[2]);
    auto dh = gradients[0].contiguous(), dx = at::empty_like(x);
    Parts parts(x);
    Rows scales(scale);
    auto sums = parts.sums(2);
    parts.each([&](int64_t part, int64_t image, int64_t row, int64_t rows) {
      int64_t at = row * parts.width;
      float* sum = sums.data_ptr<float>() + part * 2 * parts.width;
      kernels().modulate_backward(rows, parts.width, read(dh) + at, read(x) + at, scales.of(image),
                                  moments.mean + row, moments.rstd + row, dx.data_ptr<float>() + at, sum,
                                  sum + parts.width);
    });
    auto of_images = parts.of_images(sums);
    return {dx, of_images.narrow(1, 0, 1), of_images.narrow(1, 1, 1)};
  }
};

using Maybe = std::optional<at::Tensor>;

// Rows of the tensor from number `at` on; null without a tensor.
const float* read(const Maybe& x, int64_t at) { return x ? read(*x) + at : nullptr; }

Maybe defined(const at::Tensor& x) { return x.defined() ? Maybe(x) : Maybe(); }
Maybe contiguous(const Maybe& x) { return x ? Maybe(x->contiguous()) : x; }

// `excess` may have one row for all images where no gradient is wanted.
struct Enter : Function<Enter> {
  static variable_list forward(AutogradContext* context, const at::Tensor& z_, const Maybe& tokens_,
                               const at::Tensor& excess, const at::Tensor& shift, const at::Tensor& scale) {
    auto z = z_.contiguous();
    auto tokens = contiguous(tokens_);
    auto r = at::empty_like(z), keep = at::empty_like(z), h = at::empty_like(z);
    Parts parts(z);
    Moments moments(parts);
    Rows excesses(excess), shifts(shift), scales(scale);
    parts.each([&](int64_t, int64_t image, int64_t row, int64_t rows) {
      int64_t at = row * parts.width;
      kernels().enter(rows, parts.width, read(z) + at, read(tokens, at), excesses.of(image), shifts.of(image),
                      scales.of(image), r.data_ptr<float>() + at, keep.data_ptr<float>() + at,
                      h.data_ptr<float>() + at, moments.mean + row, moments.rstd + row);
    });
    context->save_for_backward({z, excess, scale, moments.tensor, tokens.value_or(at::Tensor())});
    context->set_materialize_grads(false);
    return {r, keep, h};
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    auto saved = context->get_saved_variables();
    auto &z = saved[0], &excess = saved[1], &scale = saved[2];
    Moments moments(saved[3]);
    auto tokens = defined(saved[4]);
    auto dr = given(gradients[0], z), dh = given(gradients[2], z);
    auto dkeep = contiguous(defined(gradients[1]));
    auto dz = at::empty_like(z);
    auto dtokens = tokens ? at::empty_like(z) : at::Tensor();
    Parts parts(z);
    TORCH_CHECK(excess.size(0) == parts.images, "the gradient of an excess that all images share");
    Rows excesses(excess), scales(scale);
    auto sums = parts.sums(3);
    parts.each([&](int64_t part, int64_t image, int64_t row, int64_t rows) {
      int64_t at = row * parts.width;
      float* sum = sums.data_ptr<float>() + part * 3 * parts.width;
      kernels().enter_backward(rows, parts.width, read(dr) + at, read(dkeep, at), read(dh) + at, read(z) + at,
                               read(tokens, at), excesses.of(image), scales.of(image), moments.mean + row,
                               moments.rstd + row, dz.data_ptr<float>() + at,
                               tokens ? dtokens.data_ptr<float>() + at : nullptr, sum, sum + parts.width,
                               sum + 2 * parts.width);
    });
    auto of_images = parts.of_images(sums);
    return {dz, dtokens, of_images.narrow(1, 0, 1), of_images.narrow(1, 1, 1), of_images.narrow(1, 2, 1)};
  }
};

struct Join : Function<Join> {
  static variable_list forward(AutogradContext* context, const at::Tensor& r_, const at::Tensor& y_,
                               const at::Tensor& bias, const at::Tensor& gate, const at::Tensor& shift,
                               const at::Tensor& scale) {
    auto r = r_.contiguous(), y = y_.contiguous(), s = at::empty_like(r), h = at::empty_like(r);
    Parts parts(r);
    Moments moments(parts);
    Rows gates(gate), shifts(shift), scales(scale);
    parts.each([&](int64_t, int64_t image, int64_t row, int64_t rows) {
      int64_t at = row * parts.width;
      kernels().join(rows, parts.width, read(r) + at, read(y) + at, read(bias), gates.of(image), shifts.of(image),
                     scales.of(image), s.data_ptr<float>() + at, h.data_ptr<float>() + at, moments.mean + row,
                     moments.rstd + row);
    });
    context->save_for_backward({s, y, bias, gate, scale, moments.tensor});
    context->set_materialize_grads(false);
    return {s, h};
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    auto saved = context->get_saved_variables();
    auto &s = saved[0], &y = saved[1], &bias = saved[2], &gate = saved[3], &scale = saved[4];
    Moments moments(saved[5]);
    auto ds = given(gradients[0], s), dh = given(gradients[1], s);
    auto dr = at::empty_like(s), dy = at::empty_like(s);
    Parts parts(s);
    Rows gates(gate), scales(scale);
    auto sums = parts.sums(4);
    parts.each([&](int64_t part, int64_t image, int64_t row, int64_t rows) {
      int64_t at = row * parts.width, d = parts.width;
      float* sum = sums.data_ptr<float>() + part * 4 * d;
      kernels().join_backward(rows, d, read(ds) + at, read(dh) + at, read(s) + at, read(y) + at, read(bias),
                              gates.of(image), scales.of(image), moments.mean + row, moments.rstd + row,
                              dr.data_ptr<float>() + at, dy.data_ptr<float>() + at, sum, sum + d, sum + 2 * d,
                              sum + 3 * d);
    });
    auto of_images = parts.of_images(sums);
    return {dr, dy, of_images.select(1, 0).sum(0), of_images.narrow(1, 1, 1), of_images.narrow(1, 2, 1),
            of_images.narrow(1, 3, 1)};
  }
};

struct Leave : Function<Leave> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& r_, const at::Tensor& y_,
                            const at::Tensor& bias, const at::Tensor& gate, const Maybe& keep_) {
    auto r = r_.contiguous(), y = y_.contiguous(), out = at::empty_like(r);
    auto keep = contiguous(keep_);
    Parts parts(r);
    Rows gates(gate);
    parts.each([&](int64_t, int64_t image, int64_t row, int64_t rows) {
      int64_t at = row * parts.width;
      kernels().leave(rows, parts.width, read(r) + at, read(y) + at, read(bias), gates.of(image),
                      read(keep, at), out.data_ptr<float>() + at);
    });
    context->save_for_backward({y, bias, gate});
    context->saved_data["keeps"] = keep.has_value();
    return out;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    auto saved = context->get_saved_variables();
    auto &y = saved[0], &bias = saved[1], &gate = saved[2];
    auto dout = gradients[0].contiguous(), dy = at::empty_like(y);
    Parts parts(y);
    Rows gates(gate);
    auto sums = parts.sums(2);
    parts.each([&](int64_t part, int64_t image, int64_t row, int64_t rows) {
      int64_t at = row * parts.width;
      float* sum = sums.data_ptr<float>() + part * 2 * parts.width;
      kernels().leave_backward(rows, parts.width, read(dout) + at, read(y) + at, read(bias), gates.of(image),
                               dy.data_ptr<float>() + at, sum, sum + parts.width);
    });
    auto of_images = parts.of_images(sums);
    // Both sums take the gradient as it is.
    auto dkeep = context->saved_data["keeps"].toBool() ? dout : at::Tensor();
    return {dout, dy, of_images.select(1, 0).sum(0), of_images.narrow(1, 1, 1), dkeep};
  }
};

// Numbers of a matrix that are mixed together.
constexpr int64_t PIECE = 1 << 14;

// y [B, P] = gates [B, E] x [E, P]. BLAS is slow at so short a sum.
struct Mix : Function<Mix> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& gates_, const at::Tensor& x_) {
    auto gates = gates_.contiguous(), x = x_.contiguous();
    int64_t rows = gates.size(0), count = gates.size(1), width = x.size(1), pieces = (width + PIECE - 1) / PIECE;
    auto y = at::empty({rows, width}, at::kFloat);
    auto to = y.mutable_data_ptr<float>();
    for_units(rows * pieces, [&](int64_t unit) {
      int64_t row = unit / pieces, begin = unit % pieces * PIECE;
      kernels().mix(count, std::min(PIECE, width - begin), read(gates) + row * count, read(x) + begin, width,
                    to + row * width + begin);
    });
    context->save_for_backward({gates, x});
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    auto saved = context->get_saved_variables();
    return {gradients[0].mm(saved[1].t()), saved[0].t().mm(gradients[0])};
  }
};

Maybe maybe(const at::Tensor* tensor) { return tensor == nullptr ? Maybe() : Maybe(*tensor); }

}  // namespace

extern "C" {

// Whether tokens of this kind, place and width, outside of mixed precision, are what these functions are for.
char* shim_fused_serves(const at::Tensor* tokens, bool* yes) {
  return guarded([&] {
    *yes = tokens->device().is_cpu() && tokens->scalar_type() == at::kFloat && tokens->dim() == 3 &&
           tokens->size(2) % WIDTH_UNIT == 0 && !at::autocast::is_autocast_enabled(at::kCPU);
  });
}

char* shim_fused_gelu(const at::Tensor* x, const at::Tensor* bias, at::Tensor** y) {
  return guarded([&] { *y = new at::Tensor(Gelu::apply(*x, *bias)); });
}

char* shim_fused_modulate(const at::Tensor* x, const at::Tensor* shift, const at::Tensor* scale, at::Tensor** h) {
  return guarded([&] { *h = new at::Tensor(Modulate::apply(*x, *shift, *scale)); });
}

char* shim_fused_mix(const at::Tensor* gates, const at::Tensor* x, at::Tensor** y) {
  return guarded([&] { *y = new at::Tensor(Mix::apply(*gates, *x)); });
}

// Into `out`: r, keep, h.
char* shim_fused_enter(const at::Tensor* z, const at::Tensor* tokens, const at::Tensor* excess,
                       const at::Tensor* shift, const at::Tensor* scale, at::Tensor** out) {
  return guarded([&] {
    auto results = Enter::apply(*z, maybe(tokens), *excess, *shift, *scale);
    for (size_t i = 0; i < 3; ++i) out[i] = new at::Tensor(results[i]);
  });
}

// Into `out`: s, h.
char* shim_fused_join(const at::Tensor* r, const at::Tensor* y, const at::Tensor* bias, const at::Tensor* gate,
                      const at::Tensor* shift, const at::Tensor* scale, at::Tensor** out) {
  return guarded([&] {
    auto results = Join::apply(*r, *y, *bias, *gate, *shift, *scale);
    for (size_t i = 0; i < 2; ++i) out[i] = new at::Tensor(results[i]);
  });
}

char* shim_fused_leave(const at::Tensor* r, const at::Tensor* y, const at::Tensor* bias, const at::Tensor* gate,
                       const at::Tensor* keep, at::Tensor** out) {
  return guarded([&] { *out = new at::Tensor(Leave::apply(*r, *y, *bias, *gate, maybe(keep))); });
}
}
