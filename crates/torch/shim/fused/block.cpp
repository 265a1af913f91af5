// What a block computes between its matrix products, each step in one pass forwards and one backwards, with gradients.
// Tokens are [B, N, D], vectors of an image [B, 1, D], biases [D]; f32, but for what products give and take, which may be bf16. The CPU's passes are here and in `kernels.h`; another device's are registered.
#include "ffi.h"
#include "fused/kind.h"
#include "fused/parallel.h"
#include "fused/passes.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// Rows of an image that are done together on the CPU: few enough to stay in the cache from one pass to the next. The sums over
// an image are those of its parts, in order, whatever the number of threads.
constexpr int64_t ROWS = 64;

// Those of the GPUs, once CUDA is loaded.
const Passes* gpu = nullptr;

// The rows of [B, N, D] in parts that belong to one image each.
struct Parts {
  int64_t images, tokens, width, rows, per_image;
  c10::Device device;

  explicit Parts(const at::Tensor& x)
      : images(x.size(0)), tokens(x.size(1)), width(x.size(2)), rows(x.is_cuda() ? gpu->rows : ROWS),
        per_image((tokens + rows - 1) / rows), device(x.device()) {}

  Arguments arguments() const {
    Arguments a{};
    a.images = images, a.tokens = tokens, a.width = width, a.rows = rows;
    return a;
  }

  // Calls `work(part, image, first row, rows)`.
  template <class Work>
  void each(const Work& work) const {
    for_units(images * per_image, [&](int64_t part) {
      int64_t image = part / per_image, begin = part % per_image * rows;
      work(part, image, image * tokens + begin, std::min(rows, tokens - begin));
    });
  }

  at::Tensor empty(at::IntArrayRef size) const { return at::empty(size, at::device(device).dtype(at::kFloat)); }

  // A place for each part and sum, [parts, sums, D]. The CPU adds to what is there.
  at::Tensor sums(int64_t count) const {
    auto sums = empty({images * per_image, count, width});
    return device.is_cpu() ? sums.zero_() : sums;
  }

  // The sums of each image, [B, sums, D].
  at::Tensor of_images(const at::Tensor& sums) const {
    return sums.view({images, per_image, sums.size(1), width}).sum(1);
  }
};

// Rows one after the other, where a GPU reads four numbers at once.
at::Tensor rows_of(const at::Tensor& x) {
  auto rows = x.contiguous();
  return reinterpret_cast<uintptr_t>(rows.const_data_ptr()) % 16 == 0 || !x.is_cuda() ? rows : rows.clone();
}

// One row for each image, or one for all.
struct Rows {
  at::Tensor tensor;
  Vectors vectors;

  explicit Rows(const at::Tensor& x) : tensor(x.stride(2) == 1 ? x : x.contiguous()) {
    auto stride = tensor.size(0) == 1 ? 0 : tensor.stride(0);
    if (x.is_cuda() && (reinterpret_cast<uintptr_t>(tensor.const_data_ptr()) % 16 != 0 || stride % 4 != 0)) {
      tensor = tensor.clone(at::MemoryFormat::Contiguous);
      stride = stride == 0 ? 0 : tensor.stride(0);
    }
    vectors = {tensor.const_data_ptr<float>(), stride};
  }
};

at::Tensor for_product(const at::Tensor& like) { return at::empty_like(like, like.options().dtype(product_kind(like))); }

// A gradient; zeros where nothing has come.
at::Tensor given(const at::Tensor& gradient, const at::Tensor& like, at::ScalarType kind = at::kFloat) {
  return gradient.defined() ? rows_of(gradient) : at::zeros_like(like, like.options().dtype(kind));
}

// Mean and 1 / deviation of every row.
struct Moments {
  at::Tensor tensor;
  float *mean, *rstd;

  explicit Moments(const Parts& parts) : Moments(parts.empty({2, parts.images * parts.tokens})) {}
  explicit Moments(const at::Tensor& x) : tensor(x), mean(x.data_ptr<float>()), rstd(mean + x.size(1)) {}

  void into(Arguments& a) const { a.mean = mean, a.rstd = rstd; }
};

// One pass on the CPU, whose products are of a kind.
template <class P>
void on_cpu(Pass pass, const Parts& parts, const Arguments& a, const TokenKernels<P>& k) {
  auto d = parts.width;
  parts.each([&](int64_t part, int64_t image, int64_t row, int64_t rows) {
    // Rows of a tensor from this part's first on; null without a tensor.
    auto of = [&](auto* x) { return x == nullptr ? x : x + row * d; };
    auto in = [&](const void* x) { return of(static_cast<const P*>(x)); };
    auto out = [&](void* x) { return of(static_cast<P*>(x)); };
    auto vector = [&](const Vectors& x) { return x.data + image * x.stride; };
    auto excess = vector(a.excess), gate = vector(a.gate), shift = vector(a.shift), scale = vector(a.scale);
    auto mean = a.mean + row, rstd = a.rstd + row;
    auto sum = [&](int64_t count, int64_t index) { return a.sums + (part * count + index) * d; };
    switch (pass) {
      case MODULATE:
        return k.modulate(rows, d, of(a.x), shift, scale, out(a.h), mean, rstd);
      case MODULATE_BACKWARD:
        return k.modulate_backward(rows, d, in(a.dh), of(a.x), scale, mean, rstd, of(a.dx), sum(2, 0), sum(2, 1));
      case ENTER:
        return k.enter(rows, d, of(a.x), in(a.y), excess, shift, scale, of(a.r), of(a.kept), out(a.h), mean, rstd);
      case ENTER_BACKWARD:
        return k.enter_backward(rows, d, of(a.dr), of(a.dkept), in(a.dh), of(a.x), in(a.y), excess, scale, mean, rstd,
                                of(a.dx), out(a.dy), sum(3, 0), sum(3, 1), sum(3, 2));
      case JOIN:
        return k.join(rows, d, of(a.x), in(a.y), a.bias, gate, shift, scale, of(a.r), out(a.h), mean, rstd);
      case JOIN_BACKWARD:
        return k.join_backward(rows, d, of(a.dr), in(a.dh), of(a.x), in(a.y), a.bias, gate, scale, mean, rstd,
                               of(a.dx), out(a.dy), sum(4, 0), sum(4, 1), sum(4, 2), sum(4, 3));
      case LEAVE:
        return k.leave(rows, d, of(a.x), in(a.y), a.bias, gate, of(a.keep), of(a.r));
      case LEAVE_BACKWARD:
        return k.leave_backward(rows, d, of(a.dr), in(a.y), a.bias, gate, out(a.dy), sum(2, 0), sum(2, 1));
      case PASSES:
        return;
    }
  });
}

// One pass where the tensors are. `kind` is that of the products.
void run(Pass pass, const Parts& parts, const Arguments& a, at::ScalarType kind) {
  if (parts.device.is_cpu())
    return with_kernels(kind, [&](const auto& k, auto) { on_cpu(pass, parts, a, k); });
  check(gpu->run(pass, &a, kind == at::kBFloat16, parts.device.index()));
}

struct Gelu : Function<Gelu> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x_, const at::Tensor& bias) {
    auto x = x_.contiguous(), y = at::empty_like(x);
    Parts parts(x);
    with_kernels(x.scalar_type(), [&](const auto& k, auto number) {
      auto from = static_cast<const decltype(number)*>(x.const_data_ptr());
      auto to = static_cast<decltype(number)*>(y.mutable_data_ptr());
      parts.each([&](int64_t, int64_t, int64_t row, int64_t rows) {
        int64_t at = row * parts.width;
        k.gelu(rows, parts.width, from + at, read(bias), to + at);
      });
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
    auto sum = write(sums);
    with_kernels(x.scalar_type(), [&](const auto& k, auto number) {
      auto given = static_cast<const decltype(number)*>(dy.const_data_ptr());
      auto from = static_cast<const decltype(number)*>(x.const_data_ptr());
      auto to = static_cast<decltype(number)*>(dx.mutable_data_ptr());
      parts.each([&](int64_t part, int64_t, int64_t row, int64_t rows) {
        int64_t at = row * parts.width;
        k.gelu_backward(rows, parts.width, given + at, from + at, read(bias), to + at, sum + part * parts.width);
      });
    });
    return {dx, sums.sum(0).view(-1)};
  }
};

struct Modulate : Function<Modulate> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x_, const at::Tensor& shift,
                            const at::Tensor& scale) {
    auto x = rows_of(x_), h = for_product(x);
    Parts parts(x);
    Moments moments(parts);
    Rows shifts(shift), scales(scale);
    auto a = parts.arguments();
    a.x = read(x), a.shift = shifts.vectors, a.scale = scales.vectors, a.h = h.data_ptr();
    moments.into(a);
    run(MODULATE, parts, a, h.scalar_type());
    context->save_for_backward({x, scale, moments.tensor});
    return h;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    auto saved = context->get_saved_variables();
    auto &x = saved[0], &scale = saved[1];
    auto dh = rows_of(gradients[0]), dx = at::empty_like(x);
    Parts parts(x);
    Rows scales(scale);
    auto sums = parts.sums(2);
    auto a = parts.arguments();
    a.x = read(x), a.scale = scales.vectors, a.dh = dh.const_data_ptr(), a.dx = write(dx), a.sums = write(sums);
    Moments(saved[2]).into(a);
    run(MODULATE_BACKWARD, parts, a, dh.scalar_type());
    auto of_images = parts.of_images(sums);
    return {dx, of_images.narrow(1, 0, 1), of_images.narrow(1, 1, 1)};
  }
};

using Maybe = std::optional<at::Tensor>;

Maybe defined(const at::Tensor& x) { return x.defined() ? Maybe(x) : Maybe(); }
Maybe rows_of(const Maybe& x) { return x ? Maybe(rows_of(*x)) : x; }
const void* data(const Maybe& x) { return x ? x->const_data_ptr() : nullptr; }

// `excess` may have one row for all images where no gradient is wanted.
struct Enter : Function<Enter> {
  static variable_list forward(AutogradContext* context, const at::Tensor& z_, const Maybe& tokens_,
                               const at::Tensor& excess, const at::Tensor& shift, const at::Tensor& scale) {
    auto z = rows_of(z_);
    auto tokens = rows_of(tokens_);
    auto r = at::empty_like(z), keep = at::empty_like(z), h = for_product(z);
    Parts parts(z);
    Moments moments(parts);
    Rows excesses(excess), shifts(shift), scales(scale);
    auto a = parts.arguments();
    a.x = read(z), a.y = data(tokens), a.excess = excesses.vectors, a.shift = shifts.vectors;
    a.scale = scales.vectors, a.r = write(r), a.kept = write(keep), a.h = h.data_ptr();
    moments.into(a);
    run(ENTER, parts, a, h.scalar_type());
    context->save_for_backward({z, excess, scale, moments.tensor, tokens.value_or(at::Tensor())});
    context->saved_data["kind"] = static_cast<int64_t>(h.scalar_type());
    context->set_materialize_grads(false);
    return {r, keep, h};
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    auto saved = context->get_saved_variables();
    auto &z = saved[0], &excess = saved[1], &scale = saved[2];
    auto tokens = defined(saved[4]);
    auto kind = static_cast<at::ScalarType>(context->saved_data["kind"].toInt());
    auto dr = given(gradients[0], z), dh = given(gradients[2], z, kind);
    auto dkeep = rows_of(defined(gradients[1]));
    auto dz = at::empty_like(z);
    auto dtokens = tokens ? at::empty_like(*tokens) : at::Tensor();
    Parts parts(z);
    TORCH_CHECK(excess.size(0) == parts.images, "the gradient of an excess that all images share");
    Rows excesses(excess), scales(scale);
    auto sums = parts.sums(3);
    auto a = parts.arguments();
    a.x = read(z), a.y = data(tokens), a.excess = excesses.vectors, a.scale = scales.vectors;
    a.dr = read(dr), a.dkept = static_cast<const float*>(data(dkeep)), a.dh = dh.const_data_ptr();
    a.dx = write(dz), a.dy = tokens ? dtokens.data_ptr() : nullptr, a.sums = write(sums);
    Moments(saved[3]).into(a);
    run(ENTER_BACKWARD, parts, a, kind);
    auto of_images = parts.of_images(sums);
    return {dz, dtokens, of_images.narrow(1, 0, 1), of_images.narrow(1, 1, 1), of_images.narrow(1, 2, 1)};
  }
};

struct Join : Function<Join> {
  static variable_list forward(AutogradContext* context, const at::Tensor& r_, const at::Tensor& y_,
                               const at::Tensor& bias_, const at::Tensor& gate, const at::Tensor& shift,
                               const at::Tensor& scale) {
    auto r = rows_of(r_), y = rows_of(y_), bias = rows_of(bias_), s = at::empty_like(r), h = for_product(r);
    Parts parts(r);
    Moments moments(parts);
    Rows gates(gate), shifts(shift), scales(scale);
    auto a = parts.arguments();
    a.x = read(r), a.y = y.const_data_ptr(), a.bias = read(bias), a.gate = gates.vectors;
    a.shift = shifts.vectors, a.scale = scales.vectors, a.r = write(s), a.h = h.data_ptr();
    moments.into(a);
    run(JOIN, parts, a, h.scalar_type());
    context->save_for_backward({s, y, bias, gate, scale, moments.tensor});
    context->set_materialize_grads(false);
    return {s, h};
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    auto saved = context->get_saved_variables();
    auto &s = saved[0], &y = saved[1], &bias = saved[2], &gate = saved[3], &scale = saved[4];
    auto kind = y.scalar_type();
    auto ds = given(gradients[0], s), dh = given(gradients[1], s, kind);
    auto dr = at::empty_like(s), dy = at::empty_like(y);
    Parts parts(s);
    Rows gates(gate), scales(scale);
    auto sums = parts.sums(4);
    auto a = parts.arguments();
    a.x = read(s), a.y = y.const_data_ptr(), a.bias = read(bias), a.gate = gates.vectors, a.scale = scales.vectors;
    a.dr = read(ds), a.dh = dh.const_data_ptr(), a.dx = write(dr), a.dy = dy.data_ptr(), a.sums = write(sums);
    Moments(saved[5]).into(a);
    run(JOIN_BACKWARD, parts, a, kind);
    auto of_images = parts.of_images(sums);
    return {dr, dy, of_images.select(1, 0).sum(0), of_images.narrow(1, 1, 1), of_images.narrow(1, 2, 1),
            of_images.narrow(1, 3, 1)};
  }
};

struct Leave : Function<Leave> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& r_, const at::Tensor& y_,
                            const at::Tensor& bias_, const at::Tensor& gate, const Maybe& keep_) {
    auto r = rows_of(r_), y = rows_of(y_), bias = rows_of(bias_), out = at::empty_like(r);
    auto keep = rows_of(keep_);
    Parts parts(r);
    Rows gates(gate);
    auto a = parts.arguments();
    a.x = read(r), a.y = y.const_data_ptr(), a.bias = read(bias), a.gate = gates.vectors;
    a.keep = static_cast<const float*>(data(keep)), a.r = write(out);
    run(LEAVE, parts, a, y.scalar_type());
    context->save_for_backward({y, bias, gate});
    context->saved_data["keeps"] = keep.has_value();
    return out;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    auto saved = context->get_saved_variables();
    auto &y = saved[0], &bias = saved[1], &gate = saved[2];
    auto dout = rows_of(gradients[0]), dy = at::empty_like(y);
    Parts parts(y);
    Rows gates(gate);
    auto sums = parts.sums(2);
    auto a = parts.arguments();
    a.y = y.const_data_ptr(), a.bias = read(bias), a.gate = gates.vectors;
    a.dr = read(dout), a.dy = dy.data_ptr(), a.sums = write(sums);
    run(LEAVE_BACKWARD, parts, a, y.scalar_type());
    auto of_images = parts.of_images(sums);
    // Both sums take the gradient as it is.
    auto dkeep = context->saved_data["keeps"].toBool() ? dout : at::Tensor();
    return {dout, dy, of_images.select(1, 0).sum(0), of_images.narrow(1, 1, 1), dkeep};
  }
};

// What a pass takes, in the kind that it takes it in.
at::Tensor product(const at::Tensor* x) { return x->to(product_kind(*x)); }
Maybe product_or_none(const at::Tensor* x) { return x == nullptr ? Maybe() : Maybe(product(x)); }
at::Tensor exact(const at::Tensor* x) { return x->to(at::kFloat); }
Maybe exact_or_none(const at::Tensor* x) { return x == nullptr ? Maybe() : Maybe(exact(x)); }

}  // namespace

extern "C" {

// The passes of the GPUs, which stay where they are.
void shim_fused_register(const Passes* passes) { gpu = passes; }

// Whether tokens of this kind, place and width, in the present precision, are what these functions are for. A GPU must be ready
// for the width too.
char* shim_fused_serves(const at::Tensor* tokens, bool* yes) {
  return guarded([&] {
    auto kind = product_kind(*tokens);
    auto here = tokens->is_cpu() ? tokens->size(-1) % WIDTH_UNIT == 0 : tokens->is_cuda() && gpu != nullptr;
    *yes = here && (kind == at::kFloat || kind == at::kBFloat16) && tokens->scalar_type() == at::kFloat && tokens->dim() == 3;
  });
}

char* shim_fused_gelu(const at::Tensor* x, const at::Tensor* bias, at::Tensor** y) {
  return guarded([&] { *y = new at::Tensor(Gelu::apply(*x, exact(bias))); });
}

char* shim_fused_modulate(const at::Tensor* x, const at::Tensor* shift, const at::Tensor* scale, at::Tensor** h) {
  return guarded([&] { *h = new at::Tensor(Modulate::apply(*x, exact(shift), exact(scale))); });
}

// Into `out`: r, keep, h.
char* shim_fused_enter(const at::Tensor* z, const at::Tensor* tokens, const at::Tensor* excess,
                       const at::Tensor* shift, const at::Tensor* scale, at::Tensor** out) {
  return guarded([&] {
    auto results = Enter::apply(*z, product_or_none(tokens), exact(excess), exact(shift), exact(scale));
    for (size_t i = 0; i < 3; ++i) out[i] = new at::Tensor(results[i]);
  });
}

// Into `out`: s, h.
char* shim_fused_join(const at::Tensor* r, const at::Tensor* y, const at::Tensor* bias, const at::Tensor* gate,
                      const at::Tensor* shift, const at::Tensor* scale, at::Tensor** out) {
  return guarded([&] {
    auto results = Join::apply(*r, product(y), exact(bias), exact(gate), exact(shift), exact(scale));
    for (size_t i = 0; i < 2; ++i) out[i] = new at::Tensor(results[i]);
  });
}

char* shim_fused_leave(const at::Tensor* r, const at::Tensor* y, const at::Tensor* bias, const at::Tensor* gate,
                       const at::Tensor* keep, at::Tensor** out) {
  return guarded([&] { *out = new at::Tensor(Leave::apply(*r, product(y), exact(bias), exact(gate), exact_or_none(keep))); });
}
}
