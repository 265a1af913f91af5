// Work in units on libtorch's own threads: a pool beside it would fight with it for the cores.
#pragma once

#include <ATen/Context.h>
#include <ATen/TensorIterator.h>
#include <ATen/ops/arange.h>

#include <dlfcn.h>

// While it lives, MKL's products in this thread stay in it: inside of a unit they would each begin and end a team of one, with
// calls of the kernel.
class ProductsAlone {
  using Set = int (*)(int);

  // Null where libtorch's BLAS is another.
  static Set set() {
    static auto found = reinterpret_cast<Set>(dlsym(RTLD_DEFAULT, "MKL_Set_Num_Threads_Local"));
    return found;
  }

  int before_ = set() == nullptr ? 0 : set()(1);

 public:
  ProductsAlone() = default;
  ProductsAlone(const ProductsAlone&) = delete;
  ProductsAlone& operator=(const ProductsAlone&) = delete;
  ~ProductsAlone() {
    if (set() != nullptr) set()(before_);
  }
};

// Calls `work(i)` for every i below `units`, each in one thread.
template <class Work>
void for_units(int64_t units, const Work& work) {
  // libtorch exports no plain parallel loop, but that over the elements of a tensor.
  auto numbers = at::arange(units, at::kLong);
  auto iterator = at::TensorIterator::borrowing_nullary_op(numbers);
  iterator.for_each(
      [&](char** data, const int64_t* strides, int64_t count) {
        ProductsAlone alone;
        for (int64_t i = 0; i < count; ++i) work(*reinterpret_cast<int64_t*>(data[0] + i * strides[0]));
      },
      /*grain_size=*/1);
}
