/* What the programs are built with, for --version and for those who report a fault. */
#ifndef SIPHON_VERSIONS_H
#define SIPHON_VERSIONS_H

#include <string>

namespace siphon {

/* Returns "ring version 9, nats.c 3.10.1, zstd 1.5.7". */
std::string library_versions();

} // namespace siphon

#endif
