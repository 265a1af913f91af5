// Arithmetic of a block between its matrix products, compiled once for each instruction set. It is done in f32; what products give
// and take is of their kind, P.
//
// Rows are consecutive and `width` numbers long; `width` is a multiple of WIDTH_UNIT. `shift`, `scale`, `gate` and `excess`
// are one row for all rows of a call. What is called a sum is a row that results are added to.
#pragma once

#include <cstdint>

constexpr int64_t WIDTH_UNIT = 16;

// The upper half of an f32.
struct Bf16 {
  uint16_t bits;
};

template <class P>
struct TokenKernels {
  // y = gelu(x + bias), tanh approximation.
  void (*gelu)(int64_t rows, int64_t width, const P* x, const float* bias, P* y);
  void (*gelu_backward)(int64_t rows, int64_t width, const P* dy, const P* x, const float* bias, P* dx,
                        float* bias_sum);

  // h = LN(x) (1 + scale) + shift.
  void (*modulate)(int64_t rows, int64_t width, const float* x, const float* shift, const float* scale, P* h,
                   float* mean, float* rstd);
  void (*modulate_backward)(int64_t rows, int64_t width, const P* dh, const float* x, const float* scale,
                            const float* mean, const float* rstd, float* dx, float* shift_sum, float* scale_sum);

  // e = tokens + excess; keep = -z e; r = z + z e; h = LN(r) (1 + scale) + shift. `tokens` may be null.
  void (*enter)(int64_t rows, int64_t width, const float* z, const P* tokens, const float* excess,
                const float* shift, const float* scale, float* r, float* keep, P* h, float* mean, float* rstd);
  // `dkeep` may be null; `dtokens` is null where `tokens` is.
  void (*enter_backward)(int64_t rows, int64_t width, const float* dr, const float* dkeep, const P* dh,
                         const float* z, const P* tokens, const float* excess, const float* scale,
                         const float* mean, const float* rstd, float* dz, P* dtokens, float* excess_sum,
                         float* shift_sum, float* scale_sum);

  // s = r + gate (y + bias); h = LN(s) (1 + scale) + shift.
  void (*join)(int64_t rows, int64_t width, const float* r, const P* y, const float* bias, const float* gate,
               const float* shift, const float* scale, float* s, P* h, float* mean, float* rstd);
  void (*join_backward)(int64_t rows, int64_t width, const float* ds, const P* dh, const float* s, const P* y,
                        const float* bias, const float* gate, const float* scale, const float* mean,
                        const float* rstd, float* dr, P* dy, float* bias_sum, float* gate_sum, float* shift_sum,
                        float* scale_sum);

  // out = r + gate (y + bias) + keep. `keep` may be null.
  void (*leave)(int64_t rows, int64_t width, const float* r, const P* y, const float* bias, const float* gate,
                const float* keep, float* out);
  void (*leave_backward)(int64_t rows, int64_t width, const float* dout, const P* y, const float* bias,
                         const float* gate, P* dy, float* bias_sum, float* gate_sum);

  // y = sum over j of gates[j] x_j, the x_j `stride` apart; those with gate 0 are not read.
  void (*mix)(int64_t count, int64_t width, const float* gates, const float* x, int64_t stride, P* y);
  // The same where the x_j are of that kind too.
  void (*mix_stored)(int64_t count, int64_t width, const float* gates, const P* x, int64_t stride, P* y);
  // From gradients of some y, `rows` of them: those of the x_j, and of the gates as far as these numbers give it.
  void (*mix_backward)(int64_t rows, int64_t count, int64_t width, const float* gates, const P* dy, const float* x,
                       int64_t stride, float* dx, float* dgates);
};

struct Kernels {
  TokenKernels<float> f32;
  TokenKernels<Bf16> bf16;

  // Rows of any width, `stride` apart on the side of bf16, to f32 and back.
  void (*widen)(int64_t rows, int64_t width, const Bf16* from, int64_t stride, float* to);
  void (*narrow)(int64_t rows, int64_t width, const float* from, Bf16* to, int64_t stride);
  // dots[i] = a_i . b_i over rows of any width that are `stride` apart.
  void (*row_dots)(int64_t rows, int64_t width, const float* a, const float* b, int64_t stride, float* dots);
  // In place softmax(factor x), with ln of the sum of exp(factor x) of each row.
  void (*softmax)(int64_t rows, int64_t width, float factor, float* x, float* log_sum);
  // From scores and the gradient of their softmax: x becomes the softmax, dx the gradient of x.
  void (*softmax_backward)(int64_t rows, int64_t width, float factor, const float* log_sum, const float* dots,
                           float* x, float* dx);
};

extern const Kernels kernels_base;
#if defined(__x86_64__)
extern const Kernels kernels_avx2;
extern const Kernels kernels_avx512;
#endif
