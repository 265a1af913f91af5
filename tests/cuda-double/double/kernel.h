// What a kernel's source is compiled behind, on the host: the words of CUDA C that the passes use. `State` is shared with
// `kernels.cpp`, which runs the threads.
#pragma once

#include <cmath>
#include <cstring>

namespace cuda_double {

struct Place {
  unsigned x, y, z;
};

// One block runs at a time, its threads in turn.
struct State {
  Place thread, block, threads, blocks;
  // Ends this thread's turn; it goes on when all threads of its block have come to a wait of this kind.
  void (*wait)(char kind);
  // What the threads show each other, two times in turn; how often each has shown something.
  float shown[2][1024];
  unsigned times[1024];
  // Whether threads see each other wrongly, for a test.
  bool wrong;
};

// How the device calls a kernel.
struct Entry {
  void (*call)(const void* argument);
  unsigned long size;
};

}  // namespace cuda_double

#ifdef CUDA_DOUBLE_KERNEL

extern "C" {
cuda_double::State* cuda_double_state;
}

#define threadIdx (cuda_double_state->thread)
#define blockIdx (cuda_double_state->block)
#define blockDim (cuda_double_state->threads)
#define gridDim (cuda_double_state->blocks)
#define __global__
#define __device__ inline
#define __shared__ static
#define __launch_bounds__(...)
#define __restrict__

struct float4 {
  float x, y, z, w;
};
struct uint2 {
  unsigned x, y;
};
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }

inline unsigned __float_as_uint(float x) {
  unsigned bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}
inline float __uint_as_float(unsigned bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }

inline void __syncthreads() { cuda_double_state->wait('b'); }

inline float __shfl_xor_sync(unsigned, float x, int lane) {
  auto* s = cuda_double_state;
  auto thread = threadIdx.x;
  auto turn = s->times[thread]++ % 2;
  s->shown[turn][thread] = x;
  s->wait('s');
  return s->shown[turn][s->wrong ? thread : thread ^ static_cast<unsigned>(lane)];
}

#endif
