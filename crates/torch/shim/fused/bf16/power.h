// Powers of two, as exact as what is rounded to bf16 needs them.
#pragma once

#include <immintrin.h>

namespace {

constexpr float LOG2_E = 1.44269504f;

// 2^x to 3e-6 of itself; 2^-126 for all that is less, infinity from 2^128 on; NaN stays.
inline __m512 power_of_two(__m512 x) {
  x = _mm512_min_ps(_mm512_set1_ps(129.0f), _mm512_max_ps(_mm512_set1_ps(-126.0f), x));
  auto whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  auto r = _mm512_sub_ps(x, whole);
  // The series of e^(r ln 2) up to the fifth power.
  auto p = _mm512_set1_ps(1.3333558e-3f);
  for (float next : {9.6181291e-3f, 5.5504109e-2f, 2.4022651e-1f, 6.9314718e-1f, 1.0f})
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(next));
  return _mm512_scalef_ps(p, whole);
}

}  // namespace
