// Sums over the GPUs of several processes by NCCL, on a stream of their own beside the backward pass.
#include "../ffi.h"
#include "../transport.h"
#include "stream.h"

#include <c10/cuda/CUDAGuard.h>
#include <torch/csrc/cuda/nccl.h>

namespace nccl = torch::cuda::nccl;

namespace {

struct Ring {
  nccl::ncclComm_t comm;
  c10::cuda::CUDAStream stream;
};

char* sum(void* state, const at::Tensor* tensor) {
  return guarded([&] {
    auto& ring = *static_cast<Ring*>(state);
    follow(ring.stream, c10::cuda::getCurrentCUDAStream(ring.stream.device_index()));
    std::vector<at::Tensor> list{*tensor};
    nccl::all_reduce(list, list, static_cast<int>(nccl::ncclRedOp::Sum), {ring.stream}, {ring.comm});
  });
}

char* wait(void* state) {
  return guarded([&] {
    auto& ring = *static_cast<Ring*>(state);
    follow(c10::cuda::getCurrentCUDAStream(ring.stream.device_index()), ring.stream);
  });
}

}  // namespace

extern "C" {

// The place of a GPU on its machine's bus, which tells it from all others.
char* cuda_gpu_place(int device, char* text, int size) {
  return guarded([&] {
    auto error = cudaDeviceGetPCIBusId(text, size, device);
    TORCH_CHECK(error == cudaSuccess, "asking for the place of GPU ", device, ": ", cudaGetErrorString(error));
  });
}

// The bytes that one process makes and all join with.
char* cuda_nccl_identity(unsigned char* bytes, size_t size) {
  return guarded([&] {
    nccl::ncclUniqueId id;
    TORCH_CHECK(size == sizeof(id.internal), "an identity of ", size, " bytes");
    nccl::get_unique_id(id);
    std::memcpy(bytes, id.internal, size);
  });
}

// Waits for the others. It is never left: a process ends with it, and NCCL's own end may wait for one that is gone.
char* cuda_nccl_join(const unsigned char* bytes, size_t size, int rank, int processes, int device, Transport* result) {
  return guarded([&] {
    nccl::ncclUniqueId id;
    TORCH_CHECK(size == sizeof(id.internal), "an identity of ", size, " bytes");
    std::memcpy(id.internal, bytes, size);
    auto index = static_cast<c10::DeviceIndex>(device);
    c10::cuda::CUDAGuard guard(index);
    // High priority: its few blocks go before the many of the backward pass.
    auto stream = c10::cuda::getStreamFromPool(true, index);
    auto ring = std::make_unique<Ring>(Ring{nccl::comm_init_rank(processes, id, rank), stream});
    *result = Transport{static_cast<int>(c10::DeviceType::CUDA), ring.release(), sum, wait};
  });
}
}
