// Products of matrices in bf16, summed in f32, by the instruction that multiplies pairs of bf16 (AVX512_BF16).
#pragma once

#include "operands.h"

#include <immintrin.h>

// Of each file that includes it alone: nothing else may call what is compiled for these processors.
namespace {

// Rows of the first operand that are multiplied at once: with a panel 24 sums, which the registers hold.
constexpr int64_t ROWS = 12;

inline __m512bh pairs_in(__m512i x) { return (__m512bh)x; }

template <int R, int V, bool ROWS_FOLLOW>
inline void tile(int64_t pairs, const uint32_t* a, int64_t step, const uint32_t* b, float* c, int64_t stride, bool add) {
  // Addresses of a group of rows are one register and multiples of the step, which the instruction adds.
  constexpr int GROUP = ROWS_FOLLOW ? R : 3, GROUPS = (R + GROUP - 1) / GROUP;
  const uint32_t* groups[GROUPS];
  for (int g = 0; g < GROUPS; ++g) groups[g] = a + g * GROUP * step;
  __m512 sums[R][V];
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) sums[r][v] = add ? _mm512_loadu_ps(c + r * stride + v * LANES) : _mm512_setzero_ps();
  for (int64_t pair = 0; pair < pairs; ++pair, b += V * LANES) {
    __m512bh columns[V];
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) columns[v] = pairs_in(_mm512_loadu_si512(b + v * LANES));
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
      const uint32_t* from = ROWS_FOLLOW ? groups[0] + r : groups[r / GROUP] + r % GROUP * step;
      __m512bh row = pairs_in(_mm512_set1_epi32(static_cast<int>(*from)));
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) sums[r][v] = _mm512_dpbf16_ps(sums[r][v], row, columns[v]);
    }
#pragma GCC unroll 4
    for (int g = 0; g < GROUPS; ++g) groups[g] += ROWS_FOLLOW ? step : 1;
  }
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) _mm512_storeu_ps(c + r * stride + v * LANES, sums[r][v]);
}

template <bool ROWS_FOLLOW, int R>
void tile_of(int64_t pairs, const uint32_t* a, int64_t step, const Panels& b, int64_t column, float* c, int64_t stride,
             bool add) {
  if (b.columns_at(column) == PANEL) return tile<R, 2, ROWS_FOLLOW>(pairs, a, step, b.at(column), c, stride, add);
  tile<R, 1, ROWS_FOLLOW>(pairs, a, step, b.at(column), c, stride, add);
}

using Tile = void (*)(int64_t, const uint32_t*, int64_t, const Panels&, int64_t, float*, int64_t, bool);

// Those of 1 to ROWS rows.
template <bool F>
constexpr Tile TILES[ROWS] = {tile_of<F, 1>, tile_of<F, 2>, tile_of<F, 3>, tile_of<F, 4>,  tile_of<F, 5>,  tile_of<F, 6>,
                              tile_of<F, 7>, tile_of<F, 8>, tile_of<F, 9>, tile_of<F, 10>, tile_of<F, 11>, tile_of<F, 12>};

// c = a b, or added to c, for the columns of one panel.
inline void product_of(int64_t rows, int64_t pairs, const RowPairs& a, const Panels& b, int64_t column, float* c,
                       int64_t stride, bool add) {
  for (int64_t row = 0; row < rows; row += ROWS)
    TILES<false>[std::min(ROWS, rows - row) - 1](pairs, a.at(row), a.step, b, column, c + row * stride, stride, add);
}

// The same where the first operand lies in panels too. Rows of a product are those from a panel's beginning on.
inline void product_of(int64_t rows, int64_t pairs, const Panels& a, const Panels& b, int64_t column, float* c,
                       int64_t stride, bool add) {
  for (int64_t panel = 0; panel < rows; panel += PANEL)
    for (int64_t row = panel, end = std::min(rows, panel + PANEL); row < end; row += ROWS)
      TILES<true>[std::min(ROWS, end - row) - 1](pairs, a.at(panel) + row - panel, a.columns_at(panel), b, column,
                                                 c + row * stride, stride, add);
}

// For all columns.
template <class Left>
inline void product(int64_t rows, int64_t pairs, const Left& a, const Panels& b, float* c, int64_t stride,
                    bool add = false) {
  for (int64_t column = 0; column < b.columns; column += PANEL)
    product_of(rows, pairs, a, b, column, c + column, stride, add);
}

// Sixteen numbers of a row, in the low halves of 32 bits; those that are masked out are 0.
inline __m512i sixteen(const Bf16* from, __mmask16 there) {
  return _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(there, from));
}

inline __mmask16 first(int64_t count) { return count >= LANES ? 0xFFFF : static_cast<__mmask16>((1 << count) - 1); }

// Pairs of the numbers of two rows, both of which are 16 numbers.
inline __m512i in_pairs(__m512i both) {
  const auto order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5,
                                      20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return _mm512_permutexvar_epi16(order, both);
}
inline __m512i in_pairs(const Bf16* a, const Bf16* b, __mmask16 there) {
  auto low = _mm256_maskz_loadu_epi16(there, a), high = _mm256_maskz_loadu_epi16(there, b);
  return in_pairs(_mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1));
}
// Rounded to the nearest, halves to even.
inline __m512i in_pairs(const float* a, const float* b, __mmask16 there) {
  auto low = _mm512_maskz_loadu_ps(there, a), high = _mm512_maskz_loadu_ps(there, b);
  return in_pairs((__m512i)_mm512_cvtne2ps_pbh(high, low));
}

// What follows itself along rows: a product with it sums over its rows. They are even in number.
template <class P>
inline Panels pack_rows(int64_t rows, int64_t columns, const P* from, int64_t stride, uint32_t* to) {
  Panels packed{to, rows / 2, columns};
  for (int64_t column = 0; column < columns; column += PANEL) {
    int64_t wide = packed.columns_at(column);
    __mmask16 low = first(columns - column), high = first(std::max<int64_t>(columns - column - LANES, 0));
    auto row = from + column;
    for (int64_t pair = 0; pair < packed.pairs; ++pair, row += 2 * stride, to += wide) {
      _mm512_storeu_si512(to, in_pairs(row, row + stride, low));
      if (wide > LANES) _mm512_storeu_si512(to + LANES, in_pairs(row + LANES, row + stride + LANES, high));
    }
  }
  return packed;
}

// Rows and columns of 16 by 16 times 32 bits, exchanged.
inline void transpose(__m512i* x) {
  __m512i y[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    y[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
    y[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    x[i] = _mm512_unpacklo_epi64(y[i], y[i + 2]);
    x[i + 1] = _mm512_unpackhi_epi64(y[i], y[i + 2]);
    x[i + 2] = _mm512_unpacklo_epi64(y[i + 1], y[i + 3]);
    x[i + 3] = _mm512_unpackhi_epi64(y[i + 1], y[i + 3]);
  }
  // x[4 r + c] has column 4 q + c of rows 4 r to 4 r + 3 in its quarter q.
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    y[i] = _mm512_shuffle_i32x4(x[i], x[i + 4], 0x88);
    y[i + 4] = _mm512_shuffle_i32x4(x[i], x[i + 4], 0xDD);
    y[i + 8] = _mm512_shuffle_i32x4(x[i + 8], x[i + 12], 0x88);
    y[i + 12] = _mm512_shuffle_i32x4(x[i + 8], x[i + 12], 0xDD);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    x[i] = _mm512_shuffle_i32x4(y[i], y[i + 8], 0x88);
    x[i + 8] = _mm512_shuffle_i32x4(y[i], y[i + 8], 0xDD);
    x[i + 4] = _mm512_shuffle_i32x4(y[i + 4], y[i + 12], 0x88);
    x[i + 12] = _mm512_shuffle_i32x4(y[i + 4], y[i + 12], 0xDD);
  }
}

// Sixteen pairs of a row; of `count` numbers, an even number, what there is.
inline __m512i sixteen_pairs(const Bf16* from, int64_t count) {
  return _mm512_maskz_loadu_epi32(first(count / 2), from);
}
inline __m512i sixteen_pairs(const float* from, int64_t count) {
  auto low = _mm512_maskz_loadu_ps(first(count), from);
  auto high = _mm512_maskz_loadu_ps(first(std::max<int64_t>(count - LANES, 0)), from + LANES);
  return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

// Its rows become columns: a product with it sums along its rows, which are of an even length.
template <class P>
inline Panels pack_columns(int64_t rows, int64_t length, const P* from, int64_t stride, uint32_t* to) {
  Panels packed{to, length / 2, rows};
  for (int64_t column = 0; column < rows; column += LANES) {
    int64_t wide = packed.columns_at(column / PANEL * PANEL);
    auto panel = to + column / PANEL * PANEL * packed.pairs + column % PANEL;
    for (int64_t pair = 0; pair < packed.pairs; pair += LANES) {
      __m512i block[LANES];
#pragma GCC unroll 16
      for (int64_t i = 0; i < LANES; ++i)
        block[i] = column + i < rows ? sixteen_pairs(from + (column + i) * stride + 2 * pair, length - 2 * pair)
                                     : _mm512_setzero_si512();
      transpose(block);
      int64_t count = std::min(LANES, packed.pairs - pair);
      if (count == LANES) {
#pragma GCC unroll 16
        for (int64_t i = 0; i < LANES; ++i) _mm512_storeu_si512(panel + (pair + i) * wide, block[i]);
        continue;
      }
      for (int64_t i = 0; i < count; ++i) _mm512_storeu_si512(panel + (pair + i) * wide, block[i]);
    }
  }
  return packed;
}

// Rows of f32, `from_stride` apart, times a factor, to bf16.
inline void narrow(int64_t rows, int64_t width, float factor, const float* from, int64_t from_stride, Bf16* to,
                   int64_t stride) {
  auto factors = _mm512_set1_ps(factor);
  for (int64_t row = 0; row < rows; ++row, from += from_stride, to += stride)
    for (int64_t i = 0; i < width; i += LANES) {
      auto there = first(width - i);
      auto x = _mm512_mul_ps(_mm512_maskz_loadu_ps(there, from + i), factors);
      _mm256_mask_storeu_epi16(to + i, there, (__m256i)_mm512_cvtneps_pbh(x));
    }
}

}  // namespace
