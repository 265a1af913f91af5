// Every operator of the device is the CPU's over the same memory; while a stream is recorded it is kept to be repeated.
#include "device.h"
#include "recording.h"

#include <ATen/EmptyTensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/native/transformers/attention.h>
#include <ATen/native/transformers/sdp_utils_cpp.h>
#include <ATen/ops/copy.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/DeviceGuard.h>
#include <torch/library.h>

#include <set>
#include <unordered_map>

namespace cuda_double {
namespace {

using c10::IValue;

const c10::DispatchKeySet ON_DEVICE(c10::DispatchKey::CUDA);

bool on_device(const at::Tensor& tensor) { return tensor.defined() && tensor.is_cuda(); }

at::Tensor over(const c10::Storage& storage, c10::DispatchKeySet keys, const at::Tensor& like) {
  auto result = at::detail::make_tensor<c10::TensorImpl>(c10::Storage(storage), keys, like.dtype());
  auto* impl = result.unsafeGetTensorImpl();
  impl->set_storage_offset(like.storage_offset());
  impl->set_sizes_and_strides(like.sizes(), like.strides());
  return result;
}

// The same bytes as memory of the host's.
c10::Storage borrowed(const c10::Storage& storage) {
  auto* data = storage.mutable_data();
  return c10::Storage(c10::Storage::use_byte_size_t(), storage.nbytes(), c10::DataPtr(data, c10::kCPU),
                      c10::GetAllocator(c10::kCPU), /*resizable=*/true);
}

// What a value holds, each tensor replaced.
template <typename F>
IValue each_tensor(const IValue& value, const F& replace) {
  if (value.isTensor()) return replace(value.toTensor());
  if (value.isTensorList()) {
    c10::List<at::Tensor> list;
    for (const at::Tensor& tensor : value.toTensorList()) list.push_back(replace(tensor));
    return list;
  }
  if (value.isOptionalTensorList()) {
    c10::List<std::optional<at::Tensor>> list;
    for (const std::optional<at::Tensor>& tensor : value.toOptionalTensorList())
      list.push_back(tensor.has_value() ? std::optional(replace(*tensor)) : std::nullopt);
    return list;
  }
  return value;
}

// Operators that take tensors of the host beside those of the device.
const std::set<std::string> MIXED{"aten::copy_", "aten::index.Tensor", "aten::_index_put_impl_", "aten::index_put_"};
// Operators whose result the host waits for.
const std::set<std::string> WAITED{"aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::equal",
                                   "aten::_unique2", "aten::unique_dim", "aten::bincount"};

class Call {
 public:
  Call(const c10::OperatorHandle& op, torch::jit::Stack& stack)
      : op_(op), name_(c10::toString(op.operator_name())), stack_(stack), recording_(recording()) {}

  void run() {
    const auto& schema = op_.schema();
    auto count = schema.arguments().size();
    auto first = stack_.size() - count;
    std::vector<IValue> arguments(stack_.begin() + first, stack_.end());
    check(arguments);

    for (size_t i = 0; i < count; i++) {
      auto* alias = schema.arguments()[i].alias_info();
      if (alias != nullptr && alias->isWrite())
        each_tensor(arguments[i], [&](const at::Tensor& tensor) {
          if (on_device(tensor)) written_.insert(tensor.storage().unsafeGetStorageImpl());
          return tensor;
        });
    }
    torch::jit::Stack inner;
    for (auto& argument : arguments) {
      if (argument.isDevice()) {
        inner.emplace_back(argument.toDevice().is_cuda() ? IValue(c10::Device(c10::kCPU)) : argument);
      } else {
        inner.push_back(each_tensor(argument, [&](const at::Tensor& tensor) { return host(tensor); }));
      }
    }
    op_.callBoxed(&inner);

    for (size_t i = 0; i < count; i++)
      each_tensor(arguments[i], [&](const at::Tensor& tensor) {
        resized(tensor);
        return tensor;
      });
    // A recorded call has the memory itself, where this one may have a copy of what it writes; and results in the size that
    // they have by now.
    torch::jit::Stack repeated;
    if (recording_ != nullptr)
      for (size_t i = 0; i < count; i++)
        repeated.push_back(arguments[i].isDevice()
                               ? IValue(c10::Device(c10::kCPU))
                               : each_tensor(arguments[i], [&](const at::Tensor& tensor) { return lasting(tensor); }));

    std::vector<IValue> results;
    for (size_t i = 0; i < inner.size(); i++) results.push_back(result(i, inner[i], arguments));
    if (recording_ != nullptr && (!written_.empty() || !made_.empty()))
      recording_->calls.push_back({op_, std::move(repeated), std::move(needed_), std::move(made_), nullptr});
    stack_.resize(first);
    for (auto& value : results) stack_.push_back(std::move(value));
  }

 private:
  void check(const std::vector<IValue>& arguments) {
    if (WAITED.count(name_) != 0) {
      wait_for(current_stream());
      report().count("wait " + name_);
    }
    if (MIXED.count(name_) != 0) return;
    std::optional<c10::Device> device;
    for (auto& argument : arguments)
      each_tensor(argument, [&](const at::Tensor& tensor) {
        if (!tensor.defined() || tensor.dim() == 0) return tensor;
        TORCH_CHECK(!device.has_value() || *device == tensor.device(), name_,
                    ": expected all tensors to be on the same device, but found ", *device, " and ", tensor.device());
        device = tensor.device();
        return tensor;
      });
  }

  // The tensor for the CPU's operator.
  at::Tensor host(const at::Tensor& tensor) {
    if (!on_device(tensor)) return tensor;
    auto* storage = tensor.storage().unsafeGetStorageImpl();
    auto found = hosts_.find(storage);
    if (found == hosts_.end()) {
      // What is recorded is not done: memory from outside must stay as it is.
      auto apart = recording_ != nullptr && written_.count(storage) != 0 && !keeps(*recording_, storage);
      auto memory = borrowed(tensor.storage());
      if (apart) {
        auto* allocator = c10::GetAllocator(c10::kCPU);
        auto copy = allocator->clone(memory.data(), memory.nbytes());
        memory = c10::Storage(c10::Storage::use_byte_size_t(), memory.nbytes(), std::move(copy), allocator, true);
      }
      found = hosts_.emplace(storage, Host{tensor.storage(), memory}).first;
    }
    auto result = over(found->second.memory, c10::DispatchKeySet(c10::DispatchKey::CPU), tensor);
    aliases_.emplace(tensor.unsafeGetTensorImpl(), result);
    return result;
  }

  // The tensor for its repetition, which owns nothing.
  at::Tensor lasting(const at::Tensor& tensor) {
    if (!tensor.defined()) return tensor;
    // A graph has the number of the day; memory of the host's that is not pinned cannot be in it.
    if (!tensor.is_cuda() && tensor.dim() == 0) return tensor.clone();
    if (!tensor.is_cuda()) {
      TORCH_CHECK(is_pinned(tensor.const_data_ptr()), "CUDA error: operation not permitted when stream is capturing (",
                  name_, " with memory of the host that is not pinned)");
      return tensor;
    }
    auto* storage = tensor.storage().unsafeGetStorageImpl();
    if (!keeps(*recording_, storage))
      needed_.emplace_back(c10::intrusive_ptr<c10::StorageImpl>::reclaim_copy(storage));
    return over(borrowed(tensor.storage()), c10::DispatchKeySet(c10::DispatchKey::CPU), tensor);
  }

  // A result that was given as an argument may have got another size.
  void resized(const at::Tensor& tensor) {
    if (!on_device(tensor)) return;
    auto found = aliases_.find(tensor.unsafeGetTensorImpl());
    if (found == aliases_.end() || found->second.sizes() == tensor.sizes()) return;
    auto& alias = found->second;
    auto* storage = tensor.storage().unsafeGetStorageImpl();
    auto size = alias.storage().nbytes();
    if (alias.storage().data() != storage->data()) {
      auto block = memory()->allocate(size);
      std::memcpy(block.get(), alias.storage().data(), size);
      storage->set_data_ptr_noswap(std::move(block));
      storage->set_nbytes(size);
    }
    tensor.unsafeGetTensorImpl()->set_sizes_and_strides(alias.sizes(), alias.strides());
    TORCH_CHECK(recording_ == nullptr || keeps(*recording_, storage), name_, " gave memory another size while recorded");
  }

  IValue result(size_t index, const IValue& value, const std::vector<IValue>& arguments) {
    const auto& schema = op_.schema();
    auto* alias = index < schema.returns().size() ? schema.returns()[index].alias_info() : nullptr;
    if (alias != nullptr && alias->isWrite())
      for (size_t i = 0; i < arguments.size(); i++) {
        auto* other = schema.arguments()[i].alias_info();
        if (other != nullptr && *other == *alias) return arguments[i];
      }
    return each_tensor(value, [&](const at::Tensor& tensor) { return wrapped(tensor); });
  }

  // A tensor of the CPU's as one of the device's: over an argument's memory, or over new memory.
  at::Tensor wrapped(const at::Tensor& tensor) {
    if (!tensor.defined() || tensor.is_cuda()) return tensor;
    for (auto& [_, host] : hosts_)
      if (host.memory.unsafeGetStorageImpl() == tensor.storage().unsafeGetStorageImpl())
        return over(host.device, ON_DEVICE, tensor);
    auto size = tensor.storage().nbytes();
    auto block = memory()->allocate(size);
    std::memcpy(block.get(), tensor.storage().data(), size);
    c10::Storage storage(c10::Storage::use_byte_size_t(), size, std::move(block), memory(), true);
    auto result = over(storage, ON_DEVICE, tensor);
    if (recording_ != nullptr) {
      keep(*recording_, storage);
      made_.push_back(over(borrowed(storage), c10::DispatchKeySet(c10::DispatchKey::CPU), tensor));
    }
    return result;
  }

  struct Host {
    c10::Storage device, memory;
  };

  const c10::OperatorHandle& op_;
  std::string name_;
  torch::jit::Stack& stack_;
  Recording* recording_;
  std::set<c10::StorageImpl*> written_;
  std::unordered_map<c10::StorageImpl*, Host> hosts_;
  std::unordered_map<c10::TensorImpl*, at::Tensor> aliases_;
  std::vector<c10::weak_intrusive_ptr<c10::StorageImpl>> needed_;
  std::vector<at::Tensor> made_;
};

c10::Device device_of(const torch::jit::Stack& stack, size_t count) {
  for (size_t i = stack.size() - count; i < stack.size(); i++) {
    auto& value = stack[i];
    if (value.isTensor() && on_device(value.toTensor())) return value.toTensor().device();
    if (value.isTensorList())
      for (const at::Tensor& tensor : value.toTensorList())
        if (on_device(tensor)) return tensor.device();
    if (value.isDevice() && value.toDevice().has_index() && value.toDevice().is_cuda()) return value.toDevice();
  }
  return current_device();
}

void any(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  c10::DeviceGuard guard(device_of(*stack, op.schema().arguments().size()));
  // An operator that waits, which breaks a recording.
  static auto* graphs = std::getenv("CUDA_DOUBLE_GRAPHS");
  if (graphs != nullptr && std::string(graphs) == "refused" && recording() != nullptr) wait_for(current_stream());
  Call(op, *stack).run();
}

at::Tensor made(at::Tensor tensor) {
  if (auto* now = recording()) keep(*now, tensor.storage());
  return tensor;
}

at::Tensor empty(c10::IntArrayRef size, std::optional<at::ScalarType> kind, std::optional<at::Layout>,
                 std::optional<at::Device> device, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  c10::DeviceGuard guard(device.value_or(current_device()));
  return made(at::detail::empty_generic(size, memory(), ON_DEVICE, kind.value_or(at::kFloat), format));
}

at::Tensor empty_strided(c10::IntArrayRef size, c10::IntArrayRef stride, std::optional<at::ScalarType> kind,
                         std::optional<at::Layout>, std::optional<at::Device> device, std::optional<bool>) {
  c10::DeviceGuard guard(device.value_or(current_device()));
  return made(at::detail::empty_strided_generic(size, stride, memory(), ON_DEVICE, kind.value_or(at::kFloat)));
}

// Copies between the host and the device, as waited for as the real ones.
void copy(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  auto later = torch::jit::peek(*stack, 2, 3).toBool();
  auto to = torch::jit::peek(*stack, 0, 3).toTensor();
  auto from = torch::jit::peek(*stack, 1, 3).toTensor();
  c10::DeviceGuard guard(on_device(to) ? to.device() : from.device());
  if (to.is_cuda() == from.is_cuda()) return Call(op, *stack).run();
  auto pinned = is_pinned((to.is_cuda() ? from : to).const_data_ptr());
  auto* way = to.is_cuda() ? "upload" : "download";
  if (recording() == nullptr && !(later && pinned)) {
    wait_for(current_stream());
    report().count(std::string("wait ") + way);
  }
  report().count(way);
  if (recording() != nullptr || to.is_cuda() || !(later && pinned)) return Call(op, *stack).run();
  // It arrives later: into memory that is written then.
  auto arrived = at::zeros_like(to);
  torch::jit::Stack inner{arrived, from, false};
  Call(op, inner).run();
  deliver_later(to, arrived);
  torch::jit::drop(*stack, 3);
  torch::jit::push(*stack, to);
}

int64_t attention(const at::Tensor&, const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&, double, bool,
                  std::optional<double>, bool) {
  return static_cast<int64_t>(sdp::SDPBackend::math);
}

auto stubs = [] {
  at::native::_fused_sdp_choice_stub.set_cuda_dispatch_ptr(attention);
  return true;
}();

}  // namespace

TORCH_LIBRARY_IMPL(_, CUDA, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&any>());
}

TORCH_LIBRARY_IMPL(aten, CUDA, library) {
  library.impl("empty.memory_format", empty);
  library.impl("empty_strided", empty_strided);
  library.impl("copy_", torch::CppFunction::makeFromBoxedFunction<&copy>());
}

}  // namespace cuda_double
