// Work in units on libtorch's own threads: a pool beside it would fight with it for the cores.
#pragma once

#include <ATen/Context.h>
#include <ATen/TensorIterator.h>
#include <ATen/ops/arange.h>

// Calls `work(i)` for every i below `units`, each in one thread.
template <class Work>
void for_units(int64_t units, const Work& work) {
  // libtorch exports no plain parallel loop, but that over the elements of a tensor.
  auto numbers = at::arange(units, at::kLong);
  auto iterator = at::TensorIterator::borrowing_nullary_op(numbers);
  iterator.for_each(
      [&](char** data, const int64_t* strides, int64_t count) {
        for (int64_t i = 0; i < count; ++i) work(*reinterpret_cast<int64_t*>(data[0] + i * strides[0]));
      },
      /*grain_size=*/1);
}
