// Facts about the libtorch that is loaded, and its switches for the whole process.
#include "ffi.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <c10/core/CachingDeviceAllocator.h>

extern "C" {

void shim_free_text(char* text) { std::free(text); }

char* shim_build_settings(char** settings) {
  return guarded([&] { *settings = to_text(at::show_config()); });
}

char* shim_cpu_capability(char** capability) {
  return guarded([&] { *capability = to_text(at::get_cpu_capability()); });
}

char* shim_set_interop_threads(int threads) {
  return guarded([&] { at::set_num_interop_threads(threads); });
}

// In memory from which a GPU copies by itself.
char* shim_pin(const at::Tensor* tensor, at::Tensor** result) {
  return guarded([&] { *result = new at::Tensor(tensor->pin_memory()); });
}

char* shim_gpu_peak_memory(int index, int64_t* bytes) {
  return guarded([&] {
    auto stats = c10::getDeviceAllocator(at::kCUDA)->getDeviceStats(static_cast<c10::DeviceIndex>(index));
    *bytes = stats.allocated_bytes[0].peak;
  });
}

char* shim_gpu_reset_peak_memory(int index) {
  return guarded([&] { c10::getDeviceAllocator(at::kCUDA)->resetPeakStats(static_cast<c10::DeviceIndex>(index)); });
}

char* shim_set_tf32(bool on) {
  return guarded([&] {
    at::globalContext().setAllowTF32CuBLAS(on);
    at::globalContext().setAllowTF32CuDNN(on);
  });
}
}
