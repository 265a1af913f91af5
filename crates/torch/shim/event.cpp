// A point in a device's stream of work that the host can wait for. Needs no header of CUDA's: c10 asks the device's own
// implementation, which libtorch_cuda registers when it is loaded.
#include "ffi.h"

#include <c10/core/Device.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

extern "C" {

// After the work that the current stream of the device has been given so far.
char* shim_event_record(int type, int index, c10::Event** result) {
  return guarded([&] {
    auto device = c10::Device(static_cast<c10::DeviceType>(type), static_cast<c10::DeviceIndex>(index));
    auto stream = c10::impl::VirtualGuardImpl(device.type()).getStream(device);
    auto event = std::make_unique<c10::Event>(device.type());
    event->record(stream);
    *result = event.release();
  });
}

char* shim_event_wait(const c10::Event* event) {
  return guarded([&] { event->synchronize(); });
}

void shim_event_free(c10::Event* event) { delete event; }
}
