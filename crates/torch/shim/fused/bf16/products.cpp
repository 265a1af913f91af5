// Products of tokens and weights in bf16, block by block. Compiled for processors that have AVX512_BF16.
#include "dots.h"
#include "kernels.h"

namespace {

// Pairs that are summed before the next block's turn: with a panel they stay in the first cache.
constexpr int64_t DEPTH = 128;

void pack(const Source& x, int64_t column, const Panels& to) {
  auto place = const_cast<uint32_t*>(to.at(column));
  int64_t count = std::min(PANEL, to.columns - column);
  auto packed = [&](auto numbers) {
    if (x.along) return pack_columns(count, x.columns, numbers + column * x.stride, x.stride, place);
    return pack_rows(x.rows, count, numbers + column, x.stride, place);
  };
  if (x.f32)
    packed(static_cast<const float*>(x.numbers));
  else
    packed(static_cast<const Bf16*>(x.numbers));
}

template <class Left>
void multiply(int64_t rows, const Left& a, const Panels& b, int64_t column, const float* bias, void* c, bool f32,
              int64_t stride) {
  alignas(64) float sums[BLOCK * PANEL];
  for (int64_t pair = 0; pair < b.pairs; pair += DEPTH)
    product_of(rows, std::min(DEPTH, b.pairs - pair), a.from(pair), b.from(pair), column, sums, PANEL, pair > 0);
  for (int64_t i = column, end = std::min(b.columns, column + PANEL); i < end; i += LANES) {
    auto there = first(end - i);
    auto more = bias == nullptr ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(there, bias + i);
    for (int64_t row = 0; row < rows; ++row) {
      auto sum = _mm512_add_ps(_mm512_load_ps(sums + row * PANEL + i - column), more);
      int64_t at = row * stride + i;
      if (f32)
        _mm512_mask_storeu_ps(static_cast<float*>(c) + at, there, sum);
      else
        _mm256_mask_storeu_epi16(static_cast<Bf16*>(c) + at, there, (__m256i)_mm512_cvtneps_pbh(sum));
    }
  }
}

}  // namespace

extern const ProductKernels bf16_products = {pack, multiply<Rows>, multiply<Panels>};
