// Kernels: the threads of a block run in turn on the host, from one wait for each other to the next.
//
// They go from stack to stack, which a checked longjmp would refuse.
#undef _FORTIFY_SOURCE
#include "device.h"
#include "kernel.h"
#include "recording.h"

#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <sys/mman.h>

#include <csetjmp>
#include <cstring>
#include <mutex>
#include <vector>

#include <ucontext.h>

namespace cuda_double {
namespace {

constexpr unsigned LANES = 32, MOST = 1024;
constexpr size_t STACK = 1 << 16;

// A kernel of a loaded library.
struct Kernel {
  std::string name;
  Entry entry;
  State** state;
};

// Threads of the device, each with a stack of its own on the one thread of the host that runs them.
class Block {
 public:
  State state{};

  void run(const Kernel& kernel, const void* argument, Place block) {
    kernel_ = &kernel;
    argument_ = argument;
    state.block = block;
    state.wait = [](char kind) { one().wait(kind); };
    auto count = state.threads.x;
    std::memset(state.times, 0, sizeof state.times);
    for (auto& thread : waits_) thread = 0;
    for (unsigned thread = 0; thread < count; ++thread) resume(thread, true);
    // A kernel is right where all threads of a block wait for the same.
    while (waits_[0] != DONE) {
      for (unsigned thread = 1; thread < count; ++thread) same(thread);
      for (unsigned thread = 0; thread < count; ++thread) resume(thread, false);
    }
    for (unsigned thread = 1; thread < count; ++thread) same(thread);
  }

  static Block& one() {
    static auto* block = new Block;
    return *block;
  }

 private:
  static constexpr char DONE = 'd';

  Block() {
    stacks_ = static_cast<char*>(mmap(nullptr, MOST * STACK, PROT_READ | PROT_WRITE,
                                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    TORCH_CHECK(stacks_ != MAP_FAILED, "no memory for the stacks of a block");
  }

  void same(unsigned thread) const {
    TORCH_CHECK(waits_[thread] == waits_[0], kernel_->name, ": thread ", thread, " waits for another thing than thread 0");
  }

  void resume(unsigned thread, bool first) {
    now_ = thread;
    state.thread = {thread, 0, 0};
    if (_setjmp(back_) != 0) return;
    if (!first) _longjmp(places_[thread], 1);
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = stacks_ + thread * STACK;
    context.uc_stack.ss_size = STACK;
    context.uc_link = nullptr;
    makecontext(&context, begin, 0);
    setcontext(&context);
  }

  static void begin() {
    one().kernel_->entry.call(one().argument_);
    one().wait(DONE);
  }

  void wait(char kind) {
    waits_[now_] = kind;
    if (_setjmp(places_[now_]) == 0) _longjmp(back_, 1);
  }

  char* stacks_;
  const Kernel* kernel_ = nullptr;
  const void* argument_ = nullptr;
  unsigned now_ = 0;
  char waits_[MOST] = {};
  jmp_buf places_[MOST], back_;
};

void run(const Kernel& kernel, const std::vector<char>& argument, Place blocks, Place threads) {
  static std::mutex lock;
  std::lock_guard<std::mutex> guard(lock);
  auto& block = Block::one();
  *kernel.state = &block.state;
  block.state.blocks = blocks;
  block.state.threads = threads;
  auto* what = std::getenv("CUDA_DOUBLE_KERNELS");
  block.state.wrong = what != nullptr && std::string(what) == "wrong";
  for (unsigned x = 0; x < blocks.x; ++x) block.run(kernel, argument.data(), {x, 0, 0});
  report().count("launches");
}

// The blocks of memory that an argument points into.
std::vector<long> blocks_of(const std::vector<char>& argument) {
  std::vector<long> blocks;
  for (size_t at = 0; at + sizeof(void*) <= argument.size(); at += sizeof(void*)) {
    const void* pointer;
    std::memcpy(&pointer, argument.data() + at, sizeof pointer);
    if (auto number = block_of(pointer)) blocks.push_back(number);
  }
  return blocks;
}

cudaError_t launch(const Kernel* kernel, dim3 grid, dim3 block, void** arguments, cudaStream_t stream) {
  auto one_dimension = grid.y == 1 && grid.z == 1 && block.y == 1 && block.z == 1;
  if (!one_dimension || grid.x == 0 || block.x == 0 || block.x > MOST || block.x % LANES != 0)
    return cudaErrorInvalidConfiguration;
  if (stream != c10::cuda::getCurrentCUDAStream().stream()) return cudaErrorInvalidResourceHandle;
  std::vector<char> argument(kernel->entry.size);
  std::memcpy(argument.data(), arguments[0], argument.size());
  Place blocks{grid.x, 1, 1}, threads{block.x, 1, 1};
  auto* now = recording();
  if (now == nullptr) {
    run(*kernel, argument, blocks, threads);
    return cudaSuccess;
  }
  auto needed = blocks_of(argument);
  now->calls.push_back(Recorded{std::nullopt, {}, {}, {}, [=] {
    for (auto number : needed)
      TORCH_CHECK(block_is_there(number), "a graph needs memory that is gone, for ", kernel->name);
    run(*kernel, argument, blocks, threads);
  }});
  return cudaSuccess;
}

}  // namespace
}  // namespace cuda_double

using namespace cuda_double;

// What `driver.cpp` calls for the runtime.
extern "C" {

cudaError_t cuda_double_load(void** library, const void* code) {
  std::string path = static_cast<const char*>(code);
  *library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  std::remove(path.c_str());
  std::remove(path.substr(0, path.rfind('/')).c_str());
  return *library == nullptr ? cudaErrorInvalidKernelImage : cudaSuccess;
}

cudaError_t cuda_double_find(void** kernel, void* library, const char* name) {
  auto* entry = dlsym(library, (std::string("cuda_double_") + name).c_str());
  auto* state = dlsym(library, "cuda_double_state");
  if (entry == nullptr || state == nullptr) return cudaErrorSymbolNotFound;
  *kernel = new Kernel{name, *static_cast<Entry*>(entry), static_cast<State**>(state)};
  return cudaSuccess;
}

cudaError_t cuda_double_launch(const void* kernel, dim3 grid, dim3 block, void** arguments, cudaStream_t stream) {
  return launch(static_cast<const Kernel*>(kernel), grid, block, arguments, stream);
}
}
