// A CUDA device made of host memory: what its parts know of each other.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Stream.h>
#include <c10/cuda/CUDACachingAllocator.h>

#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace cuda_double {

// Counts of what a GPU's user should know; written to the file that CUDA_DOUBLE_REPORT names, at the end.
struct Report {
  std::mutex lock;
  std::map<std::string, long> counts;
  void count(const std::string& what, long by = 1);
};
Report& report();

c10::Device current_device();
c10::Stream current_stream();

// Memory of the current device, each byte of it 0xff: no number in any kind of float.
c10::Allocator* memory();

// The number of the living block of the device's memory that the pointer is into, never given twice; 0 where it is into none.
long block_of(const void* pointer);
bool block_is_there(long number);

bool is_pinned(const void* data);

// A copy to pinned memory arrives when the host waits for the stream, or for an event behind it, and not before.
void deliver_later(at::Tensor to, at::Tensor from);
void wait_for(const c10::Stream& stream);

// Work that is recorded instead of done.
struct Recording;
// The one that the current stream's work goes to, if any. An error where work is given that breaks it.
Recording* recording();
// The stream that is recorded, to be kept in `recording` (null ends it).
void set_recording(Recording* recording, const c10::Stream& stream);

// Memory that lives as long as the recording.
void keep(Recording& recording, const c10::Storage& storage);
bool keeps(const Recording& recording, const c10::StorageImpl* storage);

}  // namespace cuda_double
