/*
 * NKeys are the ed25519 keys of NATS, in base32 with a kind in front and a checksum behind. A seed is all that people
 * have in a file; the library wants the public key beside it, which is made of it here.
 */
#ifndef SIPHON_NKEY_H
#define SIPHON_NKEY_H

#include <string>
#include <string_view>

namespace siphon {

/* The public key ("U...") of a user's seed ("SU..."); "" where it is no such seed. */
std::string nkey_of_seed(std::string_view seed);

} // namespace siphon

#endif
