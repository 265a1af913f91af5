// The passes over a block's tokens, compiled on the machine they run on, for the WIDTH of its network.
//
// A block of threads has some rows of one image, a thread four columns of them. What is summed over the rows stays in a thread
// until its rows are done, so every number is read once and nothing depends on the order in which blocks run.
#include "pass.h"

constexpr int LANES = 32;
constexpr int COLUMNS = 4;
constexpr int THREADS = (WIDTH / COLUMNS + LANES - 1) / LANES * LANES;
constexpr int WARPS = THREADS / LANES;
// Rows that are on their way together: enough to hide what memory takes.
constexpr int ROWS = 4;
constexpr float EPSILON = 1e-6f;

struct Bf16 {
  unsigned short bits;
};

struct Four {
  float v[COLUMNS];
};

__device__ Four all(float x) { return {{x, x, x, x}}; }

__device__ Four load(const float* from) {
  float4 x = *reinterpret_cast<const float4*>(from);
  return {{x.x, x.y, x.z, x.w}};
}

__device__ void store(float* to, const Four& x) {
  *reinterpret_cast<float4*>(to) = make_float4(x.v[0], x.v[1], x.v[2], x.v[3]);
}

__device__ Four load(const Bf16* from) {
  uint2 x = *reinterpret_cast<const uint2*>(from);
  return {{__uint_as_float(x.x << 16), __uint_as_float(x.x & 0xffff0000u), __uint_as_float(x.y << 16),
           __uint_as_float(x.y & 0xffff0000u)}};
}

// To the nearest, ties to even; NaN stays NaN.
__device__ unsigned rounded(float x) {
  unsigned bits = __float_as_uint(x);
  return x != x ? 0x7fc0u : (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
}

__device__ void store(Bf16* to, const Four& x) {
  *reinterpret_cast<uint2*>(to) =
      make_uint2(rounded(x.v[0]) | rounded(x.v[1]) << 16, rounded(x.v[2]) | rounded(x.v[3]) << 16);
}

// This thread's share of its block's rows.
struct Part {
  long long image, begin, end;
  int column;
  bool inside;
  int turn;

  __device__ explicit Part(const Arguments& a) {
    long long per_image = (a.tokens + a.rows - 1) / a.rows;
    image = blockIdx.x / per_image;
    long long first = blockIdx.x % per_image * a.rows;
    begin = image * a.tokens + first;
    end = begin + (a.tokens - first < a.rows ? a.tokens - first : a.rows);
    column = threadIdx.x * COLUMNS;
    inside = column < WIDTH;
    turn = 0;
  }

  // Zeros where there is nothing: rows behind the last, columns behind the last, a tensor that is not given.
  template <class T>
  __device__ Four read(const T* x, long long row) const {
    return x != nullptr && inside && row < end ? load(x + row * WIDTH + column) : all(0.0f);
  }

  // ROWS of them.
  template <class T>
  __device__ void read(const T* x, long long row, Four (&to)[ROWS]) const {
#pragma unroll
    for (int i = 0; i < ROWS; ++i) to[i] = read(x, row + i);
  }

  template <class T>
  __device__ void write(T* x, long long row, const Four& value) const {
    if (inside && row < end) store(x + row * WIDTH + column, value);
  }

  __device__ Four vector(const Vectors& x) const {
    return inside ? load(x.data + image * x.stride + column) : all(0.0f);
  }

  __device__ void write_sum(const Arguments& a, int count, int index, const Four& sum) const {
    if (inside) store(a.sums + (static_cast<long long>(blockIdx.x) * count + index) * WIDTH + column, sum);
  }

  // Sums over the threads of the block, for all of them.
  template <int N>
  __device__ void total(float (&x)[N]) {
#pragma unroll
    for (int i = 0; i < N; ++i)
#pragma unroll
      for (int lane = LANES / 2; lane > 0; lane /= 2) x[i] += __shfl_xor_sync(0xffffffffu, x[i], lane);
    if (WARPS == 1) return;
    // Two places in turn: what is written into one was read before the barrier of the other.
    __shared__ float warps[2][N][WARPS];
    if (threadIdx.x % LANES == 0)
      for (int i = 0; i < N; ++i) warps[turn][i][threadIdx.x / LANES] = x[i];
    __syncthreads();
#pragma unroll
    for (int i = 0; i < N; ++i) {
      x[i] = 0.0f;
#pragma unroll
      for (int warp = 0; warp < WARPS; ++warp) x[i] += warps[turn][i][warp];
    }
    turn ^= 1;
  }
};

// h = LN(x) (1 + scale) + shift, for ROWS rows.
template <class P>
__device__ void normalise(const Arguments& a, Part& part, long long row, const Four (&x)[ROWS], const Four& shift,
                          const Four& scale) {
  float mean[ROWS], rstd[ROWS];
#pragma unroll
  for (int i = 0; i < ROWS; ++i) mean[i] = (x[i].v[0] + x[i].v[1]) + (x[i].v[2] + x[i].v[3]);
  part.total(mean);
#pragma unroll
  for (int i = 0; i < ROWS; ++i) {
    mean[i] /= WIDTH;
    rstd[i] = 0.0f;
#pragma unroll
    for (int j = 0; j < COLUMNS; ++j) {
      float d = part.inside ? x[i].v[j] - mean[i] : 0.0f;
      rstd[i] += d * d;
    }
  }
  part.total(rstd);
#pragma unroll
  for (int i = 0; i < ROWS; ++i) {
    rstd[i] = rsqrtf(rstd[i] / WIDTH + EPSILON);
    Four h;
#pragma unroll
    for (int j = 0; j < COLUMNS; ++j) h.v[j] = (x[i].v[j] - mean[i]) * rstd[i] * (1.0f + scale.v[j]) + shift.v[j];
    part.write(static_cast<P*>(a.h), row + i, h);
    if (threadIdx.x == 0 && row + i < part.end) {
      a.mean[row + i] = mean[i];
      a.rstd[row + i] = rstd[i];
    }
  }
}

// The gradient of ROWS normalised rows; what it gives to shift and scale is added to their sums.
template <class P>
__device__ void normal_gradient(const Arguments& a, Part& part, long long row, const Four (&x)[ROWS],
                                const Four& scale, Four& shift_sum, Four& scale_sum, Four (&d)[ROWS]) {
  float rstd[ROWS], off[2 * ROWS];
  Four n[ROWS];
  part.read(static_cast<const P*>(a.dh), row, d);
#pragma unroll
  for (int i = 0; i < ROWS; ++i) {
    bool there = row + i < part.end;
    float mean = there ? a.mean[row + i] : 0.0f;
    rstd[i] = there ? a.rstd[row + i] : 0.0f;
    off[2 * i] = off[2 * i + 1] = 0.0f;
#pragma unroll
    for (int j = 0; j < COLUMNS; ++j) {
      n[i].v[j] = (x[i].v[j] - mean) * rstd[i];
      shift_sum.v[j] += d[i].v[j];
      scale_sum.v[j] += d[i].v[j] * n[i].v[j];
      d[i].v[j] *= 1.0f + scale.v[j];
      off[2 * i] += d[i].v[j];
      off[2 * i + 1] += d[i].v[j] * n[i].v[j];
    }
  }
  // What it takes off: its mean, and its part along the row.
  part.total(off);
#pragma unroll
  for (int i = 0; i < ROWS; ++i)
#pragma unroll
    for (int j = 0; j < COLUMNS; ++j)
      d[i].v[j] = rstd[i] * (d[i].v[j] - off[2 * i] / WIDTH - n[i].v[j] * (off[2 * i + 1] / WIDTH));
}

template <class P>
__device__ void modulate(const Arguments& a) {
  Part part(a);
  Four shift = part.vector(a.shift), scale = part.vector(a.scale);
  for (long long row = part.begin; row < part.end; row += ROWS) {
    Four x[ROWS];
    part.read(a.x, row, x);
    normalise<P>(a, part, row, x, shift, scale);
  }
}

template <class P>
__device__ void modulate_backward(const Arguments& a) {
  Part part(a);
  Four scale = part.vector(a.scale), shift_sum = all(0.0f), scale_sum = all(0.0f);
  for (long long row = part.begin; row < part.end; row += ROWS) {
    Four x[ROWS], d[ROWS];
    part.read(a.x, row, x);
    normal_gradient<P>(a, part, row, x, scale, shift_sum, scale_sum, d);
#pragma unroll
    for (int i = 0; i < ROWS; ++i) part.write(a.dx, row + i, d[i]);
  }
  part.write_sum(a, 2, 0, shift_sum);
  part.write_sum(a, 2, 1, scale_sum);
}

// e = y + excess; kept = -x e; r = x + x e; then as `modulate`.
template <class P>
__device__ void enter(const Arguments& a) {
  Part part(a);
  Four excess = part.vector(a.excess), shift = part.vector(a.shift), scale = part.vector(a.scale);
  for (long long row = part.begin; row < part.end; row += ROWS) {
    Four r[ROWS], y[ROWS];
    part.read(a.x, row, r);
    part.read(static_cast<const P*>(a.y), row, y);
#pragma unroll
    for (int i = 0; i < ROWS; ++i) {
      Four kept;
#pragma unroll
      for (int j = 0; j < COLUMNS; ++j) {
        float change = r[i].v[j] * (y[i].v[j] + excess.v[j]);
        r[i].v[j] += change;
        kept.v[j] = -change;
      }
      part.write(a.r, row + i, r[i]);
      part.write(a.kept, row + i, kept);
    }
    normalise<P>(a, part, row, r, shift, scale);
  }
}

template <class P>
__device__ void enter_backward(const Arguments& a) {
  Part part(a);
  Four excess = part.vector(a.excess), scale = part.vector(a.scale);
  Four excess_sum = all(0.0f), shift_sum = all(0.0f), scale_sum = all(0.0f);
  for (long long row = part.begin; row < part.end; row += ROWS) {
    Four z[ROWS], e[ROWS], r[ROWS], d[ROWS];
    part.read(a.x, row, z);
    part.read(static_cast<const P*>(a.y), row, e);
#pragma unroll
    for (int i = 0; i < ROWS; ++i)
#pragma unroll
      for (int j = 0; j < COLUMNS; ++j) {
        e[i].v[j] += excess.v[j];
        r[i].v[j] = z[i].v[j] + z[i].v[j] * e[i].v[j];
      }
    normal_gradient<P>(a, part, row, r, scale, shift_sum, scale_sum, d);
#pragma unroll
    for (int i = 0; i < ROWS; ++i) {
      Four dr = part.read(a.dr, row + i), dkept = part.read(a.dkept, row + i), de;
      // Behind the last row the gradient of the norm is 0, for its 1 / deviation was taken as 0.
#pragma unroll
      for (int j = 0; j < COLUMNS; ++j) {
        float whole = dr.v[j] + d[i].v[j], change = whole - dkept.v[j];
        de.v[j] = z[i].v[j] * change;
        d[i].v[j] = whole + e[i].v[j] * change;
        excess_sum.v[j] += de.v[j];
      }
      part.write(a.dx, row + i, d[i]);
      if (a.dy != nullptr) part.write(static_cast<P*>(a.dy), row + i, de);
    }
  }
  part.write_sum(a, 3, 0, excess_sum);
  part.write_sum(a, 3, 1, shift_sum);
  part.write_sum(a, 3, 2, scale_sum);
}

// r = x + gate (y + bias); then as `modulate`.
template <class P>
__device__ void join(const Arguments& a) {
  Part part(a);
  Four bias = part.vector({a.bias, 0}), gate = part.vector(a.gate);
  Four shift = part.vector(a.shift), scale = part.vector(a.scale);
  for (long long row = part.begin; row < part.end; row += ROWS) {
    Four r[ROWS], y[ROWS];
    part.read(a.x, row, r);
    part.read(static_cast<const P*>(a.y), row, y);
#pragma unroll
    for (int i = 0; i < ROWS; ++i) {
#pragma unroll
      for (int j = 0; j < COLUMNS; ++j) r[i].v[j] += gate.v[j] * (y[i].v[j] + bias.v[j]);
      part.write(a.r, row + i, r[i]);
    }
    normalise<P>(a, part, row, r, shift, scale);
  }
}

// What `join` and `leave` give to y, bias and gate, the gradient of their sum being d.
template <class P>
__device__ void gate_gradient(const Arguments& a, const Part& part, long long row, const Four& d, const Four& bias,
                              const Four& gate, Four& bias_sum, Four& gate_sum) {
  Four y = part.read(static_cast<const P*>(a.y), row), dy;
#pragma unroll
  for (int j = 0; j < COLUMNS; ++j) {
    dy.v[j] = d.v[j] * gate.v[j];
    bias_sum.v[j] += dy.v[j];
    gate_sum.v[j] += d.v[j] * (y.v[j] + bias.v[j]);
  }
  part.write(static_cast<P*>(a.dy), row, dy);
}

// `x` is here what was normalised.
template <class P>
__device__ void join_backward(const Arguments& a) {
  Part part(a);
  Four bias = part.vector({a.bias, 0}), gate = part.vector(a.gate), scale = part.vector(a.scale);
  Four bias_sum = all(0.0f), gate_sum = all(0.0f), shift_sum = all(0.0f), scale_sum = all(0.0f);
  for (long long row = part.begin; row < part.end; row += ROWS) {
    Four x[ROWS], d[ROWS];
    part.read(a.x, row, x);
    normal_gradient<P>(a, part, row, x, scale, shift_sum, scale_sum, d);
#pragma unroll
    for (int i = 0; i < ROWS; ++i) {
      Four dr = part.read(a.dr, row + i);
#pragma unroll
      for (int j = 0; j < COLUMNS; ++j) d[i].v[j] += dr.v[j];
      part.write(a.dx, row + i, d[i]);
      gate_gradient<P>(a, part, row + i, d[i], bias, gate, bias_sum, gate_sum);
    }
  }
  part.write_sum(a, 4, 0, bias_sum);
  part.write_sum(a, 4, 1, gate_sum);
  part.write_sum(a, 4, 2, shift_sum);
  part.write_sum(a, 4, 3, scale_sum);
}

// r = x + gate (y + bias) + keep.
template <class P>
__device__ void leave(const Arguments& a) {
  Part part(a);
  Four bias = part.vector({a.bias, 0}), gate = part.vector(a.gate);
#pragma unroll 4
  for (long long row = part.begin; row < part.end; ++row) {
    Four r = part.read(a.x, row), y = part.read(static_cast<const P*>(a.y), row), keep = part.read(a.keep, row);
#pragma unroll
    for (int j = 0; j < COLUMNS; ++j) r.v[j] += gate.v[j] * (y.v[j] + bias.v[j]) + keep.v[j];
    part.write(a.r, row, r);
  }
}

// The gradients of `x` and `keep` are that of `r` itself.
template <class P>
__device__ void leave_backward(const Arguments& a) {
  Part part(a);
  Four bias = part.vector({a.bias, 0}), gate = part.vector(a.gate), bias_sum = all(0.0f), gate_sum = all(0.0f);
#pragma unroll 4
  for (long long row = part.begin; row < part.end; ++row)
    gate_gradient<P>(a, part, row, part.read(a.dr, row), bias, gate, bias_sum, gate_sum);
  part.write_sum(a, 2, 0, bias_sum);
  part.write_sum(a, 2, 1, gate_sum);
}

#define KERNEL extern "C" __global__ void __launch_bounds__(THREADS)

KERNEL modulate_f32(Arguments a) { modulate<float>(a); }
KERNEL modulate_bf16(Arguments a) { modulate<Bf16>(a); }
KERNEL modulate_backward_f32(Arguments a) { modulate_backward<float>(a); }
KERNEL modulate_backward_bf16(Arguments a) { modulate_backward<Bf16>(a); }
KERNEL enter_f32(Arguments a) { enter<float>(a); }
KERNEL enter_bf16(Arguments a) { enter<Bf16>(a); }
KERNEL enter_backward_f32(Arguments a) { enter_backward<float>(a); }
KERNEL enter_backward_bf16(Arguments a) { enter_backward<Bf16>(a); }
KERNEL join_f32(Arguments a) { join<float>(a); }
KERNEL join_bf16(Arguments a) { join<Bf16>(a); }
KERNEL join_backward_f32(Arguments a) { join_backward<float>(a); }
KERNEL join_backward_bf16(Arguments a) { join_backward<Bf16>(a); }
KERNEL leave_f32(Arguments a) { leave<float>(a); }
KERNEL leave_bf16(Arguments a) { leave<Bf16>(a); }
KERNEL leave_backward_f32(Arguments a) { leave_backward<float>(a); }
KERNEL leave_backward_bf16(Arguments a) { leave_backward<Bf16>(a); }
