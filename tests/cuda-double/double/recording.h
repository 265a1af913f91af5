// What a graph repeats.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>
#include <c10/core/StorageImpl.h>
#include <c10/util/intrusive_ptr.h>

#include <functional>
#include <optional>
#include <set>
#include <vector>

namespace cuda_double {

struct Recorded {
  // Nothing where `work` is.
  std::optional<c10::OperatorHandle> op;
  // Over the memory of the day, which it does not own.
  torch::jit::Stack arguments;
  // Memory from outside that must still be there.
  std::vector<c10::weak_intrusive_ptr<c10::StorageImpl>> needed;
  // Where new results go, in order.
  std::vector<at::Tensor> made;
  // A kernel's launch, which looks after its memory by itself.
  std::function<void()> work;
};

struct Recording {
  std::vector<Recorded> calls;
  std::vector<c10::Storage> memory;
  std::set<const c10::StorageImpl*> kept;
};

}  // namespace cuda_double
