// What a pass over a block's tokens reads and writes, on the CPU and on a GPU. It includes nothing: the compiler for a GPU has
// no headers when the program runs.
//
// Tokens are [B, N, D], rows of D numbers one after the other. Those of the residual stream are f32; those that come from a
// product or go into one are of the products' kind, f32 or bf16.
#pragma once

enum Pass {
  MODULATE,
  MODULATE_BACKWARD,
  ENTER,
  ENTER_BACKWARD,
  JOIN,
  JOIN_BACKWARD,
  LEAVE,
  LEAVE_BACKWARD,
  PASSES,
};

// A row for each image, or one for all where the stride is 0.
struct Vectors {
  const float* data;
  long long stride;
};

struct Arguments {
  long long images, tokens, width;
  // Rows of an image that are done together. An image's last ones may be fewer.
  long long rows;

  // What is normalised; for `ENTER` and its gradient z, for `JOIN` and `LEAVE` the r before.
  const float* x;
  // What comes from a product; for `ENTER` the excess of each token, or null.
  const void* y;
  // `LEAVE` adds it; may be null.
  const float* keep;
  const float* bias;
  Vectors excess, gate, shift, scale;

  // The residual stream after the pass, and what takes it back.
  float *r, *kept;
  // What goes into a product.
  void* h;
  // Of each row. Gradients read them.
  float *mean, *rstd;

  // Gradients of `r`, `kept` (may be null) and `h`.
  const float *dr, *dkept;
  const void* dh;
  // Gradients of `x` and `y`; the latter is null where `y` is.
  float* dx;
  void* dy;
  // The sums over the rows that are done together, in the order bias or excess, gate, shift, scale, those that the pass has.
  float* sums;
};
