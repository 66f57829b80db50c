/* The version that --version prints; the same as the extension's default_version. */
#ifndef SIPHON_VERSION_H
#define SIPHON_VERSION_H

namespace siphon {

constexpr const char kVersion[] = "1.1";

} // namespace siphon

#endif
