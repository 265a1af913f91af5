// Compiled once for each instruction set, with KERNELS the name of the resulting table.
#include "vectors.h"

#include <cmath>

namespace {

constexpr float EPSILON = 1e-6f;

struct Moments {
  float mean, rstd;
};

// Mean and 1 / deviation of a row, the variance biased.
inline Moments moments(int64_t width, const float* x) {
  Vec sum{}, other{};
  for (int64_t i = 0; i < width; i += 2 * LANES) {
    sum += load(x + i);
    if (i + LANES < width) other += load(x + i + LANES);
  }
  float mean = total(sum + other) / width;
  Vec squares{};
  for (int64_t i = 0; i < width; i += LANES) {
    Vec d = load(x + i) - mean;
    squares += d * d;
  }
  return {mean, 1.0f / std::sqrt(total(squares) / width + EPSILON)};
}

template <class P>
inline void normalise(int64_t width, const float* x, const float* shift, const float* scale, Moments m, P* h) {
  for (int64_t i = 0; i < width; i += LANES)
    store(h + i, (load(x + i) - m.mean) * m.rstd * (1.0f + load(scale + i)) + load(shift + i));
}

// What the gradient of a normalised row takes off: its mean, and its part along the row.
struct Removed {
  float mean, along;
};

template <class P>
inline Removed removed(int64_t width, const P* dh, const float* x, const float* scale, Moments m,
                       float* shift_sum, float* scale_sum) {
  Vec mean{}, along{};
  for (int64_t i = 0; i < width; i += LANES) {
    Vec d = load(dh + i), n = (load(x + i) - m.mean) * m.rstd, g = d * (1.0f + load(scale + i));
    mean += g;
    along += g * n;
    add(shift_sum + i, d);
    add(scale_sum + i, d * n);
  }
  return {total(mean) / width, total(along) / width};
}

inline Vec normal_gradient(Vec dh, Vec x, Vec scale, Moments m, Removed off) {
  Vec n = (x - m.mean) * m.rstd;
  return m.rstd * (dh * (1.0f + scale) - off.mean - n * off.along);
}

constexpr float GELU_SLOPE = 0.79788456f;  // sqrt(2 / pi)
constexpr float GELU_CUBE = 0.044715f;

// gelu(x) = x / (1 + e^(-2u)), u = sqrt(2 / pi) (x + 0.044715 x^3): the tanh approximation, written without tanh.
inline Vec sigmoid_of(Vec x) {
  Vec u = x * (GELU_SLOPE + GELU_SLOPE * GELU_CUBE * x * x);
  return 1.0f / (1.0f + exponential(-2.0f * u));
}

template <class P>
void gelu(int64_t rows, int64_t width, const P* x, const float* bias, P* y) {
  for (int64_t row = 0; row < rows; ++row, x += width, y += width)
    for (int64_t i = 0; i < width; i += LANES) {
      Vec v = load(x + i) + load(bias + i);
      store(y + i, v * sigmoid_of(v));
    }
}

template <class P>
void gelu_backward(int64_t rows, int64_t width, const P* dy, const P* x, const float* bias, P* dx,
                   float* bias_sum) {
  for (int64_t row = 0; row < rows; ++row, dy += width, x += width, dx += width)
    for (int64_t i = 0; i < width; i += LANES) {
      Vec v = load(x + i) + load(bias + i), s = sigmoid_of(v);
      Vec slope = 2.0f * GELU_SLOPE + 6.0f * GELU_SLOPE * GELU_CUBE * v * v;
      Vec d = load(dy + i) * (s + v * s * (1.0f - s) * slope);
      store(dx + i, d);
      add(bias_sum + i, d);
    }
}

template <class P>
void modulate(int64_t rows, int64_t width, const float* x, const float* shift, const float* scale, P* h,
              float* mean, float* rstd) {
  for (int64_t row = 0; row < rows; ++row, x += width, h += width) {
    Moments m = moments(width, x);
    normalise(width, x, shift, scale, m, h);
    mean[row] = m.mean;
    rstd[row] = m.rstd;
  }
}

template <class P>
void modulate_backward(int64_t rows, int64_t width, const P* dh, const float* x, const float* scale,
                       const float* mean, const float* rstd, float* dx, float* shift_sum, float* scale_sum) {
  for (int64_t row = 0; row < rows; ++row, dh += width, x += width, dx += width) {
    Moments m{mean[row], rstd[row]};
    Removed off = removed(width, dh, x, scale, m, shift_sum, scale_sum);
    for (int64_t i = 0; i < width; i += LANES)
      store(dx + i, normal_gradient(load(dh + i), load(x + i), load(scale + i), m, off));
  }
}

template <class P>
inline Vec excess_of(const P* tokens, const float* excess, int64_t i) {
  return tokens == nullptr ? load(excess + i) : load(tokens + i) + load(excess + i);
}

template <class P>
void enter(int64_t rows, int64_t width, const float* z, const P* tokens, const float* excess, const float* shift,
           const float* scale, float* r, float* keep, P* h, float* mean, float* rstd) {
  for (int64_t row = 0; row < rows; ++row, z += width, r += width, keep += width, h += width) {
    for (int64_t i = 0; i < width; i += LANES) {
      Vec change = load(z + i) * excess_of(tokens, excess, i);
      store(r + i, load(z + i) + change);
      store(keep + i, -change);
    }
    Moments m = moments(width, r);
    normalise(width, r, shift, scale, m, h);
    mean[row] = m.mean;
    rstd[row] = m.rstd;
    if (tokens != nullptr) tokens += width;
  }
}

template <class P>
void enter_backward(int64_t rows, int64_t width, const float* dr, const float* dkeep, const P* dh, const float* z,
                    const P* tokens, const float* excess, const float* scale, const float* mean, const float* rstd,
                    float* dz, P* dtokens, float* excess_sum, float* shift_sum, float* scale_sum) {
  for (int64_t row = 0; row < rows; ++row, dr += width, dh += width, z += width, dz += width) {
    Moments m{mean[row], rstd[row]};
    // The row that was normalised, for as long as its place holds nothing else.
    for (int64_t i = 0; i < width; i += LANES)
      store(dz + i, load(z + i) + load(z + i) * excess_of(tokens, excess, i));
    Removed off = removed(width, dh, dz, scale, m, shift_sum, scale_sum);
    for (int64_t i = 0; i < width; i += LANES) {
      Vec d = load(dr + i) + normal_gradient(load(dh + i), load(dz + i), load(scale + i), m, off);
      Vec change = dkeep == nullptr ? d : d - load(dkeep + i);
      Vec de = load(z + i) * change;
      store(dz + i, d + excess_of(tokens, excess, i) * change);
      if (dtokens != nullptr) store(dtokens + i, de);
      add(excess_sum + i, de);
    }
    if (tokens != nullptr) tokens += width;
    if (dtokens != nullptr) dtokens += width;
    if (dkeep != nullptr) dkeep += width;
  }
}

template <class P>
void join(int64_t rows, int64_t width, const float* r, const P* y, const float* bias, const float* gate,
          const float* shift, const float* scale, float* s, P* h, float* mean, float* rstd) {
  for (int64_t row = 0; row < rows; ++row, r += width, y += width, s += width, h += width) {
    for (int64_t i = 0; i < width; i += LANES)
      store(s + i, load(r + i) + load(gate + i) * (load(y + i) + load(bias + i)));
    Moments m = moments(width, s);
    normalise(width, s, shift, scale, m, h);
    mean[row] = m.mean;
    rstd[row] = m.rstd;
  }
}

template <class P>
void join_backward(int64_t rows, int64_t width, const float* ds, const P* dh, const float* s, const P* y,
                   const float* bias, const float* gate, const float* scale, const float* mean, const float* rstd,
                   float* dr, P* dy, float* bias_sum, float* gate_sum, float* shift_sum, float* scale_sum) {
  for (int64_t row = 0; row < rows; ++row, ds += width, dh += width, s += width, y += width, dr += width, dy += width) {
    Moments m{mean[row], rstd[row]};
    Removed off = removed(width, dh, s, scale, m, shift_sum, scale_sum);
    for (int64_t i = 0; i < width; i += LANES) {
      Vec d = load(ds + i) + normal_gradient(load(dh + i), load(s + i), load(scale + i), m, off);
      Vec b = d * load(gate + i);
      store(dr + i, d);
      store(dy + i, b);
      add(bias_sum + i, b);
      add(gate_sum + i, d * (load(y + i) + load(bias + i)));
    }
  }
}

template <class P>
void leave(int64_t rows, int64_t width, const float* r, const P* y, const float* bias, const float* gate,
           const float* keep, float* out) {
  for (int64_t row = 0; row < rows; ++row, r += width, y += width, out += width) {
    for (int64_t i = 0; i < width; i += LANES) {
      Vec v = load(r + i) + load(gate + i) * (load(y + i) + load(bias + i));
      store(out + i, keep == nullptr ? v : v + load(keep + i));
    }
    if (keep != nullptr) keep += width;
  }
}

template <class P>
void leave_backward(int64_t rows, int64_t width, const float* dout, const P* y, const float* bias,
                    const float* gate, P* dy, float* bias_sum, float* gate_sum) {
  for (int64_t row = 0; row < rows; ++row, dout += width, y += width, dy += width)
    for (int64_t i = 0; i < width; i += LANES) {
      Vec d = load(dout + i), b = d * load(gate + i);
      store(dy + i, b);
      add(bias_sum + i, b);
      add(gate_sum + i, d * (load(y + i) + load(bias + i)));
    }
}

// What is mixed, as a product in the kind of the result would read it.
inline Vec as_read(Vec v, const float*) { return v; }
inline Vec as_read(Vec v, const Bf16*) {
  Bf16 halves[LANES];
  store(halves, v);
  return load(halves);
}

template <class X, class Y>
void mix(int64_t count, int64_t width, const float* gates, const X* x, int64_t stride, Y* y) {
  for (int64_t i = 0; i < width; i += LANES) {
    Vec sum{};
    for (int64_t j = 0; j < count; ++j)
      if (gates[j] != 0.0f) sum += gates[j] * as_read(load(x + j * stride + i), y);
    store(y + i, sum);
  }
}

template <class P>
void mix_backward(int64_t rows, int64_t count, int64_t width, const float* gates, const P* dy, const float* x,
                  int64_t stride, float* dx, float* dgates) {
  for (int64_t j = 0; j < count; ++j)
    for (int64_t i = 0; i < width; i += LANES) {
      Vec sum{};
      for (int64_t row = 0; row < rows; ++row)
        if (float gate = gates[row * count + j]; gate != 0.0f) sum += gate * load(dy + row * stride + i);
      store(dx + j * stride + i, sum);
    }
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t j = 0; j < count; ++j) {
      Vec sums[4]{};
      const P* a = dy + row * stride;
      const float* b = x + j * stride;
      int64_t i = 0;
      for (; i + 4 * LANES <= width; i += 4 * LANES)
        for (int k = 0; k < 4; ++k) sums[k] += load(a + i + k * LANES) * as_read(load(b + i + k * LANES), dy);
      for (; i < width; i += LANES) sums[0] += load(a + i) * as_read(load(b + i), dy);
      dgates[row * count + j] = total((sums[0] + sums[1]) + (sums[2] + sums[3]));
    }
}

void widen(int64_t rows, int64_t width, const Bf16* from, int64_t stride, float* to) {
  for (int64_t row = 0; row < rows; ++row, from += stride, to += width) {
    int64_t i = 0;
    for (; i + LANES <= width; i += LANES) store(to + i, load(from + i));
    Bf16 rest[LANES] = {};
    std::memcpy(rest, from + i, (width - i) * sizeof(Bf16));
    Vec wide = load(rest);
    std::memcpy(to + i, &wide, (width - i) * sizeof(float));
  }
}

void narrow(int64_t rows, int64_t width, const float* from, Bf16* to, int64_t stride) {
  for (int64_t row = 0; row < rows; ++row, from += width, to += stride) {
    int64_t i = 0;
    for (; i + LANES <= width; i += LANES) store(to + i, load(from + i));
    float rest[LANES] = {};
    std::memcpy(rest, from + i, (width - i) * sizeof(float));
    Bf16 halves[LANES];
    store(halves, load(rest));
    std::memcpy(to + i, halves, (width - i) * sizeof(Bf16));
  }
}

void row_dots(int64_t rows, int64_t width, const float* a, const float* b, int64_t stride, float* dots) {
  for (int64_t row = 0; row < rows; ++row, a += stride, b += stride) {
    Vec sum{};
    int64_t i = 0;
    for (; i + LANES <= width; i += LANES) sum += load(a + i) * load(b + i);
    float dot = total(sum);
    for (; i < width; ++i) dot += a[i] * b[i];
    dots[row] = dot;
  }
}

void softmax(int64_t rows, int64_t width, float factor, float* x, float* log_sum) {
  for (int64_t row = 0; row < rows; ++row, x += width) {
    Vec most = load(x);
    for (int64_t i = LANES; i < width; i += LANES) {
      Vec v = load(x + i);
      most = v > most ? v : most;
    }
    float greatest = most[0];
    for (int i = 1; i < LANES; ++i) greatest = most[i] > greatest ? most[i] : greatest;
    Vec sum{};
    for (int64_t i = 0; i < width; i += LANES) {
      Vec v = exponential((load(x + i) - greatest) * factor);
      store(x + i, v);
      sum += v;
    }
    float whole = total(sum);
    for (int64_t i = 0; i < width; i += LANES) store(x + i, load(x + i) * (1.0f / whole));
    log_sum[row] = greatest * factor + std::log(whole);
  }
}

void softmax_backward(int64_t rows, int64_t width, float factor, const float* log_sum, const float* dots, float* x,
                      float* dx) {
  for (int64_t row = 0; row < rows; ++row, x += width, dx += width)
    for (int64_t i = 0; i < width; i += LANES) {
      Vec p = exponential(load(x + i) * factor - log_sum[row]);
      store(x + i, p);
      store(dx + i, p * (load(dx + i) - dots[row]) * factor);
    }
}

template <class P>
constexpr TokenKernels<P> token_kernels() {
  return {
      gelu<P>, gelu_backward<P>, modulate<P>, modulate_backward<P>, enter<P>, enter_backward<P>, join<P>,
      join_backward<P>, leave<P>, leave_backward<P>, mix<float, P>, mix<P, P>,
      mix_backward<P>,
  };
}

}  // namespace

extern const Kernels KERNELS = {
    token_kernels<float>(), token_kernels<Bf16>(), widen, narrow, row_dots, softmax, softmax_backward,
};
