// Sums over processes of one machine through a file that they share.
#include "device.h"

#include <torch/csrc/cuda/nccl.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <random>
#include <sys/mman.h>
#include <thread>
#include <unistd.h>

namespace torch::cuda::nccl {
namespace {

constexpr size_t MOST = size_t{1} << 28;
constexpr size_t RANKS = 8;

struct Shared {
  std::atomic<int> waiting;
  std::atomic<int> round;
  alignas(64) unsigned char data[RANKS][MOST];
};

struct Communicator {
  Shared* shared;
  int rank, ranks;

  void meet() const {
    auto now = shared->round.load();
    if (shared->waiting.fetch_add(1) + 1 == ranks) {
      shared->waiting = 0;
      ++shared->round;
      return;
    }
    auto until = std::chrono::steady_clock::now() + std::chrono::minutes(2);
    while (shared->round.load() == now) {
      TORCH_CHECK(std::chrono::steady_clock::now() < until, "NCCL Error: the others did not come");
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  }
};

}  // namespace

void get_unique_id(ncclUniqueId& id) {
  std::random_device random;
  std::memset(id.internal, 0, sizeof(id.internal));
  std::snprintf(id.internal, sizeof(id.internal), "/dev/shm/cuda-double-%08x%08x", random(), random());
}

ncclComm_t comm_init_rank(int nranks, const ncclUniqueId& comm_id, int rank) {
  TORCH_CHECK(nranks <= static_cast<int>(RANKS), "the double's NCCL joins ", RANKS, " processes");
  auto file = open(comm_id.internal, O_RDWR | O_CREAT, 0600);
  TORCH_CHECK(file >= 0 && ftruncate(file, sizeof(Shared)) == 0, "NCCL Error: no ", comm_id.internal);
  auto* shared = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  TORCH_CHECK(shared != MAP_FAILED, "NCCL Error: no memory");
  auto* joined = new Communicator{static_cast<Shared*>(shared), rank, nranks};
  joined->meet();
  unlink(comm_id.internal);
  return joined;
}

void all_reduce(const std::vector<at::Tensor>& inputs, std::vector<at::Tensor>& outputs, int32_t op,
                const stream_list& streams, const comm_list& user_comms) {
  TORCH_CHECK(op == static_cast<int>(ncclRedOp::Sum) && inputs.size() == 1 && user_comms.size() == 1, "a sum of one tensor");
  auto& joined = *static_cast<Communicator*>(user_comms[0]);
  auto& tensor = inputs[0];
  TORCH_CHECK(tensor.is_cuda() && tensor.is_contiguous() && tensor.scalar_type() == at::kFloat && tensor.nbytes() <= MOST,
              "a contiguous tensor of f32 on the device");
  TORCH_CHECK(streams.size() == 1 && streams[0].has_value() && streams[0]->id() != 0, "a stream of its own");
  std::memcpy(joined.shared->data[joined.rank], tensor.const_data_ptr(), tensor.nbytes());
  joined.meet();
  auto* sums = outputs[0].mutable_data_ptr<float>();
  for (int64_t i = 0; i < tensor.numel(); i++) {
    float sum = 0;
    for (int rank = 0; rank < joined.ranks; rank++) sum += reinterpret_cast<float*>(joined.shared->data[rank])[i];
    sums[i] = sum;
  }
  joined.meet();
  cuda_double::report().count("sums");
}

}  // namespace torch::cuda::nccl
