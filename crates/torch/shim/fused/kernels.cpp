// Compiled once for each instruction set, with KERNELS the name of the resulting table.
#include "kernels.h"

#include <cmath>
#include <cstring>

namespace {

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX2__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif

typedef float Vec __attribute__((vector_size(LANES * sizeof(float))));
typedef int32_t Ints __attribute__((vector_size(LANES * sizeof(float))));

inline Vec load(const float* from) {
  Vec v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

inline void store(float* to, Vec v) { std::memcpy(to, &v, sizeof v); }
inline void add(float* to, Vec v) { store(to, load(to) + v); }
inline Vec all(float x) { return x - Vec{}; }

inline float total(Vec v) {
  float lanes[LANES];
  store(lanes, v);
  for (int n = LANES / 2; n > 0; n /= 2)
    for (int i = 0; i < n; ++i) lanes[i] += lanes[i + n];
  return lanes[0];
}

// e^x to 2 units in the last place up to e^88, infinity from e^89 on, e^-87 for all that is less; NaN stays.
inline Vec exponential(Vec x) {
  x = x < all(-87.0f) ? all(-87.0f) : x;
  x = x > all(89.0f) ? all(89.0f) : x;
  // Added and taken away, this number rounds to an integer; its low bits are then that integer.
  const float round = 12582912.0f;
  Vec shifted = x * 1.44269504f + round;
  Ints n;
  std::memcpy(&n, &shifted, sizeof n);
  Vec whole = shifted - round;
  // ln 2 in two parts, of which the first has few bits.
  Vec r = x - whole * 0.693359375f;
  r = r + whole * 2.12194440e-4f;
  // Taylor's series in Horner's form is exact enough to the seventh power on |r| <= ln 2 / 2.
  Vec p = r * (1.0f / 5040) + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  Ints exponent = (n - 0x4B400000 + 127) << 23;
  Vec power;
  std::memcpy(&power, &exponent, sizeof power);
  return p * power;
}

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

inline void normalise(int64_t width, const float* x, const float* shift, const float* scale, Moments m, float* h) {
  for (int64_t i = 0; i < width; i += LANES)
    store(h + i, (load(x + i) - m.mean) * m.rstd * (1.0f + load(scale + i)) + load(shift + i));
}

// What the gradient of a normalised row takes off: its mean, and its part along the row.
struct Removed {
  float mean, along;
};

inline Removed removed(int64_t width, const float* dh, const float* x, const float* scale, Moments m,
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

void gelu(int64_t rows, int64_t width, const float* x, const float* bias, float* y) {
  for (int64_t row = 0; row < rows; ++row, x += width, y += width)
    for (int64_t i = 0; i < width; i += LANES) {
      Vec v = load(x + i) + load(bias + i);
      store(y + i, v * sigmoid_of(v));
    }
}

void gelu_backward(int64_t rows, int64_t width, const float* dy, const float* x, const float* bias, float* dx,
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

void modulate(int64_t rows, int64_t width, const float* x, const float* shift, const float* scale, float* h,
              float* mean, float* rstd) {
  for (int64_t row = 0; row < rows; ++row, x += width, h += width) {
    Moments m = moments(width, x);
    normalise(width, x, shift, scale, m, h);
    mean[row] = m.mean;
    rstd[row] = m.rstd;
  }
}

void modulate_backward(int64_t rows, int64_t width, const float* dh, const float* x, const float* scale,
                       const float* mean, const float* rstd, float* dx, float* shift_sum, float* scale_sum) {
  for (int64_t row = 0; row < rows; ++row, dh += width, x += width, dx += width) {
    Moments m{mean[row], rstd[row]};
    Removed off = removed(width, dh, x, scale, m, shift_sum, scale_sum);
    for (int64_t i = 0; i < width; i += LANES)
      store(dx + i, normal_gradient(load(dh + i), load(x + i), load(scale + i), m, off));
  }
}

inline Vec excess_of(const float* tokens, const float* excess, int64_t i) {
  return tokens == nullptr ? load(excess + i) : load(tokens + i) + load(excess + i);
}

void enter(int64_t rows, int64_t width, const float* z, const float* tokens, const float* excess, const float* shift,
           const float* scale, float* r, float* keep, float* h, float* mean, float* rstd) {
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

void enter_backward(int64_t rows, int64_t width, const float* dr, const float* dkeep, const float* dh, const float* z,
                    const float* tokens, const float* excess, const float* scale, const float* mean, const float* rstd,
                    float* dz, float* dtokens, float* excess_sum, float* shift_sum, float* scale_sum) {
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

void join(int64_t rows, int64_t width, const float* r, const float* y, const float* bias, const float* gate,
          const float* shift, const float* scale, float* s, float* h, float* mean, float* rstd) {
  for (int64_t row = 0; row < rows; ++row, r += width, y += width, s += width, h += width) {
    for (int64_t i = 0; i < width; i += LANES)
      store(s + i, load(r + i) + load(gate + i) * (load(y + i) + load(bias + i)));
    Moments m = moments(width, s);
    normalise(width, s, shift, scale, m, h);
    mean[row] = m.mean;
    rstd[row] = m.rstd;
  }
}

void join_backward(int64_t rows, int64_t width, const float* ds, const float* dh, const float* s, const float* y,
                   const float* bias, const float* gate, const float* scale, const float* mean, const float* rstd,
                   float* dr, float* dy, float* bias_sum, float* gate_sum, float* shift_sum, float* scale_sum) {
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

void leave(int64_t rows, int64_t width, const float* r, const float* y, const float* bias, const float* gate,
           const float* keep, float* out) {
  for (int64_t row = 0; row < rows; ++row, r += width, y += width, out += width) {
    for (int64_t i = 0; i < width; i += LANES) {
      Vec v = load(r + i) + load(gate + i) * (load(y + i) + load(bias + i));
      store(out + i, keep == nullptr ? v : v + load(keep + i));
    }
    if (keep != nullptr) keep += width;
  }
}

void leave_backward(int64_t rows, int64_t width, const float* dout, const float* y, const float* bias,
                    const float* gate, float* dy, float* bias_sum, float* gate_sum) {
  for (int64_t row = 0; row < rows; ++row, dout += width, y += width, dy += width)
    for (int64_t i = 0; i < width; i += LANES) {
      Vec d = load(dout + i), b = d * load(gate + i);
      store(dy + i, b);
      add(bias_sum + i, b);
      add(gate_sum + i, d * (load(y + i) + load(bias + i)));
    }
}

void mix(int64_t count, int64_t width, const float* gates, const float* x, int64_t stride, float* y) {
  for (int64_t i = 0; i < width; i += LANES) {
    Vec sum{};
    for (int64_t j = 0; j < count; ++j)
      if (gates[j] != 0.0f) sum += gates[j] * load(x + j * stride + i);
    store(y + i, sum);
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

}  // namespace

extern const Kernels KERNELS = {
    gelu,        gelu_backward, modulate, modulate_backward, enter,    enter_backward, join,
    join_backward, leave,       leave_backward, mix, row_dots, softmax, softmax_backward,
};
