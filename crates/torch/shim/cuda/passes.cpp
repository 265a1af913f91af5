// The passes over a block's tokens on a GPU: compiled by NVRTC when a width is first wanted, launched on the current stream.
#include "../ffi.h"
#include "../fused/passes.h"
#include "passes_text.h"

#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <array>
#include <map>
#include <mutex>

namespace {

// By their place in `Pass`.
constexpr const char* NAMES[PASSES] = {"modulate", "modulate_backward", "enter", "enter_backward",
                                       "join",     "join_backward",     "leave", "leave_backward"};
// Rows of an image that one block does: few enough for several blocks on each processor at a batch of 32.
constexpr int64_t ROWS = 32;
// Columns that one thread has, and threads that go together.
constexpr int64_t COLUMNS = 4, LANES = 32;
// Beyond it a block would have more threads than the registers serve.
constexpr int64_t WIDEST = 1536;

void check(cudaError_t error, const char* what) {
  TORCH_CHECK(error == cudaSuccess, what, ": ", cudaGetErrorString(error));
}

// The part of NVRTC that is used here, whose header does not come with libtorch.
struct Compiler {
  using Program = void*;
  int (*create)(Program*, const char* source, const char* name, int headers, const char* const* texts,
                const char* const* names);
  int (*compile)(Program, int count, const char* const* options);
  int (*log_size)(Program, size_t*);
  int (*log)(Program, char*);
  int (*code_size)(Program, size_t*);
  int (*code)(Program, char*);
  int (*destroy)(Program*);

  // libtorch's library brings NVRTC along, from where libtorch has its own.
  explicit Compiler(const char* path) {
    auto* library = dlopen(path, RTLD_LAZY | RTLD_LOCAL);
    TORCH_CHECK(library != nullptr, "no NVRTC: ", dlerror());
    auto find = [&](auto& function, const char* name) {
      auto* symbol = dlsym(library, name);
      TORCH_CHECK(symbol != nullptr, "no ", name, " in NVRTC");
      function = reinterpret_cast<std::decay_t<decltype(function)>>(symbol);
    };
    find(create, "nvrtcCreateProgram");
    find(compile, "nvrtcCompileProgram");
    find(log_size, "nvrtcGetProgramLogSize");
    find(log, "nvrtcGetProgramLog");
    find(code_size, "nvrtcGetCUBINSize");
    find(code, "nvrtcGetCUBIN");
    find(destroy, "nvrtcDestroyProgram");
  }

  std::string run(const std::vector<std::string>& options) const {
    Program program = nullptr;
    const char *text = PASS_H, *name = "pass.h";
    TORCH_CHECK(create(&program, PASSES_CU, "passes.cu", 1, &text, &name) == 0, "NVRTC did not begin");
    struct End {
      const Compiler& compiler;
      Program* program;
      ~End() { compiler.destroy(program); }
    } end{*this, &program};
    std::vector<const char*> pointers;
    for (auto& option : options) pointers.push_back(option.c_str());
    auto failed = compile(program, static_cast<int>(pointers.size()), pointers.data());
    size_t size = 0;
    if (failed != 0) {
      std::string said(log_size(program, &size) == 0 ? size : 0, ' ');
      if (!said.empty()) log(program, said.data());
      TORCH_CHECK(false, "NVRTC did not compile the passes (", failed, "): ", said.substr(0, said.find('\n')));
    }
    TORCH_CHECK(code_size(program, &size) == 0 && size > 0, "NVRTC gave no code");
    std::string code_(size, ' ');
    TORCH_CHECK(code(program, code_.data()) == 0, "NVRTC gave no code");
    return code_;
  }
};

#if CUDART_VERSION < 12080
using cudaKernel_t = const void*;
#endif
using Kernels = std::array<std::array<cudaKernel_t, 2>, PASSES>;

std::mutex lock;
// By GPU and width; they stay for the rest of the process.
std::map<std::pair<int, int64_t>, Kernels> ready;

// Code without a driver's module of one's own is loaded by the runtime from 12.8 on.
#if CUDART_VERSION >= 12080
Kernels compiled(int device, int64_t width, const char* nvrtc) {
  int major = 0, minor = 0;
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "asking for a GPU's kind");
  check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device), "asking for a GPU's kind");
  auto code = Compiler(nvrtc).run({c10::str("--gpu-architecture=sm_", major, minor), c10::str("-DWIDTH=", width),
                                   "--std=c++17"});
  cudaLibrary_t library;
  check(cudaLibraryLoadData(&library, code.data(), nullptr, nullptr, 0, nullptr, nullptr, 0), "loading the passes");
  Kernels kernels;
  for (int pass = 0; pass < PASSES; ++pass)
    for (int bf16 = 0; bf16 < 2; ++bf16) {
      auto name = std::string(NAMES[pass]) + (bf16 == 0 ? "_f32" : "_bf16");
      check(cudaLibraryGetKernel(&kernels[pass][bf16], library, name.c_str()), name.c_str());
    }
  return kernels;
}
#else
Kernels compiled(int, int64_t, const char*) { TORCH_CHECK(false, "built with headers of CUDA before 12.8"); }
#endif

char* run(Pass pass, const Arguments* arguments, bool bf16, int device) {
  return guarded([&] {
    c10::cuda::CUDAGuard guard(static_cast<c10::DeviceIndex>(device));
    cudaKernel_t kernel;
    {
      std::lock_guard<std::mutex> hold(lock);
      auto found = ready.find({device, arguments->width});
      TORCH_CHECK(found != ready.end(), "no passes for a width of ", arguments->width, " on GPU ", device);
      kernel = found->second[pass][bf16 ? 1 : 0];
    }
    auto& a = *arguments;
    auto blocks = a.images * ((a.tokens + a.rows - 1) / a.rows);
    auto threads = (a.width / COLUMNS + LANES - 1) / LANES * LANES;
    if (blocks == 0) return;
    void* parameters[] = {const_cast<Arguments*>(arguments)};
    auto stream = c10::cuda::getCurrentCUDAStream(static_cast<c10::DeviceIndex>(device)).stream();
    check(cudaLaunchKernel(reinterpret_cast<const void*>(kernel), dim3(static_cast<unsigned>(blocks)),
                           dim3(static_cast<unsigned>(threads)), parameters, 0, stream),
          NAMES[pass]);
  });
}

const Passes TABLE{static_cast<int>(c10::DeviceType::CUDA), ROWS, run};

}  // namespace

extern "C" {

const Passes* cuda_passes() { return &TABLE; }

// Makes them ready for a width; `nvrtc` is the path of libtorch's library that brings NVRTC along. Not while a graph is recorded.
char* cuda_passes_prepare(int device, int64_t width, const char* nvrtc) {
  return guarded([&] {
    TORCH_CHECK(width > 0 && width % COLUMNS == 0 && width <= WIDEST, "no passes for a width of ", width);
    c10::cuda::CUDAGuard guard(static_cast<c10::DeviceIndex>(device));
    std::lock_guard<std::mutex> hold(lock);
    if (ready.count({device, width}) == 0) ready[{device, width}] = compiled(device, width, nvrtc);
  });
}
}
