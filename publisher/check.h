/*
 * siphon-publisher check: looks at all that publishing needs, changes nothing, and says of each thing whether it is well, and
 * what to type if not. A publisher may run meanwhile.
 */
#ifndef SIPHON_CHECK_H
#define SIPHON_CHECK_H

#include "publisher/config/config.h"

namespace siphon {

/* Prints what it finds. True: nothing is wrong. */
bool check(const Config &config);

} // namespace siphon

#endif
