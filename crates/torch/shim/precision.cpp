// Automatic mixed precision on a device, with the previous state kept for whoever ends it.
#include "ffi.h"

#include <ATen/autocast_mode.h>

extern "C" {

// Turns it on for `kind` (a c10::ScalarType) and gives what was there before.
char* shim_autocast_begin(int device, int kind, bool* was_on, int* was_kind) {
  return guarded([&] {
    auto type = static_cast<at::DeviceType>(device);
    *was_on = at::autocast::is_autocast_enabled(type);
    *was_kind = static_cast<int>(at::autocast::get_autocast_dtype(type));
    at::autocast::set_autocast_dtype(type, static_cast<at::ScalarType>(kind));
    at::autocast::set_autocast_enabled(type, true);
    at::autocast::increment_nesting();
  });
}

char* shim_autocast_end(int device, bool was_on, int was_kind) {
  return guarded([&] {
    auto type = static_cast<at::DeviceType>(device);
    // The outermost guard forgets the cast copies of the weights, which the next step will have changed.
    if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
    at::autocast::set_autocast_enabled(type, was_on);
    at::autocast::set_autocast_dtype(type, static_cast<at::ScalarType>(was_kind));
  });
}

// Turns it off inside another's scope, for what must be computed in full precision.
char* shim_autocast_pause(int device, bool* was_on) {
  return guarded([&] {
    auto type = static_cast<at::DeviceType>(device);
    *was_on = at::autocast::is_autocast_enabled(type);
    at::autocast::set_autocast_enabled(type, false);
  });
}

char* shim_autocast_resume(int device, bool was_on) {
  return guarded([&] { at::autocast::set_autocast_enabled(static_cast<at::DeviceType>(device), was_on); });
}
}
