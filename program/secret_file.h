/*
 * Passwords, tokens and keys come from files, which are named in what is said about them, while what is in them is not.
 */
#ifndef SIPHON_SECRET_FILE_H
#define SIPHON_SECRET_FILE_H

#include <string>

namespace siphon {

/* What the file of an option has. Fatal(Usage) naming both if it can't be read. */
std::string read_file(const char *option, const std::string &path);
/* Its one line; Fatal(Usage) if there is not exactly one. */
std::string read_secret(const char *option, const std::string &path);

/* One line if others than the owner and a group of its can read it, else nothing. */
std::string secret_file_warning(const std::string &path);

} // namespace siphon

#endif
