// What every function of the shim needs at the border to Rust: no exception crosses it.
#pragma once

#include <c10/util/ArrayRef.h>
#include <c10/util/Exception.h>
#include <ATen/core/Tensor.h>

#include <cstring>
#include <exception>
#include <string>
#include <vector>

// A message for Rust, which frees it with `shim_free_text`.
inline char* to_text(const std::string& text) noexcept {
  char* copy = static_cast<char*>(std::malloc(text.size() + 1));
  if (copy != nullptr) std::memcpy(copy, text.c_str(), text.size() + 1);
  return copy;
}

// Runs `work`; null when it came through, else what went wrong.
template <class Work>
char* guarded(Work&& work) noexcept {
  try {
    work();
    return nullptr;
  } catch (const c10::Error& e) {
    return to_text(e.what_without_backtrace());
  } catch (const std::exception& e) {
    return to_text(e.what());
  } catch (...) {
    return to_text("an exception of unknown type");
  }
}

// The other way: throws what has gone wrong behind a message of `guarded`, if anything has.
inline void check(char* message) {
  if (message == nullptr) return;
  std::string text = message;
  std::free(message);
  TORCH_CHECK(false, text);
}

// The tensors behind pointers of `tch::Tensor`.
inline std::vector<at::Tensor> tensors(at::Tensor* const* pointers, size_t count) {
  std::vector<at::Tensor> list;
  list.reserve(count);
  for (size_t i = 0; i < count; ++i) list.push_back(*pointers[i]);
  return list;
}
