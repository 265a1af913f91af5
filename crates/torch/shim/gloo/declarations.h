// What c10d/ProcessGroupGloo.hpp names of Gloo. libtorch carries Gloo inside but ships none of its headers; we only hold
// pointers to these classes and never make one, so their names and the functions that c10d overrides are enough.
#pragma once

#include <chrono>
#include <string>
#include <vector>

namespace gloo {

class Context {
 public:
  void setTimeout(std::chrono::milliseconds timeout);
};

namespace transport {
class Device;
class UnboundBuffer {
 public:
  virtual ~UnboundBuffer();
};
}  // namespace transport

namespace rendezvous {
class Store {
 public:
  virtual ~Store();
  virtual void set(const std::string& key, const std::vector<char>& value);
  virtual std::vector<char> get(const std::string& key);
  virtual void wait(const std::vector<std::string>& keys);
  virtual void wait(const std::vector<std::string>& keys, const std::chrono::milliseconds& timeout);
};
}  // namespace rendezvous
}  // namespace gloo
