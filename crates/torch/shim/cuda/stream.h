// The order between two streams of a GPU.
#pragma once

#include <c10/core/Event.h>
#include <c10/cuda/CUDAStream.h>

// What `later` is given from now on begins after what `earlier` has been given so far.
inline void follow(const c10::cuda::CUDAStream& later, const c10::cuda::CUDAStream& earlier) {
  c10::Event event(c10::DeviceType::CUDA);
  event.record(earlier.unwrap());
  event.block(later.unwrap());
}
