// Several processes that train one network: joining, and the sum of gradients while the backward pass runs.
#include "ffi.h"
#include "transport.h"

#define USE_C10D_GLOO
#include <ATen/core/ivalue.h>
#include <ATen/ops/empty.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

namespace {

struct Group {
  c10::intrusive_ptr<c10d::Store> store;
  c10::intrusive_ptr<c10d::Backend> backend;
  // For tensors of one kind of device; all others go through the backend.
  std::optional<Transport> transport;

  bool carries(const at::Tensor& tensor) const {
    return transport && transport->device == static_cast<int>(tensor.device().type());
  }
};

// Nothing to wait for where a transport has it; `settle` does.
c10::intrusive_ptr<c10d::Work> sum(Group& group, const at::Tensor& tensor) {
  if (group.carries(tensor)) {
    check(group.transport->sum(group.transport->state, &tensor));
    return {};
  }
  std::vector<at::Tensor> list{tensor};
  return group.backend->allreduce(list);
}

void settle(Group& group, const c10::intrusive_ptr<c10d::Work>& work, const at::Tensor& tensor) {
  if (work) work->wait();
  if (group.carries(tensor)) check(group.transport->wait(group.transport->state));
}

// Where this process listens: the named interface, else the loopback when all are on one machine, else what this
// machine's name resolves to.
std::shared_ptr<gloo::transport::Device> device(const std::string& host, const std::string& interface) {
  if (!interface.empty()) return c10d::ProcessGroupGloo::createDeviceForInterface(interface);
  if (host == "localhost" || host == "127.0.0.1") return c10d::ProcessGroupGloo::createDeviceForHostname("127.0.0.1");
  return c10d::ProcessGroupGloo::createDefaultDevice();
}

// Sums buckets of gradients over the group. A bucket starts on its way when the last of its parameters has its gradient
// and all buckets before it have started: every process then starts them in one order, whatever order its gradients
// come in.
struct Reducer {
  Group* group;
  std::vector<at::Tensor> parameters;
  std::vector<at::Tensor> buckets;
  std::vector<size_t> sizes;
  std::vector<size_t> missing;
  std::vector<c10::intrusive_ptr<c10d::Work>> works;
  bool armed = false;
  std::string fault;

  void start_ready() {
    while (works.size() < buckets.size() && missing[works.size()] == 0)
      works.push_back(sum(*group, buckets[works.size()]));
  }

  void arrived(size_t bucket) noexcept {
    if (!armed || !fault.empty() || missing[bucket] == 0) return;
    // An exception here would unwind through the backward pass; it is told at the end instead.
    try {
      --missing[bucket];
      start_ready();
    } catch (const std::exception& e) {
      fault = e.what();
    }
  }
};

struct Arrival : torch::autograd::PostAccumulateGradHook {
  Arrival(Reducer* reducer, size_t bucket) : reducer(reducer), bucket(bucket) {}
  void operator()(const torch::autograd::Variable&) override { reducer->arrived(bucket); }
  Reducer* reducer;
  size_t bucket;
};

}  // namespace

extern "C" {

// `interface` names a network interface, or is empty. `timeout_ms` is for the meeting, `patience_ms` for what follows.
char* shim_group_join(const char* host, int port, bool host_store, const char* interface, int rank, int size,
                      int64_t timeout_ms, int64_t patience_ms, Group** result) {
  return guarded([&] {
    c10d::TCPStoreOptions options;
    options.port = static_cast<std::uint16_t>(port);
    options.isServer = host_store;
    options.waitWorkers = false;
    options.timeout = std::chrono::milliseconds(timeout_ms);
    auto store = c10::make_intrusive<c10d::TCPStore>(std::string(host), options);
    auto group = std::make_unique<Group>();
    group->store = c10::make_intrusive<c10d::PrefixStore>("train", store);
    auto gloo = c10d::ProcessGroupGloo::Options::create(options.timeout);
    gloo->devices.push_back(device(host, interface));
    // One worker: buckets finish in the order in which they start.
    gloo->threads = 1;
    group->backend = c10::make_intrusive<c10d::ProcessGroupGloo>(group->store, rank, size, gloo);
    group->backend->setTimeout(std::chrono::milliseconds(patience_ms));
    *result = group.release();
  });
}

// From here on `transport` has the tensors of its kind of device.
void shim_group_carry(Group* group, const Transport* transport) { group->transport = *transport; }

void shim_group_free(Group* group) {
  char* fault = guarded([&] { delete group; });
  std::free(fault);
}

char* shim_group_sum(Group* group, const at::Tensor* tensor) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    settle(*group, sum(*group, *tensor), *tensor);
  });
}

char* shim_group_broadcast(Group* group, const at::Tensor* tensor, int from) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    std::vector<at::Tensor> list{*tensor};
    c10d::BroadcastOptions options;
    options.rootRank = from;
    group->backend->broadcast(list, options)->wait();
  });
}

char* shim_reducer_new(Group* group, at::Tensor* const* parameters, const size_t* bucket_of, size_t count,
                       at::Tensor* const* buckets, size_t bucket_count, Reducer** result) {
  return guarded([&] {
    auto reducer = std::make_unique<Reducer>();
    reducer->group = group;
    reducer->parameters = tensors(parameters, count);
    reducer->buckets = tensors(buckets, bucket_count);
    reducer->sizes.assign(bucket_count, 0);
    for (size_t i = 0; i < count; ++i) {
      TORCH_CHECK(bucket_of[i] < bucket_count, "parameter ", i, " is in no bucket");
      ++reducer->sizes[bucket_of[i]];
      torch::autograd::impl::set_post_acc_grad_hooks(reducer->parameters[i],
                                                     std::make_unique<Arrival>(reducer.get(), bucket_of[i]));
    }
    *result = reducer.release();
  });
}

void shim_reducer_free(Reducer* reducer) {
  char* fault = guarded([&] {
    for (const auto& p : reducer->parameters) torch::autograd::impl::set_post_acc_grad_hooks(p, nullptr);
    for (const auto& work : reducer->works)
      if (work) work->wait();
    delete reducer;
  });
  std::free(fault);
}

char* shim_reducer_begin(Reducer* reducer) {
  return guarded([&] {
    reducer->missing = reducer->sizes;
    reducer->works.clear();
    reducer->fault.clear();
    reducer->armed = true;
  });
}

// Waits for every bucket, those without a gradient in this pass too, and gives how many had started before the wait.
char* shim_reducer_finish(Reducer* reducer, size_t* started) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    reducer->armed = false;
    TORCH_CHECK(reducer->fault.empty(), reducer->fault);
    *started = reducer->works.size();
    std::fill(reducer->missing.begin(), reducer->missing.end(), 0);
    reducer->start_ready();
    for (size_t i = 0; i < reducer->works.size(); ++i)
      settle(*reducer->group, reducer->works[i], reducer->buckets[i]);
    reducer->works.clear();
    for (auto& bucket : reducer->buckets) bucket.div_(reducer->group->backend->getSize());
  });
}
}
