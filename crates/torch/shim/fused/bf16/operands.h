// Operands of products in bf16. They are read in pairs: two numbers that follow each other along the sum, 32 bits.
#pragma once

#include "../kernels.h"

#include <algorithm>

constexpr int64_t LANES = 16;
constexpr int64_t PANEL = 2 * LANES;

inline int64_t in_vectors(int64_t columns) { return (columns + LANES - 1) / LANES * LANES; }

// A first operand as it lies: the pairs of a row follow each other, rows are `step` pairs apart.
struct RowPairs {
  const uint32_t* pairs;
  int64_t step;

  // Rows of bf16 that are `stride` apart, an even number.
  static RowPairs of(const Bf16* rows, int64_t stride) { return {reinterpret_cast<const uint32_t*>(rows), stride / 2}; }

  const uint32_t* at(int64_t row) const { return pairs + row * step; }
  RowPairs from(int64_t pair) const { return {pairs + pair, step}; }
};

// Any operand, packed: panels of PANEL columns, or rows of a first operand, each [pairs, PANEL]. The last one has as many as are
// left, in whole vectors. Of its pairs a product may take some, from `first` on.
struct Panels {
  const uint32_t* panels;
  int64_t pairs, columns, first = 0;

  // 32 bits that it takes.
  static int64_t room(int64_t pairs, int64_t columns) { return pairs * in_vectors(columns); }

  int64_t columns_at(int64_t column) const { return std::min(PANEL, in_vectors(columns - column)); }
  const uint32_t* at(int64_t column) const { return panels + column * pairs + first * columns_at(column); }
  Panels from(int64_t pair) const { return {panels, pairs, columns, first + pair}; }
};
