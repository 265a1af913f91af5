// What must be there before anything of CUDA's is: the driver, by its name, and what the programs ask of the runtime, which is
// loaded with libtorch's own half and would ask the driver: where a GPU sits, what it can do, and its kernels.
#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <cstdio>

namespace {

// A function of the device's, which is loaded later.
template <class Function>
Function* of_device(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_DEFAULT, name));
}

}  // namespace

extern "C" {

cudaError_t cudaDeviceGetPCIBusId(char* text, int size, int device) {
  std::snprintf(text, static_cast<size_t>(size), "0000:%02x:00.0", device + 1);
  return cudaSuccess;
}

// That of an A100.
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  if (attribute != cudaDevAttrComputeCapabilityMajor && attribute != cudaDevAttrComputeCapabilityMinor)
    return cudaErrorInvalidValue;
  *value = attribute == cudaDevAttrComputeCapabilityMajor ? 8 : 0;
  return cudaSuccess;
}

cudaError_t cudaLibraryLoadData(cudaLibrary_t* library, const void* code, cudaJitOption*, void**, unsigned,
                                cudaLibraryOption*, void**, unsigned) {
  return of_device<cudaError_t(void**, const void*)>("cuda_double_load")(reinterpret_cast<void**>(library), code);
}

cudaError_t cudaLibraryGetKernel(cudaKernel_t* kernel, cudaLibrary_t library, const char* name) {
  auto* find = of_device<cudaError_t(void**, void*, const char*)>("cuda_double_find");
  return find(reinterpret_cast<void**>(kernel), library, name);
}

cudaError_t cudaLaunchKernel(const void* kernel, dim3 grid, dim3 block, void** arguments, size_t, cudaStream_t stream) {
  auto* launch = of_device<cudaError_t(const void*, dim3, dim3, void**, cudaStream_t)>("cuda_double_launch");
  return launch(kernel, grid, block, arguments, stream);
}
}
