// The passes of a kind of device, where that is not the CPU.
#pragma once

#include "pass.h"

#include <ATen/core/Tensor.h>

struct Passes {
  // A c10::DeviceType.
  int device;
  // Rows that are done together.
  int64_t rows;
  // Gives a pass to the current stream of the GPU of this index, whose passes are made ready for this width; the products are
  // in bf16, or f32. A message where it fails.
  char* (*run)(Pass pass, const Arguments* arguments, bool bf16, int index);
};
