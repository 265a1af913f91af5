// Parts of one work, each from its beginning to its end in one of libtorch's own threads.
#include "ffi.h"
#include "fused/parallel.h"

extern "C" {

// Calls `work(context, part)` for every part. What an operation in it would divide among threads stays in the part's own.
char* shim_side_by_side(int64_t parts, void (*work)(void*, int64_t), void* context) {
  return guarded([&] { for_units(parts, [&](int64_t part) { work(context, part); }); });
}
}
