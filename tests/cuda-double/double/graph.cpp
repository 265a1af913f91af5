// Graphs: calls over memory that stays in its place.
#include "device.h"
#include "recording.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/cuda/CUDAGeneratorImpl.h>
#include <ATen/cuda/CUDAGraph.h>
#include <ATen/ops/copy.h>

#include <cstring>
#include <unordered_map>

namespace cuda_double {

void keep(Recording& recording, const c10::Storage& storage) {
  recording.memory.push_back(storage);
  recording.kept.insert(storage.unsafeGetStorageImpl());
}

bool keeps(const Recording& recording, const c10::StorageImpl* storage) { return recording.kept.count(storage) != 0; }

namespace {

std::unordered_map<const at::cuda::CUDAGraph*, std::unique_ptr<Recording>> recordings;

Recording& of(const at::cuda::CUDAGraph* graph) {
  auto found = recordings.find(graph);
  TORCH_CHECK(found != recordings.end() && found->second != nullptr, "a graph that was not recorded");
  return *found->second;
}

}  // namespace
}  // namespace cuda_double

namespace at::cuda {

using namespace cuda_double;

CUDAGraph::CUDAGraph(bool keep_graph)
    : capture_stream_(c10::cuda::getCurrentCUDAStream()), keep_graph_(keep_graph) {}

CUDAGraph::~CUDAGraph() { recordings.erase(this); }

void CUDAGraph::capture_begin(MempoolId_t pool, cudaStreamCaptureMode) {
  static CaptureId_t last = 0;
  TORCH_CHECK(recordings.count(this) == 0, "a graph is recorded once");
  auto stream = c10::cuda::getCurrentCUDAStream();
  TORCH_CHECK(stream.id() != 0, "CUDA graphs must be captured on a non-default stream");
  mempool_id_ = pool.first == 0 && pool.second == 0 ? MempoolId_t{++last, 0} : pool;
  capture_stream_ = stream;
  auto recording = std::make_unique<Recording>();
  set_recording(recording.get(), stream.unwrap());
  recordings[this] = std::move(recording);
}

void CUDAGraph::capture_end() {
  TORCH_CHECK(c10::cuda::getCurrentCUDAStream() == capture_stream_, "capture must end on the same stream it began on");
  set_recording(nullptr, capture_stream_.unwrap());
  auto& recording = of(this);
  // Nothing was done, so nothing is in the memory; indices stay ones, for calls of the next graph that are tried on them.
  for (auto& call : recording.calls)
    for (auto& made : call.made)
      std::memset(made.storage().mutable_data(), made.is_floating_point() ? 0xff : 0, made.storage().nbytes());
  capture_ended_ = true;
  report().count("graphs");
}

void CUDAGraph::replay() {
  TORCH_CHECK(capture_ended_, "a graph is replayed after its end");
  AutoDispatchBelowADInplaceOrView guard;
  report().count("replays");
  for (auto& call : of(this).calls) {
    if (call.work) {
      call.work();
      continue;
    }
    for (auto& memory : call.needed)
      TORCH_CHECK(!memory.expired(), "a graph needs memory that is gone, for ", call.op->operator_name());
    auto stack = call.arguments;
    call.op->callBoxed(&stack);
    size_t next = 0;
    auto store = [&](const at::Tensor& tensor) {
      if (next < call.made.size()) call.made[next++].copy_(tensor);
    };
    if (call.made.empty()) continue;
    for (auto& value : stack) {
      if (value.isTensor() && value.toTensor().defined()) store(value.toTensor());
      if (value.isTensorList())
        for (const at::Tensor& tensor : value.toTensorList()) store(tensor);
    }
  }
}

MempoolId_t CUDAGraph::pool() { return mempool_id_; }

}  // namespace at::cuda
