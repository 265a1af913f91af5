// What must be there before anything of CUDA's is: the driver, by its name, and the runtime's word on where a GPU sits, which
// the runtime would ask the driver for.
#include <cuda_runtime_api.h>

#include <cstdio>

extern "C" cudaError_t cudaDeviceGetPCIBusId(char* text, int size, int device) {
  std::snprintf(text, static_cast<size_t>(size), "0000:%02x:00.0", device + 1);
  return cudaSuccess;
}
