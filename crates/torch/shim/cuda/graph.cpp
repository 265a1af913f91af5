// Work of a GPU that is recorded once and then repeated without the host: a stream of its own, and graphs of its work.
#include "../ffi.h"
#include "stream.h"

#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>

using c10::cuda::CUDAStream;

namespace {

// The default stream cannot be captured.
struct Side {
  CUDAStream own;
  CUDAStream outer;
};

}  // namespace

extern "C" {

char* cuda_side_new(int device, Side** result) {
  return guarded([&] {
    auto index = static_cast<c10::DeviceIndex>(device);
    *result = new Side{c10::cuda::getStreamFromPool(false, index), c10::cuda::getCurrentCUDAStream(index)};
  });
}

void cuda_side_free(Side* side) { delete side; }

// Work goes to the side stream from here on; both ways it waits for what was given before, so that memory may pass from
// one to the other.
char* cuda_side_enter(Side* side) {
  return guarded([&] {
    side->outer = c10::cuda::getCurrentCUDAStream(side->own.device_index());
    follow(side->own, side->outer);
    c10::cuda::setCurrentCUDAStream(side->own);
  });
}

char* cuda_side_leave(Side* side) {
  return guarded([&] {
    c10::cuda::setCurrentCUDAStream(side->outer);
    follow(side->outer, side->own);
  });
}

// Records what the current stream, a side stream, is given from here on, in the memory of `pool_of` where that is not null.
char* cuda_graph_begin(at::cuda::CUDAGraph* pool_of, at::cuda::CUDAGraph** result) {
  return guarded([&] {
    // What earlier steps have left in the cache would lie beside the graph's own memory, unused.
    if (pool_of == nullptr) c10::cuda::CUDACachingAllocator::emptyCache();
    auto graph = std::make_unique<at::cuda::CUDAGraph>();
    auto pool = pool_of == nullptr ? c10::cuda::MempoolId_t{0, 0} : pool_of->pool();
    // Other threads go on pinning memory and decoding meanwhile.
    graph->capture_begin(pool, cudaStreamCaptureModeThreadLocal);
    *result = graph.release();
  });
}

char* cuda_graph_end(at::cuda::CUDAGraph* graph) {
  return guarded([&] { graph->capture_end(); });
}

// Ends a recording that has failed and forgets it.
void cuda_graph_abandon(at::cuda::CUDAGraph* graph) {
  std::free(guarded([&] { graph->capture_end(); }));
  // Where the end failed, the allocator has not heard of it.
  std::free(guarded([&] {
    c10::cuda::CUDACachingAllocator::endAllocateToPool(c10::cuda::current_device(), graph->pool());
  }));
  std::free(guarded([&] { delete graph; }));
}

char* cuda_graph_replay(at::cuda::CUDAGraph* graph) {
  return guarded([&] { graph->replay(); });
}

void cuda_graph_free(at::cuda::CUDAGraph* graph) {
  std::free(guarded([&] { delete graph; }));
}
}
