// What a processor does that multiplies bf16 by itself.
#pragma once

#include "operands.h"

// Attention of one head of one image. Its queries, keys and values are rows of `head` numbers, `stride` apart; what it gives and
// takes back are rows `width` apart. `tokens` is a multiple of WIDTH_UNIT, all others are even.
struct HeadShape {
  int64_t tokens, head, stride, width;
  // Of the scores.
  float factor;
};

struct HeadKernels {
  // Bytes that a head needs for itself.
  int64_t (*head_memory)(const HeadShape& h);
  // Its result, and ln of the sum of exp of each row's scores.
  void (*attend)(const HeadShape& h, const Bf16* q, const Bf16* k, const Bf16* v, Bf16* out, float* log_sums,
                 void* memory);
  // The gradients of q, k and v, which lie as those do.
  void (*attend_backward)(const HeadShape& h, const Bf16* q, const Bf16* k, const Bf16* v, const Bf16* out,
                          const Bf16* dout, const float* log_sums, Bf16* dq, Bf16* dk, Bf16* dv, void* memory);
};

// Rows that are multiplied together, whole panels.
constexpr int64_t BLOCK = 3 * PANEL;

// A matrix that is packed: of bf16, or of f32 to be rounded. A product with it sums along its rows, or over them; that length is
// even.
struct Source {
  const void* numbers;
  bool f32;
  int64_t rows, columns, stride;
  bool along;
};

struct ProductKernels {
  // One panel, which begins at a column.
  void (*pack)(const Source& x, int64_t column, const Panels& to);
  // At most BLOCK rows of c = a b + bias, in the columns of one panel, in f32 or bf16. `bias` may be null. Both it and c are
  // those of the first column of all.
  void (*multiply)(int64_t rows, const RowPairs& a, const Panels& b, int64_t column, const float* bias, void* c, bool f32,
                   int64_t stride);
  void (*multiply_panels)(int64_t rows, const Panels& a, const Panels& b, int64_t column, const float* bias, void* c,
                          bool f32, int64_t stride);
};

// Those of TokenKernels.
struct GeluKernels {
  decltype(TokenKernels<Bf16>::gelu) gelu;
  decltype(TokenKernels<Bf16>::gelu_backward) gelu_backward;
};

struct Bf16Kernels {
  const HeadKernels& heads;
  const ProductKernels& products;
};

// Where the compiler has the instruction.
#if defined(BF16_KERNELS)
extern const GeluKernels bf16_gelu;
extern const HeadKernels bf16_heads;
extern const ProductKernels bf16_products;
#endif
