// Attention in bf16: products of pairs of bf16, everything else in f32, what it gives rounded once. Compiled for processors that
// have AVX512_BF16.
#include "dots.h"
#include "kernels.h"
#include "power.h"

#include <cmath>

namespace {

// Queries that are done one after the other before keys and values get their share: what is kept of them for that stays in a
// core's own cache.
int64_t queries_at_a_time(int64_t tokens) {
  constexpr int64_t SCORES = 1 << 16;
  return std::clamp<int64_t>(SCORES / tokens / LANES * LANES, LANES, tokens);
}

// Hands out a piece of memory in parts that begin at lines of the cache.
struct Memory {
  uintptr_t at;

  template <class T>
  T* take(int64_t count) {
    auto part = reinterpret_cast<T*>(at);
    at += bytes<T>(count);
    return part;
  }

  template <class T>
  static int64_t bytes(int64_t count) {
    return (count * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64;
  }
};

// What a head keeps while it is worked on.
struct Room {
  // Keys by columns and by rows, values by columns or rows, queries and the gradient of the result by rows.
  uint32_t *k_columns, *k_rows, *v, *q_rows, *dout_rows;
  // Of ROWS queries.
  float *scores, *change, *mixed, *dots;
  Bf16* weights;
  // Of the queries that are done before keys and values get their share.
  uint32_t *weights_kept, *change_kept;
  float *dk, *dv;
  uintptr_t end;

  Room(const HeadShape& h, void* memory) {
    Memory m{reinterpret_cast<uintptr_t>(memory)};
    int64_t wide = in_vectors(h.head), panels = h.tokens * wide / 2;
    int64_t kept = queries_at_a_time(h.tokens) / 2 * h.tokens;
    for (auto x : {&k_columns, &k_rows, &v, &q_rows, &dout_rows}) *x = m.take<uint32_t>(panels);
    for (auto x : {&scores, &change}) *x = m.take<float>(ROWS * h.tokens);
    mixed = m.take<float>(ROWS * wide);
    dots = m.take<float>(h.tokens);
    weights = m.take<Bf16>(ROWS * h.tokens);
    for (auto x : {&weights_kept, &change_kept}) *x = m.take<uint32_t>(kept);
    for (auto x : {&dk, &dv}) *x = m.take<float>(h.tokens * wide);
    end = m.at;
  }
};

int64_t head_memory(const HeadShape& h) { return static_cast<int64_t>(Room(h, nullptr).end); }

// Weights of one query: 2^(score less the greatest), and 1 over their sum.
float weigh(const HeadShape& h, const float* scores, Bf16* weights, float* log_sum) {
  auto most = _mm512_loadu_ps(scores);
  for (int64_t i = LANES; i < h.tokens; i += LANES) most = _mm512_max_ps(_mm512_loadu_ps(scores + i), most);
  float greatest = _mm512_reduce_max_ps(most);
  auto factor = _mm512_set1_ps(h.factor * LOG2_E), off = _mm512_set1_ps(-greatest * h.factor * LOG2_E);
  auto sum = _mm512_setzero_ps();
  for (int64_t i = 0; i < h.tokens; i += LANES) {
    auto weight = power_of_two(_mm512_fmadd_ps(_mm512_loadu_ps(scores + i), factor, off));
    sum = _mm512_add_ps(sum, weight);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(weights + i), (__m256i)_mm512_cvtneps_pbh(weight));
  }
  float whole = _mm512_reduce_add_ps(sum);
  *log_sum = greatest * h.factor + std::log(whole);
  return 1.0f / whole;
}

void attend(const HeadShape& h, const Bf16* q, const Bf16* k, const Bf16* v, Bf16* out, float* log_sums, void* memory) {
  Room room(h, memory);
  int64_t wide = in_vectors(h.head);
  auto keys = pack_columns(h.tokens, h.head, k, h.stride, room.k_columns);
  auto values = pack_rows(h.tokens, h.head, v, h.stride, room.v);
  for (int64_t row = 0; row < h.tokens; row += ROWS) {
    int64_t rows = std::min(ROWS, h.tokens - row);
    product(rows, h.head / 2, RowPairs::of(q + row * h.stride, h.stride), keys, room.scores, h.tokens);
    float shares[ROWS];
    for (int64_t i = 0; i < rows; ++i)
      shares[i] = weigh(h, room.scores + i * h.tokens, room.weights + i * h.tokens, log_sums + row + i);
    product(rows, h.tokens / 2, RowPairs::of(room.weights, h.tokens), values, room.mixed, wide);
    for (int64_t i = 0; i < rows; ++i)
      narrow(1, h.head, shares[i], room.mixed + i * wide, wide, out + (row + i) * h.width, h.width);
  }
}

// dots[i] = a_i . b_i
void row_dots(const HeadShape& h, const Bf16* a, const Bf16* b, float* dots) {
  auto wide = [](__m512i x) { return (__m512)_mm512_slli_epi32(x, 16); };
  for (int64_t row = 0; row < h.tokens; ++row, a += h.width, b += h.width) {
    auto sum = _mm512_setzero_ps();
    for (int64_t i = 0; i < h.head; i += LANES) {
      auto there = first(h.head - i);
      sum = _mm512_fmadd_ps(wide(sixteen(a + i, there)), wide(sixteen(b + i, there)), sum);
    }
    dots[row] = _mm512_reduce_add_ps(sum);
  }
}

// Sixteen columns of a pair in a panelled operand that is made here.
inline uint32_t* place(const Panels& x, int64_t pair, int64_t column) {
  int64_t begin = column / PANEL * PANEL;
  return const_cast<uint32_t*>(x.from(pair).at(begin)) + column - begin;
}

// From scores of some queries, and the gradient of their weights: the weights and the gradient of the scores, less the factor, in
// panels of keys whose pairs are queries; the latter by rows too.
void weigh_backward(const HeadShape& h, int64_t rows, const float* scores, const float* change, const float* log_sums,
                    const float* dots, Bf16* change_rows, const Panels& weights_kept, const Panels& change_kept) {
  auto factor = _mm512_set1_ps(h.factor * LOG2_E);
  for (int64_t row = 0; row < rows; row += 2) {
    __m512 off[2], dot[2];
    for (int i = 0; i < 2; ++i) {
      off[i] = _mm512_set1_ps(-log_sums[row + i] * LOG2_E);
      dot[i] = _mm512_set1_ps(dots[row + i]);
    }
    for (int64_t j = 0; j < h.tokens; j += LANES) {
      __m512 p[2], d[2];
#pragma GCC unroll 2
      for (int i = 0; i < 2; ++i) {
        int64_t at = (row + i) * h.tokens + j;
        p[i] = power_of_two(_mm512_fmadd_ps(_mm512_loadu_ps(scores + at), factor, off[i]));
        d[i] = _mm512_mul_ps(p[i], _mm512_sub_ps(_mm512_loadu_ps(change + at), dot[i]));
      }
      auto weights = (__m512i)_mm512_cvtne2ps_pbh(p[1], p[0]), changes = (__m512i)_mm512_cvtne2ps_pbh(d[1], d[0]);
      _mm512_storeu_si512(place(weights_kept, row / 2, j), in_pairs(weights));
      _mm512_storeu_si512(place(change_kept, row / 2, j), in_pairs(changes));
      auto of_rows = reinterpret_cast<__m256i*>(change_rows + row * h.tokens + j);
      _mm256_storeu_si256(of_rows, _mm512_castsi512_si256(changes));
      of_rows = reinterpret_cast<__m256i*>(change_rows + (row + 1) * h.tokens + j);
      _mm256_storeu_si256(of_rows, _mm512_extracti64x4_epi64(changes, 1));
    }
  }
}

void attend_backward(const HeadShape& h, const Bf16* q, const Bf16* k, const Bf16* v, const Bf16* out, const Bf16* dout,
                     const float* log_sums, Bf16* dq, Bf16* dk, Bf16* dv, void* memory) {
  Room room(h, memory);
  int64_t wide = in_vectors(h.head), block = queries_at_a_time(h.tokens);
  row_dots(h, dout, out, room.dots);
  auto keys = pack_columns(h.tokens, h.head, k, h.stride, room.k_columns);
  auto values = pack_columns(h.tokens, h.head, v, h.stride, room.v);
  auto key_rows = pack_rows(h.tokens, h.head, k, h.stride, room.k_rows);
  auto query_rows = pack_rows(h.tokens, h.head, q, h.stride, room.q_rows);
  auto dout_rows = pack_rows(h.tokens, h.head, dout, h.width, room.dout_rows);
  Panels weights{room.weights_kept, block / 2, h.tokens}, change{room.change_kept, block / 2, h.tokens};
  for (int64_t begin = 0; begin < h.tokens; begin += block) {
    int64_t queries = std::min(block, h.tokens - begin);
    for (int64_t row = begin; row < begin + queries; row += ROWS) {
      int64_t rows = std::min(ROWS, begin + queries - row);
      product(rows, h.head / 2, RowPairs::of(q + row * h.stride, h.stride), keys, room.scores, h.tokens);
      product(rows, h.head / 2, RowPairs::of(dout + row * h.width, h.width), values, room.change, h.tokens);
      weigh_backward(h, rows, room.scores, room.change, log_sums + row, room.dots + row, room.weights,
                     weights.from((row - begin) / 2), change.from((row - begin) / 2));
      product(rows, h.tokens / 2, RowPairs::of(room.weights, h.tokens), key_rows, room.mixed, wide);
      narrow(rows, h.head, h.factor, room.mixed, wide, dq + row * h.stride, h.stride);
    }
    product(h.tokens, queries / 2, weights, dout_rows.from(begin / 2), room.dv, wide, begin > 0);
    product(h.tokens, queries / 2, change, query_rows.from(begin / 2), room.dk, wide, begin > 0);
  }
  narrow(h.tokens, h.head, 1.0f, room.dv, wide, dv, h.stride);
  narrow(h.tokens, h.head, h.factor, room.dk, wide, dk, h.stride);
}

}  // namespace

extern const HeadKernels bf16_heads = {head_memory, attend, attend_backward};
