// Products of tokens and weights in bf16, block by block. Compiled for processors that have AVX512_BF16.
#include "dots.h"
#include "kernels.h"

namespace {

// Pairs that are summed before the next block's turn: of a panel they fill the first cache.
constexpr int64_t DEPTH = 256;

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
  int64_t count = std::min(PANEL, b.columns - column);
  __mmask16 low = first(count), high = first(std::max<int64_t>(count - LANES, 0));
  bool biased = bias != nullptr;
  auto more = _mm512_maskz_loadu_ps(biased ? low : 0, bias + column);
  auto more_high = _mm512_maskz_loadu_ps(biased ? high : 0, bias + column + LANES);
  for (int64_t row = 0; row < rows; ++row) {
    auto sum = _mm512_add_ps(_mm512_load_ps(sums + row * PANEL), more);
    auto sum_high = _mm512_add_ps(_mm512_load_ps(sums + row * PANEL + LANES), more_high);
    if (f32) {
      auto to = static_cast<float*>(c) + row * stride + column;
      _mm512_mask_storeu_ps(to, low, sum);
      _mm512_mask_storeu_ps(to + LANES, high, sum_high);
    } else {
      auto to = static_cast<Bf16*>(c) + row * stride + column;
      auto there = static_cast<__mmask32>(high) << LANES | low;
      _mm512_mask_storeu_epi16(to, there, (__m512i)_mm512_cvtne2ps_pbh(sum_high, sum));
    }
  }
}

}  // namespace

extern const ProductKernels bf16_products = {pack, multiply<RowPairs>, multiply<Panels>};
