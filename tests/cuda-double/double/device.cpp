// Devices, streams, events and memory.
#include "device.h"

#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/cuda/CUDAFunctions.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fstream>
#include <map>
#include <set>
#include <unordered_map>

using c10::Device;
using c10::DeviceIndex;
using c10::Stream;

namespace cuda_double {

void Report::count(const std::string& what, long by) {
  std::lock_guard<std::mutex> guard(lock);
  counts[what] += by;
}

Report& report() {
  static auto* one = [] {
    std::atexit([] {
      auto* path = std::getenv("CUDA_DOUBLE_REPORT");
      if (path == nullptr) return;
      std::ofstream file(path);
      for (auto& [what, number] : report().counts) file << what << '\t' << number << '\n';
    });
    return new Report;
  }();
  return *one;
}

namespace {

DeviceIndex count() {
  static auto number = [] {
    auto* text = std::getenv("CUDA_DOUBLE_GPUS");
    return static_cast<DeviceIndex>(text == nullptr ? 1 : std::atoi(text));
  }();
  return number;
}

constexpr int MOST = 16;
thread_local DeviceIndex device_now = 0;
thread_local c10::StreamId streams_now[MOST] = {};

Device cuda(DeviceIndex index) {
  index = index < 0 ? device_now : index;
  TORCH_CHECK(index < count(), "CUDA error: invalid device ordinal");
  return Device(c10::kCUDA, index);
}

Stream stream_of(Device device) {
  device = cuda(device.index());
  return Stream(Stream::UNSAFE, device, streams_now[device.index()]);
}

Stream exchange(Stream stream) {
  auto before = stream_of(stream.device());
  streams_now[stream.device_index()] = stream.id();
  return before;
}

Stream new_stream(Device device) {
  static std::atomic<c10::StreamId> last{0};
  return Stream(Stream::UNSAFE, cuda(device.index()), ++last);
}

// Copies on their way to the host, by stream and in order.
struct Delivery {
  at::Tensor to, from;
};
std::recursive_mutex deliveries_lock;
std::map<std::pair<DeviceIndex, c10::StreamId>, std::deque<Delivery>> deliveries;
std::map<std::pair<DeviceIndex, c10::StreamId>, long> delivered;

std::pair<DeviceIndex, c10::StreamId> key(const Stream& stream) { return {stream.device_index(), stream.id()}; }

// All of a stream's, up to the one of this number.
void deliver(const Stream& stream, long until) {
  std::lock_guard<std::recursive_mutex> guard(deliveries_lock);
  auto& waiting = deliveries[key(stream)];
  while (!waiting.empty() && delivered[key(stream)] < until) {
    auto& [to, from] = waiting.front();
    std::memcpy(to.mutable_data_ptr(), from.const_data_ptr(), from.nbytes());
    waiting.pop_front();
    ++delivered[key(stream)];
  }
}

struct Event {
  Stream stream;
  long until;
};

// What is recorded, and on which stream; one at a time suffices.
std::recursive_mutex recording_lock;
Recording* recorded_now = nullptr;
Stream recorded_stream(Stream::UNSAFE, Device(c10::kCUDA, 0), -1);

void check_waiting_is_allowed(const char* what) {
  std::lock_guard<std::recursive_mutex> guard(recording_lock);
  TORCH_CHECK(recorded_now == nullptr || stream_of(recorded_stream.device()) != recorded_stream,
              "CUDA error: operation not permitted when stream is capturing (", what, ")");
}

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return c10::kCUDA; }
  Device exchangeDevice(Device device) const override {
    auto before = getDevice();
    setDevice(device);
    return before;
  }
  Device getDevice() const override { return current_device(); }
  void setDevice(Device device) const override { device_now = cuda(device.index()).index(); }
  void uncheckedSetDevice(Device device) const noexcept override { device_now = device.index(); }
  Stream getStream(Device device) const override { return stream_of(device); }
  Stream getDefaultStream(Device device) const override { return Stream(Stream::DEFAULT, cuda(device.index())); }
  Stream getStreamFromGlobalPool(Device device, bool) const override { return new_stream(device); }
  Stream getNewStream(Device device, int) const override { return new_stream(device); }
  Stream exchangeStream(Stream stream) const override { return exchange(stream); }
  DeviceIndex deviceCount() const noexcept override { return count(); }

  void record(void** event, const Stream& stream, DeviceIndex, c10::EventFlag) const override {
    std::lock_guard<std::recursive_mutex> guard(deliveries_lock);
    auto until = delivered[key(stream)] + static_cast<long>(deliveries[key(stream)].size());
    if (*event == nullptr) {
      *event = new Event{stream, until};
    } else {
      *static_cast<Event*>(*event) = Event{stream, until};
    }
  }
  // Work is done when it is given, so what is given later comes after it anyway.
  void block(void*, const Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void* event, DeviceIndex) const noexcept override { delete static_cast<Event*>(event); }
  void synchronizeEvent(void* event) const override {
    check_waiting_is_allowed("waiting for an event");
    auto& [stream, until] = *static_cast<Event*>(event);
    report().count("wait event");
    deliver(stream, until);
  }
  bool queryStream(const Stream&) const override { return true; }
  void synchronizeStream(const Stream& stream) const override { wait_for(stream); }
  void synchronizeDevice(DeviceIndex) const override {
    check_waiting_is_allowed("waiting for the device");
    report().count("wait device");
    std::lock_guard<std::recursive_mutex> guard(deliveries_lock);
    for (auto& [where, waiting] : deliveries)
      deliver(Stream(Stream::UNSAFE, cuda(where.first), where.second), delivered[where] + static_cast<long>(waiting.size()));
  }
};

C10_REGISTER_GUARD_IMPL(CUDA, Guard)

// Blocks and their sizes, of one kind of memory.
struct Blocks {
  std::mutex lock;
  std::unordered_map<void*, size_t> sizes;
  // By where they begin.
  std::map<const char*, long> numbers;
  std::set<long> living;
  long last = 0;

  void* take(size_t size) {
    if (size == 0) return nullptr;
    void* block = nullptr;
    TORCH_CHECK(posix_memalign(&block, 64, size) == 0, "CUDA out of memory");
    std::memset(block, 0xff, size);
    std::lock_guard<std::mutex> guard(lock);
    sizes[block] = size;
    numbers[static_cast<const char*>(block)] = ++last;
    living.insert(last);
    return block;
  }
  size_t give(void* block) {
    std::lock_guard<std::mutex> guard(lock);
    auto found = sizes.find(block);
    auto size = found->second;
    sizes.erase(found);
    auto number = numbers.find(static_cast<const char*>(block));
    living.erase(number->second);
    numbers.erase(number);
    std::free(block);
    return size;
  }
};

Blocks& pinned() {
  static auto* blocks = new Blocks;
  return *blocks;
}

void free_pinned(void* block) {
  if (block != nullptr) pinned().give(block);
}

struct Pinned final : c10::Allocator {
  c10::DataPtr allocate(size_t size) override {
    auto* block = pinned().take(size);
    return {block, block, free_pinned, c10::kCPU};
  }
  c10::DeleterFnPtr raw_deleter() const override { return free_pinned; }
  void copy_data(void* to, const void* from, size_t size) const override { std::memcpy(to, from, size); }
};

namespace caching = c10::cuda::CUDACachingAllocator;

void free_memory(void* block);

struct Memory final : caching::CUDAAllocator {
  Blocks blocks;
  std::mutex lock;
  c10::CachingDeviceAllocator::Stat taken;

  c10::DataPtr allocate(size_t size) override {
    auto* block = raw_alloc(size);
    return {block, block, free_memory, current_device()};
  }
  c10::DeleterFnPtr raw_deleter() const override { return free_memory; }
  void copy_data(void* to, const void* from, size_t size) const override { std::memcpy(to, from, size); }
  void* raw_alloc(size_t size) override {
    std::lock_guard<std::mutex> guard(lock);
    taken.increase(size);
    return blocks.take(size);
  }
  void raw_delete(void* block) override {
    if (block == nullptr) return;
    std::lock_guard<std::mutex> guard(lock);
    taken.decrease(blocks.give(block));
  }
  bool initialized() override { return true; }
  void emptyCache(c10::MempoolId_t) override {}
  caching::DeviceStats getDeviceStats(DeviceIndex) override {
    std::lock_guard<std::mutex> guard(lock);
    caching::DeviceStats stats;
    stats.allocated_bytes[0] = taken;
    return stats;
  }
  void resetAccumulatedStats(DeviceIndex) override {}
  void resetPeakStats(DeviceIndex) override {
    std::lock_guard<std::mutex> guard(lock);
    taken.reset_peak();
  }
  // Nothing is kept, so there is nothing to keep apart.
  void recordStream(const c10::DataPtr&, c10::cuda::CUDAStream) override {}
  void beginAllocateToPool(DeviceIndex, c10::MempoolId_t, std::function<bool(cudaStream_t)>) override {}
  void endAllocateToPool(DeviceIndex, c10::MempoolId_t) override {}
  void releasePool(DeviceIndex, c10::MempoolId_t) override {}
  void init(int) override {}
  void enable(bool) override {}
  bool isEnabled() const override { return true; }
  std::string name() override { return "double"; }

  // Nobody asks for these.
  [[noreturn]] static void none() { TORCH_CHECK(false, "the double of CUDA's memory cannot do this"); }
  void* raw_alloc_with_stream(size_t, cudaStream_t) override { none(); }
  double getMemoryFraction(DeviceIndex) override { none(); }
  void setMemoryFraction(double, DeviceIndex) override { none(); }
  std::vector<caching::StreamSegmentSize> getExpandableSegmentSizes(DeviceIndex) override { none(); }
  void cacheInfo(DeviceIndex, size_t*) override { none(); }
  void* getBaseAllocation(void*, size_t*) override { none(); }
  caching::SnapshotInfo snapshot(c10::MempoolId_t, bool) override { none(); }
  caching::ShareableHandle shareIpcHandle(void*) override { none(); }
  std::shared_ptr<void> getIpcDevPtr(std::string) override { none(); }
  void recordHistory(bool, caching::CreateContextFn, size_t, caching::RecordContext, bool,
                     const std::vector<std::string>&) override {
    none();
  }
  void attachOutOfMemoryObserver(caching::OutOfMemoryObserver) override { none(); }
  void attachAllocatorTraceTracker(caching::AllocatorTraceTracker) override { none(); }
  void enablePeerAccess(DeviceIndex, DeviceIndex) override { none(); }
  cudaError_t memcpyAsync(void*, int, const void*, int, size_t, cudaStream_t, bool) override { none(); }
  std::shared_ptr<caching::AllocatorState> getCheckpointState(DeviceIndex, c10::MempoolId_t) override { none(); }
  caching::CheckpointDelta setCheckpointPoolState(DeviceIndex, std::shared_ptr<caching::AllocatorState>) override {
    none();
  }
};

Memory& the_memory() {
  static auto* memory = new Memory;
  return *memory;
}

void free_memory(void* block) { the_memory().raw_delete(block); }

struct CUDAHooks final : at::CUDAHooksInterface {
  explicit CUDAHooks(at::CUDAHooksArgs) {}
  void init() const override {}
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return count() > 0; }
  bool hasCUDA() const override { return count() > 0; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  DeviceIndex deviceCount() const override { return count(); }
  std::string showConfig() const override { return ""; }
  int getNumGPUs() const override { return count(); }
  DeviceIndex current_device() const override { return device_now; }
  DeviceIndex getCurrentDevice() const override { return device_now; }
  void setCurrentDevice(DeviceIndex index) const override { device_now = cuda(index).index(); }
  Device getDeviceFromPtr(void*) const override { return cuda_double::current_device(); }
  bool isPinnedPtr(const void* data) const override { return is_pinned(data); }
  c10::Allocator* getPinnedMemoryAllocator() const override {
    static auto* allocator = new Pinned;
    return allocator;
  }
  c10::Allocator* getCUDADeviceAllocator() const override { return memory(); }
  void deviceSynchronize(DeviceIndex index) const override { Guard().synchronizeDevice(index); }
};

}  // namespace

Device current_device() { return Device(c10::kCUDA, device_now); }
Stream current_stream() { return stream_of(current_device()); }
c10::Allocator* memory() { return &the_memory(); }

long block_of(const void* pointer) {
  auto& blocks = the_memory().blocks;
  std::lock_guard<std::mutex> guard(blocks.lock);
  auto* place = static_cast<const char*>(pointer);
  auto after = blocks.numbers.upper_bound(place);
  if (after == blocks.numbers.begin()) return 0;
  auto [begin, number] = *--after;
  return place < begin + blocks.sizes[const_cast<char*>(begin)] ? number : 0;
}

bool block_is_there(long number) {
  auto& blocks = the_memory().blocks;
  std::lock_guard<std::mutex> guard(blocks.lock);
  return blocks.living.count(number) != 0;
}

bool is_pinned(const void* data) {
  auto& blocks = pinned();
  std::lock_guard<std::mutex> guard(blocks.lock);
  return std::any_of(blocks.sizes.begin(), blocks.sizes.end(), [&](auto& block) {
    auto* begin = static_cast<const char*>(block.first);
    return data >= begin && data < begin + block.second;
  });
}

void deliver_later(at::Tensor to, at::Tensor from) {
  std::memset(to.mutable_data_ptr(), 0xff, to.nbytes());
  std::lock_guard<std::recursive_mutex> guard(deliveries_lock);
  deliveries[key(current_stream())].push_back({std::move(to), std::move(from)});
}

void wait_for(const Stream& stream) {
  check_waiting_is_allowed("waiting for a stream");
  report().count("wait stream");
  std::lock_guard<std::recursive_mutex> guard(deliveries_lock);
  deliver(stream, delivered[key(stream)] + static_cast<long>(deliveries[key(stream)].size()));
}

Recording* recording() {
  std::lock_guard<std::recursive_mutex> guard(recording_lock);
  if (recorded_now == nullptr) return nullptr;
  auto now = stream_of(recorded_stream.device());
  TORCH_CHECK(now.id() != 0, "CUDA error: operation would make the legacy stream depend on a capturing blocking stream");
  return now == recorded_stream ? recorded_now : nullptr;
}

void set_recording(Recording* recording, const Stream& stream) {
  std::lock_guard<std::recursive_mutex> guard(recording_lock);
  TORCH_CHECK(recording == nullptr || recorded_now == nullptr, "CUDA error: a stream is being captured already");
  recorded_now = recording;
  recorded_stream = stream;
}

}  // namespace cuda_double

namespace at {
using cuda_double::CUDAHooks;
REGISTER_CUDA_HOOKS(CUDAHooks);
}  // namespace at

// What libc10_cuda has for its callers.
namespace c10::cuda {

using namespace cuda_double;

CUDAStream getStreamFromPool(const bool, DeviceIndex device) { return CUDAStream(new_stream(cuda_double::cuda(device))); }
CUDAStream getStreamFromPool(const int, DeviceIndex device) { return CUDAStream(new_stream(cuda_double::cuda(device))); }
CUDAStream getDefaultCUDAStream(DeviceIndex device) {
  return CUDAStream(Stream(Stream::DEFAULT, cuda_double::cuda(device)));
}
CUDAStream getCurrentCUDAStream(DeviceIndex device) { return CUDAStream(stream_of(cuda_double::cuda(device))); }
void setCurrentCUDAStream(CUDAStream stream) { exchange(stream.unwrap()); }
bool CUDAStream::query() const { return true; }
void CUDAStream::synchronize() const { wait_for(unwrap()); }
cudaStream_t CUDAStream::stream() const { return reinterpret_cast<cudaStream_t>(id()); }

DeviceIndex device_count() noexcept { return count(); }
DeviceIndex current_device() { return device_now; }
cudaError_t GetDevice(DeviceIndex* device) {
  *device = device_now;
  return cudaSuccess;
}
cudaError_t SetDevice(DeviceIndex device, const bool) {
  device_now = cuda_double::cuda(device).index();
  return cudaSuccess;
}
DeviceIndex ExchangeDevice(DeviceIndex device) {
  auto before = device_now;
  device_now = cuda_double::cuda(device).index();
  return before;
}
DeviceIndex MaybeExchangeDevice(DeviceIndex device) { return ExchangeDevice(device); }
cudaError_t MaybeSetDevice(DeviceIndex device) { return SetDevice(device, false); }
void c10_cuda_check_implementation(const int32_t error, const char*, const char*, const uint32_t, const bool) {
  TORCH_CHECK(error == 0, "CUDA error ", error);
}

namespace CUDACachingAllocator {
std::atomic<CUDAAllocator*> allocator{&the_memory()};
}
}  // namespace c10::cuda

namespace {
auto registered = [] {
  c10::SetAllocator(c10::kCUDA, cuda_double::memory());
  return true;
}();
}  // namespace
