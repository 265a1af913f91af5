// NVRTC, as libtorch's own library brings it along: a kernel's source goes to the host's compiler. The code it gives is the path
// of a library, which the device loads.
#include <dlfcn.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

namespace {

struct Program {
  std::string source, log, code;
  std::vector<std::pair<std::string, std::string>> headers;
};

// The folder of this library, where `kernel.h` lies too.
std::string here() {
  Dl_info info{};
  dladdr(reinterpret_cast<void*>(&here), &info);
  std::string path = info.dli_fname;
  return path.substr(0, path.rfind('/'));
}

void write(const std::string& path, const std::string& text) { std::ofstream(path) << text; }

std::string quoted(const std::string& text) { return "'" + text + "'"; }

// How the device finds and calls each kernel: one that is written `KERNEL name(Type x)` or `__global__ void name(Type x)`.
std::string entries(const std::string& source) {
  static const std::regex kernel(R"((?:KERNEL|__global__\s+void)\s+(\w+)\((\w+)\s+\w+\))");
  std::ostringstream text;
  for (std::sregex_iterator found(source.begin(), source.end(), kernel), end; found != end; ++found) {
    auto name = (*found)[1].str(), type = (*found)[2].str();
    text << "extern \"C\" cuda_double::Entry cuda_double_" << name << "{[](const void* argument) { " << name
         << "(*static_cast<const " << type << "*>(argument)); }, sizeof(" << type << ")};\n";
  }
  return text.str();
}

int compile(Program& program, int count, const char* const* options) {
  char folder[] = "/tmp/cuda-double-XXXXXX";
  if (mkdtemp(folder) == nullptr) return 1;
  std::string root = folder, command = "c++ -shared -fPIC -O2 -w -fno-gnu-unique -Wl,-Bsymbolic -DCUDA_DOUBLE_KERNEL";
  for (int i = 0; i < count; ++i) {
    std::string option = options[i];
    // Code for another GPU is refused as the device would.
    if (option.rfind("--gpu-architecture=", 0) == 0 && option != "--gpu-architecture=sm_80") return 1;
    if (option.rfind("-D", 0) == 0) command += " " + quoted(option);
    if (option.rfind("--std=", 0) == 0) command += " " + quoted(option.substr(1));
  }
  auto* what = std::getenv("CUDA_DOUBLE_KERNELS");
  auto refused = what != nullptr && std::strcmp(what, "refused") == 0;
  for (auto& [name, text] : program.headers) write(root + "/" + name, text);
  write(root + "/kernel.cpp", "#include \"kernel.h\"\n" + program.source + entries(program.source) +
                                  (refused ? "#error these kernels are refused\n" : ""));
  // A test's preloaded driver is not for the compiler.
  command = "env -u LD_PRELOAD -u LD_LIBRARY_PATH " + command + " -I" + quoted(root) + " -I" + quoted(here()) + " " +
            quoted(root + "/kernel.cpp") + " -o " + quoted(root + "/kernel.so") + " 2>&1";
  if (auto* pipe = popen(command.c_str(), "r")) {
    char part[4096];
    while (auto size = fread(part, 1, sizeof part, pipe)) program.log.append(part, size);
    if (pclose(pipe) == 0) program.code = root + "/kernel.so";
  }
  for (auto& [name, _] : program.headers) unlink((root + "/" + name).c_str());
  unlink((root + "/kernel.cpp").c_str());
  if (!program.code.empty()) return 0;
  rmdir(folder);
  return 6;
}

}  // namespace

extern "C" {

int nvrtcCreateProgram(Program** program, const char* source, const char*, int headers, const char* const* texts,
                       const char* const* names) {
  *program = new Program{source, {}, {}, {}};
  for (int i = 0; i < headers; ++i) (*program)->headers.emplace_back(names[i], texts[i]);
  return 0;
}

int nvrtcCompileProgram(Program* program, int count, const char* const* options) {
  return compile(*program, count, options);
}

int nvrtcGetProgramLogSize(Program* program, size_t* size) {
  *size = program->log.size() + 1;
  return 0;
}

int nvrtcGetProgramLog(Program* program, char* log) {
  std::memcpy(log, program->log.c_str(), program->log.size() + 1);
  return 0;
}

int nvrtcGetCUBINSize(Program* program, size_t* size) {
  *size = program->code.size() + 1;
  return 0;
}

int nvrtcGetCUBIN(Program* program, char* code) {
  std::memcpy(code, program->code.c_str(), program->code.size() + 1);
  return 0;
}

int nvrtcDestroyProgram(Program** program) {
  delete *program;
  return 0;
}
}
