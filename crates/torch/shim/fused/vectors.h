// Vectors of the instruction set that a file is compiled for; nothing else may call what is here.
#pragma once

#include "kernels.h"

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
typedef uint32_t Bits __attribute__((vector_size(LANES * sizeof(float))));
typedef uint16_t Halves __attribute__((vector_size(LANES * sizeof(uint16_t))));

inline Vec load(const float* from) {
  Vec v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

inline Vec load(const Bf16* from) {
  Halves halves;
  std::memcpy(&halves, from, sizeof halves);
  Bits bits = __builtin_convertvector(halves, Bits) << 16;
  Vec v;
  std::memcpy(&v, &bits, sizeof v);
  return v;
}

inline void store(float* to, Vec v) { std::memcpy(to, &v, sizeof v); }

// Rounded to the nearest, halves to even; NaN stays.
inline void store(Bf16* to, Vec v) {
  Bits bits;
  std::memcpy(&bits, &v, sizeof bits);
  Bits rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
  rounded = v != v ? Bits{} + 0x7FC0 : rounded;
  Halves halves = __builtin_convertvector(rounded, Halves);
  std::memcpy(to, &halves, sizeof halves);
}

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

}  // namespace
