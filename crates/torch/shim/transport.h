// How gradients of one kind of device travel, where that is not through host memory.
#pragma once

#include <ATen/core/Tensor.h>

struct Transport {
  // A c10::DeviceType.
  int device;
  // What the functions are called with.
  void* state;
  // Begins to replace a tensor by its sum over the processes, after what the current stream has been given.
  char* (*sum)(void* state, const at::Tensor* tensor);
  // What the current stream is given from now on comes after all sums that have begun.
  char* (*wait)(void* state);
};
